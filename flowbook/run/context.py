"""The context: what a step may ask about the run it belongs to.

Owns: `Context`, which fills parameters named ``ctx``. Refuses: changing the run; a step changes it by what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from flowbook.graph.binding import StateView


@dataclass(frozen=True, slots=True)
class Context:
    """Where a step is."""

    run_id: UUID
    flow: str
    path: str
    """``fit#2``: the second firing of ``fit``."""
    attempt: int
    """From 1."""
    state: StateView
    """All of the state, read-only."""
    clock: Callable[[], datetime]

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this path and for no other path of any run: give it to services that
        take one, and a repeated attempt has no second effect there.
        """
        return f"{self.run_id}:{self.path}"

    def now(self) -> datetime:
        """The moment, timezone-aware, UTC. Not durable: another attempt sees another one."""
        return self.clock()
