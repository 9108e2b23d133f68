"""Reading specs: a flow from data.

Owns: `from_spec`, and every mistake of a spec with its place, all at once. Refuses: names that were not registered
(`templates.py`), and running anything: to read a spec calls no code of anybody's.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from flowbook.errors import FlowbookError, SpecRefused, TopologyError
from flowbook.graph import written as w
from flowbook.graph.binding import wants_context
from flowbook.graph.canonical import canonical_json
from flowbook.graph.expression import END_NODE, START_NODE, Branch, Case, Fragment, Routing, fragment, join
from flowbook.graph.flow import RECURSION_LIMIT, Graph, graph
from flowbook.graph.imperative import Imperative
from flowbook.graph.logic import Condition, pointed, problems
from flowbook.graph.mapping import map_
from flowbook.graph.names import END
from flowbook.graph.pause import Pause, sleep, wait_any
from flowbook.graph.places import Place
from flowbook.graph.race import race
from flowbook.graph.step import UNSAID, Backoff, Step, attempt_options, when
from flowbook.graph.subflow import subflow
from flowbook.graph.wiring import mistakes, steps_read

LARGEST = 1024 * 1024
"""Bytes of JSON that a spec may have."""
_NODE: TypeAdapter[Any] = TypeAdapter(w.Node)


def from_spec(spec: Mapping[str, Any] | str | Path, steps: Mapping[str, Any], *, name: str | None = None) -> Graph:
    """The flow of a spec. ``steps``: what it may name; ``name``: what the flow is called, whatever the spec says.

    Raises `SpecRefused` with every mistake and its JSON pointer.
    """
    data = loaded(spec)
    return _Reader(data if name is None else {**data, "name": name}, steps).graph()


def loaded(spec: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """A spec as plain JSON: from a dict, a text of YAML or JSON, or a file. Raises `SpecRefused`."""
    if isinstance(spec, Path) or (isinstance(spec, str) and _is_file(spec)):
        path = Path(spec)
        try:
            spec = path.read_text(encoding="utf-8")
        except OSError as error:
            raise SpecRefused(path.stem, (("", f"{path} cannot be read: {error.strerror}"),)) from error
    if isinstance(spec, str):
        spec = _parsed(spec)
    if not isinstance(spec, Mapping):
        raise SpecRefused("?", (("", f"a spec is a mapping of keys, and this is {type(spec).__name__}"),))
    shown = str(spec.get("name", "?"))
    try:
        text = json.dumps(dict(spec), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecRefused(shown, (("", f"a spec is JSON, and this holds something else: {error}"),)) from None
    if len(text) > LARGEST:
        raise SpecRefused(shown, (("", f"it has {len(text):,} characters, and {LARGEST:,} are the most"),))
    found: dict[str, Any] = json.loads(text)
    return found


def same_spec(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Are two specs the same data?"""
    return canonical_json(one) == canonical_json(other)


def _is_file(text: str) -> bool:
    return "\n" not in text and text.lower().endswith((".yaml", ".yml", ".json"))


