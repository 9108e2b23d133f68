"""Rebuilding: a graph from its stored source, where its notebook or module is gone.

Owns: the check of the signature, fresh modules with the stored code in them, the graph put together from its spec.
Refuses: unsigned source unless told so, definitions that are not portable, and a result whose fingerprint is another
one than that of the definition.

Each scope of the sources (`source.py`) becomes a module of its own in ``sys.modules``, its text in `linecache`, so that
tracebacks show lines and `describe` finds the source again. Definitions are made in the order in which they need each
other: what is read while a definition is executed comes before it. Functions and classes keep the name of the module
that they were written in: stored values refer to classes by it (``__main__:Doc``), and cloudpickle sends functions of
``__main__`` by value.
"""

from __future__ import annotations

import ast
import base64
import builtins
import importlib
import inspect
import itertools
import json
import linecache
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from flowbook.codec import decode, register
from flowbook.codec.registry import find_class
from flowbook.errors import FlowbookError, NotPortable, SignatureRefused
from flowbook.graph.body import Body
from flowbook.graph.canonical import canonical_json, policy_from
from flowbook.graph.carried import unpacked
from flowbook.graph.changes import changes
from flowbook.graph.flow import RECURSION_LIMIT, Graph, Node
from flowbook.graph.free import FACTORY, flat, module_for
from flowbook.graph.imperative import kind_of
from flowbook.graph.locate import ORIGINS, Definition, Origin, methods, parse
from flowbook.graph.logic import Condition
from flowbook.graph.mapping import Map
from flowbook.graph.pause import Pause, Signal
from flowbook.graph.places import Place, flow_of
from flowbook.graph.portable import obstacles
from flowbook.graph.resource import Resource, resource
from flowbook.graph.sign import verify
from flowbook.graph.source import FORMAT, Described, describe, take_as
from flowbook.graph.state import schema_of
from flowbook.graph.step import Step, when
from flowbook.graph.subflow import Subflow

_serial = itertools.count(1)


