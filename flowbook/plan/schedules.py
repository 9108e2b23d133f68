"""Schedules: what is to be started when, and what became of it.

Owns: `Schedule` and `Fire`, checking what was typed, the moments at which a schedule fires, and `turn`: which fires are
due, given its row and the time, and which of them are run. Refuses: clocks, the database, and starting anything.

A fire is *on time* up to a minute after its moment, or up to the next one if that is sooner (but 5 s at least). Later
it is *missed*: nobody was there. What then happens is `on_missed`:

    skip      nothing: it is noted as missed
    latest    the newest missed one is run, if nothing is on time and it is not older than the window
    all       each one is run that is not older than the window, oldest first

What happens where a run of an earlier fire is not over is `overlap`: ``allow`` both, ``skip`` the new one,
``cancel-running``, or ``queue`` the new one behind it: decided where the database sees both (`ports.Timetable`).
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args
from uuid import UUID

from flowbook.errors import ScheduleRefused
from flowbook.plan.crons import moments, read, zone

OnMissed = Literal["skip", "latest", "all"]
Overlap = Literal["allow", "skip", "cancel-running", "queue"]
Verdict = Literal["started", "skipped", "missed", "queued", "refused"]
"""What became of a fire: ``refused`` is one whose run could not be made; its note says why."""

BATCH: Final = 100
"""Fires that one turn of a schedule runs, or notes as missed, at most."""
MOST_BACKFILLED: Final = 10_000
WINDOW: Final = 7 * 86400.0
GRACE: Final = 60.0
LEAST_GRACE: Final = 5.0
_LOOKS: Final = (120.0, 7200.0, 2 * 86400.0)
"""Seconds to look back for the newest fires, before all of the time is looked through."""
_INSTANT: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When runs of a flow are started. Exactly one of ``cron``, ``every`` and ``at`` is given."""

    namespace: str
    name: str
    flow: str
    cron: str | None = None
    """Five fields, or six with seconds in front."""
    every: float | None = None
    """Seconds between two fires, counted from 1970-01-01 UTC: so it does not matter when it was made."""
    at: datetime | None = None
    """The one moment at which it fires."""
    tz: str = "UTC"
    input: bytes = b""
    """The encoded input; texts in it may be templates (`templates.py`)."""
    queue: str = "default"
    priority: int = 0
    fingerprint: str | None = None
    """The definition that it is pinned to; None: each fire takes the newest one that is stored then."""
    on_missed: OnMissed = "skip"
    window: float = WINDOW
    """Seconds that a missed fire may be late and still be run."""
    overlap: Overlap = "allow"
    paused_at: datetime | None = None
    """Since when nothing fires; what would have fired meanwhile is not missed."""
    next_at: datetime | None = None
    """The first moment that has not been dealt with; None: there is none."""
    turn: int = 0
    """Counts changes and fires: who fires names the turn that he saw, so of many workers one fires."""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fire:
    """A moment of a schedule that was dealt with. There is one per schedule and moment."""

    schedule: str
    fire_time: datetime
    verdict: Verdict
    run_id: UUID | None = None
    """The run that was started for it."""
    note: str = ""
    """Why it was refused."""
    fired_at: datetime | None = None
    """When it was dealt with; of a queued one, when its run was started."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What is to be done about a schedule now."""

    run: tuple[datetime, ...] = ()
    """Moments to start a run for, oldest first."""
    missed: tuple[datetime, ...] = ()
    """Moments to be noted: nobody was there, and they are not run."""
    dropped: tuple[datetime, ...] = field(default=())
    """Moments to be noted as skipped: a later one would cancel their runs at once."""
    next_at: datetime | None = None
    """The first moment that is not dealt with by this turn."""


