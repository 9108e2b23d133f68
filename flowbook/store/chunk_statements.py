"""The statements about streamed text, named and described.

Owns: the SQL of the ``chunk`` table, and of what a reader of a run's stream asks for. Refuses: everything else
(`statements.py`). None of these takes a lock on a run's row: streamed text never holds up a journal.
"""

from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement

WRITE_CHUNKS: Final = Statement(
    "write chunks",
    """
    with mine as (
        select w.* from unnest($1::uuid[], $2::int8[], $3::int8[], $4::text[], $5::int[], $6::text[], $7::bytea[])
             as w (run_id, n, stream, path, attempt, channel, bytes)
        join flowbook.run r on r.id = w.run_id and r.epoch = (w.n >> 32)::int and r.status = 'running'
    ), gone as (
        delete from flowbook.chunk c using mine m
        where m.n = m.stream and c.run_id = m.run_id and c.path = m.path and c.n < m.stream
    )
    insert into flowbook.chunk (run_id, n, stream, path, attempt, channel, bytes)
    select run_id, n, stream, path, attempt, channel, bytes from mine
    on conflict (run_id, n) do nothing
    """,
    "What all streams of a process have to say, ten times a second. The number has the epoch in it, so an older owner "
    "writes nothing and a second sending writes nothing twice. The first chunk of a stream takes the place of what was "
    "streamed at its path before. No lock: a chunk that slips in behind a take-over is replaced by the next stream.",
    fresh=True,
)

DROP_CHUNKS: Final = Statement(
    "drop chunks",
    """
    delete from flowbook.chunk c using unnest($1::uuid[], $2::int8[]) as w (run_id, stream)
    where c.run_id = w.run_id and c.stream = w.stream
    """,
    "The outcome is in the journal, so the text has had its day.",
    fresh=True,
)

SWEEP_CHUNKS: Final = Statement(
    "sweep chunks",
    """
    delete from flowbook.chunk c where c.at < now() - interval '1 minute'
      and (not exists (select from flowbook.run r where r.id = c.run_id
                         and r.status not in ('completed', 'failed', 'cancelled', 'superseded'))
           or exists (select from flowbook.journal j
                      where j.run_id = c.run_id and j.path = c.path and j.kind = 'finished'))
    """,
    "What a process has left that ended before it could throw away its text. Asked by a process that streams, once.",
    fresh=True,
)

NEWS: Final = Statement(
    "news",
    """
    (select 0 as what, 0::int8 as seq, now() as at, 0 as attempt, 0::smallint as codec, status as kind, '' as path,
            ''::bytea as payload, 0::int8 as stream
     from flowbook.run where id = $1)
    union all
    (select 1, seq, at, attempt, codec, kind, path, payload, 0
     from flowbook.journal where run_id = $1 and seq > $2 order by seq limit $4)
    union all
    (select 2, n, at, attempt, 0, channel, path, bytes, stream
     from flowbook.chunk c where run_id = $1 and n > $3
       and not exists (select from flowbook.journal j
                       where j.run_id = $1 and j.path = c.path and j.kind = 'finished' and j.seq <= $2)
     order by n limit $4)
    order by what, seq
    """,
    "All that a reader wants to know, as it was at one moment: in two statements, an outcome could overtake the text "
    "that came before it. Text of a path whose outcome the reader has already is over.",
)
