"""Topologies: what there is to draw of a flow, whoever knows it.

Owns: `Topology`, read from a graph, from a definition's spec (JSON; the code need not be known) or from a piece of
topology that somebody typed. Refuses: places and colours (`layout.py`, `svg.py`).

Besides steps there are four kinds of marks: START, END, and a bar where a fork divides and where its branches meet, so
that "both of these" looks different from "one of these", whose edges carry the labels of the branch. The bar of a race
is hollow, and the way to it says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from flowbook.graph.checks import check
from flowbook.graph.expression import Branch, Fragment, Terminal, Unknown, fragment
from flowbook.graph.flow import Graph
from flowbook.graph.mapping import Map
from flowbook.graph.names import END, START
from flowbook.graph.pause import Pause
from flowbook.graph.places import Place as Node
from flowbook.graph.places import flow_of
from flowbook.graph.step import Step
from flowbook.show.safe import clean, duration

RACE = "first wins"
"""On the way to a race."""


class Kind(StrEnum):
    """What a place looks like."""

    START = "start"
    END = "end"
    STEP = "step"
    BAR = "bar"
    RACE = "race"


@dataclass(frozen=True, slots=True)
class Place:
    """Something that edges lead to."""

    id: str
    """``n0``, ``n1``, ...: never a text of the user's."""
    kind: Kind
    name: str
    """The step's name; empty for a bar."""
    note: str = ""
    """What is worth knowing of the step before it runs ("3 retries"); empty: nothing, or not known."""
    nested: bool = False
    """True: another flow runs there."""
    many: bool = False
    """True for a map: it is drawn as a pile of cards."""


@dataclass(frozen=True, slots=True)
class Way:
    """An edge."""

    source: str
    """Id of a place."""
    target: str
    label: str = ""
    """Of the branch's case; empty: none."""
    out: tuple[str, int] | None = None
    """(node, which of its ways out) that this is a piece of; None: it leads from a bar to ``into``."""
    into: str = ""
    """Node that it leads to from the bar where branches meet; empty elsewhere."""


@dataclass(frozen=True, slots=True)
class Topology:
    """All that is to be drawn."""

    name: str
    places: tuple[Place, ...]
    ways: tuple[Way, ...]

    @property
    def steps(self) -> Mapping[str, str]:
        """Step name -> id of its place."""
        return {p.name: p.id for p in self.places if p.kind is Kind.STEP}


def topology_of(thing: Any) -> Topology:
    """The topology of a `Graph`, of a spec, or of a step or fragment. Raises nothing for a spec that is damaged."""
    if isinstance(thing, Graph):
        ways = {n: node.ways for n, node in thing.nodes.items()}
        labels = {n: tuple(map(label_text, node.labels)) for n, node in thing.nodes.items()}
        notes = {n: _note(node.step) for n, node in thing.nodes.items()}
        flows = {n for n, node in thing.nodes.items() if flow_of(node.step) is not None}
        maps = {n for n, node in thing.nodes.items() if isinstance(node.step, Map)}
        return _build(thing.name, thing.entry, ways, labels, _pairs(thing.joins), notes, thing.races, flows, maps)
    if isinstance(thing, Mapping):
        return _from_spec(thing)
    return _from_fragment(fragment(thing))


def label_text(label: Any) -> str:
    """How the label of a branch's case is written on its edge."""
    return clean(label if isinstance(label, str) and label else repr(label), 28)


Ways = Mapping[str, tuple[tuple[str, ...], ...]]


