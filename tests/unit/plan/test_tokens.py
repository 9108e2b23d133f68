"""Tokens: where a run goes on, what each branch sees, what the join makes of it."""

from __future__ import annotations

import itertools
import operator
from typing import Annotated, Any, TypedDict

import pytest

from flowbook.errors import IllegalTransition, StateError
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import START_NODE as START
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.step import Step, step, value
from flowbook.plan.commands import CompleteRun, StartStep
from flowbook.plan.events import StepFinished
from flowbook.plan.records import ROOT, Phase
from tests.unit.plan.driving import Drive


class Log(TypedDict, total=False):
    """A list that every step adds its name to."""

    log: Annotated[list[str], operator.add]
    n: int
    said: str


def named(name: str, **update: Any) -> Step:
    """A step that logs its name."""

    def body() -> dict[str, Any]:
        return {"log": [name], **update}

    return step(name=name)(body)


a, b, c, d, e, f = (named(n) for n in "abcdef")


def test_a_line_fires_each_step_once_and_ends() -> None:
    """One token, one path per step, and the end."""
    drive = Drive.of(graph("line", a >> b >> c, state=Log))
    assert drive.wanted() == (StartStep("a#1", ROOT, "a", 1),)
    drive.finish("a#1", "b#1", "c#1")
    assert drive.wanted() == (CompleteRun(),)
    assert drive.values["log"] == ["a", "b", "c"]
    assert set(drive.run.tokens) == {ROOT}
    assert drive.run.tokens[ROOT].deltas == ()
    assert not drive.run.scopes


def test_a_fork_waits_for_all_its_branches() -> None:
    """The join fires once, when the last branch has come."""
    drive = Drive.of(graph("fork", a >> [b, c] >> d, state=Log)).finish("a#1")
    assert list(drive.ready()) == ["b#1", "c#1"]
    drive.finish("c#1")
    assert list(drive.ready()) == ["b#1"]
    drive.finish("b#1")
    assert list(drive.ready()) == ["d#1"]
    assert set(drive.run.tokens) == {ROOT}
    assert drive.run.tokens[ROOT].deltas == (), "what is merged is not kept twice: state grows linearly"
    assert not drive.run.scopes


@pytest.mark.parametrize("order", list(itertools.permutations(["b#1", "c#1", "d#1"])), ids=" ".join)
def test_deltas_are_reduced_in_declaration_order(order: tuple[str, ...]) -> None:
    """Two runs give the same lists, and the same last writer, whoever is faster."""
    first, second, third = named("b", said="b"), named("c", said="c"), named("d", said="d")
    drive = Drive.of(graph("fork", a >> [first, second, third] >> e, state=Log)).finish("a#1", *order)
    assert drive.values == {"log": ["a", "b", "c", "d"], "said": "d"}
    assert list(drive.run.view.results) == ["a", "b", "c", "d"]


def test_a_branch_never_sees_a_siblings_delta() -> None:
    """Each sees the state at the fork plus its own past; so a retry sees the same again."""
    drive = Drive.of(graph("fork", a >> [b >> c, d >> e] >> f, state=Log))
    drive.finish("a#1", "b#1", "d#1", "c#1", "e#1", "f#1")
    assert {path: seen.get("log") for path, seen in drive.saw.items()} == {
        "a#1": None,
        "b#1": ["a"],
        "d#1": ["a"],
        "c#1": ["a", "b"],
        "e#1": ["a", "d"],
        "f#1": ["a", "b", "c", "d", "e"],
    }


def test_the_whole_run_shows_no_delta_of_a_branch_before_the_join() -> None:
    """What the root sees is the state at the fork until the scope closes."""
    drive = Drive.of(graph("fork", a >> [b, c] >> d, state=Log)).finish("a#1", "b#1")
    assert drive.values["log"] == ["a"]


def test_nested_forks_close_from_the_inside() -> None:
    """The inner join is one branch's step; the outer deltas keep declaration order."""
    g = named("g")
    drive = Drive.of(graph("nest", a >> [b >> [c, d] >> e, f] >> g, state=Log))
    drive.finish("a#1", "f#1", "b#1", "d#1", "c#1")
    assert list(drive.ready()) == ["e#1"]
    assert drive.saw["d#1"]["log"] == ["a", "b"]
    drive.finish("e#1")
    assert drive.values["log"] == ["a", "b", "c", "d", "e", "f"]
    assert drive.saw["e#1"]["log"] == ["a", "b", "c", "d"]
    assert list(drive.ready()) == ["g#1"]


