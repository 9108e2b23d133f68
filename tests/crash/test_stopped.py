"""A process that was stopped for longer than its lease comes back as nobody: its run went on elsewhere."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.crash.fleet import Fleet

LEASE = 2.0


@pytest.mark.timeout(90)
@pytest.mark.parametrize("flow", [pytest.param("held", marks=pytest.mark.crash), "works"])
async def test_a_process_that_wakes_past_its_lease_writes_nothing(
    flow: str, fresh_database: str, tmp_path: Path
) -> None:
    """SIGSTOP in the middle of a step (of a coroutine; of a thread), SIGCONT after the run has completed elsewhere:
    the journal holds what the new epoch wrote after the old one's, one outcome per path; the woken process lets its
    run go as fenced, and then carries others."""
    async with Fleet(fresh_database, tmp_path, lease=LEASE) as fleet:
        victim = await fleet.spawn()
        [run] = await fleet.put(flow, hold=1.0, pause=0.5)
        path = {"held": "hold#1", "works": "work02#1"}[flow]
        await fleet.begun(run, path)
        await asyncio.sleep(0.15)
        stopped = fleet.send(victim, signal.SIGSTOP)
        heir = await fleet.spawn()
        again = await fleet.begun(run, path, 2, timeout=LEASE + 15)
        print(f"\n{flow}: begun elsewhere {(again.at - stopped) / 1e9:.2f} s after the stop, lease {LEASE:g} s")
        assert again.pid == heir
        assert again.at - stopped > (LEASE / 2) * 1e9, "a stopped process has its lease"
        [row] = await fleet.ended([run], 15)
        before = await fleet.journal(run)
        assert (row["status"], row["lost"]) == ("completed", 1)

        fleet.send(victim, signal.SIGCONT)
        await fleet.until(lambda: f"{victim} let go of {run}" in fleet.log.read_text(), 15)
        assert f"{victim} let go of {run}: fenced" in fleet.log.read_text()
        await fleet.until(lambda: len(fleet.marks(run, path, "end")) == 2, 10)  # its body has ended, for nothing
        await asyncio.sleep(0.5)
        assert await fleet.journal(run) == before, "the woken process wrote"
        assert (await fleet.rows([run])) == [row]
        epochs = [r["epoch"] for r in before]
        assert epochs == sorted(epochs)
        assert set(epochs) == {1, row["epoch"]}
        finished = [r["path"] for r in before if r["kind"] == "finished"]
        assert len(finished) == len(set(finished)) == len({p for _, p in fleet.executions()})
        assert {r["epoch"] for r in before if r["path"] == path and r["kind"] == "finished"} == {row["epoch"]}
        late = [m for m in fleet.marks(run) if m.pid == victim and m.at > again.at]
        assert not late, "the woken process began a step of a run that it had lost"

        # It goes on with others: the heir is gone, so what completes now is carried by the woken one.
        fleet.send(heir, signal.SIGKILL)
        others = await fleet.put("ticks3", 5, n=0, pause=0.01)
        assert {r["status"] for r in await fleet.ended(others, 15)} == {"completed"}
        assert {m.pid for other in others for m in fleet.marks(other)} == {victim}
