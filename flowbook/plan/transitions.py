"""Transitions: which event may happen to a run in which status, and where it leads.

Owns: the table, and the state diagram that docs draw from it. Refuses: what else an event changes (`apply.py`).
``pending`` and ``waiting`` are statuses of a row that nobody owns; a run that is folded to be driven is ``running``.
"""

from __future__ import annotations

from collections.abc import Mapping

from flowbook.errors import IllegalTransition
from flowbook.plan.events import (
    AttemptFailed,
    CallFinished,
    CancelRequested,
    ChildFinished,
    ChildStarted,
    CodeChanged,
    DecisionTaken,
    Event,
    ItemFinished,
    MapBegan,
    MapFinished,
    RunCancelled,
    RunCompleted,
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
from flowbook.plan.records import Status

TRANSITIONS: Mapping[Status, Mapping[type[Event], Status]] = {
    Status.RUNNING: {
        StepStarted: Status.RUNNING,
        StepFinished: Status.RUNNING,
        AttemptFailed: Status.RUNNING,
        StepHandedOut: Status.RUNNING,
        CallFinished: Status.RUNNING,
        WaitBegan: Status.RUNNING,
        DecisionTaken: Status.RUNNING,
        SignalRefused: Status.RUNNING,
        WaitFinished: Status.RUNNING,
        StepDropped: Status.RUNNING,
        ChildStarted: Status.RUNNING,
        ChildFinished: Status.RUNNING,
        MapBegan: Status.RUNNING,
        ItemFinished: Status.RUNNING,
        MapFinished: Status.RUNNING,
        CancelRequested: Status.RUNNING,
        RunForked: Status.RUNNING,
        UndoingBegan: Status.RUNNING,
        RunCompleted: Status.COMPLETED,
        RunFailed: Status.FAILED,
        RunCancelled: Status.CANCELLED,
    },
    Status.COMPLETED: {},
    Status.FAILED: {CodeChanged: Status.FAILED, RunRetried: Status.RUNNING, RunCancelled: Status.CANCELLED},
    Status.CANCELLED: {},
}
"""Status -> event -> status. What is not here raises `IllegalTransition`."""

ROW_TRANSITIONS: Mapping[Status, Mapping[str, Status]] = {
    Status.PENDING: {"claim": Status.RUNNING, "cancel": Status.PENDING},
    Status.RUNNING: {
        "park": Status.WAITING,
        "hand back": Status.PENDING,
        "owner died": Status.PENDING,
        "complete": Status.COMPLETED,
        "fail": Status.FAILED,
        "cancel": Status.CANCELLED,
    },
    Status.WAITING: {"claim": Status.RUNNING},
    Status.FAILED: {"retry": Status.PENDING},
}
"""What happens to a run's row; every store keeps to it."""


def after(status: Status, event: Event) -> Status:
    """The status after an event. Raises `IllegalTransition`."""
    try:
        return TRANSITIONS[status][type(event)]
    except KeyError:
        raise IllegalTransition(
            f"a run that is {status} met {type(event).__name__}: its journal is damaged, or this is a bug in flowbook"
        ) from None


def diagram() -> str:
    """The row's states as Graphviz source, for docs."""
    edges = [
        f'  {source} -> {target} [label="{label}"];'
        for source, row in ROW_TRANSITIONS.items()
        for label, target in row.items()
        if source is not target
    ]
    return "\n".join(["digraph run {", "  rankdir=LR;", *edges, "}"])
