"""The ward: attempts that may kill their process, and may only once more, begin one at a time.

Owns: `Ward`, one per process. Refuses: knowing who is a suspect (`runner.py`).

A step that kills its process takes with it all that is under way beside it, and an attempt that died looks the same
whoever was to blame. Whoever is beside it at each of its deaths would reach the limit together with it (tried: one
such step failed eight other runs). So an attempt whose loss would be its path's last one waits until it is the only
one of its sort here: the innocent end, and the culprit dies alone.
"""

from __future__ import annotations

import asyncio

from flowbook.run.latch import Latch

PATIENCE = 60.0
"""Seconds after which an attempt is not waited for any more: what takes hours must not stand in the others' way."""


class Ward:
    """Has room for one."""

    def __init__(self) -> None:
        self._inside: object | None = None
        self._outside: set[Latch] = set()
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, who: object, latch: Latch) -> bool:
        """Take the place until `release`; False: it is taken, and ``latch`` is opened when it is worth asking again."""
        if self._inside is not None:
            self._outside.add(latch)
            return False
        self._inside = who
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, self.release, who)
        return True

    def release(self, who: object) -> None:
        """Give the place back; harmless for who does not have it (any more)."""
        if self._inside is not who or self._timer is None:
            return
        self._timer.cancel()
        self._inside = self._timer = None
        # All of them, because who waited may have ended since.
        outside, self._outside = self._outside, set()
        for latch in outside:
            latch.open()