def _build(
    name: str,
    entry: Iterable[str],
    ways: Ways,
    labels: Mapping[str, tuple[str, ...]],
    joins: Mapping[str, set[str]],
    notes: Mapping[str, str] | None = None,
    races: AbstractSet[tuple[str, int]] = frozenset(),
    flows: Collection[str] = (),
    maps: Collection[str] = (),
) -> Topology:
    """``joins``: join -> the nodes whose forks meet there; ``races``: (node, way) of forks whose first branch wins;
    ``flows``: nodes that run another flow; ``maps``: nodes that stand for many.
    """
    it = _Builder(ways, joins)
    it.place(START, Kind.START, START)
    for node in ways:
        it.place(node, Kind.STEP, node, (notes or {}).get(node, ""), nested=node in flows, many=node in maps)
    it.place(END, Kind.END, END)
    it.lead(START, 0, tuple(entry), "", race=(START, 0) in races)
    for node, out in ways.items():
        for i, targets in enumerate(out):
            known = labels.get(node, ())
            it.lead(node, i, tuple(targets), known[i] if i < len(known) else "", race=(node, i) in races)
    entered = {w.target for w in it.ways}
    end = it.ids[END]
    return Topology(clean(name), tuple(p for p in it.places if p.id != end or end in entered), tuple(it.ways))


class _Builder:
    """Puts in the bars while the ways are added."""

    def __init__(self, ways: Ways, joins: Mapping[str, set[str]]) -> None:
        self.places: list[Place] = []
        self.ways: list[Way] = []
        self.ids: dict[str, str] = {}
        self._next = {n: {t for way in out for t in way} for n, out in ways.items()}
        self._forks = joins
        self._bars: dict[str, str] = {}

    def place(
        self, key: str, kind: Kind, name: str, note: str = "", *, nested: bool = False, many: bool = False
    ) -> str:
        it = Place(f"n{len(self.places)}", kind, name, note, nested, many)
        self.places.append(it)
        self.ids[key] = it.id
        return it.id

    def lead(self, source: str, i: int, targets: tuple[str, ...], label: str, *, race: bool = False) -> None:
        """The way out number ``i``; several targets are a fork."""
        out = (source, i)
        if len(targets) <= 1:
            inside = self._inside(source, targets)
            self._edge(self.ids[source], targets[0] if targets else END, label, out, inside=inside)
            return
        bar = self.place(f"fork {len(self.places)}", Kind.RACE if race else Kind.BAR, "")
        self.ways.append(Way(self.ids[source], bar, " · ".join(filter(None, (label, RACE if race else ""))), out))
        for target in targets:
            self._edge(bar, target, "", out, inside=target in self._forks and source in self._forks[target])

    def _edge(self, source: str, target: str, label: str, out: tuple[str, int], *, inside: bool) -> None:
        if target not in self.ids:
            self.place(target, Kind.STEP, target)  # a damaged spec: better to draw it than to fail
        end = self.ids[target]
        if inside:
            if target not in self._bars:
                self._bars[target] = self.place(f"join {target}", Kind.BAR, "")
                self.ways.append(Way(self._bars[target], end, into=target))
            end = self._bars[target]
        self.ways.append(Way(source, end, label, out))

    def _inside(self, source: str, targets: tuple[str, ...]) -> bool:
        """Does the way source -> target bring a branch to the join of its fork?"""
        if not targets or not (forks := self._forks.get(targets[0])):
            return False
        seen: set[str] = set()
        stack = [t for fork in forks for t in self._next.get(fork, ()) if t != targets[0]]
        while stack:
            node = stack.pop()
            if node not in seen and node != targets[0] and node not in forks:
                seen.add(node)
                stack += self._next.get(node, ())
        return source in seen


def _note(step: Node) -> str:
    if isinstance(step, Pause):
        return _pause_note(step.names, step.seconds)
    flow = flow_of(step)
    policy = step.policy
    # The name of the flow, unless the node has it: a map has more to say than there is room.
    parts = [] if flow is None or (isinstance(step, Map) and flow.name == step.name) else [_flow_note(flow.name)]
    parts += [_map_note(step.over, step.concurrency)] if isinstance(step, Map) else []
    parts += ["if ..."] if isinstance(step, Step) and step.guard is not None else []
    if policy.retries:
        parts.append("1 retry" if policy.retries == 1 else f"{policy.retries} retries")
    if policy.timeout is not None:
        parts.append(f"≤ {duration(policy.timeout)}")
    return " · ".join(parts)


