"""A cancel from another process against the end of the run: one of the two comes first, and both sides agree which."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

import flowbook as fb
from flowbook.errors import RunCancelled
from flowbook.store.statements import SEND
from tests.crash.fleet import Fleet
from tests.crash.jobs import FLOWS

ENDS = {"completed", "failed", "cancelled"}


async def ends(fleet: Fleet, run: object) -> list[str]:
    """The rows of its journal that end it."""
    return [r["kind"] for r in await fleet.journal(run) if r["kind"] in ENDS]  # type: ignore[arg-type]


@pytest.mark.timeout(90)
async def test_a_cancel_at_the_very_end_is_either_done_or_told_that_it_is_late(
    fresh_database: str, tmp_path: Path
) -> None:
    """Sixty runs of some 60 ms, each cancelled by another process at a random moment around its end: who is told
    `running` or `cancelled` finds it cancelled, who is told `completed` finds the result, and there is one end."""
    async with Fleet(fresh_database, tmp_path) as fleet, fb.connect(fresh_database, home=tmp_path) as app:
        await app.register(FLOWS["ticks3"])
        for _ in range(2):
            await fleet.spawn()
        told: Counter[tuple[str, str]] = Counter()

        async def race(delay: float) -> None:
            [run] = await fleet.put("ticks3", n=0, pause=0.02)
            await fleet.begun(run, "tick01#1")
            await asyncio.sleep(delay)
            answer = (await app.cancel(run, by="the race")).status
            [row] = await fleet.ended([run], 10)
            told[answer, row["status"]] += 1
            assert await ends(fleet, run) == [row["status"]]
            if row["status"] == "completed":
                assert answer == "completed", "told that it would be cancelled, and it completed"
                assert (await app.result(run, timeout=5))["n"] == 3
            else:
                assert row["status"] == "cancelled"
                assert answer in ("pending", "running", "cancelled")
                assert row["error"] == "cancelled by the race"
                with pytest.raises(RunCancelled):
                    await app.result(run, timeout=5)
            # It stays as it is, whatever anybody says and however long the workers look at it.
            assert (await app.cancel(run, by="again")).status == row["status"]
            await asyncio.sleep(0.1)
            assert (await fleet.rows([run]))[0] == row

        for _ in range(12):
            await asyncio.gather(*(race(random.uniform(0.0, 0.09)) for _ in range(5)))
        print(f"\n(told, ended): {dict(told)}")
        assert {ended for _, ended in told} == {"completed", "cancelled"}, "no race: the moments are badly chosen"


@pytest.mark.timeout(60)
async def test_a_cancel_stops_a_step_that_is_under_way_and_nothing_begins_after(
    fresh_database: str, tmp_path: Path
) -> None:
    """The worker hears of it within a second, stops the body, and what would have come next never runs."""
    async with Fleet(fresh_database, tmp_path) as fleet, fb.connect(fresh_database, home=tmp_path) as app:
        await fleet.spawn()
        [run] = await fleet.put("held", hold=60.0)
        await fleet.begun(run, "hold#1")
        began = asyncio.get_running_loop().time()
        assert (await app.cancel(run)).status in ("running", "cancelled")  # about to be, or already
        [row] = await fleet.ended([run], 10)
        assert asyncio.get_running_loop().time() - began < 2
        assert row["status"] == "cancelled"
        assert await ends(fleet, run) == ["cancelled"]
        await asyncio.sleep(0.5)
        assert fleet.marks(run, "hold#1", "end") == []
        assert fleet.marks(run, "last#1") == []


@pytest.mark.timeout(60)
async def test_a_cancel_that_nobody_was_told_of_is_found_by_the_end(fresh_database: str, tmp_path: Path) -> None:
    """The sender dies between its commit and its notification, while the last step is under way: the run's end, which
    would be written with that step's outcome, is refused until the mail has been read."""
    async with Fleet(fresh_database, tmp_path) as fleet:
        await fleet.spawn()
        for _ in range(4):
            [run] = await fleet.put("ticks3", n=0, pause=0.1)
            await fleet.begun(run, "tick03#1")
            sent = await fleet.sql.fetchrow(SEND.sql, run, uuid4(), "cancel", "the dead", b"")
            assert sent["status"] == "running"
            [row] = await fleet.ended([run], 10)
            assert (row["status"], row["error"]) == ("cancelled", "cancelled by the dead")
            assert await ends(fleet, run) == ["cancelled"]


@pytest.mark.timeout(60)
async def test_a_cancel_outlives_the_worker_that_should_have_heard_it(fresh_database: str, tmp_path: Path) -> None:
    """Sent to a run whose worker is already dead, or is killed before it has read it: whoever takes the run over
    cancels it and begins nothing."""
    async with Fleet(fresh_database, tmp_path) as fleet, fb.connect(fresh_database, home=tmp_path) as app:
        victim = await fleet.spawn()
        [run] = await fleet.put("held", hold=60.0)
        await fleet.begun(run, "hold#1")
        fleet.send(victim, signal.SIGSTOP)  # it does not hear
        assert (await app.cancel(run)).status == "running"
        fleet.send(victim, signal.SIGKILL)
        await fleet.spawn()
        [row] = await fleet.ended([run], 10)
        assert row["status"] == "cancelled"
        assert await ends(fleet, run) == ["cancelled"]
        assert len(fleet.marks(run, "hold#1")) == 1


@pytest.mark.timeout(60)
async def test_many_cancel_a_run_that_nobody_carries(fresh_database: str, tmp_path: Path) -> None:
    """Eight at once, each of which may end it: it is cancelled once, at once, and nobody keeps it `running`."""
    async with (
        Fleet(fresh_database, tmp_path) as fleet,
        fb.connect(fresh_database, home=tmp_path) as app,
        fb.connect(fresh_database, home=tmp_path) as other,
    ):
        for _ in range(12):
            [run] = await fleet.put("ticks3", n=0, pause=0.0)
            await asyncio.gather(*(a.cancel(run) for a in (app, other) for _ in range(4)))
            [row] = await fleet.ended([run], 5)
            assert row["status"] == "cancelled"
            assert await ends(fleet, run) == ["cancelled"]
