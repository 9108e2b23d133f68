"""The statements about runs, their journals and what belongs to them, named and described.

Owns: the SQL and the reason for its shape: starts, claims, appends, settlements, mail, definitions, snapshots, blobs.
Refuses: connections, retries, records, and what has a file of its own: reading journals (`history_statements.py`), ends
that others wait for (`family_statements.py`), transactional steps, streamed text, who is alive (`vital_statements.py`).

Lock order. A statement that locks several run rows takes them in ascending run id, or skips those that are locked;
a start inserts in the order of (namespace, flow, key). So two statements never wait for each other in a circle.

The fence. An owner may write while its run has its epoch and is ``running``. A fenced statement first locks the row
(``FOR NO KEY UPDATE``: it makes no new row version, and readers and foreign keys go on), then writes *through* the
locked row. A row that somebody else has locked is skipped, which tells ``busy`` (come again) from ``fenced`` (over).
Under READ COMMITTED a row that changed since the statement began is checked again in its newest version before it is
locked, so the fence never lets an old epoch pass.
"""

# ruff: noqa: S608  the only thing put into these texts is the list of columns below
from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement

RUN_COLUMNS: Final = (
    "id, namespace, flow, version, fingerprint, queue, priority, status, due_at, epoch, worker_id, claims, lost, mail, "
    "current, key, input, input_digest, metadata, error, forked_from, created_at, started_at, ended_at, "
    "parent_id, root_id, parent_path, trigger"
)
_R_COLUMNS: Final = ", ".join(f"r.{column}" for column in RUN_COLUMNS.split(", "))
OVER: Final = "('completed', 'failed', 'cancelled', 'superseded')"

SCHEMA_VERSION: Final = Statement(
    "schema version",
    "select version_num from flowbook.alembic_version",
    "Asked at each start, before Alembic is imported.",
)

_LOCKED: Final = """locked as (
        select r.id, r.epoch, r.mail, r.at, w.n
        from (select * from want order by id) w
        cross join lateral (
            select r.id, r.epoch, r.mail, clock_timestamp() as at from flowbook.run r
            where r.id = w.id and r.epoch = w.epoch and r.status = 'running'
            for no key update skip locked
        ) r
    )"""
"""The fence for many runs. Lateral, so that each is looked up by its id whatever the planner thinks of the table."""

APPEND_ONE: Final = Statement(
    "append one",
    """
    with locked as (
        select id, epoch, mail, clock_timestamp() as at from flowbook.run
        where id = $1 and epoch = $2 and status = 'running'
        for no key update skip locked
    )
    insert into flowbook.journal (run_id, seq, epoch, at, attempt, codec, kind, path, payload)
    select id, $3, epoch, at, $4, $5, $6, $7, $8 from locked
    returning at, (select mail from locked) as mail
    """,
    "One row of one run: the shape of a chain of steps. One statement, one round trip, no arrays to build. No row "
    "means busy or fenced; APPEND is asked which, as that is rare. Without ON CONFLICT, whose speculative insertion "
    "would write 48 bytes more of WAL per row: a row that may be there already goes by APPEND_AGAIN.",
)

APPEND: Final = Statement(
    "append",
    f"""
    with want as (
        select * from unnest($1::uuid[], $2::int[]) with ordinality as w (id, epoch, n)
    ), {_LOCKED}, written as (
        insert into flowbook.journal (run_id, seq, epoch, at, attempt, codec, kind, path, payload)
        select l.id, e.seq, l.epoch, l.at, e.attempt, e.codec, e.kind, e.path, e.payload
        from rows from (unnest($3::int[]), unnest($4::int[]), unnest($5::int[]), unnest($6::smallint[]),
                        unnest($7::text[]), unnest($8::text[]), unnest($9::bytea[]), generate_subscripts($3::int[], 1))
             as e (n, seq, attempt, codec, kind, path, payload, place)
        join locked l on l.n = e.n
        returning run_id
    )
    select w.n::int, l.id is not null as accepted, l.mail, l.at,
           l.id is null and exists (
               select from flowbook.run r where r.id = w.id and r.epoch = w.epoch and r.status = 'running') as busy
    from want w left join locked l on l.n = w.n
    """,
    "What waits of all runs goes out as one statement. The rows of a run are joined through its locked row, so they "
    "are written all or none; ``n`` is the run's place in the flush, from 1. Locked runs are skipped: one user's open "
    "transaction blocked 400 other runs, and two batches in opposite order deadlocked in the first round. The "
    "subscripts are there for the planner: it takes an array for ten elements long and subscripts for a thousand, so "
    "that the plan that is kept hashes (nested loops made a flush of 256 runs take 13 ms instead of 3, and a plan made "
    "anew at each flush cost 0.4 ms).",
)

