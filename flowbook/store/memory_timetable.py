"""Schedules of a memory store.

Owns: the same as `timetable.py` over dictionaries; every method is one step of the loop, which is what makes it atomic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from flowbook.plan.schedules import Fire, Schedule, Verdict
from flowbook.ports import Due, NewFire, NewRun, Tick
from flowbook.store.memory_database import MemoryDatabase


class MemoryTimetable:
    """`flowbook.ports.Timetable` over dictionaries."""

    def __init__(self, database: MemoryDatabase, worker_id: UUID) -> None:
        self._database, self._worker_id = database, worker_id

    async def put(self, schedule: Schedule) -> Schedule:
        """Make a schedule, or change the one of that name."""
        before = self._database.schedules.get((schedule.namespace, schedule.name))
        if before is None:
            made = replace(schedule, turn=0, paused_at=None, created_at=self._database.now())
        else:
            same = all(getattr(before, part) == getattr(schedule, part) for part in ("cron", "every", "at", "tz"))
            made = replace(
                schedule, turn=before.turn + 1, paused_at=before.paused_at, created_at=before.created_at,
                next_at=before.next_at if same else schedule.next_at,
            )  # fmt: skip
        return self._keep(made)

    async def schedules(self, namespace: str, name: str | None = None) -> Sequence[Schedule]:
        """Those of a namespace by name, or the one of that name."""
        found = [s for s in self._database.schedules.values() if s.namespace == namespace and name in (None, s.name)]
        return sorted(found, key=lambda s: s.name)

    async def drop(self, namespace: str, name: str) -> bool:
        """Forget a schedule and its fires; False: there was none."""
        self._database.fires.pop((namespace, name), None)
        return self._database.schedules.pop((namespace, name), None) is not None

    async def pause(self, namespace: str, name: str, paused: bool, next_at: datetime | None) -> bool:
        """Let a schedule rest, or go on with ``next_at``; False: there is none."""
        s = self._database.schedules.get((namespace, name))
        if s is None:
            return False
        since = (s.paused_at or self._database.now()) if paused else None
        after = s.next_at if paused or s.paused_at is None else next_at
        self._keep(replace(s, paused_at=since, next_at=after, turn=s.turn + 1))
        return True

    async def due(self, namespace: str, limit: int) -> Tick:
        """What is due, and when the next is."""
        now = self._database.now()
        live = [s for s in self._database.schedules.values() if s.namespace == namespace and s.paused_at is None]
        waits = [(s.next_at - now).total_seconds() for s in live if s.next_at is not None]
        due = []
        for s in live:
            queued = self._queued(s)
            if queued or (s.next_at is not None and s.next_at <= now):
                asks = s.overlap != "allow" or queued
                due.append(Due(s, tuple(self._active(s)) if asks else (), queued[0] if queued else None))
        return Tick(now, min(waits, default=None), due[:limit])

    async def fire(
        self, schedule: Schedule, next_at: datetime | None, fires: Sequence[NewFire], *, backfill: bool = False
    ) -> Sequence[Fire] | None:
        """Deal with moments of a schedule; None: somebody else was first."""
        s = self._database.schedules.get((schedule.namespace, schedule.name))
        if s is None or s.turn != schedule.turn or (s.paused_at is not None and not backfill):
            return None
        self._keep(replace(s, next_at=next_at, turn=s.turn + 1))
        known = self._database.fires.setdefault((s.namespace, s.name), {})
        busy, done = bool(self._active(s)), []
        for fire in fires:
            if fire.fire_time in known:
                continue
            verdict: Verdict = fire.verdict
            lines_up = s.overlap == "queue" or (backfill and s.overlap != "allow")
            if verdict == "started" and lines_up and (busy or self._queued(s)):
                verdict = "queued"
            elif verdict == "started" and s.overlap == "skip" and not backfill and busy:
                verdict = "skipped"
            run = fire.run if verdict == "started" else None
            busy = busy or run is not None
            known[fire.fire_time] = self._begun(s, fire, verdict, run)
            done.append(known[fire.fire_time])
        return done

    async def release(self, schedule: Schedule, fire: NewFire) -> bool:
        """Start the run of a queued moment, if nothing of its schedule runs; False: not now, or somebody was first."""
        s = self._database.schedules.get((schedule.namespace, schedule.name))
        if s is None or s.turn != schedule.turn or s.paused_at is not None or self._active(s):
            return False
        known = self._database.fires.get((s.namespace, s.name), {})
        if fire.fire_time not in known or known[fire.fire_time].verdict != "queued":
            return False
        self._keep(replace(s, turn=s.turn + 1))
        known[fire.fire_time] = self._begun(s, fire, fire.verdict, fire.run if fire.verdict == "started" else None)
        return True

    async def fires(self, namespace: str, name: str, limit: int, before: datetime | None = None) -> Sequence[Fire]:
        """What became of its moments, newest first."""
        known = self._database.fires.get((namespace, name), {})
        return [known[at] for at in sorted(known, reverse=True) if before is None or at < before][:limit]

    def _begun(self, s: Schedule, fire: NewFire, verdict: Verdict, run: NewRun | None) -> Fire:
        if run is not None:
            self._database.start(replace(run, claim=False), self._worker_id)
            self._database.wake(run.id)
        run_id = None if run is None else run.id
        return Fire(s.name, fire.fire_time, verdict, run_id, fire.note, self._database.now())

    def _active(self, s: Schedule) -> list[UUID]:
        started = (f.run_id for f in self._database.fires.get((s.namespace, s.name), {}).values() if f.run_id)
        return [r for r in started if r in self._database.runs and not self._database.runs[r].row.status.over]

    def _queued(self, s: Schedule) -> list[datetime]:
        known = self._database.fires.get((s.namespace, s.name), {})
        return sorted(at for at, fire in known.items() if fire.verdict == "queued")

    def _keep(self, schedule: Schedule) -> Schedule:
        self._database.schedules[schedule.namespace, schedule.name] = schedule
        return schedule
