"""Undoing, decided purely: what is next, what an event changes, what survives a fold and a snapshot."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbook.graph.expression import branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.step import Step, step
from flowbook.plan import snapshots
from flowbook.plan.apply import begin, lost_attempts
from flowbook.plan.commands import CancelRun, FailRun, StartStep, WaitUntil
from flowbook.plan.decide import decide
from flowbook.plan.events import (
    AttemptFailed,
    CancelRequested,
    RunFailed,
    RunRetried,
    StepFinished,
    StepStarted,
    UndoingBegan,
)
from flowbook.plan.records import Failure, Status
from flowbook.plan.undoing import is_owed, left_to_undo, undo_path, undone_by
from tests.unit.plan.driving import BOOM, ID, NOW, Drive

LATE = Failure("OSError", "not now", "")


def can_undo(name: str) -> Step:
    return step(name=name, compensate=lambda: None)(lambda: 1)


def failing_flow() -> Graph:
    return graph("f", can_undo("a") >> [can_undo("b"), can_undo("c")] >> step(name="boom")(lambda: 1))


def failed(*order: str) -> Drive:
    """A run whose steps finished in this order, and which failed at its last."""
    drive = Drive.of(failing_flow()).finish("a#1", *order)
    drive.fail("boom#1")
    (command,) = drive.wanted()
    assert isinstance(command, FailRun)
    return drive.tell(UndoingBegan(command.path, command.failure))


def undone(drive: Drive, path: str) -> Drive:
    return drive.tell(StepFinished(undo_path(path), 1, None, {}, None))


def next_one(drive: Drive) -> StartStep:
    (command,) = drive.wanted()
    assert isinstance(command, StartStep)
    return command


@pytest.mark.parametrize("order", [("b#1", "c#1"), ("c#1", "b#1")], ids=["declared", "other way"])
def test_what_finished_last_is_undone_first(order: tuple[str, str]) -> None:
    """One command at a time, and the run's end when nothing is left."""
    drive = failed(*order)
    for path in (*reversed(order), "a#1"):
        command = next_one(drive)
        assert (command.undoes, command.path, command.node) == (path, undo_path(path), path[0])
        undone(drive, path)
    assert drive.wanted() == (FailRun("boom#1", BOOM),)


def test_a_compensation_that_backs_off_holds_up_those_before_it() -> None:
    """The order is kept; one that has failed for good holds up nobody."""
    drive = failed("b#1", "c#1")
    later = NOW + timedelta(seconds=9)
    drive.tell(AttemptFailed(undo_path("c#1"), 1, LATE, lost=False, final=False, retry_at=later))
    assert drive.wanted() == (WaitUntil(later),)
    assert decide(drive.graph, drive.run, later)[0] == StartStep(undo_path("c#1"), "", "c", 2, undoes="c#1")
    drive.tell(AttemptFailed(undo_path("c#1"), 2, LATE, lost=False, final=True, retry_at=None))
    assert next_one(drive).undoes == "b#1"
    undone(undone(drive, "b#1"), "a#1")
    (end,) = drive.wanted()
    assert isinstance(end, FailRun)
    assert end.failure.message == BOOM.message
    assert end.failure.notes == ("c#1 was not undone, its compensation failed: OSError: not now",)


def test_the_fate_of_a_run_is_fixed_before_its_first_compensation() -> None:
    """A cancel that comes later is read and changes nothing; a run that was cancelled ends as that."""
    drive = failed("b#1", "c#1").tell(CancelRequested("ana", 4))
    for path in ("c#1", "b#1", "a#1"):
        undone(drive, path)
    assert drive.wanted() == (FailRun("boom#1", BOOM),)
    assert drive.run.mail == 4
    other = Drive.of(failing_flow()).finish("a#1").tell(CancelRequested("bob"))
    assert other.wanted() == (CancelRun("bob"),)
    assert is_owed(other.run)
    undone(other.tell(UndoingBegan("", None, "bob")), "a#1")
    assert other.wanted() == (CancelRun("bob"),)
    assert not is_owed(other.run)


def test_a_compensation_changes_neither_state_nor_tokens() -> None:
    """What it returns is kept in its row and nowhere else."""
    drive = failed("b#1", "c#1")
    before = drive.run
    drive.tell(StepFinished(undo_path("c#1"), 1, {"a": 99}, {}, None))
    assert (drive.run.tokens, drive.run.counts, drive.run.view) == (before.tokens, before.counts, before.view)


def test_an_attempt_at_undoing_that_died_with_its_process_is_found() -> None:
    """So that one which kills its process is given up in the end, as a step is."""
    drive = failed("b#1", "c#1").tell(StepStarted(undo_path("c#1"), 1))
    assert lost_attempts(drive.run) == ((undo_path("c#1"), 1),)
    undone(drive, "c#1")
    assert lost_attempts(drive.run) == ()


def test_a_retry_goes_on_with_what_could_not_be_undone() -> None:
    """And with nothing else: what has failed the run is not tried again."""
    drive = failed("b#1", "c#1")
    drive.tell(AttemptFailed(undo_path("c#1"), 1, LATE, lost=False, final=True, retry_at=None))
    undone(undone(drive, "b#1"), "a#1")
    drive.tell(RunFailed("boom#1", BOOM)).tell(RunRetried("ana", 1, NOW))
    assert drive.run.status is Status.RUNNING
    assert next_one(drive).undoes == "c#1"
    undone(drive, "c#1")
    assert drive.wanted() == (FailRun("boom#1", BOOM),)


def test_the_path_of_a_compensation_says_what_it_undoes() -> None:
    """Also of an item of a map; other paths are none."""
    for path in ("charge#1", "pay#12", "fetch#1[3]"):
        assert undone_by(undo_path(path)) == path
    assert undone_by("charge#1") is None
    assert undone_by("compensation#1") is None


@given(st.integers(1, 5), st.integers(0, 4), st.booleans())
def test_a_fold_at_any_point_of_the_undoing_is_the_run(rounds: int, steps: int, crash: bool) -> None:
    """From the rows, and from a snapshot: the same is left to be undone, in the same order."""
    count = step(name="count", compensate=lambda: None)(lambda n=0: {"n": n + 1})
    flow = graph("f", count >> branch(lambda s: s.n < rounds, {True: count, False: step(name="boom")(lambda: 1)}))
    drive = Drive.of(flow).finish(*(f"count#{n}" for n in range(1, rounds + 1))).fail("boom#1")
    drive.tell(UndoingBegan("boom#1", BOOM))
    for path in left_to_undo(drive.run)[:steps]:
        if crash:
            drive.tell(StepStarted(undo_path(path), 1))
        undone(drive, path)
    assert drive.folded() == drive.run
    again: Any = snapshots.load(begin(flow, ID, {}), snapshots.dump(drive.run))
    assert again == drive.run
    assert left_to_undo(again) == tuple(f"count#{n}" for n in range(rounds - min(steps, rounds), 0, -1))
