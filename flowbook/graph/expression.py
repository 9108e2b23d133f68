"""Topology expressions: what ``a >> [b, c] >> d`` builds.

Owns: the operators and the fragments that they put together. Refuses: judging them (`checks.py`) or knowing what a
step is. A fragment is immutable, so ``head = a >> b`` can be used in two places.

A fragment has *heads* (where it is entered), *tails* (where it is left) and the edges between. An edge from a branch's
exit is *weak*: it holds only if that node gets no other way on in the whole topology, so that
``a >> branch(r, {True: b, False: a}) >> d`` sends b to d and leaves a alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowbook.graph.names import END, START


class Composable:
    """Whatever can stand left or right of ``>>``."""

    __slots__ = ()

    def __rshift__(self, other: Any) -> Fragment:
        return join(fragment(self), fragment(other))

    def __rrshift__(self, other: Any) -> Fragment:
        return join(fragment(other), fragment(self))


@dataclass(frozen=True, slots=True)
class Terminal(Composable):
    """START or END."""

    name: str

    def __repr__(self) -> str:
        return self.name


START_NODE = Terminal(START)
END_NODE = Terminal(END)


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something in a topology that is not a node; kept, so that all mistakes are reported together."""

    shown: str


@dataclass(frozen=True, slots=True)
class Edge:
    source: Any
    """A node: Step, Terminal or Unknown."""
    target: Any
    weak: bool = False
    race: tuple[Any, ...] = ()
    """What the race that it leads into begins with; empty: it leads into none."""


@dataclass(frozen=True, slots=True)
class Case:
    """One way out of a branch."""

    label: Any
    targets: tuple[Any, ...]
    open: bool = False
    """True: it leads to whatever follows in the topology."""
    race: bool = False
    """True: of its targets the first one wins (`race.py`)."""


@dataclass(frozen=True, slots=True)
class Routing:
    """A branch behind ``source``."""

    source: Any
    router: Callable[[Any], Any] | None
    """None: what ends the pause ``source`` decides."""
    cases: tuple[Case, ...]


@dataclass(frozen=True, slots=True)
class Fragment(Composable):
    """A piece of topology."""

    heads: tuple[Any, ...]
    tails: tuple[tuple[Any, bool], ...]
    """(node, weak)."""
    edges: tuple[Edge, ...] = ()
    routings: tuple[Routing, ...] = ()
    opening: Branch | None = None
    """A branch at the very left, which gets its source when something is put before it."""
    loose: tuple[str, ...] = ()
    """Mistakes found while it was put together."""
    race: bool = False
    """True: its heads race, the first one wins (`race.py`)."""

    def __repr__(self) -> str:
        ways = [f"{_called(e.source)} >> {_called(e.target)}" for e in self.edges]
        ways += [
            f"{_called(r.source)} >> {_called(t)} ({c.label!r})"
            for r in self.routings
            for c in r.cases
            for t in c.targets
        ]
        return f"<topology {', '.join(ways or [_called(head) for head in self.heads])}>"


@dataclass(frozen=True, slots=True)
class Branch(Composable):
    """``branch(router, {label: target, ...})`` before it has a place."""

    router: Callable[[Any], Any]
    cases: tuple[tuple[Any, Fragment], ...] = field(default=())

    def __repr__(self) -> str:
        ways = [f"{label!r}: {', '.join(_called(h) for h in f.heads)}" for label, f in self.cases]
        return f"<branch {getattr(self.router, '__name__', 'router')}: {'; '.join(ways)}>"


def branch(router: Callable[[Any], Any], cases: Mapping[Any, Any]) -> Branch:
    """Go on at the target whose label the router returns.

    ``router`` gets a read-only view of the state (``s.x`` or ``s["x"]``) and returns one of the labels. A target is a
    step, END, a list of steps (all of them) or a topology. Whatever a target leaves open goes on to what follows.
    """
    return Branch(router, tuple((label, fragment(target)) for label, target in dict(cases).items()))


def fragment(thing: Any) -> Fragment:
    """Anything that may stand in a topology, as a fragment."""
    if isinstance(thing, Fragment):
        return thing
    if isinstance(thing, Branch):
        return _branch_fragment(thing)
    if isinstance(thing, list | tuple):
        return side_by_side(thing)
    if isinstance(thing, Composable):
        return Fragment(heads=(thing,), tails=((thing, False),))
    unknown = Unknown(_shown(thing))
    return Fragment(heads=(unknown,), tails=((unknown, False),))


def join(left: Fragment, right: Fragment) -> Fragment:
    """``left >> right``."""
    edges, routings, loose = left.edges + right.edges, left.routings + right.routings, left.loose + right.loose
    if right.opening is not None:
        sources = left.tails
        if len(sources) != 1 or sources[0][1]:
            loose = (*loose, "a branch stands behind several steps: let them meet in one step first")
        routings = routings + tuple(_routing(node, right.opening) for node, _ in sources)
    else:
        racing = right.heads if right.race else ()
        edges = edges + tuple(Edge(s, t, weak, racing) for s, weak in left.tails for t in right.heads)
    return Fragment(left.heads, right.tails, edges, routings, left.opening, loose, left.race)


def _branch_fragment(it: Branch) -> Fragment:
    tails = tuple((node, True) for _, f in it.cases for node, _ in f.tails if node != END_NODE)
    return Fragment(
        heads=(),
        tails=tails,
        edges=tuple(e for _, f in it.cases for e in f.edges),
        routings=tuple(r for _, f in it.cases for r in f.routings),
        opening=it,
        loose=tuple(
            p
            for label, f in it.cases
            for p in (*f.loose, *([f"branch leads straight to a branch (label {label!r})"] if f.opening else []))
        ),
    )


def _routing(source: Any, it: Branch) -> Routing:
    return Routing(source, it.router, tuple(Case(label, f.heads, race=f.race) for label, f in it.cases))


RACE_IN_LIST = "a race stands in a list: put a step before it"


def side_by_side(things: Iterable[Any]) -> Fragment:
    """What a list in a topology is: a fork to all of these."""
    parts = [fragment(t) for t in things]
    heads = tuple(h for p in parts for h in p.heads)
    return Fragment(
        heads=heads,
        tails=tuple(t for p in parts for t in p.tails),
        edges=tuple(e for p in parts for e in p.edges),
        routings=tuple(r for p in parts for r in p.routings),
        loose=tuple(x for p in parts for x in p.loose)
        + (() if parts else ("an empty list stands in the topology",))
        + (("a branch stands in a list: put a step before it",) if any(p.opening for p in parts) else ())
        + ((RACE_IN_LIST,) if any(p.race for p in parts) else ())
        + tuple(
            f"{h.name} stands twice in a list: use .as_() to make a second node"
            for h in dict.fromkeys(heads)
            if heads.count(h) > 1 and hasattr(h, "name")
        ),
    )


def _called(node: Any) -> str:
    return str(getattr(node, "name", None) or getattr(node, "shown", node))


def _shown(thing: Any) -> str:
    if callable(thing) and hasattr(thing, "__name__"):
        return f"{thing.__name__!r} is a plain function: put @step on it"
    if isinstance(thing, str):
        return f"{thing!r} is a text: name the step itself, without quotes"
    return f"{thing!r} is not a step"
