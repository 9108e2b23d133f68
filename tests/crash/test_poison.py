"""A step that kills its process is tried a few times and then fails its run; nobody else suffers for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flowbook.graph.step import LOST_LIMIT
from tests.crash.fleet import Fleet

WORKS = [f"work{n:02}#1" for n in range(1, 7)]


def most(retries: int) -> int:
    """Executions of a step that kills its process: one may die before anybody has written down that it began."""
    return max(retries + 1, LOST_LIMIT) + 1


def count(fleet: Fleet, run: UUID) -> Counter[str]:
    return Counter(m.path for m in fleet.marks(run))


def blamed(row: Any, path: str) -> None:
    assert row["status"] == "failed"
    assert row["error"].startswith(f"{path}: ")
    assert "died" in row["error"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("flow", "step", "retries"),
    [
        ("poison", "die", 0),
        pytest.param("poison_retried", "die_retried", 2, marks=pytest.mark.crash),
    ],
)
async def test_a_step_that_kills_its_process_is_capped(
    flow: str, step: str, retries: int, fresh_database: str, tmp_path: Path
) -> None:
    """It runs ``max(retries + 1, LOST_LIMIT) + 1`` times at most; its run fails, names the path and says why."""
    async with Fleet(fresh_database, tmp_path) as fleet:
        for _ in range(2):
            await fleet.spawn()
        [run] = await fleet.put(flow)
        [row] = await fleet.ended([run], 30, keep_up=True)
        counts = count(fleet, run)
        print(f"\n{flow}: {counts[f'{step}#1']} executions, {row['lost']} workers died")
        blamed(row, f"{step}#1")
        assert counts[f"{step}#1"] <= most(retries)
        assert counts["first#1"] == 1
        assert counts["last#1"] == 0
        assert await fleet.finished(run) == ["first#1"]
        others = await fleet.put("ticks3", 5, n=0, pause=0.0)
        assert {row["status"] for row in await fleet.ended(others, 20, keep_up=True)} == {"completed"}


@pytest.mark.timeout(60)
async def test_a_sibling_s_progress_does_not_reset_the_cap(fresh_database: str, tmp_path: Path) -> None:
    """While one branch kills its process again and again, the other one goes on and keeps what it has."""
    async with Fleet(fresh_database, tmp_path) as fleet:
        for _ in range(2):
            await fleet.spawn()
        [run] = await fleet.put("poison_beside", pause=0.06)
        [row] = await fleet.ended([run], 30, keep_up=True)
        counts, finished = count(fleet, run), await fleet.finished(run)
        print(f"\nbeside a sibling: {counts['die_later#1']} executions, {finished}")
        blamed(row, "die_later#1")
        assert counts["die_later#1"] <= most(0)
        progress = [path for path in finished if path.startswith("work")]
        assert len(progress) >= 3, "the sibling had a quarter of a second between two deaths"
        assert sum(counts[path] for path in progress) <= len(progress) + row["lost"], "results were not paid for twice"


@pytest.mark.timeout(60)
async def test_other_runs_of_the_same_workers_complete(fresh_database: str, tmp_path: Path) -> None:
    """Twelve innocent runs share two workers with two poisoned ones: they lose time, and nothing else."""
    async with Fleet(fresh_database, tmp_path) as fleet:
        for _ in range(2):
            await fleet.spawn()
        innocent = await fleet.put("works", 6, pause=0.05)
        poisoned = await fleet.put("poison", 2)
        innocent += await fleet.put("works", 6, pause=0.05)
        rows = await fleet.ended([*poisoned, *innocent], 50, keep_up=True)
        print(f"\n{fleet.deaths} deaths; innocent runs lost their worker {[r['lost'] for r in rows[2:]]} times")
        for row in rows[:2]:
            blamed(row, "die#1")
            assert count(fleet, row["id"])["die#1"] <= most(0)
        assert fleet.deaths <= 2 * most(0)
        for row in rows[2:]:
            assert (row["status"], row["error"]) == ("completed", None)
            assert await fleet.finished(row["id"]) == WORKS
            extra = count(fleet, row["id"]) - Counter(WORKS)
            assert extra.total() <= row["lost"], "one death repeats at most the one step that was under way"


@pytest.mark.timeout(90)
async def test_who_was_beside_it_each_time_is_not_taken_for_it(fresh_database: str, tmp_path: Path) -> None:
    """Steps that are longer than the poisoned one lives are under way at its deaths. They are not guilty for that:
    after the second death suspects begin one at a time, so the third one can only be the culprit's."""
    async with Fleet(fresh_database, tmp_path) as fleet:
        await fleet.spawn()
        innocent = await fleet.put("works", 3, pause=0.4)
        [poisoned] = await fleet.put("poison_slow")
        innocent += await fleet.put("works", 3, pause=0.4)
        rows = await fleet.ended([poisoned, *innocent], 75, keep_up=True)
        print(f"\n{fleet.deaths} deaths; innocent runs lost their worker {[r['lost'] for r in rows[1:]]} times")
        blamed(rows[0], "die_later#1")
        assert count(fleet, poisoned)["die_later#1"] <= most(0)
        assert [(row["status"], row["error"]) for row in rows[1:]] == [("completed", None)] * 6
