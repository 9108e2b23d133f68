"""Streaming: what a step says before it is done, and the events of a run as readers get them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowbook.app import App
from flowbook.errors import StepFailed, UsageError
from flowbook.graph.flow import graph
from flowbook.graph.imperative import flow
from flowbook.graph.mapping import map_
from flowbook.graph.pause import wait
from flowbook.graph.step import step
from flowbook.handle import Run
from flowbook.observe import events
from flowbook.observe.events import RunEvent, Streamed
from flowbook.plan.records import Status
from flowbook.run import streams as streams_module
from flowbook.store.memory import MemoryStore
from tests.unit.run.apps import Apps, scenario, until


def told(found: list[RunEvent]) -> list[str]:
    """Events in short, without advisory ones: ``StepFinished a#1``."""
    return [f"{type(e).__name__} {getattr(e, 'path', '')}".strip() for e in found if type(e) is not events.StepStarted]


def text(found: list[RunEvent], path: str = "say#1", channel: str = "text") -> str:
    """What a reader who follows the rules has of a path: a text that begins takes the place of what was before."""
    said = ""
    for event in found:
        if isinstance(event, Streamed) and (event.path, event.channel) == (path, channel):
            said = event.text if event.begins else said + event.text
    return said


async def read(run: Run, after: str | None = None) -> list[RunEvent]:
    """All events until the run is over."""
    return [event async for event in run.stream(after)]


class Reading:
    """A reader beside the run."""

    def __init__(self, run: Run, after: str | None = None) -> None:
        self.events: list[RunEvent] = []
        self.task = asyncio.create_task(self._read(run, after))

    async def _read(self, run: Run, after: str | None) -> None:
        async for event in run.stream(after):
            self.events.append(event)

    async def has(self, said: str, path: str = "say#1") -> None:
        """Wait until a text is there."""
        await until(lambda: text(self.events, path) == said)


class Store(MemoryStore):
    """Counts what is written of text."""

    writes = 0
    drops = 0

    async def write_chunks(self, chunks: Any) -> None:
        type(self).writes += 1
        await super().write_chunks(chunks)

    async def drop_chunks(self, streams: Any) -> None:
        type(self).drops += 1
        await super().drop_chunks(streams)


@pytest.fixture
def counted() -> type[Store]:
    """A store that counts, from 0."""
    Store.writes = Store.drops = 0
    return Store


def chunks(apps: Apps, run: Run) -> list[str]:
    """What of text is kept."""
    return [c.data.decode() for c in apps.database.runs[run.id].chunks]


@scenario
async def test_text_is_read_while_its_step_runs_and_comes_before_its_outcome(apps: Apps) -> None:
    """The first piece at once; and every piece is there before the result is."""
    app, go = await apps.open(), asyncio.Event()

    @step
    async def say(ctx: Any) -> str:
        await ctx.stream("Hel")
        await go.wait()
        for piece in ("lo", " wo", "rld"):
            await ctx.stream(piece)
        return "Hello world"

    run = await app.start(graph("f", say))
    reader = Reading(run)
    await reader.has("Hel")
    go.set()
    await reader.task
    assert text(reader.events) == "Hello world"
    assert [k for k in told(reader.events) if k != "Streamed say#1"] == ["StepFinished say#1", "RunCompleted"]
    assert told(reader.events)[-2:] == ["StepFinished say#1", "RunCompleted"]
    assert [e.begins for e in reader.events if isinstance(e, Streamed)].count(True) == 1


@scenario
async def test_a_thousand_pieces_are_a_few_writes(apps: Apps, counted: type[Store]) -> None:
    """They are put together, ten times a second; nothing is lost and nothing changes places."""
    app = await apps.open(store=counted)
    want = "".join(f"{n} " for n in range(1_000))

    @step
    async def say(ctx: Any) -> None:
        for n in range(1_000):
            await ctx.stream(f"{n} ")

    run = await app.start(graph("f", say))
    assert text(await read(run)) == want
    assert counted.writes <= 8


@scenario
async def test_who_does_not_stream_pays_nothing(apps: Apps, counted: type[Store]) -> None:
    """No write, no task, no read."""
    app = await apps.open(store=counted)

    @step
    async def quiet(ctx: Any) -> str:
        return str(ctx.path)

    await (await app.start(graph("f", quiet))).result()
    assert (counted.writes, counted.drops, app.engine.tools.streams._task) == (0, 0, None)


