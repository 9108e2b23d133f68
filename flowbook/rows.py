"""Rows: the records that cross the ports.

Owns: what a store is given and gives back, as frozen values. Refuses: the verbs (`ports.py`) and any storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from flowbook.plan.journal import Entry
from flowbook.plan.records import Status
from flowbook.plan.schedules import Schedule, Verdict
from flowbook.quick import quick


@dataclass(frozen=True, slots=True)
class Definition:
    """The code of a flow as it was when a run began. Immutable; keyed by (namespace, flow, fingerprint)."""

    namespace: str
    flow: str
    fingerprint: str
    """Hex digest over topology, steps and helpers; a process claims only runs whose fingerprint it has registered."""
    spec: Mapping[str, Any]
    """The topology as JSON: enough to draw it."""
    sources: Mapping[str, Any]
    """Per callable its source, cell, helpers, imports and the data names it reads, as JSON."""
    signature: str
    """HMAC over spec and sources with the user's key; empty: unsigned."""
    version: int = 0
    """Counted from 1 per (namespace, flow) by the store; 0: not stored yet."""


@dataclass(frozen=True, slots=True)
class Defined:
    """A flow that is defined as data. Immutable; keyed by (namespace, name, version)."""

    namespace: str
    name: str
    spec: Mapping[str, Any]
    """As it was given (docs/specs.md)."""
    fingerprint: str
    """Of the graph that it was, with the templates of who defined it."""
    by: str = ""
    """Who defined it; empty: nobody said."""
    version: int = 0
    """Counted from 1 per (namespace, name) by the store; 0: not stored yet."""
    created_at: datetime | None = None
    """By the database's clock; None: not stored yet."""
    ended_at: datetime | None = None
    """When it was taken back; None: it was not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the doctor has looked at."""

    name: str
    state: Literal["ok", "warn", "fail"]
    """``warn``: it works, and not as well as it could; ``fail``: it does not work."""
    about: str
    """What was found."""
    advice: str
    """What to do; empty: nothing."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What housekeeping has thrown away, or would."""

    runs: int = 0
    """With their children."""
    entries: int = 0
    """Rows of journals."""
    outputs: int = 0
    """Pieces of what steps printed and displayed."""
    bytes: int = 0
    """Of all that, as it was before compression."""
    blobs: int = 0
    """Large values that nothing referred to. A dry run does not count those that only runs of its own count keep."""
    blob_bytes: int = 0
    dry_run: bool = False
    """True: nothing was thrown away."""


@dataclass(frozen=True, slots=True)
class KeptProof:
    """What is known of one version of a flow."""

    flow: str
    fingerprint: str
    at: datetime
    """When it was proven last, or promoted without a proof."""
    passed: bool
    report: Mapping[str, Any]
    """The proof as JSON (`observe.records.proof_record`); empty: it was never proven."""
    promoted_at: datetime | None
    """None: it was never promoted. The version of a flow that was promoted last is the one that is pinned."""
    promoted_by: str


@quick
@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that is to be started."""

    id: UUID
    namespace: str
    flow: str
    fingerprint: str
    version: int
    input: bytes
    """The encoded input."""
    input_digest: bytes
    """16 bytes; two starts under one key must agree in it."""
    key: str | None = None
    """Idempotency key, unique per (namespace, flow)."""
    queue: str = "default"
    priority: int = 0
    """Higher goes first."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON, searchable."""
    claim: bool = True
    """True: the caller's worker owns it from the start (epoch 1). False: anyone who knows the code may claim it."""
    parent_id: UUID | None = None
    """The run that starts it; its end is delivered there. None: it is nobody's child."""
    root_id: UUID | None = None
    """The first run of the line of parents; None with ``parent_id``."""
    parent_path: str = ""
    """Where in the parent it was started; the name of the delivery."""
    searchable: Mapping[str, Any] = field(default_factory=dict)
    """What of its input it is found by (`plan.query.projection`)."""
    trigger: str = "manual"
    """How it came to be (`plan.query.TRIGGERS`)."""


@dataclass(frozen=True, slots=True)
class NewFork:
    """A run that is to begin inside another one. What it does not say is as it is with the other: namespace, flow,
    queue, priority, input, metadata.
    """

    id: UUID
    parent: UUID
    """The other run; it cannot be deleted as long as this one is there."""
    seq: int
    """Last row of the other run's own journal that is read; 0: none (of its ancestors' rows, those that it reads)."""
    without: tuple[str, ...]
    """Paths whose rows are not read, in the other run and in those before it."""
    fingerprint: str
    version: int
    entry: Entry
    """The first row of its own journal."""


@quick
@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as the store's row has it: all that is known without reading its journal."""

    id: UUID
    namespace: str
    flow: str
    version: int
    fingerprint: str
    queue: str
    priority: int
    status: Status
    due_at: datetime
    """When somebody may claim it (pending and waiting runs)."""
    epoch: int
    """Counts owners; what an owner of an older epoch writes is refused."""
    worker_id: UUID | None
    claims: int
    lost: int
    """How many owners died while they held it."""
    mail: int
    """Deliveries to its mailbox so far."""
    current: str
    """Where it was let go of, for tables: paths separated by ", "; empty while somebody carries it."""
    key: str | None
    input: bytes
    input_digest: bytes
    metadata: Mapping[str, Any]
    error: str | None
    """One line, for tables."""
    forked_from: UUID | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    parent_id: UUID | None = None
    """The run that started it; None: nobody's child."""
    root_id: UUID | None = None
    """The first run of the line of parents; None with ``parent_id``."""
    parent_path: str = ""
    """Where in the parent it was started."""
    trigger: str = "manual"
    """How it came to be (`plan.query.TRIGGERS`)."""
    letter: Mail | None = None
    """The newest delivery, where the claim has brought it along; None says nothing about the mailbox."""


