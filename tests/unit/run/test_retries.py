"""Retries: how often, when, and what is final at once."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from flowbook.errors import BindingError, StepFailed, StepTimeout
from flowbook.graph.flow import graph
from flowbook.graph.step import Backoff, Step, step
from flowbook.plan.events import AttemptFailed
from flowbook.plan.records import Status
from flowbook.run import attempts as attempts_module
from flowbook.run import runner as runner_module
from tests.unit.run.apps import Apps, scenario, step_of


def failing(times: int, *, asynchronous: bool = False, **options: Any) -> tuple[Step, list[float]]:
    """A step that raises this often, then returns; and when it was called."""
    calls: list[float] = []

    def body() -> str:
        calls.append(time.monotonic())
        if len(calls) <= times:
            raise ValueError(f"failure {len(calls)}")
        return "done"

    async def later() -> str:
        return body()

    return step(name="flaky", **options)(later if asynchronous else body), calls


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("retries", [0, 1, 3])
@scenario
async def test_retries_are_further_attempts_no_more_and_no_fewer(apps: Apps, retries: int, asynchronous: bool) -> None:
    """`retries=3` is four calls; the last exception is the run's."""
    flaky, calls = failing(99, asynchronous=asynchronous, retries=retries, backoff=(0.001,))
    app = await apps.open()
    run = await app.start(graph("f", flaky))
    with pytest.raises(ValueError, match=f"failure {retries + 1}"):
        await run.result()
    assert len(calls) == retries + 1
    step_view = step_of(await run.view(), "flaky#1")
    assert [a.number for a in step_view.attempts] == list(range(1, retries + 2))
    assert [e.final for e in apps.events(run.id) if isinstance(e, AttemptFailed)] == [False] * retries + [True]


@scenario
async def test_an_attempt_that_succeeds_ends_the_retries(apps: Apps) -> None:
    """And its result is the step's; the exceptions before it are in the journal and nowhere else."""
    flaky, calls = failing(2, retries=5, backoff=(0.001,))
    app = await apps.open()
    run = await app.start(graph("f", flaky))
    assert await run.result() == {"flaky": "done"}
    assert len(calls) == 3
    assert apps.kinds(run) == ["flaky#1 attempt", "flaky#1 attempt", "flaky#1 finished", "completed"]
    view = await run.view()
    assert view.failure is None
    assert [a.failure and a.failure.message for a in step_of(view, "flaky#1").attempts] == [
        "failure 1",
        "failure 2",
        None,
    ]


@scenario
async def test_back_off_is_waited_for_as_declared(apps: Apps) -> None:
    """A list of seconds in order, the last one repeated."""
    flaky, calls = failing(3, asynchronous=True, retries=3, backoff=(0.03, 0.09))
    app = await apps.open()
    await (await app.start(graph("f", flaky))).result()
    waits = [b - a for a, b in itertools.pairwise(calls)]
    assert 0.03 <= waits[0] < 0.09
    assert waits[1] >= 0.09
    assert waits[2] >= 0.09


@scenario
async def test_a_growing_back_off_grows(apps: Apps) -> None:
    """`Backoff(initial, factor, max)`."""
    flaky, calls = failing(3, asynchronous=True, retries=3, backoff=Backoff(0.02, 3, 0.05, jitter=False))
    app = await apps.open()
    await (await app.start(graph("f", flaky))).result()
    waits = [b - a for a, b in itertools.pairwise(calls)]
    assert all(wait >= least for wait, least in zip(waits, (0.02, 0.05, 0.05), strict=True))


@scenario
async def test_a_short_back_off_keeps_the_run_where_it_is(apps: Apps) -> None:
    """Parking and claiming again would cost two statements and a whole fold per attempt."""
    flaky, _ = failing(3, retries=3, backoff=(0.005,))
    app = await apps.open()
    run = await app.start(graph("f", flaky))
    await run.result()
    claims = (await app.store.run(run.id)).claims
    assert claims == (4 if apps.always_suspend else 1)


