"""The statements that read journals, named and described.

Owns: the SQL of what a fold, a fork and a lazy sequence read. Refuses: everything else (`statements.py`).
"""

# ruff: noqa: S608  the only thing put into these texts is a number of ours
from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement
from flowbook.store.rows import BLOB

HISTORY: Final = Statement(
    "history",
    """
    select seq, at, attempt, codec, kind, path, payload
    from flowbook.journal where run_id = $1 order by seq
    """,
    "The whole journal in one query: 11 ms for 5,000 rows against 530 ms one by one.",
)

PREFIX: Final = Statement(
    "prefix",
    """
    with recursive line (id, depth, upto, parent) as (
        select p.id, 1, r.forked_seq, p.forked_from
        from flowbook.run r join flowbook.run p on p.id = r.forked_from where r.id = $1
        union all
        select p.id, l.depth + 1, r.forked_seq, p.forked_from
        from line l join flowbook.run r on r.id = l.id join flowbook.run p on p.id = l.parent
    ), gone (depth, path) as (
        select 1, x from flowbook.run r, unnest(r.except_paths) x where r.id = $1
        union all
        select l.depth + 1, x from line l join flowbook.run r on r.id = l.id, unnest(r.except_paths) x
    )
    select j.seq, j.at, j.attempt, j.kind, j.path, case when bare then 0 else j.codec end as codec,
           case when bare then ''::bytea else j.payload end as payload
    from line l join flowbook.journal j on j.run_id = l.id
    cross join lateral (select j.kind = 'finished' and right(j.path, 1) = ']' as bare) items
    where j.seq <= l.upto and j.kind = any ($2::text[])
      and not exists (select from gone g where g.depth <= l.depth and g.path = j.path)
    order by l.depth desc, j.seq
    """,
    "What a fork reads of those before it, in one query however long the line: each up to the row where the next one "
    "left it, without what depends on a point between. Asked only where the first row says that it is a fork, so "
    "no other run pays for it. Rows of a map's items come without their values, as in PAGE.",
)

PAGE: Final = Statement(
    "page",
    """
    select seq, at, attempt, kind, path,
           case when bare then 0 else codec end as codec, case when bare then ''::bytea else payload end as payload
    from (
        select *, kind = 'finished' and right(path, 1) = ']' as bare
        from flowbook.journal where run_id = $1 and seq > $2 order by seq limit $3
    ) rows order by seq
    """,
    "A journal in pieces, to be folded. What the items of a map have returned changes nothing that is folded, and "
    "there may be 100,000 of them: those rows come without their values.",
)

ITEMS: Final = Statement(
    "items",
    f"""
    with recursive line (id, depth, parent) as (
        select id, 0, forked_from from flowbook.run where id = $1
        union all
        select r.id, l.depth + 1, r.forked_from from line l join flowbook.run r on r.id = l.parent
    )
    select seq, at, attempt, codec, kind, path, payload from (
        select j.*, w.n, coalesce(sum(case when j.codec = {BLOB} then $3::int else octet_length(j.payload) end)
                                  over (order by w.n rows between unbounded preceding and 1 preceding), 0) as before
        from unnest($2::text[]) with ordinality as w (path, n)
        cross join lateral (
            select found.* from line l cross join lateral (
                select * from flowbook.journal where run_id = l.id and path = w.path and kind = 'finished' limit 1
            ) found order by l.depth limit 1
        ) j
    ) found where before < $3::int order by n
    """,
    "The outcomes of paths, in the order of the question; only the first of them whose bytes stay within a budget, but "
    "one at least. Path by path: joined, a fresh database without statistics reads the whole run once per path. What a "
    "fork has not done itself it has from the nearest of those before it.",
)
