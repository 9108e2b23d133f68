"""The statements about who is alive, named and described: enlisting, heartbeats, probes, burials, wakes.

Owns: their SQL and the reason for its shape. Refuses: runs and journals (`statements.py`, whose lock order holds here
as well: run rows in ascending id, or skipped).
"""

from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement

# The lock of a worker is held exclusively by its session; who looks at it takes it *shared* and for one transaction,
# so lookers never disturb each other and nothing has to be given back.

SERVER_NOW: Final = Statement("server now", "select clock_timestamp()", "Only the database's clock is compared.")

TAKE_LOCK: Final = Statement(
    "take lock",
    "select pg_advisory_lock($1)",
    "Waits: who is in the queue is not free to others' probes, and a probe's shared lock is gone in a moment.",
)

STALE_HOLDER: Final = Statement(
    "stale holder",
    """
    select pg_terminate_backend(pid) from pg_locks
    where locktype = 'advisory' and mode = 'ExclusiveLock' and granted and objsubid = 1 and pid = $2
      and database = (select oid from pg_database where datname = current_database())
      and classid = (($1::bigint >> 32) & 4294967295)::oid and objid = ($1::bigint & 4294967295)::oid
    """,
    "After a broken network the server may keep our old session, and its lock, until TCP gives up. Ends that session "
    "and no other: the process id is ours from before, and it must still hold our lock.",
)

ENLIST: Final = Statement(
    "enlist",
    """
    insert into flowbook.worker (id, host, pid, lock_key, lease_seconds, locked_at, alive_until, serves)
    values ($1, $2, $3, $4, $5, case when $6 then now() end, now() + make_interval(secs => $5), $7)
    on conflict (id) do update set locked_at = excluded.locked_at, alive_until = excluded.alive_until,
        lease_seconds = excluded.lease_seconds
    returning xmax = 0 as fresh
    """,
    "After the lock is held, never before: a row whose lock is free means a session that died. A row that is gone was "
    "buried; the worker is listed anew and goes on without the runs it had.",
)

ANNOUNCE_WORKER: Final = Statement(
    "announce worker",
    "select pg_notify('flowbook_ring', '')",
    "Once in a worker's life: its neighbour must know whom to watch before the next heartbeat.",
)

HEARTBEAT: Final = Statement(
    "heartbeat",
    """
    update flowbook.worker
    set alive_until = now() + make_interval(secs => lease_seconds), locked_at = case when $2 then now() end
    where id = $1 returning 1
    """,
    "Sent over the session that holds the lock, so it also proves that the lock is held now. No row: buried.",
)

RING: Final = Statement(
    "ring",
    """
    select n.lock_key,
           not exists (select from flowbook.worker where id < $1) as first,
           exists (select from flowbook.worker where id <> $1 and alive_until < now()) as late
    from (select) as always left join lateral (
        select lock_key from flowbook.worker where id <> $1 and locked_at is not null order by id < $1, id limit 1
    ) n on true
    """,
    "The next greater id, wrapping round, is whose lock this worker waits on; the first one also looks for orphans.",
)

AIM: Final = Statement(
    "aim",
    "select set_config('flowbook.neighbour', $1, false)",
    "A do block takes no arguments, so the next statement reads the key from here.",
)

WAIT_ON_NEIGHBOUR: Final = Statement(
    "wait on neighbour",
    """
    do $$
    begin
        for turn in 1..10 loop
            perform set_config('lock_timeout', '900ms', true);
            begin
                perform pg_advisory_xact_lock_shared(current_setting('flowbook.neighbour')::bigint);
                perform set_config('flowbook.neighbour', '', false);
                exit;
            exception when lock_not_available then null;
            end;
            commit;
        end loop;
    end $$
    """,
    "Ends when the neighbour's session ends. A select that waits for a lock holds its snapshot as long, and vacuum "
    "would remove nothing younger; the commit lets it go every 0.9 s. That is under deadlock_timeout, so the wait is "
    "neither checked nor logged, and a timeout that is caught leaves no line in the log. Ten turns at most: a server "
    "that waits for a lock does not see that its client is gone.",
)