def checked(schedule: Schedule) -> Schedule:
    """The schedule, if it can work. Raises `ScheduleRefused`."""
    given = [name for name in ("cron", "every", "at") if getattr(schedule, name) is not None]
    if len(given) != 1:
        raise ScheduleRefused(
            f"schedule {schedule.name!r} has {' and '.join(given) or 'no time'}: give one of cron=, every= and at="
        )
    if not schedule.name or len(schedule.name) > 200 or not schedule.name.isprintable():
        raise ScheduleRefused(f"{schedule.name!r} cannot be the name of a schedule: 1 to 200 printable characters")
    choices: tuple[tuple[str, str, Any], ...] = (
        ("on_missed", schedule.on_missed, OnMissed), ("overlap", schedule.overlap, Overlap)
    )  # fmt: skip
    for option, value, allowed in choices:
        if value not in get_args(allowed):
            raise ScheduleRefused(f"{option}={value!r}: it is one of {', '.join(get_args(allowed))}")
    zone(schedule.tz)
    if schedule.cron is not None:
        read(schedule.cron)
    if schedule.every is not None and not schedule.every >= 1:
        raise ScheduleRefused(f"every={schedule.every!r}: at least a second lies between two fires")
    if schedule.at is not None and schedule.at.tzinfo is None:
        return replace(schedule, at=schedule.at.replace(tzinfo=zone(schedule.tz)).astimezone(UTC))
    return schedule


def times(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """When it fires, later than ``after``, in order, in UTC."""
    if schedule.cron is not None:
        yield from moments(schedule.cron, zone(schedule.tz), after)
    elif schedule.every is not None:
        begin = int(after.timestamp() // schedule.every)
        for n in itertools.count(begin):
            moment = datetime.fromtimestamp(n * schedule.every, UTC)
            if moment > after:
                yield moment
    elif schedule.at is not None and schedule.at > after:
        yield schedule.at.astimezone(UTC)


def first(schedule: Schedule, after: datetime) -> datetime | None:
    """The next moment after one; None: there is none."""
    return next(times(schedule, after), None)


def between(schedule: Schedule, since: datetime, until: datetime, most: int) -> list[datetime]:
    """Moments from ``since`` to ``until``, both included, the first ``most`` of them."""
    found = itertools.takewhile(lambda t: t <= until, times(schedule, since - _INSTANT))
    return list(itertools.islice(found, most))


def turn(schedule: Schedule, now: datetime) -> Turn:
    """What is to be done about a schedule at ``now``."""
    begin = schedule.next_at
    if begin is None or begin > now or schedule.paused_at is not None:
        return Turn(next_at=begin)
    if schedule.at is not None:
        late = (now - begin).total_seconds()
        runs = late <= GRACE or (schedule.on_missed != "skip" and late <= schedule.window)
        return Turn(run=(begin,)) if runs else Turn(missed=(begin,))
    oldest = max(begin, now - timedelta(seconds=schedule.window))
    if schedule.on_missed == "all":
        found = between(schedule, oldest, now, BATCH + 1)
        run, rest = found[:BATCH], found[BATCH:]
        return _alone(schedule, Turn(tuple(run), (), (), rest[0] if rest else first(schedule, now)))
    found = _newest(schedule, begin, oldest, now)
    on_time = tuple(t for t in found if (now - t).total_seconds() <= _grace(schedule, t))
    run_now = on_time or (tuple(found[-1:]) if schedule.on_missed == "latest" and found[-1:] >= [oldest] else ())
    missed = tuple(t for t in found if t not in run_now)[-BATCH:]
    return _alone(schedule, Turn(run_now, missed, (), first(schedule, now)))


def _alone(schedule: Schedule, found: Turn) -> Turn:
    """Where each run cancels the one before it, only the last one is begun."""
    if schedule.overlap != "cancel-running" or len(found.run) < 2:
        return found
    return replace(found, run=found.run[-1:], dropped=found.run[:-1])


def _newest(schedule: Schedule, begin: datetime, oldest: datetime, now: datetime) -> list[datetime]:
    """The newest moments that are due: some, without counting through all seconds of a week."""
    for back in _LOOKS:
        since = now - timedelta(seconds=back)
        if since <= begin:
            break
        if len(found := _last(schedule, since, now)) >= BATCH:
            return found
    return _last(schedule, begin if now - begin < timedelta(days=400) else oldest, now)


def _last(schedule: Schedule, since: datetime, until: datetime) -> list[datetime]:
    found = itertools.takewhile(lambda t: t <= until, times(schedule, since - _INSTANT))
    return list(collections.deque(found, maxlen=2 * BATCH))


def _grace(schedule: Schedule, moment: datetime) -> float:
    """Seconds that a fire may be late and is still on time."""
    following = first(schedule, moment)
    gap = GRACE if following is None else (following - moment).total_seconds()
    return max(LEAST_GRACE, min(GRACE, gap))
