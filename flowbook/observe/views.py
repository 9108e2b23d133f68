"""View records: a run as people look at it.

Owns: `RunView`, `StepView` and what they are made of. Refuses: making them (`folding.py`), drawing (`show/`),
connections, and the graph's code: a view can be had of any run, also where its code is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from flowbook.observe.tallies import ItemsView
from flowbook.plan.journal import Entry
from flowbook.plan.records import Failure, Status
from flowbook.quick import quick


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


@quick
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
    answered_by: str = ""
    """Who has decided it; empty: nobody yet, or nobody who said who they are."""
    answered_at: datetime | None = None
    answer: str | None = None
    """The signal that they chose; None: none, it is a step that was handed out."""

    @property
    def wanted(self) -> str:
        """What it waits for, for people; empty: time alone."""
        return "its token" if self.handed_out else " or ".join(self.signals)


@quick
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

    @property
    def answered_by(self) -> str:
        """Who has decided it; empty: nobody, or nobody who said who they are."""
        return self.wait.answered_by if self.wait else ""


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
class Overview:
    """The steps of a view by node. It is kept while a journal is folded: ten times a second nobody can look through
    20,000 steps.
    """

    nodes: Mapping[str, StepView]
    """Node -> its latest firing."""
    firings: Mapping[str, int]
    """Node -> how often it has fired."""
    gone: AbstractSet[tuple[str, int]]
    """(node, which of its ways out) that were taken."""
    done: int
    """Firings and durable calls that have finished."""
    undoing: Mapping[str, StepView]
    """Path of a compensation -> how it is doing."""
    waiting: Mapping[str, StepView]
    """Path -> what waits there: pauses and handed-out steps, calls of bodies among them."""


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
    steps: Sequence[StepView]
    """In the order in which the paths first appear in the journal. Never changed."""
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
    counted: Overview | None = field(default=None, compare=False)
    """Of `steps`; None: it has not been made yet (`overview` makes it)."""

    @property
    def overview(self) -> Overview:
        """The steps by node."""
        if self.counted is None:
            # Made once, by whoever asks first; the record is the same to all who compare it.
            object.__setattr__(self, "counted", overview_of(self.steps))
        assert self.counted is not None
        return self.counted

    @property
    def nodes(self) -> Mapping[str, StepView]:
        """Node name -> its latest firing; durable calls of its body and compensations are no nodes."""
        return self.overview.nodes

    @property
    def undone(self) -> tuple[str, ...]:
        """Paths of the steps that were undone, in the order in which they were."""
        return tuple(s.undoes for s in self.overview.undoing.values() if s.state is State.FINISHED)

    @property
    def not_undone(self) -> Mapping[str, Failure]:
        """Path of a step -> why its compensation failed for good."""
        failed = {s.undoes: s.attempts[-1].failure for s in self.overview.undoing.values() if s.state is State.FAILED}
        return {path: failure for path, failure in failed.items() if failure is not None}

    @property
    def listens(self) -> bool:
        """True if its flow waits for signals: it may need others to come to its end."""
        return any(n.get("wait", {}).get("signals") for n in self.spec.get("nodes", ()))

    @property
    def done(self) -> int:
        """How many firings have finished."""
        return self.overview.done


class Counting:
    """An overview while steps are added and changed."""

    def __init__(self) -> None:
        self.nodes: dict[str, StepView | Entry] = {}
        """Node -> its latest firing, or the row of it until it has been read (`unread`)."""
        self.unread: set[str] = set()
        self.firings: dict[str, int] = {}
        self.gone: set[tuple[str, int]] = set()
        self.undoing: dict[str, StepView] = {}
        self.waiting: dict[str, StepView] = {}
        self._finished: set[str] = set()
        self._seen: set[str] = set()

    def count(self, step: StepView) -> None:
        """A step as it is now; steps come in the order of their first appearance."""
        path = step.path
        if step.undoes:
            self.undoing[path] = step
            return
        if step.state is State.FINISHED:
            self._finished.add(path)
        else:
            self._finished.discard(path)
        _set(self.waiting, step, State.WAITING)
        if "/" in path:
            return
        if path not in self._seen:
            self._seen.add(path)
            self.firings[step.node] = self.firings.get(step.node, 0) + 1
            self.nodes[step.node] = step
        elif self.nodes[step.node].path == path:
            self.nodes[step.node] = step
        if step.state in _WENT_ON:
            self.gone.add((step.node, step.route or 0))

    def count_row(self, row: Entry, node: str, way: int) -> None:
        """A step that appears and has finished at once, whose row nobody has read; ``way``: which one it went."""
        self._finished.add(row.path)
        self._seen.add(row.path)
        self.firings[node] = self.firings.get(node, 0) + 1
        self.nodes[node] = row
        self.unread.add(node)
        self.gone.add((node, way))

    def overview(self, moment: Iterable[StepView] = ()) -> Overview:
        """As it is, when all has been read; ``moment``: steps that are different for this moment alone."""
        nodes: dict[str, StepView] = dict(self.nodes)  # type: ignore[arg-type]  # no row is left among them
        firings = dict(self.firings)
        undoing, waiting = dict(self.undoing), dict(self.waiting)
        done = len(self._finished)
        for step in moment:
            if step.undoes:
                undoing[step.path] = step
                continue
            done -= step.path in self._finished and step.state is not State.FINISHED
            _set(waiting, step, State.WAITING)
            if "/" in step.path:
                continue
            new = step.path not in self._seen
            firings[step.node] = firings.get(step.node, 0) + new
            if new or nodes[step.node].path == step.path:
                nodes[step.node] = step
        return Overview(nodes, firings, frozenset(self.gone), done, undoing, waiting)


def _set(steps: dict[str, StepView], step: StepView, state: State) -> None:
    """Keep a step if it is in this state, and else not."""
    if step.state is state:
        steps[step.path] = step
    else:
        steps.pop(step.path, None)


_WENT_ON = (State.FINISHED, State.SKIPPED, State.UNDONE)
"""What has gone on to what follows it; a step that was undone had finished before."""


def overview_of(steps: Iterable[StepView]) -> Overview:
    """The overview of the steps of a view."""
    counting = Counting()
    for step in steps:
        counting.count(step)
    return counting.overview()