def _pause_note(names: Iterable[str], seconds: float | None) -> str:
    heard = " or ".join(names)
    if not heard:
        return f"⏸ {duration(seconds or 0.0)}"
    return clean(f"⏸ for {heard}" + ("" if seconds is None else f" · ≤ {duration(seconds)}"), 80)


def _flow_note(flow: str) -> str:
    return clean(f"flow {flow}", 80)  # no sign for it: most fonts lack one


def _map_note(over: str, concurrency: int) -> str:
    return clean(f"∀ {over} · {concurrency} at once", 60)


def _pairs(joins: Mapping[tuple[str, int], str | None]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for (node, _), join in joins.items():
        if join is not None:
            found.setdefault(join, set()).add(node)
    return found


def _from_spec(spec: Mapping[str, Any]) -> Topology:
    nodes = [n for n in spec.get("nodes") or () if isinstance(n, Mapping) and n.get("name")]
    ways = {str(n["name"]): tuple(tuple(map(str, w)) for w in n.get("ways") or ((),)) for n in nodes}
    labels = {str(n["name"]): tuple(map(_spec_label, n.get("labels") or ())) for n in nodes}
    ways.pop(START, None)
    ways.pop(END, None)
    entry = tuple(map(str, spec.get("entry") or ()))
    # Found again rather than read: the checks know where forks meet, whichever release wrote the spec.
    report = check({START: (entry,), **{n: tuple(w or (END,) for w in out) for n, out in ways.items()}})
    waits = {str(n["name"]): n["wait"] for n in nodes if isinstance(n.get("wait"), Mapping)}
    notes = {n: _pause_note([str(s[0]) for s in w.get("signals") or ()], w.get("seconds")) for n, w in waits.items()}
    races = frozenset((str(node), int(way)) for node, way in spec.get("races") or ())
    flows = {str(n["name"]): str(n["flow"].get("name", "")) for n in nodes if isinstance(n.get("flow"), Mapping)}
    notes |= {n: _flow_note(flow) for n, flow in flows.items()}
    maps = {str(n["name"]): n["map"] for n in nodes if isinstance(n.get("map"), Mapping)}
    for n, m in maps.items():
        parts = [_flow_note(flows[n])] if flows.get(n, n) != n else []
        notes[n] = " · ".join([*parts, _map_note(str(m.get("over", "")), m.get("concurrency", 0))])
    name, joins = str(spec.get("name", "")), _pairs(report.joins)
    return _build(name, entry, ways, labels, joins, notes, races, flows.keys(), maps.keys())


def _spec_label(label: Any) -> str:
    return clean(label if isinstance(label, str) else label_text(label), 28)


def _from_fragment(it: Fragment) -> Topology:
    """A piece as it was typed, without what only the whole could tell (entry, joins)."""
    found = _Builder({}, {})
    whole = [*it.heads, *(x for e in it.edges for x in (e.source, e.target)), *(n for n, _ in it.tails)]
    whole += [x for r in it.routings for x in (r.source, *(t for c in r.cases for t in c.targets))]
    for node in whole:
        key = _key(node)
        if key not in found.ids:
            kind = Kind.START if key == START else Kind.END if key == END else Kind.STEP
            found.place(key, kind, key, nested=flow_of(node) is not None, many=isinstance(node, Map))
    for edge in it.edges:
        found.ways.append(Way(found.ids[_key(edge.source)], found.ids[_key(edge.target)], RACE if edge.race else ""))
    for r in it.routings:
        for case in r.cases:
            for target in case.targets:
                found.ways.append(Way(found.ids[_key(r.source)], found.ids[_key(target)], label_text(case.label)))
    return Topology("", tuple(found.places), tuple(dict.fromkeys(found.ways)))


def _key(node: Any) -> str:
    if isinstance(node, Node | Terminal):
        return node.name
    if isinstance(node, Unknown):
        return clean(node.shown, 40)
    return "branch" if isinstance(node, Branch) else clean(node, 40)
