"""Schedules without ``await``: the verbs of `Schedules` for notebooks and scripts without an event loop.

Owns: `SyncSchedules`, each verb one call through the portal. Refuses: any verb of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowbook.plan.schedules import Fire, Schedule
from flowbook.run.portal import Portal

if TYPE_CHECKING:
    from flowbook.app import App


class SyncSchedules(Sequence[Schedule]):
    """The schedules of an app as a list, and what can be done to them, without ``await``. See `Schedules`."""

    def __init__(self, app: App, portal: Portal) -> None:
        self._portal, self._all = portal, app.schedules()

    def _rows(self) -> Sequence[Schedule]:
        async def ask() -> Sequence[Schedule]:
            return await self._all

        return self._portal.call(ask())

    def __len__(self) -> int:
        return len(self._rows())

    def __getitem__(self, place: Any) -> Any:
        return self._rows()[place]

    def get(self, name: str) -> Schedule:
        """See `Schedules.get`."""
        return self._portal.call(self._all.get(name))

    def pause(self, name: str) -> Schedule:
        """See `Schedules.pause`."""
        return self._portal.call(self._all.pause(name))

    def resume(self, name: str) -> Schedule:
        """See `Schedules.resume`."""
        return self._portal.call(self._all.resume(name))

    def remove(self, name: str) -> Schedule:
        """See `Schedules.remove`."""
        return self._portal.call(self._all.remove(name))

    def next(self, name: str, number: int = 5) -> list[datetime]:
        """See `Schedules.next`."""
        return self._portal.call(self._all.next(name, number))

    def history(self, name: str, limit: int = 50, before: datetime | None = None) -> Sequence[Fire]:
        """See `Schedules.history`."""
        return self._portal.call(self._all.history(name, limit, before))

    def backfill(self, name: str, since: datetime, until: datetime) -> list[Fire]:
        """See `Schedules.backfill`."""
        return self._portal.call(self._all.backfill(name, since, until))

    def __repr__(self) -> str:
        return f"<schedules {', '.join(s.name for s in self._rows()) or 'none'}>"
