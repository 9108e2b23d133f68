"""Budgets: which failures are worth another attempt, how many there are, and how long a run may take."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import timedelta
from typing import Any

import pytest

from flowbook.errors import RunTimedOut
from flowbook.graph.flow import graph
from flowbook.graph.imperative import flow
from flowbook.graph.pause import wait
from flowbook.graph.step import Step, step
from flowbook.plan.events import AttemptFailed, RunFailed, RunRetried
from flowbook.plan.records import Status
from flowbook.run import runner as runner_module
from tests.unit.run.apps import Apps, scenario, step_of, until
from tests.unit.run.test_retries import failing

pytestmark = pytest.mark.filterwarnings("error")


def raising(*errors: BaseException | None, name: str = "shaky", **options: Any) -> tuple[Step, list[float]]:
    """A step that raises these one after the other, the last one for ever; None: it returns."""
    calls: list[float] = []

    async def body() -> str:
        calls.append(time.monotonic())
        error = errors[min(len(calls), len(errors)) - 1]
        if error is not None:
            raise error
        return "done"

    return step(name=name, **options)(body), calls


# ----------------------------------------------------------------------------------------------------- which failures


@scenario
async def test_only_what_is_worth_it_is_tried_again(apps: Apps) -> None:
    """The first exception of another sort is final, however many attempts are left."""
    shaky, calls = raising(ConnectionError("lost"), ValueError("nonsense"), None, retries=5, backoff=(0,),
                           retry_on=ConnectionError)  # fmt: skip
    app = await apps.open()
    run = await app.start(graph("f", shaky))
    with pytest.raises(ValueError, match="nonsense"):
        await run.result()
    assert len(calls) == 2
    assert [e.final for e in apps.events(run.id) if isinstance(e, AttemptFailed)] == [False, True]


@scenario
async def test_what_is_hopeless_is_not_tried_again(apps: Apps) -> None:
    """``no_retry_on``, by name, with what is derived from it."""
    shaky, calls = raising(FileNotFoundError("gone"), retries=5, backoff=(0,), no_retry_on="FileNotFoundError")
    app = await apps.open()
    run = await app.start(graph("f", shaky))
    with pytest.raises(FileNotFoundError, match="gone"):
        await run.result()
    assert len(calls) == 1


@scenario
async def test_defaults_of_the_flow_are_what_a_step_is_tried_by(apps: Apps) -> None:
    """Declared at the flow, done at the step; what a step says for itself stays."""
    shaky, calls = raising(OSError("once"), OSError("twice"), None)
    stubborn, stubborn_calls = raising(OSError("no"), name="stubborn", retries=0)
    app = await apps.open()
    run = await app.start(graph("f", shaky >> stubborn, retries=2, backoff=(0.02,), retry_on=OSError))
    with pytest.raises(OSError, match="no"):
        await run.result()
    assert (len(calls), len(stubborn_calls)) == (3, 1)
    assert all(b - a >= 0.02 for a, b in itertools.pairwise(calls)), "the flow's back-off was ignored"


# ------------------------------------------------------------------------------------------------------- the pitfalls


@scenario
async def test_back_off_is_not_declared_and_ignored(apps: Apps) -> None:
    """The journal says when the next attempt may begin, and none begins before that."""
    shaky, calls = raising(OSError(), OSError(), None, retries=3, backoff=(0.05, 0.1))
    app = await apps.open()
    run = await app.start(graph("f", shaky))
    began = time.monotonic()
    await run.result()
    assert [b - a >= least for (a, b), least in zip(itertools.pairwise(calls), (0.05, 0.1), strict=True)] == [True] * 2
    assert time.monotonic() - began >= 0.15
    assert all(e.retry_at is not None for e in apps.events(run.id) if isinstance(e, AttemptFailed))


@scenario
async def test_a_step_that_succeeds_runs_once_however_many_attempts_it_has(apps: Apps) -> None:
    """Three attempts are the most, not the number."""
    steady, calls = failing(0, retries=3)
    app = await apps.open()
    run = await app.start(graph("f", steady))
    await run.result()
    assert len(calls) == 1
    assert apps.kinds(run) == ["flaky#1 finished", "completed"]


@scenario
async def test_a_raised_exception_is_never_stored_as_a_success(apps: Apps) -> None:
    """Neither one that was raised nor one that ended the process, and a returned exception is a value like any other
    that cannot be carried."""
    app = await apps.open()
    for error in (ValueError("no"), SystemExit(0), KeyboardInterrupt()):
        shaky, _ = raising(error)
        run = await app.start(graph("f", shaky))
        with pytest.raises(BaseException):  # noqa: B017, PT011 - whichever it is
            await run.result()
        assert apps.kinds(run) == ["shaky#1 attempt", "failed"]
    returned = step(name="returned")(lambda: ValueError("as a value"))
    run = await app.start(graph("g", returned))
    with pytest.raises(Exception, match="cannot"):
        await run.result()
    assert apps.kinds(run) == ["returned#1 attempt", "failed"]


@scenario
async def test_the_budget_survives_a_park_and_a_crash(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is parked between its attempts, loaded again, and then carried on elsewhere counts on."""
    monkeypatch.setattr(runner_module, "LINGER", 0.0)
    shaky, calls = raising(OSError("always"), retries=3, backoff=(0.02, 0.5, 0.02))
    flow = graph("f", shaky)
    first = await apps.open()
    run = await first.start(flow)
    await until(lambda: apps.kinds(run) == ["shaky#1 attempt"] * 2)
    await apps.crash(first)
    second = await apps.open()
    await second.register(flow)
    handle = await second.resume(run.id)
    with pytest.raises(OSError, match="always"):
        await handle.result()
    assert len(calls) == 4, "the budget was reset by the replay"
    assert [e.final for e in apps.events(run.id) if isinstance(e, AttemptFailed)] == [False] * 3 + [True]
    assert calls[2] - calls[1] >= 0.45, "the back-off was forgotten with the process"