@scenario
async def test_a_long_back_off_parks_the_run_and_costs_nothing(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits in the store, with its time, and not in this process."""
    monkeypatch.setattr(runner_module, "LINGER", 0.01)
    flaky, calls = failing(1, retries=1, backoff=(0.2,))
    app = await apps.open()
    run = await app.start(graph("f", flaky))
    while await run.status() is not Status.WAITING:
        await asyncio.sleep(0.002)
    row = await app.store.run(run.id)
    assert row.worker_id is None
    assert row.current == "flaky#1"
    assert not app.engine.carries(run.id)
    assert await run.result() == {"flaky": "done"}
    assert calls[1] - calls[0] >= 0.2


@scenario
async def test_siblings_go_on_while_one_backs_off(apps: Apps) -> None:
    """A retry is a time to wait until, not a sleep of the run."""
    ended: list[str] = []

    def quick(name: str) -> Step:
        return step(name=name)(lambda: ended.append(name))

    flaky, _ = failing(1, retries=1, backoff=(0.15,))
    last = step(name="last")(lambda: ended.append("last"))
    app = await apps.open()
    await (await app.start(graph("f", quick("a") >> [flaky, quick("b") >> quick("c")] >> last))).result()
    assert ended == ["a", "b", "c", "last"]


@scenario
async def test_a_parameter_that_nothing_fills_is_final(apps: Apps) -> None:
    """Another attempt would have the same end."""
    calls: list[int] = []

    @step(retries=5, backoff=(0,))
    def wants(nothing: int) -> None:
        calls.append(nothing)

    app = await apps.open()
    run = await app.start(graph("f", wants))
    with pytest.raises(BindingError, match=r"'wants' wants 'nothing'"):
        await run.result()
    assert not calls
    assert apps.kinds(run) == ["wants#1 attempt", "failed"]


# ------------------------------------------------------------------------------------------------------- time limits


@scenario
async def test_an_async_step_past_its_time_is_stopped_and_tried_again(apps: Apps) -> None:
    """The limit is per attempt."""
    calls: list[str] = []

    @step(retries=1, backoff=(0,), timeout=0.03)
    async def slow() -> str:
        calls.append("begun")
        if len(calls) == 1:
            try:
                await asyncio.sleep(5)
            finally:
                calls.append("stopped")
        return "done"

    app = await apps.open()
    run = await app.start(graph("f", slow))
    assert await run.result() == {"slow": "done"}
    assert calls == ["begun", "stopped", "begun"]
    failure = step_of(await run.view(), "slow#1").attempts[0].failure
    assert failure is not None
    assert failure.code == "FB302"
    assert "time limit of 0.03 s" in failure.message


@scenario
async def test_a_sync_step_past_its_time_is_tried_again_only_when_its_thread_has_ended(apps: Apps) -> None:
    """Two attempts never run beside each other."""
    now: list[int] = []
    most: list[int] = []

    @step(retries=1, backoff=(0,), timeout=0.02)
    def slow() -> None:
        now.append(1)
        most.append(len(now))
        time.sleep(0.06)
        now.pop()

    app = await apps.open()
    run = await app.start(graph("f", slow))
    with pytest.raises(StepTimeout, match=r"'slow' ran past its time limit"):
        await run.result()
    assert most == [1, 1]


@scenario
async def test_a_thread_that_cannot_be_stopped_fails_at_once(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the grace the run fails, and the text says what would help."""
    monkeypatch.setattr(attempts_module, "GRACE", 0.02)
    calls: list[int] = []

    @step(retries=5, backoff=(0,), timeout=0.01)
    def stuck() -> None:
        calls.append(1)
        time.sleep(0.2)

    app = await apps.open()
    run = await app.start(graph("f", stuck))
    with pytest.raises(StepFailed, match=r'executor="process"'):
        await run.result()
    assert calls == [1]


@scenario
async def test_a_steps_own_timeout_error_is_its_own(apps: Apps) -> None:
    """Not mistaken for the limit."""

    @step(timeout=5)
    async def fetch() -> None:
        raise TimeoutError("the service did not answer")

    app = await apps.open()
    with pytest.raises(TimeoutError, match="the service did not answer"):
        await (await app.start(graph("f", fetch))).result()
