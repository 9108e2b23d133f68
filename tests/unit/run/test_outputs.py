"""What a step writes belongs to its path and attempt, and is there after the run."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
from collections.abc import Sequence

import pytest

from flowbook import graph, step
from flowbook.app import App
from flowbook.capture import routing, shelf
from flowbook.graph.expression import START_NODE as START
from flowbook.graph.mapping import map_
from flowbook.plan.outputs import Output
from tests.unit.run.apps import Apps, scenario

log = logging.getLogger("tests.outputs")


def told(outputs: list[Output] | tuple[Output, ...]) -> list[tuple[str, int, str, str]]:
    """Path, attempt, kind and text."""
    return [(o.path, o.attempt, o.kind, o.text) for o in outputs]


async def ran(app: App, *steps, **input) -> list[tuple[str, int, str, str]]:
    """What a chain of steps has written."""
    topology = START >> steps[0]
    for one in steps[1:]:
        topology = topology >> one
    run = await app.start(graph("talk", topology), input)
    await asyncio.wait([asyncio.ensure_future(run.result())])
    return told(list(await run.outputs()))


@scenario
async def test_a_coroutine_and_a_plain_function_are_heard(apps: Apps, capsys: pytest.CaptureFixture[str]) -> None:
    """stdout and stderr, in the step, in a task of it and in its thread; the terminal has them too."""
    app = await apps.open()

    async def inner() -> None:
        print("from a task")

    @step
    async def coroutine():
        print("out", 1)
        await asyncio.create_task(inner())
        print("err", file=sys.stderr)

    @step
    def function():
        print("thread")

    said = await ran(app, coroutine, function)
    assert said == [
        ("coroutine#1", 1, "stdout", "out 1\nfrom a task\n"),
        ("coroutine#1", 1, "stderr", "err\n"),
        ("function#1", 1, "stdout", "thread\n"),
    ]
    shown = capsys.readouterr()
    assert shown.out == "out 1\nfrom a task\nthread\n"
    assert shown.err == "err\n"


@scenario
async def test_records_of_logging_are_noted_once(apps: Apps, capsys: pytest.CaptureFixture[str]) -> None:
    """As records, whatever handlers do with them; the handler of last resort and `basicConfig` work as ever."""
    app = await apps.open()
    handler = logging.StreamHandler(sys.stderr)

    @step
    def function():
        log.warning("careful with %s", "this")
        log.debug("not for anybody")
        logging.getLogger().addHandler(handler)
        try:
            raise LookupError("gone")
        except LookupError:
            log.exception("lost")
        finally:
            logging.getLogger().removeHandler(handler)

    ((path, _, kind, text),) = await ran(app, function)
    assert (path, kind) == ("function#1", "log")
    assert text.startswith("WARNING tests.outputs: careful with this\nERROR tests.outputs: lost\nTraceback")
    assert text.endswith("LookupError: gone\n")
    assert "careful with this" not in text.partition("\n")[2]
    assert "lost" in capsys.readouterr().err


@scenario
async def test_steps_at_once_are_never_mixed(apps: Apps) -> None:
    """Forty threads and coroutines, each hearing itself alone."""
    app = await apps.open()
    together = threading.Barrier(8, timeout=10)

    @step
    def say(item):
        together.wait()
        for _ in range(50):
            sys.stdout.write(f"{item},")
        together.wait()

    flow = graph("many", START >> map_(say, over="items", into="said", concurrency=8))
    run = await app.start(flow, {"items": [*range(16)]})
    await run.result()
    said = {o.path: o.text for o in await run.outputs()}
    assert said == {f"say#1[{n}]": f"{n}," * 50 for n in range(16)}
    assert [o.text for o in await run.outputs("say#1[3]")] == ["3," * 50]


@scenario
async def test_each_attempt_has_its_own_also_one_that_was_lost(apps: Apps) -> None:
    """A retry is another attempt; what a process had printed that died is still there."""
    app = await apps.open()
    talking = asyncio.Event()

    @step(retries=1, backoff=[0.0])
    async def flaky(ctx):
        print("try", ctx.attempt)
        if ctx.attempt == 1:
            raise LookupError("once")

    @step
    async def slow(ctx):
        print("began", ctx.attempt)
        talking.set()
        if ctx.attempt == 1 and not second:
            await asyncio.Event().wait()

    second: list[App] = []
    flow = graph("two", START >> flaky >> slow)
    run = await app.start(flow)
    await talking.wait()
    assert told(list(await run.outputs())) == [
        ("flaky#1", 1, "stdout", "try 1\n"),
        ("flaky#1", 2, "stdout", "try 2\n"),
        ("slow#1", 1, "stdout", "began 1\n"),
    ]
    await apps.crash(app)
    second.append(await apps.open())
    await second[0].register(flow)
    await second[0].resume(run.id)
    await second[0].result(run.id)
    texts = [o.text for o in await second[0].outputs(run.id, "slow#1")]
    assert texts[0] == "began 1\n"
    assert len(texts) == 2


@scenario
async def test_a_step_in_a_process_of_its_own_is_heard(apps: Apps, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it comes back through its pipe, as it is written, and reaches the terminal."""
    app = await apps.open()

    @step(executor="process")
    def far(n):
        import logging as far_logging
        import sys as far_sys

        print("far", n)
        print("off", file=far_sys.stderr)
        far_logging.getLogger("there").warning("seen")
        return {"n": n + 1}

    said = await ran(app, far, n=1)
    assert said == [
        ("far#1", 1, "stdout", "far 1\n"),
        ("far#1", 1, "stderr", "off\n"),
        ("far#1", 1, "log", "WARNING there: seen\n"),
    ]
    shown = capsys.readouterr()
    assert shown.out == "far 1\n"
    assert shown.err == "off\nseen\n"


