"""The store in Postgres.

Owns: putting the parts together and opening and closing them in order. Refuses: everything else; see the parts:

    ledger, parcels   what this process owns and has yet to write
    transactions, starting   what shares a transaction with a step, or with a user
    writer, flushes   the group commit; `patience` for runs whose row stays locked
    claims            becoming an owner
    reads, blobs      everything that is looked at; large values
    outputs           what steps print and display
    fleet, timetable  what workers ask together; schedules
    specs             flows that are defined as data
    gc                throwing away what is over
    aside             the same for who is no coroutine
    liveness, wakes   being alive, hearing of mail
    migrate           the schema
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

from flowbook.errors import StoreError
from flowbook.plan.journal import Entry
from flowbook.plan.outputs import Output
from flowbook.plan.query import RunQuery, RunSummary
from flowbook.plan.records import Status
from flowbook.plan.streamed import BEGINNING, Chunk, News
from flowbook.ports import (
    Ack,
    Asked,
    Definition,
    InboxQuery,
    Mail,
    NewFork,
    NewRun,
    RunRow,
    Settlement,
    Snapshot,
    Started,
)
from flowbook.store import migrate
from flowbook.store.aside import Aside
from flowbook.store.blobs import LARGE, Blobs, refuse_huge, refuse_large
from flowbook.store.budgets import Budgets
from flowbook.store.claims import Claims
from flowbook.store.fleet import Fleet
from flowbook.store.gc import Housekeeping
from flowbook.store.ledger import Ledger
from flowbook.store.liveness import Liveness
from flowbook.store.outputs import Outputs
from flowbook.store.proofs import Proofs
from flowbook.store.reads import PAGE, Reads
from flowbook.store.retrying import Line
from flowbook.store.rows import Line as JournalLine
from flowbook.store.rows import to_line
from flowbook.store.specs import Specs
from flowbook.store.timetable import Timetable
from flowbook.store.wakes import Wakes
from flowbook.store.writer import Writer

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from flowbook.ports import Transaction
    from flowbook.store.transactions import StepTransaction, Transactions

FIRST_CONNECTION: float = 10.0
"""Seconds that opening waits for a database that does not answer yet."""


class PostgresStore:
    """`flowbook.ports.Store` over one Postgres database."""

    def __init__(self, url: str, *, lease: float = 60.0, poll: float = 1.0, worker_id: UUID | None = None) -> None:
        """Nothing happens until `open`.

        Args:
            url: ``postgresql://...``.
            lease: Seconds without a heartbeat after which others may take this worker's runs.
            poll: Seconds between two looks for due runs, where no wake has come.
            worker_id: This process' identity; None: a new one.
        """
        self.worker_id = worker_id or uuid4()
        self.url = self._url = url
        self._callbacks: list[Callable[[UUID | None], None]] = []
        self._ledger = Ledger()
        self._writer = Writer(url, self.worker_id, self._ledger, self._announce)
        self._line = Line(url, "reader")
        self._blobs = Blobs(url)
        self._reads = Reads(self._line, self._blobs)
        self.fleet = Fleet(self._line)
        self.specs = Specs(self._line)
        self.timetable = Timetable(self._line, self._announce)
        self.budgets = Budgets(self._line)
        self._gc = Line(url, "gc")
        self.housekeeping = Housekeeping(self._gc)
        self.proofs = Proofs(self._line)
        self._aside = Aside(url)
        self._liveness = Liveness(
            url, self.worker_id, lease=lease, on_dead=self._freed, on_steady=lambda: self._wake(None)
        )
        self._claims = Claims(self._line, self.worker_id, self._ledger, self._liveness.bury, self._wake, poll)
        self._wakes = Wakes(url, self.worker_id, poll, self._wake, self._tell)
        self._told: list[Callable[[UUID], None]] = []
        self._stream = Line(url, "chunks")
        self._chunks = Reads(self._stream, self._blobs)
        self._outputs = Outputs(url, self._blobs)
        self._swept = False
        self._open = False

    async def open(self) -> None:
        """Connect, check the schema, enlist this worker, begin its heartbeat.

        Raises:
            StoreUnavailable: The database could not be reached.
            SchemaMismatch: The schema is newer than this library.
        """
        if self._open:
            return
        try:
            connection = await self._writer.open(FIRST_CONNECTION)
            await migrate.ensure(self._url, connection)
            await self._liveness.start()
        except BaseException:
            await self._writer.close(0)
            raise
        self._writer.begin()
        await self._wakes.start()
        self._open = True

    async def close(self) -> None:
        """Write what is waiting to be written, delist the worker, disconnect."""
        if not self._open:
            return
        self._open = False
        self._claims.stop()
        await self._wakes.stop()
        if "_transactions" in self.__dict__:
            await self._transactions.close()
        await self._writer.close()
        await self._liveness.stop()
        await self._outputs.close()
        await self._blobs.close()
        await self._aside.close()
        await self._stream.close()
        await self._gc.close()
        await self._line.close()

    def on_wake(self, callback: Callable[[UUID | None], None]) -> None:
        """Call back when a run got mail or became claimable; None: look at everything again."""
        self._callbacks.append(callback)

    @property
    def steady(self) -> bool:
        """False while this worker may have been given up for dead."""
        return self._liveness.steady

    # ---------------------------------------------------------------------------------------------------- code

    async def define(self, definition: Definition) -> Definition:
        """Store a definition unless it is there; the answer has its version."""
        return await self._reads.define(definition)

    async def definition(self, namespace: str, flow: str, fingerprint: str) -> Definition | None:
        """A stored definition."""
        return await self._reads.definition(namespace, flow, fingerprint)

    async def definitions(self, namespace: str, flow: str) -> Sequence[Definition]:
        """All stored definitions of a flow, newest first."""
        return await self._reads.definitions(namespace, flow)

    async def serve(self, fingerprints: frozenset[str]) -> None:
        """Tell the others which code this worker claims runs of."""
        await self._liveness.serve(fingerprints)

    async def served(self) -> frozenset[str]:
        """Fingerprints that some live worker serves."""
        return await self._reads.served()

    # -------------------------------------------------------------------------------------------------- owning

    async def start(self, new: NewRun) -> Started:
        """Insert a run, durably, unless its key is taken."""
        refuse_large(new.input, f"the input of flow {new.flow!r}")
        started = await self._writer.start(new)
        if started.created and not new.claim:
            self._announce(new.id)
        return started

    async def fork(self, fork: NewFork) -> RunRow:
        """Insert a pending run that reads a part of another one's history, with its first row."""
        (line,) = await self._lines([fork.entry])
        row = await self._reads.fork(fork, line)
        self._announce(fork.id)
        return row

    async def change_code(self, run_id: UUID, old: str, new: str, version: int, entry: Entry) -> bool:
        """Give a failed run of one fingerprint another one, with the row that says so."""
        (line,) = await self._lines([entry])
        return await self._reads.change_code(run_id, old, new, version, line)

    async def claim(
        self,
        known: frozenset[str],
        *,
        namespace: str = "default",
        queues: Sequence[str] = ("default",),
        limit: int = 1,
        among: frozenset[UUID] | None = None,
        home: bool = False,
        only: UUID | None = None,
    ) -> Sequence[RunRow]:
        """Own up to ``limit`` due runs of a namespace whose fingerprint is in ``known``, or that one run."""
        if only is not None:
            return await self._claims.only(known, namespace, only)
        return await self._claims.due(known, namespace, queues, limit, among, home)

    async def settle(self, settlement: Settlement) -> bool:
        """Let go of a run. False: there is unread mail, nothing was changed. Raises `Fenced`."""
        entries = settlement.entries
        lines: Sequence[JournalLine] = await self._lines(entries) if entries else ()
        settled = await self._writer.settle(settlement, lines)
        if settled and settlement.status is Status.PENDING:
            self._announce(settlement.run_id)
        return settled

    # ------------------------------------------------------------------------------------------------- journal

    async def history(self, run_id: UUID) -> Sequence[Entry]:
        """The journal in order, with all its payloads, at once."""
        entries = await self._reads.history(run_id)
        self._ledger.learn(run_id, entries[-1].seq if entries else 0)
        return entries

    async def newest(self, run_id: UUID, tag: str) -> Snapshot | None:
        """The newest snapshot of that tag."""
        return await self._reads.newest(run_id, tag)

    async def pages(self, run_id: UUID, after: int = 0) -> AsyncIterator[Sequence[Entry]]:
        """The journal in order after entry ``after``, in pieces; items of a map come without what they returned."""
        first = after == 0
        while True:
            page = await self._reads.page(run_id, after)
            if first and (prefix := await self._reads.prefix(run_id, page)):
                yield prefix
            first = False
            after = page[-1].seq if page else after
            if len(page) < PAGE:
                self._ledger.learn(run_id, after)
            if page:
                yield page
            if len(page) < PAGE:
                return

    async def outcomes(self, run_id: UUID, paths: Sequence[str]) -> Sequence[Entry]:
        """The outcomes of these paths, in their order; the first ones only if they are large, but one at least."""
        return await self._reads.outcomes(run_id, paths)

    def outcomes_now(self, run_id: UUID, paths: Sequence[str]) -> Sequence[Entry]:
        """The same for who is no coroutine: blocks its caller, whatever thread that is."""
        return self._aside.outcomes(run_id, paths)

    @functools.cached_property
    def _transactions(self) -> Transactions:
        from flowbook.store.transactions import Transactions  # SQLAlchemy: only who uses sessions pays for it

        return Transactions(self._url, self._ledger)

    async def transaction(self) -> Transaction:
        """A transaction on the journal's own database."""
        return await self._transactions.begin()

    def session(self) -> AsyncSession:
        """A session on the journal's own database, for whoever wants one; not entered yet."""
        return self._transactions.session()

    async def start_within(self, new: NewRun, session: Any) -> Started:
        """Insert a run in the transaction of a user's session; this worker is told when that is committed."""
        from flowbook.store.starting import is_asynchronous, start_within

        loop = asyncio.get_running_loop()

        def committed() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is here to carry it
                loop.call_soon_threadsafe(self._announce, new.id)

        if is_asynchronous(session):
            started: Started = await session.run_sync(start_within, new, committed)
            return started
        return await loop.run_in_executor(None, start_within, session, new, committed)

    async def append(
        self, run_id: UUID, epoch: int, entries: Sequence[Entry], within: Transaction | None = None
    ) -> Ack:
        """Write entries at the end of the journal, all or none, durably.

        Raises `Fenced` if the epoch is over, `PathClash` if a path already has an outcome, `PayloadTooLarge`.
        """
        if not entries:
            raise StoreError("an append needs at least one entry")
        if within is not None:
            mine = cast("StepTransaction", within)  # one that `transaction` has begun
            try:
                rows = await self._lines(entries)
            except BaseException:
                await within.rollback()
                raise
            # From here on it ends by itself. Its commit outlives a caller who is cancelled, and needs its session.
            return await self._transactions.commit(mine, run_id, epoch, entries, rows)
        size = 0
        for entry in entries:
            size += len(entry.payload)
        lines = [to_line(entry) for entry in entries] if size <= LARGE else await self._lines(entries)
        return await self._writer.append(run_id, epoch, entries, lines)

    def note(self, run_id: UUID, epoch: int, entry: Entry) -> None:
        """Write an advisory entry with the next append of this run or within 100 ms, whichever is first."""
        self._ledger.note(run_id, epoch, entry)

    async def keep(self, payload: bytes) -> bytes:
        """Store bytes beside all runs, durably and once; their digest. Raises `PayloadTooLarge`."""
        return await self._blobs.put(payload)

    async def kept(self, digest: bytes) -> bytes:
        """What was stored under a digest. Raises `Undecodable` if it is not there any more."""
        return await self._blobs.get(digest, "a piece of an input")

    async def snapshot(self, run_id: UUID, epoch: int, snapshot: Snapshot) -> None:
        """Keep a snapshot, through the fence; an older epoch's is silently refused."""
        await self._reads.snapshot(run_id, epoch, snapshot)

    # ------------------------------------------------------------------------------------------- streamed text

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Keep streamed text and tell its readers, on a connection that nothing else waits for."""
        await self._chunks.write_chunks(chunks)
        for run_id in {chunk.run_id for chunk in chunks}:
            self._wakes.announce_news(run_id)
            self._tell(run_id)
        if not self._swept:
            self._swept = True
            await self._chunks.sweep_chunks()

    async def drop_chunks(self, streams: Sequence[tuple[UUID, int]]) -> None:
        """Throw the text of (run, stream) away."""
        await self._chunks.drop_chunks(streams)

    async def news(self, run_id: UUID, seq: int = BEGINNING, n: int = 0) -> News:
        """What has happened since, as it was at one moment. Raises `RunNotFound`."""
        return await self._reads.news(run_id, seq, n)

    async def keep_outputs(self, outputs: Sequence[Output]) -> None:
        """Keep what attempts printed and displayed, on a connection that nothing else waits for."""
        await self._outputs.keep(outputs)

    async def outputs(self, run_id: UUID, path: str | None = None) -> Sequence[Output]:
        """What was kept of a run, or of one path, in the order of time."""
        return await self._outputs.read(run_id, path)

    def on_news(self, callback: Callable[[UUID], None]) -> None:
        """Call back when a run has streamed text."""
        self._told.append(callback)

    # ------------------------------------------------------------------------------------------------- mailbox

    async def send(self, run_id: UUID, kind: str, name: str, payload: bytes, *, token: UUID | None = None) -> RunRow:
        """Deliver to a mailbox and wake the run; the answer is the row after it. Raises `RunNotFound`."""
        refuse_large(payload, f"what is sent to run {run_id} as {name!r}")
        row, delivered = await self._reads.send(run_id, kind, name, payload, token or uuid4())
        if delivered:
            self._announce(run_id)
        return row

    async def mail(self) -> Mapping[UUID, int]:
        """How much has been delivered so far to each run that this worker owns."""
        return await self._reads.mail(self.worker_id)

    async def mailbox(self, run_id: UUID, after: int = 0, *, ends_after: int = 0) -> Sequence[Mail]:
        """What was delivered after mail number ``after``, in order; ends of children only after ``ends_after``."""
        return await self._reads.mailbox(run_id, after, ends_after)

    # ------------------------------------------------------------------------------------------------- looking

    async def asked(self, query: InboxQuery) -> Sequence[Asked]:
        """Places that wait for somebody's decision, newest run first."""
        return await self._reads.asked(query)

    async def run(self, run_id: UUID) -> RunRow:
        """One row. Raises `RunNotFound`."""
        return await self._reads.run(run_id)

    async def find(self, text: str) -> RunRow:
        """A run by id, unique prefix or unique ending of its hex id. Raises `RunNotFound`."""
        return await self._reads.find(text)

    async def runs(self, query: RunQuery) -> Sequence[RunRow]:
        """The rows of a page."""
        return await self._reads.runs(query)

    async def count(self, query: RunQuery, most: int) -> int:
        """How many rows, ``most + 1`` for more than that."""
        return await self._reads.count(query, most)

    async def summary(self, query: RunQuery) -> RunSummary:
        """All rows, counted and timed."""
        return await self._reads.summary(query)

    async def children(self, run_id: UUID, *, live: bool = False) -> Sequence[RunRow]:
        """Rows of all runs that a run has started, in the order of their start; ``live``: only those not over."""
        return await self._reads.children(run_id, live=live)

    async def now(self) -> datetime:
        """The database's time, timezone-aware, UTC."""
        return await self._reads.now()

    # ------------------------------------------------------------------------------------------------ inside

    async def _lines(self, entries: Sequence[Entry]) -> list[JournalLine]:
        refuse_huge(entries)
        return await self._blobs.lines(entries)

    def _announce(self, run_id: UUID) -> None:
        """Tell the other workers, and this one: nobody hears his own voice."""
        self._wakes.announce(run_id)
        asyncio.get_running_loop().call_soon(self._wake, run_id)

    def _wake(self, run_id: UUID | None) -> None:
        for callback in self._callbacks:
            callback(run_id)

    def _tell(self, run_id: UUID) -> None:
        for callback in self._told:
            callback(run_id)

    def _freed(self, runs: tuple[UUID, ...]) -> None:
        for run_id in runs:
            self._announce(run_id)
