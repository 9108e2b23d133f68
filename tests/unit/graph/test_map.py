"""Maps in a topology: what `map_` takes, what a definition keeps of them."""

from __future__ import annotations

import inspect
import json
import operator
from typing import Annotated, Any, TypedDict

import pytest

from flowbook.errors import DeclarationError, TopologyError
from flowbook.graph.changes import changes
from flowbook.graph.flow import Graph, graph
from flowbook.graph.mapping import Map, map_
from flowbook.graph.rebuild import rebuild
from flowbook.graph.source import describe
from flowbook.graph.step import step, when
from flowbook.ports import Definition
from flowbook.show.html import flow_html
from flowbook.show.text import flow_plain
from flowbook.show.topology import topology_of


@step(retries=2, timeout=5)
def fetch(url: str, token: str = "") -> dict[str, str]:
    """Get a page."""
    return {"url": url, "token": token}


@step
def report(pages: list[Any]) -> int:
    return len(pages)


def mapped(**options: Any) -> Graph:
    return graph("f", map_(fetch, over="urls", **{"into": "pages", **options}) >> report)


def stored(flow: Graph) -> Definition:
    """As the database gives it back."""
    d = describe(flow)
    spec, sources = json.loads(json.dumps(d.spec)), json.loads(json.dumps(d.sources))
    return Definition("default", flow.name, d.fingerprint, spec, sources, "")


def test_a_map_says_all_of_it_in_its_repr() -> None:
    """Step, list, key, limit."""
    it = map_(fetch, over="urls", into="pages", concurrency=3, name="get_all")
    assert repr(it) == "<map get_all: fetch over 'urls' into 'pages', 3 at once>"
    assert (it.policy.retries, it.item, it.key, map_(fetch, "urls").key) == (2, "url", "pages", "fetch")
    assert it.as_("other").name == "other"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: map_(lambda x: x, over="xs"), "a plain function, put @step on it"),
        (lambda: map_(7, over="xs"), "it takes a step or a flow"),
        (lambda: map_(fetch, over=["a"]), "over= is the state key of a list"),  # type: ignore[arg-type]
        (lambda: map_(fetch, over=""), "over= is the state key of a list"),
        (lambda: map_(fetch, over="xs", into=""), "into= is a state key"),
        (lambda: map_(fetch, over="xs", concurrency=0), "it counts items at once, from 1"),
        (lambda: map_(fetch, over="xs", concurrency=True), "it counts items at once, from 1"),
        (lambda: map_(fetch, over="xs", on_error="skip"), '"fail" or "collect"'),  # type: ignore[arg-type]
        (lambda: map_(fetch, over="xs", name="a b"), "cannot be a node's name"),
        (lambda: map_(when(lambda s: True, fetch), over="xs"), "asks the state and not an item"),
        (lambda: map_(step(name="g")(lambda: 1), over="xs"), "has no parameter for the item"),
        (lambda: map_(step(name="g")(lambda ctx: 1), over="xs"), "has no parameter for the item"),
        (lambda: map_(step(name="g", store="recompute")(lambda x: 1), over="xs"), 'store="recompute" is not for'),
    ],
)
def test_what_cannot_work_is_refused_where_it_stands(make: Any, words: str) -> None:
    """Before there is a graph."""
    with pytest.raises(DeclarationError, match=words):
        make()


def test_what_does_not_go_together_is_a_mistake_of_the_topology() -> None:
    """A step and a map of one name, two different maps of one name, a key that the state lacks."""
    with pytest.raises(TopologyError, match="two different nodes are called fetch"):
        graph("f", fetch >> map_(fetch, over="xs"))
    with pytest.raises(TopologyError, match="two different maps are called fetch"):
        graph("f", map_(fetch, over="xs") >> map_(fetch, over="ys"))

    class State(TypedDict):
        urls: list[str]

    with pytest.raises(TopologyError, match="puts its results into 'fetch', which the state does not declare"):
        graph("f", map_(fetch, over="urls"), state=State)

    class Reduced(TypedDict):
        urls: list[str]
        pages: Annotated[list[Any], operator.add]

    pickled = step(name="g", store="pickle")(lambda url: url)
    with pytest.raises(TopologyError, match="which cannot merge what g keeps as pickles"):
        graph("f", map_(pickled, over="urls", into="pages"), state=Reduced)


def test_the_same_map_twice_is_one_node() -> None:
    """As the same step is."""
    one, other = map_(fetch, over="urls", into="pages"), map_(fetch, over="urls", into="pages")
    flow = graph("f", report >> one, other >> report.as_("last"))
    assert list(flow.nodes) == ["report", "fetch", "last"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": 5}, "`fetch` has 5 items at once"),
        ({"over": "links"}, "`fetch` maps over links"),
        ({"on_error": "collect"}, "`fetch`: an item that fails is collected now"),
    ],
)
def test_each_option_is_part_of_the_definition(options: dict[str, Any], words: str) -> None:
    """Another option is other code, and the change is named."""
    old = mapped()
    new = graph("f", map_(fetch, **{"over": "urls", "into": "pages", **options}) >> report)
    assert old.fingerprint != new.fingerprint
    assert changes(describe(old), describe(new)) == (words,)
    assert mapped().fingerprint == old.fingerprint


def test_a_step_that_becomes_a_map_is_a_change() -> None:
    """And the other way round."""
    plain = graph("f", fetch >> report)
    assert changes(describe(plain), describe(mapped()))[0] == "`fetch` is a map now"
    assert changes(describe(mapped()), describe(plain))[0] == "`fetch` is a step now"


def test_a_map_is_rebuilt_from_its_source() -> None:
    """With another name than its step's, and all of its options."""
    flow = graph("f", map_(fetch, over="urls", into="pages", concurrency=4, on_error="collect", name="all") >> report)
    again = rebuild(stored(flow), key=None, allow_unsigned=True)
    place = again.nodes["all"].step
    assert isinstance(place, Map)
    assert (place.over, place.into, place.concurrency, place.collect) == ("urls", "pages", 4, True)
    assert (place.step.name, place.policy.retries) == ("fetch", 2)
    assert again.step_at("all").fn("u") == {"url": "u", "token": ""}
    assert again.fingerprint == flow.fingerprint


def test_a_map_travels_in_a_pickle() -> None:
    """Where source cannot hold what its step reads."""
    data = [1, 2]

    def total(n: int) -> int:
        return sum(data) + n

    it = map_(step(total), over="xs", into="ys", concurrency=2, on_error="collect", name="totals")
    again = rebuild(stored(graph("f", it, pickled=True)), key=None, allow_unsigned=True)
    place = again.nodes["totals"].step
    assert isinstance(place, Map)
    assert (place.over, place.key, place.concurrency, place.collect) == ("xs", "ys", 2, True)
    assert again.step_at("totals")(3) == 6


def test_a_map_is_drawn_as_a_pile_with_what_it_goes_over() -> None:
    """From the graph and from its spec."""
    flow = mapped()
    for thing in (flow, describe(flow).spec):
        place = next(p for p in topology_of(thing).places if p.name == "fetch")
        assert (place.many, place.note.partition(" · ")[0]) == (True, "∀ urls")
    assert flow_plain(flow) == "flow f\nSTART -> fetch\nfetch -> report\nreport -> END"
    assert "data:image/svg+xml" in flow_html(map_(fetch, over="urls"))
    assert inspect.signature(map_).parameters["concurrency"].default == 10
