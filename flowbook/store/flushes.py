"""Parcels as statements, and the database's answers as verdicts.

Owns: turning parcels into arrays, choosing the statement, reading what came back.
Refuses: queues and retries (`writer.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from itertools import repeat
from typing import Any
from uuid import UUID

from flowbook.quick import quick
from flowbook.store import family_statements as family
from flowbook.store import statements as sql
from flowbook.store.driver import Connection, Record, Statement
from flowbook.store.parcels import Parcel, Start
from flowbook.store.rows import Line, to_json
from flowbook.store.transaction_statements import APPEND_WITHIN


class Verdict(Enum):
    """What became of a parcel."""

    ACCEPTED = auto()
    BUSY = auto()
    """Somebody has the run's row locked; nothing was written."""
    FENCED = auto()
    """The epoch is over; nothing was written."""
    UNREAD = auto()
    """A settlement met unread mail; nothing was written."""


@quick
@dataclass(frozen=True, slots=True)
class Answer:
    """The database's word on one parcel."""

    verdict: Verdict
    mail: int = 0
    at: datetime | None = None
    written: int = 0
    """Rows that this very statement wrote; fewer than the parcel has when they were there already."""
    told: tuple[UUID, ...] = ()
    """Runs in whose mailbox the end of this one is news."""


BUSY = Answer(Verdict.BUSY)
FENCED = Answer(Verdict.FENCED)


async def append(connection: Connection, parcels: Sequence[Parcel], *, wait: bool = False) -> Sequence[Answer]:
    """Write parcels of appends with one statement; the answers are in the order of the parcels.

    ``wait``: stand in the queue for locked rows until the session's lock_timeout, rather than skip them.
    """
    again = wait or any(parcel.doubtful for parcel in parcels)
    if len(parcels) == 1 and len(parcels[0].lines) == 1 and not again:
        parcel = parcels[0]
        rows = await connection.fetch(
            sql.APPEND_ONE, parcel.tail.run_id, parcel.tail.epoch, parcel.first, *parcel.lines[0]
        )
        if rows:
            return (Answer(Verdict.ACCEPTED, rows[0][1], rows[0][0], 1),)
    records = await connection.fetch(
        sql.APPEND_WAITING if wait else sql.APPEND_AGAIN if again else sql.APPEND,
        [parcel.tail.run_id for parcel in parcels],
        [parcel.tail.epoch for parcel in parcels],
        *_columns(parcels),
    )
    by_place = {record["n"]: record for record in records}
    return [_appended(by_place[n], parcel, again) for n, parcel in enumerate(parcels, 1)]


async def within(raw: Any, parcel: Parcel) -> Answer:
    """Write a parcel inside of the transaction that an asyncpg connection has open; waits for the run's row."""
    records = await raw.fetch(
        APPEND_WITHIN.sql, [parcel.tail.run_id], [parcel.tail.epoch], *_columns((parcel,)), timeout=None
    )
    return _appended(records[0], parcel, again=False)


async def settle(connection: Connection, parcels: Sequence[Parcel], *, wait: bool = False) -> Sequence[Answer]:
    """Write settlements with one statement; the answers are in the order of the parcels.

    Either all of them are ends that others may have to be told of, or none (`Parcel.family`).
    """
    told = parcels[0].family
    statement: Statement = sql.SETTLE_WAITING if wait else sql.SETTLE
    if told:
        statement = family.SETTLE_FAMILY_WAITING if wait else family.SETTLE_FAMILY
    wanted = [parcel.settle.settlement for parcel in parcels if parcel.settle is not None]
    records = await connection.fetch(
        statement,
        [parcel.tail.run_id for parcel in parcels],
        [parcel.tail.epoch for parcel in parcels],
        [want.seen_mail for want in wanted],
        [want.status.value for want in wanted],
        [want.due_in for want in wanted],
        [want.current for want in wanted],
        [want.error for want in wanted],
        *_columns(parcels),
        *(() if told else ([want.asks for want in wanted],)),  # an end asks nobody
    )
    by_place = {record["n"]: record for record in records}
    return [_settled(by_place[n], told) for n in range(1, len(parcels) + 1)]


