"""Forks: exactly what depends on the point is done again."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbook.errors import PointUnknown
from flowbook.graph.expression import branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.pause import wait
from flowbook.graph.race import race
from flowbook.graph.step import step
from flowbook.plan.apply import begin, fold
from flowbook.plan.commands import CompleteRun
from flowbook.plan.events import RunForked, WaitFinished
from flowbook.plan.forks import Ancestor, Cut, cut, inherited
from flowbook.plan.journal import from_entry, to_entry
from flowbook.plan.moments import moment
from flowbook.plan.records import Phase, Status
from tests.unit.plan.driving import ID, NOW, Drive
from tests.unit.plan.test_folds import driven
from tests.unit.plan.topologies import flows

seeds = st.randoms(use_true_random=False)


def forked(parent: Drive, at: str, ancestors: tuple[Ancestor, ...] = (), **edits: Any) -> tuple[Drive, Cut]:
    """A run forked from another one, as the store and the loading make it."""
    made = cut(parent.graph, begin(parent.graph, ID, parent.input), history(parent, ancestors), at)
    lines = (Ancestor(parent.journal, made.seq, made.without), *ancestors)
    drive = Drive.of(parent.graph, **parent.input)
    prefix = inherited(lines)
    drive.run = fold(parent.graph, drive.run, [(e.seq, from_entry(e)) for e in prefix])
    assert drive.run.seq == 0, "a fork's own journal begins with 1"
    drive.tell(RunForked(at, {**made.edits, **edits}, ID))
    assert drive.run.tokens == made.before.tokens or edits or made.edits
    return drive, made


def points(drive: Drive) -> list[str]:
    """Every path that a token came to."""
    return [*drive.finished, *(t.path for t in drive.run.tokens.values() if t.phase is Phase.READY)]


def history(drive: Drive, ancestors: tuple[Ancestor, ...] = ()) -> list[Any]:
    return [*inherited(ancestors), *drive.journal]


def independent(flow: Graph, at: str) -> set[str]:
    """What can be finished although ``at`` never is: an oracle that knows nothing of tokens."""
    drive = Drive.of(flow)
    for _ in range(2_000):
        ready = [path for path in drive.ready() if path != at]
        if not ready:
            break
        drive.finish(ready[0])
    return set(drive.finished)


@given(flows, seeds, seeds)
def test_a_fork_without_edits_ends_as_its_parent_and_reruns_exactly_the_descendants(
    flow: Graph, one: Any, other: Any
) -> None:
    """Whatever the topology and the order in which things finished, in the parent and in the fork."""
    parent = Drive.of(flow).to_end(one.choice)
    at = one.choice(parent.finished)
    fork, _ = forked(parent, at)
    fork.to_end(other.choice)
    assert fork.run.view == parent.run.view
    assert fork.run.counts == parent.run.counts
    assert set(fork.finished) == set(parent.finished) - independent(flow, at)


@given(flows, seeds)
def test_a_fork_of_an_unfinished_run_keeps_what_was_finished_and_does_not_depend_on_the_point(
    flow: Graph, random: Any
) -> None:
    """Failures, lost attempts and advisory rows are the parent's own affair."""
    parent = driven(flow, random)
    at = random.choice(points(parent))
    fork, made = forked(parent, at)
    assert not fork.run.troubles
    fork.to_end(random.choice)
    assert fork.run.view == Drive.of(flow).to_end().run.view
    kept = set(parent.finished) & independent(flow, at)
    assert not kept & set(fork.finished), "a sibling that had finished is not paid for again"
    assert made.seq == max((e.seq for e in parent.journal if e.path in kept and e.kind == "finished"), default=0)


@given(flows, seeds)
def test_a_fork_of_a_fork_reads_through_both(flow: Graph, random: Any) -> None:
    """Each generation keeps what does not depend on its own point, from whichever journal it stands in."""
    parent = driven(flow, random)
    first = random.choice(points(parent))
    child, made = forked(parent, first)
    ancestors = (Ancestor(parent.journal, made.seq, made.without),)
    for _ in range(random.randint(0, 20)):
        if child.wanted() == (CompleteRun(),):
            break
        child.finish(random.choice(list(child.ready())))
    done = [e.path for e in history(child, ancestors) if e.kind == "finished"]
    at = random.choice([*done, *child.ready()])
    grandchild, _ = forked(child, at, ancestors)
    grandchild.to_end(random.choice)
    assert grandchild.run.view == Drive.of(flow).to_end().run.view
    assert not set(done) & independent(flow, at) & set(grandchild.finished)


