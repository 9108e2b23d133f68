"""Graphs: a topology with a name and a state, checked and ready to run.

Owns: `Graph`, its nodes, and `graph`, which turns an expression into one. Refuses: running it (the verbs are handed to
whatever app is current, `launch.py`) and drawing it (`show/`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

from flowbook.errors import DeclarationError, TopologyError
from flowbook.graph.asdata import AsData
from flowbook.graph.binding import slots
from flowbook.graph.checks import check
from flowbook.graph.durations import Duration
from flowbook.graph.expression import END_NODE, START_NODE, Case, Edge, Fragment, Routing, Unknown, fragment
from flowbook.graph.forms import machine, of_class
from flowbook.graph.launch import Launched
from flowbook.graph.mapping import Map
from flowbook.graph.names import END, START, checked
from flowbook.graph.pause import Pause, Signal, length
from flowbook.graph.places import KINDS, Place, is_same, may_call
from flowbook.graph.race import begins, races
from flowbook.graph.resource import Resource, collected
from flowbook.graph.retrying import RetryOn
from flowbook.graph.state import StateSchema, schema_of
from flowbook.graph.step import UNSAID, Backoff, Defaults, Step, attempt_options
from flowbook.graph.subflow import OWN_NAME, Subflow

RECURSION_LIMIT = 1_000
"""A cycle that goes round so often will hardly ever end by itself."""

Router = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Node:
    """A step, a pause, a map or a sub-flow in its place."""

    step: Place
    ways: tuple[tuple[str, ...], ...]
    """Its ways out: one without a branch, else one per case in the order of ``labels``. END is left out of a way, so
    an empty way leads to END."""
    router: Router | None = None
    labels: tuple[Any, ...] = ()
    """What the router may return; behind a pause without a router, its signals and `Pause.late`."""

    def route(self, label: Any) -> int | None:
        """The number of the case with this label, or None. True and 1 are different labels."""
        for i, known in enumerate(self.labels):
            if type(known) is type(label) and known == label:
                return i
        return None


@dataclass(frozen=True)
class Graph(AsData, Launched):
    """A flow that is declared as a graph. Immutable; made by `graph` or ``%%flow``."""

    name: str
    nodes: Mapping[str, Node]
    entry: tuple[str, ...]
    """Where START leads; several: the flow begins with a fork."""
    joins: Mapping[tuple[str, int], str | None]
    """(node, way) of each fork -> where its branches meet; None: each runs to END."""
    schema: StateSchema | None = None
    version: str | None = None
    """The user's own label; the store counts versions by itself."""
    freeze: Mapping[str, Any] = field(default_factory=dict)
    """Data names that belong to the definition, with their values."""
    pickled: bool = False
    """True: the definition also holds a signed pickle of everything, for what source cannot rebuild."""
    resources: Mapping[str, Resource] = field(default_factory=dict)
    """Name of a parameter -> the resource that fills it where the state has no such key."""
    races: frozenset[tuple[str, int]] = frozenset()
    """(node, way) of each fork whose first branch wins (`race.py`)."""
    run_timeout: float | None = None
    """Seconds that a run may take from its beginning, or from its last retry; None: as long as it likes."""
    outputs: tuple[str, ...] | None = None
    """State keys that are the result of a run; None: all of the state is."""
    recursion_limit: int = RECURSION_LIMIT
    """How often a run may come to one node."""
    doc: str = ""
    """The docstring of the class that declares it; for people."""
    schedule: Mapping[str, Any] | None = None
    """When workers that have it run it (`scheduled.py`); no part of its identity. None: only when it is started."""

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identity of the code: topology, steps and the helpers they call (`source.py`)."""
        from flowbook.graph.source import describe  # not needed to declare a graph, and reads source files

        return describe(self).fingerprint

    def step_at(self, node: str) -> Step:
        """The step at a node that is no pause; of a map the one that it applies."""
        place = self.nodes[node].step
        step = place.step if isinstance(place, Map) else place
        assert isinstance(step, Step), f"{node} is no step"
        return step

    @functools.cached_property
    def compensations(self) -> Mapping[str, Step]:
        """Node -> the step that undoes it; empty: nothing of this flow can be undone."""
        found = {n: node.step.compensation for n, node in self.nodes.items() if isinstance(node.step, Step)}
        return {name: undo for name, undo in found.items() if undo is not None}

    @functools.cached_property
    def signals(self) -> Mapping[str, tuple[Signal, ...]]:
        """Name of a signal -> what the pauses that listen for it want of it; empty: this flow reads no signals."""
        found: dict[str, tuple[Signal, ...]] = {}
        for node in self.nodes.values():
            for signal in node.step.signals if isinstance(node.step, Pause) else ():
                found[signal.name] = (*found.get(signal.name, ()), signal)
        return found

    @functools.cached_property
    def listens(self) -> bool:
        """True if deliveries to its runs stay unread until a place is come to: signals, and answers to steps that have
        a context and so may be handed out.
        """
        return bool(self.signals) or any(isinstance(n.step, Step) and slots(n.step).context for n in self)

    @functools.cached_property
    def flows(self) -> tuple[Graph, ...]:
        """The flows that its sub-flows run and that its code names, each once."""
        found: tuple[Graph, ...] = self.__dict__.get("known_flows", ()) if self.fingerprint else ()
        return found

    @functools.cached_property
    def has_bodies(self) -> bool:
        """True if some step may make durable calls: it is a coroutine function and asks for the context."""
        return any(may_call(node.step) for node in self)

    def accept(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A run's input as it is stored. Raises `StateError` if it does not fit."""
        return dict(given) if self.schema is None else self.schema.initial(given)

    def __repr__(self) -> str:
        return f"<flow {self.name}: {' '.join(self.nodes)}>"

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())


