"""The statements about outputs of steps, named and described.

Owns: the SQL of the ``output`` table. Refuses: everything else (`statements.py`). None of these takes a lock on a run's
row: what a step prints never holds up a journal.
"""

from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement

KEEP_OUTPUTS: Final = Statement(
    "keep outputs",
    """
    insert into flowbook.output (run_id, path, attempt, n, at, codec, kind, payload)
    select w.* from unnest($1::uuid[], $2::text[], $3::int[], $4::int8[], $5::timestamptz[], $6::int2[], $7::text[],
                           $8::bytea[]) as w (run_id, path, attempt, n, at, codec, kind, payload)
    where exists (select from flowbook.run r where r.id = w.run_id)
    on conflict (run_id, path, attempt, n) do update
       set kind = excluded.kind, payload = excluded.payload, codec = excluded.codec
    """,
    "What all attempts of a process have printed, twice a second. The last piece of an attempt grows up to 16 kB, "
    "so it is written again with what came to it. The number has the epoch in it: nobody writes over another owner's.",
    fresh=True,
)

OUTPUTS: Final = Statement(
    "outputs",
    """
    select run_id, path, attempt, n, at, codec, kind, payload from flowbook.output
    where run_id = $1 and ($2::text is null or path = $2) order by at, path, attempt, n
    """,
    "Of a whole run in the order of time, as somebody would have seen it.",
)