APPEND_AGAIN: Final = Statement(
    "append again",
    APPEND.sql.replace("returning run_id", "on conflict (run_id, seq) do nothing\n        returning run_id").replace(
        "l.mail, l.at,",
        "l.mail, l.at,\n           (select count(*)::int from written x where x.run_id = w.id) as written,",
    ),
    "The same after a lost answer (35 of about 100 dropped connections had committed): a row that is there already is "
    "left alone and not counted, and WRITTEN tells whether it is ours.",
)

APPEND_WAITING: Final = Statement(
    "append waiting",
    APPEND_AGAIN.sql.replace(" skip locked", ""),
    "The same for a run whose row stays locked, alone and on a connection of its own with a lock_timeout: it stands in "
    "the queue for the lock, so a stream of short locks cannot starve it, and nobody else waits with it.",
)

BE_PATIENT: Final = Statement(
    "be patient",
    "set lock_timeout = '500ms'",
    "For the connection that waits for locks: how long it stands in one queue before it looks after the others.",
)

WRITTEN: Final = Statement(
    "written",
    """
    select run_id, seq, epoch, kind, path, at from flowbook.journal
    where (run_id, seq) in (select * from unnest($1::uuid[], $2::int[]))
    """,
    "After a lost answer: which of the rows are there, and whether it was this epoch that wrote them.",
    fresh=True,
)

SETTLE_ROWS: Final = """written as (
        insert into flowbook.journal (run_id, seq, epoch, at, attempt, codec, kind, path, payload)
        select f.id, e.seq, f.epoch, f.at, e.attempt, e.codec, e.kind, e.path, e.payload
        from rows from (unnest($8::int[]), unnest($9::int[]), unnest($10::int[]), unnest($11::smallint[]),
                        unnest($12::text[]), unnest($13::text[]), unnest($14::bytea[]),
                        generate_subscripts($8::int[], 1))
             as e (n, seq, attempt, codec, kind, path, payload, place)
        join free f on f.n = e.n
    )"""
"""The last rows of the runs that are let go of."""

SETTLE_VERDICT: Final = """select w.n::int, l.id is not null as accepted, l.mail, l.mail > w.seen as unread,
           l.id is null and exists (
               select from flowbook.run r where r.id = w.id and r.epoch = w.epoch and r.status = 'running') as busy"""
"""What becomes of each settlement."""

SETTLE: Final = Statement(
    "settle",
    f"""
    with want as (
        select * from unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::float8[], $6::text[], $7::text[],
                             $15::bool[])
        with ordinality as w (id, epoch, seen, status, due_in, current, error, asks, n)
    ), {_LOCKED}, free as (
        select l.id, l.epoch, l.at, l.n, w.status, w.due_in, w.current, w.error, w.asks
        from locked l join want w on w.n = l.n where l.mail <= w.seen
    ), {SETTLE_ROWS}, released as (
        update flowbook.run r
        set status = f.status, worker_id = null, current = f.current, error = f.error, asks = f.asks,
            home_id = case when f.status = 'waiting' then r.worker_id end,
            due_at = case when f.due_in is null then 'infinity'::timestamptz
                          else f.at + f.due_in * interval '1 second' end,
            ended_at = case when f.status in {OVER} then f.at end
        from free f where r.id = f.id
    )
    {SETTLE_VERDICT}
    from want w left join locked l on l.n = w.n
    """,
    "Ending, parking and handing back are one thing: let go of the row unless there is unread mail. Mail is counted "
    "on the run's row because a sender's uncommitted message cannot be seen by a NOT EXISTS, while its lock on the row "
    "can be felt. The subscripts: see APPEND.",
)

SETTLE_WAITING: Final = Statement(
    "settle waiting",
    SETTLE.sql.replace(" skip locked", ""),
    "As APPEND_WAITING, for a settlement.",
)

SETTLED: Final = Statement(
    "settled",
    """
    select r.id, r.epoch, r.status, r.worker_id, j.epoch as entry_epoch
    from unnest($1::uuid[], $2::int[]) as w (id, seq)
    join flowbook.run r on r.id = w.id
    left join flowbook.journal j on j.run_id = w.id and j.seq = w.seq
    """,
    "After a lost answer to a settlement that now looks fenced: it was ours if the row is as we wanted it under our "
    "epoch, or if our last entry is in the journal.",
    fresh=True,
)

