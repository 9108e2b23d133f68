"""Somebody's open transaction that holds the row of one run delays that run and no other."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import asyncpg
import pytest

from tests.crash.fleet import Fleet

PATHS = [f"tick{n:02}#1" for n in range(1, 4)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "when", ["before it is claimed", pytest.param("between two steps", marks=pytest.mark.crash), "at its last step"]
)
async def test_a_locked_row_delays_its_run_alone(when: str, fresh_database: str, tmp_path: Path) -> None:
    """Fifty other runs of the same worker complete while the lock is held; after the user's commit so does this one,
    with nothing lost and nothing done twice."""
    async with Fleet(fresh_database, tmp_path) as fleet:
        user = await asyncpg.connect(fresh_database)
        if when != "before it is claimed":
            await fleet.spawn(concurrency=64)
        [run] = await fleet.put("ticks3", n=0, pause=0.4 if when != "before it is claimed" else 0.0)
        if when != "before it is claimed":
            await fleet.begun(run, {"between two steps": "tick01#1", "at its last step": "tick03#1"}[when])
        async with user.transaction():
            await user.execute("SELECT FROM flowbook.run WHERE id = $1 FOR UPDATE", run)
            if when == "before it is claimed":
                await fleet.spawn(concurrency=64)
            others = await fleet.put("ticks3", 50, n=0, pause=0.01)
            began = time.monotonic()
            rows = await fleet.ended(others, 15)
            took = time.monotonic() - began
            print(f"\nlocked {when}: 50 others completed in {took:.2f} s")
            assert {(r["status"], r["lost"], r["epoch"]) for r in rows} == {("completed", 0, 1)}
            await asyncio.sleep(2.0)  # past three refusals and a lock_timeout or two
            [row] = await fleet.rows([run])
            assert row["status"] == ("pending" if when == "before it is claimed" else "running")
            started = {"before it is claimed": 0, "between two steps": 1, "at its last step": 3}[when]
            assert sum(m.run == run for m in fleet.marks()) == started, "it went on with nothing acknowledged"
        freed = time.monotonic()
        [row] = await fleet.ended([run], 10)
        print(f"after the commit it took {time.monotonic() - freed:.2f} s")
        assert (row["status"], row["lost"], row["epoch"], row["error"]) == ("completed", 0, 1, None)
        assert await fleet.finished(run) == PATHS
        assert set(fleet.executions().values()) == {1}
        await user.close()
