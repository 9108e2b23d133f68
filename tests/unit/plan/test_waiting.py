"""Waiting, purely: what is wanted at a pause, and what its events change."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from flowbook.graph.flow import graph
from flowbook.graph.pause import sleep, wait, wait_any
from flowbook.graph.step import step, when
from flowbook.plan import snapshots
from flowbook.plan.apply import begin
from flowbook.plan.commands import BeginWait, EndWait, StartStep, TakeSignal, WaitForSignal, WaitUntil
from flowbook.plan.decide import decide
from flowbook.plan.events import (
    AttemptFailed,
    RunFailed,
    RunRetried,
    SignalRefused,
    StepFinished,
    WaitBegan,
    WaitFinished,
)
from flowbook.plan.records import Letter
from tests.unit.plan.driving import BOOM, ID, NOW, Drive

LATER = NOW + timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@step
def a() -> dict[str, Any]:
    return {"n": 1}


@step
def b() -> None: ...


def letter(id: int, name: str = "go", after: timedelta = timedelta()) -> Letter:
    return Letter(id, name, NOW + after)


def wants(drive: Drive, *letters: Letter, at: Any = NOW) -> list[Any]:
    return list(decide(drive.graph, drive.run, at, letters))


def test_a_wait_is_begun_then_waited_for_then_ended() -> None:
    """Its limit is counted from its beginning."""
    drive = Drive.of(graph("f", wait("go", timeout="1h", on_timeout=b) >> a))
    assert wants(drive) == [BeginWait("go#1", "go")]
    drive.tell(WaitBegan("go#1", ("go",), LATER))
    assert wants(drive) == [WaitForSignal("go#1", ("go",), LATER), WaitUntil(LATER)]
    assert wants(drive, at=LATER) == [EndWait("go#1", "", "go")]
    drive.tell(WaitFinished("go#1", None, None, 1))
    assert list(drive.ready()) == ["b#1"]
    assert drive.run.waits == {}


def test_the_moment_of_a_letter_decides_not_the_moment_of_reading() -> None:
    """In time wins although the limit has passed since; too late loses although nobody had looked before."""
    drive = Drive.of(graph("f", wait("go", timeout="1h") >> a)).tell(WaitBegan("go#1", ("go",), LATER))
    much_later = LATER + MINUTE
    early, late = letter(1, after=timedelta(hours=1)), letter(2, after=timedelta(hours=1, microseconds=1))
    assert wants(drive, early, at=much_later) == [TakeSignal("go#1", "", "go", early)]
    assert wants(drive, late, at=much_later) == [EndWait("go#1", "", "go")]
    assert wants(drive, late, at=NOW)[0] == WaitForSignal("go#1", ("go",), LATER)


def test_a_letter_that_is_there_ends_a_wait_before_it_begins() -> None:
    """However old it is."""
    drive = Drive.of(graph("f", wait("go", timeout="1h")))
    old = letter(1, after=-timedelta(days=30))
    assert wants(drive, old) == [TakeSignal("go#1", "", "go", old)]


def test_a_letter_is_taken_by_one_of_two_waiters() -> None:
    """The first branch in declaration order gets the first one."""
    drive = Drive.of(graph("f", [wait("go"), wait("go", name="also")] >> a))
    assert wants(drive, letter(1)) == [TakeSignal("go#1", "START#1[0]", "go", letter(1)), BeginWait("also#1", "also")]
    both = wants(drive, letter(1), letter(2))
    assert [c.letter.id for c in both] == [1, 2]


def test_a_letter_that_was_taken_or_refused_is_not_offered_again() -> None:
    """The record says up to which delivery a name was heard, and from where to read."""
    gate = wait_any({"go": a, "stop": b})
    drive = Drive.of(graph("f", gate, a >> gate))
    drive.tell(SignalRefused("go_or_stop#1", "go", 1, BOOM))
    assert wants(drive, letter(1), letter(2)) == [TakeSignal("go_or_stop#1", "", "go_or_stop", letter(2))]
    drive.tell(WaitFinished("go_or_stop#1", {}, "go", 0, "go", 3, 2)).finish("a#1")
    assert (drive.run.heard, drive.run.floor) == ({"go": 3}, 2)
    assert wants(drive, letter(2), letter(3), letter(4, "stop")) == [
        TakeSignal("go_or_stop#2", "", "go_or_stop", letter(4, "stop"))
    ]


def test_a_sleep_hears_nothing() -> None:
    """Only its time ends it; and steps beside it run meanwhile."""
    drive = Drive.of(graph("f", [sleep("1h"), a] >> b))
    drive.tell(WaitBegan("sleep_1h#1", (), LATER))
    assert wants(drive, letter(1)) == [
        WaitForSignal("sleep_1h#1", (), LATER), StartStep("a#1", "START#1[1]", "a", 1), WaitUntil(LATER),
    ]  # fmt: skip


def test_a_payload_is_an_update_and_a_result() -> None:
    """Under its key in the state, under the node's name for who asks."""
    drive = Drive.of(graph("f", wait("go", name="gate") >> a))
    drive.tell(WaitFinished("gate#1", {"by": "ana"}, "go", None, "go", 1, 1))
    view = drive.run.view
    assert (view.values, view.results) == ({"go": {"by": "ana"}}, {"gate": {"by": "ana"}})


def test_a_retried_run_waits_anew() -> None:
    """A limit that has passed would fail it again at once."""
    drive = Drive.of(graph("f", wait("go", timeout="1h") >> a)).tell(WaitBegan("go#1", ("go",), LATER))
    drive.tell(AttemptFailed("go#1", 1, BOOM, False, True, None)).tell(RunFailed("go#1", BOOM)).tell(
        RunRetried("me", 1)
    )
    assert wants(drive, at=LATER) == [BeginWait("go#1", "go")]


def test_a_skipped_step_changes_nothing_and_its_token_goes_on() -> None:
    """Neither the state nor what was known of an earlier firing."""
    drive = Drive.of(graph("f", a >> when(lambda s: False, b) >> wait("go"))).finish("a#1")
    before = drive.run.view
    drive.tell(StepFinished("b#1", 1, None, {}, None, skipped=True))
    assert drive.run.view == before
    assert wants(drive) == [BeginWait("go#1", "go")]


def test_waits_are_in_snapshots() -> None:
    """A run that is folded from a snapshot knows since when it waits, and what it has heard."""
    flow = graph("f", [wait("go"), sleep("1h")] >> a)
    drive = (
        Drive.of(flow).tell(WaitBegan("sleep_1h#1", (), LATER)).tell(WaitFinished("go#1", 1, "go", None, "go", 5, 4))
    )
    assert replace(snapshots.load(begin(flow, ID, {}), snapshots.dump(drive.run)), id=drive.run.id) == drive.run
    assert drive.folded() == drive.run