START: Final = Statement(
    "start",
    """
    insert into flowbook.run (id, namespace, flow, version, fingerprint, queue, priority, key, input, input_digest,
                              metadata, parent_id, root_id, parent_path, searchable, trigger, status, epoch,
                              worker_id, claims, started_at)
    select n.id, n.namespace, n.flow, n.version, n.fingerprint, n.queue, n.priority, n.key, n.input, n.input_digest,
           n.metadata::jsonb, n.parent_id, n.root_id, n.parent_path, n.searchable::jsonb, n.trigger,
           case when n.owner is null then 'pending' else 'running' end,
           (n.owner is not null)::int, n.owner, (n.owner is not null)::int,
           case when n.owner is not null then now() end
    from unnest($1::uuid[], $2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::int[], $8::text[],
                $9::bytea[], $10::bytea[], $11::text[], $12::uuid[], $13::uuid[], $14::uuid[], $15::text[], $16::text[],
                $17::text[])
         as n (id, namespace, flow, version, fingerprint, queue, priority, key, input, input_digest, metadata, owner,
               parent_id, root_id, parent_path, searchable, trigger)
    order by n.namespace, n.flow, n.key, n.id
    on conflict do nothing
    returning id, created_at, due_at
    """,
    "Starts of many runs at once. A taken key, and a start whose answer was lost, insert nothing and return nothing; "
    "what is there is read afterwards, because this statement's snapshot cannot see it. Inserted in one order by "
    "everybody: two batches with the same keys would otherwise wait for each other.",
)

STARTED: Final = Statement(
    "started",
    f"""
    select w.id as asked, {_R_COLUMNS}
    from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) as w (id, namespace, flow, key)
    join flowbook.run r on r.id = w.id or (r.namespace = w.namespace and r.flow = w.flow and r.key = w.key)
    """,
    "Who is there under an id or a key that a start ran into.",
    fresh=True,
)

CLAIM: Final = Statement(
    "claim",
    f"""
    with recursive rung (queue, priority) as (
        select q, (select max(priority) from flowbook.run
                   where queue = q and status in ('pending', 'waiting'))
        from unnest($3::text[]) as q
        union all
        select g.queue, (select max(priority) from flowbook.run
                         where queue = g.queue and priority < g.priority and status in ('pending', 'waiting'))
        from rung g where g.priority is not null
    ), picked as (
        select c.id
        from (select queue, priority from rung where priority is not null order by priority desc) g
        cross join lateral (
            select r.id from flowbook.run r
            where r.queue = g.queue and r.priority = g.priority and r.status in ('pending', 'waiting')
              and r.due_at <= now() and r.fingerprint = any ($2::text[]) and r.namespace = $5
              and ($6::uuid[] is null or r.id = any ($6) or ($7 and r.home_id = $1))
            order by r.due_at, r.id
            limit $4
            for no key update skip locked
        ) c
        limit $4
    ), soon as (
        select min(n.due_at) as due_at
        from rung g
        cross join lateral (
            select r.due_at from flowbook.run r
            where r.queue = g.queue and r.priority = g.priority and r.status in ('pending', 'waiting')
              and r.due_at > now() and r.due_at <= now() + $8::float8 * interval '1 second'
              and r.fingerprint = any ($2::text[]) and r.namespace = $5
              and ($6::uuid[] is null or r.id = any ($6) or ($7 and r.home_id = $1))
            order by r.due_at
            limit 1
        ) n
    ), claimed as (
        update flowbook.run r
        set status = 'running', worker_id = $1, epoch = r.epoch + 1, claims = r.claims + 1, current = '',
            home_id = null, started_at = coalesce(r.started_at, now())
        from picked p where r.id = p.id
        returning {_R_COLUMNS}
    )
    select c.*, extract(epoch from s.due_at - now())::float8 as due_in from soon s left join claimed c on true
    """,
    "One index scan per priority that exists: with the priority fixed, due_at bounds the scan, so a hundred thousand "
    "future timers cost nothing (0.08 ms against 6.6 ms). Locked rows are somebody else's catch. A kernel's own runs "
    "are known by their home: it sent the ids of its 6,000 parked runs each second before. The answer has one row at "
    "least, and says when the next run becomes due if that is before the next look: a poll alone would be late.",
)

