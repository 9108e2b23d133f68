"""Small clockwork of the loop: a latch to wait at, and a tick that many share.

Owns: `Latch` (an event with one waiter, at half the cost of asyncio's) and `Ticker`. Refuses: everything else.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

TICK = 0.1
"""Seconds after which the beginning of an attempt is worth a journal row of its own."""


class Latch:
    """Open or closed; one waiter at most."""

    __slots__ = ("_open", "_waiter")

    def __init__(self) -> None:
        self._open = False
        self._waiter: asyncio.Future[None] | None = None

    def open(self) -> None:
        """Let the waiter go; a latch that is open stays open until somebody has waited at it."""
        self._open = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout: float | None = None) -> None:
        """Until it is open, or ``timeout`` seconds have passed; it is closed afterwards."""
        if not self._open:
            loop = asyncio.get_running_loop()
            self._waiter = waiter = loop.create_future()
            timer = None if timeout is None else loop.call_later(timeout, self.open)
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        self._open = False


class Ticking(Protocol):
    """What wants to be called at the next tick."""

    def tick(self) -> None: ...


class Ticker:
    """Calls each of those who asked, once, at the next tick."""

    def __init__(self) -> None:
        self._asked: set[Ticking] = set()
        self._ticking = False

    def add(self, who: Ticking) -> None:
        """Be called in `TICK` seconds at the latest."""
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_later(TICK, self._tick)
        self._asked.add(who)

    def discard(self, who: Ticking) -> None:
        """Not to be called any more; until the next tick it would be kept alive for nothing."""
        self._asked.discard(who)

    def _tick(self) -> None:
        asked, self._asked = self._asked, set()
        self._ticking = False
        for who in asked:
            who.tick()
