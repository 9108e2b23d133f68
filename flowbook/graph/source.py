"""Describing: the code of a graph as JSON, and its fingerprint.

Owns: `Described`, `describe`, the walk from a graph's steps, routers and state to everything they call. Refuses:
running anything; saying what is wrong with it (`portable.py`).

    spec      the topology: enough to draw it, and to put the graph together again
    sources   callables   key -> {name, kind, text, file, lineno, module, names, ...}, see `_Collector._entry`
              scopes      what the global names mean, one table per module that code comes from
              imports     the statements needed
              constants   name -> the value, encoded by the codec, base64
              data        [{name, type, read_by, why, storable}] that is not part of the definition
              missing     [{name, read_by}] names that nothing defines
              frozen      name -> constant, of ``freeze=``
              local_modules   modules among the imports that are files of the user's
              flows     fingerprint -> {name, spec, sources} of the flows that sub-flows run and bodies name; left out
                        without any

A name means a list: ``["import", statement, ...]``, ``["callable", key]``, ``["step", key, name, options]``,
``["flow", fingerprint]`` (of itself: empty), ``["constant", key]``, ``["data", type]`` or ``["missing"]``; builtins are
not listed. Names are resolved when the graph is described, and found to mean one thing per module.

The fingerprint covers topology, options, trees, imports and constants; not data, places, comments or layout.
"""

from __future__ import annotations

import base64
import builtins
import inspect
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowbook.codec import encode
from flowbook.codec.registry import taker
from flowbook.errors import ValueRefused
from flowbook.graph.altered import altered, patches
from flowbook.graph.body import Body
from flowbook.graph.canonical import bytecode, digest, policy_json, shape, shown_type, storable, tree
from flowbook.graph.carried import packed
from flowbook.graph.changes import changes  # part of what this module offers, in a file of its own
from flowbook.graph.decorated import decorators_of, definition_of
from flowbook.graph.flow import RECURSION_LIMIT, Graph
from flowbook.graph.free import importable, imports, installed, is_plain, module_in, names_of, private_names, reference
from flowbook.graph.locate import FUTURE, Definition, Nowhere, namespace_of, place_of, shown_file
from flowbook.graph.mapping import Map
from flowbook.graph.pause import Pause
from flowbook.graph.places import may_call
from flowbook.graph.resource import Resource
from flowbook.graph.step import Step
from flowbook.graph.subflow import Subflow

__all__ = ["FORMAT", "Described", "changes", "describe", "take_as"]

FORMAT = 1
"""Of spec and sources; raised when what `rebuild` reads changes its meaning."""


@dataclass(frozen=True)
class Described:
    """A graph's code."""

    fingerprint: str
    """32 hex digits."""
    spec: dict[str, Any]
    sources: dict[str, Any]


def describe(graph: Graph) -> Described:
    """The code of a graph. Reads sources, so it is done once per graph and kept. Raises nothing for odd code."""
    found: Described | None = graph.__dict__.get("_described")
    if found is None:
        _under_way.append(graph)
        try:
            found = graph.__dict__["_described"] = _Collector(graph).describe()
        finally:
            _under_way.remove(graph)
    return found


_under_way: list[Graph] = []
"""What is being described: flows may name each other."""


def take_as(graph: Graph, described: Described) -> None:
    """Let ``describe(graph)`` be this: a graph out of a pickle has no sources to read, and is what it was."""
    graph.__dict__.update(_described=described, fingerprint=described.fingerprint, known_flows=_subflows(graph))


def _subflows(graph: Graph) -> tuple[Graph, ...]:
    return tuple(n.step.flow for n in graph if isinstance(n.step, Subflow))


