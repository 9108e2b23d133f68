"""Specs: the topology of a graph as JSON.

Owns: `spec_of`, the nodes and options of a graph as its definition keeps them, and `pieces`, the code that they name.
Refuses: that code itself: whoever describes it (`source.py`) gives each piece a key. `rebuild.py` reads what stands
here, `show/` draws it without knowing any code.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any, Protocol

from flowbook.graph.body import Body
from flowbook.graph.canonical import policy_json, shown_type, storable
from flowbook.graph.flow import RECURSION_LIMIT, Graph
from flowbook.graph.free import installed, is_plain
from flowbook.graph.logic import Condition
from flowbook.graph.mapping import Map
from flowbook.graph.pause import Pause
from flowbook.graph.places import may_call
from flowbook.graph.resource import Resource
from flowbook.graph.step import Step
from flowbook.graph.subflow import Subflow


class Keys(Protocol):
    """Who describes the code."""

    def callable(self, thing: Any, name: str, *, as_step: bool = False) -> str:
        """The key of a function or class."""

    def resource(self, resource: Resource) -> str:
        """The key of a resource."""

    def encoded(self, name: str, value: Any, reader: str) -> str | None:
        """A value as text; None: it cannot be stored."""


def spec_of(graph: Graph, keys: Keys, format: int) -> dict[str, Any]:
    """The topology: enough to draw it, and to put the graph together again."""
    nodes = [_node(graph, name, keys) for name in graph.nodes]
    spec: dict[str, Any] = {
        "format": format,
        "name": graph.name,
        "version": graph.version,
        "nodes": nodes,
        "entry": list(graph.entry),
        "joins": [[node, way, join] for (node, way), join in graph.joins.items()],
        "state": _state(graph, keys),
        **({"races": sorted([node, way] for node, way in graph.races)} if graph.races else {}),
        **limits(graph),
    }
    if graph.doc:
        spec["doc"] = storable(graph.doc)
    if graph.resources:
        spec["resources"] = {name: keys.resource(r) for name, r in sorted(graph.resources.items())}
    return spec


def limits(graph: Graph) -> dict[str, Any]:
    """Options of the flow as a whole. Those that are not set are left out, so that new ones change nothing."""
    return {
        **({} if graph.run_timeout is None else {"run_timeout": graph.run_timeout}),
        **({} if graph.outputs is None else {"outputs": list(graph.outputs)}),
        **({} if graph.recursion_limit == RECURSION_LIMIT else {"recursion_limit": graph.recursion_limit}),
    }


def pieces(graph: Graph) -> Iterator[Any]:
    """The functions and classes that a topology is made of. The modules that they were written in are the
    definition's own: what these hold is kept as source, and not imported.
    """
    for node in graph:
        step = node.step.step if isinstance(node.step, Map) else node.step
        found: list[Any] = [node.router]
        match step:
            case Pause():
                found += [signal.schema for signal in step.signals]
            case Subflow():
                found += [given for given in (step.input, step.key) if callable(given)]
            case _:
                undo = step.compensation
                found += [step.fn, step.guard, step.retry_if]
                found += [] if undo is None else [undo.fn, undo.retry_if]
        yield from (piece for piece in found if piece is not None and not isinstance(piece, Condition))
    if graph.schema is not None:
        yield graph.schema.source


def _node(graph: Graph, name: str, keys: Keys) -> dict[str, Any]:
    node = graph.nodes[name]
    found: dict[str, Any] = {"name": name, "ways": [list(w) for w in node.ways], "policy": {}, "doc": ""}
    step = node.step.step if isinstance(node.step, Map) else node.step
    match step:
        case Pause():
            found["wait"] = _pause(step, keys)
        case Subflow():
            found["flow"] = _subflow(step, keys)
        case _:
            found |= _step(name, step, keys)
    if isinstance(node.step, Map):
        found["map"] = {k: storable(v) if isinstance(v, str) else v for k, v in node.step.options.items()}
    if isinstance(node.router, Condition):
        found["rule"] = as_text(node.router.rule)
    elif node.router is not None:
        found["router"] = keys.callable(node.router, f"router behind {name}")
    if node.labels:
        found["labels"] = [
            storable(label if isinstance(label, str) and label else repr(label)) for label in node.labels
        ]
        found["values"] = [_label(name, label, keys) for label in node.labels]
    return found


def _step(name: str, step: Step, keys: Keys) -> dict[str, Any]:
    found: dict[str, Any] = {
        "step": keys.callable(step.fn, step.name, as_step=True),
        "policy": policy_json(step.policy),
        "doc": storable(inspect.cleandoc(step.__doc__ or "").partition("\n")[0]),
    }
    if type(step) is Body:
        found["body"] = True
    if may_call(step):
        found["calls"] = True
    if step.wiring is not None:
        found["input"] = as_text(step.wiring)
    if isinstance(step.guard, Condition):
        found["when_rule"] = as_text(step.guard.rule)
    elif step.guard is not None:
        found["when"] = keys.callable(step.guard, f"condition of {name}")
    if step.retry_if is not None:
        found["retry_if"] = keys.callable(step.retry_if, f"retry_on of {name}")
    if (undo := step.compensation) is not None:
        key = keys.callable(undo.fn, undo.name, as_step=True)
        found["undo"] = {"step": key, "name": undo.name, "policy": policy_json(undo.policy)}
        if undo.retry_if is not None:
            found["undo"]["retry_if"] = keys.callable(undo.retry_if, f"retry_on of {undo.name}")
    return found


def as_text(data: Any) -> str:
    """JSON of a tenant's as it is kept: as a text, because jsonb would change numbers and refuses NUL."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def _pause(pause: Pause, keys: Keys) -> dict[str, Any]:
    return {
        "signals": [
            [s.name, None if s.schema is None else keys.callable(s.schema, s.schema.__name__)] for s in pause.signals
        ],
        "seconds": pause.seconds,
        "into": pause.into,
    }


def _subflow(sub: Subflow, keys: Keys) -> dict[str, Any]:
    given: Any = sub.input
    if callable(given):
        given = keys.callable(given, f"input of {sub.name}")
    elif given is not None:
        given = [list(pair) for pair in given]
    return {
        "name": sub.flow.name,
        "fingerprint": sub.flow.fingerprint,
        "input": given,
        "into": sub.into,
        "key": None if sub.key is None else keys.callable(sub.key, f"key of {sub.name}"),
        "queue": sub.queue,
    }


def _label(node: str, label: Any, keys: Keys) -> str | None:
    if not is_plain(label) and isinstance(type(label), type) and not installed(type(label).__module__):
        keys.callable(type(label), type(label).__name__)
    return keys.encoded(f"a label of the branch behind {node}", label, node)


def _state(graph: Graph, keys: Keys) -> dict[str, Any] | None:
    schema = graph.schema
    if schema is None:
        return None
    return {
        "class": keys.callable(schema.source, schema.source.__name__),
        "fields": {k: shown_type(t) for k, t in schema.annotations.items()},
        "reducers": {k: getattr(r, "__qualname__", type(r).__name__) for k, r in schema.reducers.items()},
    }
