"""Exporting: a flow as a plain module that declares the very same one.

Owns: `module_of`, the text of that module, from what is stored of a definition. Refuses: writing files, and believing
itself: whoever writes one imports it in a clean process and compares fingerprints (`flowbook/exporting.py`).

The module has the functions, classes, imports and constants that the definition holds, and a topology that mentions its
nodes in the order in which the flow has them, because that order is part of what a fingerprint covers. What source
cannot say in one module is refused with its name: closures, names that mean two things, data, pickles.
"""

from __future__ import annotations

import ast
import base64
import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from flowbook.codec import decode, encode
from flowbook.errors import FlowbookError, NotExportable
from flowbook.graph.canonical import policy_from
from flowbook.graph.changes import Defined, Nested
from flowbook.graph.free import flat
from flowbook.graph.portable import obstacles
from flowbook.graph.routes import Routes
from flowbook.graph.step import Backoff, Policy


def module_of(flow: str, described: Defined) -> str:
    """The text of a module that declares the flow. Raises `NotExportable` with what is in the way."""
    writer = _Module(flow)
    writer.add(described)
    return writer.text()


class _Module:
    """One module, for a flow and the flows that it runs."""

    def __init__(self, flow: str) -> None:
        self.flow = flow
        self.imports: dict[str, None] = {"import flowbook as fb": None}
        self.bound: dict[str, str] = {"fb": "import flowbook as fb"}
        self.flows: dict[str, str] = {}
        """Flow that it runs -> its fingerprint."""
        self.parts: list[str] = []
        self.future = False

    def add(self, d: Defined) -> None:
        """A definition, the flows that it names first."""
        if found := obstacles(d):
            raise self.refused(found[0])
        if "carried" in d.sources:
            raise self.refused("it is stored as a pickle (--pickle), which is no source")
        for fingerprint, nested in (d.sources.get("flows") or {}).items():
            if self.flows.setdefault(nested["name"], fingerprint) != fingerprint:
                raise self.refused(f"it runs two flows called {nested['name']}")
            if nested["name"] not in self.bound:
                self.add(Nested(nested["spec"], nested["sources"]))
        _Definition(self, d).write()

    def bind(self, name: str, what: str) -> bool:
        """Give a name its meaning in the module; False: it has it already."""
        if self.bound.get(name, what) != what:
            raise self.refused(f"`{name}` means two things in it ({self.bound[name]}, {what}): rename one of them")
        new = name not in self.bound
        self.bound[name] = what
        return new

    def text(self) -> str:
        """The whole of it."""
        about = f"Flow {self.flow}, exported by flowbook. Yours to edit: with other code it is another version."
        head = f'"""{about}"""'
        future = ["from __future__ import annotations"] if self.future else []
        return "\n\n".join([head, *future, "\n".join(sorted(self.imports)), *self.parts]) + "\n"

    def refused(self, why: str) -> NotExportable:
        """The error."""
        return NotExportable(f"flow {self.flow!r} cannot be written as a module of the same identity: {why}")