CLAIM_AMONG: Final = Statement(
    "claim among",
    f"""
    with mine as (
        select r.id, r.priority, r.due_at, r.due_at <= now() as due from flowbook.run r
        where r.id = any ($6::uuid[]) and r.status in ('pending', 'waiting') and r.queue = any ($3::text[])
          and r.fingerprint = any ($2::text[]) and r.namespace = $5
    ), picked as (
        select r.id
        from (select id from mine where due order by priority desc, due_at, id limit $4) m
        cross join lateral (
            select r.id from flowbook.run r
            where r.id = m.id and r.status in ('pending', 'waiting') and r.due_at <= now()
            for no key update skip locked
        ) r
    ), claimed as (
        update flowbook.run r
        set status = 'running', worker_id = $1, epoch = r.epoch + 1, claims = r.claims + 1, current = '',
            home_id = null, started_at = coalesce(r.started_at, now())
        from picked p where r.id = p.id
        returning {_R_COLUMNS}
    ), soon as (
        select min(due_at) as due_at from mine
        where not due and due_at <= now() + $7::float8 * interval '1 second'
    )
    select c.*, extract(epoch from s.due_at - now())::float8 as due_in,
           m.kind as letter_kind, m.name as letter_name, m.payload as letter_payload, m.at as letter_at
    from soon s left join claimed c on true left join flowbook.mailbox m on m.run_id = c.id and m.id = c.mail
    """,
    "The same for runs that a kernel was woken for, by their ids: no rung and no index of what is due need be walked, "
    "which is most of what the way from a signal to the next step costs at the server. What woke a run is nearly "
    "always one letter, the last one: with it here nobody reads the mailbox. One that is newer than this statement's "
    "view of the mailbox is not there, and is read as ever.",
)

CLAIM_ONLY: Final = Statement(
    "claim only",
    f"""
    with picked as (
        select id from flowbook.run
        where id = $3 and status in ('pending', 'waiting') and fingerprint = any ($2::text[]) and namespace = $4
        for no key update
    )
    update flowbook.run r
    set status = 'running', worker_id = $1, epoch = r.epoch + 1, claims = r.claims + 1, current = '',
        home_id = null, started_at = coalesce(r.started_at, now())
    from picked p where r.id = p.id
    returning {_R_COLUMNS}
    """,
    "One run that somebody asked for by name, due or not. Waits for its lock: there is nothing else to take.",
)

OWNED: Final = Statement(
    "owned",
    f"select {_R_COLUMNS} from flowbook.run r where r.worker_id = $1 and r.status = 'running' and r.id <> all ($2)",
    "After a lost answer to a claim: runs that are this worker's without its knowing.",
)

DEFINE: Final = Statement(
    "define",
    """
    insert into flowbook.definition (namespace, flow, fingerprint, version, spec, sources, signature)
    select $1, $2, $3, 1 + coalesce(max(version), 0), $4::text::jsonb, $5::text::jsonb, $6
    from flowbook.definition where namespace = $1 and flow = $2
    having not exists (
        select from flowbook.definition where namespace = $1 and flow = $2 and fingerprint = $3)
    on conflict (namespace, flow, fingerprint) do nothing
    returning version
    """,
    "Immutable: what is there stays. Two new fingerprints at once may count the same version; the unique index refuses "
    "one of them and it counts again.",
)

DEFINITION: Final = Statement(
    "definition",
    """
    select namespace, flow, fingerprint, version, spec, sources, signature
    from flowbook.definition where namespace = $1 and flow = $2 and fingerprint = $3
    """,
    "The code that a run is pinned to.",
)

DEFINITIONS: Final = Statement(
    "definitions",
    """
    select namespace, flow, fingerprint, version, spec, sources, signature
    from flowbook.definition where namespace = $1 and flow = $2 order by version desc
    """,
    "What a flow has been, for reports on changed code.",
)

FORK: Final = Statement(
    "fork",
    """
    with made as (
        insert into flowbook.run (id, namespace, flow, version, fingerprint, queue, priority, input, input_digest,
                                  metadata, searchable, trigger, status, forked_from, forked_seq,
                                  except_paths)
        select $1, namespace, flow, $3, $4, queue, priority, input, input_digest, metadata, searchable, 'fork',
               'pending', id, $5, $6
        from flowbook.run where id = $2
        on conflict do nothing
        returning id
    )
    insert into flowbook.journal (run_id, seq, epoch, attempt, codec, kind, path, payload)
    select id, 1, 0, $7, $8, $9, $10, $11 from made
    """,
    "Run and first row together: a fork without its row would be a run from the beginning. The row is of epoch 0, "
    "before the first owner. A second sending finds its id taken and writes nothing.",
)

