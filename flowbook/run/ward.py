"""The ward: attempts that may kill their process, and may only once more, begin one at a time.

Owns: `Ward`, one per process. Refuses: knowing who is a suspect (`runner.py`).

A step that kills its process takes with it all that is under way beside it, and an attempt that died looks the same
whoever was to blame. Whoever is beside it at each of its deaths would reach the limit together with it (tried: one
such step failed eight other runs). So an attempt whose loss would be its path's last one waits until no suspect is
under way here, and none begins beside it: the innocent end, and the culprit dies alone. (Where only those at their last
were kept apart, an innocent one died of a culprit that had attempts left: 9 of 16 times, with two of them.)
"""

from __future__ import annotations

import asyncio

from flowbook.run.latch import Latch

PATIENCE = 60.0
"""Seconds after which an attempt is not waited for any more: what takes hours must not stand in the others' way."""


class Ward:
    """Has room for one who is alone, or for any number of suspects that have attempts left."""

    def __init__(self) -> None:
        self._inside: tuple[object, str] | None = None
        self._near: set[tuple[object, str]] = set()
        self._outside: set[Latch] = set()
        self._timers: dict[tuple[object, str], asyncio.TimerHandle] = {}

    def admit(self, who: object, path: str, latch: Latch, *, alone: bool) -> bool:
        """Let an attempt begin, until `release`; False: not now, and ``latch`` is opened when it is worth asking again.

        One whose loss would be its path's last is ``alone``: no other suspect is under way while it is, but for the
        body that has called it.
        """
        near = {n for n in self._near if n[0] is not who or not path.startswith(f"{n[1]}/")}
        if self._inside is not None or (alone and near):
            self._outside.add(latch)
            return False
        place = (who, path)
        if alone:
            self._inside = place
        else:
            self._near.add(place)
        self._timers[place] = asyncio.get_running_loop().call_later(PATIENCE, self.release, who, path)
        return True

    def release(self, who: object, path: str | None = None) -> None:
        """Give a place back (None: all that ``who`` has); harmless for who does not have it (any more)."""
        gone = [p for p in self._timers if p[0] is who and path in (None, p[1])]
        for place in gone:
            self._timers.pop(place).cancel()
            self._near.discard(place)
            if self._inside == place:
                self._inside = None
        if gone:
            # All of them, because who waited may have ended since.
            outside, self._outside = self._outside, set()
            for latch in outside:
                latch.open()
