"""What a fleet of workers asks, of a memory store.

Owns: the same answers as `fleet.py`. Refuses: durability.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from flowbook.plan.records import Status
from flowbook.ports import Definition
from flowbook.rows import Queue
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

    async def acquire(self, namespace: str, name: str, limit: int, run_id: UUID, epoch: int) -> int | None:
        """Take one of ``limit`` places under a name for a run; its number. None: all are taken."""
        places = self._database.permits.setdefault((namespace, name), {})
        for n in range(limit):
            if n not in places or not self._owned(*places[n]):
                places[n] = run_id, epoch
                return n
        return None

    def _owned(self, run_id: UUID, epoch: int) -> bool:
        kept = self._database.runs.get(run_id)
        return kept is not None and kept.row.epoch == epoch and kept.row.status is Status.RUNNING

    async def free(self, namespace: str, name: str, place: int, run_id: UUID, epoch: int) -> None:
        """Give a place back; one that is somebody else's by now stays his."""
        places = self._database.permits.get((namespace, name), {})
        if places.get(place) == (run_id, epoch):
            del places[place]

    async def reserve(self, namespace: str, name: str, number: int, period: float) -> float:
        """Be the next one under a rate; seconds to wait."""
        now = self._database.now()
        times = self._database.rates.setdefault((namespace, name), [])
        before = [times[-number] + timedelta(seconds=period)] if len(times) >= number else []
        times.append(max([now, *times[-1:], *before]))
        del times[:-number]
        return (times[-1] - now).total_seconds()

    async def cached(self, namespace: str, key: bytes) -> bytes | None:
        """What was kept under a key, if it has not run out."""
        payload, until = self._database.cache.get((namespace, key), (None, None))
        return payload if until is not None and until > self._database.now() else None

    async def cache(self, namespace: str, key: bytes, payload: bytes, run_id: UUID, seconds: float) -> None:
        """Keep bytes under a key for so many seconds."""
        self._database.cache[namespace, key] = payload, self._database.now() + timedelta(seconds=seconds)

    async def queues(self, namespace: str) -> Sequence[Queue]:
        """Queues that have runs under way or waiting for a worker, or a limit, by name."""
        now = self._database.now()
        rows = [k.row for k in self._database.runs.values() if k.row.namespace == namespace]
        running = Counter(r.queue for r in rows if r.status is Status.RUNNING)
        due = [r for r in rows if r.status in (Status.PENDING, Status.WAITING) and r.due_at <= now]
        limits = {queue: most for (of, queue), most in self._database.limits.items() if of == namespace}
        return [
            Queue(
                name, sum(r.queue == name for r in due), running[name], limits.get(name),
                min((r.due_at for r in due if r.queue == name), default=None),
            )
            for name in sorted({*running, *limits, *(r.queue for r in due)})
        ]  # fmt: skip

    async def limit(self, namespace: str, queue: str, most: int | None) -> None:
        """How many runs of a queue workers carry at once; None: as many as they like."""
        if most is None:
            self._database.limits.pop((namespace, queue), None)
        else:
            self._database.limits[namespace, queue] = most
