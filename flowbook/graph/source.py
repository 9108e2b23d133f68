"""Describing: the code of a graph as JSON, and its fingerprint.

Owns: `Described`, `describe`, the walk from a graph's steps, routers and state to everything they call. Refuses:
the topology (`spec.py`); running anything; saying what is wrong with it (`portable.py`).

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

A name means a list: ``["import", statement, ...]``, ``["callable", key]``, ``["step", key, name, options]``
(and behind it the key of its ``retry_on``, if that is a function), ``["flow", fingerprint]`` (of itself: empty),
``["steps", [[name, meaning], ...]]`` (a dict of steps and flows), ``["constant", key]``, ``["data", type]`` or
``["missing"]``; builtins are not listed. Names are resolved when the graph is described, and found to mean one thing
per module.

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

from flowbook import secret
from flowbook.codec import encode
from flowbook.codec.registry import taker
from flowbook.errors import ValueRefused
from flowbook.graph.altered import altered, patches
from flowbook.graph.canonical import bytecode, digest, policy_json, shape, storable, tree
from flowbook.graph.carried import packed
from flowbook.graph.changes import changes  # part of what this module offers, in a file of its own
from flowbook.graph.decorated import decorators_of, definition_of
from flowbook.graph.flow import Graph
from flowbook.graph.free import (
    flat,
    importable,
    imports,
    installed,
    is_plain,
    module_in,
    names_of,
    private_names,
    reference,
)
from flowbook.graph.locate import FUTURE, Definition, Nowhere, namespace_of, place_of, shown_file
from flowbook.graph.places import flow_of
from flowbook.graph.resource import Resource
from flowbook.graph.spec import limits, pieces, spec_of
from flowbook.graph.step import Step

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
    return tuple(flow for node in graph if (flow := flow_of(node.step)) is not None)


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
        self._homes = {str(getattr(p, "__module__", "")) for p in pieces(graph)}
        self._flows: dict[str, Graph] = {}
        """Fingerprint -> flow that some of this code names."""

    def describe(self) -> Described:
        spec = spec_of(self.graph, self, FORMAT)
        sources: dict[str, Any] = {
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
        if secret.known:  # before anything is signed
            return Described(self._fingerprint(spec), secret.redacted(spec), secret.redacted(sources))
        return Described(self._fingerprint(spec), spec, sources)

    # -- callables -----------------------------------------------------------------------------------------------------

    def resource(self, resource: Resource) -> str:
        """The key of a resource: of the function that makes it, unless it is imported."""
        found = reference(resource)
        if found is not None and self._by_reference(found[0]):
            return self.callable(resource, resource.name)
        return self.callable(resource.fn, resource.name, as_step=True)

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
            asked = [] if value.retry_if is None else [self.callable(value.retry_if, f"retry_on of {value.name}")]
            return ["step", key, value.name, policy_json(value.policy), *asked]
        if isinstance(value, Graph):
            return self._flow(name, value, reader, node)
        if isinstance(value, Resource) and reference(value) is None:
            return ["callable", self.resource(value)]
        if _are_steps(value):
            return ["steps", [[n, self._meaning(n, each, reader, node)] for n, each in value.items()]]
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
        stored = self.encoded(name, value, reader)
        if stored is None:
            return ""
        key, number = name, 1
        while self.constants.get(key, stored) != stored:
            number += 1
            key = f"{name}~{number}"
        self.constants[key] = stored
        return key

    def encoded(self, name: str, value: Any, reader: str) -> str | None:
        """A value as base64 text; None: the codec refuses it, which is noted."""
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
            for meaning in flat(meanings.values()):
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
                **limits(self.graph),
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


def _are_steps(value: Any) -> bool:
    """A dict that says by which name a body calls which step or flow."""
    return type(value) is dict and bool(value) and all(
        type(name) is str and isinstance(each, Step | Graph) for name, each in value.items()
    )  # fmt: skip


def _both(known: list[Any] | None, new: list[Any]) -> list[Any]:
    """Two readers of one module reach different submodules through the same name."""
    if known is not None and known[0] == new[0] == "import":
        return ["import", *dict.fromkeys([*known[1:], *new[1:]])]
    return new
