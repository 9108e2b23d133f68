"""Ending a run whose mail nobody will read, and the ways in which a runner lets go of one.

Owns: settling a claimed run however much is delivered to it meanwhile. Refuses: runs that are carried, whose runner
reads the mail first (`runner.py`).
"""

from __future__ import annotations

from enum import StrEnum

from flowbook.plan.events import Event
from flowbook.plan.journal import to_entry
from flowbook.plan.records import Status
from flowbook.ports import RunRow, Settlement, Store


class Ending(StrEnum):
    """How a runner let go of its run."""

    OVER = "over"
    PARKED = "parked"
    HANDED_BACK = "handed back"
    FENCED = "fenced"


async def end_unread(store: Store, row: RunRow, status: Status, event: Event, error: str) -> None:
    """End a run that this worker owns. Mail that comes meanwhile is too late to be read, and must not leave it to
    nobody. Raises `Fenced` if it is not this worker's any more.
    """
    entry, seen = to_entry(event), row.mail
    while not await store.settle(Settlement(row.id, row.epoch, status, seen, entry, due_in=None, error=error)):
        seen = (await store.run(row.id)).mail
