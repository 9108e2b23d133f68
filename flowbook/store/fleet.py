"""What a fleet of workers asks of Postgres.

Owns: the questions of workers as a whole. Refuses: runs, journals and who is alive (the other parts of the store).
Every statement here may be sent twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from flowbook.ports import Definition
from flowbook.rows import Queue
from flowbook.store import fleet_statements as sql
from flowbook.store.reads import to_definition
from flowbook.store.retrying import Line


class Fleet:
    """`flowbook.ports.FleetStore` over one connection."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def flows(self, namespace: str) -> Sequence[Definition]:
        """The newest definition of each flow of a namespace, by name."""
        return [to_definition(record) for record in await self._line.fetch(sql.FLOWS, namespace)]

    async def strangers(
        self, namespace: str, queues: Sequence[str], known: frozenset[str]
    ) -> Sequence[tuple[str, str]]:
        """(flow, fingerprint) of due runs whose code is not in ``known`` and that no live process has parked."""
        records = await self._line.fetch(sql.STRANGERS, namespace, list(queues), list(known))
        return [(record["flow"], record["fingerprint"]) for record in records]

    async def acquire(self, namespace: str, name: str, limit: int, run_id: UUID, epoch: int) -> int | None:
        """Take one of ``limit`` places under a name for a run; its number. None: all are taken."""
        record = await self._line.fetchrow(sql.ACQUIRE, namespace, name, limit, run_id, epoch)
        return None if record is None else int(record["n"])

    async def free(self, namespace: str, name: str, place: int, run_id: UUID, epoch: int) -> None:
        """Give a place back; one that is somebody else's by now stays his."""
        await self._line.fetch(sql.FREE, namespace, name, place, run_id, epoch)

    async def reserve(self, namespace: str, name: str, number: int, period: float) -> float:
        """Be the next one under a rate; seconds to wait."""
        wait: float = (await self._line.fetch(sql.RESERVE, namespace, name, number, period))[0]["wait"]
        return max(0.0, wait)

    async def cached(self, namespace: str, key: bytes) -> bytes | None:
        """What was kept under a key, if it has not run out."""
        record = await self._line.fetchrow(sql.CACHED, namespace, key)
        return None if record is None else record["payload"]

    async def cache(self, namespace: str, key: bytes, payload: bytes, run_id: UUID, seconds: float) -> None:
        """Keep bytes under a key for so many seconds."""
        await self._line.fetch(sql.CACHE, namespace, key, payload, run_id, seconds)

    async def queues(self, namespace: str) -> Sequence[Queue]:
        """Queues that have runs under way or waiting for a worker, or a limit, by name."""
        records = await self._line.fetch(sql.QUEUES, namespace)
        return [Queue(r["name"], r["waiting"], r["running"], r["most"], r["at"]) for r in records]

    async def limit(self, namespace: str, queue: str, most: int | None) -> None:
        """How many runs of a queue workers carry at once; None: as many as they like."""
        if most is None:
            await self._line.fetch(sql.UNLIMIT, namespace, queue)
        else:
            await self._line.fetch(sql.LIMIT, namespace, queue, most)
