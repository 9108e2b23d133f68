"""Timelines: what is worked out of a view."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from flowbook.observe.timeline import TRACKS, Part, Timeline, timeline_of
from flowbook.observe.views import AttemptView, RunView, State, StepView, WaitView
from flowbook.plan.paths import node_of
from flowbook.plan.records import Failure, Status
from tests.unit.show.samples import NOW, SPEC

LATE = Failure("TimeoutError", "the index did not answer", "")
CHILD = UUID(int=7)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def finished(path: str, end: float, seconds: float, *before: AttemptView, **more: Any) -> StepView:
    """A step whose last attempt ended well."""
    attempts = (*before, AttemptView(len(before) + 1, None, at(end), None))
    return StepView(path, node_of(path), State.FINISHED, attempts, seconds, None, **more)


def timeline(*steps: StepView, until: float = 20.0, **changes: Any) -> Timeline:
    fields: dict[str, Any] = {
        "id": UUID(int=1), "flow": "research", "version": 1, "status": Status.RUNNING, "key": None, "input": {},
        "spec": SPEC, "steps": steps, "failure": None, "failed_path": None, "created_at": NOW, "started_at": at(1),
        "ended_at": None, "lost": 0, "seq": 9,
    }  # fmt: skip
    return timeline_of(RunView(**(fields | changes)), at(until))


def told(it: Timeline, lane: int = 0) -> list[tuple[Part, float, float]]:
    """Part, start, end of the spans of a lane's first firing."""
    spans = it.lanes[lane].tracks[0][0].spans
    return [(s.part, round((s.start - NOW).total_seconds(), 3), round((s.end - NOW).total_seconds(), 3)) for s in spans]


def test_a_step_is_queued_from_the_end_of_the_one_before_it_until_it_begins() -> None:
    """The first one is queued from when the run was carried; the beginning of a short attempt is worked out."""
    it = timeline(finished("search#1", 3, 1.5), finished("judge#1", 5, 0.5))
    assert told(it, 0) == [(Part.QUEUED, 1, 1.5), (Part.RUNNING, 1.5, 3)]
    assert told(it, 1) == [(Part.QUEUED, 3, 4.5), (Part.RUNNING, 4.5, 5)]


def test_a_join_is_queued_from_the_last_of_its_branches() -> None:
    """Not from the first."""
    it = timeline(finished("left#1", 3, 1), finished("right#1", 6, 1), finished("report#1", 8, 1))
    assert told(it, 2) == [(Part.QUEUED, 6, 7), (Part.RUNNING, 7, 8)]


def test_attempts_stand_with_the_time_between_them() -> None:
    """A failed one, the back-off, and the one that ended well."""
    it = timeline(finished("search#1", 9, 2, AttemptView(1, at(1), at(3), LATE)))
    assert told(it) == [(Part.FAILED, 1, 3), (Part.BACKOFF, 3, 7), (Part.RUNNING, 7, 9)]
    assert it.lanes[0].tracks[0][0].spans[0].note == "TimeoutError: the index did not answer"


def test_what_goes_on_ends_at_the_moment_of_looking() -> None:
    """An attempt under way, a pause, a step that backs off and one that nobody has taken up since."""
    running = StepView("search#1", "search", State.RUNNING, (AttemptView(1, at(2), None, None),), None, None)
    pause = StepView("left#1", "left", State.WAITING, (), None, None, wait=WaitView(("ok",), at(3), None))
    tried = (AttemptView(1, at(4), at(5), LATE),)
    soon = StepView("right#1", "right", State.RETRYING, tried, None, None, retry_at=at(9))
    it = timeline(running, pause, soon, until=12)
    assert told(it, 0) == [(Part.QUEUED, 1, 1.9), (Part.RUNNING, 1.9, 12)], "its row was made 100 ms after it began"
    assert told(it, 1) == [(Part.WAITING, 3, 12)]
    assert told(it, 2)[1:] == [(Part.BACKOFF, 5, 9), (Part.QUEUED, 9, 12)]
    assert it.end == at(12)


def test_a_child_a_pause_that_is_over_and_a_token_that_was_handed_out_are_told_apart() -> None:
    """Each by what it was."""
    child = StepView("left#1", "left", State.FINISHED, (AttemptView(1, at(2), at(5), None),), 3, None, child=CHILD)
    pause = StepView("right#1", "right", State.FINISHED, (), 4.0, None, wait=WaitView(("ok",), at(3), None))
    handed = finished("search#1", 9, 7, wait=WaitView((), at(4), None, handed_out=True))
    it = timeline(handed, child, pause)
    assert told(it, 0)[-2:] == [(Part.RUNNING, 2, 4), (Part.WAITING, 4, 9)]
    assert told(it, 1)[-1] == (Part.CHILD, 2, 5)
    assert told(it, 2) == [(Part.WAITING, 3, 7)]


def test_firings_of_a_node_share_its_lane_and_overlapping_ones_its_tracks() -> None:
    """As many tracks as were ever needed at once, and no more than a page can bear."""
    apart = timeline(*(finished(f"search#{n}", 2 * n, 1) for n in range(1, 8)))
    assert [len(lane.tracks) for lane in apart.lanes] == [1]
    assert apart.lanes[0].bars == 7
    together = timeline(finished("search#1", 5, 3), finished("search#2", 6, 3), finished("search#3", 9, 2))
    assert [[bar.path for bar in track] for track in together.lanes[0].tracks] == [
        ["search#1", "search#3"],
        ["search#2"],
    ]
    many = timeline(*(finished(f"search#{n}", 5, 3) for n in range(1, 3 * TRACKS)))
    assert len(many.lanes[0].tracks) == TRACKS
    assert many.lanes[0].bars == 3 * TRACKS - 1


def test_calls_of_a_body_stand_below_it() -> None:
    """Also where the body's own row comes last."""
    charge, other = finished("order#1/charge#1", 3, 1), finished("later#1", 9, 1)
    it = timeline(charge, other, finished("order#1", 5, 4))
    assert [(lane.name, lane.depth) for lane in it.lanes] == [("order", 0), ("charge", 1), ("later", 0)]


def test_what_a_fork_has_kept_took_no_time_here() -> None:
    """It is counted, and not drawn: it happened before the run began."""
    it = timeline(finished("search#1", -50, 1, kept=True), finished("judge#1", 3, 1))
    assert [lane.name for lane in it.lanes] == ["judge"]
    assert it.kept == 1
    assert it.start == NOW
