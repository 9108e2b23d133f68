"""Schedules and fires: one run per moment, however many workers race for it, and what overlap policies come to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from flowbook.plan.query import RunQuery
from flowbook.plan.records import Status
from flowbook.plan.schedules import Fire, Overlap, Schedule
from flowbook.ports import NewFire, NewRun, Settlement, Store
from tests.contract.worlds import CODE, COMPLETED, World, new, scenario

DAWN = datetime(2026, 3, 1, 6, tzinfo=UTC)


def at(day: int) -> datetime:
    """A moment of the daily schedule."""
    return DAWN + timedelta(days=day)


def daily(overlap: Overlap = "allow") -> Schedule:
    """A schedule whose first moment is past."""
    return Schedule("default", "daily", "fit", cron="0 6 * * *", next_at=DAWN, input=b"given", overlap=overlap)


def run_of(day: int) -> NewRun:
    """The run of a moment."""
    return new(trigger="cron", metadata={"schedule": "daily", "day": day}, searchable={"day": day})


def starts(*days: int) -> list[NewFire]:
    """Moments that are to be run."""
    return [NewFire(at(day), "started", run_of(day)) for day in days]


async def turn_of(store: Store) -> Schedule:
    """The schedule as it is now."""
    (found,) = await store.timetable.schedules("default", "daily")
    return found


async def end(store: Store, fire: Fire) -> None:
    """Let the run of a fire end well."""
    assert fire.run_id is not None
    (row,) = await store.claim(CODE, only=fire.run_id)
    assert await store.settle(Settlement(row.id, row.epoch, Status.COMPLETED, row.mail, COMPLETED, due_in=None))


@scenario
async def test_a_schedule_is_put_found_changed_paused_and_dropped(world: World) -> None:
    """What was put is there as it was; putting it again with the same times keeps its next moment and its pause."""
    store = await world.worker()
    table = store.timetable
    made = await table.put(replace(daily(), tz="Europe/Berlin", priority=3, queue="gpu", fingerprint="f1", window=60.0))
    assert replace(made, created_at=None) == replace(
        daily(), tz="Europe/Berlin", priority=3, queue="gpu", fingerprint="f1", window=60.0, turn=made.turn
    )
    assert [s.name for s in await table.schedules("default")] == ["daily"]
    assert not await table.schedules("other")
    assert await table.pause("default", "daily", True, None)
    again = await table.put(replace(made, on_missed="all", next_at=at(9)))
    assert (again.on_missed, again.next_at, again.paused_at is None) == ("all", DAWN, False)
    assert not (await table.due("default", 10)).due, "what is paused is never due"
    assert await table.pause("default", "daily", False, at(5))
    assert ((await turn_of(store)).next_at, (await turn_of(store)).paused_at) == (at(5), None)
    moved = await table.put(replace(made, cron="0 7 * * *", next_at=at(8)))
    assert moved.next_at == at(8), "other times begin anew"
    assert await table.drop("default", "daily")
    assert not await table.drop("default", "daily")
    assert not await table.pause("default", "daily", True, None)


@scenario
async def test_what_is_due_is_told_with_the_databases_time_and_when_the_next_one_comes(world: World) -> None:
    """A look says what is due, what time it is there, and how long to wait."""
    store = await world.worker()
    await store.timetable.put(daily())
    now = await store.now()
    await store.timetable.put(replace(daily(), name="later", next_at=now + timedelta(hours=1)))
    tick = await store.timetable.due("default", 10)
    assert [d.schedule.name for d in tick.due] == ["daily"]
    assert abs((tick.now - now).total_seconds()) < 60
    assert tick.wait is not None
    assert tick.wait < 0
    assert (await store.timetable.due("other", 10)).due == []


@scenario
async def test_of_many_workers_one_fires_and_a_moment_has_one_run(world: World) -> None:
    """Eight workers with the same turn: one does it, the others are told so; the same moment never has two runs."""
    workers = [await world.worker() for _ in range(8)]
    await workers[0].timetable.put(daily())
    seen = await turn_of(workers[0])
    told = await asyncio.gather(*(w.timetable.fire(seen, at(2), starts(0, 1)) for w in workers))
    (done,) = [fires for fires in told if fires is not None]
    assert [(f.fire_time, f.verdict) for f in done] == [(at(0), "started"), (at(1), "started")]
    runs = await workers[0].runs(RunQuery("default", trigger="cron", sort="created_at", descending=False))
    assert {r.id for r in runs} == {f.run_id for f in done}
    assert all(r.status is Status.PENDING and r.worker_id is None and r.epoch == 0 for r in runs)
    again = await workers[1].timetable.fire(await turn_of(workers[1]), at(3), starts(1, 2))
    assert again is not None
    assert [f.fire_time for f in again] == [at(2)], "a moment that was dealt with is left out"
    assert len(await workers[0].runs(RunQuery("default", trigger="cron"))) == 3
    assert (await turn_of(workers[0])).next_at == at(3)
    history = await workers[0].timetable.fires("default", "daily", 2)
    assert [f.fire_time for f in history] == [at(2), at(1)]
    assert [f.fire_time for f in await workers[0].timetable.fires("default", "daily", 9, at(1))] == [at(0)]


@scenario
async def test_where_runs_may_not_overlap_the_new_one_is_skipped(world: World) -> None:
    """overlap="skip": one run, and nothing more until it is over; what was skipped is remembered."""
    store = await world.worker()
    await store.timetable.put(daily("skip"))
    first = await store.timetable.fire(await turn_of(store), at(2), starts(0, 1))
    assert first is not None
    assert [f.verdict for f in first] == ["started", "skipped"]
    (due,) = (await store.timetable.due("default", 1)).due
    assert due.active == (first[0].run_id,)
    second = await store.timetable.fire(await turn_of(store), at(3), starts(2))
    assert second is not None
    assert [(f.verdict, f.run_id) for f in second] == [("skipped", None)]
    await end(store, first[0])
    third = await store.timetable.fire(await turn_of(store), at(4), starts(3))
    assert third is not None
    assert [f.verdict for f in third] == ["started"]


@scenario
async def test_queued_fires_start_one_after_the_other(world: World) -> None:
    """overlap="queue": each starts when the one before is over, in order, by one worker."""
    store, other = await world.worker(), await world.worker()
    await store.timetable.put(daily("queue"))
    fires = await store.timetable.fire(await turn_of(store), at(3), starts(0, 1, 2))
    assert fires is not None
    assert [f.verdict for f in fires] == ["started", "queued", "queued"]
    (due,) = (await store.timetable.due("default", 5)).due
    assert (due.active, due.queued) == ((fires[0].run_id,), at(1))
    assert not await store.timetable.release(due.schedule, *starts(1)), "the first one still runs"
    await end(store, fires[0])
    (due,) = (await store.timetable.due("default", 5)).due
    seen = due.schedule
    won = await asyncio.gather(*(w.timetable.release(seen, *starts(1)) for w in (store, other)))
    assert sorted(won) == [False, True]
    assert not await store.timetable.release(await turn_of(store), *starts(2))
    history = await store.timetable.fires("default", "daily", 9)
    assert [f.verdict for f in history] == ["queued", "started", "started"]
    assert len(await store.runs(RunQuery("default", trigger="cron"))) == 2


@scenario
async def test_a_backfill_runs_under_a_pause_and_lines_up_where_runs_may_not_overlap(world: World) -> None:
    """Backfilled moments are the schedule's own: those that have fired are left out, the others never overlap."""
    store = await world.worker()
    await store.timetable.put(daily("skip"))
    await store.timetable.fire(await turn_of(store), at(9), starts(1))
    await store.timetable.pause("default", "daily", True, None)
    assert await store.timetable.fire(await turn_of(store), at(9), starts(2)) is None, "a paused schedule does not fire"
    done = await store.timetable.fire(await turn_of(store), at(9), starts(0, 1, 2), backfill=True)
    assert done is not None
    assert [(f.fire_time, f.verdict) for f in done] == [(at(0), "queued"), (at(2), "queued")]


@scenario
async def test_a_moment_that_cannot_be_run_is_noted_with_the_reason(world: World) -> None:
    """Missed and refused moments have a row and no run."""
    store = await world.worker()
    await store.timetable.put(daily())
    wanted = [NewFire(at(0), "missed"), NewFire(at(1), "refused", None, "no such flow"), *starts(2)]
    done = await store.timetable.fire(await turn_of(store), None, wanted)
    assert done is not None
    assert [(f.verdict, f.note, f.run_id is not None) for f in done] == [
        ("missed", "", False), ("refused", "no such flow", False), ("started", "", True)
    ]  # fmt: skip
    assert (await turn_of(store)).next_at is None