@scenario
async def test_a_retry_of_the_run_goes_on_behind_siblings_that_are_done(apps: Apps) -> None:
    """Neither what came before nor what ran beside it is done again, and the step has its whole budget anew."""
    done: list[str] = []

    def quick(name: str) -> Step:
        return step(name=name)(lambda: done.append(name))

    shaky, calls = raising(*[OSError("no")] * 2, OSError("no"), None, retries=1, backoff=(0,))
    app = await apps.open()
    run = await app.start(graph("f", quick("a") >> [quick("b"), shaky, quick("c") >> quick("d")] >> quick("e")))
    with pytest.raises(OSError, match="no"):
        await run.result()
    assert len(calls) == 2
    await run.retry()
    await run.result()
    assert len(calls) == 4
    assert sorted(done) == ["a", "b", "c", "d", "e"]


# ------------------------------------------------------------------------------------------- how long a run may take


@scenario
async def test_a_run_past_its_time_is_stopped_and_fails_with_its_own_code(apps: Apps) -> None:
    """Bodies under way are cancelled; who waits for the result is told why."""
    stopped: list[str] = []

    async def forever(name: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(name)

    @step
    async def left() -> None:
        await forever("left")

    @step
    async def right() -> None:
        await forever("right")

    begin, done = failing(0)
    app = await apps.open()
    run = await app.start(graph("f", begin >> [left, right], run_timeout=0.15))
    with pytest.raises(RunTimedOut, match=r"longer than the 150ms"):
        await run.result()
    assert sorted(stopped) == ["left", "right"]
    assert len(done) == 1
    view = await run.view()
    assert (view.status, view.failed_path) == (Status.FAILED, "")
    assert view.failure is not None
    assert view.failure.code == "FB313"
    assert (await app.store.run(run.id)).error == f"{view.failure.type}: {view.failure.message}"
    elsewhere = await apps.open()
    with pytest.raises(RunTimedOut):
        await (await elsewhere.run(run.id)).result()


@scenario
async def test_a_run_within_its_time_never_notices_it(apps: Apps) -> None:
    """No row more than without."""
    begin, _ = failing(0)
    app = await apps.open()
    run = await app.start(graph("f", begin, run_timeout="1h"))
    await run.result()
    assert apps.kinds(run) == ["flaky#1 finished", "completed"]


@scenario
async def test_a_run_that_waits_for_a_signal_is_woken_to_run_out_of_time(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is parked until then and not for ever, and costs nothing meanwhile."""
    begin, _ = failing(0)
    monkeypatch.setattr(runner_module, "LINGER", 0.01)
    app = await apps.open()
    run = await app.start(graph("f", begin >> wait("go"), run_timeout=0.5))
    await until(lambda: apps.database.runs[run.id].row.status is Status.WAITING)
    row = apps.database.runs[run.id].row
    assert row.started_at is not None
    assert abs(row.due_at - row.started_at - timedelta(seconds=0.5)) < timedelta(seconds=0.2)
    with pytest.raises(RunTimedOut):
        await run.result()


@scenario
async def test_a_crash_does_not_begin_the_time_of_a_run_anew(apps: Apps) -> None:
    """It counts from the run's beginning, whoever carries it."""
    entered: list[float] = []

    @step
    async def slow() -> None:
        entered.append(time.monotonic())
        await asyncio.sleep(60)

    flow = graph("f", slow, run_timeout=1.6)
    first = await apps.open()
    run = await first.start(flow)
    await until(lambda: len(entered) == 1)
    await asyncio.sleep(0.8)
    await apps.crash(first)
    second = await apps.open()
    await second.register(flow)
    handle = await second.resume(run.id)
    with pytest.raises(RunTimedOut):
        await handle.result()
    ended = apps.database.runs[run.id].row
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert timedelta(seconds=1.6) <= ended.ended_at - ended.started_at
    assert time.monotonic() - entered[-1] < 1.6, "the second process gave it the whole time again"


@scenario
async def test_a_retry_gives_a_run_as_long_again(apps: Apps) -> None:
    """The time that was spent before it does not fail it at once; a snapshot or a reload changes nothing of that."""
    calls: list[float] = []

    @step
    async def slow_at_first() -> str:
        calls.append(time.monotonic())
        await asyncio.sleep(60 if len(calls) == 1 else 0.15)
        return "done"

    begin, done = failing(0)
    app = await apps.open()
    run = await app.start(graph("f", begin >> slow_at_first, run_timeout=1.0))
    with pytest.raises(RunTimedOut):
        await run.result()
    await run.retry()
    assert (await run.result())["slow_at_first"] == "done"
    assert (len(done), len(calls)) == (1, 2)
    assert next(e for e in apps.events(run.id) if isinstance(e, RunRetried)).at is not None
    assert step_of(await run.view(), "slow_at_first#1").state == "finished"


@scenario
async def test_a_failure_goes_before_the_time_that_its_siblings_waste(apps: Apps) -> None:
    """The step that failed is the reason, also if a sibling then runs into the limit; and the sibling is stopped."""
    stopped: list[int] = []

    @step
    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(1)

    shaky, _ = raising(ValueError("the reason"))
    begin, _ = failing(0)
    app = await apps.open()
    run = await app.start(graph("f", begin >> [shaky, hangs], run_timeout=0.3))
    with pytest.raises(ValueError, match="the reason"):
        await run.result()
    assert stopped == [1]
    assert [e.path for e in apps.events(run.id) if isinstance(e, RunFailed)] == ["shaky#1"]


@scenario
async def test_an_imperative_flow_runs_out_of_its_time_as_a_whole(apps: Apps) -> None:
    """Its waits count, also while nobody carries it; the limit is part of its code."""
    app = await apps.open()

    @flow(run_timeout=0.4)
    async def order(ctx: Any) -> None:
        await ctx.sleep("1h")

    assert order.run_timeout == 0.4
    run = await app.start(order)
    with pytest.raises(RunTimedOut):
        await run
