"""Maps over flows as they are declared: which input an item is, what is refused, what a definition keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, TypedDict

import pytest

from flowbook.errors import BindingError, DeclarationError, SignatureRefused, TopologyError
from flowbook.graph.changes import changes
from flowbook.graph.flow import Graph, graph
from flowbook.graph.imperative import flow
from flowbook.graph.mapping import Map, first_input, map_
from flowbook.graph.pause import wait
from flowbook.graph.portable import obstacles
from flowbook.graph.rebuild import rebuild
from flowbook.graph.resource import resource
from flowbook.graph.sign import sign
from flowbook.graph.source import describe
from flowbook.graph.step import step
from flowbook.graph.subflow import Subflow, subflow
from flowbook.ports import Definition
from flowbook.run.context import Context
from flowbook.show.topology import topology_of

KEY = b"k" * 32
LOCK = object()


def helper(n: int) -> int:
    """What a step of the mapped flow calls."""
    return n + 1


@step
def fetch(url: str, depth: int = 1) -> dict[str, int]:
    """Of the mapped flow."""
    return {"size": helper(len(url)) * depth}


@step
def other(link: str) -> dict[str, int]:
    """Asks for something else."""
    return {"size": len(link)}


@step
def anything(ctx: Context, state: Any, url: str) -> None:
    """Its first parameters are the context and all of the state."""


@step
def locked(url: str) -> None:
    """Reads what cannot be stored."""
    print(LOCK)


@flow
async def visit(ctx: Context, url: str, depth: int = 1) -> int:
    """An imperative flow."""
    return len(url) * depth


class Page(TypedDict, total=False):
    """A state."""

    url: str
    size: int


PAGE = graph("page", fetch)


def outer(page: Graph = PAGE, **options: Any) -> Graph:
    """A flow that maps another one."""
    return graph("outer", map_(page, over="urls", **options))


def stored(made: Graph) -> Definition:
    """As the database gives it back."""
    d = describe(made)
    spec, sources = json.loads(json.dumps([d.spec, d.sources], sort_keys=True))
    signature = sign(KEY, "default", made.name, d.fingerprint, spec, sources)
    return Definition("default", made.name, d.fingerprint, spec, sources, signature)


def map_of(made: Graph, name: str = "page") -> tuple[Map, Subflow]:
    """A node that maps a flow, and what it applies."""
    place = made.nodes[name].step
    assert isinstance(place, Map)
    assert isinstance(place.step, Subflow)
    return place, place.step


# ----------------------------------------------------------------------------------------------- which input an item is


@resource
def client() -> object:
    """Something that is no input."""
    return object()


@step
def called(client: object, url: str) -> None:
    """Its first parameter is a resource."""


@pytest.mark.parametrize(
    ("page", "name"),
    [
        (graph("p", fetch), "url"),
        (graph("p", fetch, state=Page), "url"),
        (visit, "url"),
        (graph("p", [fetch, fetch.as_("again")]), "url"),
        (graph("p", called), "url"),
        (graph("p", [fetch, other]), None),
        (graph("p", wait("go") >> fetch), None),
        (graph("p", other, state=Page), None),
        (graph("p", anything), None),
        (graph("p", step(name="nothing")(lambda: 1)), None),
    ],
    ids=["graph", "schema", "imperative", "fork", "resource", "two", "pause", "undeclared", "state", "nothing"],
)
def test_an_item_is_the_first_parameter_of_what_a_flow_begins_with(page: Graph, name: str | None) -> None:
    """The context and resources aside; None where that is not told."""
    assert first_input(page) == name


def test_a_dict_is_the_whole_input_unless_an_input_is_named() -> None:
    """And anything else is one input, which must be known."""
    plain, _ = map_of(outer())
    assert plain.given("http://a") == {"url": "http://a"}
    assert plain.given({"url": "a", "depth": 2}) == {"url": "a", "depth": 2}
    named, _ = map_of(outer(item="depth"))
    assert named.given({"url": "a"}) == {"depth": {"url": "a"}}
    assert named.given(3) == {"depth": 3}
    vague, _ = map_of(outer(graph("page", wait("go") >> fetch)))
    assert vague.given({"url": "a"}) == {"url": "a"}
    with pytest.raises(BindingError, match=r"map 'page': an item is str, and how flow 'page' begins.*name it by item="):
        vague.given("a")
    with pytest.raises(BindingError, match="has the key 1, which is no text"):
        plain.given({1: "a"})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: map_(visit, over="xs", item="link"), "name of an input of the flow; it has 'url', 'depth'"),
        (lambda: map_(visit, over="xs", item="ctx"), "name of an input of the flow; it has 'url', 'depth'"),
        (lambda: map_(graph("p", fetch, state=Page), over="xs", item="link"), "it has 'url', 'size'"),
        (lambda: map_(PAGE, over="xs", item=""), "name of an input of the flow"),
        (lambda: map_(fetch, over="xs", item="url"), "that is for a flow"),
        (lambda: map_(fetch, over="xs", queue="gpu"), "that is for a flow"),
        (lambda: map_(subflow(PAGE), over="xs"), r"give the flow itself, map_\(page, ...\)"),
        (lambda: map_(PAGE, over="xs", concurrency=0), "it counts items at once, from 1"),
        (lambda: map_(PAGE, over="xs", name="a b"), "cannot be a node's name"),
    ],
)
def test_what_cannot_work_is_refused_where_it_stands(make: Any, words: str) -> None:
    """With what to write instead."""
    with pytest.raises(DeclarationError, match=words):
        make()


def test_the_same_map_twice_is_one_node_and_two_different_ones_a_mistake() -> None:
    """As of steps; another flow, queue or list is another map."""
    twice = graph("f", map_(PAGE, over="urls") >> fetch, map_(PAGE, over="urls") >> fetch.as_("last"))
    assert set(twice.nodes) == {"page", "fetch", "last"}
    for different in (
        map_(PAGE, over="links"), map_(PAGE, over="urls", queue="gpu"), map_(graph("page", other), over="urls"),
        map_(fetch, over="urls", name="page"),
    ):  # fmt: skip
        with pytest.raises(TopologyError, match="two different maps are called page"):
            graph("f", map_(PAGE, over="urls") >> fetch >> different)


# ------------------------------------------------------------------------------------------------------- a definition


def test_the_code_of_the_mapped_flow_is_part_of_the_definition() -> None:
    """Another body, option or queue is other code, and the report says which."""
    plain = outer()
    assert plain.fingerprint == outer().fingerprint
    assert plain.flows == (PAGE,)
    changed = outer(graph("page", step(name="fetch")(lambda url, depth=1: {"size": helper(0)})))
    assert changes(describe(plain), describe(changed)) == ("sub-flow `page`: step `fetch` changed",)
    told: dict[str, tuple[Any, str]] = {
        "concurrency": (5, "`page` has 5 items at once"),
        "item": ("url", "`page`: an item is 'url' of its flow now"),
        "queue": ("gpu", "sub-flow `page`: queue is 'gpu' instead of None"),
        "on_error": ("collect", "`page`: an item that fails is collected now"),
    }
    for option, (value, words) in told.items():
        options: Any = {option: value}
        new = outer(**options)
        assert new.fingerprint != plain.fingerprint
        assert changes(describe(plain), describe(new)) == (words,)
    of_step = graph("outer", map_(fetch, over="urls", name="page"))
    assert "`page` maps a flow now" in changes(describe(of_step), describe(plain))


def test_a_map_of_a_step_has_the_definition_it_had() -> None:
    """What maps of flows need is not written down for it."""
    (node,) = describe(graph("f", map_(fetch, over="urls"))).spec["nodes"]
    assert set(node["map"]) == {"step", "over", "into", "concurrency", "collect"}
    assert "flow" not in node


@pytest.mark.parametrize("page", [PAGE, visit], ids=["graph", "imperative"])
def test_a_map_of_a_flow_is_rebuilt_from_its_source(page: Graph) -> None:
    """With the flow, under another name, and all of its options; one signature covers both."""
    made = outer(page, into="pages", concurrency=4, on_error="collect", name="all", item="url", queue="gpu")
    again = rebuild(stored(made), key=KEY)
    assert again.fingerprint == made.fingerprint
    place, sub = map_of(again, "all")
    assert (place.over, place.into, place.concurrency, place.collect, place.named) == ("urls", "pages", 4, True, "url")
    assert (sub.name, sub.queue, sub.flow.fingerprint) == (page.name, "gpu", page.fingerprint)
    assert first_input(sub.flow) == "url"
    if page is PAGE:
        assert sub.flow.step_at("fetch").fn("abc", 2) == {"size": 8}
    mended = stored(made)
    with pytest.raises(SignatureRefused):
        rebuild(replace(mended, sources={**mended.sources, "flows": {}}), key=KEY)


def test_a_pickled_map_of_a_flow_brings_it_along() -> None:
    """What source cannot rebuild travels with it."""
    hidden = step(name="fetch")(eval("lambda url: {'size': 3}"))
    page = graph("page", hidden)
    made = graph("outer", map_(page, over="urls", item="url", queue="q"), pickled=True)
    again = rebuild(stored(made), key=KEY)
    assert again.fingerprint == made.fingerprint
    assert [f.fingerprint for f in again.flows] == [page.fingerprint]
    place, sub = map_of(again)
    assert (place.named, sub.queue, describe(sub.flow).spec) == ("url", "q", describe(page).spec)
    assert sub.flow.step_at("fetch").fn("x") == {"size": 3}


def test_what_stands_in_the_way_of_the_mapped_flow_stands_in_the_way_of_both() -> None:
    """With its name."""
    (found,) = obstacles(describe(outer(graph("page", locked))))
    assert found.startswith("sub-flow `page`: `locked` reads variable `LOCK`")
    assert obstacles(describe(outer())) == ()


def test_a_map_of_a_flow_is_drawn_as_many_of_another_flow() -> None:
    """From the graph and from its stored spec alike; as a piece of topology too."""
    made = outer(name="deep")
    for thing in (made, describe(made).spec, map_(PAGE, over="urls", name="deep") >> fetch):
        place = next(p for p in topology_of(thing).places if p.name == "deep")
        assert (place.nested, place.many) == (True, True)
    for whole in (made, describe(made).spec):
        place = next(p for p in topology_of(whole).places if p.name == "deep")
        assert place.note == "flow page · ∀ urls · 10 at once"
    for whole in (outer(), describe(outer()).spec):
        place = next(p for p in topology_of(whole).places if p.name == "page")
        assert place.note == "∀ urls · 10 at once", "its name is the flow's already"
