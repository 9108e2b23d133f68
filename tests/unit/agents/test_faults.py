"""What goes wrong at a model's server: each is handled, is in the journal, and costs no more than it has to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flowbook.agents import loop, models
from flowbook.agents.loop import agent
from flowbook.agents.settings import Model
from flowbook.app import App
from flowbook.errors import AnswerTooLong, ModelFailed, StepTimeout
from flowbook.graph.step import Backoff
from flowbook.testing import ScriptedModel, memory_app
from flowbook.testing.model import Asked
from flowbook.testing.wire import Reply


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


class Told(ScriptedModel):
    """Answers with what it is told, one after the other."""

    def __init__(self, *replies: Reply) -> None:
        super().__init__()
        self._replies = list(replies)

    def answer(self, asked: Asked) -> tuple[int | None, Reply]:
        """The next one."""
        self.requests.append(asked)
        return 200, self._replies.pop(0)


@pytest.fixture
async def app(always_suspend: bool) -> AsyncIterator[App]:
    """An app in memory."""
    async with memory_app(always_suspend=always_suspend) as app:
        yield app


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "BACKOFF", Backoff(initial=0.01, factor=1.0, max=0.01))


async def asked(app: App, model: ScriptedModel, **options: Any) -> tuple[Any, Any]:
    """The answer to a question, and the run."""
    at = Model("m", base_url=model.base_url, api=options.pop("api", "chat"))
    it = agent("helper", "You help.", model=at, tools=[add], **options)
    run = await app.start(it, {"question": "go"})
    return (await run.result(timeout=60))["answer"], run


def failures(view: Any) -> list[str]:
    """What the attempts of all steps have failed with."""
    return [a.failure.type.rpartition(".")[2] for s in view.steps for a in s.attempts if a.failure]


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_an_empty_answer_is_asked_for_again(app: App, api: str) -> None:
    """It is an attempt that failed, and one that is always empty fails the run with its code."""
    with Told(Reply(""), Reply("here")) as model:
        answer, run = await asked(app, model, api=api)
        assert answer == "here"
        assert failures(await run.view()) == ["ModelFailed"]
    with Told(*[Reply("")] * 3) as model:
        with pytest.raises(ModelFailed, match="answered with nothing"):
            await asked(app, model, api=api, retries=2)
        assert model.count() == 3


async def test_an_answer_without_end_is_not_listened_to_and_not_asked_for_again(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would cost as much again; another model may be asked."""
    monkeypatch.setattr(models, "LONGEST", 1_000)
    with Told(Reply("on and on " * 200)) as model:
        with pytest.raises(AnswerTooLong, match="more than 1,000 characters"):
            await asked(app, model)
        assert model.count() == 1
    with Told(Reply("on and on " * 200), Reply("brief")) as model:
        answer, run = await asked(app, model, fallback=[Model("brief", base_url=model.base_url)])
        assert answer == "brief"
        (turn,) = (await run.state())["turns"]
        assert turn["model"] == "brief"
        assert "AnswerTooLong" in turn["troubles"][0]


async def test_an_answer_that_its_limit_cut_off_is_an_answer_that_says_so(app: App) -> None:
    """In the turn's record and in the transcript; broken arguments of a call are told to the model."""
    with Told(Reply("half of", finish="length")) as model:
        answer, run = await asked(app, model)
        assert answer == "half of"
        assert "cut off at the limit" in (await run.state())["turns"][0]["troubles"][0]
    with Told(Reply("", (("add", '{"a": 1, "b'),), finish="length"), Reply("sorry")) as model:
        answer, run = await asked(app, model)
        assert answer == "sorry"
        assert "no JSON" in (await run.state())["messages"][2]["content"]


async def test_a_model_that_takes_too_long_is_asked_again(app: App) -> None:
    """Its time is up in the middle of its answer: nothing of that is kept, and the attempt says why."""
    with Told(Reply("so slow " * 50, pace=0.2), Reply("quick")) as model:
        answer, run = await asked(app, model, timeout=2.0)
        assert answer == "quick"
        assert failures(await run.view()) == ["StepTimeout"]
        text = json.dumps((await run.state())["messages"])
        assert "so slow" not in text
    with Told(Reply("so slow " * 50, pace=0.2)) as model, pytest.raises(StepTimeout, match="time limit"):
        await asked(app, model, timeout=0.3, retries=0)
