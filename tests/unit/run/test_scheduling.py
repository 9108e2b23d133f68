"""Schedules as users make them and workers fire them, on a store in memory."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import flowbook as fb
from flowbook.app import App
from flowbook.errors import CodeMissing, DeclarationError, ScheduleNotFound, ScheduleRefused, StateError, UsageError
from flowbook.graph.flow import Graph
from flowbook.graph.portable import obstacles
from flowbook.graph.rebuild import rebuild
from flowbook.graph.source import describe
from flowbook.plan.query import RunQuery
from flowbook.plan.records import Status
from flowbook.plan.schedules import Fire, Schedule
from flowbook.ports import Definition, RunRow
from tests.unit.run.apps import Apps, scenario

seen: list[Any] = []


@fb.step
def note(day: str) -> dict[str, str]:
    """Remember what it was given."""
    seen.append(day)
    return {"noted": day}


noting = fb.graph("noting", note)
waiting = fb.graph("waiting", note >> fb.wait("go"))


@pytest.fixture
def suspended() -> None:
    """Scheduling does not depend on how runs are carried: once is enough."""


@pytest.fixture
def apps(suspended: None) -> Apps:
    """Apps on an empty database."""
    seen.clear()
    return Apps()


def shift(apps: Apps, name: str, **by: float) -> datetime:
    """Let a schedule's next moment have been so long ago; that moment."""
    made = apps.database.schedules["default", name]
    moment = (datetime.now(UTC) - timedelta(**by)).replace(second=0, microsecond=0)
    apps.database.schedules["default", name] = replace(made, next_at=moment)
    return moment


async def eventually(true: Callable[[], Any]) -> None:
    """Wait until a condition holds, which may be a coroutine function."""
    async with asyncio.timeout(15):
        while not (await found if inspect.isawaitable(found := true()) else found):
            await asyncio.sleep(0.005)


async def fired(app: App, name: str, number: int, *verdicts: str) -> Sequence[Fire]:
    """The history, oldest first, once it has so many moments of these kinds."""
    found: list[Fire] = []

    async def there() -> bool:
        found[:] = [f for f in await app.schedules().history(name) if not verdicts or f.verdict in verdicts]
        return len(found) >= number

    await eventually(there)
    return sorted(found, key=lambda f: f.fire_time)


async def rows(app: App) -> list[RunRow]:
    """The runs, oldest first."""
    found = await app.store.runs(RunQuery("default", sort="created_at", descending=False))
    return list(found)


@scenario
async def test_workers_start_a_run_per_moment_with_its_input_filled(apps: Apps) -> None:
    """A fire is a run of its own: its input, what triggered it and its moment can be found by queries."""
    app = await apps.open()
    made = await app.schedule(
        noting, "* * * * *", name="minutely", tz="Asia/Tokyo", input={"day": "{{ fire_time | format('%H:%M %Z') }}"},
        on_missed="all", priority=4,
    )  # fmt: skip
    assert made.next_at is not None
    moment = shift(apps, "minutely", minutes=2)
    work = asyncio.create_task(app.work(concurrency=4))
    fires = await fired(app, "minutely", 3)
    assert [f.fire_time - moment for f in fires[:3]] == [timedelta(minutes=n) for n in range(3)]
    await eventually(lambda: len(seen) >= 3)
    assert min(seen) == f"{moment + timedelta(hours=9):%H:%M} JST"
    row = await app.store.run(fires[0].run_id) if fires[0].run_id else None
    assert row is not None
    assert (row.trigger, row.priority) == ("cron", 4)
    assert row.metadata == {"schedule": "minutely", "fire_time": moment.isoformat()}
    assert len(await app.runs().trigger("cron").metadata(schedule="minutely")) >= 3
    work.cancel()


@scenario
async def test_without_a_worker_nothing_fires(apps: Apps) -> None:
    """A schedule is a row: a process that only made it, or a notebook, starts nothing."""
    app = await apps.open()
    await app.schedule(noting, at=datetime.now(UTC), input={"day": "x"})
    await asyncio.sleep(0.1)
    assert await app.schedules().history("noting") == []