@overload
def graph(name: type, /) -> Graph: ...
@overload
def graph(
    name: str,
    topology: Any,
    *more: Any,
    state: type | None = ...,
    version: str | None = ...,
    freeze: Mapping[str, Any] | None = ...,
    pickled: bool = ...,
    resources: Sequence[Resource] = ...,
    retries: int = ...,
    backoff: Backoff | Sequence[float] | None = ...,
    timeout: Duration | None = ...,
    retry_on: RetryOn | None = ...,
    no_retry_on: RetryOn | None = ...,
    run_timeout: Duration | None = ...,
    outputs: Sequence[str] | None = ...,
    recursion_limit: int = ...,
    entry: Any = ...,
    terminal: Any = ...,
) -> Graph: ...
@overload
def graph(
    *,
    name: str | None = None,
    state: type | None = ...,
    version: str | None = ...,
    freeze: Mapping[str, Any] | None = ...,
    pickled: bool = ...,
    resources: Sequence[Resource] = ...,
    retries: int = ...,
    backoff: Backoff | Sequence[float] | None = ...,
    timeout: Duration | None = ...,
    retry_on: RetryOn | None = ...,
    no_retry_on: RetryOn | None = ...,
    run_timeout: Duration | None = ...,
    outputs: Sequence[str] | None = ...,
    recursion_limit: int = ...,
    entry: Any = ...,
    terminal: Any = ...,
) -> Callable[[type], Graph]: ...


