"""Flows that are defined as data, in memory.

Owns: the same answers as `specs.py`. Refuses: durability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from flowbook.ports import Defined
from flowbook.store.memory_database import MemoryDatabase, as_json


class MemorySpecs:
    """`flowbook.ports.SpecStore` over dictionaries."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def define(self, new: Defined) -> Defined:
        """Store a spec as the next version of its name; the newest one, if it is the same."""
        versions = self._database.specs.setdefault((new.namespace, new.name), [])
        spec = as_json(new.spec)
        if not versions or versions[-1].ended_at is not None or versions[-1].spec != spec:
            kept = replace(new, spec=spec, version=len(versions) + 1, created_at=self._database.now(), ended_at=None)
            versions.append(kept)
        return versions[-1]

    async def versions(self, namespace: str, name: str) -> Sequence[Defined]:
        """All versions of a name, newest first, also those that were taken back."""
        return list(reversed(self._database.specs.get((namespace, name), [])))

    async def live(self, namespace: str | None) -> Sequence[Defined]:
        """The newest version of each name that is defined; None: of all namespaces."""
        found = [kept[-1] for _, kept in sorted(self._database.specs.items()) if kept and kept[-1].ended_at is None]
        return [each for each in found if namespace in (None, each.namespace)]

    async def end(self, namespace: str, name: str) -> datetime | None:
        """Take a name back; the moment. None: it was not defined."""
        versions = self._database.specs.get((namespace, name), [])
        if not versions or versions[-1].ended_at is not None:
            return None
        now = self._database.now()
        versions[:] = [each if each.ended_at else replace(each, ended_at=now) for each in versions]
        return now

    async def restore(self, namespace: str, name: str, ended_at: datetime) -> None:
        """Undo what `end` did at that moment."""
        versions = self._database.specs[namespace, name]
        versions[:] = [replace(each, ended_at=None) if each.ended_at == ended_at else each for each in versions]

    async def active(self, namespace: str, flow: str) -> Sequence[UUID]:
        """Up to eleven runs of a flow that are not over."""
        rows = (kept.row for kept in self._database.runs.values())
        return sorted(r.id for r in rows if (r.namespace, r.flow) == (namespace, flow) and not r.status.over)[:11]