class Stored(Protocol):
    """A definition as the store has it (`flowbook.ports.Definition`, which stands above this floor)."""

    @property
    def namespace(self) -> str: ...
    @property
    def flow(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def spec(self) -> Mapping[str, Any]: ...
    @property
    def sources(self) -> Mapping[str, Any]: ...
    @property
    def signature(self) -> str: ...


def rebuild(definition: Stored, *, key: bytes | None, allow_unsigned: bool = False) -> Graph:
    """The graph of a stored definition, its code executed in modules of its own.

    Nothing of it is executed before the signature over all of it is verified with this user's ``key``, or
    ``allow_unsigned`` says that it may run all the same. Raises `SignatureRefused`, and `NotPortable` with the reasons
    where it cannot be rebuilt here.
    """
    d = definition
    if not allow_unsigned:
        _check_signature(d, key)
    if d.spec.get("format") != FORMAT or d.sources.get("format") != FORMAT:
        raise NotPortable(d.flow, ("its source was stored in a form that this release of flowbook cannot read",))
    found = obstacles(d)
    if found:
        raise NotPortable(d.flow, found)
    if "carried" in d.sources:
        carried = unpacked(d.flow, d.sources["carried"])
        _take_all(carried, Described(d.fingerprint, dict(d.spec), dict(d.sources)))
        return carried
    workshop = _Workshop(d)
    try:
        graph = workshop.graph()
        if graph.fingerprint != d.fingerprint:
            raise NotPortable(d.flow, _differs(d, graph))
    except BaseException:
        workshop.discard()
        raise
    return graph


@dataclass(frozen=True, slots=True)
class _Nested:
    """A flow that a sub-flow runs, as the definition of the flow around it has it; that one's signature covers it."""

    namespace: str
    flow: str
    fingerprint: str
    spec: Mapping[str, Any]
    sources: Mapping[str, Any]
    signature: str = ""


def _take_all(graph: Graph, described: Described) -> None:
    take_as(graph, described)
    for flow in (flow for node in graph if (flow := flow_of(node.step)) is not None):
        nested = described.sources["flows"][flow.fingerprint]
        _take_all(flow, Described(flow.fingerprint, nested["spec"], nested["sources"]))


def _check_signature(d: Stored, key: bytes | None) -> None:
    shown = f"the stored source of flow {d.flow!r} ({d.fingerprint[:8]})"
    advice = "Nothing of it was run. If you know where it comes from, say --allow-source"
    if not d.signature:
        raise SignatureRefused(f"{shown} is not signed. {advice}")
    if key is None or not verify(key, d.namespace, d.flow, d.fingerprint, d.spec, d.sources, d.signature):
        why = "there is no key here" if key is None else "somebody else wrote it, or it was changed since"
        raise SignatureRefused(f"{shown} is not signed with your key: {why}. {advice}")


def _differs(d: Stored, graph: Graph) -> tuple[str, ...]:
    head = f"its source, rebuilt, is {graph.fingerprint[:8]} and not {d.fingerprint[:8]}"
    return (f"{head}: {'; '.join(changes(d, describe(graph))) or 'a package it imports is another one here'}",)


class _Workshop:
    """One rebuilding."""

    def __init__(self, d: Stored) -> None:
        self.d = d
        self.callables: Mapping[str, Any] = d.sources["callables"]
        self.scopes: list[Mapping[str, Any]] = list(d.sources["scopes"])
        self._made: dict[str, Any] = {}
        self._steps: dict[bytes, Step] = {}
        self._resources: dict[Any, Resource] = {}
        self._constants: dict[str, Any] = {}
        self._begun: set[str] = set()
        self._nodes: dict[str, Definition] = {}
        self._frozen = set(d.sources["frozen"].values())
        self._flows: dict[str, Graph] = {}
        name = f"flowbook_rebuilt_{d.flow}_{d.fingerprint[:8]}_{next(_serial)}"
        self._modules = [types.ModuleType(f"{name}_{i}") for i in range(len(self.scopes))]
        self._files = [f"<stored source of {d.flow}@{d.fingerprint[:8]}, {m.__name__}>" for m in self._modules]

    def graph(self) -> Graph:
        """Everything made and put together."""
        for number in range(len(self.scopes)):
            self._furnish(number)
        for key in self.callables:
            self._make(key)
        self._bind_the_rest()
        spec = self.d.spec
        schema = schema_of(self._made[spec["state"]["class"]]) if spec["state"] else None
        for key in self.callables:  # only now: annotations that are texts are looked up in the class's module
            self._rename(key)
        nodes = {n["name"]: self._node(n) for n in spec["nodes"]}
        joins = {(node, way): join for node, way, join in spec["joins"]}
        freeze = {n: self._constant(key) for n, key in self.d.sources["frozen"].items()}
        resources = {n: self._resource(self._made[key]) for n, key in spec.get("resources", {}).items()}
        races = frozenset((node, way) for node, way in spec.get("races", ()))
        limit = spec.get("run_timeout")
        whole = kind_of(nodes)(
            spec["name"], nodes, tuple(spec["entry"]), joins, schema, spec["version"], freeze,
            resources=resources, races=races, run_timeout=None if limit is None else float(limit),
            outputs=tuple(spec["outputs"]) if "outputs" in spec else None,
            doc=spec.get("doc", ""), recursion_limit=int(spec.get("recursion_limit", RECURSION_LIMIT)),
        )  # fmt: skip
        self._name(whole)
        return whole

    def _name(self, whole: Graph) -> None:
        """Give the flow to the code in it that names it."""
        for module, scope in zip(self._modules, self.scopes, strict=True):
            module.__dict__.update({n: whole for n, meaning in scope["names"].items() if meaning == ["flow", ""]})
        for key, entry in self.callables.items():
            own = {n for n, meaning in entry.get("private", {}).items() if meaning == ["flow", ""]}
            for function in _functions(self._made[key], self._nodes[key]) if own else ():
                for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                    if name in own:
                        cell.cell_contents = whole

    def discard(self) -> None:
        """Leave nothing of a failed rebuilding behind."""
        for module, file in zip(self._modules, self._files, strict=True):
            sys.modules.pop(module.__name__, None)
            linecache.cache.pop(file, None)

    # -- modules -------------------------------------------------------------------------------------------------------

    def _furnish(self, number: int) -> None:
        """The module of a scope, with its text, imports and plain constants."""
        module, file = self._modules[number], self._files[number]
        keys = [k for k, c in self.callables.items() if c.get("scope") == number]
        chunks = [(f"({c['text']}\n)" if c["kind"] == "lambda" else c["text"]).rstrip("\n") for k in keys
                  if (c := self.callables[k])]  # fmt: skip
        text = "\n\n\n".join(chunks) + "\n"
        for key, statement in zip(keys, parse(text).body, strict=True):
            node = statement.value if isinstance(statement, ast.Expr) else statement
            assert isinstance(node, Definition), f"{key!r} is {node!r}"  # `describe` wrote it, or somebody signed it
            self._nodes[key] = node
        module.__dict__.update({"__file__": file, "__builtins__": builtins})
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        sys.modules[module.__name__] = module
        for name, meaning in self.scopes[number]["names"].items():
            if meaning[0] == "import" or (meaning[0] == "constant" and meaning[1] not in self._frozen):
                module.__dict__[name] = self._value(name, meaning)

    def _bind_the_rest(self) -> None:
        for module, scope in zip(self._modules, self.scopes, strict=True):
            for name, meaning in scope["names"].items():
                if name not in module.__dict__:
                    module.__dict__[name] = self._value(name, meaning)

    # -- definitions ---------------------------------------------------------------------------------------------------

    def _make(self, key: str) -> None:
        """Make a definition, and before it what it reads while it is made."""
        if key in self._begun:
            return
        self._begun.add(key)
        entry = self.callables[key]
        if entry["kind"] == "reference":
            self._made[key] = self._imported(entry)
            return
        number = entry["scope"]
        names, space = self.scopes[number]["names"], self._modules[number].__dict__
        for name in entry["eager"]:
            if name in names and name not in space:
                for other in _keys([names[name]]):
                    self._make(other)
                    self._make_what_it_calls(other)
                if not set(_keys([names[name]])) - self._made.keys():
                    space[name] = self._value(name, names[name])
        for other in _keys(entry["private"].values()):
            self._make(other)
        private = {
            n: None if set(_keys([m])) - self._made.keys() else self._value(n, m) for n, m in entry["private"].items()
        }
        thing = self._made[key] = self._execute(key, entry, private)
        for function in _functions(thing, self._nodes[key]):
            self._close(function, entry["private"], private)
        for other in _keys(names[n] for n in entry["names"]):
            self._make(other)
        for name in entry["names"]:
            if name not in space and not set(_keys([names[name]])) - self._made.keys():
                space[name] = self._value(name, names[name])

    def _make_what_it_calls(self, key: str) -> None:
        """A decorator is called while a definition is executed, so its own names must be there as well."""
        entry = self.callables[key]
        if entry["kind"] != "reference":
            names = self.scopes[entry["scope"]]["names"]
            for other in _keys(names[n] for n in entry["names"]):
                self._make(other)

    def _execute(self, key: str, entry: Mapping[str, Any], private: Mapping[str, Any]) -> Any:
        node, number = self._nodes[key], entry["scope"]
        local: dict[str, Any] = {}
        try:
            tree = module_for(node, private, entry["decorators"])
            code = compile(tree, self._files[number], "exec", entry["flags"], dont_inherit=True)
            exec(code, self._modules[number].__dict__, local)  # noqa: S102 - what `rebuild` is for: verified above
            name = FACTORY if private or entry["kind"] == "lambda" else entry["name"]
            thing = local[name](**private) if private else local[getattr(node, "name", name)]
        except FlowbookError:
            raise
        except Exception as error:
            raise NotPortable(
                self.d.flow, (f"`{key}` cannot be defined again here: {type(error).__name__}: {error}",)
            ) from error
        if isinstance(thing, type):
            space = self._modules[number].__dict__
            ORIGINS[thing] = Origin(self._files[number], space, entry["flags"], entry["module"])
        return thing

    def _close(self, function: types.FunctionType, meanings: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        """Fill the cells of definitions that close over each other, or over themselves."""
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            meaning = meanings.get(name)
            if meaning is not None and known[name] is None and not set(_keys([meaning])) - self._made.keys():
                cell.cell_contents = self._value(name, meaning)

    def _rename(self, key: str) -> None:
        entry, thing = self.callables[key], self._made[key]
        if entry["kind"] == "reference":
            return
        inner = thing if isinstance(thing, type) else _defined(thing, self._nodes[key])
        inner.__qualname__ = entry["qualname"]
        if not isinstance(inner, type):
            inner.__module__ = entry["module"]
            return
        live = find_class(entry["module"], entry["qualname"])
        if live is None or live in ORIGINS:  # in a living notebook the name belongs to the notebook's own class
            made_in, inner.__module__ = inner.__module__, entry["module"]
            for value in vars(inner).values():  # generated ones, too: cloudpickle asks each function for itself
                function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
                if isinstance(function, types.FunctionType) and function.__module__ == made_in:
                    function.__module__ = entry["module"]
            register(inner)

    # -- what names mean -----------------------------------------------------------------------------------------------

    def _value(self, name: str, meaning: list[Any]) -> Any:
        match meaning:
            case ["import", *statements]:
                return self._import(name, statements)
            case ["callable", key]:
                return self._made[key]
            case ["step", key, step, options, *asked]:
                return self._step(key, step, options, *asked)
            case ["constant", key]:
                return self._constant(key)
            case ["flow", ""]:
                return None  # not made yet, see `_name`
            case ["flow", fingerprint]:
                return self._flow(fingerprint)
            case ["steps", named]:
                return {n: self._value(n, each) for n, each in named}
            case _:
                raise NotPortable(self.d.flow, (f"`{name}` is {meaning!r}, which cannot be rebuilt",))

    def _step(self, key: str, name: str, options: dict[str, Any], asked: str | None = None) -> Step:
        """``asked``: the key of the function that says which exceptions are worth another attempt."""
        identity = canonical_json([key, name, options, asked])
        if identity not in self._steps:
            retry_if = None if asked is None else self._made[asked]
            self._steps[identity] = Step(self._made[key], name, policy_from(options, self.d.flow), retry_if=retry_if)
        return self._steps[identity]

    def _resource(self, made: Any) -> Resource:
        """The resource that a definition makes; one that was imported is one already. The same one for all names."""
        if isinstance(made, Resource):
            return made
        return self._resources.setdefault(made, resource(made))

    def _constant(self, key: str) -> Any:
        if key not in self._constants:
            self._constants[key] = decode(base64.b64decode(self.d.sources["constants"][key]))
        return self._constants[key]

    def _import(self, name: str, statements: list[str]) -> Any:
        space: dict[str, Any] = {}
        for statement in reversed(statements):  # submodules first: the name itself is what the first one binds
            try:
                exec(statement, space)  # noqa: S102 - verified above
            except ImportError as error:
                raise NotPortable(self.d.flow, (f"it needs `{statement}`, and here that fails: {error}",)) from error
        return space[name]

    def _imported(self, entry: Mapping[str, Any]) -> Any:
        try:
            return getattr(importlib.import_module(entry["module"]), entry["attribute"])
        except (ImportError, AttributeError) as error:
            needs = f"from {entry['module']} import {entry['attribute']}"
            raise NotPortable(self.d.flow, (f"it needs `{needs}`, and here that fails: {error}",)) from error

    def _node(self, stored: Mapping[str, Any]) -> Node:
        place = self._placed(stored)
        ways = tuple(tuple(w) for w in stored["ways"])
        labels = tuple(decode(base64.b64decode(v)) for v in stored.get("values", ()))
        router: Any = self._made[stored["router"]] if "router" in stored else None
        return Node(place, ways, Condition(json.loads(stored["rule"])) if "rule" in stored else router, labels)

    def _placed(self, stored: Mapping[str, Any]) -> Place:
        if "wait" in stored:
            return self._pause(stored["name"], stored["wait"])
        it = stored.get("map")
        if "flow" in stored:
            sub = self._subflow(it["step"] if it else stored["name"], stored["flow"])
            return self._map(stored["name"], sub, it) if it else sub
        if stored.get("body"):
            retry_if = self._made[stored["retry_if"]] if "retry_if" in stored else None
            policy = policy_from(stored["policy"], self.d.flow)
            return Body(self._made[stored["step"]], stored["name"], policy, retry_if)
        name = it["step"] if it else stored["name"]
        step = self._step(stored["step"], name, stored["policy"], stored.get("retry_if"))
        if "input" in stored:
            step = step.like(wiring=json.loads(stored["input"]))
        if it:
            return self._map(stored["name"], step, it)
        if "undo" in stored:
            undo = self._placed(stored["undo"])
            assert isinstance(undo, Step)
            step = step.like(compensation=undo)
        if "when_rule" in stored:
            return when(Condition(json.loads(stored["when_rule"]), decides=True), step)
        return when(self._made[stored["when"]], step) if "when" in stored else step

    def _map(self, name: str, what: Step | Subflow, it: Mapping[str, Any]) -> Map:
        return Map(name, what, it["over"], it["into"], it["concurrency"], it["collect"], it.get("item"))

    def _pause(self, name: str, stored: Mapping[str, Any]) -> Pause:
        signals = tuple(Signal(s, None if key is None else self._made[key]) for s, key in stored["signals"])
        seconds = stored["seconds"]  # jsonb gives 60.0 back as 60.0, but who knows of other stores
        return Pause(name, signals, None if seconds is None else float(seconds), stored["into"])

    def _flow(self, fingerprint: str) -> Graph:
        """A flow that is stored within this one."""
        if fingerprint not in self._flows:
            nested = self.d.sources["flows"][fingerprint]
            d = _Nested(self.d.namespace, nested["name"], fingerprint, nested["spec"], nested["sources"])
            self._flows[fingerprint] = rebuild(d, key=None, allow_unsigned=True)  # what holds it was verified
        return self._flows[fingerprint]

    def _subflow(self, name: str, stored: Mapping[str, Any]) -> Subflow:
        given = stored["input"]
        if isinstance(given, str):
            given = self._made[given]
        elif given is not None:
            given = tuple((theirs, ours) for theirs, ours in given)
        key = None if stored["key"] is None else self._made[stored["key"]]
        return Subflow(name, self._flow(stored["fingerprint"]), given, stored["into"], key, stored["queue"])


def _keys(meanings: Any) -> Iterator[str]:
    """The keys of the callables among meanings."""
    return (key for m in flat(meanings) if m[0] in ("callable", "step") for key in (m[1], *m[4:]))


def _defined(thing: Any, node: Definition) -> Any:
    """What the definition itself made: below its decorators, but not below a wrapper that it is."""
    name, lines = (
        getattr(node, "name", "<lambda>"),
        (node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))),
    )

    def made(f: Any) -> bool:
        code = getattr(f, "__code__", None)
        return code is not None and code.co_name == name and code.co_firstlineno in lines

    return inspect.unwrap(thing, stop=made)


def _functions(thing: Any, node: Definition) -> Iterator[types.FunctionType]:
    for candidate in methods(thing) if isinstance(thing, type) else (_defined(thing, node),):
        if isinstance(candidate, types.FunctionType):
            yield candidate
