"""A process is killed before, after and between every statement that the engine sends; nothing is done twice for it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.crash.flows import EFFECTS_TABLE, KILLED
from tests.crash.wiretap import Wiretap
from tests.crash.zygotes import Zygote
from tests.crash.zygotes import zygotes as opened

ZYGOTES = 4
"""Victims wait more than they work (a dead worker is probed twice, 300 ms apart)."""

BY_THE_CLOCK = frozenset({"heartbeat", "orphans", "members", "announce", "mail"})
"""Statements that come when their time comes; the last case is slow enough to meet them all."""


@pytest.fixture(scope="module")
def zygotes() -> Iterator[list[Zygote]]:
    with opened("tests.crash.victims", ZYGOTES) as them:
        yield them


@dataclass(frozen=True)
class Case:
    """What is killed, and how often before."""

    flow: str
    before: str = ""
    """A point at which a first process is killed, so that it is the resuming one that is killed at every point."""
    pace: float = 0.0
    """Seconds that a step takes, for statements that go by the clock."""
    lease: float = 60.0
    suspend: bool = False
    """Every process folds the run anew after each of its steps (--always-suspend)."""


def killed_and_resumed(zygote: Zygote, url: str, case: Case, kill_at: str, marks: Path) -> dict[str, Any]:
    """Kill a process at one point, let the next one go on; what happened, and the marks of all bodies."""
    request = {"url": url, "flow": case.flow, "key": kill_at, "marks": str(marks), "lease": case.lease}
    request["suspend"] = case.suspend
    request["key"] = marks.name
    if case.before:
        assert ask(zygote, {**request, "kill_at": case.before})["killed"], f"nothing was killed at {case.before}"
    killed = ask(zygote, {**request, "kill_at": kill_at, "pace": case.pace})
    last = ask(zygote, {**request, "kill_at": ""})
    return {"kill_at": kill_at, "key": marks.name, "killed": killed, "last": last,
            "marks": Counter(marks.read_text().split())}  # fmt: skip


def ask(zygote: Zygote, request: dict[str, Any]) -> dict[str, Any]:
    """What became of a victim: what it passed apart from what it came to."""
    answer = zygote.ask(request)
    told: list[str] = answer.pop("told")
    points = [t for t in told if not t.startswith("=")]
    return {**answer, "points": points, "results": [json.loads(t[1:]) for t in told if t.startswith("=")]}


def occurrences(points: list[str]) -> list[str]:
    """Each point with its number among those of its name: which statement comes after which is not always the same,
    so a count of all of them would not name the same point twice."""
    seen: Counter[str] = Counter()
    named = []
    for point in points:
        seen[point] += 1
        named.append(f"{point}:{seen[point]}")
    return named


async def journal_of(url: str, flow: str, key: str) -> tuple[str, list[str]]:
    """(status, finished paths sorted) from the database itself."""
    connection = await asyncpg.connect(url)
    try:
        run_id, status = await connection.fetchrow(
            "SELECT id, status FROM flowbook.run WHERE flow = $1 AND key = $2", flow, key
        )
        rows = await connection.fetch(
            "SELECT path FROM flowbook.journal WHERE run_id = $1 AND kind = 'finished'", run_id
        )
        return status, sorted(r["path"] for r in rows)
    finally:
        await connection.close()


async def forks_of(url: str, flow: str, key: str) -> list[tuple[str, list[str]]]:
    """(status, paths finished in its own journal) of each fork of the run under a key."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT f.status, array(SELECT path FROM flowbook.journal WHERE run_id = f.id AND kind = 'finished' "
            "ORDER BY path) AS paths FROM flowbook.run f JOIN flowbook.run r ON f.forked_from = r.id "
            "WHERE r.flow = $1 AND r.key = $2",
            flow, key,
        )  # fmt: skip
        return [(row["status"], row["paths"]) for row in rows]
    finally:
        await connection.close()


async def most_children(url: str) -> int:
    """How many children the run with the most of them has; all of them are over."""
    connection = await asyncpg.connect(url)
    try:
        query = "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM flowbook.run WHERE parent_id IS NOT NULL "
        assert not await connection.fetchval(
            "SELECT count(*) FROM flowbook.run WHERE parent_id IS NOT NULL AND status <> 'completed'"
        )
        return int(await connection.fetchval(query + "GROUP BY parent_id) AS c"))
    finally:
        await connection.close()


async def effects_of(url: str, flow: str, key: str) -> tuple[str, ...]:
    """The paths that have left something in the user's table, once for each time."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT e.path FROM effects e JOIN flowbook.run r ON r.id::text = e.run "
            "WHERE r.flow = $1 AND r.key = $2 ORDER BY 1",
            flow, key,
        )  # fmt: skip
        return tuple(r["path"] for r in rows)
    finally:
        await connection.close()


async def decided_in(url: str, flow: str, key: str) -> list[str]:
    """The paths of which the journal says who has decided them, once for each time."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT j.path FROM flowbook.journal j JOIN flowbook.run r ON r.id = j.run_id "
            "WHERE r.flow = $1 AND r.key = $2 AND j.kind = 'decided'",
            flow, key,
        )  # fmt: skip
        return [r["path"] for r in rows]
    finally:
        await connection.close()


