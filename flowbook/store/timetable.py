"""Schedules in Postgres.

Owns: schedules and fires as rows, and firing as one statement. Refuses: deciding what is due. Every statement here may
be sent twice: a turn that was taken by a statement whose answer was lost is not taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from flowbook.plan.schedules import Fire, Schedule
from flowbook.ports import Due, NewFire, NewRun, Tick
from flowbook.store import schedule_statements as sql
from flowbook.store.driver import Record
from flowbook.store.retrying import Line
from flowbook.store.rows import to_json

_RUN = ("id", "flow", "version", "fingerprint", "queue", "priority", "input", "input_digest", "metadata", "searchable")


class Timetable:
    """`flowbook.ports.Timetable` over one connection; ``announce`` tells workers of a run that is due."""

    def __init__(self, line: Line, announce: Callable[[UUID], None]) -> None:
        self._line, self._announce = line, announce

    async def put(self, schedule: Schedule) -> Schedule:
        """Make a schedule, or change the one of that name."""
        s = schedule
        records = await self._line.fetch(
            sql.PUT, s.namespace, s.name, s.flow, s.cron, s.every, s.at, s.tz, s.input, s.queue, s.priority,
            s.fingerprint, s.on_missed, s.window, s.overlap, s.next_at,
        )  # fmt: skip
        return _to_schedule(records[0])

    async def schedules(self, namespace: str, name: str | None = None) -> Sequence[Schedule]:
        """Those of a namespace by name, or the one of that name."""
        return [_to_schedule(record) for record in await self._line.fetch(sql.SCHEDULES, namespace, name)]

    async def drop(self, namespace: str, name: str) -> bool:
        """Forget a schedule and its fires; False: there was none."""
        return bool(await self._line.fetch(sql.DROP, namespace, name))

    async def pause(self, namespace: str, name: str, paused: bool, next_at: datetime | None) -> bool:
        """Let a schedule rest, or go on with ``next_at``; False: there is none."""
        return bool(await self._line.fetch(sql.PAUSE, namespace, name, paused, next_at))

    async def due(self, namespace: str, limit: int) -> Tick:
        """What is due, and when the next is."""
        records = await self._line.fetch(sql.DUE, namespace, limit)
        due = [Due(_to_schedule(r), tuple(r["active"]), r["queued"]) for r in records if r["name"] is not None]
        return Tick(records[0]["now"], records[0]["wait"], due)

    async def fire(
        self, schedule: Schedule, next_at: datetime | None, fires: Sequence[NewFire], *, backfill: bool = False
    ) -> Sequence[Fire] | None:
        """Deal with moments of a schedule; None: somebody else was first."""
        runs = [_columns(fire.run) for fire in fires]
        columns = [[run[name] for run in runs] for name in _RUN]
        records = await self._line.fetch(
            sql.FIRE, schedule.namespace, schedule.name, schedule.turn, next_at, [f.fire_time for f in fires],
            [f.verdict for f in fires], [f.note for f in fires], *columns, backfill,
        )  # fmt: skip
        if not records[0]["ours"]:
            return None
        found = [_to_fire(schedule.name, record) for record in records if record["fire_time"] is not None]
        for fire in found:
            if fire.run_id is not None:
                self._announce(fire.run_id)
        return found

    async def release(self, schedule: Schedule, fire: NewFire) -> bool:
        """Start the run of a queued moment, if nothing of its schedule runs; False: not now, or somebody was first."""
        run = _columns(fire.run)
        given = (run[name] for name in _RUN)
        done = await self._line.fetch(
            sql.RELEASE, schedule.namespace, schedule.name, schedule.turn, fire.fire_time, *given, fire.verdict,
            fire.note,
        )  # fmt: skip
        if done and fire.run is not None:
            self._announce(fire.run.id)
        return bool(done)

    async def fires(self, namespace: str, name: str, limit: int, before: datetime | None = None) -> Sequence[Fire]:
        """What became of its moments, newest first."""
        return [_to_fire(name, record) for record in await self._line.fetch(sql.FIRES, namespace, name, limit, before)]


def _columns(run: NewRun | None) -> dict[str, Any]:
    if run is None:
        return dict.fromkeys(_RUN)
    texts = {"metadata": to_json(run.metadata), "searchable": to_json(run.searchable)}
    return {name: texts.get(name) or getattr(run, name) for name in _RUN}


def _to_fire(schedule: str, record: Record) -> Fire:
    return Fire(schedule, record["fire_time"], record["verdict"], record["run_id"], record["note"], record["fired_at"])


def _to_schedule(record: Record) -> Schedule:
    return Schedule(
        record["namespace"], record["name"], record["flow"], record["cron"], record["every_seconds"], record["at"],
        record["timezone"], record["input"], record["queue"], record["priority"], record["fingerprint"],
        record["on_missed"], record["window_seconds"], record["overlap"], record["paused_at"], record["next_at"],
        record["turn"], record["created_at"],
    )  # fmt: skip
