"""Together: which outcomes are recorded with one another, and those that bring a transaction along.

Owns: picking the next batch of outcomes, and undoing transactions whose outcome is not recorded. Refuses: recording
(`runner.py`) and committing (`ports.Store`).

An outcome of a transactional step is recorded by itself: its entries are committed on the connection of its own
session, and what the database then says against it concerns nobody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flowbook.plan.journal import Entry, Kind
from flowbook.ports import Transaction
from flowbook.run.attempts import Outcome

RECORDED = frozenset({Kind.FINISHED, Kind.HANDED_OUT})
"""Entries that a transactional step's effects are committed with; a failure is recorded after they are undone."""


def batch(outcomes: list[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """(those to be recorded now, those after them)."""
    if len(outcomes) < 2:
        return outcomes, []
    plain = [o for o in outcomes if o.within is None]
    if plain:
        return plain, [o for o in outcomes if o.within is not None]
    return outcomes[:1], outcomes[1:]


async def shared(within: Transaction, entries: Sequence[Entry]) -> Transaction | None:
    """The transaction of an outcome if its entries belong into it; else None, and it is undone."""
    if any(entry.kind in RECORDED for entry in entries):
        return within
    await within.rollback()
    return None


async def roll_back(outcomes: Iterable[Outcome]) -> None:
    """Undo the transactions of outcomes that will not be recorded."""
    for outcome in outcomes:
        if outcome.within is not None:
            await outcome.within.rollback()
