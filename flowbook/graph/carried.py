"""Carrying: a graph that its source cannot rebuild, as a pickle beside the source (``%%flow --pickle``).

Owns: making the pickle and opening it again. Refuses: opening one by itself: `rebuild.py` has verified the signature
over all of the sources, the pickle among them, before it asks. Functions and the notebook's data they read travel by
value with cloudpickle, which is not needed otherwise.
"""

from __future__ import annotations

import base64
import pickle
from dataclasses import fields, replace
from typing import Any

from flowbook.errors import NotPortable
from flowbook.graph.body import Body
from flowbook.graph.flow import Graph, Node
from flowbook.graph.imperative import kind_of
from flowbook.graph.mapping import Map
from flowbook.graph.pause import Pause
from flowbook.graph.places import Place
from flowbook.graph.state import schema_of
from flowbook.graph.step import Step
from flowbook.graph.subflow import Subflow
from flowbook.secret import redact_bytes

LIMIT = 16 * 1024 * 1024
"""Bytes of a pickle at most: it becomes part of a definition, which is read whenever a run of it is."""


def packed(graph: Graph) -> dict[str, str]:
    """``{"pickle": base64}``, or ``{"reason": why not}``. Never raises: what cannot be pickled may raise anything."""
    try:
        import cloudpickle
    except ImportError:
        return {"reason": "cloudpickle is not installed here: pip install cloudpickle"}
    try:
        data = redact_bytes(cloudpickle.dumps(_content(graph)))
    except Exception as error:
        return {"reason": f"{type(error).__name__}: {error}"}
    if len(data) > LIMIT:
        return {"reason": f"it takes {len(data):,} bytes with the data that it reads, and {LIMIT:,} are the most"}
    return {"pickle": base64.b64encode(data).decode()}


def unpacked(flow: str, carried: dict[str, Any]) -> Graph:
    """The graph that was packed. Its signature has been verified. Raises `NotPortable` if it does not load here."""
    try:
        content = pickle.loads(base64.b64decode(carried["pickle"]))  # noqa: S301
        return _graph(*content)
    except Exception as error:
        raise NotPortable(flow, (f"its pickle does not load here: {type(error).__name__}: {error}",)) from error


_BY_PLACE = frozenset({"name", "nodes", "entry", "joins", "schema", "version", "freeze"})
"""What has a place of its own in a pack; all else of a graph goes by its name, so that no option is forgotten."""


def _content(graph: Graph) -> tuple[Any, ...]:
    nodes = {name: (_packed(node.step), node.ways, node.router, node.labels) for name, node in graph.nodes.items()}
    state = graph.schema.source if graph.schema else None
    more = {f.name: getattr(graph, f.name) for f in fields(graph) if f.name not in _BY_PLACE}
    return graph.name, nodes, graph.entry, graph.joins, state, graph.version, graph.freeze, more


def _packed(place: Place) -> Any:
    match place:
        case Pause():
            return place
        case Subflow():
            flow: Any = None
            return replace(place, flow=flow), place.flow.fingerprint, _content(place.flow)
        case Map():
            options = (place.over, place.into, place.concurrency, place.collect, place.named)
            return {"step": (place.step.name, _packed(place.step)), "map": options}
        case Body():
            return "body", {"fn": place.fn, "policy": place.policy, "retry_if": place.retry_if}
        case _:
            parts: dict[str, Any]
            parts = {"fn": place.fn, "policy": place.policy, "guard": place.guard, "retry_if": place.retry_if}
            if place.wiring is not None:
                parts["wiring"] = place.wiring
            if (undo := place.compensation) is not None:
                parts["compensation"] = {**_packed(undo), "name": undo.name}
            return parts


def _graph(
    name: str, nodes: Any, entry: Any, joins: Any, state: type | None, version: Any, freeze: Any, more: Any
) -> Graph:
    made = {key: Node(_place(key, place), ways, router, labels) for key, (place, ways, router, labels) in nodes.items()}
    return kind_of(made)(name, made, entry, joins, schema_of(state), version, freeze, **more)


def _place(name: str, packed: Any) -> Place:
    match packed:
        case Pause():
            return packed
        case (Subflow() as sub, str(fingerprint), content):
            flow = _graph(*content)
            flow.__dict__["fingerprint"] = fingerprint  # there are no sources to find it from
            return replace(sub, flow=flow)
        case {"step": (step, inner), "map": options}:
            what: Any = _place(step, inner)
            return Map(name, what, *options)
        case ("body", options):
            return Body(name=name, **options)
        case _:
            return _step(name=name, **packed)


def _step(*, compensation: Any = None, **parts: Any) -> Step:
    return Step(**parts, compensation=None if compensation is None else _step(**compensation))
