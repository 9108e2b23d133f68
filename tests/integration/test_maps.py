"""Maps on Postgres: many items, a process that is killed in the middle, memory that does not grow with the results.

Owns: what `tests/unit/run/test_maps.py` promises, where a database and several processes are needed to believe it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from flowbook.app import App, Options
from flowbook.graph.flow import graph
from flowbook.graph.mapping import map_
from flowbook.graph.step import step
from flowbook.run.items import Items
from flowbook.store.postgres import PostgresStore

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

ROOT = Path(__file__).resolve().parents[2]

CHILD = '''
"""argv: url, items, "numbers" or "texts". Kills itself at the item KILL_AT, leaves a mark per item, prints what it
needed and found."""
import asyncio, json, os, resource, signal, sys
import flowbook as fb

url, total, what = sys.argv[1], int(sys.argv[2]), sys.argv[3]

@fb.step(retries=1, backoff=(0,))
async def fetch(n, ctx):
    with open(os.environ["MARKS"], "a") as marks:
        marks.write(f"{n}\\n")
    if n % 1000 == 7 and ctx.attempt == 1:
        raise ValueError("once")
    if str(n) == os.environ["KILL_AT"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"n": n, "text": f"{n:010}" * 100}

@fb.step
def count(pages):
    return {"type": type(pages).__name__, "sum": sum(p["n"] for p in pages), "last": pages[-1]["n"]}

@fb.step
async def read(text, ctx):
    with open(os.environ["MARKS"], "a") as marks:
        marks.write(f"{ctx.index}\\n")
    if str(ctx.index) == os.environ["KILL_AT"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"n": int(text[:10])}

read_all = fb.graph("texts", fb.map_(read, over="texts", into="pages", concurrency=50) >> count)
flow = fb.graph("pages", fb.map_(fetch, over="numbers", into="pages", concurrency=50) >> count)

async def main():
    async with fb.connect(url) as app:
        await (await app.start(fb.graph("warm", fb.map_(fetch, over="numbers")), numbers=[0])).result()
        given = {"numbers": list(range(total))}
        if what == "texts":
            given = {"texts": [f"{n:010}" * 100 for n in range(total)]}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        state = await (await app.start(flow if what == "numbers" else read_all, key="k", **given)).result()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = {k: state[k] for k in ("type", "sum", "last")}
        print(json.dumps({**found, "mb": (peak - before) / 1024}), flush=True)

asyncio.run(main())
'''


def carry(url: str, folder: Path, total: int, kill_at: int, what: str = "numbers") -> subprocess.CompletedProcess[str]:
    """A process of its own."""
    script = folder / "child.py"
    script.write_text(CHILD)
    command = [sys.executable, str(script), url, str(total), what]
    env = {**os.environ, "MARKS": str(folder / "marks"), "KILL_AT": str(kill_at)}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=100, check=False)


def test_a_map_that_is_killed_in_the_middle_goes_on_and_stays_small(fresh_database: str, tmp_path: Path) -> None:
    """Six thousand items of 1 kB: hardly any runs again, and the second process holds neither items nor journal.

    `benchmarks/map_memory.py` measures it with 100,000; here the 6 MB of results allow a rough limit only.
    """
    total = 6_000
    killed = carry(fresh_database, tmp_path, total, 3_500)
    assert killed.returncode == -9, killed.stderr
    resumed = carry(fresh_database, tmp_path, total, -1)
    assert resumed.returncode == 0, resumed.stderr
    answer = json.loads(resumed.stdout)
    assert (answer["type"], answer["sum"], answer["last"]) == ("Items", sum(range(total)), total - 1)
    assert answer["mb"] < 60
    ran = Counter(map(int, (tmp_path / "marks").read_text().split()))
    ran[0] -= 2  # both have warmed up with it
    expected = {n: 2 if n % 1000 == 7 else 1 for n in range(total)}
    again = {n for n in range(total) if ran[n] != expected[n]}
    assert len(again) <= 50, "no more than were under way at once"
    assert all(expected[n] < ran[n] <= expected[n] + 1 for n in again)


def test_a_map_over_a_large_input_is_killed_and_goes_on_with_one_copy_of_it(
    fresh_database: str, tmp_path: Path
) -> None:
    """Twenty thousand items of 1 kB, 20 MB: the row of the run has a few kilobytes, no snapshot has the list, and the
    second process needs it once, besides what its caller holds. (All of it in the row, it needed 124 MB and more.)
    """
    total = 20_000
    killed = carry(fresh_database, tmp_path, total, 12_000, "texts")
    assert killed.returncode == -9, killed.stderr
    resumed = carry(fresh_database, tmp_path, total, -1, "texts")
    assert resumed.returncode == 0, resumed.stderr
    answer = json.loads(resumed.stdout)
    assert (answer["sum"], answer["last"]) == (sum(range(total)), total - 1)
    assert answer["mb"] < 60

    async def sizes() -> tuple[int, int, int]:
        connection = await asyncpg.connect(fresh_database)
        try:
            row = await connection.fetchrow(
                "select (select octet_length(input) from flowbook.run where key = 'k'),"
                " (select max(octet_length(payload)) from flowbook.snapshot), (select sum(size) from flowbook.blob)"
            )
            return tuple(map(int, row))  # type: ignore[return-value]
        finally:
            await connection.close()

    in_row, in_snapshot, beside = asyncio.run(sizes())
    assert in_row < 5_000
    assert in_snapshot < 5_000
    assert 20_000_000 < beside < 21_000_000
    ran = Counter(map(int, (tmp_path / "marks").read_text().split()))
    ran[0] -= 2  # both have warmed up with it
    assert set(ran) == set(range(total))
    assert sum(ran.values()) <= total + 50, "no more than were under way at once"


def test_results_are_read_in_a_step_on_the_loop_and_by_the_caller(fresh_database: str, always_suspend: bool) -> None:
    """A plain loop in a coroutine on the engine's own loop does not hang; neither does one in the caller's thread."""
    total = 1_200

    @step
    async def number(n: int) -> dict[str, int]:
        return {"n": n}

    @step
    async def on_the_loop(pages: Any) -> dict[str, int]:
        assert type(pages) is Items
        return {"plain": sum(p["n"] for p in pages), "awaited": sum([p["n"] async for p in pages])}

    async def whole() -> None:
        options = Options("default", b"k", always_suspend)
        async with App(PostgresStore(fresh_database, poll=0.1), options) as app:
            flow = graph("f", map_(number, over="xs", into="pages", concurrency=200) >> on_the_loop)
            state = await (await app.start(flow, xs=list(range(total)))).result()
            assert state["plain"] == state["awaited"] == sum(range(total))
            in_a_thread = await asyncio.to_thread(lambda: [p["n"] for p in state["pages"]])
            assert in_a_thread == list(range(total))
            assert state["pages"][total - 2 :] == [{"n": total - 2}, {"n": total - 1}]

    if always_suspend:
        total = 1_001  # each of its commits folds all of it anew
    asyncio.run(whole())
