"""Events: the facts of a run, in the past tense. One event is one journal row.

Owns: their shapes. Refuses: how they are stored (`journal.py`) and what they change (`apply.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from flowbook.plan.records import Call, Failure
from flowbook.quick import quick


@quick
@dataclass(frozen=True, slots=True)
class StepStarted:
    """An attempt began. Advisory: it may be missing, and `decide` never reads it (docs/architecture.md, Storage 4)."""

    path: str
    attempt: int
    """From 1; 0: the body that had begun was put aside in order, and is no loss if its process dies now."""


@quick
@dataclass(frozen=True, slots=True)
class StepFinished:
    """A path has its result. At most one of these exists per path."""

    path: str
    attempt: int
    result: Any
    """What the step returned."""
    update: Mapping[str, Any]
    """What of it goes into the state, before reducers."""
    route: int | None
    """Which case of the branch behind this node was taken, counted from 0; None where there is no branch."""
    seconds: float = 0.0
    """How long the attempt's body ran, kept to the millisecond."""
    skipped: bool = False
    """True: its condition did not hold, so nothing ran and nothing is changed."""
    halts: Literal["", "result", "state"] = ""
    """Not empty: the step has ended the run, with its result or with the state as the run's."""
    quotes: tuple[tuple[tuple[str | int, ...], str, str], ...] = ()
    """Texts of the result that are those of its own calls, and left out here (`plan/quotes.py`)."""


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """An attempt raised, ran out of time, or died with its process."""

    path: str
    attempt: int
    failure: Failure
    lost: bool
    """True when its process died: the failure is ours to explain, not the step's."""
    final: bool
    """True when no attempt is left."""
    retry_at: datetime | None
    """When the next attempt may begin (wall clock of the process that wrote it); None: at once, or never."""
    call: Call | None = None
    """Of a durable call that has failed for good: its body is told, and may go on."""
    because: tuple[str, ...] = ()
    """Of a body: the failed calls whose exceptions ended it. They are made anew when the body is tried again."""


@dataclass(frozen=True, slots=True)
class CallFinished:
    """A durable call has its result. The outcome of its path, and the proof that a signal was consumed."""

    path: str
    """Below the path of the step whose body made it: ``order#1/charge#2``."""
    attempt: int
    call: Call
    seconds: float = 0.0
    """How long the attempt's body ran, kept to the millisecond; 0 where there is no body."""
    signal: str | None = None
    """What ended a wait; None: the time, or it is no wait."""
    mail: int = 0
    """Number of the delivery that was consumed; 0: none."""
    floor: int = 0
    """Every delivery up to this one is settled."""


@dataclass(frozen=True, slots=True)
class StepHandedOut:
    """An attempt's body has ended, and its result comes from somebody else. Durable, or nobody could be believed."""

    path: str
    attempt: int
    proof: str
    """Digest of the token's secret, 32 hex digits."""
    due: datetime | None
    """When nobody's answer is waited for any more (the database's clock); None: never."""


@dataclass(frozen=True, slots=True)
class WaitBegan:
    """The run has come to a pause. Durable, so that a time-out does not start again from zero after a crash."""

    path: str
    names: tuple[str, ...]
    """The signals that are waited for; none: it is a sleep."""
    due: datetime | None
    """When the time is up (the database's clock); None: never."""
    mark: int = 0
    """Number of the last delivery that had been read then. A pause that begins anew at its path (its time was up, the
    run was retried) has another one, so a decision about the first is none about the second."""


@dataclass(frozen=True, slots=True)
class DecisionTaken:
    """Somebody has decided what a path waited for; its outcome follows. For views: who it was; folds ignore it."""

    path: str
    by: str
    signal: str | None
    """The signal that they chose; None: they answered a step that was handed out."""
    mail: int
    """Number of the delivery."""
    at: datetime
    """When it was delivered (the database's clock)."""


@dataclass(frozen=True, slots=True)
class SignalRefused:
    """A payload did not fit; the wait goes on."""

    path: str
    name: str
    mail: int
    """Number of the delivery, so that it is not tried again."""
    failure: Failure


@dataclass(frozen=True, slots=True)
class WaitFinished:
    """A pause is over. The outcome of its path, and the proof that a signal was consumed: one row is both."""

    path: str
    result: Any
    """The payload as its schema wants it; None when the time was up."""
    key: str | None
    """State key that gets the result; None: none does."""
    route: int | None
    """Which way on was taken; None where there is only one."""
    signal: str | None = None
    """What ended it; None: the time."""
    mail: int = 0
    """Number of the delivery that was consumed; 0: none, or a decision, which no other pause could take."""
    floor: int = 0
    """Every delivery up to this one is settled, so reading begins behind it."""

    @property
    def update(self) -> Mapping[str, Any]:
        """What goes into the state, before reducers."""
        return {} if self.key is None else {self.key: self.result}


