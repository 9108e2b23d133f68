"""What a fleet of workers asks, of a memory store.

Owns: the same answers as `fleet.py`. Refuses: durability.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowbook.plan.records import Status
from flowbook.ports import Definition
from flowbook.store.memory_database import MemoryDatabase


class MemoryFleet:
    """`flowbook.ports.FleetStore` over dictionaries."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def flows(self, namespace: str) -> Sequence[Definition]:
        """The newest definition of each flow of a namespace, by name."""
        newest: dict[str, Definition] = {}
        for found in sorted(self._database.definitions.values(), key=lambda d: d.version):
            if found.namespace == namespace:
                newest[found.flow] = found
        return [newest[flow] for flow in sorted(newest)]

    async def strangers(
        self, namespace: str, queues: Sequence[str], known: frozenset[str]
    ) -> Sequence[tuple[str, str]]:
        """(flow, fingerprint) of due runs whose code is not in ``known`` and that no live process has parked."""
        now, workers = self._database.now(), self._database.workers
        found = {
            (kept.row.flow, kept.row.fingerprint)
            for kept in self._database.runs.values()
            if kept.row.namespace == namespace
            and kept.row.queue in queues
            and kept.row.status in (Status.PENDING, Status.WAITING)
            and kept.row.due_at <= now
            and kept.row.fingerprint not in known
            and not (kept.home in workers and workers[kept.home].alive)
        }
        return sorted(found)
