"""Commands: what `decide` wants done, in the imperative. Carrying one out twice is harmless.

Owns: their shapes. Refuses: doing anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flowbook.plan.records import Failure, Letter
from flowbook.quick import quick


@quick
@dataclass(frozen=True, slots=True)
class StartStep:
    """Have an attempt of ``path`` running (nothing to do if one already is)."""

    path: str
    token: str
    """Id of the token whose view the step sees."""
    node: str
    attempt: int
    undoes: str = ""
    """Path of the finished step that is undone here; empty: it is a step's own attempt."""


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Nothing to do before ``at``, unless something happens."""

    at: datetime


@dataclass(frozen=True, slots=True)
class BeginWait:
    """Write down that the run has come to a pause, and until when it waits there at most."""

    path: str
    node: str


@dataclass(frozen=True, slots=True)
class TakeSignal:
    """End a pause with a letter, or refuse the letter if its payload does not fit."""

    path: str
    token: str
    node: str
    letter: Letter


@dataclass(frozen=True, slots=True)
class EndWait:
    """The time of a pause is up."""

    path: str
    token: str
    node: str


@dataclass(frozen=True, slots=True)
class WaitForSignal:
    """Nothing to do at ``path`` before one of these signals comes, or ``due``."""

    path: str
    names: tuple[str, ...]
    due: datetime | None


@dataclass(frozen=True, slots=True)
class TakeAnswer:
    """End a step that was handed out with the answer to it, or refuse the answer if the step may not return it."""

    path: str
    token: str
    node: str
    attempt: int
    letter: Letter


@dataclass(frozen=True, slots=True)
class EndHandOut:
    """Nobody has answered in time."""

    path: str
    token: str
    node: str
    attempt: int


@dataclass(frozen=True, slots=True)
class RunChild:
    """Have a child of ``path`` under way, and end the path when it has ended (nothing to do in between)."""

    path: str
    token: str
    node: str


@dataclass(frozen=True, slots=True)
class BeginMap:
    """Look at the list of a map, and write down how many items it has."""

    path: str
    token: str
    node: str


@dataclass(frozen=True, slots=True)
class CollectItem:
    """Put the record of its failure into the place of an item that has failed for good."""

    path: str
    index: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class EndMap:
    """Every item of a map has its outcome: send the run on with the results."""

    path: str
    token: str
    node: str


@dataclass(frozen=True, slots=True)
class CompleteRun:
    """The run has reached its end."""


@dataclass(frozen=True, slots=True)
class FailRun:
    """Let what is running finish, start nothing, then end the run as failed."""

    path: str
    """Of the step that failed it; empty: its time is up."""
    failure: Failure
    until: datetime | None = None
    """When what is still running is stopped; None: never."""


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Stop what is running, then end the run as cancelled."""

    by: str


def as_step(
    command: TakeSignal | EndWait | TakeAnswer | EndHandOut | RunChild | BeginMap | EndMap, attempt: int = 1
) -> StartStep:
    """What an outcome is recorded by that comes of another command than a step's own."""
    return StartStep(command.path, command.token, command.node, attempt)


Command = (
    StartStep
    | WaitUntil
    | BeginWait
    | TakeSignal
    | EndWait
    | WaitForSignal
    | TakeAnswer
    | EndHandOut
    | RunChild
    | BeginMap
    | CollectItem
    | EndMap
    | CompleteRun
    | FailRun
    | CancelRun
)
"""All that `decide` can want."""
