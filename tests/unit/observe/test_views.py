"""Views: a run as people look at it, from its row and its journal alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from flowbook.observe.folding import view_of
from flowbook.observe.views import RunView, State
from flowbook.plan.events import (
    AttemptFailed,
    CancelRequested,
    Event,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRetried,
    SignalRefused,
    StepFinished,
    StepStarted,
    WaitBegan,
    WaitFinished,
)
from flowbook.plan.journal import to_entry
from flowbook.plan.records import Failure, Status
from flowbook.ports import RunRow

AT = datetime(2026, 1, 1, tzinfo=UTC)
BOOM = Failure("ValueError", "boom", "Traceback: boom")
LATER = AT + timedelta(minutes=1)


def seen(*events: Event, status: Status = Status.RUNNING, running: dict[str, int] | None = None) -> RunView:
    """The view of a run with this journal, one second per row."""
    row = RunRow(
        id=UUID(int=1), namespace="n", flow="f", version=3, fingerprint="f", queue="default", priority=0, status=status,
        due_at=AT, epoch=1, worker_id=None, claims=1, lost=2, mail=0, current="", key="k", input=b"", input_digest=b"",
        metadata={"who": "me"}, error=None, forked_from=None, created_at=AT, started_at=AT, ended_at=None,
    )  # fmt: skip
    entries = [replace(to_entry(e), seq=n, at=AT + timedelta(seconds=n)) for n, e in enumerate(events, 1)]
    return view_of(row, entries, spec={"nodes": []}, input={"q": 1}, running=running)


def states(view: RunView) -> dict[str, State]:
    """Path -> state."""
    return {s.path: s.state for s in view.steps}


def test_a_run_shows_its_row() -> None:
    """What the row says is there before anything has happened."""
    view = seen()
    assert (view.flow, view.version, view.key, view.input, view.lost) == ("f", 3, "k", {"q": 1}, 2)
    assert (view.metadata, view.steps, view.seq, view.done, view.failure) == ({"who": "me"}, (), 0, 0, None)


def test_steps_stand_in_the_order_in_which_they_first_appear() -> None:
    """With their attempts, times and results; the latest firing of a node is the node's."""
    view = seen(
        StepStarted("b#1", 1),
        StepFinished("a#1", 1, 5, {"a": 5}, 1, 0.5),
        StepFinished("b#1", 1, None, {}, None, 0.1),
        StepFinished("a#2", 1, 6, {"a": 6}, None, 0.5),
    )
    assert [s.path for s in view.steps] == ["b#1", "a#1", "a#2"]
    assert set(states(view).values()) == {State.FINISHED}
    assert (view.steps[1].result, view.steps[1].route, view.steps[1].seconds) == (5, 1, 0.5)
    assert view.nodes["a"].path == "a#2"
    assert (view.done, view.seq) == (3, 4)
    (attempt,) = view.steps[0].attempts
    assert (attempt.number, attempt.started_at, attempt.ended_at) == (
        1,
        AT + timedelta(seconds=1),
        AT + timedelta(seconds=3),
    )


def test_attempts_are_told_apart() -> None:
    """A failed one, a lost one, and the one that succeeded."""
    view = seen(
        StepStarted("a#1", 1),
        AttemptFailed("a#1", 1, BOOM, False, False, LATER),
        StepStarted("a#1", 2),
        AttemptFailed("a#1", 2, BOOM, True, False, None),
        StepFinished("a#1", 3, 1, {"a": 1}, None),
    )
    (step,) = view.steps
    assert [(a.number, a.lost, a.failure is not None) for a in step.attempts] == [
        (1, False, True), (2, True, True), (3, False, False)
    ]  # fmt: skip
    assert (step.state, step.retry_at) == (State.FINISHED, None)


def test_a_back_off_shows_its_time() -> None:
    """Retrying, until when."""
    (step,) = seen(AttemptFailed("a#1", 1, BOOM, False, False, LATER)).steps
    assert (step.state, step.retry_at) == (State.RETRYING, LATER)


