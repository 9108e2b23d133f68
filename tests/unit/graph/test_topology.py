"""What topology expressions mean, and which of them are mistakes."""

from __future__ import annotations

from typing import Any

import pytest

from flowbook.errors import DeclarationError, NotConnected, TopologyError
from flowbook.graph import launch
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import START_NODE as START
from flowbook.graph.expression import branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.step import Step, step


def _step(name: str) -> Step:
    def body() -> None: ...

    return step(name=name)(body)


a, b, c, d, e, f, g = map(_step, "abcdefg")


def pick(state: Any) -> Any:
    return state.x


def ways(it: Graph) -> dict[str, Any]:
    """Node -> its ways out, written shortly."""
    return {n: " | ".join(" ".join(w) or "END" for w in node.ways) for n, node in it.nodes.items()}


def meets(it: Graph) -> dict[str, str | None]:
    return {f"{node}.{way}": join for (node, way), join in it.joins.items()}


# ------------------------------------------------------------------------------------------------------- what it means


@pytest.mark.parametrize(
    "topology,entry,expected",
    [
        (a, "a", {"a": "END"}),
        (a >> b >> c, "a", {"a": "b", "b": "c", "c": "END"}),
        (START >> a >> b >> END, "a", {"a": "b", "b": "END"}),
        (a >> [b, c] >> d, "a", {"a": "b c", "b": "d", "c": "d", "d": "END"}),
        ([a, b] >> c, "a b", {"a": "c", "b": "c", "c": "END"}),
        (START >> (a, b) >> END, "a b", {"a": "END", "b": "END"}),
        (a >> [b >> c, d] >> e, "a", {"a": "b d", "b": "c", "c": "e", "d": "e", "e": "END"}),
        (a >> branch(pick, {1: b, 2: END}), "a", {"a": "b | END", "b": "END"}),
        (a >> branch(pick, {1: b, 2: c}) >> d, "a", {"a": "b | c", "b": "d", "c": "d", "d": "END"}),
        (a >> branch(pick, {1: [b, c], 2: d}) >> e, "a", {"a": "b c | d", "b": "e", "c": "e", "d": "e", "e": "END"}),
        (a >> branch(pick, {1: b >> c, 2: END}) >> d, "a", {"a": "b | END", "b": "c", "c": "d", "d": "END"}),
        (a >> b >> branch(pick, {1: a, 2: END}), "a", {"a": "b", "b": "a | END"}),
        (a >> branch(pick, {1: b, 2: a}) >> d, "a", {"a": "b | a", "b": "d", "d": "END"}),
    ],
)
def test_a_topology_means(topology: Any, entry: str, expected: dict[str, str]) -> None:
    """Entry and ways out; START and END may be left out where they are plain."""
    it = graph("t", topology)
    assert (" ".join(it.entry), ways(it)) == (entry, expected)


def test_several_expressions_are_one_graph() -> None:
    """The lines of a flow cell belong together, and an edge that is said twice is one."""
    it = graph("t", a >> b >> branch(pick, {1: c, 2: a}), c >> d >> END, a >> b)
    assert ways(it) == {"a": "b", "b": "c | a", "c": "d", "d": "END"}


def test_a_fragment_can_be_used_twice() -> None:
    """Fragments are values."""
    head = a >> b
    assert ways(graph("one", head >> c)) == {"a": "b", "b": "c", "c": "END"}
    assert ways(graph("two", head >> d)) == {"a": "b", "b": "d", "d": "END"}


def test_as_makes_a_second_node() -> None:
    """The same step twice is the same node; `as_` is another one."""
    assert ways(graph("t", a >> a.as_("again") >> b)) == {"a": "again", "again": "b", "b": "END"}


@pytest.mark.parametrize(
    "topology,expected",
    [
        (a >> [b, c] >> d, {"a.0": "d"}),
        (a >> [b, c], {"a.0": None}),
        ([a, b] >> c, {"START.0": "c"}),
        (a >> [b >> [c, d] >> e, f] >> g, {"a.0": "g", "b.0": "e"}),
        (a >> [b >> e, c] >> d, {"a.0": "d"}),
        (a >> branch(pick, {1: [b, c], 2: END}) >> d, {"a.0": "d"}),
        (a >> [b, c] >> d >> branch(pick, {1: a, 2: END}), {"a.0": "d"}),
        (a >> [b >> branch(pick, {1: c, 2: d}), e] >> f, {"a.0": "f"}),
        (a >> [b >> c, c], {"a.0": "c"}),
    ],
)
def test_forks_join_where_their_branches_meet(topology: Any, expected: dict[str, str | None]) -> None:
    """Said by `[b, c] >> d`, or found; None where each branch runs to the end."""
    assert meets(graph("t", topology)) == expected


def test_a_branch_inside_a_fork_may_loop() -> None:
    """As long as it stays inside."""
    it = graph("t", a >> [b >> branch(pick, {1: b, 2: c}), d] >> e)
    assert meets(it) == {"a.0": "e"}
    assert ways(it)["b"] == "b | c"


def test_labels_keep_their_types() -> None:
    """True and 1 are different answers of a router."""
    node = graph("t", a >> branch(pick, {True: b, "1": c, None: END})).nodes["a"]
    assert [node.route(label) for label in (True, "1", None, 1, 1.0, "x")] == [0, 1, 2, None, None, None]
    assert node.router is pick


