"""Crons: when an expression fires, in a time zone.

Owns: reading expressions of five fields (or six, seconds first), zones by name, and the moments that follow a moment.
Refuses: knowing what fires, and what to do about moments that have passed (`schedules.py`).

The calendar is cronsim's, which does as Debian's cron does. An expression with a fixed hour and minute fires once a day
whatever the clocks do: a time that is skipped in spring fires right after the gap, one that comes twice in autumn fires
the first time. One with a star in the hour or the minute follows real time: each of its moments that exists, fires.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from flowbook.errors import ScheduleRefused

NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_ANY_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(minutes=1)


def zone(name: str) -> tzinfo:
    """A time zone by its name in the tz database: ``Europe/Berlin``. Raises `ScheduleRefused`."""
    if name.upper() == "UTC":
        return UTC  # much quicker than the zone of that name
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # a folder, a path, nothing of that name
        raise ScheduleRefused(
            f"there is no time zone {name!r}: write it as the tz database does, e.g. Europe/Berlin, UTC"
        ) from error


@functools.lru_cache(256)
def read(expression: str) -> tuple[str, tuple[int, ...]]:
    """The five fields of minutes and above, and the seconds. Raises `ScheduleRefused` with what is wrong."""
    parts = NICKNAMES.get(expression.strip().lower(), expression).split()
    if len(parts) not in (5, 6):
        raise ScheduleRefused(
            f"cron {expression!r} has {len(parts)} fields: write minute, hour, day of month, month, day of week "
            f'("0 6 * * *" is 06:00 each day), with seconds in front of them if you like, or {", ".join(NICKNAMES)}'
        )
    try:
        seconds: tuple[int, ...] = (0,)
        if len(parts) == 6:  # seconds have the range of minutes
            seconds = tuple(sorted(CronSim(f"{parts[0]} * * * *", _ANY_TIME).minutes))
    except CronSimError:
        raise ScheduleRefused(f"cron {expression!r}: bad second") from None
    fields = " ".join(parts[-5:])
    try:
        next(CronSim(fields, _ANY_TIME))
    except CronSimError as error:
        raise ScheduleRefused(f"cron {expression!r}: {str(error).lower()}") from None
    except StopIteration:
        raise ScheduleRefused(f"cron {expression!r} never fires: no day fits all of its fields") from None
    return fields, seconds


def moments(expression: str, where: tzinfo, after: datetime) -> Iterator[datetime]:
    """When it fires, later than ``after``, in order, in UTC. Raises `ScheduleRefused`."""
    fields, seconds = read(expression)
    begin = (after.astimezone(UTC).replace(second=0, microsecond=0) - _TICK).astimezone(where)
    last = after
    for minute in CronSim(fields, begin):
        start = minute.astimezone(UTC)
        for second in seconds:
            moment = start + timedelta(seconds=second)
            # In the hour that comes twice, cronsim begins with the first one, wherever it is asked to begin.
            if moment > last:
                last = moment
                yield moment