def test_a_failed_run_shows_where_and_why() -> None:
    """And a retry of it clears the failure, but not what was tried."""
    failed = (AttemptFailed("a#1", 1, BOOM, False, True, None), RunFailed("a#1", BOOM))
    view = seen(*failed, status=Status.FAILED)
    assert (view.failure, view.failed_path, states(view)) == (BOOM, "a#1", {"a#1": State.FAILED})
    again = seen(*failed, RunRetried("ana", 1))
    assert (again.failure, again.failed_path, states(again)) == (None, None, {"a#1": State.RETRYING})
    assert len(again.steps[0].attempts) == 1


def test_a_second_try_after_a_retry_is_an_attempt_of_its_own() -> None:
    """Attempts are numbered from 1 again; the failure before is not overwritten by the success after."""
    view = seen(
        AttemptFailed("a#1", 1, BOOM, False, True, None),
        RunFailed("a#1", BOOM),
        RunRetried("ana", 1),
        StepFinished("a#1", 1, 5, {"a": 5}, None),
        RunCompleted(),
        status=Status.COMPLETED,
    )
    (step,) = view.steps
    assert step.state is State.FINISHED
    assert [a.failure for a in step.attempts] == [BOOM, None]


def test_what_runs_here_is_shown_before_it_is_noted() -> None:
    """The beginning of an attempt needs no row to be seen in its own process."""
    view = seen(StepFinished("a#1", 1, 1, {"a": 1}, None), running={"b#1": 1})
    assert states(view) == {"a#1": State.FINISHED, "b#1": State.RUNNING}
    again = seen(AttemptFailed("a#1", 1, BOOM, False, False, None), running={"a#1": 2})
    assert states(again) == {"a#1": State.RUNNING}
    assert [a.number for a in again.steps[0].attempts] == [1, 2]


def test_what_was_under_way_when_a_run_ended_was_cancelled() -> None:
    """Nothing is shown as running in a run that is over."""
    view = seen(
        StepFinished("a#1", 1, 1, {"a": 1}, None),
        StepStarted("b#1", 1),
        AttemptFailed("c#1", 1, BOOM, False, False, LATER),
        CancelRequested("ana", 1),
        RunCancelled("ana"),
        status=Status.CANCELLED,
    )
    assert states(view) == {"a#1": State.FINISHED, "b#1": State.CANCELLED, "c#1": State.CANCELLED}
    assert view.cancelled_by == "ana"


def test_a_pause_says_what_it_waits_for_and_until_when() -> None:
    """Since when, what did not fit, and at its end how long it was."""
    began = WaitBegan("gate#1", ("approved", "rejected"), LATER)
    view = seen(began, SignalRefused("gate#1", "approved", 1, BOOM), status=Status.WAITING)
    (step,) = view.steps
    assert (step.state, step.attempts) == (State.WAITING, ())
    assert step.wait is not None
    assert (step.wait.signals, step.wait.due_at) == (("approved", "rejected"), LATER)
    assert (step.wait.since, step.wait.refused) == (AT + timedelta(seconds=1), (BOOM,))
    over = seen(began, WaitFinished("gate#1", {"by": "ana"}, "approved", 0, "approved", 1, 1))
    assert (over.steps[0].state, over.steps[0].seconds, over.steps[0].result) == (State.FINISHED, 1.0, {"by": "ana"})
    assert states(seen(began, RunCancelled("me"), status=Status.CANCELLED)) == {"gate#1": State.CANCELLED}


def test_a_pause_that_failed_and_waits_anew_keeps_its_attempt() -> None:
    """What it failed with is still told."""
    began = WaitBegan("gate#1", ("approved",), LATER)
    failed = AttemptFailed("gate#1", 1, BOOM, False, True, None)
    assert states(seen(began, failed, RunFailed("gate#1", BOOM), status=Status.FAILED)) == {"gate#1": State.FAILED}
    (step,) = seen(began, failed, RunFailed("gate#1", BOOM), RunRetried("me"), began).steps
    assert (step.state, [a.failure for a in step.attempts]) == (State.WAITING, [BOOM])


def test_a_skipped_step_is_neither_done_nor_failed() -> None:
    """It is shown as what it is."""
    view = seen(StepFinished("a#1", 1, None, {}, None, skipped=True))
    assert (states(view), view.done) == ({"a#1": State.SKIPPED}, 0)
