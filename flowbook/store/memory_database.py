"""What a memory store keeps, and the rules of keeping it.

Owns: runs, journals, mailboxes, definitions and workers of one process, and what Postgres does in one statement each:
starting, claiming, appending, settling, delivering, burying. Refuses: waiting; every method is one step of the loop,
which is what makes it atomic.

Several `MemoryStore`s may share one database: each is a worker then, so that fencing, take-over and mailboxes can be
tested without a server.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from flowbook.clock import Clock, WallClock
from flowbook.errors import Fenced, PathClash, RunNotFound
from flowbook.plan.forks import Ancestor, inherited
from flowbook.plan.journal import OUTCOMES, Entry, Kind
from flowbook.plan.outputs import Output
from flowbook.plan.records import Status
from flowbook.plan.schedules import Fire, Schedule
from flowbook.plan.streamed import Chunk, News
from flowbook.ports import (
    CHILD,
    FOLLOW,
    Ack,
    Asked,
    Defined,
    Definition,
    InboxQuery,
    KeptProof,
    Mail,
    NewFork,
    NewRun,
    RunRow,
    Settlement,
    Snapshot,
    Spender,
    Spent,
    Started,
    Usage,
)
from flowbook.store.rows import NEVER

PAUSES = frozenset({Kind.WAITING, Kind.HANDED_OUT, Kind.ATTEMPT_FAILED, Kind.DROPPED})
"""Kinds of rows that say what a pause has come to, beside its outcome."""


@dataclass(slots=True)
class Kept:
    """Everything about one run."""

    row: RunRow
    journal: list[Entry] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    """Path -> seq of its outcome."""
    mail: list[Mail] = field(default_factory=list)
    tokens: set[UUID] = field(default_factory=set)
    """Of deliveries that may come once."""
    snapshots: list[Snapshot] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    outputs: dict[tuple[str, int, int], Output] = field(default_factory=dict)
    """(path, attempt, n) -> it."""
    home: UUID | None = None
    """The worker that parked it."""
    searchable: Mapping[str, Any] = field(default_factory=dict)
    """What of its input it is found by."""
    forked: NewFork | None = None
    """How it came out of another run; None: it began by itself."""

    def write(self, entries: Sequence[Entry], at: datetime) -> None:
        """Add entries to the journal, all or none. Raises `PathClash`."""
        ended = [entry.path for entry in entries if entry.kind in OUTCOMES]
        if len(set(ended)) < len(ended) or self.outcomes.keys() & set(ended):
            raise PathClash(f"run {self.row.id}: one of the paths {ended!r} has its outcome already; a bug in flowbook")
        for entry in entries:
            self.journal.append(replace(entry, seq=len(self.journal) + 1, at=at))
            if entry.kind in OUTCOMES:
                self.outcomes[entry.path] = len(self.journal)

    def outcome(self, path: str) -> Entry | None:
        """The outcome of a path."""
        return self.journal[self.outcomes[path] - 1] if path in self.outcomes else None


@dataclass(slots=True)
class Worker:
    """A store that has been opened and not closed."""

    alive: bool
    serves: frozenset[str]
    wake: Callable[[UUID | None], None]
    tell: Callable[[UUID], None]
    """That a run has streamed text."""


class MemoryDatabase:
    """The shared part of memory stores."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or WallClock()
        self.runs: dict[UUID, Kept] = {}
        self.keys: dict[tuple[str, str, str], UUID] = {}
        self.budgets: dict[tuple[str, str], Spent] = {}
        self.reservations: dict[Spender, Usage] = {}
        self.definitions: dict[tuple[str, str, str], Definition] = {}
        self.specs: dict[tuple[str, str], list[Defined]] = {}
        self.proofs: dict[tuple[str, str, str], KeptProof] = {}
        self.workers: dict[UUID, Worker] = {}
        self.blobs: dict[bytes, bytes] = {}
        self.permits: dict[tuple[str, str], dict[int, tuple[UUID, int]]] = {}
        self.rates: dict[tuple[str, str], list[datetime]] = {}
        self.cache: dict[tuple[str, bytes], tuple[bytes, datetime]] = {}
        self.limits: dict[tuple[str, str], int] = {}
        self.schedules: dict[tuple[str, str], Schedule] = {}
        self.fires: dict[tuple[str, str], dict[datetime, Fire]] = {}
        """(namespace, schedule) -> its moments that were dealt with."""

    def now(self) -> datetime:
        """The one clock that is compared."""
        return self._clock.now()

    def kept(self, run_id: UUID) -> Kept:
        """A run. Raises `RunNotFound`."""
        kept = self.runs.get(run_id)
        if kept is None:
            raise RunNotFound(f"there is no run {run_id}")
        return kept

    def wake(self, run_id: UUID | None) -> None:
        """Tell every living worker that a run is wanted."""
        for worker in list(self.workers.values()):
            if worker.alive:
                worker.wake(run_id)

    # ----------------------------------------------------------------------------------------------- owning

    def start(self, new: NewRun, worker_id: UUID) -> Started:
        """Insert a run unless its key is taken."""
        if new.id in self.runs:
            return Started(self.runs[new.id].row, created=False)
        if new.key is not None:
            taken = self.keys.get((new.namespace, new.flow, new.key))
            if taken is not None:
                return Started(self.runs[taken].row, created=False)
            self.keys[new.namespace, new.flow, new.key] = new.id
        now = self.now()
        row = RunRow(
            id=new.id,
            namespace=new.namespace,
            flow=new.flow,
            version=new.version,
            fingerprint=new.fingerprint,
            queue=new.queue,
            priority=new.priority,
            status=Status.RUNNING if new.claim else Status.PENDING,
            due_at=now,
            epoch=int(new.claim),
            worker_id=worker_id if new.claim else None,
            claims=int(new.claim),
            lost=0,
            mail=0,
            current="",
            key=new.key,
            input=new.input,
            input_digest=new.input_digest,
            metadata=as_json(new.metadata),
            error=None,
            forked_from=None,
            created_at=now,
            started_at=now if new.claim else None,
            ended_at=None,
            parent_id=new.parent_id,
            root_id=new.root_id,
            parent_path=new.parent_path,
            trigger=new.trigger,
        )
        self.runs[new.id] = Kept(row, searchable=as_json(new.searchable))
        return Started(row, created=True)

    def fork(self, fork: NewFork) -> RunRow:
        """Insert a fork with its first row. Raises `RunNotFound`."""
        parent, now = self.kept(fork.parent).row, self.now()
        row = replace(
            parent, id=fork.id, version=fork.version, fingerprint=fork.fingerprint, status=Status.PENDING, due_at=now,
            epoch=0, worker_id=None, claims=0, lost=0, mail=0, current="", key=None, error=None,
            forked_from=fork.parent, created_at=now, started_at=None, ended_at=None, parent_id=None, root_id=None,
            parent_path="", trigger="fork",
        )  # fmt: skip
        searchable = self.kept(fork.parent).searchable
        kept = self.runs.setdefault(fork.id, Kept(row, forked=fork, searchable=searchable))
        if not kept.journal:
            kept.write([fork.entry], now)
        return kept.row

    def change_code(self, run_id: UUID, old: str, new: str, version: int, entry: Entry) -> bool:
        """Give a failed run other code; False: it is not as it is thought to be. Raises `RunNotFound`."""
        kept = self.kept(run_id)
        if kept.row.status is not Status.FAILED or kept.row.fingerprint != old:
            return False
        kept.row = replace(kept.row, fingerprint=new, version=version, epoch=kept.row.epoch + 1)
        kept.write([entry], self.now())
        return True

    def ancestors(self, kept: Kept) -> list[Ancestor]:
        """What a run reads of those before it, the nearest first."""
        found = []
        while kept.forked is not None:
            fork, kept = kept.forked, self.runs[kept.forked.parent]
            found.append(Ancestor(kept.journal, fork.seq, fork.without))
        return found

    def ended(self, run_id: UUID, paths: Sequence[str]) -> list[Entry]:
        """The outcomes of these paths, in their order; what a fork has not done itself it has from those before it."""
        line = [self.kept(run_id)]
        while (fork := line[-1].forked) is not None:
            line.append(self.runs[fork.parent])
        found = (next((o for kept in line if (o := kept.outcome(path)) is not None), None) for path in paths)
        return [entry for entry in found if entry is not None]

    def due(self, known: frozenset[str], namespace: str, queues: Sequence[str]) -> list[UUID]:
        """Runs that may be claimed now, the most urgent first."""
        now = self.now()
        rows = [
            kept.row
            for kept in self.runs.values()
            if kept.row.status in (Status.PENDING, Status.WAITING)
            and kept.row.due_at <= now
            and kept.row.fingerprint in known
            and kept.row.namespace == namespace
            and kept.row.queue in queues
        ]
        return [row.id for row in sorted(rows, key=lambda row: (-row.priority, row.due_at, row.id))]

    def within_limits(self, due: list[UUID]) -> list[UUID]:
        """Those of them that the limits of their queues let workers carry."""
        if not self.limits:
            return due
        taken = Counter((k.row.namespace, k.row.queue) for k in self.runs.values() if k.row.status is Status.RUNNING)
        found = []
        for run_id in due:
            queue = self.runs[run_id].row.namespace, self.runs[run_id].row.queue
            if queue not in self.limits or taken[queue] < self.limits[queue]:
                taken[queue] += 1
                found.append(run_id)
        return found

    def next_due(self) -> datetime | None:
        """When the next parked run that is not due yet becomes due."""
        now = self.now()
        parked = (k.row for k in self.runs.values() if k.row.status in (Status.PENDING, Status.WAITING))
        return min((row.due_at for row in parked if row.due_at > now), default=None)

    def claim(self, run_id: UUID, worker_id: UUID) -> RunRow:
        """Give a run a new owner."""
        kept = self.runs[run_id]
        row = kept.row
        kept.home = None
        kept.row = replace(
            row,
            status=Status.RUNNING,
            worker_id=worker_id,
            epoch=row.epoch + 1,
            claims=row.claims + 1,
            current="",
            started_at=row.started_at or self.now(),
        )
        return kept.row

    def release(self, worker_id: UUID, *, lost: bool) -> list[UUID]:
        """Free what a worker owns, because it died (``lost``) or left."""
        freed = []
        for run_id, kept in self.runs.items():
            row = kept.row
            if row.worker_id == worker_id and row.status is Status.RUNNING:
                kept.row = replace(
                    row,
                    status=Status.PENDING,
                    worker_id=None,
                    due_at=self.now(),
                    epoch=row.epoch + 1,
                    lost=row.lost + lost,
                )
                freed.append(run_id)
        return freed

    def bury(self, worker_id: UUID) -> bool:
        """Free the runs of a worker if it is dead; True if it is not listed any more."""
        worker = self.workers.get(worker_id)
        if worker is not None and worker.alive:
            return False
        self.workers.pop(worker_id, None)
        for run_id in self.release(worker_id, lost=True):
            self.wake(run_id)
        return True

    # ---------------------------------------------------------------------------------------------- writing

    def owned(self, run_id: UUID, epoch: int) -> Kept:
        """The fence. Raises `Fenced`."""
        kept = self.runs.get(run_id)
        if kept is None or kept.row.epoch != epoch or kept.row.status is not Status.RUNNING:
            raise Fenced(f"run {run_id} is not owned under epoch {epoch} any more; nothing is written")
        return kept

    def append(self, run_id: UUID, epoch: int, entries: Sequence[Entry]) -> Ack:
        """Write entries. Raises `Fenced`, `PathClash`."""
        kept = self.owned(run_id, epoch)
        now = self.now()
        kept.write(entries, now)
        return Ack(len(kept.journal), kept.row.mail, now)

    def settle(self, settlement: Settlement, notes: Sequence[Entry]) -> bool:
        """Let go of a run unless there is unread mail. Raises `Fenced`, `PathClash`."""
        kept = self.owned(settlement.run_id, settlement.epoch)
        row = kept.row
        if row.mail > settlement.seen_mail:
            return False
        now = self.now()
        kept.write([*notes, *settlement.entries], now)
        due_in = settlement.due_in
        kept.home = row.worker_id if settlement.status is Status.WAITING else None
        kept.row = replace(
            row,
            status=settlement.status,
            worker_id=None,
            due_at=NEVER if due_in is None else now + timedelta(seconds=due_in),
            current=settlement.current,
            error=settlement.error,
            ended_at=now if settlement.status.over else None,
        )
        return True

    def tell(self, run_id: UUID) -> list[UUID]:
        """Deliver the end of a run to its parent and to its followers; those that got it."""
        kept = self.runs[run_id]
        parent = [(kept.row.parent_id, kept.row.parent_path)] if kept.row.parent_id is not None else []
        followers = [(UUID(bytes=mail.payload), mail.name) for mail in kept.mail if mail.kind == FOLLOW]
        news = run_id.bytes + kept.row.status.encode()
        return [
            follower
            for follower, name in dict.fromkeys([*parent, *followers])
            if follower in self.runs and self.send(follower, CHILD, name, news)
        ]

    def send(self, run_id: UUID, kind: str, name: str, payload: bytes, token: UUID | None = None) -> bool:
        """Deliver a message; False: the run does not take it, or has one of that token. Raises `RunNotFound`."""
        kept = self.kept(run_id)
        row = kept.row
        if token in kept.tokens:
            return False
        retry = kind == "retry"
        if (row.status is not Status.FAILED) if retry else row.status.over:
            return False
        now = self.now()
        kept.row = replace(row, mail=row.mail + 1, due_at=now if retry else min(row.due_at, now))
        if retry:
            kept.row = replace(kept.row, status=Status.PENDING, error=None, ended_at=None)
        if token is not None:
            kept.tokens.add(token)
        kept.mail.append(Mail(kept.row.mail, kind, name, payload, now))
        return True

    # ---------------------------------------------------------------------------------------- streamed text

    def write_chunks(self, chunks: Sequence[Chunk]) -> None:
        """Keep streamed text of runs whose owner still says it, and tell the living."""
        now, told = self.now(), set[UUID]()
        for chunk in chunks:
            kept = self.runs[chunk.run_id]
            if kept.row.epoch != chunk.n >> 32 or kept.row.status is not Status.RUNNING:
                continue
            if chunk.n == chunk.stream:
                kept.chunks = [c for c in kept.chunks if c.path != chunk.path]
            kept.chunks.append(replace(chunk, at=now))
            told.add(chunk.run_id)
        for run_id in told:
            for worker in list(self.workers.values()):
                if worker.alive:
                    worker.tell(run_id)

    def drop_chunks(self, streams: Sequence[tuple[UUID, int]]) -> None:
        """Throw text away."""
        for run_id, stream in streams:
            kept = self.runs[run_id]
            kept.chunks = [c for c in kept.chunks if c.stream != stream]

    def keep_outputs(self, outputs: Sequence[Output]) -> None:
        """Keep what was printed by runs that are there."""
        for output in outputs:
            kept = self.runs.get(output.run_id)
            if kept is None:
                continue
            key = (output.path, output.attempt, output.n)
            before = kept.outputs.get(key, output)
            kept.outputs[key] = replace(output, at=before.at)

    def outputs(self, run_id: UUID, path: str | None) -> list[Output]:
        """What was kept, in the order of time."""
        kept = self.runs.get(run_id)
        found = [] if kept is None else [o for o in kept.outputs.values() if path in (None, o.path)]
        return sorted(found, key=lambda o: (o.at, o.path, o.attempt, o.n))

    def news(self, run_id: UUID, seq: int, n: int) -> News:
        """What has happened since. Raises `RunNotFound`."""
        kept = self.kept(run_id)
        before = [e for e in inherited(self.ancestors(kept)) if e.seq > seq] if seq < 1 else []
        known = {path for path, at in kept.outcomes.items() if at <= seq}
        chunks = [c for c in kept.chunks if c.n > n and c.path not in known]
        return News(kept.row.status, (*before, *kept.journal[max(0, seq) :]), chunks, False, False)

    def asked(self, query: InboxQuery) -> list[Asked]:
        """Places that wait for somebody's decision, newest run first."""
        found: list[Asked] = []
        for kept in sorted(self.runs.values(), key=lambda k: k.row.id, reverse=True):
            row = kept.row
            wanted = ((query.namespace, row.namespace), (query.flow, row.flow), (query.run_id, row.id))
            if row.status.over or any(asked not in (None, has) for asked, has in wanted):
                continue
            last = {e.path: e for e in kept.journal if e.kind in PAUSES}
            letters = [m for m in kept.mail if m.kind in ("decision", "answer")]
            for entry in sorted(last.values(), key=lambda e: e.seq):
                asks = entry.kind is Kind.HANDED_OUT or (entry.kind is Kind.WAITING and entry.attempt)
                if asks and entry.path not in kept.outcomes:
                    done = (e for e in reversed(kept.journal[: entry.seq]) if e.kind in OUTCOMES)
                    found.append(Asked(row, entry, next(done, None), letters))
        runs = list(dict.fromkeys(a.row.id for a in found))[: query.limit]
        return [a for a in found if a.row.id in runs]

    def define(self, definition: Definition) -> Definition:
        """Store a definition unless it is there."""
        key = definition.namespace, definition.flow, definition.fingerprint
        if key not in self.definitions:
            version = 1 + sum(known[:2] == key[:2] for known in self.definitions)
            spec, sources = as_json(definition.spec), as_json(definition.sources)
            self.definitions[key] = replace(definition, version=version, spec=spec, sources=sources)
        return self.definitions[key]


def as_json(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """A copy as the database would give it back, so that a test finds what JSON does not keep."""
    copy: Mapping[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    return copy
