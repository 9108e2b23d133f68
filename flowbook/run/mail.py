"""Requests: what a delivery asks of the run itself.

Owns: reading the mailbox, turning cancels and retries into events, and what a request for a retry carries. Refuses:
letters to whoever waits in the run (`pauses.py`, `children.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from flowbook.codec import decode, encode
from flowbook.errors import Undecodable, UsageError
from flowbook.plan.events import CancelRequested, Event, RunRetried
from flowbook.plan.records import Status
from flowbook.ports import CHILD, Mail, RunRow, Store


async def unread(store: Store, row: RunRow, read: int) -> Sequence[Mail]:
    """What was delivered after number ``read``; ends of children that are older than the claim are no news.

    One letter that came along with the claim needs no look. What is newer than it says so by itself: with the next
    append, or by refusing to let the run go.
    """
    if (letter := row.letter) is not None and letter.id == read + 1 and letter.kind != CHILD:
        return (letter,)
    return await store.mailbox(row.id, read, ends_after=row.mail)


def retry_payload(limit: int | None, edits: Mapping[str, Any] = {}) -> bytes:
    """What a request for a retry carries. Raises `UsageError` for a limit that is none, `Unencodable`."""
    if limit is None:
        return encode({"edits": dict(edits)}, at="edits") if edits else b""
    if type(limit) is not int or limit < 1:
        raise UsageError(f"recursion_limit={limit!r}: it counts how often a node may be reached, so 1 or more")
    return encode({"limit": limit} | ({"edits": dict(edits)} if edits else {}), at="edits")


def once(run_id: UUID, mark: str) -> UUID | None:
    """Under which a request that may come by two ways is delivered; None: it has no mark, and is its own."""
    return uuid5(run_id, f"request {mark}") if mark else None


def wanted(payload: bytes) -> tuple[int | None, Mapping[str, Any]]:
    """(recursion limit, edits) that a request for a retry carries; (None, {}): none that can be read."""
    try:
        body = decode(payload) if payload else {}
    except Undecodable:
        return None, {}
    if not isinstance(body, dict):
        return None, {}
    limit, edits = body.get("limit"), body.get("edits")
    return (limit if type(limit) is int else None), (edits if type(edits) is dict else {})


def requested(mail: Mail, status: Status, now: datetime) -> Event | None:
    """The event of a request that is read ``now``, or None for what a run of this status does not take."""
    match mail.kind:
        case "cancel":
            return CancelRequested(mail.name, mail.id) if status is Status.RUNNING else None
        case "retry":
            return RunRetried(mail.name, mail.id, now, *wanted(mail.payload)) if status is Status.FAILED else None
        case _:
            return None
