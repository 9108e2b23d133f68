"""Many runs at once: started together, failed, looked at by what failed them, and retried together."""

from __future__ import annotations

import asyncio

import pytest

import flowbook as fb
from flowbook.errors import StateError, UsageError
from flowbook.plan.query import RunQuery
from flowbook.plan.records import Status
from tests.unit.run.apps import Apps, scenario

broken = True


@fb.step
async def pay(n: int) -> int:
    if broken and n % 2:
        raise ConnectionError("the bank is down")
    if broken and n == 4:
        raise ValueError("no such account")
    return n


paying = fb.graph("paying", pay)


@pytest.fixture
def apps() -> Apps:
    """Apps on an empty database."""
    global broken
    broken = True
    return Apps()


@scenario
async def test_a_batch_is_started_in_order_and_sent_again_as_a_whole(apps: Apps) -> None:
    """A run per input; under keys a second sending finds the first one's runs; workers carry them."""
    app = await apps.open()
    inputs = [{"n": 2 * n} for n in range(3, 1203)]
    keys = [f"k{n}" for n in range(1200)]
    runs = await app.start_many(paying, inputs, keys=keys, priority=5)
    again = await app.start_many("paying", inputs, keys=keys)
    assert [r.id for r in runs] == [r.id for r in again]
    row = await app.store.run(runs[7].id)
    assert (row.status, row.key, row.priority) == (Status.PENDING, "k7", 5)
    work = asyncio.create_task(app.work(concurrency=64))
    assert (await runs[-1].result(15))["pay"] == inputs[-1]["n"]
    work.cancel()


@scenario
async def test_nothing_of_a_batch_is_started_if_one_input_does_not_fit(apps: Apps) -> None:
    """The place of the wrong one is told, and no run is there."""

    @fb.flow
    async def strict(ctx: fb.Context, n: int) -> int:
        return n

    app = await apps.open()
    with pytest.raises(StateError, match="input 1 of 3, and nothing was started"):
        await app.start_many(strict, [{"n": 1}, {"m": 2}, {"n": 3}])
    with pytest.raises(UsageError, match="2 keys for 1 inputs"):
        await app.start_many(strict, [{"n": 1}], keys=["a", "b"])
    assert await app.store.runs(RunQuery("default")) == []


@scenario
async def test_failed_runs_are_shown_by_what_failed_them_and_retried_together(apps: Apps) -> None:
    """Five runs of two errors are two letters; those that match are retried, and go on from the step that failed."""
    global broken
    app = await apps.open()
    runs = await app.start_many(paying, [{"n": n} for n in range(6)], carry=True)
    for run in runs:
        with pytest.raises((ConnectionError, ValueError)) if (await run.view()).input["n"] in (1, 3, 4, 5) else _fine():
            await run.result()
    letters = await app.dead()
    assert [(one.flow, len(one.runs)) for one in letters] == [("paying", 3), ("paying", 1)]
    assert "the bank is down" in letters[0].error
    broken = False
    done = await app.retry_all(match="bank")
    assert (sorted(done.retried), done.refused) == (sorted(letters[0].runs), {})
    for run in runs[1::2]:
        assert (await run.result())["pay"] % 2
    assert [len(one.runs) for one in await app.dead()] == [1]


class _fine:  # noqa: N801  stands where pytest.raises would
    def __enter__(self) -> None: ...
    def __exit__(self, *exc: object) -> None: ...
