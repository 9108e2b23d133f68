"""Ticking: the loop that fires schedules, beside the engine of a worker.

Owns: looking for what is due, and having it fired, released and cancelled. Refuses: deciding what is due
(`plan/schedules.py`), making runs (the app does) and leading: every worker ticks, and the database lets one of them
fire a moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from flowbook.clock import DICE
from flowbook.errors import FlowbookError, StoreUnavailable
from flowbook.plan.schedules import Schedule, Turn, turn
from flowbook.ports import Due, NewFire, NewRun, Store

log = logging.getLogger("flowbook")

LOOK: Final = 1.0
"""Seconds between two looks, jittered."""
LATER: Final = 0.002
"""Seconds by which a look is late, so that the moment is past by the database's clock too."""
AT_ONCE: Final = 50
"""Schedules that one look deals with."""

Make = Callable[[Schedule, datetime], Awaitable[NewRun]]
"""Makes the run of a moment. Raises an error of flowbook's if it cannot be made."""
Cancel = Callable[[UUID, str], Awaitable[object]]
"""Asks a run to stop, saying who asks."""


class Ticker:
    """The schedules of a namespace, as one worker fires them."""

    def __init__(self, store: Store, namespace: str, make: Make, cancel: Cancel) -> None:
        self._store, self._namespace = store, namespace
        self._make, self._cancel = make, cancel

    async def run(self) -> None:
        """Fire what is due, until this coroutine is cancelled or the store is closed."""
        while True:
            wait = LOOK
            try:
                wait = await self.tick()
            except StoreUnavailable:
                return
            except Exception:
                log.exception("flowbook: firing schedules failed; it is tried again")
            if wait > 0:
                await asyncio.sleep(min(wait + LATER, LOOK * DICE.uniform(0.5, 1.0)))

    async def tick(self) -> float:
        """Deal with what is due now; seconds until the next moment at the earliest."""
        tick = await self._store.timetable.due(self._namespace, AT_ONCE)
        moved = [await self._deal(due, tick.now) for due in tick.due]
        if any(moved):
            return 0.0  # there may be more
        return LOOK if tick.wait is None or tick.due else max(tick.wait, 0.0)

    async def _deal(self, due: Due, now: datetime) -> bool:
        """Fire or release; False: nothing could be done now."""
        schedule = due.schedule
        wanted = turn(schedule, now)
        if wanted.next_at != schedule.next_at:
            await self._fire(due, wanted)
            return True
        if due.queued is not None and not due.active:
            return await self._store.timetable.release(schedule, await self.fire_of(schedule, due.queued))
        return False

    async def _fire(self, due: Due, wanted: Turn) -> None:
        schedule = due.schedule
        fires = [NewFire(at, "missed") for at in wanted.missed] + [NewFire(at, "skipped") for at in wanted.dropped]
        fires += [await self.fire_of(schedule, at) for at in wanted.run]
        fires.sort(key=lambda fire: fire.fire_time)
        if schedule.overlap == "cancel-running" and wanted.run:
            # Before the fire, so that a worker that dies in between leaves it to another one to do both. These are runs
            # of earlier moments whoever fires: they were read with the turn.
            for run_id in due.active:
                await self._cancel(run_id, f"schedule {schedule.name}")
        done = await self._store.timetable.fire(schedule, wanted.next_at, fires)
        for fire in done or ():
            if fire.verdict in ("refused", "missed"):
                why = fire.note or "no worker was there"
                log.warning("flowbook: schedule %r at %s %s: %s", schedule.name, fire.fire_time, fire.verdict, why)

    async def fire_of(self, schedule: Schedule, at: datetime) -> NewFire:
        """A moment with its run; one whose run cannot be made is refused, and the schedule goes on."""
        try:
            return NewFire(at, "started", await self._make(schedule, at))
        except StoreUnavailable:
            raise
        except FlowbookError as error:
            return NewFire(at, "refused", None, str(error)[:500])
