"""The statements that throw away what is over.

Owns: their SQL, which runs may go, and what a blob is referenced by. Refuses: deciding how long things are kept.

A run may go when it and all below it are over for long enough and nothing that stays reads it: a fork reads its
parent's journal. Children go with their root. The row of a run goes first and what belongs to it in the same
statement: who still has it for his own finds no row to write through, and nothing is left that nobody can find.
"""

# ruff: noqa: S608  the only things put into these texts are constants of this module
from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement
from flowbook.store.rows import BLOB
from flowbook.store.statements import OVER

BELONGS: Final = ("journal", "mailbox", "snapshot", "chunk", "output")
"""Tables whose rows go with their run; each has a ``run_id`` and a ``payload`` or ``bytes``."""
_IN_PIECES: Final = """select decode(found[1], 'base64') from flowbook.{},
       regexp_matches(encode(input, 'escape'), '"bytes","([A-Za-z0-9+/]{{43}}=)"', 'g') as found
       where position('InPieces'::bytea in input) > 0"""
_HEX: Final = """select decode(found[1], 'hex') from flowbook.{table},
       regexp_matches(encode({column}, 'escape'), '"([0-9a-f]{{64}})"', 'g') as found
       where {where}"""
_MANIFEST: Final = """size < 16777216 and substring(bytes from 1 for 10) = '{"ambient"'::bytea"""
REFERENCES: Final = (
    f"select payload as digest from flowbook.journal where codec = {BLOB}",
    f"select payload from flowbook.output where codec = {BLOB}",
    f"select payload from flowbook.cache_entry where codec = {BLOB}",
    # An input's long lists lie in pieces: the digests stand in it as the codec writes bytes, in base64. Other bytes of
    # the same length count as digests as well, which keeps a blob for longer and loses none.
    _IN_PIECES.format("run"),
    _IN_PIECES.format("schedule"),
    # What the cells of notebooks have kept: a cell's row names a manifest, a manifest its pieces (which therefore go
    # one sweep after it), the record of a `%%step` has its manifest in it. All of them are JSON with digests in hex.
    _HEX.format(table="journal", column="payload", where=f"path like 'cell\\_%' and codec <> {BLOB}"),
    _HEX.format(table="cache_entry", column="payload", where="namespace = '%%step'"),
    _HEX.format(table="blob", column="bytes", where=_MANIFEST),
)
"""Everything that says that a blob is still wanted. Whoever keeps digests elsewhere adds a line."""

VICTIMS: Final = Statement(
    "gc victims",
    f"""
    with living as (
        select distinct root_id as id from flowbook.run
        where root_id is not null and (status not in {OVER} or ended_at >= now() - $1::float8 * interval '1 second')
    ), read as (
        select coalesce(p.root_id, p.id) as id from flowbook.run f join flowbook.run p on p.id = f.forked_from
        where coalesce(f.root_id, f.id) <> all ($2::uuid[]) and coalesce(f.root_id, f.id) <> coalesce(p.root_id, p.id)
    )
    select r.id from flowbook.run r
    where r.parent_id is null and r.status in {OVER} and r.ended_at < now() - $1::float8 * interval '1 second'
      and r.id <> all ($2::uuid[])
      and not exists (select from living l where l.id = r.id) and not exists (select from read f where f.id = r.id)
    order by r.id limit $3
    """,
    "Whole families that are over for so many seconds and that no fork reads; forks among $2 do not count (a dry run "
    "counts them as gone). One scan for up to $3 of them, however many batches they go in.",
    fresh=True,
)

ORPHANS: Final = Statement(
    "gc orphans",
    f"""
    select c.id from flowbook.run c where c.parent_id is not null and c.status in {OVER}
      and not exists (select from flowbook.run p where p.id = c.root_id)
      and not exists (select from flowbook.run f where f.forked_from = c.id)
    order by c.id limit $1
    """,
    "Children whose root is gone: of a family that was being thrown away when somebody pulled the plug.",
    fresh=True,
)