def graph(
    name: Any = None,
    topology: Any = UNSAID,
    *more: Any,
    state: type | None = None,
    version: str | None = None,
    freeze: Mapping[str, Any] | None = None,
    pickled: bool = False,
    resources: Sequence[Resource] = (),
    retries: int = UNSAID,
    backoff: Backoff | Sequence[float] | None = UNSAID,
    timeout: Duration | None = UNSAID,
    retry_on: RetryOn | None = UNSAID,
    no_retry_on: RetryOn | None = UNSAID,
    run_timeout: Duration | None = None,
    outputs: Sequence[str] | None = None,
    recursion_limit: int = RECURSION_LIMIT,
    entry: Any = None,
    terminal: Any = None,
) -> Graph | Callable[[type], Graph]:
    """A graph from one or several topology expressions: ``fb.graph("etl", load >> [a, b] >> report)``.

    ``retries``, ``backoff``, ``timeout`` (per attempt), ``retry_on`` and ``no_retry_on`` hold for every step that does
    not say otherwise. ``run_timeout`` is how long a run may take as a whole: from when it began (time in a queue does
    not count), by the database's clock, whatever crashes meanwhile. Then what is under way is stopped and the run
    fails with FB313; a retry of the run has as long again. ``resources``: those that are not found by their name where
    the steps were written. ``outputs``: the state keys that are a run's result; left out, all of the state is.
    ``recursion_limit``: how often a run may come to one node before it fails with FB318; a retry may raise it.

    A state machine says where it begins and ends: ``entry=draft``, ``terminal=[published, rejected]``, each a node or
    its name. With ``terminal`` a node that leads nowhere and is not named there is a mistake.

    As a decorator, ``@fb.graph`` or ``@fb.graph(name="review")``, it makes a class a flow: ``topology`` (and ``nodes``,
    ``entry``, ``terminal``) or ``steps = [...]``, and attributes named as the options here. The flow is called as the
    class in snake_case, and keeps its docstring.

    Raises `TopologyError` with every mistake, `StateError` for an unusable state schema.
    """
    options = {
        "state": state, "version": version, "freeze": freeze, "pickled": pickled, "resources": resources,
        "retries": retries, "backoff": backoff, "timeout": timeout, "retry_on": retry_on, "no_retry_on": no_retry_on,
        "run_timeout": run_timeout, "outputs": outputs, "recursion_limit": recursion_limit,
        "entry": entry, "terminal": terminal,
    }  # fmt: skip
    if isinstance(name, type):
        return _of_class(name, None, {})
    if topology is UNSAID:
        return functools.partial(_of_class, name=name, given=options)
    defaults = attempt_options(
        retries=retries, backoff=backoff, timeout=timeout, retry_on=retry_on, no_retry_on=no_retry_on
    )
    checked(name, "flow")
    if type(recursion_limit) is not int or recursion_limit < 1:
        raise DeclarationError(
            f"recursion_limit={recursion_limit!r}: it counts how often a node may be reached, so 1 or more"
        )
    pieces = [fragment(t) for t in (topology, *more)]
    made = _Builder(name, [*pieces, *machine(pieces, entry, terminal)], outputs).build(
        schema_of(state), version, freeze or {}, pickled, resources
    )
    return replace(
        made,
        nodes=_with_defaults(made.nodes, defaults),
        run_timeout=None if run_timeout is None else length(run_timeout),
        outputs=None if outputs is None else tuple(outputs),
        recursion_limit=recursion_limit,
    )


_LEFT_OUT: Mapping[str, Any] = {"pickled": False, "resources": (), "recursion_limit": RECURSION_LIMIT}


def _of_class(cls: type, name: str | None, given: Mapping[str, Any]) -> Graph:
    """The flow that a class declares; ``given``: the decorator's options, also those that were left out."""
    if not isinstance(cls, type):
        raise DeclarationError(f"@graph and @pipeline stand on a class, and {cls!r} is none")
    said = {k: v for k, v in given.items() if v is not None and v is not UNSAID and v != _LEFT_OUT.get(k, UNSAID)}
    it = of_class(cls, name, said)
    topology, *more = it.topology
    return replace(graph(it.name, topology, *more, **it.options), doc=it.doc)


def _with_defaults(nodes: Mapping[str, Node], defaults: Defaults) -> Mapping[str, Node]:
    return {
        name: replace(node, step=node.step.with_defaults(defaults)) if isinstance(node.step, Step | Map) else node
        for name, node in nodes.items()
    }


