"""The statements about schedules and their fires, named and described.

Owns: their SQL and the reason for its shape. Refuses: deciding what is due (`plan/schedules.py`).

Who fires names the *turn* that he saw: FIRE and RELEASE lock the schedule's row, find the turn unchanged, and raise it.
Under READ COMMITTED a row that changed while its lock was waited for is looked at again, so of many workers one goes
on, and what its statement sees of runs and fires is not older than the last turn. No worker leads, and none is asked.
Lock order: a schedule's row comes before its fires and their runs; the runs are new, so nobody waits for them.
"""

# ruff: noqa: S608  the only things put into these texts are the constants below
from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement
from flowbook.store.statements import OVER

COLUMNS: Final = (
    "namespace, name, flow, cron, every_seconds, at, timezone, input, queue, priority, fingerprint, on_missed, "
    "window_seconds, overlap, paused_at, next_at, turn, created_at"
)
_S_COLUMNS: Final = ", ".join(f"s.{column}" for column in COLUMNS.split(", "))

PUT: Final = Statement(
    "put schedule",
    f"""
    insert into flowbook.schedule (namespace, name, flow, cron, every_seconds, at, timezone, input, queue, priority,
                                   fingerprint, on_missed, window_seconds, overlap, next_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
    on conflict (namespace, name) do update set
        flow = excluded.flow, cron = excluded.cron, every_seconds = excluded.every_seconds, at = excluded.at,
        timezone = excluded.timezone, input = excluded.input, queue = excluded.queue, priority = excluded.priority,
        fingerprint = excluded.fingerprint, on_missed = excluded.on_missed, window_seconds = excluded.window_seconds,
        overlap = excluded.overlap, turn = schedule.turn + 1,
        next_at = case when (schedule.cron, schedule.every_seconds, schedule.at, schedule.timezone)
                            is not distinct from
                            (excluded.cron, excluded.every_seconds, excluded.at, excluded.timezone)
                       then schedule.next_at else excluded.next_at end
    returning {COLUMNS}
    """,
    "Putting it again changes it. A worker that declares a schedule at its start must not skip the fires that were "
    "missed before, so the next moment stays where the times are the same; a pause stays as well.",
)

SCHEDULES: Final = Statement(
    "schedules",
    f"select {COLUMNS} from flowbook.schedule s where namespace = $1 and ($2::text is null or name = $2) order by name",
    "All of a namespace, or one.",
)

DROP: Final = Statement(
    "drop schedule",
    """
    with gone as (
        delete from flowbook.schedule where namespace = $1 and name = $2 returning namespace, name
    ), forgotten as (
        delete from flowbook.fire f using gone g where f.namespace = g.namespace and f.schedule = g.name
    )
    select 1 from gone
    """,
    "With its history, or another one of that name would not fire at moments that this one had. Its runs stay.",
)

PAUSE: Final = Statement(
    "pause schedule",
    """
    update flowbook.schedule
    set paused_at = case when $3 then coalesce(paused_at, now()) end, turn = turn + 1,
        next_at = case when $3 or paused_at is null then next_at else $4 end
    where namespace = $1 and name = $2 returning 1
    """,
    "Going on begins with the next moment: what fell into the pause was not missed.",
)

_ACTIVE: Final = f"""
    select r.id from (
        select f.run_id from flowbook.fire f
        where f.namespace = s.namespace and f.schedule = s.name and f.verdict = 'started'
        order by f.fire_time desc limit 200
    ) f join flowbook.run r on r.id = f.run_id where r.status not in {OVER}
    """
"""Runs of a schedule that are not over, among its newest fires; a schedule whose runs overlap freely never asks."""

DUE: Final = Statement(
    "due schedules",
    f"""
    with found as (
        select {_S_COLUMNS}, q.fire_time as queued from flowbook.schedule s
        left join lateral (
            select fire_time from flowbook.fire f
            where f.namespace = s.namespace and f.schedule = s.name and f.verdict = 'queued'
            order by fire_time limit 1
        ) q on true
        where s.namespace = $1 and s.paused_at is null and (s.next_at <= now() or q.fire_time is not null)
        order by s.next_at limit $2
    ), soon as (
        select now() as now, extract(epoch from min(s.next_at) - now())::float8 as wait
        from flowbook.schedule s where s.namespace = $1 and s.paused_at is null
    )
    select o.now, o.wait, s.*,
           case when s.overlap <> 'allow' or s.queued is not null then array({_ACTIVE}) else '{{}}' end as active
    from soon o left join found s on true
    """,
    "One look per worker and second, however many schedules there are; the answer has one row at least, and says when "
    "the next one is due, so a fire is not late by half a look. ``now`` is the database's, and the only time there is.",
)