@scenario
async def test_of_many_workers_one_starts_the_run_of_a_moment(apps: Apps) -> None:
    """Eight workers, thirty moments: thirty runs."""
    workers = [await apps.open() for _ in range(8)]
    for app in workers:
        await app.register(noting)
    await workers[0].schedule(noting, "* * * * *", on_missed="all", input={"day": "{{ fire_time | iso }}"})
    shift(apps, "noting", minutes=29)
    tasks = [asyncio.create_task(app.work(concurrency=4)) for app in workers]
    await fired(workers[0], "noting", 30)
    await eventually(lambda: len(seen) >= 30)
    assert len(seen) == len(set(seen))
    for task in tasks:
        task.cancel()


@scenario
async def test_a_fire_takes_the_newest_code_unless_the_schedule_is_pinned(apps: Apps) -> None:
    """A schedule of a flow follows what is declared under its name; a pinned one stays as it was proven."""

    @fb.step
    def other(day: str) -> dict[str, str]:
        return {"other": day}

    app = await apps.open()
    newer = fb.graph("noting", other)
    await app.schedule(noting, at=datetime.now(UTC), name="follows", input={"day": "a"})
    await app.schedule(noting, at=datetime.now(UTC), name="stays", input={"day": "a"}, pin=True)
    await app.register(newer)
    work = asyncio.create_task(app.work())
    await fired(app, "follows", 1)
    await fired(app, "stays", 1)
    codes = {row.metadata["schedule"]: row.fingerprint for row in await rows(app)}
    assert codes == {"follows": newer.fingerprint, "stays": noting.fingerprint}
    work.cancel()


@scenario
async def test_the_run_before_is_cancelled_where_the_schedule_says_so(apps: Apps) -> None:
    """overlap="cancel-running": the run that waits is cancelled by the schedule, and the new one goes on."""
    app = await apps.open()
    await app.schedule(waiting, at=datetime.now(UTC), overlap="cancel-running", input={"day": "a"})
    work = asyncio.create_task(app.work())
    (first,) = await fired(app, "waiting", 1)
    await app.schedule(waiting, at=datetime.now(UTC), overlap="cancel-running", input={"day": "b"})
    await fired(app, "waiting", 2)
    assert first.run_id is not None

    async def cancelled() -> bool:
        return (await app.store.run(first.run_id)).status is Status.CANCELLED  # type: ignore[arg-type]

    await eventually(cancelled)
    assert (await app.store.run(first.run_id)).error == "cancelled by schedule waiting"
    assert (await rows(app))[-1].status is not Status.CANCELLED
    work.cancel()


@scenario
async def test_queued_moments_run_one_after_the_other(apps: Apps) -> None:
    """overlap="queue": the second run begins when the first is over."""
    app = await apps.open()
    await app.schedule(waiting, "* * * * *", overlap="queue", on_missed="all", input={"day": "a"})
    shift(apps, "waiting", minutes=1)
    work = asyncio.create_task(app.work())
    fires = await fired(app, "waiting", 2)
    assert [f.verdict for f in fires[:2]] == ["started", "queued"]
    assert fires[0].run_id is not None
    await app.signal(fires[0].run_id, "go")
    started = await fired(app, "waiting", 2, "started")
    assert started[1].run_id is not None
    first, second = [await app.store.run(f.run_id) for f in started[:2] if f.run_id]
    assert first.ended_at is not None
    assert first.ended_at <= second.created_at
    work.cancel()


@scenario
async def test_a_moment_whose_run_cannot_be_made_is_refused_and_the_schedule_goes_on(apps: Apps) -> None:
    """The flow is gone: the moment says so, and the worker goes on with everything else."""
    app = await apps.open()
    await app.schedule(noting, at=datetime.now(UTC), name="gone", input={"day": "a"})
    made = apps.database.schedules["default", "gone"]
    apps.database.schedules["default", "gone"] = replace(made, flow="nothing")
    work = asyncio.create_task(app.work())
    (fire,) = await fired(app, "gone", 1)
    assert (fire.verdict, fire.run_id) == ("refused", None)
    assert "'nothing' is not stored" in fire.note
    assert not work.done()
    work.cancel()


