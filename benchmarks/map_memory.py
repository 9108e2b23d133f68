"""The memory of a large map: 100,000 items of 1 kB, killed in the middle and resumed.

Owns: the workloads MAP, whose items *return* 1 kB each, and MAPIN, which is *given* 1 kB for each. Refuses: judging
(`run.py` has the target). Two processes, each of which measures its own peak over what it had before the run (the list
that it starts the run with is the caller's own); the first one kills itself in the middle, the second goes on, sums up
all results, and counts which items were run again.

    make bench ARGS="MAP MAPIN"
"""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import common as c

import flowbook as fb

ITEMS, BYTES = 100_000, 1000
KILL_AT = "FLOWBOOK_BENCH_KILL_AT"
RAN = {"items": 0}


@fb.step
async def fetch(number: int, ctx: fb.Context) -> dict[str, Any]:
    """1 kB, another one for each item."""
    RAN["items"] += 1
    if str(ctx.index) == os.environ.get(KILL_AT):
        print(json.dumps({"metrics": peak()}), flush=True)
        c.kill_self()
    return {"n": number, "text": f"{number:010}" * (BYTES // 10)}


@fb.step
def sum_up(pages: Any) -> dict[str, int]:
    """A plain loop over all of them, in the step's thread."""
    return {"sum": sum(page["n"] for page in pages), "bytes": sum(len(page["text"]) for page in pages)}


@fb.step
async def measure(text: str, ctx: fb.Context) -> int:
    """Next to nothing of what it was given."""
    RAN["items"] += 1
    if str(ctx.index) == os.environ.get(KILL_AT):
        print(json.dumps({"metrics": peak()}), flush=True)
        c.kill_self()
    return int(text[:10])


@fb.step
def add_up(numbers: Any) -> dict[str, int]:
    """A plain loop over all of them, in the step's thread."""
    return {"sum": sum(numbers)}


given = fb.graph("given", fb.map_(measure, over="texts", into="numbers", concurrency=100) >> add_up)
flow = fb.graph("pages", fb.map_(fetch, over="numbers", into="pages", concurrency=100) >> sum_up)
BASE = {"kb": 0}


def rss() -> int:
    """KB that this process has now."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def peak() -> dict[str, float]:
    """What this process has needed over its baseline at most, in MB, and how many items it has run."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"mb": round((most - BASE["kb"]) / 1024, 1), "items": RAN["items"]}


async def once(ctx: c.Ctx) -> dict[str, float]:
    """One process' part: start the run or go on with it."""
    n = ctx.size(ITEMS)
    warm = fb.graph("warm", fb.map_(fetch, over="numbers"))
    async with fb.connect(ctx.url) as app:
        await (await app.start(warm, numbers=[0]))
        RAN["items"] = 0
        numbers = list(range(n))
        BASE["kb"] = rss()
        with c.Timer() as t:
            out = await (await app.start(flow, key="k", numbers=numbers))
        assert out["sum"] == sum(numbers), out["sum"]
        assert out["bytes"] == n * BYTES
        assert len(out["pages"]) == n
        assert out["pages"][n - 1]["n"] == n - 1
    return {"seconds": round(t.s, 1), **peak()}


async def once_given(ctx: c.Ctx) -> dict[str, float]:
    """The same where it is the input that is large."""
    n = ctx.size(ITEMS)
    async with fb.connect(ctx.url) as app:
        await (await app.start(given, texts=["1"]))
        RAN["items"] = 0
        texts = [f"{number:010}" * (BYTES // 10) for number in range(n)]
        BASE["kb"] = rss()
        with c.Timer() as t:
            out = await (await app.start(given, key="k", texts=texts))
        assert out["sum"] == sum(range(n)), out["sum"]
        assert out["texts"] == texts
    return {"seconds": round(t.s, 1), **peak()}


def map_memory(ctx: c.Ctx) -> dict[str, float]:
    """MAP: the peak of either process over its baseline, and how many items were run twice."""
    return twice(ctx, "_once")


def map_input(ctx: c.Ctx) -> dict[str, float]:
    """MAPIN: the same for a large input."""
    return twice(ctx, "_given")


def twice(ctx: c.Ctx, part: str) -> dict[str, float]:
    """A process that is killed in the middle, and one that goes on."""
    n = ctx.size(ITEMS)
    c.fresh_db(ctx.db)
    args = [part, *ctx.flags, "--n", str(n)]
    with c.Timer() as first:
        killed = c.child(__file__, *args, env={KILL_AT: str(n // 2)}, check=False)["metrics"]
    resumed = c.child(__file__, *args)["metrics"]
    return {
        "mb_killed": killed["mb"],
        "mb_resumed": resumed["mb"],
        "again": killed["items"] + resumed["items"] - n,
        "seconds_killed": round(first.s, 1),
        "seconds_resumed": resumed["seconds"],
    }


WORKLOADS = {"MAP": map_memory, "MAPIN": map_input, "_once": once, "_given": once_given}
c.main("flowbook", ["flowbook-jupyter", "asyncpg"], WORKLOADS)