class _Definition:
    """One definition on its way into a module."""

    def __init__(self, module: _Module, d: Defined) -> None:
        self.module, self.spec, self.sources = module, d.spec, d.sources
        self.callables: Mapping[str, Any] = d.sources["callables"]
        self.written: set[str] = set()
        self.steps: dict[str, Mapping[str, Any]] = {}
        """Key of a function -> what makes it a step: of the first node that it stands at."""

    def write(self) -> None:
        """All of it, in an order in which it can be executed."""
        for node in self.spec["nodes"]:
            if "step" in node:
                self.steps.setdefault(node["step"], node)
                if "undo" in node:
                    self.steps.setdefault(node["undo"]["step"], node["undo"])
        for scope in self.sources["scopes"]:
            for name, meaning in scope["names"].items():
                self._named(name, meaning)
        for key in self.callables:
            self._function(key)
        topology = self._topology()
        self.module.parts += topology

    # -- names ---------------------------------------------------------------------------------------------------------

    def _named(self, name: str, meaning: list[Any]) -> None:
        match meaning:
            case ["import", *statements]:
                self.module.bind(name, statements[0])
                self.module.imports |= dict.fromkeys(statements)
            case ["constant", key]:
                text = self._literal(name, key)
                if self.module.bind(name, f"{name} = {text}"):
                    self.module.parts.append(f"{name} = {text}")
            case ["flow", fingerprint] if fingerprint:
                nested = self.sources["flows"][fingerprint]["name"]
                if name != nested and self.module.bind(name, f"{name} = {nested}"):
                    self.module.parts.append(f"{name} = {nested}")
            case ["step", key, _, options, *asked]:
                self.steps.setdefault(key, {"policy": options, **({"retry_if": asked[0]} if asked else {})})
            case ["steps", _] | ["data", *_] | ["missing", *_]:
                raise self.module.refused(f"`{name}` is a {meaning[0]} in it, which no single line says")
            case _:
                pass

    def _literal(self, name: str, key: str) -> str:
        value = decode(base64.b64decode(self.sources["constants"][key]))
        text = repr(value)
        try:
            if encode(ast.literal_eval(text)) == encode(value):
                return text
        except (ValueError, SyntaxError, FlowbookError):
            pass
        raise self.module.refused(f"the constant `{name}` is a {type(value).__name__}, which has no literal")

    # -- functions and classes -----------------------------------------------------------------------------------------

    def _function(self, key: str) -> None:
        if key in self.written:
            return
        self.written.add(key)
        entry = self.callables[key]
        if entry["kind"] == "reference":
            self.module.imports[f"import {entry['module']}"] = None
            return
        if entry.get("private"):
            raise self.module.refused(f"`{key}` closes over {', '.join(f'`{n}`' for n in entry['private'])}")
        names = self.sources["scopes"][entry["scope"]]["names"]
        needed = [names[n] for n in entry["eager"] if n in names]
        undo = self.steps.get(key, {}).get("undo")
        for other in [*_keys(needed), *([undo["step"]] if undo else []), *self._asked(key)]:
            self._function(other)
        if entry["flags"]:
            self.module.future = True
        elif self.module.future:
            raise self.module.refused("some of it is written with `from __future__ import annotations`, some without")
        if entry["kind"] == "lambda":
            return  # it stands where it is used
        text = self._text(entry)
        if "~" in key:
            raise self.module.refused(f"two things in it are called `{entry['name']}`: rename one of them")
        if self.module.bind(entry["name"], text):
            self.module.parts.append(self._decorated(key, text))

    def _asked(self, key: str) -> list[str]:
        asked = self.steps.get(key, {}).get("retry_if")
        return [asked] if asked else []

    def _text(self, entry: Mapping[str, Any]) -> str:
        text = textwrap.dedent(entry["text"])
        tree = ast.parse(text).body[0]
        assert isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        kept = tree.decorator_list[len(tree.decorator_list) - entry.get("decorators", 0) :]
        first = min((d.lineno for d in kept), default=tree.lineno)
        return "\n".join(text.splitlines()[first - 1 :]).rstrip()

    def _decorated(self, key: str, text: str) -> str:
        if key in (self.spec.get("resources") or {}).values():
            return f"\n@fb.resource\n{text}"
        node = self.steps.get(key)
        if node is None:
            return f"\n{text}"
        options = self._options(node, key)
        word = "flow" if node.get("body") else "step"
        if node.get("body"):
            limit = self.spec.get("run_timeout")
            options = [
                f"name={self.spec['name']!r}", *options, *([] if limit is None else [f"run_timeout={limit!r}"]),
                *self._freeze(), *([f"version={v!r}"] if (v := self.spec.get("version")) else []),
            ]  # fmt: skip
        given = f"({', '.join(options)})" if options else ""
        return f"\n@fb.{word}{given}\n{text}"

    def _options(self, node: Mapping[str, Any], key: str) -> list[str]:
        policy, plain = policy_from(dict(node.get("policy") or {}), self.spec["name"]), Policy()
        found = []
        for option in dataclasses.fields(Policy):
            value = getattr(policy, option.name)
            if value != getattr(plain, option.name):
                text = f"fb.{value!r}" if isinstance(value, Backoff) else repr(value)
                found.append(f"{option.name}={text}")
        if "retry_if" in node:
            found.append(f"retry_on={self._expression(node['retry_if'])}")
        if "undo" in node:
            found.append(f"compensate={self.callables[node['undo']['step']]['name']}")
        return found

    def _expression(self, key: str) -> str:
        """A function where it is used."""
        entry = self.callables[key]
        match entry["kind"]:
            case "reference":
                return f"{entry['module']}.{entry['attribute']}"
            case "lambda":
                return " ".join(line.strip() for line in entry["text"].splitlines())
            case _:
                return str(entry["name"])

    # -- the topology --------------------------------------------------------------------------------------------------

    def _topology(self) -> list[str]:
        nodes = self.spec["nodes"]
        if len(nodes) == 1 and nodes[0].get("body"):
            made = self.callables[nodes[0]["step"]]["name"]
            return [] if made == self.spec["name"] else [f"{self.spec['name']} = {made}"]
        lines = [line for node in nodes for line in self._place(node)]
        lines += [line for node in nodes for line in self._guarded(node)]
        routes = Routes(self.spec, self._reference, self._branch)
        topology = ",\n".join(f"    {line}" for line in routes.lines())
        options = "".join(f"    {option},\n" for option in self._limits())
        whole = f"{self.spec['name']} = fb.graph(\n    {self.spec['name']!r},\n{topology},\n{options})"
        self.module.bind(self.spec["name"], f"flow {self.spec['name']}")
        return ["\n".join([*lines, whole])] if lines else [whole]

    def _limits(self) -> Iterator[str]:
        spec = self.spec
        if spec.get("state"):
            yield f"state={self.callables[spec['state']['class']]['name']}"
        for option in ("version", "run_timeout", "outputs", "recursion_limit"):
            if spec.get(option) is not None:
                yield f"{option}={spec[option]!r}"
        yield from self._freeze()

    def _freeze(self) -> list[str]:
        frozen = self.sources.get("frozen") or {}
        for name, key in frozen.items():
            self._named(name, ["constant", key])
        return [f"freeze={{{', '.join(f'{n!r}: {n}' for n in frozen)}}}"] if frozen else []

    def _place(self, node: Mapping[str, Any]) -> Iterator[str]:
        """The line that makes a node, where no function is decorated as it."""
        name, it = node["name"], node.get("map")
        if "wait" in node:
            made = self._pause(node)
        elif it:
            what = self._subflow(node, it["step"]) if "flow" in node else self._step_of(node, it["step"])
            more = f", item={it['item']!r}" if it.get("item") else ""
            made = (
                f"fb.map_({what}, over={it['over']!r}, into={it['into']!r}, concurrency={it['concurrency']}, "
                f"on_error={'collect' if it['collect'] else 'fail'!r}, name={name!r}{more})"
            )
        elif "flow" in node:
            made = self._subflow(node, name)
        elif self.callables[node["step"]]["kind"] != "function":
            options = [f"name={name!r}", *self._options(node, node["step"])]
            made = f"fb.step({', '.join(options)})({self._expression(node['step'])})"
        elif self.callables[node["step"]]["name"] != name:
            made = f"{self.callables[node['step']]['name']}.as_({name!r})"
        else:
            return
        variable = _variable(node)
        if self.module.bind(variable, made):
            yield f"{variable} = {made}"

    def _guarded(self, node: Mapping[str, Any]) -> Iterator[str]:
        if "when" in node:
            yield f"{self._reference(node['name'])} = fb.when({self._expression(node['when'])}, {_variable(node)})"

    def _reference(self, name: str) -> str:
        """A node in the topology."""
        node = next(n for n in self.spec["nodes"] if n["name"] == name)
        return f"maybe_{name}" if "when" in node else _variable(node)

    def _step_of(self, node: Mapping[str, Any], name: str) -> str:
        made = str(self.callables[node["step"]]["name"])
        return made if made == name else f"{made}.as_({name!r})"

    def _subflow(self, node: Mapping[str, Any], name: str) -> str:
        flow = node["flow"]
        given = flow["input"]
        if node.get("map"):
            return str(flow["name"])
        shown = self._expression(given) if isinstance(given, str) else None if given is None else repr(dict(given))
        options = [f"name={name!r}", f"into={flow['into']!r}"]
        options += [f"input={shown}"] if shown else []
        options += [f"key={self._expression(flow['key'])}"] if flow["key"] else []
        options += [f"queue={flow['queue']!r}"] if flow["queue"] else []
        return f"fb.subflow({flow['name']}, {', '.join(options)})"

    def _pause(self, node: Mapping[str, Any]) -> str:
        it, name = node["wait"], node["name"]
        if node.get("labels") or len(it["signals"]) > 1:
            raise self.module.refused(f"{name} is a pause with several ways on, which is not written yet")
        if not it["signals"]:
            return f"fb.sleep({it['seconds']!r}, name={name!r})"
        signal, schema = it["signals"][0]
        options = [repr(signal), f"name={name!r}"]
        options += [] if it["seconds"] is None else [f"timeout={it['seconds']!r}"]
        options += [f"into={it['into']!r}"] if it["into"] else []
        options += [f"schema={self._expression(schema)}"] if schema else []
        return f"fb.wait({', '.join(options)})"

    def _branch(self, node: Mapping[str, Any]) -> tuple[str, list[str]]:
        """(router, labels) of a branch as they are written."""
        labels = []
        for stored in node["values"]:
            if stored is None:
                raise self.module.refused(f"a label behind {node['name']} is no literal")
            value = decode(base64.b64decode(stored))
            if not isinstance(value, str | int | float | bool | None):
                raise self.module.refused(f"the label {value!r} behind {node['name']} is no literal")
            labels.append(repr(value))
        return self._expression(node["router"]), labels


def _keys(meanings: list[Any]) -> Iterator[str]:
    return (key for m in flat(meanings) if m[0] in ("callable", "step") for key in (m[1], *m[4:]))


def _variable(node: Mapping[str, Any]) -> str:
    """What a node is called in the module: a step as itself, what is made of others apart from them."""
    name = str(node["name"])
    prefix = "map_" if node.get("map") else "run_" if "flow" in node else "wait_" if "wait" in node else ""
    return prefix + name
