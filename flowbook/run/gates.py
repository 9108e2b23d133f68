"""Gates: how many attempts of this process ask for the same places at once.

Owns: one semaphore per limit. Refuses: the places themselves, which all workers share (`sharing.py`).
"""

from __future__ import annotations

import asyncio


class Gates:
    """The limits of a process: how many of its attempts ask for places under a name."""

    def __init__(self) -> None:
        self._asking: dict[str, asyncio.Semaphore] = {}

    def of(self, name: str, limit: int) -> asyncio.Semaphore:
        """What lets as many ask as there are places; kept for the life of the process, as names are few."""
        return self._asking.setdefault(f"{name} {limit}", asyncio.Semaphore(limit))