# ---------------------------------------------------------------------------------------------------- by hand


class State(TypedDict, total=False):
    """Two kinds of keys."""

    docs: Annotated[list[str], operator.add]
    limit: int


def tells(name: str, **more: Any) -> Any:
    def body(state: dict[str, Any]) -> dict[str, Any]:
        return {"docs": [f"{name}:{state.get('limit')}"], **more}

    return step(name=name)(body)


def fork_flow() -> Graph:
    """begin, then two branches of two steps, then a join."""
    a, b, c, d = tells("a"), tells("b"), tells("c"), tells("d")
    return graph("two", tells("begin") >> [a, c], a >> b, c >> d, [b, d] >> tells("meet"), state=State)


def test_a_sibling_that_finished_later_is_kept() -> None:
    """The parent's rows behind the point are read as well, without those that depend on it."""
    parent = Drive.of(fork_flow(), limit=1).finish("begin#1", "c#1", "a#1", "b#1", "d#1").to_end()
    fork, made = forked(parent, "a#1", limit=9)
    assert (made.seq, made.without) == (5, ("a#1", "b#1"))
    fork.to_end()
    assert fork.finished == ["a#1", "b#1", "meet#1"]
    assert fork.values["docs"] == ["begin:1", "a:9", "b:9", "c:1", "d:1", "meet:9"]


def test_an_edit_in_a_branch_goes_through_the_join_as_an_update_does() -> None:
    """In the order in which the branches are declared: the last one wins."""
    parent = Drive.of(fork_flow(), limit=1).to_end()
    fork, _ = forked(parent, "d#1", limit=9)
    assert fork.token("d#1").view.values["limit"] == 9
    assert fork.to_end().values["limit"] == 9


def test_an_edit_sets_a_key_that_has_a_reducer() -> None:
    """Outside of branches: the step sees the new value, and what comes later is added to it."""
    parent = Drive.of(fork_flow(), limit=1).to_end()
    fork, _ = forked(parent, "meet#1", docs=["x"])
    assert fork.to_end().values["docs"] == ["x", "meet:1"]


def test_edits_at_the_same_point_are_kept_by_a_fork_of_the_fork() -> None:
    """The step sees what it saw in the fork, and the new edits."""
    parent = Drive.of(fork_flow(), limit=1).to_end()
    first, made = forked(parent, "begin#1", limit=5, docs=["x"])
    ancestors = (Ancestor(parent.journal, made.seq, made.without),)
    second, _ = forked(first, "begin#1", ancestors, limit=7)
    assert dict(second.token("begin#1").view.values) == {"limit": 7, "docs": ["x"]}


def test_an_edit_behind_the_point_is_dropped_and_one_before_it_is_kept() -> None:
    """An edit belongs to its place as a result does."""
    parent = Drive.of(fork_flow(), limit=1).to_end()
    first, made = forked(parent, "b#1", limit=5)
    first.to_end()
    ancestors = (Ancestor(parent.journal, made.seq, made.without),)
    before, _ = forked(first, "a#1", ancestors)
    assert before.to_end().run.view == parent.run.view
    behind, _ = forked(first, "meet#1", ancestors)
    assert behind.finished == []
    assert behind.token("meet#1").view.values["limit"] == 5


def test_an_edit_is_dropped_also_if_its_step_finished_after_the_last_row_that_is_kept() -> None:
    """The edit stands before it in the journal, among rows that are read."""
    parent = Drive.of(fork_flow(), limit=1).finish("begin#1", "a#1")
    first, made = forked(parent, "b#1", limit=5)
    first.finish("c#1", "b#1")
    second, _ = forked(first, "a#1", (Ancestor(parent.journal, made.seq, made.without),))
    assert second.token("a#1").view.values["limit"] == 1
    assert second.to_end().finished == ["a#1", "b#1", "d#1", "meet#1"]


def test_a_branch_that_lost_a_race_is_no_point_and_the_one_that_won_is() -> None:
    """What is kept has passed it by: its winner does not depend on it."""
    flow = graph("race", tells("begin") >> race(tells("a"), tells("b")) >> tells("out"), state=State)
    parent = Drive.of(flow, limit=1).finish("begin#1", "a#1").to_end()
    with pytest.raises(PointUnknown, match="a race that another branch has won"):
        forked(parent, "b#1")
    fork, _ = forked(parent, "a#1")
    assert fork.finish("b#1").to_end().finished == ["b#1", "out#1"]


