"""Sub-flows as they are declared: what is refused, what is part of the definition, what is rebuilt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import pytest

from flowbook.errors import DeclarationError, SignatureRefused, TopologyError
from flowbook.graph.changes import changes
from flowbook.graph.flow import Graph, graph
from flowbook.graph.portable import obstacles
from flowbook.graph.rebuild import rebuild
from flowbook.graph.sign import sign
from flowbook.graph.source import describe
from flowbook.graph.step import step
from flowbook.graph.subflow import Subflow, subflow
from flowbook.show.layout import arrange
from flowbook.show.svg import draw
from flowbook.show.topology import topology_of

KEY = b"k" * 32
LOCK = object()


def helper(n: int) -> int:
    """What a step of the inner flow calls."""
    return n + 1


@step
def begin() -> dict[str, int]:
    """Before the sub-flow."""
    return {"n": 1}


@step
def add(n: int) -> dict[str, int]:
    """Inside of it."""
    return {"n": helper(n)}


@step
def locked() -> None:
    """Reads what cannot be stored."""
    print(LOCK)


def given(s: Any) -> dict[str, int]:
    """The input of the sub-flow."""
    return {"n": s.n}


INNER = graph("inner", add)


def outer(inner: Graph = INNER, **options: Any) -> Graph:
    """A flow with a sub-flow."""
    return graph("outer", begin >> subflow(inner, **options))


@dataclass
class Stored:
    """A definition as the store has it."""

    namespace: str
    flow: str
    fingerprint: str
    spec: Any
    sources: Any
    signature: str


def stored(flow: Graph) -> Stored:
    """A signed definition."""
    d = describe(flow)
    signature = sign(KEY, "default", flow.name, d.fingerprint, d.spec, d.sources)
    return Stored("default", flow.name, d.fingerprint, d.spec, d.sources, signature)


def sub_of(flow: Graph, name: str = "inner") -> Subflow:
    """A node that is a sub-flow."""
    found = flow.nodes[name].step
    assert isinstance(found, Subflow)
    return found


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (lambda: subflow("inner"), "give it a flow"),  # type: ignore[arg-type]
        (lambda: subflow(add), "give it a flow"),  # type: ignore[arg-type]
        (lambda: subflow(INNER, name="in ner"), "cannot be a node's name"),
        (lambda: subflow(INNER, into="a b"), "cannot be a node's name"),
        (lambda: subflow(INNER, key="k"), "the key is a function"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_work_is_refused_at_once(wrong: Any, text: str) -> None:
    """With what to write instead."""
    with pytest.raises(DeclarationError, match=text):
        wrong()


def test_two_different_sub_flows_of_one_name_are_a_mistake() -> None:
    """And so is a key of the state that is not declared."""
    with pytest.raises(TopologyError, match="two different sub-flows are called inner"):
        graph("f", subflow(INNER) >> begin >> subflow(INNER))
    again = graph("f", subflow(INNER) >> begin >> subflow(INNER).as_("again"))
    assert set(again.nodes) == {"inner", "begin", "again"}
    with pytest.raises(TopologyError, match="'elsewhere', which the state does not declare"):
        graph("f", begin >> subflow(INNER, into="elsewhere"), state=Numbers)


class Numbers(TypedDict, total=False):
    """A state."""

    n: int


def test_the_code_of_a_sub_flow_is_part_of_its_parents_definition() -> None:
    """Another body, helper, input or place of the result is another flow, and the report says which."""
    plain = outer()
    assert plain.fingerprint == outer().fingerprint
    other = step(name="add")(lambda n: {"n": helper(n) + 2})
    changed = outer(graph("inner", other))
    assert changed.fingerprint != plain.fingerprint
    assert changes(describe(plain), describe(changed)) == ("sub-flow `inner`: step `add` changed",)
    assert outer(input=given).fingerprint not in (plain.fingerprint, outer(input=["n"]).fingerprint)
    assert "sub-flow `inner`: into is 'n' instead of ''" in changes(describe(plain), describe(outer(into="n")))
    assert describe(plain).sources["flows"].keys() == {INNER.fingerprint}
    assert plain.flows == (INNER,)


def test_a_parent_is_rebuilt_with_the_flow_of_its_sub_flow() -> None:
    """From what is stored with it alone; one signature covers both; two floors down as well."""
    flow = graph("top", subflow(outer(input=given, key=lambda s: f"k-{s.n}", queue="gpu", into=None), name="floor"))
    again = rebuild(stored(flow), key=KEY)
    assert again.fingerprint == flow.fingerprint
    floor = sub_of(again, "floor").flow
    assert floor.fingerprint == sub_of(flow, "floor").flow.fingerprint
    inner = sub_of(floor)
    assert (inner.flow.fingerprint, inner.into, inner.queue) == (INNER.fingerprint, None, "gpu")
    assert inner.flow.step_at("add").fn(n=1) == {"n": 2}
    state = type("S", (), {"n": 5})()
    assert (inner.input(state), inner.key(state)) == ({"n": 5}, "k-5")  # type: ignore[operator, misc]
    mended = stored(flow)
    mended.sources = {**mended.sources, "flows": {}}
    with pytest.raises(SignatureRefused):
        rebuild(mended, key=KEY)


def test_a_pickled_parent_brings_the_flow_of_its_sub_flow_along() -> None:
    """What source cannot rebuild travels with it."""
    hidden = step(name="add")(eval("lambda n: {'n': n + 3}"))
    inner = graph("inner", hidden)
    flow = graph("outer", begin >> subflow(inner, input={"n": "n"}), pickled=True)
    again = rebuild(stored(flow), key=KEY)
    assert again.fingerprint == flow.fingerprint
    sub = sub_of(again)
    assert sub.flow.fingerprint == inner.fingerprint
    assert describe(sub.flow).spec == describe(inner).spec
    assert (sub.input, sub.flow.step_at("add").fn(1)) == ((("n", "n"),), {"n": 4})


def test_what_stands_in_the_way_of_a_sub_flow_stands_in_the_way_of_its_parent() -> None:
    """With its name."""
    (found,) = obstacles(describe(graph("outer", subflow(graph("inner", locked)))))
    assert found.startswith("sub-flow `inner`: `locked` reads variable `LOCK`")
    assert obstacles(describe(outer())) == ()


def test_a_sub_flow_has_a_double_border_and_names_its_flow() -> None:
    """From the graph and from its stored spec alike."""
    flow = outer(name="deep")
    for thing in (flow, describe(flow).spec):
        places = {p.name: p for p in topology_of(thing).places}
        assert (places["deep"].nested, places["begin"].nested) == (True, False)
        assert "inner" in places["deep"].note
    one, two = (draw(arrange(topology_of(f))) for f in (graph("f", begin), flow))
    assert two.count("<rect") - one.count("<rect") == 2
