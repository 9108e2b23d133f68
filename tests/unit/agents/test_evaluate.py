"""Evaluating in memory: samples, scorers, judges, and what is not paid for again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest

from flowbook.agents.loop import agent
from flowbook.agents.scoring import evaluation_flow
from flowbook.agents.settings import Model
from flowbook.app import App
from flowbook.errors import EvaluationRefused
from flowbook.graph.expression import END_NODE
from flowbook.graph.flow import Graph, graph
from flowbook.graph.imperative import flow
from flowbook.graph.portable import obstacles
from flowbook.graph.source import describe
from flowbook.graph.step import step
from flowbook.testing import ScriptedModel, memory_app

QUESTIONS = [
    {"question": "capital of France?", "expected": "Paris"},
    {"question": "capital of Spain?", "expected": "Madrid"},
    {"question": "capital of Peru?", "expected": "Lima"},
]


class Verdict(pydantic.BaseModel):
    """What a judge says."""

    score: float
    why: str


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A model that knows two of three capitals."""
    with ScriptedModel() as model:
        model.on(lambda m: m[-1]["content"].startswith("capital of France"), "Paris", usage=(10, 1))
        model.on(lambda m: m[-1]["content"].startswith("capital of Spain"), "Madrid", usage=(10, 2))
        model.on(lambda m: m[-1]["content"].startswith("capital of Peru"), "Quito", usage=(10, 3))
        yield model


@pytest.fixture
async def app(always_suspend: bool) -> AsyncIterator[App]:
    """An app in memory."""
    async with memory_app(always_suspend=always_suspend) as app:
        yield app


def made(model: ScriptedModel, instructions: str = "You know capitals.", **options: Any) -> Graph:
    """An agent that asks the scripted model."""
    at = Model("m", base_url=model.base_url, price=(1.0, 1.0))
    return agent("guide", instructions, model=at, retries=0, **options)


def exact(output: str, expected: str) -> bool:
    """Is it the same?"""
    return output == expected


async def length(output: str, run: Any) -> dict[str, float]:
    """Several scores, from a coroutine function that looks at the run as well."""
    return {"letters": len(output), "turns": len(run["turns"])}


async def test_each_sample_is_scored_by_functions_and_summed_up(app: App, model: ScriptedModel) -> None:
    """Rows in the order of the data set, means with counts, tokens, cost and time."""
    it = await app.evaluate(made(model), QUESTIONS, [exact, length])
    assert [row.error for row in it] == [None] * 3
    assert [row.output for row in it] == ["Paris", "Madrid", "Quito"]
    assert [row.scores for row in it] == [
        {"exact": 1.0, "length.letters": 5.0, "length.turns": 1.0},
        {"exact": 1.0, "length.letters": 6.0, "length.turns": 1.0},
        {"exact": 0.0, "length.letters": 5.0, "length.turns": 1.0},
    ]
    assert it.means["exact"].mean == pytest.approx(2 / 3)
    assert it.means["exact"].n == 3
    assert it.tokens == (30, 6)
    assert it.usd == pytest.approx(36e-6)
    assert it.errors == ()
    frame = it.df()
    assert list(frame["exact"]) == [1.0, 1.0, 0.0]
    assert list(frame["expected"]) == ["Paris", "Madrid", "Lima"]
    assert (frame["seconds"] >= 0).all()
    assert model.count() == 3


async def test_what_has_finished_is_never_paid_for_again(app: App, model: ScriptedModel) -> None:
    """Repeated, with other scorers, with more samples and with another expectation; other instructions are asked."""
    first = await app.evaluate(made(model), QUESTIONS, [exact])
    again = await app.evaluate(made(model), QUESTIONS, [exact])
    assert again == first
    more = await app.evaluate(
        made(model), [*QUESTIONS, {"question": "capital of France? Again.", "expected": "x"}], length
    )
    assert [row.run for row in more][:3] == [row.run for row in first]
    assert model.count() == 4
    other = await app.evaluate(made(model), [{**q, "expected": "Lima"} for q in QUESTIONS], [exact])
    assert other.means["exact"].mean == 0.0
    assert model.count() == 4
    await app.evaluate(made(model, "You guess."), QUESTIONS, [exact])
    await app.evaluate(made(model), QUESTIONS, [exact], name="anew")
    assert model.count() == 10


async def test_errors_of_a_sample_and_of_a_scorer_are_collected_and_tried_again(app: App, model: ScriptedModel) -> None:
    """One that fails takes nobody along; the next evaluation asks for that one alone."""
    model.on(lambda m: m[-1]["content"] == "and Chile?", "Santiago", fails=[500])
    samples = [*QUESTIONS, {"question": "and Chile?", "expected": "Santiago"}]

    def picky(output: str) -> float:
        if output == "Quito":
            raise ValueError("not a capital of Peru")
        return 1.0

    it = await app.evaluate(made(model), samples, [exact, picky])
    assert [bool(row.error) for row in it] == [False, False, False, True]
    assert "InternalServerError" in str(it[3].error)
    assert it[2].failed == {"picky": "ValueError: not a capital of Peru"}
    assert it.means["picky"].n == 2
    assert len(it.errors) == 2
    asked = model.count()
    again = await app.evaluate(made(model), samples, [exact, picky])
    assert again[3].scores == {"exact": 1.0, "picky": 1.0}
    assert model.count() == asked + 1
    assert [row.run for row in again][:3] == [row.run for row in it][:3]