def test_forks_that_share_their_join_close_both() -> None:
    """An inner fork may meet at the outer fork's join."""
    drive = Drive.of(graph("nest", a >> [b, c] >> f, b >> [d, e] >> f, state=Log))
    drive.finish("a#1", "c#1", "b#1", "e#1")
    assert list(drive.ready()) == ["d#1"]
    drive.finish("d#1")
    assert list(drive.ready()) == ["f#1"]
    drive.finish("f#1")
    assert drive.values["log"] == ["a", "b", "d", "e", "c", "f"]
    assert drive.wanted() == (CompleteRun(),)


def test_a_branch_inside_a_fork_merges_without_ado() -> None:
    """Inside a fork's branch a node fires whenever a token reaches it."""
    late, never, merged = named("late"), named("never"), named("merged")
    flow = graph(
        "inside",
        a >> [b, c],
        c >> d,
        b >> branch(lambda s: "x" in s.get("log"), {True: never, False: late}) >> merged >> d,
        state=Log,
    )
    drive = Drive.of(flow).finish("a#1", "b#1")
    assert set(drive.ready()) == {"late#1", "c#1"}
    drive.finish("late#1", "merged#1")
    assert set(drive.ready()) == {"c#1"}
    drive.finish("c#1", "d#1")
    assert drive.values["log"] == ["a", "b", "late", "merged", "c", "d"]


@pytest.mark.parametrize("order", [("b#1", "c#1"), ("c#1", "b#1")], ids=" ".join)
def test_a_branch_that_ends_does_not_hold_up_the_join(order: tuple[str, str]) -> None:
    """A token routed to END dies, its siblings go on, and what it changed is kept."""
    flow = graph("early", a >> [b, c], c >> d, b >> branch(lambda s: "on", {"on": END, "off": d}), state=Log)
    drive = Drive.of(flow).finish("a#1", *order)
    assert list(drive.ready()) == ["d#1"]
    assert drive.values["log"] == ["a", "b", "c"]
    drive.finish("d#1")
    assert drive.wanted() == (CompleteRun(),)


def test_a_fork_whose_branches_all_end_ends_the_run() -> None:
    """A false branch neither hangs the run nor goes on to the join."""
    out = branch(lambda s: True, {True: END, False: d})
    drive = Drive.of(graph("ends", a >> [b, c], b >> out, c >> out, state=Log)).finish("a#1", "c#1", "b#1")
    assert drive.wanted() == (CompleteRun(),)
    assert drive.values["log"] == ["a", "b", "c"]


def test_branches_that_never_meet_run_to_the_end_by_themselves() -> None:
    """Forks without a join: the run ends with the last of them."""
    drive = Drive.of(graph("open", a >> [b >> d, c], state=Log)).finish("a#1", "c#1", "b#1")
    assert list(drive.ready()) == ["d#1"]
    drive.finish("d#1")
    assert drive.wanted() == (CompleteRun(),)
    assert drive.values["log"] == ["a", "b", "d", "c"]


def test_start_may_fork() -> None:
    """A flow that begins with several steps begins them all."""
    drive = Drive.of(graph("start", START >> [a, b] >> c, state=Log))
    assert set(drive.ready()) == {"a#1", "b#1"}
    assert {t.id for t in drive.run.tokens.values()} == {ROOT, "START#1[0]", "START#1[1]"}
    drive.finish("b#1", "a#1", "c#1")
    assert drive.values["log"] == ["a", "b", "c"]


def test_a_branch_may_be_the_join_itself() -> None:
    """A skip edge: `a >> [b, c]`, `c >> b`: b waits for c and then fires once."""
    drive = Drive.of(graph("skip", a >> [b, c], c >> b >> d, state=Log)).finish("a#1")
    assert list(drive.ready()) == ["c#1"]
    assert {t.phase for t in drive.run.tokens.values()} == {Phase.FORKED, Phase.JOINING, Phase.READY}
    drive.finish("c#1")
    assert list(drive.ready()) == ["b#1"]
    drive.finish("b#1", "d#1")
    assert drive.values["log"] == ["a", "c", "b", "d"]


def test_a_loop_numbers_the_firings() -> None:
    """Identity is the path: the same node again is another path."""

    def count(n: int = 0) -> dict[str, Any]:
        return {"n": n + 1, "log": ["count"]}

    counting = step(name="count")(count)
    flow = graph("loop", counting >> branch(lambda s: s.n < 3, {True: counting, False: END}), state=Log)
    drive = Drive.of(flow).to_end()
    assert drive.finished == ["count#1", "count#2", "count#3"]


def test_the_router_sees_the_state_after_the_merge() -> None:
    """`while n < 3` runs to 3, not to 4."""

    def count(n: int) -> dict[str, Any]:
        return {"n": n + 1}

    counting = step(name="count")(count)
    flow = graph("loop", counting >> branch(lambda s: s["n"] < 3, {True: counting, False: END}), state=Log)
    assert Drive.of(flow, n=0).to_end().values["n"] == 3


