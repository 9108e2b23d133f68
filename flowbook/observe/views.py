"""View records: a run as people look at it.

Owns: `RunView` and `StepView`, built from a run's row, its definition's spec and its journal. Refuses: drawing
(`show/`), connections, and the graph's code: a view can be had of any run, also where its code is not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from flowbook.observe.tallies import ItemsView, Tally
from flowbook.plan.events import (
    AttemptFailed,
    CallFinished,
    CancelRequested,
    ChildFinished,
    ChildStarted,
    Event,
    ItemFinished,
    MapBegan,
    MapFinished,
    RunFailed,
    RunForked,
    RunRetried,
    SignalRefused,
    StepDropped,
    StepFinished,
    StepHandedOut,
    StepStarted,
    UndoingBegan,
    WaitBegan,
    WaitFinished,
)
from flowbook.plan.journal import Entry, from_entry
from flowbook.plan.mapped import Mapped
from flowbook.plan.paths import item_of, node_of
from flowbook.plan.records import Failure, Status
from flowbook.plan.undoing import undone_by
from flowbook.ports import RunRow

REFUSED = 10
"""Refused payloads that a view keeps per pause."""


class State(StrEnum):
    """How a node of the picture is doing."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    WAITING = "waiting"
    FINISHED = "finished"
    SKIPPED = "skipped"
    UNDONE = "undone"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One attempt of a path."""

    number: int
    started_at: datetime | None
    """None: the advisory row was not written (short attempts, or a crash)."""
    ended_at: datetime | None
    """None: still running, or lost."""
    failure: Failure | None
    lost: bool = False
    """True: its process died."""


@dataclass(frozen=True, slots=True)
class WaitView:
    """What a pause waits for."""

    signals: tuple[str, ...]
    """None: it is a sleep."""
    since: datetime | None
    due_at: datetime | None
    """When its time is up; None: never."""
    refused: tuple[Failure, ...] = ()
    """Payloads that did not fit, the last ten."""
    handed_out: bool = False
    """True: it is a step, and whoever has its token completes it."""

    @property
    def wanted(self) -> str:
        """What it waits for, for people; empty: time alone."""
        return "its token" if self.handed_out else " or ".join(self.signals)


@dataclass(frozen=True, slots=True)
class StepView:
    """One firing of a node: everything that is known of a path."""

    path: str
    node: str
    state: State
    attempts: tuple[AttemptView, ...]
    seconds: float | None
    """How long the body of the attempt that finished ran, or how long a pause was."""
    route: int | None
    """Which case its branch took."""
    result: Any = None
    """What it returned; None before it has finished (look at ``state``)."""
    retry_at: datetime | None = None
    wait: WaitView | None = None
    """Of a pause, also when it is over."""
    kept: bool = False
    """True: it was taken over from the run that this one was forked from."""
    child: UUID | None = None
    """The run that was started there; None: none was."""
    items: ItemsView | None = None
    """Of a map: its items are in no view, there may be too many."""
    undoes: str = ""
    """Path of the step that this undoes; empty: it is no compensation."""


@dataclass(frozen=True, slots=True)
class ForkView:
    """Where a run began, if it began inside another one."""

    parent: UUID
    """The other run."""
    at: str
    """Path of the step that it began with."""
    edits: Mapping[str, Any]
    """State key -> the value that was set there."""
    changes: tuple[str, ...]
    """What is different in its code from the other run's."""


@dataclass(frozen=True, slots=True)
class RunView:
    """A run at one moment."""

    id: UUID
    flow: str
    version: int
    status: Status
    key: str | None
    input: Mapping[str, Any]
    spec: Mapping[str, Any]
    """The topology as JSON (`Definition.spec`); empty when it is not known."""
    steps: tuple[StepView, ...]
    """In the order in which the paths first appear in the journal."""
    failure: Failure | None
    failed_path: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    lost: int
    """How many processes died while they ran it."""
    seq: int
    """Journal entries seen."""
    needs: str | None = None
    """What is missing for it to go on (`code: ...`), or None."""
    cancelled_by: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    forked: ForkView | None = None
    """None: it began by itself."""

    @property
    def nodes(self) -> Mapping[str, StepView]:
        """Node name -> its latest firing; durable calls of its body and compensations are no nodes."""
        return {s.node: s for s in self.steps if "/" not in s.path}

    @property
    def undone(self) -> tuple[str, ...]:
        """Paths of the steps that were undone, in the order in which they were."""
        return tuple(s.undoes for s in self.steps if s.undoes and s.state is State.FINISHED)

    @property
    def not_undone(self) -> Mapping[str, Failure]:
        """Path of a step -> why its compensation failed for good."""
        failed = {s.undoes: s.attempts[-1].failure for s in self.steps if s.undoes and s.state is State.FAILED}
        return {path: failure for path, failure in failed.items() if failure is not None}

    @property
    def listens(self) -> bool:
        """True if its flow waits for signals: it may need others to come to its end."""
        return any(n.get("wait", {}).get("signals") for n in self.spec.get("nodes", ()))

    @property
    def done(self) -> int:
        """How many firings have finished."""
        return sum(s.state is State.FINISHED and not s.undoes for s in self.steps)


