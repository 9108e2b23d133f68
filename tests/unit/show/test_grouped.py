"""Groups: long chains of a large flow are one card each, and nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowbook.observe.views import RunView, State, StepView
from flowbook.show import live as live_module
from flowbook.show.grouped import group_mark, grouped
from flowbook.show.live import LiveRun
from flowbook.show.taken import taken
from flowbook.show.topology import topology_of


def chain(*names: str, then: list[list[str]] | None = None) -> list[dict[str, Any]]:
    """Nodes that follow each other; the last one goes on as ``then`` says."""
    following = [[[n]] for n in names[1:]] + [then or [[]]]
    return [{"name": n, "ways": ways} for n, ways in zip(names, following, strict=True)]


LONG = {
    "name": "long",
    "entry": ["a1"],
    "nodes": [
        *chain("a1", "a2", "a3", "a4", "a5", then=[["b1"], ["c1"]]),
        *chain("b1", "b2", "b3", "b4"),
        *chain("c1", "c2"),
    ],
}


def test_chains_become_cards_and_what_branches_stays() -> None:
    """Five steps and four are two cards; two steps stay two."""
    topology, groups = grouped(topology_of(LONG))
    assert sorted(groups.values()) == [("a1", "a2", "a3", "a4", "a5"), ("b1", "b2", "b3", "b4")]
    assert [p.name for p in topology.places] == ["START", "a1 … a5", "b1 … b4", "c1", "c2", "END"]
    ids = {p.id for p in topology.places}
    assert all(w.source in ids and w.target in ids for w in topology.ways)


def test_pauses_maps_and_cycles_are_left_alone() -> None:
    """What may have to be decided or looked into is no part of a group, and a cycle never ends one."""
    waits = {"name": "a3", "ways": [["a4"]], "wait": {"signals": [["go", None]], "seconds": None}}
    nodes = [waits if n["name"] == "a3" else n for n in chain("a1", "a2", "a3", "a4", "a5")]
    assert grouped(topology_of({**LONG, "nodes": nodes}))[1] == {}
    ring = chain("a1", "a2", "a3", "a4", "a5", then=[["a1"], []])
    assert len(grouped(topology_of({**LONG, "nodes": ring}))[1]) == 1


@pytest.mark.parametrize(
    ("states", "state", "text"),
    [
        ([], State.PENDING, "0/5"),
        ([State.FINISHED], State.RUNNING, "1/5"),
        ([State.FINISHED, State.RUNNING], State.RUNNING, "1/5 · a2"),
        ([State.FINISHED, State.FAILED], State.FAILED, "1/5 · a2"),
        ([State.FINISHED] * 5, State.FINISHED, "5/5"),
    ],
)
def test_a_group_is_as_its_most_urgent_step(
    states: list[State], state: State, text: str, make_view: Callable[..., RunView]
) -> None:
    """And says how many of its steps have finished."""
    steps = tuple(StepView(f"a{i}#1", f"a{i}", s, (), None, None) for i, s in enumerate(states, 1))
    found = group_mark(("a1", "a2", "a3", "a4", "a5"), make_view(spec=LONG, steps=steps).overview)
    assert (found.state, found.text) == (state, text)


def test_edges_between_groups_are_taken_as_those_between_steps(make_view: Callable[..., RunView]) -> None:
    """The way out of a group is that of its last step."""
    topology, _ = grouped(topology_of(LONG))
    steps = tuple(StepView(f"a{i}#1", f"a{i}", State.FINISHED, (), None, 0) for i in range(1, 6))
    names = {p.id: p.name for p in topology.places}
    gone = {names[topology.ways[i].target] for i in taken(make_view(spec=LONG, steps=steps), topology)}
    assert gone == {"a1 … a5", "b1 … b4"}


def test_a_large_flow_is_shown_in_groups_until_somebody_asks_for_all(
    make_view: Callable[..., RunView], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A click shows each step, another one puts them together again; both pictures are right at once."""
    monkeypatch.setattr(live_module, "CROWD", 6)
    steps = (StepView("a1#1", "a1", State.FINISHED, (), 0.5, 0), StepView("a2#1", "a2", State.RUNNING, (), None, None))
    live = LiveRun(make_view(spec=LONG, steps=steps), {})
    assert live.picture["groups"] == 2
    assert [n["p"] for n in live.nodes.values()] == [[5, 1, 0, 1]]
    group = next(iter(live.nodes))
    assert live._answers["step"]({"node": group})["path"] == "a2#1"
    live._answers["expand"]({"all": True})
    assert sorted(n["s"] for n in live.nodes.values()) == ["finished", "running"]
    assert len(live.picture["names"]) == 11
    live._answers["expand"]({"all": False})
    assert len(live.nodes) == 1
    live.close()
