"""What this process owns and has yet to write.

Owns: the tails of all owned runs, which of them have something to send, and the tick of the advisory entries.
Refuses: connections and statements (`writer.py`). Nothing here waits.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from flowbook.errors import Fenced, StoreUnavailable
from flowbook.plan.journal import Entry
from flowbook.ports import Ack, NewRun, Settlement, Started
from flowbook.store.parcels import ROW_BYTES, Append, Parcel, Settle, Start, Tail
from flowbook.store.rows import Line

REMEMBERED: Final = 1024
"""Runs of which it is known where their journal ends although they are not owned."""
NOTE_SECONDS: Final = 0.1
"""How long an advisory entry waits for company."""

_T = TypeVar("_T")


class Ledger:
    """Owned runs and their queues, on one loop."""

    def __init__(self) -> None:
        self.tails: dict[UUID, Tail] = {}
        self.ready: dict[UUID, Tail] = {}
        """Runs with something to send and nothing on its way, first come first."""
        self._left: OrderedDict[UUID, tuple[int, int]] = OrderedDict()
        """Runs that were let go of lately and are not over: (epoch, last row of the journal)."""
        self.starts: list[Start] = []
        self.starting: set[UUID] = set()
        """Runs whose insertion is waiting or on its way."""
        self.muted = False
        """True while a caller sends what he has himself: the bell is rung when he is done."""
        self._noted: set[UUID] = set()
        self._tick: asyncio.TimerHandle | None = None
        self._bell: asyncio.Future[None] | None = None
        self._closed: StoreUnavailable | None = None

    @property
    def owned(self) -> list[UUID]:
        """Runs that this process knows to be its own, or is about to start."""
        return [*self.tails, *self.starting]

    # ---------------------------------------------------------------------------------------------------- what comes in

    def adopt(self, run_id: UUID, epoch: int, seq: int | None = None, *, parented: bool = False) -> None:
        """A run is owned from now on. ``seq``: the last row of its journal; None: nobody has looked yet.

        ``parented``: another run is told of its end.
        """
        before = self.tails.pop(run_id, None)
        if before is not None:
            self.fence(before)
        left = self._left.pop(run_id, None)
        if seq is None and left is not None and left[0] + 1 == epoch:
            seq = left[1]  # nobody has had it since, so nobody has written
        self.tails[run_id] = Tail(run_id, epoch, seq, parented=parented)

    def learn(self, run_id: UUID, seq: int) -> None:
        """A history was read: where the journal of an adopted run ends."""
        tail = self.tails.get(run_id)
        if tail is not None and tail.seq is None:
            tail.seq = seq

    def start(self, new: NewRun) -> asyncio.Future[Started]:
        """A run is to be inserted."""
        start = Start(new, asyncio.get_running_loop().create_future())
        if self._closed is not None:
            start.done.set_exception(self._closed)
            return start.done
        self.starts.append(start)
        self.starting.add(new.id)
        self.ring()
        return start.done

    def append(self, run_id: UUID, epoch: int, entries: Sequence[Entry], lines: Sequence[Line]) -> asyncio.Future[Ack]:
        """Rows are to be written. ``lines`` are the entries as they go out."""
        done: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        tail = self._tail(run_id, epoch, done)
        if tail is not None:
            if tail.notes:
                tail.forget_notes_of(entries)
            size = ROW_BYTES * len(lines)
            for line in lines:
                size += len(line.payload)
            tail.works.append(Append(lines, done, size))
            self.offer(tail)
        return done

    def aside(
        self, run_id: UUID, epoch: int, entries: Sequence[Entry], lines: Sequence[Line]
    ) -> tuple[asyncio.Future[Parcel], asyncio.Future[Ack]]:
        """Rows that the caller writes himself, in a transaction of his own: (his turn, the answer as of any append).

        From his turn until he has acknowledged the parcel, or failed it, nothing else of the run is sent. The turn does
        not come if the answer is there before it: the run is somebody else's.
        """
        turn: asyncio.Future[Parcel] = asyncio.get_running_loop().create_future()
        done: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
        tail = self._tail(run_id, epoch, done)
        if tail is not None:
            tail.forget_notes_of(entries)
            tail.works.append(Append(lines, done, 0, turn))
            self.offer(tail)
        return turn, done

    def settle(self, settlement: Settlement, lines: Sequence[Line]) -> asyncio.Future[bool]:
        """A run is to be let go."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        tail = self._tail(settlement.run_id, settlement.epoch, done)
        if tail is not None:
            if tail.notes:
                tail.forget_notes_of(settlement.outcomes)
            tail.works.append(Settle(settlement, lines, done))
            self.offer(tail)
        return done

    def note(self, run_id: UUID, epoch: int, entry: Entry) -> None:
        """An advisory row waits for company, or the tick. Of a run that is not owned it is dropped."""
        tail = self.tails.get(run_id)
        if tail is None or tail.epoch != epoch or self._closed is not None:
            return
        tail.notes.append(entry)
        self._noted.add(run_id)
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(NOTE_SECONDS, self.collect_notes)

    def collect_notes(self) -> None:
        """Offer every run whose advisory rows have found no company."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        noted, self._noted = self._noted, set()
        for run_id in noted:
            tail = self.tails.get(run_id)
            if tail is None or not tail.notes:
                continue
            if tail.parcel is None:
                self.offer(tail)
            else:
                self._noted.add(run_id)
        if self._noted and self._closed is None:
            self._tick = asyncio.get_running_loop().call_later(NOTE_SECONDS, self.collect_notes)

    def _tail(self, run_id: UUID, epoch: int, done: asyncio.Future[Any]) -> Tail | None:
        tail = self.tails.get(run_id)
        if self._closed is not None:
            done.set_exception(self._closed)
        elif tail is None or tail.epoch != epoch:
            done.set_exception(fenced(run_id, epoch))
        else:
            return tail
        return None

    # ---------------------------------------------------------------------------------------------------- what goes out

    def offer(self, tail: Tail) -> None:
        """A run has something to send, unless a parcel of it is on its way."""
        if tail.parcel is None:
            self.ready[tail.run_id] = tail
            self.ring()

    def again(self, parcel: Parcel) -> None:
        """The same parcel is to be sent with the next flush."""
        self.ready[parcel.tail.run_id] = parcel.tail
        self.ring()

    def ring(self) -> None:
        """There is something to do."""
        if self._bell is not None and not self._bell.done() and not self.muted:
            self._bell.set_result(None)

    async def rung(self) -> None:
        """Wait until there is something to do."""
        self._bell = asyncio.get_running_loop().create_future()
        await self._bell

    @property
    def quiet(self) -> bool:
        """True while who would send it waits for the bell."""
        return self._bell is not None and not self._bell.done()

    def forget(self, tail: Tail, last: int | None) -> None:
        """A run was let go: what else was queued for it comes too late. ``last``: its last row; None: it is over."""
        self.fence(tail)
        if last is not None:
            self._left[tail.run_id] = tail.epoch, last
            if len(self._left) > REMEMBERED:
                self._left.popitem(last=False)

    def fence(self, tail: Tail) -> None:
        """A run is somebody else's: everything that waits for it gets `Fenced`."""
        if self.tails.get(tail.run_id) is tail:
            del self.tails[tail.run_id]
        if self.ready.get(tail.run_id) is tail:
            del self.ready[tail.run_id]
        self._fail_all(tail, fenced(tail.run_id, tail.epoch))

    def close(self) -> None:
        """Take nothing more."""
        self._closed = StoreUnavailable("the store is closed")
        self.collect_notes()
        self.ring()

    def abandon(self, error: Exception) -> None:
        """Nothing of what waits will be written: say so to everybody."""
        starts, self.starts = self.starts, []
        for start in starts:
            fail(start.done, error)
        tails, self.tails = self.tails, {}
        self.ready.clear()
        for tail in tails.values():
            self._fail_all(tail, error)

    def _fail_all(self, tail: Tail, error: Exception) -> None:
        parcel, tail.parcel = tail.parcel, None
        if parcel is not None:
            parcel.fail(error)
        while tail.works:
            fail(tail.works.popleft().done, error)
        tail.notes = []


def fenced(run_id: UUID, epoch: int) -> Fenced:
    """The error for who has lost a run."""
    return Fenced(
        f"run {run_id} is not owned under epoch {epoch} any more: it was let go, or another worker took it over; "
        "what this process still had of it is not written"
    )


def tell(done: asyncio.Future[_T], result: _T) -> None:
    """Answer who waits, if he still does."""
    if not done.done():
        done.set_result(result)


def fail(done: asyncio.Future[Any], error: Exception) -> None:
    """Raise at who waits, if he still does."""
    if not done.done():
        done.set_exception(error)
