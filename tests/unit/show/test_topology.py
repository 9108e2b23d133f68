"""What of a flow is drawn, from its code and from its stored spec alike."""

from __future__ import annotations

from flowbook.graph.expression import END_NODE, START_NODE, branch
from flowbook.graph.flow import graph
from flowbook.graph.race import race
from flowbook.graph.source import describe
from flowbook.graph.step import step
from flowbook.show.layout import arrange
from flowbook.show.svg import draw
from flowbook.show.text import flow_plain
from flowbook.show.topology import Kind, Topology, topology_of
from tests.unit.show.samples import SPEC


@step(retries=3, timeout=30)
def search(): ...
@step
def judge(): ...
@step
def write(): ...
@step
def left(): ...
@step
def right(): ...
@step
def report(): ...


def ends(it: Topology) -> set[tuple[str, str, str]]:
    names = {p.id: p.name or p.kind.value for p in it.places}
    return {(names[w.source], names[w.target], w.label) for w in it.ways}


TOPOLOGY = START_NODE >> search >> judge >> branch(lambda s: s.judge, {True: write, False: search})
WHOLE = graph("research", TOPOLOGY, write >> [left, right] >> report >> END_NODE)


def test_branches_have_labels_and_forks_have_bars() -> None:
    """One of these is told from both of these."""
    assert ends(topology_of(WHOLE)) == {
        ("START", "search", ""), ("search", "judge", ""), ("judge", "write", "True"), ("judge", "search", "False"),
        ("write", "bar", ""), ("bar", "left", ""), ("bar", "right", ""), ("left", "bar", ""), ("right", "bar", ""),
        ("bar", "report", ""), ("report", "END", ""),
    }  # fmt: skip


def test_a_spec_is_drawn_like_the_code() -> None:
    """A run whose code is not known here has the same picture."""
    assert ends(topology_of(SPEC)) == ends(topology_of(WHOLE))


def test_what_the_store_writes_is_drawn_like_the_code() -> None:
    """The spec of `describe` has all that the picture needs."""
    from flowbook.graph.source import describe

    assert ends(topology_of(describe(WHOLE).spec)) == ends(topology_of(WHOLE))


def test_ids_are_ours() -> None:
    """No text of a user's becomes an id."""
    assert all(p.id.isalnum() for p in topology_of(WHOLE).places)


def test_a_policy_is_noted() -> None:
    """Before anything runs the card says how often it will be tried."""
    notes = {p.name: p.note for p in topology_of(WHOLE).places}
    assert notes["search"] == "3 retries · ≤ 30 s"
    assert notes["judge"] == ""


def test_a_loop_around_a_join_goes_straight_to_it() -> None:
    """Only what comes out of the fork's branches goes through its bar."""
    again = graph("again", write >> [left, right] >> report >> branch(lambda s: 1, {"more": judge, "done": END_NODE}),
                  judge >> report)  # fmt: skip
    assert ("judge", "report", "") in ends(topology_of(again))


def test_a_piece_of_topology_is_drawn() -> None:
    """`a >> b` by itself shows what it is, mistakes included."""
    assert ends(topology_of(search >> judge)) == {("search", "judge", "")}
    assert [p.kind for p in topology_of(search).places] == [Kind.STEP]
    assert ("search", "'judge' is a text: name the step itself…", "") in ends(topology_of(search >> ["judge"]))


def test_a_damaged_spec_is_drawn_as_far_as_it_goes() -> None:
    """Looking at a run must not fail because of what is stored."""
    for spec in ({}, {"nodes": None}, {"nodes": [{}, 3, {"name": "a", "ways": [["gone"]]}], "entry": ["x"]}):
        assert topology_of(spec).places


def test_a_race_is_told_from_a_fork() -> None:
    """By its bar and by what is written on the way to it, drawn from the code and from the spec alike."""
    raced = graph("f", search >> race(left, right) >> report)
    forked = graph("f", search >> [left, right] >> report)
    it = topology_of(raced)
    assert ("search", "race", "first wins") in ends(it)
    assert ends(topology_of(describe(raced).spec)) == ends(it)
    assert [p.kind for p in topology_of(forked).places].count(Kind.RACE) == 0
    assert "search -> left (first wins), right (first wins)" in flow_plain(raced)
    assert draw(arrange(it)) != draw(arrange(topology_of(forked)))


def test_a_case_that_leads_into_a_race_keeps_its_label() -> None:
    """Both are written on the way."""
    it = topology_of(graph("f", judge >> branch(lambda s: s.judge, {True: race(left, right), False: END_NODE})))
    assert ("judge", "race", "True · first wins") in ends(it)
