"""The statements of a fleet of workers: which flows there are, which code is wanted.

Owns: their SQL and the reason for its shape. Refuses: runs and journals (`statements.py`, whose lock order holds here
as well) and schedules (`schedule_statements.py`).
"""

# ruff: noqa: S608  the only thing put into these texts is the condition below
from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement

FLOWS: Final = Statement(
    "flows",
    """
    select distinct on (flow) namespace, flow, fingerprint, version, spec, sources, signature
    from flowbook.definition where namespace = $1 order by flow, version desc
    """,
    "The newest definition of each flow, for people who list them.",
)

STRANGERS: Final = Statement(
    "strangers",
    """
    select distinct flow, fingerprint from (
        select flow, fingerprint from flowbook.run r
        where r.queue = any ($2::text[]) and r.status in ('pending', 'waiting') and r.due_at <= now()
          and r.namespace = $1 and r.fingerprint <> all ($3::text[])
          and not exists (select from flowbook.worker w where w.id = r.home_id and w.alive_until > now())
        limit 1000
    ) r
    limit 50
    """,
    "Code that due runs wait for and that this worker has not got. What a live process has parked is left to it: a "
    "kernel whose timer has just ended is about to claim its run.",
    fresh=True,
)

_HELD: Final = (
    "exists (select from flowbook.run r where r.id = p.run_id and r.epoch = p.epoch and r.status = 'running')"
)
"""A place is taken as long as its run is owned under the epoch that took it: who dies, parks or ends gives it back."""

ACQUIRE: Final = Statement(
    "acquire",
    f"""
    with found as (
        select g.n from generate_series(0, $3::int - 1) g (n)
        left join flowbook.permit p on p.namespace = $1 and p.name = $2 and p.n = g.n
        where p.n is null or not {_HELD}
        order by random() limit 1
    )
    insert into flowbook.permit as p (namespace, name, n, run_id, epoch, taken_at)
    select $1, $2, n, $4, $5, clock_timestamp() from found
    on conflict (namespace, name, n) do update
    set run_id = excluded.run_id, epoch = excluded.epoch, taken_at = excluded.taken_at
    where p.taken_at < now() and not {_HELD}
    returning n
    """,
    "Of two that take one place at once the unique key lets one through. The other one sees the row as it is then, but "
    "runs as they were when its statement began, when the winner's may not have been claimed yet: so a place that was "
    "taken since then is never taken away. At random, so that those who race seldom meet.",
)

FREE: Final = Statement(
    "free",
    "delete from flowbook.permit where namespace = $1 and name = $2 and n = $3 and run_id = $4 and epoch = $5",
    "A place that somebody else has taken over meanwhile is his.",
)

RESERVE: Final = Statement(
    "reserve",
    """
    insert into flowbook.rate as r (namespace, name, times) values ($1, $2, array[clock_timestamp()])
    on conflict (namespace, name) do update set times = r.times[greatest(1, cardinality(r.times) - $3::int + 2):]
        || greatest(clock_timestamp(), r.times[cardinality(r.times)],
                    r.times[cardinality(r.times) - $3::int + 1] + $4::float8 * interval '1 second')
    returning extract(epoch from times[cardinality(times)] - clock_timestamp())::float8 as wait
    """,
    "A sliding window that is exact: the one who asks may begin a period after the one that is $3 places before him. "
    "He is told when, and waits by himself. An array has no element 0 and below: null, which greatest() passes over.",
)

CACHED: Final = Statement(
    "cached",
    "select payload from flowbook.cache_entry where namespace = $1 and key = $2 and expires_at > now()",
    "A hit writes nothing.",
)

CACHE: Final = Statement(
    "cache",
    """
    with gone as (
        delete from flowbook.cache_entry where (namespace, key) in (
            select namespace, key from flowbook.cache_entry where expires_at < now() and (namespace, key) <> ($1, $2)
            limit 20 for update skip locked)
    )
    insert into flowbook.cache_entry (namespace, key, payload, run_id, expires_at)
    values ($1, $2, $3, $4, now() + $5::float8 * interval '1 second')
    on conflict (namespace, key) do update
    set payload = excluded.payload, run_id = excluded.run_id, created_at = now(), used_at = now(),
        expires_at = excluded.expires_at
    """,
    "Each new entry throws away up to twenty that have run out, so nobody has to come and sweep.",
)

QUEUES: Final = Statement(
    "queues",
    """
    with counted as (
        select queue, count(*) filter (where status <> 'running') as waiting,
               count(*) filter (where status = 'running') as running,
               min(due_at) filter (where status <> 'running') as at
        from flowbook.run
        where namespace = $1 and (status = 'running' or status in ('pending', 'waiting') and due_at <= now())
        group by queue
    )
    select coalesce(c.queue, l.queue) as name, coalesce(c.waiting, 0) as waiting, coalesce(c.running, 0) as running,
           l.most, c.at
    from counted c full join (select * from flowbook.queue_limit where namespace = $1) l on l.queue = c.queue
    order by 1
    """,
    "For people. Reads the runs that are going on, by their indexes.",
    fresh=True,
)

LIMIT: Final = Statement(
    "limit",
    """
    insert into flowbook.queue_limit (namespace, queue, most) values ($1, $2, $3)
    on conflict (namespace, queue) do update set most = excluded.most
    """,
    "Workers hear of it at their next look at the limits.",
)

UNLIMIT: Final = Statement(
    "unlimit", "delete from flowbook.queue_limit where namespace = $1 and queue = $2", "As before there was a limit."
)

LIMITED: Final = Statement(
    "limited",
    "select queue, most from flowbook.queue_limit where namespace = $1 and queue = any ($2::text[])",
    "Asked by each worker once in some seconds; most have none.",
)

FLOOR: Final = Statement(
    "floor",
    "select pg_advisory_xact_lock(hashtextextended('flowbook queue ' || $1 || chr(10) || $2, 0))",
    "Claims of a limited queue go one after the other. A statement of its own, in the claim's transaction: the claim "
    "must see what those before it have claimed, so it must begin when they are through.",
)

ROOM: Final = Statement(
    "room",
    """
    select $3::int - count(*)::int as room from flowbook.run
    where worker_id is not null and status = 'running' and namespace = $1 and queue = $2
    """,
    "How many more runs of a queue may be carried; by the index on owners.",
)