def view_of(
    row: RunRow,
    entries: Sequence[Entry],
    *,
    spec: Mapping[str, Any],
    input: Mapping[str, Any],
    running: Mapping[str, int] | None = None,
    needs: str | None = None,
) -> RunView:
    """The view of a run from its row and its whole journal; ``running``: path -> attempt under way in this process."""
    fold = Folding(row.id, spec, input)
    fold.add_all(entries)
    return fold.view(row, running or {}, needs)


class Folding:
    """The steps of a view while entries are added: who looks again and again adds only what is new."""

    def __init__(self, run_id: UUID, spec: Mapping[str, Any], input: Mapping[str, Any]) -> None:
        self.run_id, self.spec, self.input = run_id, spec, input
        self.seq = 0
        """The last entry that was added."""
        self.steps: dict[str, StepView] = {}
        self.tallies: dict[str, Tally] = {}
        """Path of a map -> its items."""
        self.failure: Failure | None = None
        self.failed_path: str | None = None
        self.cancelled_by: str | None = None
        self.forked: ForkView | None = None

        self.undoing = False

    def add_all(self, entries: Iterable[Entry]) -> None:
        """Add entries, in order."""
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:  # noqa: C901  one case per event
        event = from_entry(entry)
        self.seq = entry.seq
        if entry.path.endswith("]"):
            if isinstance(event, ItemFinished | AttemptFailed | ChildStarted):
                self.tallies[item_of(entry.path)[0]].add(event)
            return
        match event:
            case MapBegan(path, total):
                self.tallies[path] = Tally(total, entry.at)
                self.steps[path] = StepView(
                    path, node_of(path), State.RUNNING, (AttemptView(1, entry.at, None, None),), None, None
                )
            case MapFinished(path):
                self.steps[path] = self._mapped(event, entry)
            case StepStarted(path, attempt):
                self._began(path, attempt, entry)
            case StepFinished(path, attempt, result, _, route, seconds):
                done = State.SKIPPED if event.skipped else State.FINISHED
                step = self._attempt(path, AttemptView(attempt, None, entry.at, None), done)
                self.steps[path] = replace(step, seconds=seconds, route=route, result=result, retry_at=None)
            case CallFinished(path, attempt, call, seconds):
                self._called(path, attempt, entry, call.result, seconds)
            case AttemptFailed(path, attempt, failure, lost, final, retry_at):
                state = State.FAILED if final else State.RETRYING
                step = self._attempt(path, AttemptView(attempt, None, entry.at, failure, lost), state)
                self.steps[path] = replace(step, retry_at=retry_at)
            case StepHandedOut(path, attempt, _, due):
                step = self._attempt(path, AttemptView(attempt, None, None, None), State.WAITING)
                self.steps[path] = replace(step, wait=WaitView((), entry.at, due, handed_out=True))
            case WaitBegan(path, names, due):
                old = self.steps.get(path)
                wait = WaitView(names, entry.at, due)
                attempts = old.attempts if old else ()  # it timed out before, and the run was retried
                self.steps[path] = StepView(path, node_of(path), State.WAITING, attempts, None, None, wait=wait)
            case SignalRefused(path, _, _, failure):
                step = self.steps.get(path) or StepView(path, node_of(path), State.WAITING, (), None, None)
                wait = step.wait or WaitView((event.name,), entry.at, None)
                self.steps[path] = replace(step, wait=replace(wait, refused=(*wait.refused, failure)[-REFUSED:]))
            case WaitFinished(path, result, _, route):
                self.steps[path] = self._woken(path, entry, result, route)
            case StepDropped(path):
                step = self.steps.get(path) or StepView(path, node_of(path), State.CANCELLED, (), None, None)
                self.steps[path] = replace(step, state=State.FAILED if step.state is State.FAILED else State.CANCELLED)
            case ChildStarted(path, child, _, number):
                step = self._attempt(path, AttemptView(number, entry.at, None, None), State.RUNNING)
                self.steps[path] = replace(step, child=child)
            case ChildFinished(path, child, result, _, route):
                self.steps[path] = self._ended(path, entry, child, result, route)
            case _:
                self._of_the_run(event)

    def _of_the_run(self, event: Event) -> None:
        match event:
            case RunFailed(path, failure) | UndoingBegan(path, failure):
                self.undoing = self.undoing or isinstance(event, UndoingBegan)
                self.failure, self.failed_path = failure, path
                if path.endswith("]"):
                    it = self.steps[item_of(path)[0]]
                    self.steps[it.path] = replace(it, state=State.FAILED)
            case RunRetried():
                if not self.undoing:
                    self.failure = self.failed_path = None
                    for tally in self.tallies.values():
                        tally.again()
                for path, step in self.steps.items():
                    if step.state is State.FAILED and bool(step.undoes) is self.undoing:
                        again = State.RUNNING if path in self.tallies else State.RETRYING
                        self.steps[path] = replace(step, state=again)
            case RunForked(path, edits, parent, changes):
                self.forked = ForkView(parent, path, edits, changes)
                self.steps = {p: replace(s, kept=True) for p, s in self.steps.items()}
            case CancelRequested(by):
                self.cancelled_by = by
            case _:
                pass  # the end of a run is told by its row

    def view(self, row: RunRow, running: Mapping[str, int], needs: str | None = None) -> RunView:
        """The view now; ``running``: path -> attempt under way in this process."""
        kept, self.steps = self.steps, dict(self.steps)  # what is true of this moment alone is not kept
        try:
            self._now(row.status, running)
            return RunView(
                id=row.id, flow=row.flow, version=row.version, status=row.status, key=row.key, input=self.input,
                spec=self.spec, steps=tuple(self.steps.values()), failure=self.failure, failed_path=self.failed_path,
                created_at=row.created_at, started_at=row.started_at, ended_at=row.ended_at, lost=row.lost,
                seq=self.seq, needs=needs, cancelled_by=self.cancelled_by, metadata=row.metadata, forked=self.forked,
            )  # fmt: skip
        finally:
            self.steps = kept

    def _now(self, status: Status, running: Mapping[str, int]) -> None:
        items = Counter(item_of(path)[0] for path in running if path.endswith("]"))
        for path, number in running.items():
            if path.endswith("]"):
                continue
            step = self.steps.get(path)
            if step is None or step.state is not State.RUNNING or step.attempts[-1].number != number:
                self._attempt(path, AttemptView(number, None, None, None), State.RUNNING)
        if status.over:
            for path, step in self.steps.items():
                if step.state in (State.RUNNING, State.RETRYING, State.WAITING):
                    self.steps[path] = replace(step, state=State.CANCELLED)
        for path, tally in self.tallies.items():
            self.steps[path] = replace(self.steps[path], items=tally.view(items[path], over=status.over))

    def _woken(self, path: str, entry: Entry, result: Any, route: int | None) -> StepView:
        """A pause that is over; one that was over at once has no beginning."""
        old = self.steps.get(path)
        wait = old.wait if old else None
        seconds = (entry.at - wait.since).total_seconds() if wait and wait.since and entry.at else 0.0
        attempts = old.attempts if old else ()
        return StepView(path, node_of(path), State.FINISHED, attempts, seconds, route, result, wait=wait)

    def _ended(self, path: str, entry: Entry, child: UUID, result: Any, route: int | None) -> StepView:
        """A child that has completed; its time is that from its start to the hearing of its end."""
        old = self.steps.get(path)
        number = old.attempts[-1].number if old and old.attempts else 1
        step = self._attempt(path, AttemptView(number, None, entry.at, None), State.FINISHED)
        since = step.attempts[-1].started_at
        seconds = (entry.at - since).total_seconds() if since and entry.at else None
        return replace(step, seconds=seconds, route=route, result=result, child=child)

    def _mapped(self, event: MapFinished, entry: Entry) -> StepView:
        """A map that is over; one over nothing has no beginning."""
        path = event.path
        tally = self.tallies.setdefault(path, Tally(event.total, entry.at))
        seconds = (entry.at - tally.since).total_seconds() if entry.at and tally.since else 0.0
        result = Mapped(self.run_id, path, event.total) if event.values is None else event.values
        attempts = (AttemptView(1, tally.since, entry.at, None),)
        return StepView(path, node_of(path), State.FINISHED, attempts, seconds, event.route, result)

    def _began(self, path: str, attempt: int, entry: Entry) -> None:
        if attempt:  # else a body was put aside, and stands where it stood
            self._attempt(path, AttemptView(attempt, entry.at, None, None), State.RUNNING)

    def _called(self, path: str, attempt: int, entry: Entry, result: Any, seconds: float) -> None:
        """A durable call of a body that is over: it may have been a step, a pause, or something that took no time."""
        old = self.steps.get(path)
        if old is not None and old.wait is not None:
            self.steps[path] = self._woken(path, entry, result, None)
            return
        step = self._attempt(path, AttemptView(attempt, None, entry.at, None), State.FINISHED)
        self.steps[path] = replace(step, seconds=seconds, result=result)

    def _attempt(self, path: str, new: AttemptView, state: State) -> StepView:
        """The step with an attempt added, or its last one completed."""
        old = self.steps.get(path)
        attempts = old.attempts if old else ()
        # A retry of the run numbers them from 1 again, so the same number may be another attempt.
        if attempts and attempts[-1].number == new.number and attempts[-1].ended_at is None:
            new = replace(new, started_at=attempts[-1].started_at or new.started_at)
            attempts = attempts[:-1]
        wait, child = (old.wait, old.child) if old else (None, None)
        undoes = (undone_by(path) or "") if self.undoing else ""
        attempts = (*attempts, new)
        step = StepView(path, node_of(path), state, attempts, None, None, wait=wait, child=child, undoes=undoes)
        self.steps[path] = step
        if undoes in self.steps and state is State.FINISHED:
            self.steps[undoes] = replace(self.steps[undoes], state=State.UNDONE)
        return step
