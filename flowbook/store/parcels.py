"""What waits to be written, per run.

Owns: the order of a run's writes, the numbers of its journal rows, and which advisory rows ride along.
Refuses: sending (`writer.py`), SQL.

A *tail* is an owner's end of one journal: its epoch, the last number that is surely written, and a queue of *works*.
A *parcel* is what of one run goes out in one flush. Once composed it is frozen until the database has said yes or no:
a lost answer or a locked row never changes which rows have which numbers, so that sending it again writes it once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from flowbook.plan.journal import Entry
from flowbook.ports import Ack, NewRun, Settlement, Started
from flowbook.store.rows import Line, to_line

FLUSH_BYTES: Final = 4 * 1024 * 1024
"""A flush carries at most so many bytes of payload, unless a single append has more."""
FLUSH_RUNS: Final = 1024
"""A flush carries at most so many runs."""
ROW_BYTES: Final = 128
"""What a row weighs without its payload."""


@dataclass(slots=True, eq=False)
class Append:
    """Entries that are written all or none."""

    lines: Sequence[Line]
    done: asyncio.Future[Ack]
    size: int
    turn: asyncio.Future[Parcel] | None = None
    """Whoever waits for it sends the parcel himself, and nobody else sends anything of this run meanwhile."""


@dataclass(slots=True, eq=False)
class Settle:
    """The end of an ownership."""

    settlement: Settlement
    lines: Sequence[Line]
    done: asyncio.Future[bool]
    size: int = 0


@dataclass(slots=True, eq=False)
class Start:
    """A run that is to be inserted."""

    new: NewRun
    done: asyncio.Future[Started]


@dataclass(slots=True, eq=False)
class Tail:
    """An owner's end of one journal."""

    run_id: UUID
    epoch: int
    seq: int | None
    """The last row that is surely written; None: not known yet (just claimed, history not read)."""
    works: deque[Append | Settle] = field(default_factory=deque)
    notes: list[Entry] = field(default_factory=list)
    """Advisory entries that wait for company."""
    parcel: Parcel | None = None
    """What is on its way; nothing else of this run is sent until it has arrived."""
    suspects: int = 0
    """So many works go one by one, because the database refused them together."""
    parented: bool = False
    """True: its end is news for another run."""

    def forget_notes_of(self, entries: Sequence[Entry]) -> None:
        """Drop advisory entries whose path and attempt have a result now."""
        ended = {(entry.path, entry.attempt) for entry in entries}
        self.notes = [note for note in self.notes if (note.path, note.attempt) not in ended]


@dataclass(slots=True, eq=False)
class Parcel:
    """What of one run goes out in one flush."""

    tail: Tail
    notes: list[Entry]
    works: list[Append]
    settle: Settle | None
    first: int
    """Number of the first line."""
    lines: Sequence[Line]
    refusals: int = 0
    """How often the run's row was locked by somebody else."""
    doubtful: bool = False
    """True once an answer was lost: it may be written already."""

    @property
    def size(self) -> int:
        """Weight in bytes."""
        size = ROW_BYTES * len(self.lines)
        for line in self.lines:
            size += len(line.payload)
        return size

    @property
    def turn(self) -> asyncio.Future[Parcel] | None:
        """Who sends it himself waits for this; None: the writer sends it."""
        return self.works[0].turn if self.works else None

    @property
    def family(self) -> bool:
        """True: it ends a run whose end others may have to be told of. Who follows it has sent it mail."""
        if self.settle is None:
            return False
        settlement = self.settle.settlement
        return settlement.status.over and (self.tail.parented or settlement.seen_mail > 0)

    def acknowledge(self, mail: int, at: datetime) -> None:
        """Tell those who wait that it is written."""
        tail = self.tail
        seq = self.first - 1 + len(self.notes)
        tail.seq = self.first - 1 + len(self.lines)
        tail.parcel = None
        for work in self.works:
            seq += len(work.lines)
            if not work.done.done():
                work.done.set_result(Ack(seq, mail, at))

    def fail(self, error: Exception) -> None:
        """Tell those who wait that it is not written."""
        self.tail.parcel = None
        for work in self.works:
            if not work.done.done():
                work.done.set_exception(error)
        if self.settle is not None and not self.settle.done.done():
            self.settle.done.set_exception(error)

    def unpack(self) -> None:
        """Put back what is still wanted: nothing of it is written, and the numbers are free again."""
        tail = self.tail
        tail.parcel = None
        if self.settle is not None:
            tail.works.appendleft(self.settle)
        tail.works.extendleft(reversed(self.works))
        tail.notes[:0] = self.notes


def compose(tail: Tail) -> Parcel:
    """Freeze what of a run can go now: its advisory entries, then its appends in order, or else its settlement."""
    assert tail.seq is not None  # the writer asks the database first
    assert tail.parcel is None  # one parcel of a run is on its way at a time
    if tail.works and isinstance(aside := tail.works[0], Append) and aside.turn is not None:
        tail.works.popleft()
        tail.parcel = Parcel(tail, [], [aside], None, tail.seq + 1, list(aside.lines))
        return tail.parcel
    if len(tail.works) == 1 and not (tail.notes or tail.suspects) and isinstance(only := tail.works[0], Append):
        tail.works.popleft()  # the common case
        tail.parcel = Parcel(tail, [], [only], None, tail.seq + 1, only.lines)
        return tail.parcel
    alone = tail.suspects > 0
    notes = [] if alone else tail.notes
    if alone:
        tail.suspects -= 1
    else:
        tail.notes = []
    works: list[Append] = []
    settle: Settle | None = None
    weight = 0
    lines = [to_line(note) for note in notes]
    while tail.works:
        work = tail.works[0]
        if isinstance(work, Settle):
            if not works:
                settle = work
                lines.extend(work.lines)
                tail.works.popleft()
            break
        if work.turn is not None:
            break
        if works and (alone or weight + work.size > FLUSH_BYTES):
            break
        weight += work.size
        works.append(work)
        lines.extend(work.lines)
        tail.works.popleft()
    tail.parcel = Parcel(tail, notes, works, settle, tail.seq + 1, lines)
    return tail.parcel