async def execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.timeout(900)  # a case has up to 170 points; beside seven other suites 90 of them took 276 s
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case("linear"), id="linear"),
        pytest.param(Case("linear", before="append one:replied:1"), id="the resuming one", marks=pytest.mark.crash),
        pytest.param(Case("linear", before="append one:replied:1", pace=1.2, lease=2.0), id="by the clock"),
        *(pytest.param(Case(flow), id=flow, marks=pytest.mark.crash) for flow in KILLED if flow != "linear"),
    ],
)
def test_a_kill_at_any_point_of_the_wire_leaves_one_result_per_path(
    case: Case, fresh_database: str, zygotes: list[Zygote], tmp_path: Path, always_suspend: bool
) -> None:
    """Before the send, after the send and after the reply of every statement: the run ends, each path has one result,
    and a body runs at most once more than the kills explain."""
    flow, it, case = case.flow, KILLED[case.flow], replace(case, suspend=always_suspend)
    rehearsal = {"url": fresh_database, "flow": flow, "marks": str(tmp_path / "rehearsal"), "lease": case.lease}
    rehearsal["suspend"] = always_suspend
    if it.effects:
        asyncio.run(execute(fresh_database, EFFECTS_TABLE))
    ask(zygotes[0], {**rehearsal, "kill_at": "", "key": "migrate"})  # the first one also makes the schema
    if case.before:
        ask(zygotes[0], {**rehearsal, "kill_at": case.before, "key": "rehearsal"})
    points = ask(zygotes[0], {**rehearsal, "kill_at": "", "key": "rehearsal", "pace": case.pace})["points"]
    sent = list(dict.fromkeys(p.removesuffix(":sent") for p in points if p.endswith(":sent")))
    targets = occurrences(points)
    if case.pace:
        targets = [t for t in targets if t.endswith(":1")]
    print(f"\n{flow}: {len(targets)} points at {len(sent)} statements: {', '.join(sent)}")

    with ThreadPoolExecutor(ZYGOTES) as pool:
        lanes = [pool.submit(lambda lane: [
            killed_and_resumed(zygotes[lane], fresh_database, case, target, tmp_path / target.replace(":", "-"))
            for target in targets[lane::ZYGOTES]
        ], lane) for lane in range(ZYGOTES)]  # fmt: skip
        outcomes = [o for lane in lanes for o in lane.result()]

    kills, killed_at = 2 if case.before else 1, set()
    for outcome in outcomes:
        where, marks = f"killed at {outcome['kill_at']}", outcome["marks"]
        if outcome["killed"]["killed"]:
            killed_at.add(outcome["killed"]["points"][-1])
        assert outcome["last"]["exit"] == 0, f"{where}: the last process did not end well"
        assert outcome["last"]["results"] == [list(it.trail)], where
        status, paths = asyncio.run(journal_of(fresh_database, it.graph.name, outcome["key"]))
        assert (status, paths) == (it.status, list(it.paths)), where
        assert set(marks) == set(it.bodies), where
        if it.fork is not None:
            again = it.fork[1]
            assert asyncio.run(forks_of(fresh_database, flow, outcome["key"])) == [("completed", list(again))], where
            marks = marks - Counter(again)
        if it.effects:
            assert asyncio.run(effects_of(fresh_database, flow, outcome["key"])) == it.effects, where
        if it.decided:
            assert asyncio.run(decided_in(fresh_database, flow, outcome["key"])) == ["gate#1"], where
        assert max(marks.values()) <= 1 + kills + it.failing, f"{where}: {marks}"
        most = max(len(it.paths), len(it.bodies)) + it.failing + kills * it.at_once
        assert sum(marks.values()) <= most, f"{where}: {marks}"
    assert asyncio.run(most_children(fresh_database)) == it.children
    missed = {f"{name}:{phase}" for name in sent for phase in ("before", "sent", "replied")} - killed_at
    if not case.pace:
        missed = {m for m in missed if m.partition(":")[0] not in BY_THE_CLOCK}
    for point in sorted(missed):  # beside others, somebody else may have buried the dead first: now alone
        for number in range(15):  # where several runs are at work, what comes together is a matter of luck
            marks = tmp_path / f"{point.replace(':', '-')}-again-{number}"
            outcome = killed_and_resumed(zygotes[0], fresh_database, case, f"{point}:1", marks)
            assert outcome["last"]["results"] == [list(it.trail)], f"killed at {point}"
            if outcome["killed"]["killed"]:
                missed.discard(point)
                break
    assert not missed, f"no process was killed at {sorted(missed)}"


def test_no_statement_goes_past_the_tap(fresh_database: str, zygotes: list[Zygote], tmp_path: Path) -> None:
    """A proxy that reads the protocol counts as many statements as the driver's hook has heard of."""
    request = {"flow": "forked", "marks": str(tmp_path / "marks"), "kill_at": ""}
    ask(zygotes[0], {**request, "url": fresh_database, "key": "migrate"})

    async def tapped() -> tuple[list[str], dict[str, Any]]:
        async with Wiretap(fresh_database) as wire:
            answer = await asyncio.to_thread(ask, zygotes[0], {**request, "url": wire.url, "key": "tapped"})
            return wire.asked, answer

    asked, answer = asyncio.run(tapped())
    assert answer["exit"] == 0
    # asyncpg asks the catalogue by itself what an array of uuid is; that reads, and is not the engine's.
    engines = [sql for sql in asked if "typeinfo_tree" not in sql and "current_setting('jit')" not in sql]
    assert len(engines) == sum(p.endswith(":sent") for p in answer["points"]), engines
    assert len(engines) > 15