def test_a_loop_around_a_fork_opens_a_new_scope_each_time() -> None:
    """A token of an outer scope that comes to the join again fires at once; paths are numbered on."""

    def meet(n: int = 0) -> dict[str, Any]:
        return {"n": n + 1, "log": ["meet"]}

    meeting = step(name="meet")(meet)
    flow = graph("loop", a >> [b, c] >> meeting >> branch(lambda s: s.n < 3, {True: a, False: END}), state=Log)
    drive = Drive.of(flow)
    scopes = []
    for n in (1, 2, 3):
        drive.finish(f"a#{n}")
        scopes += list(drive.run.scopes)
        drive.finish(f"c#{n}", f"b#{n}", f"meet#{n}")
    assert scopes == ["a#1", "a#2", "a#3"]
    assert drive.values["log"] == ["a", "b", "c", "meet"] * 3
    assert drive.wanted() == (CompleteRun(),)


def test_a_step_that_loops_to_the_join_directly_fires_it_again() -> None:
    """The join belongs to the fork's scope only while the scope is open."""

    def meet(n: int = 0) -> dict[str, Any]:
        return {"n": n + 1}

    meeting = step(name="meet")(meet)
    again = named("again")
    flow = graph(
        "around",
        a >> [b, c] >> meeting >> branch(lambda s: s.n < 3, {True: again, False: END}),
        again >> meeting,
        state=Log,
    )
    drive = Drive.of(flow).to_end()
    assert drive.finished == ["a#1", "b#1", "c#1", "meet#1", "again#1", "meet#2", "again#2", "meet#3"]


@pytest.mark.parametrize("result", [None, {}, [], 0, False, ""], ids=repr)
def test_an_empty_result_is_a_result(result: Any) -> None:
    """None and an empty dict are not "not yet run": the token goes on and does not come back."""

    def body() -> Any:
        return result

    empty = step(name="empty")(body)
    drive = Drive.of(graph("empty", empty >> a)).finish("empty#1")
    assert list(drive.ready()) == ["a#1"]
    assert drive.folded() == drive.run
    if result != {}:
        assert drive.values == {"empty": result}


def test_a_result_is_bound_by_the_steps_name() -> None:
    """A parameter gets the state key, else the whole last result of the step of that name."""
    seen: list[Any] = []

    @step
    def load() -> dict[str, Any]:
        return {"rows": [1, 2], "n": 2}

    @step
    def use(rows: list[int], load: dict[str, Any]) -> list[Any]:
        seen.append((rows, load))
        return [rows, load]

    @step
    def last(use: Any, load: Any) -> None:
        seen.append((use, load))

    drive = Drive.of(graph("bind", load >> use >> last)).to_end()
    update = {"rows": [1, 2], "n": 2}
    assert seen == [([1, 2], update), ([[1, 2], update], update)]
    assert "load" not in drive.values


def test_a_dict_wrapped_as_a_value_is_one_value() -> None:
    """`fb.value(d)` goes under the step's name as it is."""

    @step
    def score() -> Any:
        return value({"auc": 0.5})

    drive = Drive.of(graph("val", score)).to_end()
    assert drive.values == {"score": {"auc": 0.5}}
    assert drive.folded() == drive.run


def test_an_outcome_where_no_token_stands_is_refused() -> None:
    """A second result of a path, or one of a path never reached, is a damaged journal."""
    drive = Drive.of(graph("line", a >> b, state=Log)).finish("a#1")
    for path in ("a#1", "b#2", "c#1"):
        with pytest.raises(IllegalTransition, match=path):
            drive.tell(StepFinished(path, 1, None, {}, None))


def test_a_reducer_that_refuses_names_its_key() -> None:
    """The state's own error, not a bare TypeError."""

    def wrong() -> dict[str, Any]:
        return {"log": 5}

    drive = Drive.of(graph("red", a >> step(name="wrong")(wrong), state=Log)).finish("a#1")
    with pytest.raises(StateError, match="'log'"):
        drive.finish("wrong#1")
    assert list(drive.ready()) == ["wrong#1"]


def test_applying_changes_no_record() -> None:
    """A change returns a new record: the run before it is as it was."""
    from dataclasses import replace

    drive = Drive.of(graph("fork", a >> [b, c] >> d, state=Log))
    while ready := list(drive.ready()):
        before = drive.run
        copy = replace(
            before,
            tokens=dict(before.tokens),
            scopes=dict(before.scopes),
            counts=dict(before.counts),
            troubles=dict(before.troubles),
        )
        drive.finish(ready[0])
        assert before == copy
        assert drive.run != before
