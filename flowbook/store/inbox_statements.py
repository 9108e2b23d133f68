"""The statements of the inbox, named and described.

Owns: the SQL that finds what waits for somebody's decision. Refuses: everything else (`statements.py`).
"""

# ruff: noqa: S608  the only things put into these texts are the list of columns and a condition of ours
from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement
from flowbook.store.statements import RUN_COLUMNS

_ASKS: Final = "(status = 'waiting' and asks or status = 'pending' and claims > 0)"
"""The condition of ``run_asks_ix``, word for word."""
_OURS: Final = """($1::text is null or namespace = $1) and ($2::text is null or flow = $2)
          and ($3::uuid is null or id = $3)"""
MOST_BYTES: Final = 20_000
"""Of an outcome that is shown beside a question."""

ASKED: Final = Statement(
    "asked",
    f"""
    with asking as (
        (select {RUN_COLUMNS} from flowbook.run where {_ASKS} and {_OURS} order by id desc limit $4)
        union all
        (select {RUN_COLUMNS} from flowbook.run where worker_id is not null and status = 'running' and {_OURS})
    )
    select r.*, j.seq as j_seq, j.at as j_at, j.attempt as j_attempt, j.kind as j_kind, j.path as j_path,
           j.codec as j_codec, j.payload as j_payload,
           b.seq as b_seq, b.at as b_at, b.attempt as b_attempt, b.kind as b_kind, b.path as b_path,
           b.payload as b_payload
    from asking r
    cross join lateral (
        select distinct on (path) seq, at, attempt, kind, path, codec, payload from flowbook.journal
        where run_id = r.id and kind in ('waiting', 'handed', 'attempt', 'dropped')
        order by path, seq desc
    ) j
    left join lateral (
        select seq, at, attempt, kind, path, payload from flowbook.journal
        where run_id = r.id and seq < j.seq and kind = 'finished' and codec = 0
          and octet_length(payload) <= {MOST_BYTES}
        order by seq desc limit 1
    ) b on true
    where (j.kind = 'handed' or (j.kind = 'waiting' and j.attempt > 0))
      and not exists (select from flowbook.journal o
                      where o.run_id = r.id and o.path = j.path and o.kind = 'finished')
    order by r.id desc, j.seq
    """,
    "Runs that are let go of are found by an index that only those are in which listen, or whose process died; those "
    "that somebody carries are few, and found by their owner. In each, the newest row of a path among those that a "
    "pause has says whether it is open, by an index that other rows are not in. 10,000 sleeping runs are in neither.",
)

LETTERS: Final = Statement(
    "letters",
    """
    select run_id, id, kind, name, payload, at from flowbook.mailbox
    where run_id = any ($1::uuid[]) and kind in ('decision', 'answer') order by run_id, id
    """,
    "What was decided and not read yet, of the runs of a list.",
)