def _parsed(text: str) -> Any:
    """What a text of YAML or JSON says: without aliases, of which a few lines make gigabytes, and no key twice."""
    import yaml  # only where a text is given

    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise yaml.MarkedYAMLError(problem="aliases (*name) are not for specs", problem_mark=event.start_mark)
        _check_keys(yaml.compose(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise SpecRefused("?", (("", f"it is neither YAML nor JSON: {' '.join(str(error).split())}"),)) from None


def _check_keys(node: Any) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        for number, (key, value) in enumerate(node.value):
            if isinstance(key.value, str) and key.value in keys[:number]:
                told = f"{key.value!r} stands twice in one mapping"
                raise yaml.MarkedYAMLError(problem=told, problem_mark=key.start_mark)
            _check_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _check_keys(each)


class _Reader:
    """One reading."""

    def __init__(self, data: dict[str, Any], known: Mapping[str, Any]) -> None:
        self.data = data
        self.known = known
        self.problems: list[tuple[str, str]] = []
        self.nodes: dict[str, Any] = {}
        self.places: dict[str, Place] = {}

    def graph(self) -> Graph:
        """The flow. Raises `SpecRefused`."""
        shown = str(self.data.get("name", "?"))
        head = self._head()
        raw = self.data.get("steps")
        if head is not None and head.body is not None:
            return self._imperative(shown, head, raw)
        self._read_nodes(raw if isinstance(raw, dict) else {})
        names = raw.keys() if isinstance(raw, dict) else ()
        if not names and not any(at.startswith("/steps") for at, _ in self.problems):
            self.problems.append(("/steps", "there is no step in it"))
        for name, node in self.nodes.items():
            at = f"/steps/{pointed(name)}"
            self._check_ways(node, at, names)
            place = self._placed(name, node, at)
            if place is not None:
                self.places[name] = place
        if head is not None:
            self._check_target(head.start, "/start", names)
        self._check_reads()
        schema = None if head is None or head.state is None else self._class(head.state, "/state")
        if self.problems or head is None:
            raise SpecRefused(shown, tuple(dict.fromkeys(self.problems)))
        return self._built(shown, head, schema)

    def _built(self, shown: str, head: w.Head, schema: type | None) -> Graph:
        parts = [fragment(place) for place in self.places.values()]
        for name, node in self.nodes.items():
            parts += self._ways(self.places[name], node)
        if head.start is not None:
            parts.append(join(fragment(START_NODE), self._targets(head.start, racing=head.race)))
        try:
            made = graph(
                head.name, parts[0], *parts[1:], state=schema, version=head.version, run_timeout=head.run_timeout,
                outputs=head.outputs, recursion_limit=head.recursion_limit or RECURSION_LIMIT,
            )  # fmt: skip
        except TopologyError as error:
            raise SpecRefused(shown, tuple((self._where(p), p) for p in error.problems)) from error
        except FlowbookError as error:
            raise SpecRefused(shown, (("", error.message),)) from error
        return replace(made, doc=head.doc)

    # -- form ----------------------------------------------------------------------------------------------------------

    def _head(self) -> w.Head | None:
        try:
            return w.Head.model_validate({k: v for k, v in self.data.items() if k != "steps"})
        except ValidationError as error:
            self._note(error, "")
            return None

    def _read_nodes(self, raw: Mapping[str, Any]) -> None:
        if "steps" in self.data and not isinstance(self.data["steps"], dict):
            self.problems.append(("/steps", "it is a mapping from names to nodes"))
        for name, given in raw.items():
            at = f"/steps/{pointed(name)}"
            try:
                TypeAdapter(w.Name).validate_python(name)
                self.nodes[name] = _NODE.validate_python(given)
            except ValidationError as error:
                self._note(error, at)
                self._read_the_rest(name, given, error)

    def _read_the_rest(self, name: str, given: Any, error: ValidationError) -> None:
        """What is right of a node is checked further, so that all is told at once."""
        wrong = {part for each in error.errors() for part in each["loc"][1:2]}
        if isinstance(given, dict) and wrong and not wrong & w.KINDS.keys():
            with contextlib.suppress(ValidationError):
                self.nodes[name] = _NODE.validate_python({k: v for k, v in given.items() if k not in wrong})

    def _note(self, error: ValidationError, at: str) -> None:
        for each in error.errors(include_url=False, include_context=False):
            where = [part for n, part in enumerate(each["loc"]) if not (n == 0 and at and part in w.KINDS)]
            message = each["msg"]
            if each["type"] == "extra_forbidden":
                message = f"{where[-1]!r} is not known here"
            elif each["type"] == "missing":
                message = "it is missing"
            self.problems.append((at + "".join(f"/{pointed(part)}" for part in where), message))

    def _where(self, problem: str) -> str:
        name = next((n for n in self.nodes if problem.startswith((f"{n} ", f"{n},", f"{n}:"))), None)
        return "/steps" if name is None else f"/steps/{pointed(name)}"

    # -- names ---------------------------------------------------------------------------------------------------------

    def _template(self, name: str, at: str, kind: type | tuple[type, ...], what: str) -> Any:
        found = self.known.get(name)
        if isinstance(found, kind):
            return found
        fitting = ", ".join(sorted(n for n, thing in self.known.items() if isinstance(thing, kind))) or "none"
        here = "" if found is None else f" ({name!r} is {found!r})"
        self.problems.append((at, f"no {what} is registered as {name!r}{here}; registered are: {fitting}"))
        return None

    def _class(self, name: str, at: str) -> Any:
        return self._template(name, at, type, "class")

    def _rule(self, given: Any, at: str, *, decides: bool) -> Any:
        """A condition, or a registered function in its place."""
        if isinstance(given, dict) and given.keys() == {"function"}:
            found = self.known.get(str(given["function"]))
            if callable(found) and not isinstance(found, type | Step | Graph):
                return found
            self.problems.append((f"{at}/function", f"no function is registered as {given['function']!r}"))
            return None
        self.problems += problems(given, at)
        return Condition(given, decides=decides)

    def _check_target(self, target: Any, at: str, names: Any) -> None:
        for place, each in [(at, target)] if isinstance(target, str) else _numbered(target or (), at):
            if each != END and each not in names:
                self.problems.append((place, f"there is no step {each!r}; steps are {', '.join(names) or 'none'}"))

    def _check_ways(self, node: Any, at: str, names: Any) -> None:
        said = [key for key in ("next", "branch", "switch") if getattr(node, key) is not None]
        if len(said) > 1:
            self.problems.append((f"{at}/{said[1]}", f"it has {said[0]!r} already: one of them says what follows"))
        if isinstance(node, w.WaitNode):
            self._check_target(node.on_timeout, f"{at}/on_timeout", names)
            if node.on_timeout is not None and node.timeout is None:
                self.problems.append((f"{at}/on_timeout", "there is no timeout, so it would never be taken"))
        self._check_target(node.next, f"{at}/next", names)
        for place, arm in _numbered(node.branch or (), f"{at}/branch"):
            self._check_target(arm.to, f"{place}/to", names)
            last = arm is node.branch[-1]
            if (arm.when is None) != last:
                told = "the last one has no condition: it is taken when no other holds" if last else "it has no `when`"
                self.problems.append((f"{place}/when" if last else place, told))
        if node.switch is not None:
            seen: list[Any] = []
            for place, case in _numbered(node.switch.cases, f"{at}/switch/cases"):
                self._check_target(case.to, f"{place}/to", names)
                if [type(case.is_), case.is_] in seen:
                    self.problems.append((f"{place}/is", f"{case.is_!r} stands here a second time"))
                seen.append([type(case.is_), case.is_])

    def _check_reads(self) -> None:
        """What a mapping reads must be able to come before its step."""
        before = {name: self._before(name) for name in self.nodes}
        for name, node in self.nodes.items():
            given = getattr(node, "input", None)
            if not isinstance(node, w.StepNode | w.MapNode) or given is None:
                continue
            at = f"/steps/{pointed(name)}/input"
            self.problems += mistakes(given, at)
            for place, read in (
                found for key, each in given.items() for found in steps_read(each, f"{at}/{pointed(key)}")
            ):
                if read not in self.data["steps"]:
                    self.problems.append(
                        (place, f"there is no step {read!r}; steps are {', '.join(self.data['steps'])}")
                    )
                elif read not in before[name]:
                    self.problems.append((place, f"{read!r} never comes before {name!r}"))

    def _before(self, name: str) -> set[str]:
        found: set[str] = set()
        fresh = {name}
        while fresh:
            fresh = {n for n, node in self.nodes.items() if n not in found and fresh & set(_leads_to(node))}
            found |= fresh
        return found

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _placed(self, name: str, node: Any, at: str) -> Place | None:
        before = len(self.problems)
        try:
            place = self._made(name, node, at)
        except FlowbookError as error:
            self.problems.append((at, error.message))
            return None
        return None if len(self.problems) > before else place

    def _made(self, name: str, node: Any, at: str) -> Place | None:
        match node:
            case w.StepNode():
                step = self._tried(node, node.step, f"{at}/step", at)
                guard = None if node.when is None else self._rule(node.when, f"{at}/when", decides=True)
                if step is None:
                    return None
                step = step.as_(name)
                return step if guard is None else when(guard, step)
            case w.MapNode():
                found = self._template(node.map, f"{at}/map", (Step, Graph), "step or flow")
                what = self._tried(node, node.map, f"{at}/map", at) if isinstance(found, Step) else found
                if what is None:
                    return None
                made: Place = map_(
                    what, node.over, node.into, concurrency=node.concurrency, on_error=node.on_error, name=name,
                    item=node.item, queue=node.queue,
                )  # fmt: skip
                return made
            case w.WaitNode():
                return self._pause(name, node, at)
            case w.SleepNode():
                return sleep(node.sleep, name=name)
            case _:
                return self._subflow(name, node, at)

    def _tried(self, node: Any, template: str, at: str, whole: str) -> Step | None:
        step: Step | None = self._template(template, at, Step, "step")
        if step is None:
            return None
        said = {k: v for k in ("retries", "timeout", "retry_on", "no_retry_on") if (v := getattr(node, k)) is not None}
        backoff = node.backoff
        if backoff is not None:
            said["backoff"] = Backoff(**backoff.model_dump()) if isinstance(backoff, w.Waits) else backoff
        given = attempt_options(
            **{k: said.get(k, UNSAID) for k in ("retries", "backoff", "timeout", "retry_on", "no_retry_on")}
        )
        step = step.with_policy(**given.policy) if given.policy else step
        if node.input is not None:
            self._check_parameters(step, node.input, f"{whole}/input")
            step = step.like(wiring=node.input)
        return step

    def _check_parameters(self, step: Step, given: Mapping[str, Any], at: str) -> None:
        takes = step.signature.parameters
        if any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            return
        filled = [n for n, p in takes.items() if not wants_context(p)]
        for name in given:
            if name not in filled:
                told = f"step {step.named!r} has no parameter {name!r}; it has {', '.join(filled) or 'none'}"
                self.problems.append((f"{at}/{pointed(name)}", told))

    def _pause(self, name: str, node: w.WaitNode, at: str) -> Pause:
        signals = [node.wait] if isinstance(node.wait, str) else node.wait
        found = {s: self._class(c, f"{at}/payload/{pointed(s)}") for s, c in (node.payload or {}).items()}
        schemas = {s: c for s, c in found.items() if c is not None}
        made: Any = wait_any(
            dict.fromkeys(signals, END_NODE), timeout=node.timeout, schema=schemas, into=node.into, name=name
        )
        pause: Pause = made.heads[0]
        if node.switch is not None and node.switch.value is None:
            labels = {case.is_ for case in node.switch.cases}
            if labels != set(signals):
                self.problems.append(
                    (f"{at}/switch/cases", f"each of {', '.join(signals)} has one way, and no other has")
                )
        elif (len(signals) > 1 or node.on_timeout is not None) and (node.next is None or node.branch or node.switch):
            self.problems.append((at, "say with `switch` where each signal leads, or with `next` where all do"))
        return pause

    def _subflow(self, name: str, node: w.FlowNode, at: str) -> Place | None:
        flow = self._template(node.flow, f"{at}/flow", Graph, "flow")
        given: Any = node.input
        if isinstance(given, w.Function):
            given = self._rule(given.model_dump(), f"{at}/input", decides=False)
        key = None if node.key is None else self._rule(node.key.model_dump(), f"{at}/key", decides=False)
        if flow is None:
            return None
        return subflow(flow, input=given, key=key, queue=node.queue, name=name, into=node.into)

    # -- ways ----------------------------------------------------------------------------------------------------------

    def _ways(self, place: Place, node: Any) -> Iterator[Fragment]:
        if (
            isinstance(place, Pause)
            and place.signals
            and node.branch is None
            and (node.switch is None or node.switch.value is None)
        ):
            yield from self._paused(place, node)
        elif node.switch is not None:
            router = self._rule(node.switch.value, "", decides=False)
            yield self._routed(place, router, [(c.is_, c.to, c.race) for c in node.switch.cases])
        elif node.branch is not None:
            rule: list[Any] = []
            for number, arm in enumerate(node.branch):
                rule += [number] if arm.when is None else [arm.when, number]
            yield self._routed(place, Condition({"if": rule}), [(n, a.to, a.race) for n, a in enumerate(node.branch)])
        elif node.next is not None:
            yield join(fragment(place), self._targets(node.next, racing=node.race))

    def _routed(self, place: Place, router: Any, ways: list[tuple[Any, Any, bool]]) -> Fragment:
        cases = tuple((label, self._targets(to, racing=racing)) for label, to, racing in ways)
        return join(fragment(place), fragment(Branch(router, cases)))

    def _paused(self, pause: Pause, node: w.WaitNode) -> Iterator[Fragment]:
        if node.switch is None and len(pause.signals) == 1 and node.on_timeout is None:
            if node.next is not None:
                yield join(fragment(pause), self._targets(node.next, racing=node.race))
            return
        if node.switch is not None:
            ways = {c.is_: (c.to, c.race) for c in node.switch.cases}
        else:
            ways = dict.fromkeys(pause.names, (node.next, node.race))
        if node.on_timeout is not None:
            ways[pause.late] = (node.on_timeout, False)
        cases = tuple(Case(label, self._targets(to).heads, race=racing) for label, (to, racing) in ways.items())
        yield Fragment(heads=(pause,), tails=(), routings=(Routing(pause, None, cases),))

    def _targets(self, target: Any, *, racing: bool = False) -> Fragment:
        names = [target] if isinstance(target, str) or target is None else target
        places = [END_NODE if n in (END, None) else self.places[n] for n in names]
        if not places:
            places = [END_NODE]
        return fragment(places[0]) if len(places) == 1 else race(*places) if racing else fragment(places)

    # -- imperative flows ----------------------------------------------------------------------------------------------

    def _imperative(self, shown: str, head: w.Head, raw: Any) -> Graph:
        found = self.known.get(str(head.body))
        if raw:
            self.problems.append(("/steps", "a flow that is a body has no steps"))
        if not isinstance(found, Imperative):
            self.problems.append(("/body", f"no imperative flow is registered as {head.body!r}"))
        if self.problems or not isinstance(found, Imperative):
            raise SpecRefused(shown, tuple(self.problems))
        return replace(found, name=head.name)


def _leads_to(node: Any) -> Iterator[str]:
    ways = [node.next, getattr(node, "on_timeout", None)]
    ways += [arm.to for arm in node.branch or ()]
    ways += [case.to for case in (node.switch.cases if node.switch else ())]
    for way in ways:
        yield from [way] if isinstance(way, str) else way or ()


def _numbered(things: Any, at: str) -> Iterator[tuple[str, Any]]:
    return ((f"{at}/{number}", each) for number, each in enumerate(things))