@quick
@dataclass(frozen=True, slots=True)
class Started:
    """Answer to a start."""

    row: RunRow
    created: bool
    """False: a run with this key was there already, and ``row`` is that one."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A fold that was stored to shorten the next one; of acknowledged entries only."""

    seq: int
    tag: str
    """Digest of what the fold depends on (codec, record version, state schema); a mismatch means: fold again."""
    payload: bytes


@quick
@dataclass(frozen=True, slots=True)
class Ack:
    """Answer to an append."""

    seq: int
    """Sequence number of the last entry of the append; the entries before it count back without gaps
    (durable rows that the store itself let ride along come before the first of them)."""
    mail: int
    """Deliveries to the run's mailbox at that moment: more than was read means there is mail."""
    at: datetime
    """The database's time of the append."""


@quick
@dataclass(frozen=True, slots=True)
class Settlement:
    """How an owner lets go of a run: ends it, parks it, or hands it back."""

    run_id: UUID
    epoch: int
    status: Status
    """completed, failed, cancelled: the end. waiting: parked until ``due_at`` or mail. pending: handed back."""
    seen_mail: int
    """The settlement is refused (`MAIL`) if more than this has been delivered."""
    entry: Entry | None = None
    """A last journal entry (RunCompleted, ...), written in the same transaction."""
    outcomes: tuple[Entry, ...] = ()
    """Written before it in the same transaction: the last step of a run and its end share a commit."""
    due_in: float | None = 0.0
    """Seconds from the database's now until somebody may claim it; None: never by time."""
    current: str = ""
    error: str | None = None
    asks: bool = False
    """True: somebody may decide how it goes on (`Run.asks`), so it belongs in the inbox."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All that is written, in order."""
        return self.outcomes if self.entry is None else (*self.outcomes, self.entry)


@dataclass(frozen=True, slots=True)
class Mail:
    """A delivery to a run."""

    id: int
    kind: str
    """``cancel``, ``retry``, ``signal``; ``child`` and ``follow`` (`FOLLOW`); later ``approval``."""
    name: str
    payload: bytes
    at: datetime


@dataclass(frozen=True, slots=True)
class NewFire:
    """A moment of a schedule that is to be dealt with."""

    fire_time: datetime
    verdict: Verdict
    """started: unless the schedule's overlap policy says otherwise. Anything else is only noted."""
    run: NewRun | None = None
    """The run that is started, if one is; nobody owns it then, whatever its ``claim`` says."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule about which something is to be done."""

    schedule: Schedule
    active: tuple[UUID, ...]
    """Its runs that are not over; not asked for where runs may overlap."""
    queued: datetime | None
    """Its first moment that waits behind them."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A look at all schedules of a namespace."""

    now: datetime
    """The database's time: what is due is decided by it alone."""
    wait: float | None
    """Seconds until the next moment of any schedule, negative if it is past; None: there is none."""
    due: Sequence[Due]


@dataclass(frozen=True, slots=True)
class Queue:
    """What is going on in a queue."""

    name: str
    waiting: int
    """Runs that are due and that nobody carries."""
    running: int
    limit: int | None
    """How many runs workers carry at once, all of them together; None: as many as they like."""
    oldest: datetime | None
    """Since when the first of those that wait is due."""


CHILD = "child"
"""Kind of the delivery that tells of the end of a run, to its parent and to whoever follows it."""
FOLLOW = "follow"
"""Kind of the delivery that asks for such news: name is the sender's path, payload the 16 bytes of the sender's id."""


def ended_child(payload: bytes) -> tuple[UUID, Status]:
    """(id, status) in the payload of a `CHILD` delivery. Raises ValueError."""
    return UUID(bytes=payload[:16]), Status(payload[16:].decode())


@dataclass(frozen=True, slots=True)
class InboxQuery:
    """Which open decisions to list."""

    namespace: str | None = None
    flow: str | None = None
    run_id: UUID | None = None
    limit: int = 100
    """Runs at most; newest first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A place of a run that waits for somebody's decision."""

    row: RunRow
    entry: Entry
    """The row of its beginning: ``waiting`` or ``handed``."""
    before: Entry | None
    """The outcome before it in the run's own journal, unless it is large: what the decision may be about."""
    letters: Sequence[Mail] = ()
    """Decisions and answers that were delivered to the run and that it may not have read yet, in order."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What is known of a flow once its code is registered."""

    definition: Definition
    previous: Definition | None
    """The newest other definition of the same name; None: this is the first."""
    unfinished: Sequence[RunRow]
    """Runs of this very code that are not over and that nobody carries."""
    obstacles: tuple[str, ...]
    """Why it cannot be rebuilt from its stored source."""

    @property
    def portable(self) -> bool:
        """True if a run of it can be resumed where this process is gone."""
        return not self.obstacles


@dataclass(frozen=True, slots=True)
class Spender:
    """Who wants something of a shared budget: one attempt at one path of one run."""

    namespace: str
    budget: str
    """Its name."""
    run_id: UUID
    path: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call uses."""

    usd: float = 0.0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Limit:
    """When a budget is used up; None: never."""

    usd: float | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """What is spent of a budget, with what is set aside for calls under way."""

    usd: float = 0.0
    tokens: int = 0
    calls: int = 0
    """Calls that were made, or are under way."""
    allowed: bool = True
    """False: a limit was reached, so nothing was set aside."""


@dataclass(frozen=True, slots=True)
class Options:
    """How an app behaves."""

    namespace: str = "default"
    key: bytes | None = field(default=None, repr=False)
    """This user's key: signs definitions and pickles."""
    always_suspend: bool = False
    """Fold every run anew after each of its steps (a test of the engine, slow)."""
