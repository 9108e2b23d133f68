"""Maps, purely: which items are wanted, whatever order they finish in, and what the record costs."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbook.errors import IllegalTransition
from flowbook.graph.flow import graph
from flowbook.graph.mapping import map_
from flowbook.graph.step import step
from flowbook.plan import snapshots
from flowbook.plan.apply import apply, begin, fold
from flowbook.plan.commands import BeginMap, CollectItem, EndMap, FailRun, RunChild, StartStep
from flowbook.plan.decide import decide
from flowbook.plan.events import (
    AttemptFailed,
    ChildStarted,
    Event,
    ItemFinished,
    MapBegan,
    MapFinished,
    RunFailed,
    RunRetried,
)
from flowbook.plan.mapped import Mapped
from flowbook.plan.mapping import finished, is_complete, is_open, under_way, wanted
from flowbook.plan.records import Child, Fan, Run
from tests.unit.plan.driving import BOOM, ID, NOW


@step
def fetch(n: int) -> int:
    return n


CHILD = UUID(int=7)
FLOW = graph("f", map_(fetch, over="xs", into="ys", concurrency=3))


def told(run: Run, *events: Event) -> Run:
    return fold(FLOW, run, [(run.seq + i, e) for i, e in enumerate(events, 1)])


def begun(total: int) -> Run:
    return told(begin(FLOW, ID, {"xs": list(range(total))}), MapBegan("fetch#1", total))


@given(st.integers(1, 60), st.integers(1, 9), st.data())
def test_every_item_runs_once_and_never_more_than_so_many_at_a_time(
    total: int, at_once: int, data: st.DataObject
) -> None:
    """Whatever finishes first; and the record never grows with the list."""
    fan, under_way, done = Fan(total), set[int](), set[int]()
    while not is_complete(fan):
        want = wanted(fan, at_once)
        assert under_way <= set(want), "what is under way stays wanted"
        under_way |= set(want)
        assert len(under_way) <= at_once
        assert len(fan.open) < at_once
        assert {i for i in range(total) if is_open(fan, i)} == set(range(total)) - done
        index = data.draw(st.sampled_from(sorted(under_way)))
        under_way.remove(index)
        done.add(index)
        fan = finished(fan, index, failed=False)
    assert (done, wanted(fan, at_once)) == (set(range(total)), ())


@pytest.mark.parametrize("index", [0, 4, 7, -1])
def test_a_second_outcome_of_an_item_is_illegal(index: int) -> None:
    """As is one of an item that the list does not have."""
    with pytest.raises(IllegalTransition, match=f"item {index} of a map of 7"):
        finished(Fan(7, 5, frozenset({1})), index, failed=False)


def test_a_large_map_costs_what_its_concurrency_costs() -> None:
    """A hundred thousand items, the first of which does not end: the record stays as small as it began."""
    run = begun(100_000)
    for index in range(1, 2_000):
        run = told(run, ItemFinished(f"fetch#1[{index}]", 1, "x" * 1000))
    assert run.fans["fetch#1"] == Fan(100_000, 2_000, frozenset({0}))
    starts = [c.path for c in decide(FLOW, run, NOW) if isinstance(c, StartStep)]
    assert starts == ["fetch#1[0]", "fetch#1[2000]", "fetch#1[2001]"]
    assert "fetch#1" in run.current
    assert len(run.current) < 200


def test_a_map_begins_runs_and_ends() -> None:
    """The commands of each moment; its results stay where they are, and the state holds a reference."""
    run = begin(FLOW, ID, {"xs": [1, 2]})
    assert decide(FLOW, run, NOW) == (BeginMap("fetch#1", "", "fetch"),)
    run = told(run, MapBegan("fetch#1", 2), ItemFinished("fetch#1[1]", 1, 2))
    assert decide(FLOW, run, NOW) == (StartStep("fetch#1[0]", "", "fetch", 1),)
    run = told(run, ItemFinished("fetch#1[0]", 1, 1))
    assert decide(FLOW, run, NOW) == (EndMap("fetch#1", "", "fetch"),)
    run = told(run, MapFinished("fetch#1", 2, 0, "ys", None))
    assert run.view.values["ys"] == Mapped(ID, "fetch#1", 2)
    assert run.fans == {}


def test_a_failed_item_fails_the_run_or_is_collected() -> None:
    """As the map says; a retry of the run makes it wanted again."""
    failed = AttemptFailed("fetch#1[1]", 1, BOOM, lost=False, final=True, retry_at=None)
    run = told(begun(5), failed)
    assert decide(FLOW, run, NOW) == (FailRun("fetch#1[1]", BOOM),)
    run = told(run, RunFailed("fetch#1[1]", BOOM), RunRetried("me"))
    assert [c.path for c in decide(FLOW, run, NOW) if isinstance(c, StartStep)] == [f"fetch#1[{i}]" for i in range(3)]
    collecting = graph("f", map_(fetch, over="xs", into="ys", concurrency=2, on_error="collect"))
    run = told(begun(5), failed)
    assert decide(collecting, run, NOW) == (
        StartStep("fetch#1[0]", "", "fetch", 1), CollectItem("fetch#1[1]", 1, BOOM),
    )  # fmt: skip
    assert told(run, ItemFinished("fetch#1[1]", 0, None)).fans["fetch#1"] == Fan(5, 2, frozenset({0}), 1)


def test_an_item_of_a_mapped_flow_is_a_child_until_it_has_its_outcome() -> None:
    """Wanted at the item's path, remembered as long as it lives, and never more of them than may be under way."""
    of_flow = graph("f", map_(graph("page", fetch), over="xs", into="ys", concurrency=2))
    run = begin(of_flow, ID, {"xs": [1, 2, 3, 4]})
    assert decide(of_flow, run, NOW) == (BeginMap("page#1", "", "page"),)
    run = told(run, MapBegan("page#1", 4))
    assert decide(of_flow, run, NOW) == tuple(RunChild(f"page#1[{i}]", "", "page") for i in (0, 1))
    run = told(run, *(ChildStarted(f"page#1[{i}]", CHILD, "page") for i in (0, 1)))
    assert run.children == {f"page#1[{i}]": Child(CHILD) for i in (0, 1)}
    assert under_way(of_flow, run) == {"page#1"}, "what a child does is not what this process does"
    run = told(run, ItemFinished("page#1[1]", 1, {"n": 2}))
    assert run.children == {"page#1[0]": Child(CHILD)}
    assert [c.path for c in decide(of_flow, run, NOW) if isinstance(c, RunChild)] == ["page#1[0]", "page#1[2]"]


