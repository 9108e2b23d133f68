"""Time, as the pure floors see it.

Owns: the Clock protocol, the wall clock and a clock that stands still for tests.
Refuses: durable decisions. Only the database's clock is compared across processes; what is here stamps
records for people and drives back-off inside one process.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

DICE: Final = random.Random()
"""What pauses are jittered with. The module's own generator is the notebook's: a seed there must mean what it says,
whatever an engine in the background does meanwhile."""


class Clock(Protocol):
    """Where ``now`` comes from."""

    def now(self) -> datetime:
        """The current moment, timezone-aware, UTC."""
        ...


class WallClock:
    """This machine's clock, anchored once to the monotonic one so that it never runs backwards."""

    def __init__(self, offset: timedelta = timedelta()) -> None:
        self._anchor = datetime.now(UTC) + offset
        self._monotonic = time.monotonic()

    def now(self) -> datetime:
        return self._anchor + timedelta(seconds=time.monotonic() - self._monotonic)


class FixedClock:
    """A clock that moves only when it is told to."""

    def __init__(self, at: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at

    def advance(self, seconds: float) -> None:
        self._at += timedelta(seconds=seconds)
