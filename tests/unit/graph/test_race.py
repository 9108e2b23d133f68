"""Races and forks by name: what they mean in a topology, and which are mistakes."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import flowbook as fb
from flowbook.errors import TopologyError
from flowbook.graph.changes import changes
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import START_NODE as START
from flowbook.graph.expression import branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.pause import sleep, wait, wait_any
from flowbook.graph.race import parallel, race
from flowbook.graph.rebuild import rebuild
from flowbook.graph.sign import sign
from flowbook.graph.source import describe
from flowbook.graph.step import Step, step
from flowbook.ports import Definition

Write = Callable[..., ModuleType]


def _step(name: str) -> Step:
    def body() -> None: ...

    return step(name=name)(body)


a, b, c, d, e = map(_step, "abcde")


def shape(it: Graph) -> Any:
    """All of a graph's topology."""
    ways = {n: node.ways for n, node in it.nodes.items()}
    return ways, it.entry, dict(it.joins), it.races


def mistakes(*topology: Any) -> tuple[str, ...]:
    """What is wrong with a topology."""
    with pytest.raises(TopologyError) as caught:
        graph("f", *topology)
    return caught.value.problems


def test_parallel_is_the_list_form() -> None:
    """Both make the same graph, of steps as of chains."""
    assert shape(graph("f", a >> parallel(b, c >> d) >> e)) == shape(graph("f", a >> [b, c >> d] >> e))
    assert fb.parallel is parallel
    assert fb.race is race


@pytest.mark.parametrize(
    "topology,races,join",
    [
        (a >> race(b, c) >> d, {("a", 0)}, "d"),
        (START >> race(a, b) >> c, {("START", 0)}, "c"),
        (race(a, b) >> c, {("START", 0)}, "c"),
        (a >> race(b >> c, sleep("1h")) >> d, {("a", 0)}, "d"),
        (a >> race(b, wait("go")), {("a", 0)}, None),
        (a >> branch(bool, {True: race(b, c), False: d}) >> e, {("a", 0)}, "e"),
        (a >> branch(bool, {True: d, False: race(b, c)}) >> e, {("a", 1)}, "e"),
        (a >> wait_any({"go": race(b, c), "stop": END}) >> d, {("go_or_stop", 0)}, "d"),
        (a >> wait("go", timeout=5, on_timeout=e) >> race(b, c) >> d, {("go", 0), ("e", 0)}, "d"),
        (a >> race(b >> [c, d] >> e, sleep("1h", name="late")), {("a", 0)}, None),
    ],
)
def test_a_race_is_a_fork_that_is_marked(topology: Any, races: set[tuple[str, int]], join: str | None) -> None:
    """Wherever a fork may stand, a race may; its join is found in the same way."""
    made = graph("f", topology)
    assert made.races == races
    assert {made.joins[fork] for fork in races} == {join}


def test_a_member_may_go_round_for_ever_beside_one_that_ends() -> None:
    """A heartbeat beside the work: the winner stops it. Without a member that can end it is a mistake as ever."""
    beat = a >> sleep(1, name="nap") >> a
    assert graph("f", e >> race(b, beat)).races == {("e", 0)}
    assert "has no way out" in mistakes(e >> race(beat, b >> c >> b))[0]


@pytest.mark.parametrize(
    "topology,problem",
    [
        (a >> race(b) >> c, "a race has 1 member: it takes two or more"),
        (a >> [race(b, c), d] >> e, "a race stands in a list: put a step before it"),
        (a >> race(b, race(c, d)) >> e, "a race stands directly in a race"),
        (a >> race([b, c], d) >> e, "a member of a race begins with b, c: put a step before them"),
        (a >> race(b, b) >> c, "b stands twice in a list"),
    ],
)
def test_a_race_that_cannot_be_one_is_a_mistake(topology: Any, problem: str) -> None:
    """Each is told with the names of the nodes, before anything runs."""
    assert any(p.startswith(problem) for p in mistakes(topology))


def test_a_way_leads_into_a_race_or_elsewhere_and_not_both() -> None:
    """It would not be clear who is raced against whom."""
    said = mistakes(a >> race(b, c) >> e, a >> d >> e)
    assert len(said) == 1
    assert said[0].startswith("a leads into a race of b, c and elsewhere at once: put a step before the race")
    assert "the flow begins with a race of a, b and with other steps" in mistakes(race(a, b) >> d, c >> d)[0]


def test_all_mistakes_are_told_at_once() -> None:
    """Those of a race among the others."""
    said = mistakes(a >> race(b) >> c, d >> "e")
    assert [p for p in said if "a race has 1 member" in p]
    assert [p for p in said if "'e' is a text" in p]


def _stored(flow: Graph) -> Definition:
    told = describe(flow)
    signature = sign(b"k" * 32, "default", flow.name, told.fingerprint, told.spec, told.sources)
    return Definition("default", flow.name, told.fingerprint, told.spec, told.sources, signature)


def test_a_race_belongs_to_the_definition(write: Write) -> None:
    """A fork is another flow, an edit of one into the other is told, and a rebuilt flow races again."""
    made = write(
        """
        from flowbook.graph.race import race
        @step
        def a(): ...
        @step
        def b(): ...
        @step
        def c(): ...
        forked, raced = graph("f", a >> [b, c]), graph("f", a >> race(b, c))
        """
    )
    forked, raced = made.forked, made.raced
    assert forked.fingerprint != raced.fingerprint
    assert changes(describe(forked), describe(raced)) == ("the first behind a wins",)
    assert changes(describe(raced), describe(forked)) == ("all behind a are waited for, not the first",)
    assert rebuild(_stored(raced), key=b"k" * 32).races == {("a", 0)}
