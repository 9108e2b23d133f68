"""Ending runs whose mail nobody will read, and the ways in which a runner lets go of one.

Owns: settling a claimed run however much is delivered to it meanwhile, and giving it back; cancelling runs that nobody
carries, and the children of a run that is cancelled. Refuses: runs that are carried, whose runner reads the mail first
(`runner.py`).
"""

from __future__ import annotations

import contextlib
from enum import StrEnum
from uuid import UUID

from flowbook.errors import Fenced, RunNotFound, StoreError
from flowbook.plan.events import Event, RunCancelled, RunFailed
from flowbook.plan.journal import to_entry
from flowbook.plan.records import Status
from flowbook.ports import RunRow, Settlement, Store
from flowbook.run.failures import failure_of
from flowbook.run.undoing import must_undo

THE_PARENT = "its parent"
"""Who cancels the children of a run that fails in a way that lets nothing go on."""


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


async def end_uncarried(store: Store, row: RunRow, by: str) -> bool:
    """End a run that was asked to stop and that nobody carries, or whose process is dead; its children first.

    One that a live worker has is left to it: it reads its mail. False: it has done what has to be undone first, so it
    is left to who has its code.
    """
    for own in await store.claim(frozenset({row.fingerprint}), namespace=row.namespace, only=row.id):
        await cancel_children(store, own.id, by)
        if await must_undo(store, own):
            await hand_back(store, own)
            return False
        await end_unread(store, own, Status.CANCELLED, RunCancelled(by), f"cancelled by {by}")
    return True


async def cancel_children(store: Store, run_id: UUID, by: str) -> None:
    """Ask all live children of a run to stop, before it is ended; they end by themselves, and are not waited for.

    A cancel is durable once it is sent, and sending it twice is harmless: who is killed between two children is
    followed by somebody who begins with the first. Children that nobody carries are ended here and now. Runs that were
    attached to by their key are somebody else's, and go on.
    """
    for child in await store.children(run_id, live=True):
        await cancel_child(store, child.id, by)


async def cancel_child(store: Store, child_id: UUID, by: str) -> None:
    """Ask one child to stop; one that nobody carries is ended here and now, after its own children."""
    with contextlib.suppress(Fenced, RunNotFound):  # somebody was quicker
        row = await store.send(child_id, "cancel", by, b"")
        if row.status in (Status.PENDING, Status.WAITING):
            await end_uncarried(store, row, by)


async def end_broken(store: Store, row: RunRow, error: Exception) -> bool:
    """Fail a run that cannot be carried on; False: it is no longer this worker's to end."""
    line = str(error).partition("\n")[0][:500]
    try:
        await end_unread(store, row, Status.FAILED, RunFailed("", failure_of(error)), line)
    except StoreError:
        return False
    return True


async def hand_back(store: Store, row: RunRow) -> None:
    """Give back a run that was claimed only to be looked at. Raises `Fenced` if it is not this worker's any more."""
    seen = row.mail
    while not await store.settle(Settlement(row.id, row.epoch, Status.PENDING, seen, current=row.current)):
        seen = (await store.run(row.id)).mail
