"""The statements about runs and the runs that they have started, named and described.

Owns: the SQL of ends that others wait for. Refuses: everything else, as `statements.py` does, whose lock order and
fence these keep.
"""

# ruff: noqa: S608  what is put into these texts are columns, statuses and parts of statements, all of them ours
from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement
from flowbook.store.statements import OVER, RUN_COLUMNS, SETTLE_ROWS, SETTLE_VERDICT

SETTLE_FAMILY: Final = Statement(
    "settle family",
    f"""
    with want as (
        select * from unnest($1::uuid[], $2::int[], $3::int[], $4::text[], $5::float8[], $6::text[], $7::text[])
        with ordinality as w (id, epoch, seen, status, due_in, current, error, n)
    ), follower as (
        select r.id as ended, r.parent_id as id, r.parent_path as name
        from want w join flowbook.run r on r.id = w.id where r.parent_id is not null
        union
        select m.run_id, encode(m.payload, 'hex')::uuid, m.name
        from want w join flowbook.mailbox m on m.run_id = w.id where m.kind = 'follow'
    ), taken as (
        select r.id, r.epoch, r.status, r.mail, clock_timestamp() as at
        from flowbook.run r
        where r.id in (select id from want union all select id from follower)
        order by r.id
        for no key update of r skip locked
    ), locked as (
        select t.id, t.epoch, t.mail, t.at, w.n
        from taken t join want w on w.id = t.id
        where t.epoch = w.epoch and t.status = 'running' and not exists (
            select from follower f join flowbook.run r on r.id = f.id
            where f.ended = t.id and f.id not in (select id from taken))
    ), free as (
        select l.id, l.epoch, l.at, l.n, w.status, w.due_in, w.current, w.error
        from locked l join want w on w.n = l.n
        where l.mail <= w.seen
    ), {SETTLE_ROWS}, released as (
        update flowbook.run r
        set status = f.status, worker_id = null, current = f.current, error = f.error, due_at = 'infinity',
            ended_at = f.at
        from free f where r.id = f.id
    ), told as (
        select t.id, t.mail + row_number() over (partition by t.id order by e.id, f.name) as number, e.id as ended,
               f.name, md5(e.id::text || ':' || e.epoch || ':' || f.name)::uuid as token, e.status
        from free e join follower f on f.ended = e.id join taken t on t.id = f.id
        where t.status not in {OVER} and t.id not in (select id from free)
    ), woken as (
        update flowbook.run r set mail = r.mail + n.letters, due_at = least(r.due_at, now())
        from (select id, count(*)::int as letters from told group by id) n
        where r.id = n.id
    ), delivered as (
        insert into flowbook.mailbox (run_id, id, token, kind, name, payload)
        select id, number, token, 'child', name, uuid_send(ended) || convert_to(status, 'UTF8') from told
    )
    {SETTLE_VERDICT},
           array(select t.id from told t where t.ended = w.id) as told
    from want w left join locked l on l.n = w.n
    """,
    "Ends that others wait for: a parent, and whoever sent a `follow`. The news is in their mailbox in the transaction "
    "of the end, so no crash can come between. Children and those who are told are locked together, in ascending id or "
    "not at all: if somebody else has a parent's row, the child is busy. A run that ends in this very statement is "
    "over, and told nothing. A run without parent and without mail never comes here.",
)

SETTLE_FAMILY_WAITING: Final = Statement(
    "settle family waiting",
    SETTLE_FAMILY.sql.replace(" skip locked", ""),
    "As APPEND_WAITING, for such an end.",
)

CHILDREN: Final = Statement(
    "children",
    f"""
    select {RUN_COLUMNS} from flowbook.run
    where parent_id = $1 and (not $2::boolean or status not in ('completed', 'failed', 'cancelled', 'superseded'))
    order by created_at, id
    """,
    "Of one parent, by the index on parents; $2: those that are not over. Their ids are made from their paths, so they "
    "are in no order of time.",
)
