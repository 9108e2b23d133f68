"""A worker is killed and another one goes on: in the middle of a step, between two, and right after the claim."""

from __future__ import annotations

import asyncio
import random
import signal
import statistics
import time
from pathlib import Path

import pytest

import flowbook as fb
from tests.crash.fleet import Fleet

HELD = ["first#1", "hold#1", "last#1"]


async def kill_in_the_middle(fleet: Fleet, times: int) -> list[float]:
    """Kill the worker that holds a run in the middle of a step, so often; seconds until the body began elsewhere."""
    born = {await fleet.spawn(): time.monotonic() for _ in range(3)}
    latencies = []
    for _ in range(times):
        # A worker that has just connected accuses nobody within its first second; those in service have.
        await asyncio.sleep(max(0.0, max(born.values()) + 1.3 - time.monotonic()))
        [run] = await fleet.put("held", hold=60.0)
        victim = (await fleet.begun(run, "hold#1")).pid
        await asyncio.sleep(random.uniform(0.0, 0.2))  # before and after its advisory row
        killed = fleet.send(victim, signal.SIGKILL)
        del born[victim]
        again = await fleet.begun(run, "hold#1", 2)
        latencies.append((again.at - killed) / 1e9)
        assert again.pid in fleet.alive
        [row] = await fleet.ended([run], 10)
        assert (row["status"], row["lost"], row["error"]) == ("completed", 1, None)
        assert await fleet.finished(run) == HELD
        counts = {path: n for (of, path), n in fleet.executions().items() if of == run}
        assert counts == {"first#1": 1, "hold#1": 2, "last#1": 1}, "only what was under way ran again"
        born[await fleet.spawn()] = time.monotonic()
    return latencies


def told(latencies: list[float]) -> tuple[float, float]:
    """Print and return the median and the 99th percentile."""
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    print(f"\nfrom the kill to the body's next begin, {len(latencies)} kills: "
          f"p50 {cuts[49]:.3f} s, p99 {cuts[98]:.3f} s, most {max(latencies):.3f} s")  # fmt: skip
    return cuts[49], cuts[98]


@pytest.mark.timeout(100)
async def test_a_run_whose_worker_is_killed_goes_on_in_another(fresh_database: str, tmp_path: Path) -> None:
    """Kills in the middle of a step: each run completes with one result per path, soon."""
    async with Fleet(fresh_database, tmp_path) as fleet:
        told(latencies := await kill_in_the_middle(fleet, 4))
    assert max(latencies) < 5


@pytest.mark.crash
@pytest.mark.timeout(400)
async def test_fifty_kills_cost_less_than_a_second_each(fresh_database: str, tmp_path: Path) -> None:
    """From the kill to the beginning of the body in another process: 99 of 100 in under a second."""
    async with Fleet(fresh_database, tmp_path) as fleet:
        _, p99 = told(await kill_in_the_middle(fleet, 50))
    assert p99 < 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "kill_at",
    [
        "claim:sent:1",  # the database gives the run away, and nobody hears of it
        pytest.param("claim:replied:1", marks=pytest.mark.crash),  # owned, not read
        "page:replied:1",  # read, nothing begun
        pytest.param("append one:before:1", marks=pytest.mark.crash),  # the first step has ended, nobody knows
        "append one:replied:1",  # between the first step and the second
        pytest.param("append one:replied:2", marks=pytest.mark.crash),
        "settle:before:1",  # all but the end
        pytest.param("settle:sent:1", marks=pytest.mark.crash),
    ],
)
async def test_a_run_that_is_only_running_is_recovered(kill_at: str, fresh_database: str, tmp_path: Path) -> None:
    """No step is under way when the worker dies, so all that tells of the death is the run's status."""
    async with Fleet(fresh_database, tmp_path) as fleet:
        [run] = await fleet.put("ticks3", n=0, pause=0.0)
        victim = await fleet.spawn(kill_at=kill_at, wait=False)
        await fleet.until(lambda: victim in fleet.buried(), 20)
        await asyncio.sleep(0.1)  # the server ends what it has been told, though nobody waits for it
        status = (await fleet.rows([run]))[0]["status"]
        assert status in ("running", "completed"), "it died before it owned the run"
        await fleet.spawn()
        [row] = await fleet.ended([run], 10)
        assert (row["status"], row["error"]) == ("completed", None)
        assert row["lost"] == (status == "running")
        assert await fleet.finished(run) == ["tick01#1", "tick02#1", "tick03#1"]
        counts = fleet.executions()
        assert sum(counts.values()) <= 4, counts
        assert max(counts.values()) <= 2, counts
        if kill_at.startswith("append one:replied"):
            assert sum(counts.values()) == 3, "what was acknowledged never runs again"


@pytest.mark.timeout(60)
async def test_a_worker_that_does_not_know_the_flow_leaves_the_run_alone(fresh_database: str, tmp_path: Path) -> None:
    """It stays pending and says what it needs; nobody fails or deletes it, and who knows the code completes it."""
    async with Fleet(fresh_database, tmp_path) as fleet:
        victim = await fleet.spawn()
        [run] = await fleet.put("held", hold=60.0)
        await fleet.begun(run, "hold#1")
        stranger = await fleet.spawn(flows=["ticks3"])
        fleet.send(victim, signal.SIGKILL)

        async def pending() -> bool:
            return bool((await fleet.rows([run]))[0]["status"] == "pending")

        await fleet.until(pending, 10)
        others = await fleet.put("ticks3", 5, n=0, pause=0.0)
        assert {row["status"] for row in await fleet.ended(others, 10)} == {"completed"}
        await asyncio.sleep(1.5)  # more than a poll
        [row] = await fleet.rows([run])
        assert (row["status"], row["lost"], row["worker_id"], row["error"]) == ("pending", 1, None, None)
        assert {m.pid for m in fleet.marks(run)} == {victim}
        async with fb.connect(fresh_database, home=tmp_path) as app:
            needs = (await (await app.run(run)).view()).needs
            assert needs is not None
            assert needs.startswith("code: held@")
        await fleet.spawn()
        [row] = await fleet.ended([run], 10)
        assert row["status"] == "completed"
        assert await fleet.finished(run) == HELD
        assert stranger in fleet.alive
