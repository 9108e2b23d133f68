"""flowbook as a peer: the workloads of the peers' harness, through the public API only.

Owns: the flows of W1 (a chain), W2 (many short runs), W5 (signals),
W6 (resume after a kill) and SQL. Refuses: measuring and
comparing, which `common` (the peers' own, or the one beside this file) and `run.py` do.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import common as c

import flowbook as fb

T: dict[str, Any] = {"ran": 0}


@fb.step
async def work(i: int) -> dict[str, int]:
    return {"i": i + 1}


@fb.step
async def numbered(i: int, n: int) -> dict[str, int]:
    """Step n + 1 is the new one: the first process dies in it, the second says when it begins."""
    T["ran"] += 1
    if i == n:
        if not os.environ.get("BENCH_T0"):
            c.kill_self()
        T["process"], T["engine"] = c.since_spawn(), time.perf_counter() - T["t0"]
    return {"i": i + 1}


chain = fb.graph("chain", work >> fb.branch(lambda s: s.i < s.n, {True: work, False: fb.END}))
"""n steps, one after the other."""
long_chain = fb.graph("long_chain", numbered >> fb.branch(lambda s: s.i <= s.n, {True: numbered, False: fb.END}))


async def w1(ctx: c.Ctx) -> dict[str, float]:
    n = ctx.size(c.W1_STEPS)
    c.fresh_db(ctx.db)
    async with fb.connect(ctx.url) as app:
        await (await app.start(chain, i=0, n=2))
        with c.Timer() as t:
            out = await (await app.start(chain, i=0, n=n))
    assert out["i"] == n
    return {"total_ms": c.ms(t.s), "ms_per_step": c.ms(t.s / n)}


async def w2(ctx: c.Ctx) -> dict[str, float]:
    runs = ctx.size(c.W2_RUNS)
    c.fresh_db(ctx.db)
    limit = asyncio.Semaphore(c.W2_CONCURRENCY)
    async with fb.connect(ctx.url) as app:
        await (await app.start(chain, i=0, n=2))

        async def one() -> None:
            async with limit:
                out = await (await app.start(chain, i=0, n=c.W2_STEPS))
                assert out["i"] == c.W2_STEPS

        with c.Timer() as t:
            await asyncio.gather(*(one() for _ in range(runs)))
    done = c.psql(
        "select (select count(*) from flowbook.run where status = 'completed'), "
        "(select count(*) from flowbook.journal where kind = 'finished')", ctx.db)[0]  # fmt: skip
    assert done == [str(runs + 1), str(runs * c.W2_STEPS + 2)], done
    return {"steps_per_s": round(runs * c.W2_STEPS / t.s, 1), "runs_per_s": round(runs / t.s, 1)}


@fb.step
async def resumed() -> None:
    T["resumed"].set_result(time.time())


waiting = fb.graph("waiting", fb.wait("go") >> resumed)


async def w5(ctx: c.Ctx) -> dict[str, float]:
    """From sending a signal to the step behind the wait, in one process and from another one."""
    c.fresh_db(ctx.db)
    here, across = [], []
    async with fb.connect(ctx.url) as app:
        sender = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "_send", *ctx.flags, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert sender.stdin is not None
        assert sender.stdout is not None
        await sender.stdout.readline()  # it is connected
        for _ in range(c.W5_SAMPLES + 1):
            run = await parked(app)
            began = time.time()
            await run.signal("go")
            here.append(await T["resumed"] - began)
        for _ in range(2 * c.W5_SAMPLES + 1):
            run = await parked(app)
            sender.stdin.write(f"{run.id}\n".encode())
            began = float(await sender.stdout.readline())
            across.append(await T["resumed"] - began)
        sender.stdin.close()
        await sender.wait()
    ordered = sorted(across[1:])
    return {
        "median_ms": c.ms(statistics.median(here[1:])),
        "across_median_ms": c.ms(statistics.median(ordered)),
        "across_p95_ms": c.ms(ordered[int(0.95 * len(ordered))]),
    }


async def parked(app: Any) -> Any:
    run = await app.start(waiting)
    T["resumed"] = asyncio.get_running_loop().create_future()
    await asyncio.sleep(0.05)
    return run


async def send(ctx: c.Ctx) -> dict[str, float]:
    async with fb.connect(ctx.url) as app:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            run = await app.run(line.strip())
            print(time.time(), flush=True)
            await run.signal("go")
    return {}


async def migrate(ctx: c.Ctx) -> dict[str, float]:
    async with fb.connect(ctx.url):
        return {}


async def crash(ctx: c.Ctx) -> dict[str, float]:
    async with fb.connect(ctx.url) as app:
        await (await app.start(long_chain, i=0, n=ctx.n, key="long"))
    return {}


async def resume(ctx: c.Ctx) -> dict[str, float]:
    T["t0"] = time.perf_counter()
    async with fb.connect(ctx.url) as app:
        await (await app.start(long_chain, i=0, n=ctx.n, key="long"))
    return {"process_ms": c.ms(T["process"]), "engine_ms": c.ms(T["engine"]), "rerun": T["ran"] - 1}


async def first(ctx: c.Ctx) -> dict[str, float]:
    async with fb.connect(ctx.url) as app:
        await (await app.start(chain, i=0, n=1))
    return {}


c.main(
    "flowbook",
    ["flowbook-jupyter", "asyncpg"],
    {
        "W1": w1,
        "W2": w2,
        "W6": lambda ctx: c.resume_growth(ctx, __file__),
        "W8": lambda ctx: c.cold_start(ctx, __file__, "import flowbook"),
        "SQL": lambda ctx: c.sql_per_step(ctx, __file__),
        "W5": w5,
        "_migrate": migrate,
        "_send": send,
        "_crash": crash,
        "_resume": resume,
        "_first": first,
    },
)