async def written(connection: Connection, parcels: Sequence[Parcel]) -> dict[UUID, datetime | None]:
    """For each run: when this parcel's rows were written, or None if what is there is not this parcel."""
    ids: list[UUID] = []
    seqs: list[int] = []
    for parcel in parcels:
        ids += [parcel.tail.run_id] * len(parcel.lines)
        seqs += range(parcel.first, parcel.first + len(parcel.lines))
    found = {(r["run_id"], r["seq"]): r for r in await connection.fetch(sql.WRITTEN, ids, seqs)}
    result: dict[UUID, datetime | None] = {}
    for parcel in parcels:
        at: datetime | None = None
        for seq, line in enumerate(parcel.lines, parcel.first):
            record = found.get((parcel.tail.run_id, seq))
            mine = (parcel.tail.epoch, line.kind, line.path)
            if record is None or (record["epoch"], record["kind"], record["path"]) != mine:
                at = None
                break
            at = record["at"]
        result[parcel.tail.run_id] = at
    return result


async def settled(connection: Connection, parcel: Parcel) -> bool:
    """Whether a settlement whose answer was lost had been written."""
    assert parcel.settle is not None  # asked of settlements only
    want = parcel.settle.settlement
    last = parcel.first - 1 + len(parcel.lines)
    record = await connection.fetchrow(sql.SETTLED, [parcel.tail.run_id], [last])
    if record is None:
        return False
    if record["epoch"] == parcel.tail.epoch:
        return record["worker_id"] is None
    return want.entry is not None and record["entry_epoch"] == parcel.tail.epoch


async def start(connection: Connection, starts: Sequence[Start], worker_id: UUID) -> dict[UUID, Record]:
    """Insert runs with one statement; the answer has those that were inserted, by id."""
    news = [start.new for start in starts]
    records = await connection.fetch(
        sql.START,
        [new.id for new in news],
        [new.namespace for new in news],
        [new.flow for new in news],
        [new.version for new in news],
        [new.fingerprint for new in news],
        [new.queue for new in news],
        [new.priority for new in news],
        [new.key for new in news],
        [new.input for new in news],
        [new.input_digest for new in news],
        [to_json(new.metadata) for new in news],
        [worker_id if new.claim else None for new in news],
        [new.parent_id for new in news],
        [new.root_id for new in news],
        [new.parent_path or None for new in news],
        [to_json(new.searchable) for new in news],
        [new.trigger for new in news],
    )
    return {record["id"]: record for record in records}


async def started(connection: Connection, starts: Sequence[Start]) -> dict[UUID, Record]:
    """Who is there already under these ids or keys, by the id that was asked for."""
    news = [start.new for start in starts]
    records = await connection.fetch(
        sql.STARTED,
        [new.id for new in news],
        [new.namespace for new in news],
        [new.flow for new in news],
        [new.key for new in news],
    )
    return {record["asked"]: record for record in records}


def _columns(parcels: Sequence[Parcel]) -> tuple[Sequence[Any], ...]:
    """The lines of all parcels as arrays: place of the parcel from 1, seq, attempt, codec, kind, path, payload."""
    places: list[int] = []
    seqs: list[int] = []
    lines: list[Line] = []
    for place, parcel in enumerate(parcels, 1):
        count = len(parcel.lines)
        places += repeat(place, count)
        seqs += range(parcel.first, parcel.first + count)
        lines += parcel.lines
    return places, seqs, *(zip(*lines, strict=True) if lines else ((),) * len(Line._fields))


def _appended(record: Record, parcel: Parcel, again: bool) -> Answer:
    if record["accepted"]:
        written = record["written"] if again else len(parcel.lines)
        return Answer(Verdict.ACCEPTED, record["mail"], record["at"], written)
    return BUSY if record["busy"] else FENCED


def _settled(record: Record, told: bool) -> Answer:
    if not record["accepted"]:
        return BUSY if record["busy"] else FENCED
    if record["unread"]:
        return Answer(Verdict.UNREAD, record["mail"])
    return Answer(Verdict.ACCEPTED, record["mail"], told=tuple(record["told"]) if told else ())