CHANGE_CODE: Final = Statement(
    "change code",
    """
    with hit as (
        update flowbook.run set fingerprint = $3, version = $4, epoch = epoch + 1
        where id = $1 and fingerprint = $2 and status = 'failed'
        returning id, epoch
    )
    insert into flowbook.journal (run_id, seq, epoch, attempt, codec, kind, path, payload)
    select id, 1 + (select coalesce(max(seq), 0) from flowbook.journal where run_id = $1), epoch, $5, $6, $7, $8, $9
    from hit
    returning seq
    """,
    "A failed run is owned by nobody, so whoever raises its epoch may write one row. Who retries it at the same time "
    "waits for the row's lock, or makes us find it pending: then nothing is changed.",
    fresh=True,
)

LAST_SEQ: Final = Statement(
    "last seq",
    "select coalesce(max(seq), 0) from flowbook.journal where run_id = $1",
    "Where to go on counting, for an owner that has not read the history.",
)

NEWEST_SNAPSHOT: Final = Statement(
    "newest snapshot",
    "select seq, tag, payload from flowbook.snapshot where run_id = $1 and tag = $2 order by seq desc limit 1",
    "A tag that does not match is not found, so the fold begins from the first row.",
)

SNAPSHOT: Final = Statement(
    "snapshot",
    """
    insert into flowbook.snapshot (run_id, seq, tag, payload)
    select id, $3, $4, $5 from flowbook.run where id = $1 and epoch = $2
    on conflict (run_id, seq, tag) do nothing
    """,
    "Through the fence: an older epoch finds no row and writes nothing.",
)

SEND: Final = Statement(
    "send",
    f"""
    with hit as (
        update flowbook.run
        set mail = mail + 1,
            due_at = case when $3 = 'retry' then now() else least(due_at, now()) end,
            status = case when $3 = 'retry' then 'pending' else status end,
            error = case when $3 = 'retry' then null else error end,
            ended_at = case when $3 = 'retry' then null else ended_at end
        where id = $1 and case when $3 = 'retry' then status = 'failed' else status not in {OVER} end
        returning {RUN_COLUMNS}
    ), delivered as (
        insert into flowbook.mailbox (run_id, id, token, kind, name, payload)
        select id, mail, $2, $3, $4, $5 from hit
    )
    select * from hit
    """,
    "Message and counter in one transaction, so that an owner which parks either sees the count or makes us wait for "
    "its row and then finds us to make it due. The token makes a second sending fail instead of delivering twice.",
)

MAIL: Final = Statement(
    "mail",
    "select id, mail from flowbook.run where worker_id = $1 and mail > 0",
    "One look for all owned runs, by the index on owners, however many there are.",
)

MAILBOX: Final = Statement(
    "mailbox",
    "select id, kind, name, payload, at from flowbook.mailbox "
    "where run_id = $1 and id > $2 and (kind <> 'child' or id > $3) order by id",
    "In the order of delivery: the id is the counter on the run's row, taken under its lock.",
)

RUN: Final = Statement("run", f"select {RUN_COLUMNS} from flowbook.run where id = $1", "One row.")

FIND: Final = Statement(
    "find",
    f"""
    select {RUN_COLUMNS} from flowbook.run
    where replace(id::text, '-', '') like $1 || '%' or replace(id::text, '-', '') like '%' || $1
    order by id desc limit 5
    """,
    "People type the ending of an id (a v7 id begins with the time). Rare, so it may scan.",
)

SERVE: Final = Statement(
    "serve", "update flowbook.worker set serves = $2 where id = $1", "What this worker would claim."
)

SERVED: Final = Statement(
    "served",
    "select distinct unnest(serves) from flowbook.worker where alive_until > now()",
    "What some live worker would claim.",
)

BLOB_TOUCH: Final = Statement(
    "blob touch",
    "update flowbook.blob set used_at = now() where digest = $1 returning 1",
    "A value that is stored already is not sent again; gc takes only what is unused for a day.",
)

BLOB_PUT: Final = Statement(
    "blob put",
    """
    insert into flowbook.blob (digest, bytes, size) values ($1, $2::bytea, length($2::bytea))
    on conflict (digest) do update set used_at = now()
    """,
    "Content-addressed, so writing twice is writing once.",
)

BLOBS: Final = Statement(
    "blobs", "select digest, bytes from flowbook.blob where digest = any ($1)", "The values behind a history's rows."
)