@scenario
async def test_what_could_not_begin_is_refused_when_it_is_scheduled(apps: Apps) -> None:
    """An input that does not fit, a template with a mistake and a flow that is not there: all told at once."""

    @fb.flow
    async def strict(ctx: fb.Context, day: str) -> str:
        return day

    app = await apps.open()
    with pytest.raises(StateError, match="day"):
        await app.schedule(strict, "@daily")
    with pytest.raises(ScheduleRefused, match="template"):
        await app.schedule(strict, "@daily", input={"day": "{{ tomorrow }}"})
    with pytest.raises(CodeMissing, match="flowbook flows"):
        await app.schedule("unheard", "@daily")
    with pytest.raises(ScheduleRefused, match="no time"):
        await app.schedule(noting)
    assert await app.schedules() == []


@scenario
async def test_a_schedule_is_paused_resumed_looked_at_backfilled_and_removed(apps: Apps) -> None:
    """The verbs, and what they say of a name that is not there."""
    app = await apps.open()
    await app.schedule(noting, "0 6 * * *", tz="Europe/Berlin", input={"day": "{{ fire_time | date }}"})
    named = app.schedules()
    comes = await named.next("noting", 3)
    assert [f"{at:%H:%M}" for at in comes] == ["06:00"] * 3
    assert (await named.pause("noting")).paused_at is not None
    shift(apps, "noting", days=3)
    resumed = await named.resume("noting")
    assert resumed.paused_at is None
    assert resumed.next_at == comes[0], "what fell into the pause was not missed"
    fires = await named.backfill("noting", datetime(2026, 3, 1), datetime(2026, 3, 3, 23))  # noqa: DTZ001
    assert [f"{f.fire_time:%d %H}" for f in fires] == ["01 05", "02 05", "03 05"]
    assert await named.backfill("noting", datetime(2026, 3, 1), datetime(2026, 3, 3)) == []  # noqa: DTZ001
    with pytest.raises(UsageError, match="10,000"):
        await named.backfill("noting", datetime(1900, 1, 1), datetime(2026, 1, 1))  # noqa: DTZ001
    await named.remove("noting")
    with pytest.raises(ScheduleNotFound, match="flowbook schedule list"):
        await named.get("noting")


@fb.scheduled("0 6 * * *", tz="Europe/Berlin", overlap="skip", retries=2)
def nightly() -> dict[str, int]:
    """A function with its times."""
    return {"done": 1}


@scenario
async def test_a_declared_schedule_is_there_once_a_worker_has_the_flow(apps: Apps) -> None:
    """@fb.scheduled and pipeline(cron=): the worker puts them, a second one changes nothing, and a pause stays."""
    piped = fb.pipeline("piped", [note], cron="@hourly", input={"day": "x"})
    app = await apps.open()
    await app.register(nightly)
    await app.register(piped)
    assert await app.schedules() == []
    work = asyncio.create_task(app.work())

    async def there() -> bool:
        return len(await app.schedules()) == 2

    await eventually(there)
    found = {s.name: s for s in await app.schedules()}
    assert (found["nightly"].cron, found["nightly"].tz, found["nightly"].overlap) == (
        "0 6 * * *",
        "Europe/Berlin",
        "skip",
    )
    assert nightly.step_at("nightly").policy.retries == 2
    paused: Schedule = await app.schedules().pause("piped")
    again = await apps.open()
    await again.register(piped)
    other = asyncio.create_task(again.work())
    await eventually(lambda: apps.database.schedules["default", "piped"].turn > paused.turn)
    assert (await app.schedules().get("piped")).paused_at == paused.paused_at
    for task in (work, other):
        task.cancel()


def test_a_scheduled_function_is_portable_and_its_times_are_no_part_of_its_identity() -> None:
    """Its source rebuilds it elsewhere, and moving it to seven o'clock makes no other code."""
    described = describe(nightly)
    assert not obstacles(described)
    stored = Definition("default", "nightly", described.fingerprint, described.spec, described.sources, "")
    assert rebuild(stored, key=None, allow_unsigned=True).fingerprint == nightly.fingerprint
    moved: Graph = replace(nightly, schedule={"cron": "0 7 * * *"})
    assert moved.fingerprint == nightly.fingerprint
    with pytest.raises(DeclarationError, match="no time"):
        fb.pipeline("untimed", [note], tz="Europe/Berlin")
