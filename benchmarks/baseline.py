"""The baseline where the peers' folder is not there: asyncpg alone, one row per step, nothing else.

Owns: W1, W2 (group commit by ``unnest``), W5 and SQL for that. Refuses: any promise of an engine: no fence, no retry,
no second worker. It is the physical limit that ratios are taken against.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import asyncpg
import common as c

TABLE = """
create table step (
  run int, seq int, name text, output jsonb, at timestamptz default now(), primary key (run, seq)
)
"""
ONE = "insert into step (run, seq, name, output) values ($1, $2, $3, $4)"
MANY = "insert into step (run, seq, name, output) select * from unnest($1::int[], $2::int[], $3::text[], $4::jsonb[])"

Row = tuple[int, int, str, str]


async def prepared(ctx: c.Ctx) -> asyncpg.Connection:
    c.fresh_db(ctx.db)
    connection = await asyncpg.connect(ctx.url)
    await connection.execute(TABLE)
    return connection


async def w1(ctx: c.Ctx) -> dict[str, float]:
    connection, n = await prepared(ctx), ctx.size(c.W1_STEPS)
    insert = await connection.prepare(ONE)
    await insert.fetch(0, 0, "warm", "{}")
    with c.Timer() as t:
        for i in range(n):
            await insert.fetch(1, i, "work", f'{{"i": {i}}}')
    await connection.close()
    return {"total_ms": c.ms(t.s), "ms_per_step": c.ms(t.s / n)}


async def w2(ctx: c.Ctx) -> dict[str, float]:
    connection, runs = await prepared(ctx), ctx.size(c.W2_RUNS)
    insert = await connection.prepare(MANY)
    queue: list[tuple[Row, asyncio.Future[None]]] = []
    bell, limit = asyncio.Event(), asyncio.Semaphore(c.W2_CONCURRENCY)

    async def write() -> None:
        while True:
            await bell.wait()
            batch, queue[:] = queue[:256], queue[256:]
            if not queue:
                bell.clear()
            await insert.fetch(*zip(*(row for row, _ in batch), strict=True))
            for _, done in batch:
                done.set_result(None)

    async def one(run: int) -> None:
        async with limit:
            for i in range(c.W2_STEPS):
                done = asyncio.get_running_loop().create_future()
                queue.append(((run, i, "work", f'{{"i": {i}}}'), done))
                bell.set()
                await done

    writer = asyncio.create_task(write())
    with c.Timer() as t:
        await asyncio.gather(*(one(run) for run in range(runs)))
    writer.cancel()
    await connection.close()
    return {"steps_per_s": round(runs * c.W2_STEPS / t.s, 1), "runs_per_s": round(runs / t.s, 1)}


async def w5(ctx: c.Ctx) -> dict[str, float]:
    """A row and a notification in one statement, until a listener hears it."""
    connection = await prepared(ctx)
    listener, heard = await asyncpg.connect(ctx.url), asyncio.Queue[float]()
    await listener.add_listener("go", lambda *_: heard.put_nowait(time.perf_counter()))
    send = await connection.prepare(f"with x as ({ONE}) select pg_notify('go', '')")
    took = []
    for i in range(c.W5_SAMPLES + 1):
        began = time.perf_counter()
        await send.fetch(1, i, "go", "{}")
        took.append(await heard.get() - began)
    await listener.close()
    await connection.close()
    return {"median_ms": c.ms(statistics.median(took[1:]))}


if __name__ == "__main__":
    c.main("baseline", ["asyncpg"], {"W1": w1, "W2": w2, "W5": w5, "SQL": lambda ctx: c.sql_per_step(ctx, __file__)})
