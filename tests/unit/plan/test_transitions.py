"""The table of transitions: every pair is in it, or raises."""

from __future__ import annotations

import typing
from itertools import product

import pytest

from flowbook.errors import IllegalTransition
from flowbook.graph.flow import graph
from flowbook.graph.step import step
from flowbook.plan import events
from flowbook.plan.apply import apply, begin
from flowbook.plan.events import Event
from flowbook.plan.records import Call, Failure, Status
from flowbook.plan.transitions import ROW_TRANSITIONS, TRANSITIONS, after, diagram
from tests.unit.plan.driving import ID, NOW

WHY = Failure("E", "m", "t")
ONE: dict[type, Event] = {
    events.StepStarted: events.StepStarted("a#1", 1),
    events.StepFinished: events.StepFinished("a#1", 1, 1, {"a": 1}, None),
    events.AttemptFailed: events.AttemptFailed("a#1", 1, WHY, False, True, None),
    events.StepHandedOut: events.StepHandedOut("a#1", 1, "00", None),
    events.WaitBegan: events.WaitBegan("a#1", ("go",), None),
    events.DecisionTaken: events.DecisionTaken("a#1", "ana", "go", 1, NOW),
    events.SignalRefused: events.SignalRefused("a#1", "go", 1, WHY),
    events.WaitFinished: events.WaitFinished("a#1", {}, "go", None, "go", 1, 1),
    events.StepDropped: events.StepDropped("a#1"),
    events.ChildStarted: events.ChildStarted("a#1", ID, "sub"),
    events.CallFinished: events.CallFinished("a#1/b#1", 1, Call("b()", "0" * 16, NOW, 1)),
    events.ChildFinished: events.ChildFinished("a#1", ID, {"n": 1}, "a", None),
    events.MapBegan: events.MapBegan("m#1", 3),
    events.ItemFinished: events.ItemFinished("m#1[0]", 1, {}),
    events.MapFinished: events.MapFinished("m#1", 3, 1, "m", None),
    events.CancelRequested: events.CancelRequested("me", 1),
    events.UndoingBegan: events.UndoingBegan("a#1", WHY),
    events.RunRetried: events.RunRetried("me", 1),
    events.CodeChanged: events.CodeChanged("f2", 2, ("a",), ("step `a` changed",)),
    events.RunForked: events.RunForked("a#1", {"a": 2}, ID),
    events.RunCompleted: events.RunCompleted(),
    events.RunFailed: events.RunFailed("a#1", WHY),
    events.RunCancelled: events.RunCancelled("me"),
}
"""One event of every class."""

R, C, F, X = Status.RUNNING, Status.COMPLETED, Status.FAILED, Status.CANCELLED
LEGAL = {
    (R, events.StepStarted): R,
    (R, events.StepFinished): R,
    (R, events.AttemptFailed): R,
    (R, events.StepHandedOut): R,
    (R, events.WaitBegan): R,
    (R, events.DecisionTaken): R,
    (R, events.SignalRefused): R,
    (R, events.WaitFinished): R,
    (R, events.StepDropped): R,
    (R, events.ChildStarted): R,
    (R, events.CallFinished): R,
    (R, events.ChildFinished): R,
    (R, events.MapBegan): R,
    (R, events.ItemFinished): R,
    (R, events.MapFinished): R,
    (R, events.CancelRequested): R,
    (R, events.RunForked): R,
    (R, events.UndoingBegan): R,
    (R, events.RunCompleted): C,
    (R, events.RunFailed): F,
    (R, events.RunCancelled): X,
    (F, events.CodeChanged): F,
    (F, events.RunRetried): R,
    (F, events.RunCancelled): X,
}


def test_every_event_has_an_example_here() -> None:
    """A new event cannot be left out of the table unnoticed."""
    assert set(ONE) == set(typing.get_args(Event))


@pytest.mark.parametrize(("status", "kind"), list(product(Status, ONE)), ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_pair_is_in_the_table_or_raises(status: Status, kind: type) -> None:
    """No event changes a run that is over by accident: a cancel of a completed run leaves it completed."""
    if (status, kind) in LEGAL:
        assert after(status, ONE[kind]) is LEGAL[status, kind]
        return
    with pytest.raises(IllegalTransition, match=f"{status} met {kind.__name__}"):
        after(status, ONE[kind])


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.CANCELLED])
def test_apply_keeps_to_the_table(status: Status) -> None:
    """The fold refuses what the table refuses: a stale worker's result cannot reopen a run."""
    from dataclasses import replace

    @step
    def a() -> int:
        return 1

    flow = graph("one", a)
    run = replace(begin(flow, ID, {}), status=status)
    for event in ONE.values():
        with pytest.raises(IllegalTransition):
            apply(flow, run, event)


def test_the_rows_states_are_drawn_from_their_table() -> None:
    """Every change of a row is an edge of the diagram."""
    drawn = diagram()
    for source, row in ROW_TRANSITIONS.items():
        for label, target in row.items():
            assert (f'{source} -> {target} [label="{label}"]' in drawn) is (source is not target)
    assert not (set(TRANSITIONS[Status.COMPLETED]) | set(TRANSITIONS[Status.CANCELLED]))
    assert Status.COMPLETED not in ROW_TRANSITIONS
