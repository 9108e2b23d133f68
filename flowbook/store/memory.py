"""The store in memory: for tests and examples.

Owns: one worker's view of a `MemoryDatabase`: its advisory entries, its timer, its wakes. Refuses: durability;
everything is gone with the process. The same contract as Postgres, held by one suite (`tests/contract`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID, uuid4

from flowbook.errors import DeclarationError, StoreError, StoreUnavailable
from flowbook.plan.forks import inherited
from flowbook.plan.journal import OUTCOMES, Entry
from flowbook.plan.outputs import Output
from flowbook.plan.query import MOST_RUNS, RunQuery, RunSummary
from flowbook.plan.records import Status
from flowbook.plan.streamed import BEGINNING, Chunk, News
from flowbook.ports import (
    CHILD,
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
    Transaction,
)
from flowbook.store.blobs import gone, refuse_huge, refuse_large
from flowbook.store.matching import fits, listed, summed
from flowbook.store.memory_budgets import MemoryBudgets
from flowbook.store.memory_database import MemoryDatabase, Worker
from flowbook.store.memory_fleet import MemoryFleet
from flowbook.store.memory_gc import MemoryHousekeeping
from flowbook.store.memory_proofs import MemoryProofs
from flowbook.store.memory_specs import MemorySpecs
from flowbook.store.memory_timetable import MemoryTimetable
from flowbook.store.reads import plain, the_one

NOTE_SECONDS: Final = 0.1
"""How long an advisory entry waits for company."""


class MemoryStore:
    """`flowbook.ports.Store` over dictionaries."""

    def __init__(
        self,
        database: MemoryDatabase | None = None,
        *,
        lease: float = 60.0,
        poll: float = 1.0,
        worker_id: UUID | None = None,
    ) -> None:
        """Nothing happens until `open`.

        Args:
            database: Share one, to have several workers on the same runs; None: one of its own.
            lease: Taken for the likeness with Postgres; a worker in memory dies by `die` alone.
            poll: Seconds between two looks for due runs at most.
            worker_id: This worker's identity; None: a new one.
        """
        self.worker_id = worker_id or uuid4()
        self.database = database or MemoryDatabase()
        self.fleet = MemoryFleet(self.database)
        self.specs = MemorySpecs(self.database)
        self.timetable = MemoryTimetable(self.database, self.worker_id)
        self.budgets = MemoryBudgets(self.database)
        self.housekeeping = MemoryHousekeeping(self.database)
        self.proofs = MemoryProofs(self.database)
        self.lease = lease
        self._poll = poll
        self._callbacks: list[Callable[[UUID | None], None]] = []
        self._told: list[Callable[[UUID], None]] = []
        self._notes: dict[UUID, list[Entry]] = {}
        self._tick: asyncio.TimerHandle | None = None
        self._poller: asyncio.Task[None] | None = None
        self._open = False

    async def open(self) -> None:
        """Enlist this worker."""
        if self._open:
            return
        self._open = True
        self.database.workers[self.worker_id] = Worker(True, frozenset(), self._wake, self._tell)
        self._poller = asyncio.get_running_loop().create_task(self._keep_polling(), name="flowbook poll")

    async def close(self) -> None:
        """Write what waits, hand back what is held, delist the worker."""
        if not self._open:
            return
        self._flush_notes()
        await self._stop()
        self.database.workers.pop(self.worker_id, None)
        for run_id in self.database.release(self.worker_id, lost=False):
            self.database.wake(run_id)

    async def die(self) -> None:
        """End as a killed process does: without a word, holding what it held."""
        await self._stop()
        self.database.workers[self.worker_id].alive = False

    async def _stop(self) -> None:
        self._open = False
        if self._tick is not None:
            self._tick.cancel()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait((self._poller,))

    def on_wake(self, callback: Callable[[UUID | None], None]) -> None:
        """Call back when a run got mail or became claimable; None: look at everything again."""
        self._callbacks.append(callback)

    @property
    def steady(self) -> bool:
        """False once the store is closed."""
        return self._open

    # ---------------------------------------------------------------------------------------------------- code

    async def define(self, definition: Definition) -> Definition:
        """Store a definition unless it is there; the answer has its version."""
        return (await self._turn()).define(definition)

    async def definition(self, namespace: str, flow: str, fingerprint: str) -> Definition | None:
        """A stored definition."""
        return (await self._turn()).definitions.get((namespace, flow, fingerprint))

    async def definitions(self, namespace: str, flow: str) -> Sequence[Definition]:
        """All stored definitions of a flow, newest first."""
        found = [d for d in (await self._turn()).definitions.values() if (d.namespace, d.flow) == (namespace, flow)]
        return sorted(found, key=lambda definition: -definition.version)

    async def serve(self, fingerprints: frozenset[str]) -> None:
        """Tell the others which code this worker claims runs of."""
        (await self._turn()).workers[self.worker_id].serves = fingerprints

    async def served(self) -> frozenset[str]:
        """Fingerprints that some live worker serves."""
        workers = (await self._turn()).workers.values()
        return frozenset().union(*(worker.serves for worker in workers if worker.alive))

    # -------------------------------------------------------------------------------------------------- owning

    async def start(self, new: NewRun) -> Started:
        """Insert a run unless its key is taken."""
        refuse_large(new.input, f"the input of flow {new.flow!r}")
        started = (await self._turn()).start(new, self.worker_id)
        if started.created and not new.claim:
            self.database.wake(new.id)
        return started

    async def fork(self, fork: NewFork) -> RunRow:
        """Insert a pending run that reads a part of another one's history, with its first row."""
        refuse_huge([fork.entry])
        row = (await self._turn()).fork(fork)
        self.database.wake(fork.id)
        return row

    async def change_code(self, run_id: UUID, old: str, new: str, version: int, entry: Entry) -> bool:
        """Give a failed run of one fingerprint another one, with the row that says so."""
        return (await self._turn()).change_code(run_id, old, new, version, entry)

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
        database = await self._turn()
        if only is None:
            due = [
                r for r in database.due(known, namespace, queues)
                if among is None or r in among or (home and database.runs[r].home == self.worker_id)
            ]  # fmt: skip
            due = database.within_limits(due) if among is None else due
            rows = [database.claim(run_id, self.worker_id) for run_id in due[:limit]]
            if among is None or home:
                return rows
            return [replace(r, letter=m[-1]) if (m := database.runs[r.id].mail) else r for r in rows]
        kept = database.runs.get(only)
        if kept is None or kept.row.fingerprint not in known or kept.row.namespace != namespace:
            return []
        owner = kept.row.worker_id
        if owner is not None and owner != self.worker_id:
            database.bury(owner)
        if kept.row.status not in (Status.PENDING, Status.WAITING):
            return []
        return [database.claim(only, self.worker_id)]

    async def settle(self, settlement: Settlement) -> bool:
        """Let go of a run. False: there is unread mail, nothing was changed. Raises `Fenced`."""
        refuse_huge(settlement.entries)
        database = await self._turn()
        ended = {(entry.path, entry.attempt) for entry in settlement.outcomes}
        notes = [n for n in self._notes.get(settlement.run_id, ()) if (n.path, n.attempt) not in ended]
        settled = database.settle(settlement, notes)
        if settled:
            self._notes.pop(settlement.run_id, None)
            if settlement.status is Status.PENDING:
                database.wake(settlement.run_id)
            elif settlement.status.over:
                for follower in database.tell(settlement.run_id):
                    database.wake(follower)
        return settled

    # ------------------------------------------------------------------------------------------------- journal

    async def history(self, run_id: UUID) -> Sequence[Entry]:
        """The journal in order, with all its payloads, at once."""
        database = await self._turn()
        kept = database.runs.get(run_id)
        return () if kept is None else (*inherited(database.ancestors(kept)), *kept.journal)

    async def newest(self, run_id: UUID, tag: str) -> Snapshot | None:
        """The newest snapshot of that tag."""
        kept = (await self._turn()).runs.get(run_id)
        fitting = [snapshot for snapshot in kept.snapshots if snapshot.tag == tag] if kept is not None else []
        return max(fitting, key=lambda snapshot: snapshot.seq, default=None)

    async def pages(self, run_id: UUID, after: int = 0) -> AsyncIterator[Sequence[Entry]]:
        """The journal in order after entry ``after``, in pieces; items of a map come without what they returned."""
        database = await self._turn()
        kept = database.runs.get(run_id)
        if kept is None:
            return
        before = () if after else inherited(database.ancestors(kept))
        if found := (*before, *kept.journal[after:]):
            yield tuple(replace(e, payload=b"") if e.kind in OUTCOMES and e.path.endswith("]") else e for e in found)

    async def outcomes(self, run_id: UUID, paths: Sequence[str]) -> Sequence[Entry]:
        """The outcomes of these paths, in their order."""
        return (await self._turn()).ended(run_id, paths)

    def outcomes_now(self, run_id: UUID, paths: Sequence[str]) -> Sequence[Entry]:
        """The same for who is no coroutine."""
        if not self._open:
            raise StoreUnavailable("the app is closed, and these results lie in its store: read them before")
        return self.database.ended(run_id, paths)

    async def transaction(self) -> Transaction:
        """There is none to be had in memory."""
        raise DeclarationError(
            "a transactional step commits its own effect and its checkpoint in one transaction of Postgres, and this "
            "app keeps its runs in memory: connect to a database (the embedded one will do)"
        )

    async def start_within(self, new: NewRun, session: object) -> Started:
        """There is no transaction to be within."""
        raise DeclarationError(
            f"run {new.id} cannot be started inside of {session!r}: this app keeps its runs in memory, so they cannot "
            f"share a transaction with anything; connect to a database (the embedded one will do)"
        )

    async def append(
        self, run_id: UUID, epoch: int, entries: Sequence[Entry], within: Transaction | None = None
    ) -> Ack:
        """Write entries at the end of the journal, all or none.

        Raises `Fenced` if the epoch is over, `PathClash` if a path already has an outcome, `PayloadTooLarge`.
        """
        if not entries:
            raise StoreError("an append needs at least one entry")
        refuse_huge(entries)
        database = await self._turn()
        database.owned(run_id, epoch)
        ended = {(entry.path, entry.attempt) for entry in entries}
        notes = [note for note in self._notes.pop(run_id, ()) if (note.path, note.attempt) not in ended]
        return database.append(run_id, epoch, [*notes, *entries])

    def note(self, run_id: UUID, epoch: int, entry: Entry) -> None:
        """Write an advisory entry with the next append of this run or within 100 ms, whichever is first."""
        kept = self.database.runs.get(run_id)
        if not self._open or kept is None or (kept.row.epoch, kept.row.worker_id) != (epoch, self.worker_id):
            return
        self._notes.setdefault(run_id, []).append(entry)
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(NOTE_SECONDS, self._flush_notes)

    async def keep(self, payload: bytes) -> bytes:
        """Store bytes beside all runs, durably and once; their digest. Raises `PayloadTooLarge`."""
        refuse_large(payload, "a value")
        digest = blake2b(payload, digest_size=32).digest()
        (await self._turn()).blobs[digest] = payload
        return digest

    async def kept(self, digest: bytes) -> bytes:
        """What was stored under a digest. Raises `Undecodable` if it is not there any more."""
        found = (await self._turn()).blobs.get(digest)
        if found is None:
            raise gone("a piece of an input")
        return found

    async def snapshot(self, run_id: UUID, epoch: int, snapshot: Snapshot) -> None:
        """Keep a snapshot, through the fence; an older epoch's is silently refused."""
        kept = (await self._turn()).runs.get(run_id)
        if kept is not None and kept.row.epoch == epoch:
            kept.snapshots.append(snapshot)

    # ------------------------------------------------------------------------------------------- streamed text

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Keep streamed text and tell its readers."""
        (await self._turn()).write_chunks(chunks)

    async def drop_chunks(self, streams: Sequence[tuple[UUID, int]]) -> None:
        """Throw the text of (run, stream) away."""
        (await self._turn()).drop_chunks(streams)

    async def news(self, run_id: UUID, seq: int = BEGINNING, n: int = 0) -> News:
        """What has happened since, as it was at one moment. Raises `RunNotFound`."""
        return (await self._turn()).news(run_id, seq, n)

    async def keep_outputs(self, outputs: Sequence[Output]) -> None:
        """Keep what attempts printed and displayed."""
        (await self._turn()).keep_outputs(outputs)

    async def outputs(self, run_id: UUID, path: str | None = None) -> Sequence[Output]:
        """What was kept of a run, or of one path, in the order of time."""
        return (await self._turn()).outputs(run_id, path)

    def on_news(self, callback: Callable[[UUID], None]) -> None:
        """Call back when a run has streamed text."""
        self._told.append(callback)

    def _tell(self, run_id: UUID) -> None:
        if self._open:
            for callback in self._told:
                asyncio.get_running_loop().call_soon(callback, run_id)

    # ------------------------------------------------------------------------------------------------- mailbox

    async def send(self, run_id: UUID, kind: str, name: str, payload: bytes, *, token: UUID | None = None) -> RunRow:
        """Deliver to a mailbox and wake the run; the answer is the row after it. Raises `RunNotFound`."""
        refuse_large(payload, f"what is sent to run {run_id} as {name!r}")
        database = await self._turn()
        if database.send(run_id, kind, name, payload, token):
            database.wake(run_id)
        return database.kept(run_id).row

    async def mail(self) -> Mapping[UUID, int]:
        """How much has been delivered so far to each run that this worker owns."""
        rows = [kept.row for kept in (await self._turn()).runs.values()]
        return {row.id: row.mail for row in rows if row.worker_id == self.worker_id and row.mail}

    async def mailbox(self, run_id: UUID, after: int = 0, *, ends_after: int = 0) -> Sequence[Mail]:
        """What was delivered after mail number ``after``, in order; ends of children only after ``ends_after``."""
        kept = (await self._turn()).runs.get(run_id)
        mails = kept.mail[after:] if kept is not None else ()
        return tuple(mail for mail in mails if mail.kind != CHILD or mail.id > ends_after)

    # ------------------------------------------------------------------------------------------------- looking

    async def asked(self, query: InboxQuery) -> Sequence[Asked]:
        """Places that wait for somebody's decision, newest run first."""
        return (await self._turn()).asked(query)

    async def run(self, run_id: UUID) -> RunRow:
        """One row. Raises `RunNotFound`."""
        return (await self._turn()).kept(run_id).row

    async def find(self, text: str) -> RunRow:
        """A run by id, unique prefix or unique ending of its hex id. Raises `RunNotFound`."""
        typed = plain(text)
        database = await self._turn()
        rows = [kept.row for kept in database.runs.values()]
        return the_one(text, [r for r in rows if r.id.hex.startswith(typed) or r.id.hex.endswith(typed)][:5])

    async def runs(self, query: RunQuery) -> Sequence[RunRow]:
        """The rows of a page."""
        rows = listed(await self._fitting(query), query)[: max(0, min(query.limit, MOST_RUNS + 1))]
        return rows if query.inputs else [replace(row, input=b"") for row in rows]

    async def count(self, query: RunQuery, most: int) -> int:
        """How many rows, ``most + 1`` for more than that."""
        return min(len(listed(await self._fitting(query), query)), most + 1)

    async def summary(self, query: RunQuery) -> RunSummary:
        """All rows, counted and timed."""
        return summed(await self._fitting(query))

    async def _fitting(self, query: RunQuery) -> list[RunRow]:
        kept = (await self._turn()).runs.values()
        return [k.row for k in kept if fits(k.row, k.searchable, query)]

    async def children(self, run_id: UUID, *, live: bool = False) -> Sequence[RunRow]:
        """Rows of all runs that a run has started, in the order of their start; ``live``: only those not over."""
        rows = [kept.row for kept in (await self._turn()).runs.values() if kept.row.parent_id == run_id]
        return sorted((row for row in rows if not (live and row.status.over)), key=lambda row: row.created_at)

    async def now(self) -> datetime:
        """The database's time, timezone-aware, UTC."""
        return (await self._turn()).now()

    # -------------------------------------------------------------------------------------------------- inside

    async def _turn(self) -> MemoryDatabase:
        """Let others run, as every call to a database does. Raises `StoreUnavailable` when closed."""
        await asyncio.sleep(0)
        if not self._open:
            raise StoreUnavailable("the store is closed")
        return self.database

    def _flush_notes(self) -> None:
        self._tick = None
        notes, self._notes = self._notes, {}
        for run_id, entries in notes.items():
            row = self.database.runs[run_id].row
            if row.worker_id == self.worker_id and row.status is Status.RUNNING:
                self.database.append(run_id, row.epoch, entries)

    def _wake(self, run_id: UUID | None) -> None:
        if self._open:
            for callback in self._callbacks:
                asyncio.get_running_loop().call_soon(callback, run_id)

    async def _keep_polling(self) -> None:
        while True:
            # A run that is due already and still there is nobody's for want of its code: the poll is enough for it.
            due = self.database.next_due()
            seconds = self._poll if due is None else (due - self.database.now()).total_seconds()
            await asyncio.sleep(min(seconds, self._poll))
            self._wake(None)
