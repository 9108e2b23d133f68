"""Edges that were taken: exactly those that a run has gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flowbook.observe.views import RunView, State, StepView
from flowbook.plan.paths import node_of
from flowbook.show.taken import taken
from flowbook.show.topology import Topology, topology_of
from tests.unit.show.samples import SPEC

Steps = dict[str, tuple[State, int | None]]


def gone(view: RunView, topology: Topology) -> set[str]:
    """Taken edges as ``source>target``; bars are ``|``."""
    names = {p.id: p.name or "|" for p in topology.places}
    return {f"{names[topology.ways[i].source]}>{names[topology.ways[i].target]}" for i in taken(view, topology)}


DONE = (State.FINISHED, None)
FORKED = {"search#1": DONE, "judge#1": (State.FINISHED, 0), "write#1": DONE}
BEFORE = {"START>search", "search>judge", "judge>write", "write>|", "|>left", "|>right"}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param({}, set(), id="nothing has begun"),
        pytest.param({"search#1": (State.RUNNING, None)}, {"START>search"}, id="the first step runs"),
        pytest.param({"search#1": (State.FAILED, None)}, {"START>search"}, id="the first step failed"),
        pytest.param(
            {"search#1": DONE, "judge#1": (State.FINISHED, 1), "search#2": (State.RUNNING, None)},
            {"START>search", "search>judge", "judge>search"},
            id="a branch goes back",
        ),
        pytest.param(FORKED, BEFORE, id="a fork goes all its ways"),
        pytest.param(
            {**FORKED, "left#1": DONE, "right#1": (State.RUNNING, None)}, {*BEFORE, "left>|"}, id="one has arrived"
        ),
        pytest.param(
            {**FORKED, "left#1": DONE, "right#1": DONE, "report#1": (State.RUNNING, None)},
            {*BEFORE, "left>|", "right>|", "|>report"},
            id="all have arrived",
        ),
        pytest.param({**FORKED, "left#1": (State.CANCELLED, None)}, BEFORE, id="a loser took none"),
        pytest.param({"search#1": (State.SKIPPED, None)}, {"START>search", "search>judge"}, id="skipped goes on"),
        pytest.param({"search#1": (State.UNDONE, None)}, {"START>search", "search>judge"}, id="undone had gone on"),
        pytest.param(
            {"search#1": (State.RUNNING, None), "search#1/judge#1": DONE}, {"START>search"}, id="calls take no edges"
        ),
    ],
)
def test_the_edges_taken_are_those_a_run_has_gone(
    steps: Steps, expected: set[str], make_view: Callable[..., RunView]
) -> None:
    """Branches, loops, forks and joins: by what has finished and by which way it went."""
    found = tuple(StepView(path, node_of(path), state, (), None, route) for path, (state, route) in steps.items())
    topology = topology_of(SPEC)
    assert gone(make_view(steps=found), topology) == expected


def test_the_edge_to_the_end_is_taken_too(make_view: Callable[..., RunView]) -> None:
    """A step that ends the run has gone to END."""
    steps = (StepView("report#1", "report", State.FINISHED, (), None, None),)
    assert "report>END" in gone(make_view(steps=steps), topology_of(SPEC))
