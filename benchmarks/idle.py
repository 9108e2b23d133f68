"""What waiting costs: runs parked on a signal and on a timer, and an engine that has nothing to do for them.

Owns: parking them, the idle stretch, how late timers among them end, the numbers. Refuses: comparing with others (none
of them says what it costs).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import common as c

import flowbook as fb

EACH = 10_000
IDLE_SECONDS = 30.0
TIMERS, PARKED_SECONDS, SPREAD_SECONDS = 10, 6.0, 2.0
"""So many runs sleep so long, longer than is waited for in memory; they begin within so many seconds."""


@fb.step
async def done() -> None:
    """What nobody comes to while it is measured."""


@fb.step
async def before() -> dict[str, float]:
    return {"began": time.time()}


@fb.step
async def behind(began: float) -> dict[str, float]:
    return {"late": time.time() - began - PARKED_SECONDS}


on_signal = fb.graph("on_signal", fb.wait("go") >> done)
on_timer = fb.graph("on_timer", fb.sleep("1h") >> done)
alarm = fb.graph("alarm", before >> fb.sleep(PARKED_SECONDS) >> behind)


async def idle(ctx: c.Ctx) -> dict[str, Any]:
    """CPU of this process and statements at the server, per second, with ``2 * n`` parked runs."""
    each = ctx.size(EACH)
    c.fresh_db(ctx.db)
    async with fb.connect(ctx.url) as app:
        with c.Timer() as t:
            for graph in (on_signal, on_timer):
                limit = asyncio.Semaphore(256)

                async def start(graph: Any = graph, limit: asyncio.Semaphore = limit) -> None:
                    async with limit:
                        await app.start(graph)

                await asyncio.gather(*(start() for _ in range(each)))
        while parked(ctx) < 2 * each:  # noqa: ASYNC110  # it is the database that is asked
            await asyncio.sleep(0.2)
        await asyncio.sleep(3.0)
        c.psql("select pg_stat_statements_reset()")
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.sleep(IDLE_SECONDS)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        calls, ms = c.psql(
            "select coalesce(sum(s.calls), 0), coalesce(sum(s.total_exec_time), 0) from pg_stat_statements s "
            f"join pg_database d on d.oid = s.dbid where s.toplevel and d.datname = '{ctx.db}'"
        )[0]
        late = sorted(await asyncio.gather(*(alarmed(app, i / TIMERS * SPREAD_SECONDS) for i in range(TIMERS))))
    return {
        "parked": 2 * each,
        "parked_per_s": round(2 * each / t.s),
        "cpu_percent": round(100 * cpu / wall, 2),
        "statements_per_s": round(float(calls) / wall, 2),
        "server_ms_per_s": round(float(ms) / wall, 2),
        "late_median_ms": c.ms(statistics.median(late)),
        "late_p95_ms": c.ms(late[-1]),  # of ten: the latest
    }


async def alarmed(app: Any, begin: float) -> float:
    """Seconds from when a pause is up to the step behind it; the row of its beginning counts against it."""
    await asyncio.sleep(begin)
    out: dict[str, float] = await (await app.start(alarm))
    return out["late"]


def parked(ctx: c.Ctx) -> int:
    return int(c.psql("select count(*) from flowbook.run where status = 'waiting'", ctx.db)[0][0])


if __name__ == "__main__":
    c.main("idle", ["flowbook-jupyter"], {"IDLE": idle})