# -------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "topology,said",
    [
        ([a >> b >> a, c], "the cycle of a and b has no way out"),
        ([START >> a, b >> c >> b], "no way leads from START to b and c"),
        ([a >> branch(pick, {1: b, 2: c}) >> branch(pick, {1: END})], "a branch stands behind several steps"),
        ([a >> [b, b]], "b stands twice in a list"),
        ([a >> branch(pick, {1: [b, b]})], "b stands twice in a list"),
        ([a >> [b, c], b >> branch(pick, {1: END, 2: c}), c >> a], "the cycle of a and c has no way out"),
        ([a >> branch(pick, {1: b, 2: END}), b >> c >> [b, a]], "the cycle of b and c has no way out"),
        ([a >> [b, c], b >> branch(pick, {1: END, 2: c}), c >> a], "inside of a fork END ends its own branch only"),
        ([a >> [a, b]], "a forks to itself"),
        ([a >> branch(pick, {1: [a, b], 2: END})], "a forks to itself"),
        ([a >> [b, END]], "a forks to END and to other steps"),
        ([a >> b, a >> END], "a forks to END and to other steps"),
        ([a >> b, a >> branch(pick, {1: END})], "a has a branch behind it and also leads to b"),
        ([a >> branch(pick, {1: b}), a >> branch(pick, {1: END})], "a has 2 branches behind it"),
        ([branch(pick, {1: a})], "a branch has no step before it"),
        ([START >> branch(pick, {1: a})], "put a step between"),
        ([a >> branch(pick, {1: branch(pick, {2: b})})], "branch leads straight to a branch (label 1)"),
        ([a >> branch(pick, {1: []})], "leads nowhere for 1"),
        ([a >> branch(pick, {1: [b, END]})], "leads to END and to steps at once for 1"),
        ([a >> [branch(pick, {1: b}), c]], "a branch stands in a list"),
        ([a >> []], "an empty list"),
        ([a >> "b"], "'b' is a text"),
        ([a >> pick], "'pick' is a plain function: put @step on it"),
        ([a >> 3], "3 is not a step"),
        ([a >> _step("a").as_("b") >> _step("b")], "two different steps are called b"),
        ([a >> END, END >> b], "END leads on to a step"),
        ([a >> START], "START"),
        ([START >> END], "there is no step"),
        ([_step("END") >> a], "a step is called END"),
        ([a >> [b >> d, c >> d], a >> b, b >> e, c >> e], "meet at 2 different steps, d and e"),
        ([START >> a >> b, a >> c, b >> d, c >> d, START >> e >> d, b >> e], "leaves a branch of the fork"),
    ],
)
def test_mistakes_are_named(topology: list[Any], said: str) -> None:
    """With the names of the nodes, before anything runs."""
    with pytest.raises(TopologyError) as caught:
        graph("t", *topology)
    assert any(said in p for p in caught.value.problems), caught.value.problems


def test_all_mistakes_are_reported_at_once() -> None:
    """One error, a line each, no line twice."""
    with pytest.raises(TopologyError) as caught:
        graph("messy", START >> a >> "b", a >> pick, c >> d >> c, a >> "b")
    problems = caught.value.problems
    assert len(problems) == len(set(problems)) == 4
    for said in ("'b' is a text", "'pick' is a plain function", "START to c and d", "cycle of c and d"):
        assert any(said in p for p in problems)
        assert said in str(caught.value)
    assert "flow 'messy' has 4 mistakes" in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "1a", "a-b", "a\n", "ä"])
def test_a_flow_needs_a_name_that_can_be_an_id(name: str) -> None:
    """Letters, digits and _ only."""
    with pytest.raises(DeclarationError, match="cannot be a flow's name"):
        graph(name, a)


def test_the_package_answers_as_its_function() -> None:
    """`flowbook.graph` is both."""
    import flowbook.graph

    assert ways(flowbook.graph("t", a >> b)) == {"a": "b", "b": "END"}


def test_verbs_go_to_the_current_app() -> None:
    """The one that was connected last; without one the error says how to connect."""
    calls: list[Any] = []

    class App:
        def start(self, graph: Any, input: Any, **options: Any) -> Any:
            calls.append((graph.name, input, options))
            return "started"

        def run(self, graph: Any, input: Any, *, key: str | None) -> Any:
            return (graph.name, input, key)

        def runs(self, **conditions: Any) -> Any:
            return conditions

        def plan(self, graph: Any, input: Any, *, against: Any) -> Any:
            return (graph.name, input, against)

        def reuse(self, graph: Any, input: Any, *, against: Any) -> Any:
            return (graph.name, input, against, "reused")

        def prove(self, graph: Any, input: Any, **options: Any) -> Any:
            return (graph.name, input, options)

        def promote(self, graph: Any, **options: Any) -> Any:
            return (graph.name, options)

    app, flow = App(), graph("t", a)
    with pytest.raises(NotConnected, match="connect"):
        flow.run()
    launch.push(app)
    try:
        assert flow.run(x=1, key="k") == ("t", {"x": 1}, "k")
        assert flow.start(x=1, priority=2) == "started"
        assert calls == [("t", {"x": 1}, {"key": None, "namespace": None, "metadata": {}, "priority": 2})]
    finally:
        launch.pop(app)
        launch.pop(app)
