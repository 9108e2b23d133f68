"""Conversations that go on, that are told otherwise, and that are replayed: nothing is stored or paid for twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from flowbook.agents.loop import agent
from flowbook.agents.settings import Model
from flowbook.app import App
from flowbook.errors import PointUnknown, ReplayMissed, UsageError
from flowbook.graph.flow import graph
from flowbook.graph.step import step
from flowbook.testing import ScriptedModel, memory_app

CALLED: list[str] = []


@step(name="search")
def search(query: str) -> str:
    """Search."""
    CALLED.append(query)
    return f"{query} was found in 1999, in a book that nobody has opened since; {'it is long. ' * 10}"


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A server that knows a few answers."""
    with ScriptedModel() as model:
        model.on("Find", calls=[("search", {"query": "it"})]).on("1999", "In 1999.")
        model.on(lambda m: m[-1]["content"] == "And before?" and len(m) == 6, "Before, in 1998.")
        model.on(lambda m: m[-1]["content"] == "And then?" and len(m) == 8, "Then, in 2000.")
        model.on("nothing was found", "Nowhere.").on("2001", "In 2001.")
        yield model


@pytest.fixture
async def app(always_suspend: bool) -> AsyncIterator[App]:
    """An app in memory."""
    CALLED.clear()
    async with memory_app(always_suspend=always_suspend) as app:
        yield app


def made(model: ScriptedModel, **options: Any) -> Any:
    """An agent with one tool."""
    at = Model("m", base_url=model.base_url)
    return agent("finder", "You find.", model=at, **{"tools": [search], "max_turns": 3, **options})


async def answered(run: Any) -> str:
    """What a run comes to."""
    answer: str = (await run.result(timeout=60))["answer"]
    return answer


async def size(app: App, run: Any) -> int:
    """Bytes of a run's own rows."""
    return sum(len(e.payload) for e in await app.store.history(run.id) if e.seq > 0)


async def test_questions_go_on_with_one_conversation_that_is_stored_once(app: App, model: ScriptedModel) -> None:
    """Each question is a run of its own, with the limits of one; what was said before is read where it stands."""
    first = await app.start(made(model), {"question": "Find it."})
    assert await answered(first) == "In 1999."
    second = await first.ask("And before?")
    assert await answered(second) == "Before, in 1998."
    third = await second.ask("And then?")
    assert await answered(third) == "Then, in 2000."
    messages = (await third.state())["messages"]
    assert [m["role"] for m in messages] == ["user", "assistant", "tool", "assistant", *["user", "assistant"] * 2]
    assert await third.lineage() == (third.id, second.id, first.id)
    assert model.count() == 4
    assert CALLED == ["it"]
    assert await size(app, third) < 800 < await size(app, first)
    again = await second.ask("And then?")
    assert await answered(again) == "Then, in 2000."
    fork = await third.fork(at="ask_model#4", question="And before?", messages=messages[:4])
    assert await answered(fork) == "Before, in 1998."
    earlier = await third.fork(at="ask_model#3", question="And before?")
    assert await answered(earlier) == "Before, in 1998."


async def test_an_agent_that_was_declared_anew_answers_the_next_question(app: App, model: ScriptedModel) -> None:
    """With its new instructions."""
    first = await app.start(made(model), {"question": "Find it."})
    await first.result(timeout=60)
    other = agent("finder", "You find more.", model=Model("m", base_url=model.base_url), tools=[search])
    second = await app.ask(first.id, "And before?", graph=other)
    assert await answered(second) == "Before, in 1998."
    assert model.requests[-1].messages[0]["content"] == "You find more."


async def test_what_has_no_answer_yet_is_asked_nothing_further(app: App, model: ScriptedModel) -> None:
    """It says what to do instead."""
    failed = await app.start(made(model, max_turns=1), {"question": "Find it."})
    with pytest.raises(Exception, match="may 1 times"):
        await failed.result(timeout=60)
    with pytest.raises(UsageError, match=r"failed.*retry it"):
        await failed.ask("And before?")

    @step
    def plain() -> str:
        return "x"

    other = await app.start(graph("plain", plain), {})
    await other.result()
    with pytest.raises(UsageError, match="no agent"):
        await other.ask("What?")


async def test_a_flow_goes_on_behind_its_end(app: App) -> None:
    """From its first step, with the state that it has come to; not before it has come to it."""

    @step
    def count(n: int) -> Any:
        if n > 10:
            raise ValueError("too many")
        return {"n": n + 1}

    flow = graph("counting", count)
    first = await app.start(flow, {"n": 1})
    assert (await first.result())["n"] == 2
    second = await first.fork(at="END")
    assert (await second.result())["n"] == 3
    third = await second.fork(at="END", n=10)
    assert (await third.result())["n"] == 11
    assert [s.path for s in (await third.view()).steps] == ["count#1", "count#2", "count#3"]
    assert (await third.diff(second)).first is not None
    fourth = await third.fork(at="END")
    with pytest.raises(ValueError, match="too many"):
        await fourth.result()
    with pytest.raises(PointUnknown, match="has not"):
        await fourth.fork(at="END")


async def test_a_fork_tells_a_model_otherwise_and_keeps_what_was_before(app: App, model: ScriptedModel) -> None:
    """Another result of a tool, other instructions, another model: one request each, no tool runs again."""
    run = await app.start(made(model), {"question": "Find it."})
    await run.result(timeout=60)
    told = await run.fork(at="ask_model#2", results={"search": "nothing was found"})
    assert await answered(told) == "Nowhere."
    assert (await told.state())["messages"][2]["content"] == "nothing was found"
    assert await size(app, told) < 600
    with pytest.raises(UsageError, match="called were search"):
        await run.fork(at="ask_model#2", results={"sing": "la"})
    other = await run.fork(at="ask_model#2", instructions="You doubt.", model="other")
    assert await answered(other) == "In 1999."
    assert model.requests[-1].model == "other"
    assert model.requests[-1].messages[0]["content"] == "You doubt."
    assert (await other.state())["turns"][-1]["model"] == "other"
    assert model.count() == 4
    assert CALLED == ["it"]


async def test_a_replay_asks_nobody_what_is_recorded(app: App, model: ScriptedModel) -> None:
    """Without a difference nothing is asked; with one, only who says live=True has a model asked."""
    run = await app.start(made(model), {"question": "Find it."})
    await run.result(timeout=60)
    same = await run.replay()
    assert await answered(same) == "In 1999."
    assert model.count() == 2
    with pytest.raises(ReplayMissed, match=r"ask_model#1 with another model: 0 turns before it are recorded, 2 would"):
        await run.replay(model="other")
    assert model.count() == 2
    replayed = await run.replay(model="other", live=True)
    assert await answered(replayed) == "In 1999."
    assert [r.model for r in model.requests[2:]] == ["other", "other"]
    late = await run.replay(at="ask_model#2", instructions="You doubt.", live=True)
    assert await answered(late) == "In 1999."
    assert model.count() == 5
