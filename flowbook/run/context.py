"""The context: what a step may ask about the run it belongs to.

Owns: `Context`, which fills parameters named ``ctx``. Refuses: changing the run; a step changes it by what it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from flowbook.errors import DeclarationError
from flowbook.graph.binding import StateView
from flowbook.plan.paths import item_of
from flowbook.run.handout import HandOut


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
    database: Any = field(default=None, repr=False, compare=False)
    """The session of a transactional step."""
    handing: HandOut = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "handing", HandOut(self.run_id, self.path, self.attempt))

    @property
    def index(self) -> int | None:
        """Place of the item in its list, from 0; None: the step is not applied by a map."""
        return item_of(self.path)[1] if self.path.endswith("]") else None

    @property
    def session(self) -> Any:
        """The ``AsyncSession`` of a transactional step: what it does there and its checkpoint are committed together.

        Its transaction is flowbook's to end: ``commit()`` and ``rollback()`` are refused, ``begin_nested()`` is fine.
        Raises `DeclarationError` in any other step.
        """
        if self.database is None:
            raise DeclarationError(
                f"{self.path} asks for ctx.session and is not transactional: write @step(transactional=True)"
            )
        return self.database

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this path and for no other path of any run: give it to services that
        take one, and a repeated attempt has no second effect there.
        """
        return f"{self.run_id}:{self.path}"

    def hand_out(self) -> str:
        """Let somebody else complete this step; the answer is a token, for whoever shall do it.

        ``return ctx.hand_out()``, or send it somewhere (a mail, another program) and return: what the body returns does
        not count any more. When it has ended, the run waits at this step, durably and at no cost, until ``app.complete(
        token, value)`` or ``flowbook complete TOKEN '{...}'`` gives the result, or ``app.fail(token, why)`` fails the
        attempt. The first answer counts, also one that comes before the body has ended. ``timeout=`` of the step is how
        long is waited. The token is as good as a password for this one step: it is good for this attempt alone, and a
        body that raises, or dies, after it gave its token away is run again, with another token.
        """
        return self.handing.make()

    def now(self) -> datetime:
        """The moment, timezone-aware, UTC. Not durable: another attempt sees another one."""
        return self.clock()
