"""Cancelling: a run that is told to stop stops, and one that is over stays as it was."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from flowbook.errors import RunCancelled, UsageError
from flowbook.graph.flow import graph
from flowbook.graph.step import Step, step
from flowbook.plan.records import Status
from flowbook.run import runner as runner_module
from flowbook.store.memory import MemoryStore
from tests.unit.run.apps import Apps, scenario, until


def sleeping(log: list[str]) -> Step:
    """A step that sleeps until it is cancelled, and says so."""

    @step(name="sleeping")
    async def body() -> None:
        log.append("begun")
        try:
            await asyncio.sleep(30)
        finally:
            log.append("ended")

    return body


@scenario
async def test_a_running_run_is_cancelled_and_not_completed(apps: Apps) -> None:
    """Its bodies are stopped, its status is cancelled here and elsewhere, its result says so."""
    log: list[str] = []
    app, other = await apps.open(), await apps.open()
    run = await app.start(graph("f", step(name="a")(lambda: 1) >> sleeping(log)))
    await until(lambda: log == ["begun"])
    assert await run.cancel(by="ana") is Status.RUNNING
    with pytest.raises(RunCancelled):
        await run.result()
    assert log == ["begun", "ended"]
    assert await run.status() is Status.CANCELLED
    assert apps.kinds(run) == ["a#1 finished", "cancel", "cancelled"]
    with pytest.raises(RunCancelled):
        await other.result(run.id)
    assert (await other.store.run(run.id)).error == "cancelled by ana"
    assert (await other.view(run.id)).cancelled_by == "ana"


@scenario
async def test_a_cancel_from_another_process_is_heard(apps: Apps) -> None:
    """Through the mailbox; the other one writes nothing into the journal."""
    log: list[str] = []
    app, other = await apps.open(), await apps.open()
    run = await app.start(graph("f", sleeping(log)))
    await until(lambda: log == ["begun"])
    await other.cancel(run.id)
    with pytest.raises(RunCancelled):
        await run.result()


@scenario
async def test_a_completed_run_stays_completed(apps: Apps) -> None:
    """The cancel that came too late changes neither status nor output."""
    app = await apps.open()
    run = await app.start(graph("f", step(name="a")(lambda: 1)))
    assert await run.result() == {"a": 1}
    before = apps.kinds(run)
    assert await run.cancel() is Status.COMPLETED
    assert await run.status() is Status.COMPLETED
    assert await run.result() == {"a": 1}
    assert apps.kinds(run) == before


@scenario
async def test_a_run_is_cancelled_once(apps: Apps) -> None:
    """Two cancels are one, and a third is told that it is over."""
    log: list[str] = []
    app = await apps.open()
    run = await app.start(graph("f", sleeping(log)))
    await until(lambda: log == ["begun"])
    await asyncio.gather(run.cancel(), run.cancel())
    with pytest.raises(RunCancelled):
        await run.result()
    assert await run.cancel() is Status.CANCELLED
    assert apps.kinds(run).count("cancelled") == 1
    with pytest.raises(UsageError, match="only a failed run is retried"):
        await run.retry()


@scenario
async def test_a_parked_run_is_cancelled_at_once(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a process that does not know its code."""
    monkeypatch.setattr(runner_module, "LINGER", 0.0)

    @step(retries=1, backoff=(60,))
    def flaky() -> None:
        raise ValueError

    app, other = await apps.open(), await apps.open()
    run = await app.start(graph("f", flaky))
    while await run.status() is not Status.WAITING:
        await asyncio.sleep(0.002)
    await apps.crash(app)  # or the mail wakes it, and it may be faster
    row = await other.cancel(run.id)
    assert row.status is Status.CANCELLED
    with pytest.raises(RunCancelled):
        await (await other.run(run.id)).result()


@scenario
async def test_a_cancel_of_a_parked_run_outlives_a_second_delivery(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail that comes between the claim and the end does not leave the run to nobody."""
    monkeypatch.setattr(runner_module, "LINGER", 0.0)

    @step(retries=1, backoff=(60,))
    def flaky() -> None:
        raise ValueError

    class Busy(MemoryStore):
        """Somebody else delivers right after each claim."""

        async def claim(self, *args: Any, **kwargs: Any) -> Any:
            rows = await super().claim(*args, **kwargs)
            for row in rows:
                await self.send(row.id, "cancel", "somebody", b"")
            return rows

    app, other = await apps.open(), await apps.open(store=Busy)
    run = await app.start(graph("f", flaky))
    while await run.status() is not Status.WAITING:
        await asyncio.sleep(0.002)
    await other.cancel(run.id)  # it may be the first app that claims and ends it: its sleeper is woken by the mail
    with pytest.raises(RunCancelled):
        await run.result(5)


@scenario
async def test_a_cancel_while_a_thread_runs_does_not_wait_for_it(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread cannot be stopped; what it returns is not written any more."""
    monkeypatch.setattr(runner_module, "STOP_GRACE", 0.01)
    begun: list[int] = []

    def body() -> int:
        begun.append(1)
        time.sleep(0.15)
        return 1

    app = await apps.open()
    run = await app.start(graph("f", step(name="a")(body) >> step(name="b")(lambda: 2)))
    await until(lambda: bool(begun))
    await run.cancel()
    with pytest.raises(RunCancelled):
        await run.result()
    await asyncio.sleep(0.2)
    assert apps.kinds(run) == ["cancel", "cancelled"]


@scenario
async def test_a_cancel_before_the_last_step_is_recorded_wins(apps: Apps) -> None:
    """Committed before the end, it is heard; the step's result is kept all the same or not at all."""
    app = await apps.open()

    @step
    async def cancels(ctx: Any) -> int:
        await app.cancel(ctx.run_id)
        return 1

    run = await app.start(graph("f", cancels))
    with pytest.raises(RunCancelled):
        await run.result()
    assert apps.kinds(run)[-2:] == ["cancel", "cancelled"]


@scenario
async def test_a_cancel_right_after_a_retry_is_not_lost(apps: Apps) -> None:
    """Both stand in one mailbox when the run is claimed."""
    begun: list[int] = []

    @step
    async def first() -> None:
        begun.append(1)
        if len(begun) == 1:
            raise ValueError("boom")
        await asyncio.sleep(30)

    app, other = await apps.open(), await apps.open()
    flow = graph("f", first)
    run = await app.start(flow)
    with pytest.raises(ValueError, match="boom"):
        await run.result()
    # The database as it is when both were delivered before anybody claimed the run.
    apps.database.send(run.id, "retry", "ana", b"")
    apps.database.send(run.id, "cancel", "ana", b"")
    await other.register(flow)
    resumed = await other.resume(run.id)
    with pytest.raises(RunCancelled):
        await resumed.result(timeout=3)
    assert apps.kinds(run)[-3:] == ["retried", "cancel", "cancelled"]
    assert begun == [1]