def test_forks_in_a_loop_keep_the_turns_before() -> None:
    """A turn is a firing of its own."""

    def turn(state: dict[str, Any]) -> dict[str, Any]:
        return {"docs": ["turn"], "limit": state.get("limit", 0) + 1}

    it = step(name="turn")(turn)
    flow = graph("loop", it >> branch(lambda s: s.limit < 4, {True: it, False: tells("out")}), state=State)
    parent = Drive.of(flow).to_end()
    fork, _ = forked(parent, "turn#3", limit=-1)
    assert fork.to_end().finished == ["turn#3", "turn#4", "turn#5", "turn#6", "turn#7", "out#1"]


def test_a_signal_that_was_taken_before_the_point_stays_taken_and_the_mailbox_is_empty() -> None:
    """Numbers of deliveries are those of the parent's mailbox: the fork counts its own."""
    flow = graph("gate", tells("a") >> wait("go") >> tells("b"))
    parent = Drive.of(flow).finish("a#1")
    parent.tell(WaitFinished("go#1", {"by": "ana"}, "go", None, "go", 7, 7)).finish("b#1")
    fork, _ = forked(parent, "b#1")
    assert fork.values["go"] == {"by": "ana"}
    assert (fork.run.heard, fork.run.floor, fork.run.mail) == ({}, 0, 0)


def test_a_failed_sibling_gets_new_attempts_in_a_fork() -> None:
    """Or the fork would fail at once, because of what it was not forked for."""
    parent = Drive.of(fork_flow(), limit=1).finish("begin#1")
    parent.fail("c#1")
    fork, _ = forked(parent, "a#1", limit=2)
    assert fork.to_end().run.status is Status.COMPLETED


@pytest.mark.parametrize("at", ["meet#1", "nowhere#1", "a", ""])
def test_a_point_that_the_run_never_came_to_is_an_error_that_lists_the_paths(at: str) -> None:
    """With the nearest one."""
    parent = Drive.of(fork_flow(), limit=1).finish("begin#1", "a#1")
    with pytest.raises(PointUnknown, match=r"begin#1, a#1, c#1, b#1") as raised:
        forked(parent, at)
    assert ("did you mean 'a#1'" in str(raised.value)) == (at == "a")


# ---------------------------------------------------------------------------------------------------- moments


@given(flows, seeds)
def test_a_moment_is_what_the_step_saw(flow: Graph, random: Any) -> None:
    """Before and after, in the token's own view, whatever its siblings did."""
    drive = Drive.of(flow).to_end(random.choice)
    at = random.choice(drive.finished)
    it = moment(flow, begin(flow, ID, {}), drive.journal, at)
    assert dict(it.before.values) == drive.saw[at]
    assert it.finished
    assert [*it.before.values.get("log", []), it.result["log"][0]] == it.values["log"]


def test_a_moment_of_a_step_that_stands_or_of_a_row() -> None:
    """A failed step has what it saw; a row of the run as a whole has the run's state."""
    flow = fork_flow()
    drive = Drive.of(flow, limit=1).finish("begin#1", "c#1").fail("a#1")
    beginning = begin(flow, ID, {"limit": 1})
    stands = moment(flow, beginning, drive.journal, "a#1")
    assert (stands.finished, stands.token, stands.values["docs"]) == (False, "begin#1[0]", ["begin:1"])
    assert moment(flow, beginning, drive.journal, 2).values["docs"] == ["begin:1", "c:1"]
    assert moment(flow, beginning, drive.journal, 3).path == "a#1"
    drive = Drive.of(flow, limit=1).to_end()
    whole = moment(flow, beginning, drive.journal, len(drive.journal))
    assert (whole.path, whole.values) == ("", drive.values)
    for where in (99, "d#7"):
        with pytest.raises(PointUnknown):
            moment(flow, beginning, drive.journal, where)


def test_the_row_of_a_fork_comes_back_as_it_was() -> None:
    """Edits are values as a step's are."""
    event = RunForked("a#1", {"docs": ["x"], "at": NOW}, ID, ("step `a` changed",))
    assert from_entry(to_entry(event)) == event
