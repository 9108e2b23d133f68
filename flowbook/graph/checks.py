"""Topology checks: what is wrong with a graph, all of it at once, and where its forks join.

Owns: the walk over nodes that finds mistakes and meeting points. Refuses: building the graph (`flow.py`).

The join of a fork is where its branches meet: the first node that more than one of them can reach without going
through the fork again (it may be one of the branches' own first nodes: that branch then waits there). No such node:
each branch runs to END by itself. Two different ones: a mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from flowbook.graph.names import END, START

Targets = tuple[str, ...]
Ways = Mapping[str, tuple[Targets, ...]]
"""Node (START included) -> its ways out: one without a branch, else one per case; several targets in one are a fork."""
Fork = tuple[str, int]
"""(node, which of its ways)."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the checks found."""

    problems: tuple[str, ...]
    joins: Mapping[Fork, str | None]
    """Fork -> the node where its branches meet; None: nowhere."""


def check(ways: Ways, races: AbstractSet[Fork] = frozenset()) -> Report:
    """Look at a whole topology. END is a target only; a way without targets leads to END.

    ``races``: the forks whose first branch wins.
    """
    reach = _Reach(ways)
    joins: dict[Fork, str | None] = {}
    of_forks: list[str] = []
    for fork in _forks(ways):
        joins[fork], found = _meeting(fork, ways, reach)
        of_forks += found
    endless = _endless(ways, reach, {} if of_forks else joins, races)
    problems = [*_unreachable(ways, reach), *endless, *of_forks]
    return Report(tuple(dict.fromkeys(problems)), joins)


class _Reach:
    """Which nodes can be reached from where."""

    def __init__(self, ways: Ways) -> None:
        self._next = {node: tuple(t for way in out for t in way) for node, out in ways.items()}

    def of(self, starts: Iterable[str], without: AbstractSet[str] = frozenset()) -> set[str]:
        """All nodes on the ways from ``starts`` (included), never entering ``without``."""
        seen: set[str] = set()
        stack = [s for s in starts if s not in without]
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                stack += [t for t in self._next.get(node, ()) if t not in without]
        return seen

    def steps(self, node: str) -> tuple[str, ...]:
        return self._next.get(node, ())


def _forks(ways: Ways) -> Iterator[Fork]:
    return ((node, i) for node, out in ways.items() for i, way in enumerate(out) if len(way) > 1)


def _unreachable(ways: Ways, reach: _Reach) -> list[str]:
    lost = [n for n in ways if n not in reach.of([START])]
    if not lost:
        return []
    return [f"no way leads from START to {_names(lost)}: connect {'it' if len(lost) == 1 else 'them'} or leave out"]


def _endless(ways: Ways, reach: _Reach, joins: Mapping[Fork, str | None], races: AbstractSet[Fork]) -> list[str]:
    """Where a run cannot end it stands in a cycle without a way out, or comes into one.

    A race stops what has not won: beside a member that can end, another may go round for ever.
    """
    ends = _ending(ways, joins, races)
    stuck = ways.keys() - ends - {START}
    for node, which in races:
        if (targets := ways[node][which]) and any(t in ends for t in targets):
            stuck -= reach.of(targets, without={node})
    cycle = [n for n in ways if n in stuck and n in {x for t in reach.steps(n) for x in reach.of([t])}]
    if not cycle:
        return []
    inside = " after the join (inside of a fork END ends its own branch only)" if END in reach.of(cycle) else ""
    return [f"the cycle of {_names(cycle)} has no way out: add a branch with a case that leads to END{inside}"]


def _ending(ways: Ways, joins: Mapping[Fork, str | None], races: AbstractSet[Fork]) -> set[str]:
    """The nodes from which a run can come to its end.

    Of a fork's branches each must end, or all must be able to go on behind their join: one that ends by itself takes
    only its own token away. Forks that are not in ``joins`` are mistakes already, and taken easily.
    """
    ends = {END}

    def can(fork: Fork, way: Targets) -> bool:
        if len(way) < 2 or fork not in joins or fork in races:
            return any(t in ends for t in way)
        return joins[fork] in ends or all(t in ends for t in way)

    while True:
        more = {n for n, out in ways.items() if n not in ends and any(can((n, i), w) for i, w in enumerate(out))}
        if not more:
            return ends
        ends |= more


def _meeting(fork: Fork, ways: Ways, reach: _Reach) -> tuple[str | None, list[str]]:
    node, which = fork
    targets = ways[node][which]
    if END in targets:
        return None, [f"{node} forks to END and to other steps at once: leave END out of the list"]
    if node in targets:
        return None, [f"{node} forks to itself: a branch of its fork may not lead back to it"]
    if len(set(targets)) < len(targets):
        return None, [f"{node} forks twice to the same step: use .as_() to make a second node"]
    regions = {t: reach.of([t], without={node}) - {END} for t in targets}
    shared = {n for n in set().union(*regions.values()) if sum(n in r for r in regions.values()) > 1}
    first = sorted(_frontier(targets, shared, reach, node))
    if len(first) > 1:
        mistake = (
            f"the branches of the fork at {node} ({_names(targets)}) meet at {len(first)} different steps, "
            f"{_names(first)}: let them meet at one, or nest the forks"
        )
        return None, [mistake]
    meet = first[0] if first else None
    inside = reach.of(targets, without={node, *first}) - {END}
    return meet, _leaks(node, inside, first, reach)


def _frontier(targets: Targets, shared: AbstractSet[str], reach: _Reach, fork: str) -> set[str]:
    """The shared nodes that a branch comes to before any other shared node."""
    met: set[str] = set()
    for target in targets:
        before = reach.of([target], without=shared | {fork})
        entered = {t for n in before for t in reach.steps(n)} | {target}
        met |= entered & shared
    return met


def _leaks(fork: str, inside: AbstractSet[str], join: list[str], reach: _Reach) -> list[str]:
    """Edges that leave the fork's branches to anywhere but its join or END."""
    outside = reach.of([START], without={fork})
    bad = [
        (n, t) for n in sorted(inside) for t in reach.steps(n) if t == fork or (t in outside and t not in (*join, END))
    ]
    return [
        f"{n} >> {t} leaves a branch of the fork at {fork}: it may lead only to "
        f"{'its join ' + join[0] + ' or ' if join else ''}END"
        for n, t in bad
    ]


def _names(nodes: Iterable[str]) -> str:
    names = list(nodes)
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
