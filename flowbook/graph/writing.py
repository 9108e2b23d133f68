"""Writing specs: a flow as data that people and programs can read.

Owns: `to_spec`. Refuses: code: a spec has the names of steps, routers and classes, and whoever reads it must have
registered these (`templates.py`).
"""

from __future__ import annotations

from typing import Any

from flowbook.graph.body import Body
from flowbook.graph.canonical import policy_json
from flowbook.graph.flow import Graph, Node
from flowbook.graph.logic import Condition
from flowbook.graph.mapping import CONCURRENCY, Map
from flowbook.graph.names import END, START
from flowbook.graph.pause import Pause
from flowbook.graph.places import Place
from flowbook.graph.spec import limits
from flowbook.graph.step import Policy, Step
from flowbook.graph.subflow import OWN_NAME, Subflow
from flowbook.graph.templates import name_of


def to_spec(graph: Graph) -> dict[str, Any]:
    """A flow as JSON: what stands in it, by name, and how it goes on."""
    head: dict[str, Any] = {"flowbook": 1, "name": graph.name}
    if graph.doc:
        head["doc"] = graph.doc
    if graph.version is not None:
        head["version"] = graph.version
    head |= limits(graph)
    first = next(iter(graph))
    if type(first.step) is Body:
        return {**head, "body": first.step.named}
    if graph.schema is not None:
        head["state"] = graph.schema.source.__name__
    head["start"] = _target(graph.entry)
    if (START, 0) in graph.races:
        head["race"] = True
    return {**head, "steps": {name: _node(graph, name, node) for name, node in graph.nodes.items()}}


def _node(graph: Graph, name: str, node: Node) -> dict[str, Any]:
    found = _placed(node.step)
    racing = {way for at, way in graph.races if at == name}
    if not node.labels:
        if node.ways[0]:
            found["next"] = _target(node.ways[0])
        return found | ({"race": True} if 0 in racing else {})
    ways = [
        (label, way, number in racing) for number, (label, way) in enumerate(zip(node.labels, node.ways, strict=True))
    ]
    if isinstance(node.step, Pause) and node.router is None and node.step.seconds is not None:
        late = [way for label, way, _ in ways if label == node.step.late]
        if late:
            found["on_timeout"] = _target(late[0])
            ways = [way for way in ways if way[0] != node.step.late]
    switch: dict[str, Any] = {} if node.router is None else {"value": _condition(node.router)}
    switch["cases"] = [
        {"is": _label(label), "to": _target(way), **({"race": True} if races else {})} for label, way, races in ways
    ]
    return {**found, "switch": switch}


def _placed(place: Place) -> dict[str, Any]:
    match place:
        case Pause(signals=()):
            return {"sleep": place.seconds}
        case Pause():
            names = place.names
            found: dict[str, Any] = {"wait": names[0] if len(names) == 1 else list(names)}
            found |= {} if place.seconds is None else {"timeout": place.seconds}
            found |= {} if place.into is None else {"into": place.into}
            schemas = {s.name: s.schema.__name__ for s in place.signals if s.schema is not None}
            return found | ({"payload": schemas} if schemas else {})
        case Map():
            found = {"map": place.step.flow.name if isinstance(place.step, Subflow) else place.step.named}
            found |= {"over": place.over} | ({} if place.into is None else {"into": place.into})
            found |= {"concurrency": place.concurrency} if place.concurrency != CONCURRENCY else {}
            found |= {"on_error": "collect"} if place.collect else {}
            found |= {} if place.named is None else {"item": place.named}
            if isinstance(place.step, Subflow):
                return found | ({} if place.step.queue is None else {"queue": place.step.queue})
            return found | _tried(place.step)
        case Subflow():
            found = {"flow": place.flow.name}
            if place.input is not None:
                found["input"] = _condition(place.input) if callable(place.input) else dict(place.input)
            found |= {"into": place.into} if place.into != OWN_NAME else {}
            found |= {} if place.key is None else {"key": _condition(place.key)}
            return found | ({} if place.queue is None else {"queue": place.queue})
        case _:
            found = {"step": place.named, **_tried(place)}
            return found | ({} if place.guard is None else {"when": _condition(place.guard)})


def _tried(step: Step) -> dict[str, Any]:
    """What is said of its attempts: all that is not flowbook's default, and all that somebody has chosen."""
    policy, plain = step.policy, Policy()
    found: dict[str, Any] = {}
    for name in ("retries", "timeout", "retry_on", "no_retry_on"):
        value = getattr(policy, name)
        if value != getattr(plain, name) or (name in step.said and value is not None):
            found[name] = list(value) if isinstance(value, tuple) else value
    if policy.backoff != plain.backoff:
        delays = list(policy.backoff.delays)
        found["backoff"] = delays or policy_json(policy)["backoff"]
    if step.wiring is not None:
        found["input"] = dict(step.wiring)
    return found


def _target(names: tuple[str, ...]) -> str | list[str]:
    return END if not names else names[0] if len(names) == 1 else list(names)


def _condition(given: Any) -> Any:
    if isinstance(given, Condition):
        return given.rule
    return {"function": name_of(given) or getattr(given, "__name__", repr(given))}


def _label(label: Any) -> Any:
    return label if isinstance(label, str | bool | int) or label is None else repr(label)
