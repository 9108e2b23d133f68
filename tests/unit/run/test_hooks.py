"""Hooks and plugins: told of everything, felt by nobody; and logs that know their step."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from importlib.metadata import EntryPoint
from typing import Any

import pytest

import flowbook as fb
from flowbook import hooks
from flowbook.errors import UsageError
from flowbook.logs import JsonLines, RunIds
from flowbook.observe.events import RunCompleted, RunEvent, StepFinished
from flowbook.testing import memory_app

LIMIT = 20.0


@fb.step
def one() -> int:
    return 1


@fb.step
async def two(one: int) -> dict[str, Any]:
    return {"sum": one + 1}


flow = fb.graph("hooked", one >> two)


async def until(true: Any) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(LIMIT):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_hook_is_told_of_each_event_of_its_kind_in_order() -> None:
    """Plain functions and coroutine functions, by kind, with values and positions, until they are stopped."""
    async with memory_app() as app:
        told: list[Any] = []
        awaited: list[Any] = []
        everything: list[RunEvent] = []

        async def later(event: Any) -> None:
            await asyncio.sleep(0)
            awaited.append((event.path, event.result))

        @app.on(StepFinished)
        def hook(event: StepFinished) -> None:
            told.append((event.path, event.result, threading.current_thread().name.startswith("flowbook-hook")))

        stop = app.on(StepFinished, later)
        app.on(RunEvent, everything.append)
        run = await app.start(flow)
        await run.result(timeout=LIMIT)
        await until(lambda: everything and isinstance(everything[-1], RunCompleted))
        await until(lambda: len(told) == len(awaited) == 2)
        assert told == [("one#1", 1, True), ("two#1", {"sum": 2}, True)]
        assert awaited == [("one#1", 1), ("two#1", {"sum": 2})]
        assert {event.run_id for event in everything} == {run.id}
        assert [e.position async for e in run.stream()] == [e.position for e in everything]
        stop()
        await (await app.start(flow)).result(timeout=LIMIT)
        await until(lambda: len(told) == 4)
        assert len(awaited) == 2


async def test_a_hook_that_raises_or_hangs_hurts_no_run_and_is_told_of_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs go on, other hooks go on, the log has one line per hook and way; closing does not wait for a hung one."""
    monkeypatch.setattr(hooks, "MOST_WAITING", 3)
    monkeypatch.setattr(hooks, "GRACE", 0.1)
    never = threading.Event()
    told: list[Any] = []
    async with memory_app() as app:

        def broken(event: Any) -> None:
            raise SystemExit("broken")

        async def also_broken(event: Any) -> None:
            raise ValueError("also broken")

        def hangs(event: Any) -> None:
            never.wait()

        for hook in (broken, also_broken, hangs):
            app.on(RunEvent, hook)
        app.on(StepFinished, told.append)
        for _ in range(5):
            assert await (await app.start(flow)).result(timeout=LIMIT) == {"one": 1, "sum": 2}
            await asyncio.sleep(0)
        await until(lambda: sum("raised" in m for m in caplog.messages) == 2)
        assert sum("events behind" in m and "<locals>.hangs for" in m for m in caplog.messages) == 1
    assert len([m for m in caplog.messages if "also broken" in m]) == 1
    assert len([m for m in caplog.messages if "SystemExit" in m]) == 1
    assert any("hangs" in m and "has missed" in m for m in caplog.messages)
    assert told
    never.set()


async def test_what_is_no_event_or_no_function_is_refused() -> None:
    """The mistake is told where it is made."""
    async with memory_app() as app:
        given: Any = app
        with pytest.raises(UsageError, match=r"fb\.events"):
            given.on("StepFinished", print)
        with pytest.raises(UsageError, match="no function"):
            given.on(StepFinished, 3)


async def test_without_hooks_nothing_is_made_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """No event is made, nothing is queued: an append asks one question."""

    def refuse(*_: Any) -> None:
        raise AssertionError("somebody was told")

    monkeypatch.setattr(hooks.Hooks, "heard", refuse)
    async with memory_app() as app:
        assert not app.hooks
        await (await app.start(flow)).result(timeout=LIMIT)


async def test_plugins_are_called_with_the_app_and_a_broken_one_is_left_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entry points of the group flowbook.plugins; one that cannot be loaded or raises hurts nobody."""
    found = [
        EntryPoint("good", "tests.unit.run.test_hooks:plugin", hooks.PLUGINS),
        EntryPoint("raises", "tests.unit.run.test_hooks:raising_plugin", hooks.PLUGINS),
        EntryPoint("missing", "no_such_module:plugin", hooks.PLUGINS),
    ]
    monkeypatch.setattr(hooks, "entry_points", lambda group: found if group == hooks.PLUGINS else [])
    async with memory_app() as app:
        assert hooks.load_plugins(app) == ["good"]
        assert app.hooks
    assert [m for m in caplog.messages if "left out" in m] == [
        "flowbook: plugin 'raises' is left out", "flowbook: plugin 'missing' is left out",
    ]  # fmt: skip


def plugin(app: Any) -> None:
    """A plugin, as a package brings it."""
    app.on(StepFinished, lambda event: None)


def raising_plugin(app: Any) -> None:
    """One that does not work here."""
    raise RuntimeError("not here")


@fb.step
def logs_in_a_thread() -> None:
    logging.getLogger("shop").info("sold %d", 3, extra={"customer": "ana"})


async def test_a_record_of_a_step_knows_its_run_path_and_attempt() -> None:
    """As one line of JSON, from a thread, with what `extra` has; elsewhere the ids are empty."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.addFilter(RunIds())
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("shop")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        async with memory_app() as app:
            run = await app.start(fb.graph("logging", logs_in_a_thread))
            await run.result(timeout=LIMIT)
        logger.warning("elsewhere")
    finally:
        logger.removeHandler(handler)
    first, second = map(json.loads, lines)
    assert (first["run_id"], first["path"], first["attempt"]) == (str(run.id), "logs_in_a_thread#1", 1)
    assert (first["message"], first["customer"], first["level"], first["logger"]) == ("sold 3", "ana", "INFO", "shop")
    assert (second["message"], second.get("run_id")) == ("elsewhere", None)