async def test_a_model_judges_and_is_paid_once(app: App, model: ScriptedModel) -> None:
    """An agent with a form of answer: its numbers are scores, its texts are notes."""
    model.on("Output:\nQuito", '{"score": 0.25, "why": "near"}', model="judge")
    model.on("Output:\n", '{"score": 1, "why": "right"}', model="judge")
    at = Model("judge", base_url=model.base_url, price=(1.0, 1.0))
    judge = agent("judge", "You judge.", model=at, output=Verdict)
    it = await app.evaluate(made(model), QUESTIONS, [judge])
    assert [row.scores for row in it] == [{"judge": 1.0}, {"judge": 1.0}, {"judge": 0.25}]
    assert it[2].notes == {"judge.why": "near"}
    assert it.judges_usd is not None
    assert model.count() == 6
    assert "Expected:\nLima" in model.requests[-1].last or "Expected:" in model.requests[-1].last
    await app.evaluate(made(model), QUESTIONS, [judge, exact])
    assert model.count() == 6


async def test_any_flow_is_evaluated(app: App) -> None:
    """A graph by its columns, an imperative flow by its parameter."""

    @step
    def double(n: int) -> int:
        return 2 * n

    @flow
    async def thrice(ctx: Any, n: int) -> int:
        return 3 * n

    def right(output: Any, expected: int) -> bool:
        return (output["double"] if isinstance(output, dict) else output) == expected

    it = await app.evaluate(
        graph("doubling", double >> END_NODE), [{"n": 2, "expected": 4}, {"n": 3, "expected": 5}], right
    )
    assert [row.scores["right"] for row in it] == [1.0, 0.0]
    other = await app.evaluate(thrice, [{"input": 2, "expected": 6}], {"same": right})
    assert other[0].output == 6
    assert other[0].scores == {"same": 1.0}
    assert other.usd is None


@pytest.mark.parametrize("scorers", [{}, {"exact": step(exact)}])
def test_an_evaluation_is_carried_on_from_its_stored_source(scorers: dict[str, Any]) -> None:
    """It and its agent are portable, with tools and scorers and without."""
    at = Model("m", base_url="http://127.0.0.1:1/v1", api_key="sk-not-stored-123456")
    it = evaluation_flow("portable", agent("guide", "You guide.", model=at), scorers, 3)
    described = describe(it)
    assert obstacles(described) == ()
    assert "sk-not-stored" not in str(described)


async def test_two_evaluations_are_compared_sample_by_sample(app: App, model: ScriptedModel) -> None:
    """Differences of what is in both, with counts; what only one has is named."""
    a = await app.evaluate(made(model), QUESTIONS, [exact])
    model.on("x", "y")
    b = await app.evaluate(
        made(model), [{**QUESTIONS[0], "expected": "Rome"}, QUESTIONS[2], {"question": "x", "expected": "y"}], [exact]
    )
    it = a.compare(b)
    assert [c.scores for c in it.changes] == [{"exact": -1.0}, {"exact": 0.0}]
    assert (it.means["exact"].mean, it.means["exact"].n) == (-0.5, 2)
    assert it.counts("exact") == (0, 1, 1)
    assert [r.sample["question"] for r in it.only_a] == ["capital of Spain?"]
    assert [r.sample["question"] for r in it.only_b] == ["x"]
    assert list(it.df()["exact_diff"]) == [-1.0, 0.0]


async def test_data_sets_are_read_from_files_and_tables(app: App, tmp_path: Path) -> None:
    """jsonl, json, csv and a DataFrame give the same samples."""
    import pandas as pd

    @flow
    async def shout(ctx: Any, text: str) -> str:
        return text.upper()

    rows = [{"text": "a", "expected": "A"}, {"text": "ü", "expected": "Ü"}]
    lines, whole, table = tmp_path / "d.jsonl", tmp_path / "d.json", tmp_path / "d.csv"
    lines.write_text("\n".join(json.dumps(r) for r in rows) + "\n")
    whole.write_text(json.dumps(rows))
    pd.DataFrame(rows).to_csv(table, index=False)
    seen = Counter[Any]()
    for dataset in (rows, lines, str(whole), table, pd.DataFrame(rows)):
        it = await app.evaluate(shout, dataset, exact)
        assert it.means["exact"].mean == 1.0
        seen[it.run] += 1
    assert list(seen.values()) == [5]


WRONG: list[tuple[Any, Any, str]] = [
    ([], exact, "empty"),
    ({"question": "x"}, exact, "list of dicts"),
    ("nothing.jsonl", exact, "cannot be read"),
    ([{"text": "x"}], exact, "call a column so"),
    (QUESTIONS, lambda output: 1, "give a dict"),
    (QUESTIONS, [exact, exact], "two scorers"),
    (QUESTIONS, 7, "no scorer"),
    (QUESTIONS, lambda answer: 1, "give a dict"),
    (QUESTIONS, {"odd": lambda answers: 1}, "asks for 'answers'"),
    ([{"question": object()}], exact, "sample 0"),
]


@pytest.mark.parametrize(("dataset", "scorers", "why"), WRONG)
async def test_mistakes_are_told_before_anything_runs(
    app: App, model: ScriptedModel, dataset: Any, scorers: Any, why: str
) -> None:
    """What is wrong with a data set or a scorer, and what would be right."""
    with pytest.raises(EvaluationRefused, match=why):
        await app.evaluate(made(model), dataset, scorers)
    assert model.count() == 0
