"""Ports of a fleet: what workers ask of the database together, and schedules.

Owns: the Protocols that `ports.Store` has for them. Refuses: any implementation (`store/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from flowbook.plan.schedules import Fire, Schedule
from flowbook.rows import Definition, NewFire, Queue, Tick


class FleetStore(Protocol):
    """What workers ask of the database as a fleet. Waits for the database as a `Store` does."""

    async def flows(self, namespace: str) -> Sequence[Definition]:
        """The newest definition of each flow of a namespace, by name."""
        ...

    async def strangers(
        self, namespace: str, queues: Sequence[str], known: frozenset[str]
    ) -> Sequence[tuple[str, str]]:
        """(flow, fingerprint) of due runs whose code is not in ``known`` and that no live process has parked."""
        ...

    async def acquire(self, namespace: str, name: str, limit: int, run_id: UUID, epoch: int) -> int | None:
        """Take one of ``limit`` places under a name for a run that this worker owns; its number. None: all are taken.

        A place is free again when it is given back, or when its run is not owned under that epoch any more: ended,
        parked, or taken over from a worker that died.
        """
        ...

    async def free(self, namespace: str, name: str, place: int, run_id: UUID, epoch: int) -> None:
        """Give a place back; one that is somebody else's by now stays his."""
        ...

    async def reserve(self, namespace: str, name: str, number: int, period: float) -> float:
        """Be the next one under a name of which ``number`` may begin in any ``period`` seconds; seconds to wait."""
        ...

    async def cached(self, namespace: str, key: bytes) -> bytes | None:
        """What was kept under a key, if it has not run out."""
        ...

    async def cache(self, namespace: str, key: bytes, payload: bytes, run_id: UUID, seconds: float) -> None:
        """Keep bytes under a key for so many seconds; what has run out is thrown away on the way."""
        ...

    async def queues(self, namespace: str) -> Sequence[Queue]:
        """Queues that have runs under way or waiting for a worker, or a limit, by name."""
        ...

    async def limit(self, namespace: str, queue: str, most: int | None) -> None:
        """How many runs of a queue workers carry at once, all of them together; None: as many as they like."""
        ...


class Timetable(Protocol):
    """Schedules and what became of their moments. Waits for the database as a `Store` does."""

    async def put(self, schedule: Schedule) -> Schedule:
        """Make a schedule, or change the one of that name: a pause stays, and ``next_at`` where the times do."""
        ...

    async def schedules(self, namespace: str, name: str | None = None) -> Sequence[Schedule]:
        """Those of a namespace by name, or the one of that name."""
        ...

    async def drop(self, namespace: str, name: str) -> bool:
        """Forget a schedule and its fires; False: there was none. Its runs stay."""
        ...

    async def pause(self, namespace: str, name: str, paused: bool, next_at: datetime | None) -> bool:
        """Let a schedule rest, or, if it does, go on with ``next_at``; False: there is none."""
        ...

    async def due(self, namespace: str, limit: int) -> Tick:
        """What is due by the database's clock, or waits behind a run; and when the next moment comes."""
        ...

    async def fire(
        self, schedule: Schedule, next_at: datetime | None, fires: Sequence[NewFire], *, backfill: bool = False
    ) -> Sequence[Fire] | None:
        """Deal with moments of a schedule, oldest first, and start their runs, in one step; those dealt with before
        are left out. None: the schedule is not at the turn that is named any more, and nothing was done.

        ``backfill``: also under a pause; where runs may not overlap, they line up.
        """
        ...

    async def release(self, schedule: Schedule, fire: NewFire) -> bool:
        """Start the run of a queued moment, if nothing of its schedule runs; False: not now, or somebody was first."""
        ...

    async def fires(self, namespace: str, name: str, limit: int, before: datetime | None = None) -> Sequence[Fire]:
        """What became of its moments, newest first."""
        ...