class _Collector:
    """One walk through a graph's code."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.callables: dict[str, dict[str, Any]] = {}
        self.constants: dict[str, str] = {}
        self.data: dict[tuple[str, str], dict[str, Any]] = {}
        self.missing: dict[str, dict[str, Any]] = {}
        self.scopes: list[dict[str, Any]] = []
        self._trees: dict[str, Any] = {}
        self._keys: dict[int, str] = {}
        self._alive: list[Any] = []
        """Ids are compared, so nothing that has one may go."""
        self._spaces: dict[int, int] = {}
        self._homes = self._home_modules()
        self._flows: dict[str, Graph] = {}
        """Fingerprint -> flow that some of this code names."""

    def describe(self) -> Described:
        nodes = [self._node(name) for name in self.graph.nodes]
        spec: dict[str, Any] = {
            "format": FORMAT,
            "name": self.graph.name,
            "version": self.graph.version,
            "nodes": nodes,
            "entry": list(self.graph.entry),
            "joins": [[node, way, join] for (node, way), join in self.graph.joins.items()],
            "state": self._state(),
            **({"races": sorted([node, way] for node, way in self.graph.races)} if self.graph.races else {}),
            **self._limits(),
        }
        if self.graph.doc:
            spec["doc"] = storable(self.graph.doc)
        if self.graph.resources:
            spec["resources"] = {name: self._resource(r) for name, r in sorted(self.graph.resources.items())}
        sources = {
            "format": FORMAT,
            "callables": self.callables,
            "scopes": self.scopes,
            "imports": (statements := self._imports()),
            "constants": self.constants,
            "data": list(self.data.values()),
            "missing": list(self.missing.values()),
            "frozen": self._frozen(),
            "local_modules": sorted({m for m in map(module_in, statements) if not installed(m)}),
        }
        flows = {flow.fingerprint: flow for flow in (*_subflows(self.graph), *self._flows.values())}
        self.graph.__dict__["known_flows"] = tuple(flows.values())
        if flows:
            sources["flows"] = {
                d.fingerprint: {"name": flow.name, "spec": d.spec, "sources": d.sources}
                for flow, d in ((flow, describe(flow)) for flow in flows.values())
            }
        if self.graph.pickled:
            sources["carried"] = packed(self.graph)
        return Described(self._fingerprint(spec), spec, sources)

    # -- topology ------------------------------------------------------------------------------------------------------

    def _node(self, name: str) -> dict[str, Any]:
        node = self.graph.nodes[name]
        found: dict[str, Any] = {"name": name, "ways": [list(w) for w in node.ways], "policy": {}, "doc": ""}
        if isinstance(node.step, Pause):
            found["wait"] = self._pause(node.step)
        elif isinstance(node.step, Subflow):
            found["flow"] = self._subflow(node.step)
        else:
            step = node.step.step if isinstance(node.step, Map) else node.step
            found["step"] = self.callable(step.fn, step.name, as_step=True)
            found["policy"] = policy_json(step.policy)
            found["doc"] = storable(inspect.cleandoc(step.__doc__ or "").partition("\n")[0])
            if type(step) is Body:
                found["body"] = True
            if may_call(step):
                found["calls"] = True
            if step.guard is not None:
                found["when"] = self.callable(step.guard, f"condition of {name}")
            if step.retry_if is not None:
                found["retry_if"] = self.callable(step.retry_if, f"retry_on of {name}")
            if (undo := step.compensation) is not None:
                key = self.callable(undo.fn, undo.name, as_step=True)
                found["undo"] = {"step": key, "name": undo.name, "policy": policy_json(undo.policy)}
                if undo.retry_if is not None:
                    found["undo"]["retry_if"] = self.callable(undo.retry_if, f"retry_on of {undo.name}")
        if isinstance(node.step, Map):
            found["map"] = {k: storable(v) if isinstance(v, str) else v for k, v in node.step.options.items()}
        if node.router is not None:
            found["router"] = self.callable(node.router, f"router behind {name}")
        if node.labels:
            found["labels"] = [
                storable(label if isinstance(label, str) and label else repr(label)) for label in node.labels
            ]
            found["values"] = [self._label(name, label) for label in node.labels]
        return found

    def _limits(self) -> dict[str, Any]:
        """Options of the flow as a whole. Those that are not set are left out, so that new ones change nothing."""
        it = self.graph
        return {
            **({} if it.run_timeout is None else {"run_timeout": it.run_timeout}),
            **({} if it.outputs is None else {"outputs": list(it.outputs)}),
            **({} if it.recursion_limit == RECURSION_LIMIT else {"recursion_limit": it.recursion_limit}),
        }

    def _pause(self, pause: Pause) -> dict[str, Any]:
        return {
            "signals": [
                [s.name, None if s.schema is None else self.callable(s.schema, s.schema.__name__)]
                for s in pause.signals
            ],
            "seconds": pause.seconds,
            "into": pause.into,
        }

    def _resource(self, resource: Resource) -> str:
        found = reference(resource)
        if found is not None and self._by_reference(found[0]):
            return self.callable(resource, resource.name)
        return self.callable(resource.fn, resource.name, as_step=True)

    def _subflow(self, sub: Subflow) -> dict[str, Any]:
        given: Any = sub.input
        if callable(given):
            given = self.callable(given, f"input of {sub.name}")
        elif given is not None:
            given = [list(pair) for pair in given]
        return {
            "name": sub.flow.name,
            "fingerprint": describe(sub.flow).fingerprint,
            "input": given,
            "into": sub.into,
            "key": None if sub.key is None else self.callable(sub.key, f"key of {sub.name}"),
            "queue": sub.queue,
        }

    def _label(self, node: str, label: Any) -> str | None:
        if not is_plain(label) and isinstance(type(label), type) and not installed(type(label).__module__):
            self.callable(type(label), type(label).__name__)
        return self._encoded(f"a label of the branch behind {node}", label, node)

    def _state(self) -> dict[str, Any] | None:
        schema = self.graph.schema
        if schema is None:
            return None
        return {
            "class": self.callable(schema.source, schema.source.__name__),
            "fields": {k: shown_type(t) for k, t in schema.annotations.items()},
            "reducers": {k: getattr(r, "__qualname__", type(r).__name__) for k, r in schema.reducers.items()},
        }

    # -- callables -----------------------------------------------------------------------------------------------------

    def callable(self, thing: Any, name: str, *, as_step: bool = False) -> str:
        """The key of a step's function, a router, a class or a helper; enters it and what it needs."""
        key = self._keys.get(id(thing))
        if key is not None:
            return key
        own = getattr(thing, "__name__", name)
        key = base = own if isinstance(own, str) and own != "<lambda>" else name
        number = 1
        while key in self.callables:
            number += 1
            key = f"{base}~{number}"
        self._keys[id(thing)] = key
        self._alive.append(thing)
        entry = self.callables[key] = {"name": own if isinstance(own, str) else base}
        self._entry(key, entry, thing, as_step)
        return key

    def _entry(self, key: str, entry: dict[str, Any], thing: Any, as_step: bool) -> None:
        found = reference(thing)
        if found is not None and self._by_reference(found[0]):
            entry |= {"kind": "reference", "module": found[0], "attribute": found[1]}
            return
        inner = definition_of(thing)
        if not isinstance(inner, types.FunctionType | type):
            entry |= {"kind": "opaque", "module": type(thing).__module__, "type": type(thing).__qualname__}
            entry["reason"] = f"it is no function or class but a {type(thing).__qualname__}: write a def"
            return
        kind = "class" if isinstance(inner, type) else "lambda" if inner.__name__ == "<lambda>" else "function"
        entry |= {"kind": kind, "qualname": inner.__qualname__, "module": inner.__module__}
        try:
            place = place_of(inner)
            kept = decorators_of(thing, inner, place.node, as_step=as_step)
        except Nowhere as nowhere:
            entry["reason"] = storable(str(nowhere))
            code = getattr(inner, "__code__", None)
            entry["code"] = digest(bytecode(code)) if code else shape(thing)
            return
        node = place.node
        entry |= {
            "text": place.text,
            "file": storable(shown_file(place.filename)),
            "lineno": place.lineno,
            "flags": place.flags & FUTURE,
            "decorators": kept,
        }
        if changed := altered(thing, node, kept):
            entry["altered"] = list(changed)
            entry["patches"] = {n: digest(bytecode(code)) for n, code in patches(thing, changed).items()}
        self._trees[key] = tree(node, kept)
        space = namespace_of(inner)
        scope = entry["scope"] = self._scope(space, inner.__module__)
        private = private_names(inner, node, space)
        names = names_of(node, private, kept, place.flags)
        entry["eager"] = sorted(names.eager)
        entry["private"] = {n: self._meaning(n, v, key, node) for n, v in sorted(private.items())}
        table = self.scopes[scope]["names"]
        entry["names"] = []
        for name in sorted(names.all):
            meaning = self._global(name, space, key, node, soft=name in names.soft, written=name in names.written)
            if meaning is not None:
                table[name] = _both(table.get(name), meaning)
                entry["names"].append(name)

    # -- names ---------------------------------------------------------------------------------------------------------

    def _global(
        self, name: str, space: dict[str, Any], reader: str, node: Definition, *, soft: bool, written: bool
    ) -> list[Any] | None:
        if written:
            value = space.get(name)
            self._reads(name, value, reader, "it is set by a `global` statement")
            return ["data", type(value).__name__]
        if name in space:
            return self._meaning(name, space[name], reader, node)
        if hasattr(builtins, name) or soft:
            return None
        entry = self.missing.setdefault(name, {"name": name, "read_by": []})
        entry["read_by"].append(reader)
        return ["missing"]

    def _meaning(self, name: str, value: Any, reader: str, node: Definition) -> list[Any]:
        theirs = str(getattr(value, "__globals__", {}).get("__name__", "")).startswith("IPython.")
        if getattr(builtins, name, self) is value or (theirs and hasattr(builtins, name)):
            # IPython puts an `open` of its own into a notebook's namespace, which the notebook never asked for.
            return ["import", f"from builtins import {name}"]
        if isinstance(value, Step):
            key = self.callable(value.fn, name, as_step=True)
            return ["step", key, value.name, policy_json(value.policy)]
        if isinstance(value, Graph):
            return self._flow(name, value, reader, node)
        if isinstance(value, Resource) and reference(value) is None:
            return ["callable", self._resource(value)]
        if is_plain(value):
            return ["constant", self._constant(name, value, reader)]
        statements = imports(name, value, node)
        if statements and (isinstance(value, types.ModuleType) or self._by_reference(module_in(statements[0]))):
            return ["import", *statements]
        if isinstance(value, types.ModuleType):
            self._reads(name, value, reader, "a module that was made in memory cannot be imported elsewhere")
            return ["data", "module"]
        if self._has_source(value):
            return ["callable", self.callable(value, name)]
        if name in self.graph.freeze:
            key = self._constant(name, self.graph.freeze[name], reader)
            if key:
                return ["constant", key]
        self._reads(name, value, reader, "")
        return ["data", type(value).__name__]

    def _flow(self, name: str, value: Graph, reader: str, node: Definition) -> list[Any]:
        """A flow that a body spawns is known wherever the body is."""
        if value is self.graph:
            return ["flow", ""]
        if any(value is other for other in _under_way):
            self._reads(name, value, reader, "the two flows name each other, which cannot be stored: pass it as input")
            return ["data", "flow"]
        self._flows[found := describe(value).fingerprint] = value
        statements = imports(name, value, node)
        if statements and self._by_reference(module_in(statements[0])):
            return ["import", *statements]
        return ["flow", found]

    def _reads(self, name: str, value: Any, reader: str, why: str) -> None:
        kind = type(value)
        fresh = {
            "name": name,
            "type": kind.__name__,
            "read_by": [],
            "why": storable(why),
            "storable": taker(kind) is not None,
        }
        entry = self.data.setdefault((name, kind.__name__), fresh)
        if reader not in entry["read_by"]:
            entry["read_by"].append(reader)

    def _has_source(self, value: Any) -> bool:
        if isinstance(value, type):
            return not installed(value.__module__)
        inner = inspect.unwrap(value) if callable(value) and hasattr(value, "__wrapped__") else value
        return isinstance(inner, types.FunctionType)

    def _by_reference(self, module: str) -> bool:
        """Is what this module holds imported, rather than kept as source?"""
        return importable(module) and (installed(module) or module not in self._homes)

    def _home_modules(self) -> set[str]:
        """The modules whose code is the definition's own: those that the graph's pieces were written in."""
        pieces: list[Any] = [n.router for n in self.graph if n.router is not None]
        for node in self.graph:
            if isinstance(node.step, Pause):
                pieces += [s.schema for s in node.step.signals if s.schema is not None]
            elif isinstance(node.step, Subflow):
                pieces += [f for f in (node.step.input, node.step.key) if callable(f)]
            else:
                step = node.step.step if isinstance(node.step, Map) else node.step
                pieces += [f for f in (step.fn, step.guard, step.retry_if) if f is not None]
                pieces += [step.compensation.fn] if step.compensation is not None else []
        if self.graph.schema is not None:
            pieces.append(self.graph.schema.source)
        return {str(getattr(p, "__module__", "")) for p in pieces}

    def _scope(self, space: dict[str, Any], module: str) -> int:
        number = self._spaces.get(id(space))
        if number is None:
            number = self._spaces[id(space)] = len(self.scopes)
            self._alive.append(space)
            self.scopes.append({"module": module, "names": {}})
        return number

    # -- constants -----------------------------------------------------------------------------------------------------

    def _constant(self, name: str, value: Any, reader: str) -> str:
        """The key of a constant; empty if it cannot be stored."""
        stored = self._encoded(name, value, reader)
        if stored is None:
            return ""
        key, number = name, 1
        while self.constants.get(key, stored) != stored:
            number += 1
            key = f"{name}~{number}"
        self.constants[key] = stored
        return key

    def _encoded(self, name: str, value: Any, reader: str) -> str | None:
        try:
            return base64.b64encode(encode(value, at=name)).decode("ascii")
        except ValueRefused as error:
            self._reads(name, value, reader, f"it cannot be stored: {error.message}")
            return None

    def _frozen(self) -> dict[str, str]:
        return {n: key for n, v in self.graph.freeze.items() if (key := self._constant(n, v, ""))}

    # -- the whole -----------------------------------------------------------------------------------------------------

    def _imports(self) -> list[str]:
        found: dict[str, None] = {}
        for meanings in [s["names"] for s in self.scopes] + [c.get("private", {}) for c in self.callables.values()]:
            for meaning in meanings.values():
                if meaning[0] == "import":
                    found |= dict.fromkeys(meaning[1:])
        for entry in self.callables.values():
            if entry["kind"] == "reference":
                found[f"import {entry['module']}"] = None
        return sorted(found)

    def _fingerprint(self, spec: Mapping[str, Any]) -> str:
        nodes = [{k: v for k, v in n.items() if k not in ("doc", "labels")} for n in spec["nodes"]]
        for node, place in zip(nodes, self.graph, strict=True):
            if None in node.get("values", ()):
                node["values"] = [type(label).__qualname__ for label in place.labels]
        return digest(
            {
                "format": FORMAT,
                "name": spec["name"],
                "nodes": nodes,
                "entry": spec["entry"],
                "joins": spec["joins"],
                "state": spec["state"] and {k: spec["state"][k] for k in ("class",)},
                **{k: spec[k] for k in ("resources", "races") if k in spec},
                **self._limits(),
                "callables": {key: self._identity(key, entry) for key, entry in self.callables.items()},
            }
        )

    def _identity(self, key: str, entry: Mapping[str, Any]) -> Any:
        """What makes a callable the same code as another."""
        if key not in self._trees:
            return [entry.get(k) for k in ("kind", "module", "attribute", "type", "code")]
        table = self.scopes[entry["scope"]]["names"]
        return [
            self._trees[key],
            entry["flags"],
            {n: self._sense(table[n]) for n in entry["names"]},
            {n: self._sense(m) for n, m in entry["private"].items()},
            *([entry["patches"]] if entry.get("patches") else []),
        ]

    def _sense(self, meaning: list[Any]) -> list[Any]:
        match meaning:
            case ["constant", key]:
                return ["constant", digest(self.constants[key])]
            case ["data", _]:
                return ["data"]
            case _:
                return meaning


def _both(known: list[Any] | None, new: list[Any]) -> list[Any]:
    """Two readers of one module reach different submodules through the same name."""
    if known is not None and known[0] == new[0] == "import":
        return ["import", *dict.fromkeys([*known[1:], *new[1:]])]
    return new