@scenario
async def test_text_is_thrown_away_soon_after_the_outcome(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Late readers find the result; the text of what is under way stays."""
    monkeypatch.setattr(streams_module, "KEPT", 0.05)
    app = await apps.open()

    @step
    async def say(ctx: Any) -> str:
        await ctx.stream("done")
        return "done"

    @step
    async def more(ctx: Any) -> None:
        await ctx.stream("on my way")
        await asyncio.sleep(60)

    run = await app.start(graph("f", say >> more))
    await until(lambda: chunks(apps, run) == ["on my way"])
    await run.cancel()
    found = await read(run)
    assert told(found)[-1] == "RunCancelled"
    await until(lambda: chunks(apps, run) == [])
    assert told(await read(run)) == ["StepFinished say#1", "CancelRequested", "RunCancelled"]


@scenario
async def test_a_process_that_ends_leaves_its_last_text_to_readers_elsewhere(apps: Apps) -> None:
    """They look once a second, and it may be gone by then."""
    app, other = await apps.open(), await apps.open()

    @step
    async def say(ctx: Any) -> None:
        await ctx.stream("last words")

    run = await app.start(graph("f", say))
    await run.result()
    await apps.leave(app)
    assert text(await read(await other.run(run.id))) == "last words"


@scenario
async def test_another_attempt_takes_the_place_of_the_text_before(apps: Apps) -> None:
    """A reader who was there sees it begin anew; one who comes later sees it once. What was not written is not."""
    app, go = await apps.open(), asyncio.Event()

    @step(retries=1, backoff=[0])
    async def say(ctx: Any) -> str:
        await ctx.stream(f"try {ctx.attempt}: ")
        if ctx.attempt == 1:
            await go.wait()
            await ctx.stream("never written")
            raise ValueError("broken")
        await ctx.stream("well")
        return "well"

    run = await app.start(graph("f", say))
    reader = Reading(run)
    await reader.has("try 1: ")
    go.set()
    await reader.task
    assert text(reader.events) == "try 2: well"
    kinds = told(reader.events)
    assert kinds.index("AttemptFailed say#1") < len(kinds) - 1 - kinds[::-1].index("Streamed say#1")
    late = await read(run)
    assert [e.attempt for e in late if isinstance(e, Streamed)] in ([2], [2, 2])
    assert text(late) == "try 2: well"


@scenario
async def test_a_crash_in_mid_stream_leaves_no_half_answer(apps: Apps) -> None:
    """The next process says it anew: a reader elsewhere replaces what it had, and no text comes twice."""
    one, two = await apps.open(), await apps.open()
    dies = True

    @step
    async def say(ctx: Any) -> str:
        await ctx.stream("Half an ")
        if dies:
            await asyncio.sleep(60)
        await ctx.stream("answer, whole")
        return "Half an answer, whole"

    f = graph("f", say)
    run = await one.start(f)
    reader = Reading(await two.run(run.id))
    await reader.has("Half an ")
    await apps.crash(one)
    dies = False
    await two.register(f)
    await two.resume(run.id)
    await reader.task
    assert text(reader.events) == "Half an answer, whole"
    pieces = [e for e in reader.events if isinstance(e, Streamed)]
    assert [e.begins for e in pieces].count(True) == 2
    assert told(reader.events)[-1] == "RunCompleted"


@scenario
async def test_a_body_that_runs_again_does_not_say_again_what_it_has_said(apps: Apps) -> None:
    """Parked and resumed, here and elsewhere: one text, in one piece after the other, that begins once."""
    one, two = await apps.open(), await apps.open()

    @step
    async def ask(n: int) -> str:
        return f"answer {n}"

    @flow
    async def talk(ctx: Any) -> str:
        await ctx.stream("A: hello. ")
        for n in range(3):
            await ctx.stream(f"B: {(await ctx.wait('said'))['word']}. ")
            await ctx.stream(f"A: {await ctx.step(ask, n)}. ")
        return "bye"

    run = await one.start(talk)
    reader = Reading(await two.run(run.id))
    await reader.has("A: hello. ", "talk#1")
    said = "A: hello. "
    for n, app in enumerate((one, one, two)):
        if n == 2:
            await until(lambda: apps.database.runs[run.id].row.status is Status.WAITING)
            await apps.crash(one)
            await two.register(talk)
            await two.resume(run.id)
        await (await app.run(run.id)).signal("said", word=f"word {n}")
        said += f"B: word {n}. A: answer {n}. "
        await reader.has(said, "talk#1")
    await reader.task
    assert "".join(e.text for e in reader.events if isinstance(e, Streamed)) == said
    assert [e.begins for e in reader.events if isinstance(e, Streamed)].count(True) == 1


@scenario
async def test_a_body_that_says_something_else_begins_anew(apps: Apps) -> None:
    """Nothing is put together from two stories."""
    app = await apps.open()
    runs = 0

    @flow
    async def talk(ctx: Any) -> None:
        nonlocal runs
        runs += 1
        await ctx.stream(f"run {runs}: ")
        await ctx.wait("go")
        await ctx.stream("gone")

    run = await app.start(talk)
    reader = Reading(run)
    await reader.has("run 1: ", "talk#1")
    await until(lambda: apps.database.runs[run.id].row.status is Status.WAITING)
    await run.signal("go")
    await reader.task
    assert text(reader.events, "talk#1") == f"run {runs}: gone"
    assert runs > 1


@scenario
async def test_a_reader_goes_on_where_it_was_without_a_gap(apps: Apps) -> None:
    """From every position there is, text included: what came before and what comes after is the whole."""
    app = await apps.open()

    @step
    async def one(ctx: Any) -> int:
        await ctx.stream("x")
        return 1

    @step
    async def add(x: int) -> int:
        return x + 1

    run = await app.start(graph("f", one >> map_(add, over="xs", into="ys")), xs=[1, 2, 3])
    whole = await read(run)
    assert told(whole)[0] == "Streamed one#1"
    assert sorted(told(whole)[3:6]) == [f"StepFinished add#1[{n}]" for n in range(3)]
    assert {e.result for e in whole if isinstance(e, events.StepFinished) and e.path.endswith("]")} == {2, 3, 4}
    for at, event in enumerate(whole, 1):
        assert await read(run, event.position) == whole[at:]
    with pytest.raises(UsageError, match="position"):
        await read(run, "yesterday")


@scenario
async def test_the_story_of_a_failed_run_goes_on_with_its_retry(apps: Apps) -> None:
    """The stream ends with the failure; behind its position it goes on; and read anew it is one story."""
    app, broken = await apps.open(), True

    @step
    async def say() -> str:
        if broken:
            raise ValueError("broken")
        return "well"

    run = await app.start(graph("f", say))
    first = await read(run)
    assert told(first) == ["AttemptFailed say#1", "RunFailed say#1"]
    failed = first[-1]
    assert isinstance(failed, events.RunFailed)
    assert failed.failure.message == "broken"
    broken = False
    await run.retry()
    rest = await read(run, failed.position)
    assert told(rest) == ["RunRetried", "StepFinished say#1", "RunCompleted"]
    assert await read(run) == first + rest


@scenario
async def test_what_happens_in_a_flow_is_told_by_what_it_is(apps: Apps) -> None:
    """Pauses, emitted events, children, forks."""
    app = await apps.open()

    @step
    async def inner() -> int:
        return 7

    child = graph("child", inner)

    @flow
    async def parent(ctx: Any, n: int) -> int:
        await ctx.emit("begun", {"n": n})
        await ctx.sleep(0)
        return int((await ctx.join(ctx.spawn(child)))["inner"])

    assert [k for k in told(await read(await app.start(parent, n=3))) if "Wait" not in k] == [
        "Emitted parent#1/begun#1", "ChildStarted parent#1/child#1", "StepFinished parent#1/child#1",
        "StepFinished parent#1", "RunCompleted",
    ]  # fmt: skip
    run = await app.start(graph("w", wait("go") >> inner))
    await run.signal("go", by="ana")
    found = await read(run)
    assert told(found)[-3:] == ["WaitFinished go#1", "StepFinished inner#1", "RunCompleted"]
    ended = next(e for e in found if isinstance(e, events.WaitFinished))
    assert (ended.signal, ended.result) == ("go", {"by": "ana"})
    fork = await run.fork(at="inner#1")
    story = await read(fork)
    assert told(story) == ["WaitFinished go#1", "RunForked inner#1", "StepFinished inner#1", "RunCompleted"]
    assert await read(fork, story[0].position) == story[1:]


@scenario
async def test_plain_functions_called_steps_and_items_stream_too(apps: Apps) -> None:
    """Each at its own path, and from a thread without await; channels keep texts apart."""
    app = await apps.open()

    @step
    def plain(ctx: Any) -> None:
        ctx.stream("thr")
        ctx.stream("ead")
        ctx.stream("noted", channel="log")

    @step
    async def item(x: str, ctx: Any) -> None:
        await ctx.stream(x)

    @step
    async def caller(ctx: Any) -> None:
        await ctx.step(item, "called")

    found = await read(await app.start(graph("f", plain >> map_(item, over="xs", into="ys") >> caller), xs=["a", "b"]))
    assert text(found, "plain#1") == "thread"
    assert text(found, "plain#1", "log") == "noted"
    assert [text(found, p) for p in ("item#1[0]", "item#1[1]", "caller#1/item#1")] == ["a", "b", "called"]


@scenario
async def test_only_text_is_streamed(apps: Apps) -> None:
    """And that is said where it is typed."""
    app = await apps.open()

    @step
    async def say(ctx: Any) -> None:
        await ctx.stream({"a": 1})

    with pytest.raises((UsageError, StepFailed), match="only text is streamed"):
        await (await app.start(graph("f", say))).result()


@scenario
async def test_a_reader_that_stops_leaves_nothing_behind(apps: Apps) -> None:
    """Nobody is told any more."""
    app: App = await apps.open()
    run = await app.start(graph("w", wait("go")))
    reading = run.stream()
    await anext(reading)
    assert app.readers
    await reading.aclose()  # type: ignore[attr-defined]
    assert not app.readers