class _Builder:
    """Puts the fragments of one graph together and collects what is wrong with them."""

    def __init__(self, name: str, fragments: list[Fragment], outputs: Sequence[str] | None = None) -> None:
        self.name = name
        self.outputs = outputs
        self.edges = list(dict.fromkeys(e for f in fragments for e in f.edges))
        # A gate with ways of its own that has a name, and stands in two places, is one: it is the very same object.
        self.routings = list({id(r): r for f in fragments for r in f.routings}.values())
        self.problems = [p for f in fragments for p in f.loose]
        if any(f.opening for f in fragments):
            self.problems.append("a branch has no step before it: write step >> branch(...)")
        self.first = tuple(h.name for h in fragments[0].heads if isinstance(h, Place))
        self.fragments = fragments
        self.races: set[tuple[str, int]] = set()
        self.steps: dict[str, Place] = {}
        for thing in self._mentioned(fragments):
            self._enter(thing)

    def build(
        self,
        schema: StateSchema | None,
        version: str | None,
        freeze: Mapping[str, Any],
        pickled: bool,
        given: Sequence[Resource],
    ) -> Graph:
        ways = {name: self._ways(step) for name, step in self.steps.items()}
        entry = self._entry()
        if not self.steps and not self.problems:
            self.problems.append("there is no step in it")
        joins: Mapping[tuple[str, int], str | None] = {}
        if entry:
            known = {START: (entry,), **{n: tuple(w or (END,) for w in out) for n, out in ways.items()}}
            report = check(known, self.races)
            self.problems += report.problems
            joins = report.joins
        self._check_keys(schema)
        self._check_outputs(schema)
        steps = [s for s in self.steps.values() if isinstance(s, Step)]
        steps += [s.compensation for s in steps if s.compensation is not None]
        functions: list[tuple[Callable[..., Any], Mapping[str, Any]]]
        functions = [(s.fn, s.signature.parameters) for s in steps]
        maps = [(m.step, m.filled) for m in self.steps.values() if isinstance(m, Map)]
        functions += [(step.fn, filled) for step, filled in maps if isinstance(step, Step)]
        resources, found = collected(functions, given)
        self.problems += found
        if self.problems:
            raise TopologyError(self.name, tuple(dict.fromkeys(self.problems)))
        nodes = {}
        for name, step in self.steps.items():
            routing = self._routing_of(step)
            nodes[name] = (
                Node(step, ways[name], routing.router, tuple(c.label for c in routing.cases))
                if routing
                else Node(step, ways[name])
            )
        return Graph(self.name, nodes, entry, joins, schema, version, freeze, pickled, resources, frozenset(self.races))

    def _mentioned(self, fragments: list[Fragment]) -> Iterable[Any]:
        for f in fragments:
            yield from f.heads
            yield from (node for node, _ in f.tails)
        for e in self.edges:
            yield from (e.source, e.target)
        for r in self.routings:
            yield r.source
            yield from (t for c in r.cases for t in c.targets)

    def _enter(self, thing: Any) -> None:
        if isinstance(thing, Unknown):
            self.problems.append(thing.shown)
        elif isinstance(thing, Place):
            known = self.steps.setdefault(thing.name, thing)
            if thing.name in (START, END):
                self.problems.append(f"a step is called {thing.name}: give it another name")
            elif known is not thing and not is_same(known, thing):
                kinds = {KINDS[type(x)] for x in (known, thing)}
                self.problems.append(
                    f"two different {kinds.pop() if len(kinds) == 1 else 'nodes'} are called {thing.name}: "
                    "rename one, or use .as_() to give it another name"
                )

    def _check_keys(self, schema: StateSchema | None) -> None:
        for step in self.steps.values():
            into = step.into if isinstance(step, Pause) else None
            if into is not None and schema is not None and into not in schema.annotations:
                self.problems.append(f"{step.name} puts its payload into {into!r}, which the state does not declare")
            into = step.into if isinstance(step, Subflow) else None
            if into not in (None, OWN_NAME) and schema is not None and into not in schema.annotations:
                self.problems.append(f"{step.name} puts its result into {into!r}, which the state does not declare")
            if isinstance(step, Map) and schema is not None and step.key not in schema.annotations:
                self.problems.append(
                    f"{step.name} puts its results into {step.key!r}, which the state does not declare: say into="
                )
            if isinstance(step, Map) and schema and step.key in schema.reducers and step.policy.store != "codec":
                self.problems.append(
                    f"{step.key!r} has a reducer, which cannot merge what {step.name} keeps as pickles"
                )

    def _check_outputs(self, schema: StateSchema | None) -> None:
        given: Any = self.outputs
        if isinstance(given, str) or not all(isinstance(key, str) for key in given or ()):
            self.problems.append(f"outputs={given!r}: it is a list of state keys, as in outputs=['report']")
            return
        unknown = [key for key in given or () if schema is not None and key not in schema.annotations]
        if unknown:
            self.problems.append(f"outputs names {', '.join(map(repr, unknown))}, which the state does not declare")

    def _routing_of(self, step: Place) -> Routing | None:
        mine = [r for r in self.routings if isinstance(r.source, Place) and r.source.name == step.name]
        return mine[0] if mine else None

    def _ways(self, step: Place) -> tuple[tuple[str, ...], ...]:
        routings = [r for r in self.routings if isinstance(r.source, Place) and r.source.name == step.name]
        strong = self._targets(step, weak=False)
        if len(routings) > 1:
            self.problems.append(f"{step.name} has {len(routings)} branches behind it: one decides")
        if routings and any(c.open for c in routings[0].cases):
            onward = tuple(t for t in strong or self._targets(step, weak=True) if t != END)
            racing = self._races(step, weak=not strong)
            self._note_races(step, [racing if case.open else case.race for case in routings[0].cases])
            return tuple(onward if case.open else self._case(step, case) for case in routings[0].cases)
        if routings and strong:
            self.problems.append(
                f"{step.name} has a branch behind it and also leads to {' and '.join(strong)}: put that into the branch"
            )
        if routings:
            self._note_races(step, [case.race for case in routings[0].cases])
            return tuple(self._case(step, case) for case in routings[0].cases)
        self._note_races(step, [self._races(step, weak=not strong)])
        targets = strong or self._targets(step, weak=True)
        if END in targets and len(targets) > 1:
            self.problems.append(f"{step.name} forks to END and to other steps at once: leave END out")
        return (tuple(t for t in targets if t != END),)

    def _case(self, step: Place, case: Case) -> tuple[str, ...]:
        if not case.targets:
            self.problems.append(f"the branch behind {step.name} leads nowhere for {case.label!r}: name a step or END")
        names = [t.name for t in case.targets if isinstance(t, Place)]
        if END_NODE in case.targets and names:
            self.problems.append(f"the branch behind {step.name} leads to END and to steps at once for {case.label!r}")
        return tuple(names)

    def _edges(self, step: Place, *, weak: bool) -> list[Edge]:
        return [e for e in self.edges if isinstance(e.source, Place) and e.source.name == step.name and e.weak is weak]

    def _races(self, step: Place, *, weak: bool) -> bool:
        return races(step.name, self._edges(step, weak=weak), self.problems)

    def _note_races(self, step: Place, ways: list[bool]) -> None:
        self.races |= {(step.name, i) for i, racing in enumerate(ways) if racing}

    def _targets(self, step: Place, *, weak: bool) -> tuple[str, ...]:
        found = [e.target for e in self._edges(step, weak=weak)]
        names = tuple(dict.fromkeys(t.name for t in found if isinstance(t, Place) or t == END_NODE))
        if START_NODE in found:
            self.problems.append(f"{step.name} leads to START: START is only ever left")
        return names

    def _entry(self) -> tuple[str, ...]:
        """Where START leads; left out, it stands before the steps that have nothing before them.

        In a cycle every step has one before it: then it stands before what the first expression begins with.
        """
        out = [e for e in self.edges if e.source == START_NODE]
        said = [e.target for e in out]
        if any(r.source == START_NODE for r in self.routings):
            self.problems.append("START >> branch(...): put a step between, whose state the router can read")
        if any(e.source == END_NODE for e in self.edges):
            self.problems.append("END leads on to a step: END is only ever entered")
        if said:
            if races(START, out, self.problems):
                self.races.add((START, 0))
            return tuple(dict.fromkeys(t.name for t in said if isinstance(t, Place)))
        entered = {e.target.name for e in self.edges if isinstance(e.target, Place)}
        entered |= {t.name for r in self.routings for c in r.cases for t in c.targets if isinstance(t, Place)}
        entry = tuple(name for name in self.steps if name not in entered) or self.first
        if begins(entry, self.fragments, self.problems):
            self.races.add((START, 0))
        return entry
