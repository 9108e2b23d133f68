"""Housekeeping in Postgres: throwing away what is over, in small transactions, while workers run.

Owns: the order of things: families, what their forks held back, orphans, lost output, blobs. Refuses: the rules
(`gc_statements.py`). Interrupted anywhere, it goes on when it is called again.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from flowbook.ports import Swept
from flowbook.store import gc_statements as sql
from flowbook.store.driver import Record
from flowbook.store.retrying import Line

BATCH: Final = 100
"""Runs that go in one transaction."""
CHOSEN: Final = 10_000
"""Runs that one look at all of them chooses."""
UNUSED: Final = 86_400.0
"""Seconds since its last use after which an unwanted blob goes: long enough for whoever stored it to refer to it."""
BLOBS_AT_ONCE: Final = 50
"""Values may be large: few go in one transaction."""


class Housekeeping:
    """`flowbook.ports.Housekeeping` over one connection."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def gc(self, older_than: float, *, dry_run: bool = False, unused: float = UNUSED) -> Swept:
        """Throw away runs that have been over for ``older_than`` seconds, and blobs that nothing refers to."""
        found: Counter[str] = Counter()
        if dry_run:
            await self._count(older_than, found)
        else:
            await self._sweep_all(older_than, found)
        await self._blobs(unused, found, dry_run=dry_run)
        return Swept(**found, dry_run=dry_run)

    async def _sweep_all(self, older_than: float, found: Counter[str]) -> None:
        while orphans := await self._ids(sql.ORPHANS, CHOSEN):
            if not await self._sweep(orphans, None, found):
                break  # somebody has them locked
        while victims := await self._ids(sql.VICTIMS, older_than, [], CHOSEN):
            if not await self._sweep(victims, older_than, found):
                break
        for statement in sql.LOST:
            await self._line.fetch(statement)
        await self._line.fetch(sql.EXPIRED)

    async def _sweep(self, ids: Sequence[UUID], older_than: float | None, found: Counter[str]) -> int:
        """Throw these away, and all below them; how many are gone."""
        gone = 0
        for batch in _batches(ids, BATCH):
            record = await self._batch(batch, older_than)
            if record is None or not record["ids"]:
                continue
            gone += len(record["ids"])
            found["runs"] += len(record["ids"])
            _add(found, record)
            below = record["ids"]
            while children := await self._ids(sql.CHILDREN_OF, below, BATCH):
                if not await self._sweep(children, None, found):
                    break  # one has come to life, or is held: it is an orphan of the next time
        return gone

    async def _batch(self, ids: Sequence[UUID], older_than: float | None) -> Record | None:
        # A fork that began a moment ago refuses its parent's end: the next look does not choose it any more.
        with contextlib.suppress(asyncpg.ForeignKeyViolationError):
            return await self._line.fetchrow(sql.SWEEP, list(ids), older_than)
        return None

    async def _count(self, older_than: float, found: Counter[str]) -> None:
        counted: list[UUID] = []
        while victims := await self._ids(sql.VICTIMS, older_than, counted, CHOSEN):
            counted += victims
            for batch in _batches(victims, BATCH):
                record = await self._line.fetchrow(sql.WEIGHT, list(batch))
                assert record is not None  # it counts
                found["runs"] += record["runs"]
                _add(found, record)

    async def _blobs(self, unused: float, found: Counter[str], *, dry_run: bool) -> None:
        while unwanted := await self._line.fetch(sql.UNWANTED, unused):
            if dry_run:
                sizes = [record["size"] for record in unwanted]
            else:
                digests = [record["digest"] for record in unwanted]
                batches = _batches(digests, BLOBS_AT_ONCE)
                sizes = [r["size"] for b in batches for r in await self._line.fetch(sql.DROP_BLOBS, list(b), unused)]
            found["blobs"] += len(sizes)
            found["blob_bytes"] += sum(sizes)
            if dry_run or not sizes:
                break

    async def _ids(self, statement: Any, *args: Any) -> list[UUID]:
        return [record["id"] for record in await self._line.fetch(statement, *args)]


def _add(found: Counter[str], record: Record) -> None:
    found["entries"] += record["journal"]
    found["outputs"] += record["output"]
    found["bytes"] += record["run_bytes"] + sum(record[f"{table}_bytes"] for table in sql.BELONGS)


def _batches(things: Sequence[Any], size: int) -> Sequence[Sequence[Any]]:
    return [things[at : at + size] for at in range(0, len(things), size)]
