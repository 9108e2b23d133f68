"""Ports: what the machines look like from above. Each implementation lives in a file named for its technology.

Owns: the Protocols; the records that cross them are offered here too (`rows.py`). Refuses: any implementation, and any
import from the machines.

The Store keeps runs durably and says who owns them. Rules that every store keeps (docs/architecture.md, Storage):
only the owner of a run's *epoch* appends to its journal; everybody else delivers to its *mailbox*; an append is
accepted whole or not at all; a run's journal is numbered 1, 2, 3, ... without gaps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from flowbook.fleet_ports import FleetStore, Timetable
from flowbook.plan.journal import Entry
from flowbook.plan.outputs import Output
from flowbook.plan.query import RunQuery, RunSummary
from flowbook.plan.streamed import BEGINNING, Chunk, News
from flowbook.rows import (
    CHILD,
    FOLLOW,
    Ack,
    Asked,
    Defined,
    Definition,
    Due,
    Finding,
    InboxQuery,
    KeptProof,
    Limit,
    Mail,
    NewFire,
    NewFork,
    NewRun,
    RunRow,
    Settlement,
    Snapshot,
    Spender,
    Spent,
    Started,
    Swept,
    Tick,
    Usage,
    ended_child,
)

__all__ = [
    "CHILD",
    "FOLLOW",
    "Ack",
    "Asked",
    "BudgetStore",
    "Defined",
    "Definition",
    "Due",
    "Executor",
    "Finding",
    "FleetStore",
    "Housekeeping",
    "InboxQuery",
    "KeptProof",
    "Limit",
    "Mail",
    "NewFire",
    "NewFork",
    "NewRun",
    "RunRow",
    "Settlement",
    "Sink",
    "Snapshot",
    "SpecStore",
    "Spender",
    "Spent",
    "Started",
    "Store",
    "Swept",
    "Tick",
    "Timetable",
    "Transaction",
    "Usage",
    "ended_child",
]


class Transaction(Protocol):
    """A transaction that a step's own effects and its checkpoint share; begun, and not ended yet."""

    @property
    def session(self) -> Any:
        """An ``AsyncSession`` of SQLAlchemy's that refuses to be committed or rolled back."""
        ...

    def explained(self, error: BaseException) -> BaseException:
        """An error of the step; `TransactionLost` for one that only says that the database went away."""
        ...

    async def rollback(self) -> None:
        """Undo everything. Harmless when the transaction has ended."""
        ...