@dataclass(frozen=True, slots=True)
class StepDropped:
    """What stood at a path is not done any more: another branch has won the race. It tells those who look; the tokens
    went when the winner came through, with the row before this one.
    """

    path: str


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """A child is there: started, attached to by its key, or retried because this run was."""

    path: str
    child: UUID
    flow: str
    number: int = 1
    """How many have been started at this path."""


@dataclass(frozen=True, slots=True)
class ChildFinished:
    """A child has completed. The outcome of its path, and the proof that its end was heard: one row is both."""

    path: str
    child: UUID
    result: Any
    """Its state at its end."""
    key: str | None
    """State key that gets the result; None: none does, unless it is merged."""
    route: int | None
    """Which way on was taken; None where there is only one."""
    merged: bool = False
    """True: the result is an update of the state."""

    @property
    def update(self) -> Mapping[str, Any]:
        """What goes into the state, before reducers."""
        if self.merged:
            return self.result  # type: ignore[no-any-return]
        return {} if self.key is None else {self.key: self.result}


@dataclass(frozen=True, slots=True)
class MapBegan:
    """The run has come to a map, and its list has been looked at."""

    path: str
    total: int
    """Items in it, from 1: an empty list is over at once."""


@dataclass(frozen=True, slots=True)
class ItemFinished:
    """An item of a map has its result. At most one of these exists per path."""

    path: str
    attempt: int
    """The attempt that finished; 0: none did, and ``result`` is the `ItemError` that stands in its place."""
    result: Any
    """None also where the row was read without its payload: nothing that is folded depends on it."""
    seconds: float = 0.0
    """How long the attempt's body ran, kept to the millisecond."""


@dataclass(frozen=True, slots=True)
class MapFinished:
    """Every item of a map has its outcome."""

    path: str
    total: int
    failed: int
    """Items in whose place an `ItemError` stands."""
    key: str
    """State key that gets the results."""
    route: int | None
    """Which way on was taken; None where there is only one."""
    values: list[Any] | None = None
    """The results in order, where they are few or a reducer wants them; None: they stay with their items' rows."""


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A cancel was read from the mailbox."""

    by: str
    mail: int = 0
    """Number of the delivery, so that it is not read twice."""


@dataclass(frozen=True, slots=True)
class UndoingBegan:
    """The run is going to end badly, and from here on undoes what it has done. Its reason is fixed by this."""

    path: str
    """Of the step that failed it; empty: no step did."""
    failure: Failure | None
    """Why it fails; None: it was cancelled."""
    by: str = ""
    """Who cancelled it."""


@dataclass(frozen=True, slots=True)
class RunRetried:
    """Somebody wants a failed run to go on: paths that had used up their attempts get new ones."""

    by: str
    mail: int = 0
    at: datetime | None = None
    """When it went on (the database's clock): from here on its ``run_timeout`` counts anew."""
    limit: int | None = None
    """How often a node may be reached from now on; None: as before."""
    edits: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the state that are set before, past their reducers, where the failed step stands."""


@dataclass(frozen=True, slots=True)
class CodeChanged:
    """A failed run was given other code; what has finished is kept. A retry follows."""

    fingerprint: str
    """Of the new code."""
    version: int
    nodes: tuple[str, ...]
    """The nodes that it concerns."""
    changes: tuple[str, ...]
    """What is different, one text per difference."""


@dataclass(frozen=True, slots=True)
class RunForked:
    """A run began where another one was. First row of its own journal; what stands before it is read from the other's
    (`forks.py`).
    """

    path: str
    """The step that is about to run, again or for the first time."""
    edits: Mapping[str, Any]
    """State key -> the value that the step sees instead of what it saw in the other run."""
    parent: UUID
    """The other run."""
    changes: tuple[str, ...] = ()
    """What is different in the code, one text per difference; empty: it is the code of the other run."""


@dataclass(frozen=True, slots=True)
class RunCompleted:
    """No token lives and one has reached END."""


@dataclass(frozen=True, slots=True)
class RunFailed:
    """A step has used up its attempts, or the run its time."""

    path: str
    """Of the step; empty: it was not a step that failed it."""
    failure: Failure


@dataclass(frozen=True, slots=True)
class RunCancelled:
    """The run has stopped because of a cancel."""

    by: str


Event = (
    StepStarted
    | StepFinished
    | AttemptFailed
    | StepHandedOut
    | CallFinished
    | WaitBegan
    | DecisionTaken
    | SignalRefused
    | WaitFinished
    | StepDropped
    | ChildStarted
    | ChildFinished
    | MapBegan
    | ItemFinished
    | MapFinished
    | CancelRequested
    | UndoingBegan
    | RunRetried
    | CodeChanged
    | RunForked
    | RunCompleted
    | RunFailed
    | RunCancelled
)
"""All that can happen to a run."""
