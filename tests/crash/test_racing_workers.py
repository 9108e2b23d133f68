"""Many workers race for the same work: schedules that fire, and runs that are due."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flowbook.codec import encode
from flowbook.plan.schedules import Schedule, between
from flowbook.store.postgres import PostgresStore
from tests.crash.fleet import Fleet
from tests.integration.test_liveness import Server


async def race_for_fires(fleet: Fleet, workers: int, minutes: int) -> int:
    """So many workers, and a schedule with a moment for each second of some minutes of yesterday; how many runs."""
    for _ in range(workers):
        await fleet.spawn(flows=["single"], wait=False)
    ready = fleet.folder / "ready"
    await fleet.until(lambda: ready.exists() and len(ready.read_text().split()) >= workers, 120)
    day = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
    schedule = Schedule(
        "default", "racing", "single", cron=f"* 0-{minutes - 1} 12 {day.day} {day.month} *", on_missed="all",
        next_at=day, input=encode({"of": "{{ fire_time | iso }}"}),
    )  # fmt: skip
    wanted = between(schedule, day, day + timedelta(hours=1), 10_000)
    assert len(wanted) == 60 * minutes
    store = PostgresStore(fleet.url)
    await store.open()
    try:
        await store.timetable.put(schedule)
    finally:
        await store.close()

    async def all_over() -> bool:
        done = await fleet.sql.fetchval("select count(*) from flowbook.run where status = 'completed'")
        return bool(done >= len(wanted))

    await fleet.until(all_over, 300)
    fires = await fleet.sql.fetch("select fire_time, verdict, run_id from flowbook.fire order by fire_time")
    runs = await fleet.sql.fetch("select id, status, trigger, metadata ->> 'fire_time' as at from flowbook.run")
    assert [f["fire_time"] for f in fires] == wanted
    assert {f["verdict"] for f in fires} == {"started"}
    assert sorted(f["run_id"] for f in fires) == sorted(r["id"] for r in runs)
    assert {r["at"] for r in runs} == {at.isoformat() for at in wanted}
    assert {(r["status"], r["trigger"]) for r in runs} == {("completed", "cron")}
    assert set(fleet.executions().values()) == {1}, "and each has run once"
    return len(runs)


async def race_for_runs(fleet: Fleet, workers: int, number: int) -> None:
    """So many workers, and runs that are due at once: each is claimed once and run once."""
    ids = await fleet.put("single", number, of="x")
    for _ in range(workers):
        await fleet.spawn(flows=["single"], wait=False)
    rows = await fleet.ended(ids, 400)
    assert {(row["status"], row["claims"], row["epoch"], row["lost"]) for row in rows} == {("completed", 1, 1, 0)}
    counts = fleet.executions()
    assert len(counts) == number
    assert set(counts.values()) == {1}
    shares = {m.pid for m in fleet.marks()}
    print(f"\n{number:,} runs by {len(shares)} of {workers} workers")
    assert len(shares) > workers // 2, "and no few of them take all"


@pytest.mark.timeout(200)
async def test_racing_workers_start_one_run_per_fire(fresh_database: str, tmp_path: Path) -> None:
    """Four workers, sixty moments at once: sixty runs, each carried once."""
    async with Fleet(fresh_database, tmp_path) as fleet:
        assert await race_for_fires(fleet, 4, 1) == 60


@pytest.fixture
def roomy() -> Iterator[str]:
    """The URL of a server of its own with a place for each connection of 32 workers."""
    home = Path(tempfile.mkdtemp(prefix="fbr-"))  # as root, Postgres is another account and has to get through
    server = Server(home, connections=400)
    try:
        server.start()
        yield server.url()
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.mark.crash
async def test_thirty_two_racing_workers_start_three_hundred_runs_for_three_hundred_fires(
    roomy: str, tmp_path: Path
) -> None:
    """32 workers, 300 moments: exactly 300 runs."""
    async with Fleet(roomy, tmp_path) as fleet:
        assert await race_for_fires(fleet, 32, 5) == 300


@pytest.mark.crash
async def test_thirty_two_workers_that_race_for_five_thousand_runs_claim_none_twice(roomy: str, tmp_path: Path) -> None:
    """32 workers, 5,000 runs that are due: 5,000 claims, and work for all of them."""
    async with Fleet(roomy, tmp_path) as fleet:
        await race_for_runs(fleet, 32, 5_000)
