"""Races: the first branch that comes through goes on alone."""

from __future__ import annotations

from typing import Any

import pytest

from flowbook.errors import IllegalTransition
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.pause import sleep, wait
from flowbook.graph.race import race
from flowbook.graph.step import step
from flowbook.plan.commands import BeginWait, CompleteRun, FailRun
from flowbook.plan.events import RunFailed, RunRetried, StepDropped, WaitBegan
from flowbook.plan.racing import dropped
from flowbook.plan.records import ROOT, Phase, Status
from tests.unit.plan.driving import BOOM, Drive
from tests.unit.plan.test_tokens import Log, a, b, c, d, e, f, named


def test_the_winner_goes_on_alone() -> None:
    """Only its deltas count; no token of a loser is left."""
    drive = Drive.of(graph("f", a >> race(b, c) >> d, state=Log)).finish("a#1", "c#1")
    assert list(drive.ready()) == ["d#1"]
    assert drive.values["log"] == ["a", "c"]
    assert list(drive.run.view.results) == ["a", "c"]
    assert set(drive.run.tokens) == {ROOT}
    assert not drive.run.scopes
    drive.finish("d#1")
    assert drive.wanted() == (CompleteRun(),)


@pytest.mark.parametrize("first", ["b#1", "c#1", "d#1"])
def test_whoever_is_first_by_the_journal_has_won(first: str) -> None:
    """The order of rows decides, the fold of them decides the same again, and a loser can have no outcome."""
    drive = Drive.of(graph("f", a >> race(b, c, d) >> e, state=Log)).finish("a#1")
    outcomes = {path: drive.outcome(path) for path in drive.ready()}
    drive.tell(outcomes.pop(first))
    assert drive.values["log"] == ["a", first[0]]
    assert drive.folded() == drive.run
    for late in outcomes.values():
        with pytest.raises(IllegalTransition):
            drive.tell(late)


def test_without_a_join_the_first_at_the_end_wins() -> None:
    """The whole chain of a member is raced, and the run is over with the first of them."""
    drive = Drive.of(graph("f", a >> race(b >> c, d >> e >> f), state=Log)).finish("a#1", "b#1", "d#1")
    assert set(drive.ready()) == {"c#1", "e#1"}
    drive.finish("c#1")
    assert drive.wanted() == (CompleteRun(),)
    assert drive.values["log"] == ["a", "b", "c"]


def test_a_winner_that_goes_to_the_end_takes_the_run_there() -> None:
    """Wherever the winner leads, the run goes: a time limit may lead to END while the work leads on."""
    late = named("late")
    drive = Drive.of(graph("f", a >> race(b, late >> END), b >> c, state=Log)).finish("a#1", "late#1")
    assert drive.wanted() == (CompleteRun(),)
    assert drive.values["log"] == ["a", "late"]


def test_a_member_may_branch() -> None:
    """It has come through when it leaves the race, not before."""
    again = b >> branch(lambda s: s.log.count("b") < 3, {True: b, False: d})
    drive = Drive.of(graph("f", a >> race(again, c >> e >> d), state=Log)).finish("a#1", "b#1", "c#1", "b#2")
    assert set(drive.ready()) == {"b#3", "e#1"}
    drive.finish("b#3")
    assert list(drive.ready()) == ["d#1"]
    assert drive.values["log"] == ["a", "b", "b", "b"]


def test_what_the_losers_had_opened_goes_with_them() -> None:
    """Forks, races, pauses and troubles inside of a losing branch."""
    g, h = named("g"), named("h")
    inner = b >> [c, d >> race(e, wait("go"))] >> f
    drive = Drive.of(graph("f", a >> race(inner, g) >> h, state=Log)).finish("a#1", "b#1", "d#1").started("c#1")
    drive.fail("e#1").tell(WaitBegan("go#1", ("go",), None))
    before = drive.run
    assert set(before.troubles) == {"e#1"}
    assert set(before.waits) == {"go#1"}
    outcome = drive.outcome("g#1")
    drive.tell(outcome)
    after = drive.run
    assert list(drive.ready()) == ["h#1"]
    assert (set(after.tokens), after.scopes, after.troubles, after.waits) == ({ROOT}, {}, {}, {})
    assert after.started == {}
    assert dropped(before, after, "g#1") == ("c#1", "e#1", "go#1")


def test_a_race_inside_of_a_fork_keeps_the_siblings() -> None:
    """Only its own branches are dropped, and the deltas keep their order."""
    g, h = named("g"), named("h")
    drive = Drive.of(graph("f", a >> [b >> race(c, d) >> e, f] >> g >> h, state=Log)).finish("a#1", "b#1", "d#1")
    assert set(drive.ready()) == {"e#1", "f#1"}
    drive.finish("f#1", "e#1")
    assert drive.values["log"] == ["a", "b", "d", "e", "f"]


def test_races_and_forks_may_share_their_join() -> None:
    """A fork inside of a member has to be through before the member is."""
    drive = Drive.of(graph("f", a >> race(b >> [c, d], e) >> f, state=Log)).finish("a#1", "b#1", "c#1")
    assert set(drive.ready()) == {"d#1", "e#1"}
    drive.finish("d#1")
    assert list(drive.ready()) == ["f#1"]
    assert drive.values["log"] == ["a", "b", "c", "d"]