_RUN: Final = """
        insert into flowbook.run (id, namespace, flow, version, fingerprint, queue, priority, input, input_digest,
                                  metadata, searchable, trigger)
        select w.id, $1, w.flow, w.version, w.fingerprint, w.queue, w.priority, w.input, w.input_digest,
               w.metadata::jsonb, w.searchable::jsonb, 'cron'"""

FIRE: Final = Statement(
    "fire",
    f"""
    with s as (
        select namespace, name, overlap from flowbook.schedule
        where namespace = $1 and name = $2 and turn = $3 and (paused_at is null or $18)
        for update
    ), state as (
        select s.overlap, s.overlap in ('skip', 'queue') and exists ({_ACTIVE}) as busy,
               exists (select from flowbook.fire f
                       where f.namespace = s.namespace and f.schedule = s.name and f.verdict = 'queued') as queued
        from s
    ), moved as (
        update flowbook.schedule t set next_at = $4, turn = t.turn + 1
        from s where t.namespace = s.namespace and t.name = s.name
    ), want as (
        select w.*, sum((w.verdict = 'started')::int) over (order by w.fire_time) as place
        from unnest($5::timestamptz[], $6::text[], $7::text[], $8::uuid[], $9::text[], $10::int[], $11::text[],
                    $12::text[], $13::int[], $14::bytea[], $15::bytea[], $16::text[], $17::text[])
             as w (fire_time, verdict, note, id, flow, version, fingerprint, queue, priority, input, input_digest,
                   metadata, searchable)
        where not exists (select from flowbook.fire f
                          where f.namespace = $1 and f.schedule = $2 and f.fire_time = w.fire_time)
    ), judged as (
        select w.fire_time, w.id, w.note, case
            when w.verdict <> 'started' then w.verdict
            when (t.overlap = 'queue' or $18 and t.overlap <> 'allow') and (t.busy or t.queued or w.place > 1)
                then 'queued'
            when t.overlap = 'skip' and not $18 and (t.busy or w.place > 1) then 'skipped'
            else 'started' end as verdict
        from want w cross join state t
    ), fired as (
        insert into flowbook.fire (namespace, schedule, fire_time, verdict, run_id, note)
        select $1, $2, j.fire_time, j.verdict, case when j.verdict = 'started' then j.id end, j.note from judged j
        on conflict do nothing
        returning fire_time, verdict, run_id, note, fired_at
    ), begun as ({_RUN}
        from want w join fired f on f.run_id = w.id order by w.fire_time
    )
    select exists (select from s) as ours, f.* from (select) as always left join fired f on true
    """,
    "Moment, verdict and run in one statement: a worker that dies has done all of it or nothing, and a moment has one "
    "row whoever races. $18: a backfill, which goes on under a pause and lines up behind what runs.",
    fresh=True,
)

RELEASE: Final = Statement(
    "release fire",
    f"""
    with s as (
        select namespace, name from flowbook.schedule
        where namespace = $1 and name = $2 and turn = $3 and paused_at is null
        for update
    ), free as (
        select s.* from s where not exists ({_ACTIVE})
    ), moved as (
        update flowbook.schedule t set turn = t.turn + 1
        from free s where t.namespace = s.namespace and t.name = s.name
    ), w as (
        select * from unnest(array[$4::timestamptz], array[$5::uuid], array[$6::text], array[$7::int], array[$8::text],
                    array[$9::text], array[$10::int], array[$11::bytea], array[$12::bytea], array[$13::text],
                    array[$14::text], array[$15::text], array[$16::text])
             as w (fire_time, id, flow, version, fingerprint, queue, priority, input, input_digest, metadata,
                   searchable, verdict, note)
    ), taken as (
        update flowbook.fire f
        set verdict = w.verdict, note = w.note, fired_at = now(),
            run_id = case when w.verdict = 'started' then w.id end
        from free s, w
        where f.namespace = s.namespace and f.schedule = s.name and f.fire_time = w.fire_time and f.verdict = 'queued'
        returning f.run_id
    ), begun as ({_RUN}
        from w join taken t on t.run_id = w.id
    )
    select 1 from taken
    """,
    "A queued moment gets its run once those before it are over. As FIRE, so that one worker does it.",
    fresh=True,
)

FIRES: Final = Statement(
    "fires",
    """
    select fire_time, verdict, run_id, note, fired_at from flowbook.fire
    where namespace = $1 and schedule = $2 and ($4::timestamptz is null or fire_time < $4)
    order by fire_time desc limit $3
    """,
    "What became of a schedule's moments, newest first, by the primary key.",
)
