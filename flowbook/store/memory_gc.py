"""Housekeeping in memory.

Owns: the same rules as `gc.py`. Refuses: durability.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from flowbook.codec import decode
from flowbook.errors import Undecodable
from flowbook.plan.pieces import InPieces
from flowbook.ports import Swept
from flowbook.store.memory_database import Kept, MemoryDatabase


class MemoryHousekeeping:
    """`flowbook.ports.Housekeeping` over dictionaries; values are in their rows, so blobs are pieces of inputs."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def gc(self, older_than: float, *, dry_run: bool = False, unused: float = 86_400.0) -> Swept:
        """Throw away runs that have been over for ``older_than`` seconds, and blobs that nothing refers to."""
        gone: dict[UUID, Kept] = {}
        while fresh := self._victims(older_than, gone):
            gone |= fresh
        runs = self._database.runs
        wanted = {d for run_id, kept in runs.items() if run_id not in gone for d in _digests(kept)}
        unwanted = {d: len(b) for d, b in self._database.blobs.items() if d not in wanted and unused <= 0}
        if not dry_run:
            for run_id, kept in gone.items():
                del runs[run_id]
                if kept.row.key is not None:
                    del self._database.keys[kept.row.namespace, kept.row.flow, kept.row.key]
            for digest in unwanted:
                del self._database.blobs[digest]
        return Swept(
            runs=len(gone),
            entries=sum(len(kept.journal) for kept in gone.values()),
            outputs=sum(len(kept.outputs) for kept in gone.values()),
            bytes=sum(len(kept.row.input) + sum(len(e.payload) for e in kept.journal) for kept in gone.values()),
            blobs=len(unwanted),
            blob_bytes=sum(unwanted.values()),
            dry_run=dry_run,
        )

    def _victims(self, older_than: float, gone: dict[UUID, Kept]) -> dict[UUID, Kept]:
        before = self._database.now() - timedelta(seconds=older_than)
        families: dict[UUID, list[Kept]] = {}
        for run_id, kept in self._database.runs.items():
            if run_id not in gone:
                families.setdefault(kept.row.root_id or run_id, []).append(kept)
        read = {k.row.forked_from for run_id, k in self._database.runs.items() if run_id not in gone}
        return {
            kept.row.id: kept
            for family in families.values()
            if all(k.row.status.over and k.row.ended_at is not None and k.row.ended_at < before for k in family)
            and not read & {k.row.id for k in family}
            for kept in family
        }


def _digests(kept: Kept) -> set[bytes]:
    try:
        value = decode(kept.row.input)
    except Undecodable:  # whatever a test put there
        return set()
    given = value.values() if isinstance(value, dict) else ()
    return {digest for each in given if type(each) is InPieces for digest in each.pieces}