class Store(Protocol):
    """Durable runs. All waiting is inside: while the database is away, calls wait for it and then go on.

    Raises everywhere: `StoreUnavailable` only once the store is closed or if it could never be reached.
    """

    worker_id: UUID
    """This process' identity as an owner of runs."""

    @property
    def fleet(self) -> FleetStore:
        """What workers ask as a fleet."""
        ...

    @property
    def specs(self) -> SpecStore:
        """Flows that are defined as data."""
        ...

    @property
    def timetable(self) -> Timetable:
        """Schedules."""
        ...

    @property
    def budgets(self) -> BudgetStore:
        """What the runs of a namespace have spent of the budgets that they share."""
        ...

    @property
    def housekeeping(self) -> Housekeeping:
        """Throwing away what is over."""
        ...

    @property
    def proofs(self) -> ProofStore:
        """What is known of the versions of flows."""
        ...

    async def open(self) -> None:
        """Connect, check the schema, enlist this worker, begin its heartbeat."""
        ...

    async def close(self) -> None:
        """Write what is waiting to be written, hand back nothing, delist the worker, disconnect."""
        ...

    def on_wake(self, callback: Callable[[UUID | None], None]) -> None:
        """Call back on this loop when a run got mail or became claimable; None: look at everything again."""
        ...

    @property
    def steady(self) -> bool:
        """False while this worker may have been given up for dead (its lock connection is gone): start no step."""
        ...

    async def define(self, definition: Definition) -> Definition:
        """Store a definition unless it is there; the answer has its version."""
        ...

    async def definition(self, namespace: str, flow: str, fingerprint: str) -> Definition | None:
        """A stored definition."""
        ...

    async def definitions(self, namespace: str, flow: str) -> Sequence[Definition]:
        """All stored definitions of a flow, newest first."""
        ...

    async def now(self) -> datetime:
        """The database's time, timezone-aware, UTC."""
        ...

    async def serve(self, fingerprints: frozenset[str]) -> None:
        """Tell the others which code this worker claims runs of (only workers say so, kernels do not)."""
        ...

    async def start(self, new: NewRun) -> Started:
        """Insert a run, durably, unless its key is taken. Grouped with the starts and appends of other runs.

        A run whose id is there already is left as it is, and the answer is its row: who derives ids from what they
        stand for (`run/children.py`) may start as often as they like. Look at the row to see whose it is.
        """
        ...

    async def fork(self, fork: NewFork) -> RunRow:
        """Insert a pending run that reads a part of another one's history, with its first row, durably.

        Nothing is copied. Raises `RunNotFound` if the other run is gone, `PayloadTooLarge`.
        """
        ...

    async def change_code(self, run_id: UUID, old: str, new: str, version: int, entry: Entry) -> bool:
        """Give a failed run of fingerprint ``old`` another one, with the row that says so, in one step.

        False: it is not failed any more, or not of that fingerprint; nothing was changed. Epoch + 1, so that whoever
        had it before writes nothing more.
        """
        ...

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
        """Own up to ``limit`` due runs of a namespace whose fingerprint is in ``known``; epoch + 1 each.

        The same code in another namespace is another flow: its runs are left alone. ``among``: only of these runs;
        with ``home`` also those that this worker was the last to park. So a kernel looks after its own with one
        statement, however many they are.

        With ``only``: that run, due or not, unless it is over or a live worker has it. A dead owner is found out here
        and now (two probes of its lock).
        """
        ...

    async def history(self, run_id: UUID) -> Sequence[Entry]:
        """The journal in order, with all its payloads, at once.

        Of a fork, the rows that it reads from those before it come first, numbered 0, -1, ... backwards.
        """
        ...

    async def newest(self, run_id: UUID, tag: str) -> Snapshot | None:
        """The newest snapshot of that tag."""
        ...

    def pages(self, run_id: UUID, after: int = 0) -> AsyncIterator[Sequence[Entry]]:
        """The journal in order after entry ``after``, in pieces, for who folds it: a journal may be larger than memory.

        The rows of a map's items come without their payload: what they returned changes nothing that is folded.
        """
        ...

    async def outcomes(self, run_id: UUID, paths: Sequence[str]) -> Sequence[Entry]:
        """The outcomes of these paths, in their order; those that have none are left out.

        As many of the first ones as are not too large to be read at once, but one at least: ask again for the rest.
        """
        ...

    def outcomes_now(self, run_id: UUID, paths: Sequence[str]) -> Sequence[Entry]:
        """The same for who is no coroutine: blocks its caller, in any thread. Raises `StoreUnavailable` when closed."""
        ...

    async def transaction(self) -> Transaction:
        """A transaction on the journal's own database. Raises `DeclarationError` where there is none to be had."""
        ...

    async def start_within(self, new: NewRun, session: Any) -> Started:
        """Insert a run in the transaction of a user's session: it is there for others when that is committed.

        Nobody owns it then, and this worker is told. Raises `DeclarationError` where there are no transactions.
        """
        ...

    async def append(
        self, run_id: UUID, epoch: int, entries: Sequence[Entry], within: Transaction | None = None
    ) -> Ack:
        """Write entries at the end of the journal, all or none, durably.

        ``within``: in that transaction, which is committed with them; if anything is raised, it has been undone.

        Raises `Fenced` if the epoch is over, `PathClash` if a path already has an outcome, `PayloadTooLarge`.
        """
        ...

    def note(self, run_id: UUID, epoch: int, entry: Entry) -> None:
        """Write an advisory entry with the next append of this run or within 100 ms, whichever is first.

        An outcome of the same path and attempt that is appended before makes it superfluous, and it is dropped.
        """
        ...

    async def keep(self, payload: bytes) -> bytes:
        """Store bytes beside all runs, durably and once; their digest. Raises `PayloadTooLarge`."""
        ...

    async def kept(self, digest: bytes) -> bytes:
        """What was stored under a digest. Raises `Undecodable` if it is not there any more."""
        ...

    async def snapshot(self, run_id: UUID, epoch: int, snapshot: Snapshot) -> None:
        """Keep a snapshot, through the fence; an older epoch's is silently refused."""
        ...

    async def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Keep streamed text and tell its readers; what runs this worker does not own any more is dropped in silence.

        The first chunk of a stream takes the place of what was streamed at its path before.
        """
        ...

    async def drop_chunks(self, streams: Sequence[tuple[UUID, int]]) -> None:
        """Throw the text of (run, stream) away."""
        ...

    async def news(self, run_id: UUID, seq: int = BEGINNING, n: int = 0) -> News:
        """The entries after number ``seq`` with all their payloads, and the chunks after number ``n``; some of them, if
        there are many. Raises `RunNotFound`.
        """
        ...

    def on_news(self, callback: Callable[[UUID], None]) -> None:
        """Call back on this loop when a run has streamed text, here or in another process. A hint: it may be lost."""
        ...

    async def keep_outputs(self, outputs: Sequence[Output]) -> None:
        """Keep what attempts printed and displayed; one that is there already (path, attempt, n) is written over."""
        ...

    async def outputs(self, run_id: UUID, path: str | None = None) -> Sequence[Output]:
        """What was kept of a run, or of one path, in the order of time."""
        ...

    async def settle(self, settlement: Settlement) -> bool:
        """Let go of a run. False: there is unread mail, nothing was changed. Raises `Fenced`.

        The end of a run that has a parent is delivered to it in the same transaction (`CHILD`), and so it is to
        everybody whose `FOLLOW` is in its mailbox; those that are over, or gone, get nothing.
        """
        ...

    async def send(self, run_id: UUID, kind: str, name: str, payload: bytes, *, token: UUID | None = None) -> RunRow:
        """Deliver to a mailbox and wake the run (``due_at = least(due_at, now)``); the answer is the row after it.

        A mailbox takes one delivery per ``token`` (None: a new one): of a second one nothing is kept, and who has to
        know whose it was looks at the mailbox.

        A run that is over gets nothing: look at the answer's status. ``retry`` alone is delivered to failed runs
        and makes them pending again. Raises `RunNotFound`.
        """
        ...

    async def mail(self) -> Mapping[UUID, int]:
        """How much has been delivered so far to each run that this worker owns: one look for all of them."""
        ...

    async def mailbox(self, run_id: UUID, after: int = 0, *, ends_after: int = 0) -> Sequence[Mail]:
        """What was delivered after mail number ``after``, in order; ends of children only after ``ends_after``.

        Who has claimed a run looks at the rows of the children that it waits for, so what he was told of before is of
        no use to him: of 100,000 that have ended, one that wakes its parent costs one delivery.
        """
        ...

    async def asked(self, query: InboxQuery) -> Sequence[Asked]:
        """Places that wait for somebody's decision, newest run first, without folding anything.

        Parked runs that wait for a time alone are not looked at, however many they are.
        """
        ...

    async def run(self, run_id: UUID) -> RunRow:
        """One row. Raises `RunNotFound`."""
        ...

    async def find(self, text: str) -> RunRow:
        """A run by id, unique prefix or unique ending of its hex id. Raises `RunNotFound`, saying which fit."""
        ...

    async def runs(self, query: RunQuery) -> Sequence[RunRow]:
        """The rows of a page, in the order of the query."""
        ...

    async def count(self, query: RunQuery, most: int) -> int:
        """How many rows there are behind ``query.after``; more than ``most`` are not counted, and are ``most + 1``."""
        ...

    async def summary(self, query: RunQuery) -> RunSummary:
        """All rows of a query, counted and timed."""
        ...

    async def children(self, run_id: UUID, *, live: bool = False) -> Sequence[RunRow]:
        """Rows of all runs that a run has started, in the order of their start; ``live``: only those not over."""
        ...

    async def served(self) -> frozenset[str]:
        """Fingerprints that some live worker serves."""
        ...


class BudgetStore(Protocol):
    """Budgets that several runs share, counted in one place. Waits for the database as a `Store` does."""

    async def reserve(self, who: Spender, estimate: Usage, limit: Limit) -> Spent:
        """Set something aside for a call that is about to be made, unless a limit is reached already.

        The answer is what is spent and set aside in all, this call included if ``allowed``. Asking again for the same
        ``who`` changes nothing. One at a time per budget, so that what others have set aside is counted.
        """
        ...

    async def settle(self, who: Spender, used: Usage | None) -> None:
        """Count what a call has really used in place of what was set aside for it; None: nobody knows, so that.

        A second time changes nothing. What was set aside by a process that has died stays counted.
        """
        ...

    async def spent(self, namespace: str, budget: str) -> Spent:
        """What is spent and set aside in all."""
        ...


class SpecStore(Protocol):
    """Flows that are defined as data. Waits for the database as a `Store` does."""

    async def define(self, new: Defined) -> Defined:
        """Store a spec as the next version of its name; the newest one, if it is the same."""
        ...

    async def versions(self, namespace: str, name: str) -> Sequence[Defined]:
        """All versions of a name, newest first, also those that were taken back."""
        ...

    async def live(self, namespace: str | None) -> Sequence[Defined]:
        """The newest version of each name that is defined; None: of all namespaces."""
        ...

    async def end(self, namespace: str, name: str) -> datetime | None:
        """Take a name back; the moment. None: it was not defined."""
        ...

    async def restore(self, namespace: str, name: str, ended_at: datetime) -> None:
        """Undo what `end` did at that moment."""
        ...

    async def active(self, namespace: str, flow: str) -> Sequence[UUID]:
        """Up to eleven runs of a flow that are not over."""
        ...


class Housekeeping(Protocol):
    """Throwing away what is over, while workers run."""

    async def gc(self, older_than: float, *, dry_run: bool = False, unused: float = 86_400.0) -> Swept:
        """Throw away runs that have been over for ``older_than`` seconds with all they have, then blobs that nothing
        refers to and nobody has used for ``unused`` seconds.

        Children go with their root, once all of the family are over; what a fork reads stays as long as the fork.
        ``dry_run``: only count.
        """
        ...


class ProofStore(Protocol):
    """What is known of the versions of flows: proofs and promotions. Waits for the database as a `Store` does."""

    async def keep(self, namespace: str, flow: str, fingerprint: str, passed: bool, report: Mapping[str, Any]) -> None:
        """Keep the newest proof of a version."""
        ...

    async def of(self, namespace: str, flow: str) -> Sequence[KeptProof]:
        """What is known of the versions of a flow, newest first."""
        ...

    async def promote(self, namespace: str, flow: str, fingerprint: str, by: str) -> KeptProof:
        """Pin this version of a flow, from now on."""
        ...

    async def clear(self, scratch: str) -> None:
        """Delete the runs and definitions of a namespace whose name begins with ``~``; of any other one nothing."""
        ...


class Executor(Protocol):
    """Where the body of a step runs."""

    async def run(self, body: Callable[[], Any]) -> Any:
        """Run a synchronous body elsewhere and wait for it; its exception is raised here."""
        ...

    def shutdown(self) -> None:
        """Begin nothing more; do not wait for what cannot be stopped."""
        ...


class Sink(Protocol):
    """Who wants to hear of events as they become durable. It must return quickly and must not raise."""

    def __call__(self, run_id: UUID, entries: Sequence[Entry], ack: Ack | None) -> None:
        """``entries`` became durable as the last ones of ``ack``; None: nothing did, but an attempt began."""
        ...