def test_a_child_of_an_item_that_failed_is_tried_again_by_a_retry_or_collected() -> None:
    """A retry of the run makes it wanted again and says that it is to be retried; a collected one is forgotten."""
    page = graph("page", fetch)
    of_flow = graph("f", map_(page, over="xs", into="ys", concurrency=2))
    collecting = graph("f", map_(page, over="xs", into="ys", concurrency=2, on_error="collect"))
    failed = AttemptFailed("page#1[0]", 1, BOOM, lost=False, final=True, retry_at=None)
    run = told(begin(of_flow, ID, {"xs": [1, 2]}), MapBegan("page#1", 2), ChildStarted("page#1[0]", CHILD, "page"))
    run = told(run, failed)
    assert decide(of_flow, run, NOW) == (FailRun("page#1[0]", BOOM),)
    assert decide(collecting, run, NOW) == (CollectItem("page#1[0]", 0, BOOM), RunChild("page#1[1]", "", "page"))
    assert told(run, ItemFinished("page#1[0]", 0, None)).children == {}
    run = told(run, RunFailed("page#1[0]", BOOM), RunRetried("me"))
    assert run.children == {"page#1[0]": Child(CHILD, again=True)}
    assert decide(of_flow, run, NOW) == tuple(RunChild(f"page#1[{i}]", "", "page") for i in (0, 1))
    assert told(run, ChildStarted("page#1[0]", CHILD, "page")).children == {"page#1[0]": Child(CHILD)}


def test_a_snapshot_carries_a_map_under_way() -> None:
    """Folding on from it is folding from the beginning."""
    run = told(begun(9), ItemFinished("fetch#1[2]", 1, 5), ItemFinished("fetch#1[0]", 0, 5))
    again = snapshots.load(replace(run, fans={}, tokens={}), snapshots.dump(run))
    assert again == run
    assert apply(FLOW, again, ItemFinished("fetch#1[1]", 1, 5)) == apply(FLOW, run, ItemFinished("fetch#1[1]", 1, 5))


@pytest.mark.parametrize("path", ["fetch#1[2]", "fetch#1[9]", "other#1[0]", "fetch#2[0]"])
def test_an_attempt_of_an_item_that_is_not_awaited_is_illegal(path: str) -> None:
    """A damaged journal is found out."""
    run = told(begun(5), ItemFinished("fetch#1[2]", 1, None))
    with pytest.raises(IllegalTransition):
        told(run, AttemptFailed(path, 1, BOOM, lost=False, final=False, retry_at=None))
