"""Scoring: one sample run and judged, durably, as a flow that is mapped over a data set.

Owns: `evaluation_flow`, what scorers are given and what their answers count as. Refuses: reading data sets
(`datasets.py`), and what all samples together come to (`observe/evaluations.py`).

The run of a sample has a key, made of the evaluation's name, the flow's fingerprint and what the flow is given. So
every later evaluation of that name finds it again, whatever else of the data set or the scorers has changed, and it is
neither run nor paid for again; the same holds of model judges.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flowbook.agents.calling import TOOLS_FAULT
from flowbook.agents.datasets import EXPECTED, given, inputs, is_agent
from flowbook.agents.tools import told
from flowbook.codec import digest, encode
from flowbook.errors import EvaluationRefused, FlowbookError
from flowbook.graph.binding import wants_context
from flowbook.graph.expression import START_NODE
from flowbook.graph.flow import Graph, graph
from flowbook.graph.imperative import flow
from flowbook.graph.mapping import map_
from flowbook.graph.names import NAME
from flowbook.graph.resource import found_for
from flowbook.graph.step import Step, step

Scorer = Step | Graph
KNOWN = ("output", "expected", "sample", "run")
"""What a scorer may ask for by its parameters' names, besides the columns of the data set."""


def scorers_of(things: Any, columns: set[str]) -> dict[str, Scorer]:
    """Name -> scorer: functions, steps, or flows that judge; a list of them, or a dict with names.

    ``columns``: of the data set. Raises `EvaluationRefused`.
    """
    if callable(things) or isinstance(things, Step | Graph) or not isinstance(things, Iterable):
        things = [things]
    pairs = things.items() if isinstance(things, Mapping) else [(None, one) for one in things]
    found: dict[str, Scorer] = {}
    for name, thing in pairs:
        one = _scorer(name, thing)
        called = name or one.name
        if called in found:
            raise EvaluationRefused(f"two scorers are called {called!r}: give a dict, {{name: scorer}}")
        _check(called, one, columns)
        found[called] = one
    return found


def evaluation_flow(name: str, target: Graph, scorers: Mapping[str, Scorer], concurrency: int) -> Graph:
    """The flow that evaluates another one. Its input: ``samples``, each ``{"sample": ..., "mark": key}``."""
    judged = dict(scorers)

    @flow(name=f"{name}_sample", freeze=None if judged else {"judged": {}})
    async def one(ctx: Any, sample: dict[str, Any], mark: str) -> Any:
        return await evaluated(ctx, target, judged, sample, mark)

    each = map_(one, over="samples", into="rows", concurrency=concurrency, on_error="collect", name="evaluate")
    return graph(f"{name}_evaluation", START_NODE >> each, outputs=("rows",))


async def evaluated(
    ctx: Any, target: Graph, scorers: Mapping[str, Scorer], sample: Mapping[str, Any], mark: str
) -> dict[str, Any]:
    """One sample: the flow's output, and what each scorer makes of it. Errors of either are part of the answer."""
    try:
        kept = await ctx.join(ctx.attach(target, given(target, sample), key=mark, kept=gist))
    except FlowbookError as error:
        if not isinstance(error, (*TOOLS_FAULT, EvaluationRefused)):
            raise
        return {"error": error.message}
    about = kept.pop(_ABOUT)
    output = _output(target, kept)
    known = {**sample, "output": output, EXPECTED: sample.get(EXPECTED), "sample": dict(sample), "run": about}
    found = await ctx.gather(*(_scored(ctx, name, one, known, target, mark) for name, one in scorers.items()))
    row: dict[str, Any] = {"output": output, "scores": {}, "notes": {}, "failed": {}, "judges": [], **about}
    row.pop("messages", None)
    for name, value, failed, paid in found:
        row["judges"] += paid
        if failed is not None:
            row["failed"][name] = failed
            continue
        scores, notes = numbers(name, value)
        row["scores"] |= scores
        row["notes"] |= notes
    return row


_ABOUT = " about"
_TURN = ("model", "in", "out", "usd", "seconds")