_CUT: Final = ", ".join(
    f"""{table}_rows as (
        delete from flowbook.{table} where run_id in (select id from dead)
        returning length({"bytes" if table == "chunk" else "payload"}) as size
    )"""
    for table in BELONGS
)
_COUNTS: Final = ", ".join(
    f"(select count(*) from {t}_rows) as {t}, (select coalesce(sum(size), 0) from {t}_rows) as {t}_bytes"
    for t in BELONGS
)

SWEEP: Final = Statement(
    "gc sweep",
    f"""
    with chosen as (
        select r.id from flowbook.run r
        where r.id = any ($1::uuid[]) and r.status in {OVER}
          and ($2::float8 is null or r.ended_at < now() - $2::float8 * interval '1 second')
          and not exists (select from flowbook.run f where f.forked_from = r.id)
        order by r.id for update skip locked
    ), dead as (
        delete from flowbook.run r using chosen where r.id = chosen.id returning r.id, length(r.input) as size
    ), {_CUT}
    select (select coalesce(array_agg(id), '{{}}') from dead) as ids,
           (select coalesce(sum(size), 0) from dead) as run_bytes, {_COUNTS}
    """,
    "A batch: the rows of the runs, then all that belongs to them, in one transaction. What has come to life since it "
    "was chosen, or is locked by somebody, is left alone.",
    fresh=True,
)

CHILDREN_OF: Final = Statement(
    "gc children",
    "select id from flowbook.run where parent_id = any ($1::uuid[]) order by id limit $2",
    "Who stood below runs that are gone, by the index of parents.",
    fresh=True,
)

WEIGHT: Final = Statement(
    "gc weight",
    "with recursive family as (select unnest($1::uuid[]) as id union all "
    "select c.id from family f join flowbook.run c on c.parent_id = f.id) "
    "select count(*) as runs, "
    "(select coalesce(sum(length(r.input)), 0) from flowbook.run r join family f on f.id = r.id) as run_bytes, "
    + ", ".join(
        f"(select count(*) from flowbook.{t} t join family f on f.id = t.run_id) as {t}, "
        f"(select coalesce(sum(length(t.{'bytes' if t == 'chunk' else 'payload'})), 0) from flowbook.{t} t "
        f"join family f on f.id = t.run_id) as {t}_bytes"
        for t in BELONGS
    )
    + " from family",
    "What a batch would throw away, families and all: for a dry run.",
    fresh=True,
)

LEFT: Final = ("chunk", "output", "reservation")
"""Tables that may get rows of a run that is gone: they have no foreign key. (What was set aside of a budget by an
attempt that died stays counted in the budget.)"""

LOST: Final = tuple(
    Statement(
        f"gc lost {table}",
        f"""
        with gone as (
            select ctid from flowbook.{table} t
            where not exists (select from flowbook.run r where r.id = t.run_id) limit 10000
        )
        delete from flowbook.{table} t using gone where t.ctid = gone.ctid
        """,
        "What came when its run was gone.",
        fresh=True,
    )
    for table in LEFT
)

UNWANTED: Final = Statement(
    "gc unwanted",
    f"""
    select b.digest, b.size from flowbook.blob b
    where b.used_at < now() - $1::float8 * interval '1 second'
      and not exists (select from ({" union all ".join(REFERENCES)}) w where w.digest = b.digest)
    order by b.digest limit 10000
    """,
    "Blobs that nothing refers to and nobody has used for so long. One look at all references for 10,000 of them.",
    fresh=True,
)

DROP_BLOBS: Final = Statement(
    "gc drop blobs",
    """
    delete from flowbook.blob where digest = any ($1::bytea[]) and used_at < now() - $2::float8 * interval '1 second'
    returning size
    """,
    "Who stores the same value again touches its blob first, and refers to it after that: a touched one is left alone, "
    "and one that is gone by then is stored again.",
    fresh=True,
)

EXPIRED: Final = Statement(
    "gc expired",
    "delete from flowbook.cache_entry where expires_at < now()",
    "Cached results that are not valid any more.",
)
