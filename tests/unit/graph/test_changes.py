"""Whether a journal of one definition can be read by another."""

from __future__ import annotations

from typing import Any

import pytest

from flowbook.graph.changes import changed_nodes, same_topology
from flowbook.graph.flow import graph
from flowbook.graph.mapping import map_
from flowbook.graph.race import race
from flowbook.graph.source import describe
from flowbook.graph.step import Step, step
from flowbook.graph.subflow import subflow


def _step(name: str) -> Step:
    def body(x: int = 0) -> int:
        return x

    return step(name=name)(body)


a, b, c = map(_step, "abc")


@pytest.mark.parametrize(
    "one,other",
    [
        (a >> [b, c], a >> race(b, c)),
        (a >> b, a >> map_(b, over="xs")),
        (a >> b, a >> subflow(graph("b", c))),
        (a >> b, b >> a),
    ],
    ids=["all or the first", "once or per item", "here or as a run of its own", "another order"],
)
def test_what_reads_outcomes_in_another_way_is_another_topology(one: Any, other: Any) -> None:
    """Nodes of the same names are not enough: their rows would mean something else."""
    before, after = (describe(graph("f", it)) for it in (one, other))
    assert same_topology(before.spec, before.spec)
    assert not same_topology(before.spec, after.spec)


def test_a_step_that_has_become_a_map_is_a_changed_node() -> None:
    """Its function is the same."""
    before, after = (describe(graph("f", it)) for it in (a >> b, a >> map_(b, over="xs")))
    assert changed_nodes(before, after) == {"b"}