OUTLIVED: Final = Statement(
    "outlived",
    "select current_setting('flowbook.neighbour') = ''",
    "Whether the wait before it has got the lock: a do block has no result.",
)

PROBE: Final = Statement(
    "probe",
    """
    with server as materialized (
        select greatest(pg_postmaster_start_time(), (select stats_reset from pg_stat_bgwriter)) as since
    )
    select w.id, w.alive_until, w.locked_at, w.host, w.pid,
           case when w.locked_at > s.since then pg_try_advisory_xact_lock_shared(w.lock_key) else false end as free,
           now() > greatest(w.alive_until, s.since + make_interval(secs => w.lease_seconds),
                            $3::timestamptz + make_interval(secs => least(w.lease_seconds, $4))) as late
    from flowbook.worker w cross join server s
    where w.id <> $1 and ($2::uuid[] is null or w.id = any ($2))
    """,
    "A lock taken in this incarnation of the server that is free now means that its session ended; after a restart all "
    "are free and mean nothing. A crash of one backend ends every session without a new postmaster start time, but it "
    "resets the statistics. A lease counts from when the server was back, and from when we were.",
)

BURY: Final = Statement(
    "bury",
    """
    with gone as (
        delete from flowbook.worker
        where id = $1 and alive_until = $2 and locked_at is not distinct from $3 returning id
    ), held as (
        select r.id from flowbook.run r
        where r.worker_id = (select id from gone) and r.status = 'running'
        order by r.id for no key update skip locked
    ), freed as (
        update flowbook.run r
        set status = 'pending', worker_id = null, due_at = now(), epoch = r.epoch + 1, lost = r.lost + 1
        from held h where r.id = h.id returning r.id
    )
    select exists (select from gone) as won, array(select id from freed order by id) as freed
    """,
    "The row must be as it was when probed: a sign of life since then saves it, and of two buriers one finds no row. "
    "A run that is locked (an open transaction of the dead one) is skipped, not waited for: it is an orphan then.",
)

ORPHANS: Final = Statement(
    "orphans",
    """
    select r.id, r.epoch from flowbook.run r
    where r.status = 'running' and r.worker_id is not null
      and not exists (select from flowbook.worker w where w.id = r.worker_id)
    order by r.id limit 1000
    """,
    "Running, but the owner is not listed: skipped at a burial, or claimed by one who did not know that it was dead.",
)

FREE_ORPHANS: Final = Statement(
    "free orphans",
    """
    with held as (
        select r.id from flowbook.run r join unnest($1::uuid[], $2::int[]) as o (id, epoch) on r.id = o.id
        where r.epoch = o.epoch and r.status = 'running'
        order by r.id for no key update of r skip locked
    )
    update flowbook.run r
    set status = 'pending', worker_id = null, due_at = now(), epoch = r.epoch + 1, lost = r.lost + 1
    from held h where r.id = h.id returning r.id
    """,
    "By epoch, not by looking for the owner again: a row that was claimed since is checked anew with an old snapshot, "
    "in which the new owner may not be listed yet.",
)

LEAVE: Final = Statement(
    "leave",
    """
    with gone as (
        delete from flowbook.worker where id = $1 returning id
    ), held as (
        select r.id from flowbook.run r
        where r.worker_id = $1 and r.status = 'running' order by r.id for no key update skip locked
    ), freed as (
        update flowbook.run r
        set status = 'pending', worker_id = null, due_at = now(), epoch = r.epoch + 1
        from held h where r.id = h.id returning r.id
    )
    select array(select id from freed order by id)
    """,
    "An orderly end: what it still held is for others, and nobody counts it as a loss.",
)

NOTIFY: Final = Statement(
    "notify",
    "select pg_notify('flowbook_wake', p) from unnest($1::text[]) p",
    "On a connection of its own: a NOTIFY in the journal's transaction takes one lock for the whole server at commit "
    "(3,663 -> 386 tps).",
)