@scenario
async def test_a_child_that_dies_leaves_what_it_had_printed(apps: Apps) -> None:
    """The last words of a process are the ones that are wanted."""
    app = await apps.open()

    @step(executor="process")
    def dies():
        import os

        print("last words")
        os._exit(3)

    assert await ran(app, dies) == [("dies#1", 1, "stdout", "last words\n")]


@scenario
async def test_a_quiet_step_costs_no_statement(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made, nothing is asked of the store, no timer runs."""
    app = await apps.open()
    asked: list[object] = []
    monkeypatch.setattr(app.store, "keep_outputs", asked.append)
    app.engine.outputs._keep = asked.append  # type: ignore[assignment]

    @step
    async def quiet():
        return {"n": 1}

    run = await app.start(graph("quiet", START >> quiet))
    await run.result()
    assert not app.engine.outputs._dirty
    assert not app.engine.outputs._armed
    assert list(await run.outputs()) == []
    assert asked == []


@scenario
async def test_who_stops_waiting_for_outputs_loses_none(apps: Apps) -> None:
    """A cell that is interrupted while it asks: what was on its way is stored."""
    app = await apps.open()
    keep, held = app.engine.outputs._keep, asyncio.Event()

    async def slowly(outputs: Sequence[Output]) -> None:
        await held.wait()
        await keep(outputs)

    app.engine.outputs._keep = slowly

    @step
    async def talk():
        print("kept")

    run = await app.start(graph("talk", START >> talk))
    await run.result()
    asking = asyncio.ensure_future(run.outputs())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    held.set()
    assert [o.text for o in await run.outputs()] == ["kept\n"]


@scenario
async def test_what_is_too_much_is_counted_and_its_end_is_kept(apps: Apps, capsys: pytest.CaptureFixture[str]) -> None:
    """The first megabyte, how many lines are missing, and the last ones."""
    app = await apps.open()

    @step
    def endless():
        for n in range(30_000):
            print(f"line {n:>6} {'x' * 50}")

    run = await app.start(graph("endless", START >> endless))
    await run.result()
    capsys.readouterr()
    outputs = list(await run.outputs())
    kinds = [o.kind for o in outputs]
    assert kinds[-2:] == ["cut", "stdout"]
    assert sum(len(o.payload) for o in outputs) < shelf.MOST_TEXT + shelf.TAIL + 200
    head, tail = "".join(o.text for o in outputs[:-2]), outputs[-1].text
    assert head.startswith("line      0 ")
    assert tail.endswith(f"line  29999 {'x' * 50}\n")
    missing = 30_000 - (head + tail).count("\n")
    assert outputs[-2].text.startswith(f"... {missing:,} more lines (")


@scenario
async def test_a_fork_shows_what_the_steps_printed_that_it_took_over(apps: Apps) -> None:
    """And what its own ones print, not what the other run's did."""
    app = await apps.open()

    @step
    async def first():
        print("first")
        return {"n": 1}

    @step
    async def second(n):
        print("second", n)

    run = await app.start(graph("forked", START >> first >> second))
    await run.result()
    fork = await run.fork("second#1", n=5)
    await fork.resume()
    await fork.result()
    assert [(o.path, o.text) for o in await fork.outputs()] == [("first#1", "first\n"), ("second#1", "second 5\n")]


def test_streams_are_as_they_were_when_the_last_app_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installing twice wraps once, who is closed twice counts once; what somebody has put over it is left alone."""
    monkeypatch.setattr(routing, "_users", [])  # apps that other tests have left behind as a kill would
    monkeypatch.setattr(routing, "_undo", [])
    before, sys.stdout = sys.stdout, io.StringIO()
    mine = sys.stdout
    one, other_one = object(), object()
    try:
        routing.install(one)
        routing.install(other_one)
        assert isinstance(sys.stdout, routing.Noted)
        assert sys.stdout._stream is mine
        routing.uninstall(one)
        routing.uninstall(one)
        assert isinstance(sys.stdout, routing.Noted)
        routing.uninstall(other_one)
        assert sys.stdout is mine
        routing.install(one)
        sys.stdout = other = io.StringIO()
        routing.uninstall(one)
        assert sys.stdout is other
    finally:
        sys.stdout = before
