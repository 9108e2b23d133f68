"""Exceptions: whatever a step raises is its failure, with the user's frames, and nothing of the engine breaks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

import flowbook.run.attempts
from flowbook.errors import StepFailed, StepTimeout
from flowbook.graph.flow import graph
from flowbook.graph.step import step
from flowbook.plan.records import Failure, Status
from flowbook.run.failures import failure_of
from tests.unit.run.apps import Apps, scenario


def deeper() -> None:
    """A frame of the user's."""
    raise ValueError("boom")


@step
def in_thread() -> None:
    deeper()


@step
async def in_loop() -> None:
    await asyncio.sleep(0)
    deeper()


@step(timeout=5)
def in_thread_limited() -> None:
    deeper()


@step(timeout=5)
async def in_loop_limited() -> None:
    deeper()


@pytest.mark.parametrize("it", [in_thread, in_loop, in_thread_limited, in_loop_limited], ids=lambda s: s.name)
@scenario
async def test_the_stored_traceback_has_the_users_frames_alone(apps: Apps, it: Any) -> None:
    """It begins in the step and ends where it was raised."""
    app = await apps.open()
    run = await app.start(graph("f", it))
    with pytest.raises(ValueError, match="boom"):
        await run.result()
    failure = (await run.view()).failure
    assert failure is not None
    assert (failure.type, failure.message, failure.code) == ("ValueError", "boom", "")
    lines = [line for line in failure.traceback.splitlines() if line.lstrip().startswith("File")]
    assert [line.rpartition(" in ")[2] for line in lines] == [it.name, "deeper"]
    assert all(__file__ in line for line in lines)
    assert failure.traceback.startswith("Traceback")
    assert failure.traceback.rstrip().endswith("ValueError: boom")


class Custom(Exception):
    """With arguments that pickle could not restore."""

    def __init__(self, a: int, *, b: int) -> None:
        super().__init__(f"custom {a} {b}")


class Mute(Exception):
    """Whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def stop_iteration() -> None:
    """What `next(iter([]))` raises."""
    next(iter([]))


def raising(error: Callable[[], BaseException]) -> Callable[[], None]:
    """A body that raises this."""

    def body() -> None:
        raise error()

    return body


def endless() -> None:
    """What ends in RecursionError."""
    endless()


ODD: dict[str, Callable[[], None]] = {
    "stop iteration": stop_iteration,
    "exit": lambda: sys.exit(3),
    "interrupt": raising(KeyboardInterrupt),
    "cancelled": raising(asyncio.CancelledError),
    "future cancelled": raising(concurrent.futures.CancelledError),
    "generator exit": raising(GeneratorExit),
    "custom": raising(lambda: Custom(1, b=2)),
    "mute": raising(Mute),
    "group": raising(lambda: ExceptionGroup("many", [ValueError("one"), KeyError("two")])),
    "nul and surrogate": raising(lambda: ValueError("a\x00b\ud800c")),
    "very long": raising(lambda: ValueError("x" * 1_000_000)),
    "recursion": endless,
}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("body", ODD.values(), ids=ODD)
@scenario
async def test_whatever_a_step_raises_fails_its_run_alone(
    apps: Apps, body: Callable[[], None], asynchronous: bool
) -> None:
    """No hang, no endless repetition, no end of the engine; the next run is as any other."""
    calls: list[int] = []

    def counted() -> None:
        calls.append(1)
        body()

    async def later() -> None:
        counted()

    flow = graph("odd", step(name="odd", retries=1, backoff=(0,))(later if asynchronous else counted))
    app = await apps.open()
    run = await app.start(flow)
    async with asyncio.timeout(5):
        while not (await run.status()).over:
            await asyncio.sleep(0.005)
    assert await run.status() is Status.FAILED
    assert len(calls) == 2
    failure = (await run.view()).failure
    assert failure is not None
    assert "\x00" not in failure.message + failure.traceback
    assert len(failure.traceback) < 25_000
    good = await app.start(graph("good", step(name="good")(lambda: 1)))
    assert await good.result() == {"good": 1}


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
@scenario
async def test_what_would_end_the_asker_is_told_as_a_failed_step(
    apps: Apps, error: type[BaseException], asynchronous: bool
) -> None:
    """`run.result()` never raises SystemExit or CancelledError because a step did."""

    def body() -> None:
        raise error("gone")

    async def later() -> None:
        body()

    app = await apps.open()
    run = await app.start(graph("f", step(name="s", timeout=5)(later if asynchronous else body)))
    with pytest.raises(StepFailed, match="gone") as caught:
        await run.result()
    assert isinstance(caught.value.__cause__, error)


@scenario
async def test_a_time_limit_is_told_without_the_engines_frames(apps: Apps) -> None:
    """Nor those of its cause."""

    @step(timeout=0.01)
    async def slow() -> None:
        await asyncio.sleep(5)

    app = await apps.open()
    run = await app.start(graph("f", slow))
    with pytest.raises(StepTimeout):
        await run.result()
    failure = (await run.view()).failure
    assert failure is not None
    assert "flowbook" + os.sep + "run" not in failure.traceback
    assert "time limit" in failure.traceback


def test_a_failure_can_be_made_of_any_exception() -> None:
    """Also of one that was never raised, or whose text raises."""
    assert failure_of(ValueError("x")) == Failure("ValueError", "x", "ValueError: x\n")
    assert failure_of(Mute()).message == "(its text cannot be had: RuntimeError)"
    assert failure_of(Custom(1, b=2)).type == f"{__name__}.Custom"


@scenario
async def test_an_error_in_the_engine_ends_that_run_loudly_and_no_other(
    apps: Apps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug of ours is told; it neither hangs the run nor stops the process."""
    app = await apps.open()
    flow = graph("f", step(name="s")(lambda: 1))
    with monkeypatch.context() as patch:
        patch.setattr(flowbook.run.runner, "decide", lambda *_: 1 / 0)
        run = await app.start(flow)
        with pytest.raises(ZeroDivisionError):
            await run.result()
        assert await run.status() is Status.FAILED
    assert await (await app.start(flow)).result() == {"s": 1}


@scenario
async def test_a_damaged_journal_fails_its_run_and_no_other(apps: Apps) -> None:
    """The process that claims it says so and goes on."""
    from dataclasses import replace

    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    flow = graph("f", step(name="s")(lambda: 1) >> step(name="wait")(wait))
    first = await apps.open()
    runs = [await first.start(flow), await first.start(flow)]
    while not all(apps.kinds(run) for run in runs):
        await asyncio.sleep(0.002)
    await apps.crash(first)
    kept = apps.database.runs[runs[0].id]
    kept.journal[0] = replace(kept.journal[0], payload=b"\x01garbage")
    second = await apps.open()
    await second.register(flow)
    resumed = [await second.resume(run.id) for run in runs]
    gate.set()
    assert await resumed[1].result() == {"s": 1, "wait": None}
    with pytest.raises(Exception, match=r"FB102"):
        await resumed[0].result()
    assert await resumed[0].status() is Status.FAILED