def gist(row: Any, result: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """What of a sample's run is kept: its result, and what it took."""
    turns = [{k: t.get(k) for k in _TURN} for t in state.get("turns") or () if isinstance(t, Mapping)]
    seconds = (row.ended_at - row.started_at).total_seconds() if row.started_at and row.ended_at else None
    about = {"run": row.id.hex, "seconds": seconds, "turns": turns}
    whole = result if isinstance(result, Mapping) else {_RESULT: result}
    return {**whole, _ABOUT: about}


_RESULT = " result"


def _output(target: Graph, kept: Mapping[str, Any]) -> Any:
    if _RESULT in kept:
        return kept[_RESULT]
    if target.outputs is not None and len(target.outputs) == 1:
        return kept.get(target.outputs[0])
    return dict(kept)


async def _scored(
    ctx: Any, name: str, scorer: Scorer, known: Mapping[str, Any], target: Graph, mark: str
) -> tuple[str, Any, str | None, list[Any]]:
    """(name, what it said, why it said nothing, turns of a judge)."""
    try:
        if isinstance(scorer, Graph):
            wanted = _asked(scorer, known, target)
            key = f"{mark} {scorer.fingerprint[:12]} {digest(encode(sorted(wanted.items()))).hex()[:20]}"
            kept = await ctx.join(ctx.attach(scorer, wanted, key=key, kept=gist))
            return name, _output(scorer, kept), None, list(kept[_ABOUT]["turns"])
        arguments = {p: known[p] for p in _asks(scorer) if p in known}
        value = await ctx.step(scorer, **arguments)
        numbers(name, value)
        return name, value, None, []
    except FlowbookError as error:
        if not isinstance(error, (*TOOLS_FAULT, EvaluationRefused)):
            raise
        return name, None, error.message, []
    except Exception as error:
        return name, None, f"{type(error).__name__}: {error}", []


def numbers(name: str, value: Any) -> tuple[dict[str, float], dict[str, str]]:
    """(scores, notes) in what a scorer said: a number or a truth is one score, a dict or a record of fields is one
    each, ``score`` among them under the scorer's own name; texts are notes; None: it has nothing to say.

    Raises `EvaluationRefused` for anything else.
    """
    if value is None:
        return {}, {}
    if isinstance(value, bool | int | float):
        return {name: float(value)}, {}
    if isinstance(value, str):
        return {}, {name: value}
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    fields = getattr(value, "fields", None)
    if isinstance(fields, Mapping):  # an object whose class is not loaded here
        value = fields
    if not isinstance(value, Mapping):
        raise EvaluationRefused(
            f"scorer {name!r} returned {type(value).__name__}: a score is a number, True or False, a text, or a dict"
        )
    scores: dict[str, float] = {}
    notes: dict[str, str] = {}
    for key, one in value.items():
        more = numbers(name if key == "score" else f"{name}.{key}", one)
        scores |= more[0]
        notes |= more[1]
    return scores, notes


def _scorer(name: str | None, thing: Any) -> Scorer:
    if isinstance(thing, Step | Graph):
        return thing
    if not inspect.isfunction(thing):
        raise EvaluationRefused(f"{thing!r} is no scorer: a function, a @step, or an agent that judges")
    called = name or thing.__name__
    if not NAME.match(called):
        raise EvaluationRefused(f"a scorer is called {called!r}: give a dict, {{name: scorer}}, with a name of letters")
    return step(name=called)(thing)


def _asks(scorer: Step) -> list[str]:
    parameters = scorer.signature.parameters.values()
    return [p.name for p in parameters if not wants_context(p) and found_for(scorer.fn, p.name) is None]


def _check(name: str, scorer: Scorer, columns: set[str]) -> None:
    if isinstance(scorer, Graph):
        if not is_agent(scorer):
            _check_names(name, list(inputs(scorer) or ()), set(), columns)
        return
    optional = {p.name for p in scorer.signature.parameters.values() if p.default is not p.empty}
    _check_names(name, _asks(scorer), optional, columns)


def _check_names(name: str, asks: Sequence[str], optional: set[str], columns: set[str]) -> None:
    unknown = [p for p in asks if p not in columns and p not in KNOWN and p not in optional]
    if unknown:
        raise EvaluationRefused(
            f"scorer {name!r} asks for {', '.join(map(repr, unknown))}: there are {', '.join(map(repr, KNOWN))} and "
            f"the data set's {', '.join(map(repr, sorted(columns)))}"
        )


def _asked(judge: Graph, known: Mapping[str, Any], target: Graph) -> dict[str, Any]:
    """What a judge is asked: an agent one text with all that is to be judged, another flow what it declares."""
    if not is_agent(judge):
        return {name: known[name] for name in inputs(judge) or KNOWN if name in known and name != "run"}
    asked = given(target, known["sample"])
    parts = [("Input", asked.get("question", asked)), ("Expected", known.get(EXPECTED)), ("Output", known["output"])]
    texts = [f"{title}:\n{told(value)}" for title, value in parts if value is not None]
    return {"question": "\n\n".join(texts)}