def test_a_race_in_a_loop_is_another_race_each_time() -> None:
    """Paths go on counting, so what lost in one round is not taken for the next one's."""
    turn = e >> branch(lambda s: s.log.count("e") < 2, {True: a, False: END})
    drive = Drive.of(graph("f", a >> race(b, c) >> e, turn, state=Log)).finish("a#1", "b#1", "e#1", "a#2")
    assert set(drive.ready()) == {"b#2", "c#2"}
    drive.finish("c#2", "e#2")
    assert drive.values["log"] == ["a", "b", "e", "a", "c", "e"]


def test_a_branch_that_reaches_the_join_at_once_wins_at_once() -> None:
    """A member may be what follows the race."""
    drive = Drive.of(graph("f", a >> race(b, c), b >> c >> d, state=Log)).finish("a#1")
    assert list(drive.ready()) == ["c#1"]
    assert set(drive.run.tokens) == {ROOT}


def test_a_race_against_time_begins_both() -> None:
    """The typical time limit."""
    drive = Drive.of(graph("f", a >> race(b, sleep("1h")) >> c, state=Log)).finish("a#1")
    assert set(drive.ready()) == {"b#1"}
    assert BeginWait("sleep_1h#1", "sleep_1h") in drive.wanted()


# ----------------------------------------------------------------------------------------------- members that fail


def test_a_member_that_fails_is_out_and_the_others_go_on() -> None:
    """Its failure is kept until somebody has won."""
    drive = Drive.of(graph("f", a >> race(b, c) >> d, state=Log)).finish("a#1").fail("b#1")
    assert set(drive.ready()) == {"c#1"}
    assert drive.run.troubles["b#1"].failure == BOOM
    drive.finish("c#1", "d#1")
    assert drive.wanted() == (CompleteRun(),)
    assert drive.run.troubles == {}


def test_a_race_fails_when_all_its_members_have() -> None:
    """With the first failure; a retry of the run lets all of them go on."""
    drive = Drive.of(graph("f", a >> race(b, c) >> d, state=Log)).finish("a#1").fail("b#1").fail("c#1")
    assert drive.wanted() == (FailRun("b#1", BOOM),)
    drive.tell(RunFailed("b#1", BOOM)).tell(RunRetried("me", 1))
    assert set(drive.ready()) == {"b#1", "c#1"}
    drive.finish("c#1")
    assert list(drive.ready()) == ["d#1"]


def test_one_failure_inside_of_a_member_puts_all_of_it_out() -> None:
    """Nothing more is begun in a branch that cannot come through, and nothing of it is lost for a retry."""
    g = named("g")
    drive = Drive.of(graph("f", a >> race(b >> [c, d] >> e, f) >> g, state=Log)).finish("a#1", "b#1").fail("c#1")
    assert set(drive.ready()) == {"f#1"}
    drive.fail("f#1")
    assert drive.wanted() == (FailRun("c#1", BOOM),)
    drive.tell(RunFailed("c#1", BOOM)).tell(RunRetried("me", 1))
    assert set(drive.ready()) == {"c#1", "d#1", "f#1"}


def test_a_race_that_fails_puts_out_the_member_of_the_race_around_it() -> None:
    """From the inside outwards, up to a race that somebody may still win."""
    g, h = named("g"), named("h")
    drive = Drive.of(graph("f", a >> race(b >> race(c, d) >> e, f) >> g >> h, state=Log)).finish("a#1", "b#1")
    drive.fail("c#1").fail("d#1")
    assert set(drive.ready()) == {"f#1"}
    drive.fail("f#1")
    assert isinstance(drive.wanted()[0], FailRun)


def test_a_failure_beside_a_race_fails_the_run() -> None:
    """A fork's branch is not raced against anybody."""
    drive = Drive.of(graph("f", a >> [b, c >> race(d, e)] >> f, state=Log)).finish("a#1", "c#1").fail("b#1")
    assert drive.wanted() == (FailRun("b#1", BOOM),)


def test_who_lost_is_told_and_changes_nothing() -> None:
    """The row is for those who look; the fold has known it from the winner's row."""
    drive = Drive.of(graph("f", a >> race(b, c) >> d, state=Log)).finish("a#1", "b#1")
    before = drive.run
    drive.tell(StepDropped("c#1"))
    assert (drive.run.tokens, drive.run.status) == (before.tokens, Status.RUNNING)
    assert drive.run.seq == before.seq + 1


def test_attempts_left_go_on_inside_of_a_race() -> None:
    """A failure that is not the last one puts nobody out."""
    calls: list[Any] = []
    flaky = step(name="flaky", retries=1, backoff=(0,))(lambda: calls.append(1))
    drive = Drive.of(graph("f", a >> race(flaky, c))).finish("a#1").fail("flaky#1")
    assert set(drive.ready()) == {"flaky#1", "c#1"}
    assert all(t.phase in (Phase.READY, Phase.FORKED) for t in drive.run.tokens.values())
