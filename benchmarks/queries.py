"""Lists of runs among 100,000: a page, a count and a summary, for each kind of condition and order.

Owns: the workload QUERY. Refuses: judging (`run.py` has the target). The best of several rounds counts: how long the
statement takes, and not what else the machine does.

    make bench ARGS="QUERY"
    make bench ARGS="QUERY --size 1000000"
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import common as c

import flowbook as fb
from flowbook.query import Runs

RUNS, ROUNDS = 100_000, 7
FILL = """
insert into flowbook.run (id, namespace, flow, version, fingerprint, status, input, input_digest, metadata, searchable,
                          created_at, started_at, ended_at, current, error)
select (lpad(to_hex((1700000000000 + n * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
        || substr(md5(n::text), 4, 15))::uuid,
       case when n % 500 = 0 then 'tiny' else 'default' end, 'flow' || n % 20, 1, md5((n % 20)::text), status,
       repeat('x', 150)::bytea, '\\x00', jsonb_build_object('org', 'o' || n % 1000, 'n', n),
       jsonb_build_object('query', 'q' || n % 5000, 'k', n % 7), at, at,
       case when status <> 'waiting' then at + random() * interval '100 s' end,
       case status when 'waiting' then 'approve#1' else '' end, case status when 'failed' then 'ValueError: no' end
from (select n, now() - ({runs} - n) * interval '10 s' as at,
             (array['completed', 'completed', 'completed', 'completed', 'completed', 'completed', 'completed',
                    'completed', 'failed', 'waiting'])[1 + n / 7 % 10] as status
      from generate_series(1, {runs}) n) made
"""


def asked(app: fb.App) -> dict[str, Runs]:
    """Queries by what is special about them."""
    runs, day_ago = app.runs(), datetime.now(UTC) - timedelta(days=1)
    return {
        "newest": runs,
        "failed": runs.status("failed"),
        "none": runs.status("cancelled"),
        "flow": runs.flow("flow3"),
        "started": runs.sort("-started_at"),
        "longest": runs.sort("-duration"),
        "flow_longest": runs.flow("flow3").sort("-duration"),
        "metadata": runs.metadata(org="o7"),
        "input": runs.input(query="q77"),
        "current": runs.current("approve"),
        "since": runs.since(day_ago),
        "until": runs.until(datetime.now(UTC) - timedelta(days=11)),
        "text": runs.matching("valueerror"),
        "id": runs.matching("abcdef01"),
    }


async def queries(ctx: c.Ctx) -> dict[str, Any]:
    """Milliseconds of the slowest page, count and summary, and of which query it was."""
    c.fresh_db(ctx.db)
    slowest: dict[str, Any] = {}
    async with fb.connect(ctx.url) as app:
        c.psql(FILL.format(runs=ctx.size(RUNS)), ctx.db)
        c.psql("vacuum analyze flowbook.run", ctx.db)
        for verb in ("page", "count", "summary"):
            times = {name: await best(getattr(query, verb)) for name, query in asked(app).items()}
            slowest |= {f"{verb}_{name}": round(ms, 1) for name, ms in times.items()}
            slowest[f"{verb}_ms"] = round(max(times.values()), 1)
        page = await app.runs().page()
        for _ in range(40):
            page = await app.runs().page(page.cursor)
        slowest["first_ms"] = round(await best(app.runs().flow("flow3").first), 1)
        slowest["runs"] = ctx.size(RUNS)
        slowest["cursor_ms"] = round(await best(lambda: app.runs().page(page.cursor)), 1)
    return slowest


async def best(verb: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds of the quickest of some rounds."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await verb()
        took.append(time.perf_counter() - began)
    return min(took) * 1000


c.main("flowbook", ["flowbook-jupyter", "asyncpg"], {"QUERY": queries})
