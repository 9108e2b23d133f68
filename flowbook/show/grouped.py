"""Groups: long chains of a large flow as one card each.

Owns: which steps are put together, and how a group is doing. Refuses: choosing when (`live.py`), and putting anything
together that somebody may have to decide or to look into: pauses, sub-flows, maps and whatever branches stay cards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from flowbook.observe.views import Overview, State
from flowbook.show.safe import clean
from flowbook.show.svg import Mark, Progress
from flowbook.show.topology import Kind, Place, Topology, Way

LEAST = 4
"""Steps of a chain that become a group; fewer are as quickly seen."""

_URGENT = (State.FAILED, State.RETRYING, State.WAITING, State.RUNNING, State.CANCELLED)
"""What a group is if any of its steps is: the first that fits."""

Groups = Mapping[str, tuple[str, ...]]
"""Id of a group's place -> the names of its steps, in order."""


def grouped(topology: Topology, least: int = LEAST) -> tuple[Topology, Groups]:
    """The topology with a place for each chain of at least ``least`` steps; without one, as it was."""
    chains = [chain for chain in _chains(topology) if len(chain) >= least]
    if not chains:
        return topology, {}
    at = {p.id: chain[0].id for chain in chains for p in chain}
    follows = {(a.id, b.id) for chain in chains for a, b in pairwise(chain)}
    heads = {chain[0].id: chain for chain in chains}
    places = [_place(heads[p.id]) if p.id in heads else p for p in topology.places if at.get(p.id, p.id) == p.id]
    ways = [_moved(w, at) for w in topology.ways if (w.source, w.target) not in follows]
    groups = {first: tuple(p.name for p in chain) for first, chain in heads.items()}
    return replace(topology, places=tuple(places), ways=tuple(ways)), groups


def group_mark(names: Sequence[str], overview: Overview) -> Mark:
    """How a group is doing: the most urgent of its steps, and how many have finished."""
    steps = [overview.nodes[n] for n in names if n in overview.nodes]
    states = Counter(s.state for s in steps)
    done = sum(states[s] for s in (State.FINISHED, State.SKIPPED, State.UNDONE))
    urgent = next((s for s in _URGENT if states[s]), None)
    state = urgent or (State.FINISHED if done == len(names) else State.RUNNING if done else State.PENDING)
    current = [s.node for s in steps if s.state is state] if urgent else []
    text = f"{done}/{len(names)}" + (f" · {clean(current[-1], 60)}" if current else "")
    running = states[State.RUNNING] + states[State.RETRYING] + states[State.WAITING]
    return Mark(state, text, ", ".join(clean(n, 40) for n in current[:5]), progress=Progress(
        len(names), done, states[State.FAILED], running))  # fmt: skip


def spokesman(names: Sequence[str], overview: Overview) -> str:
    """The step of a group that there is most to say of."""
    steps = [overview.nodes[n] for n in names if n in overview.nodes]
    for state in _URGENT:
        found = [s.node for s in steps if s.state is state]
        if found:
            return found[-1]
    return steps[-1].node if steps else names[0]


def _chains(topology: Topology) -> list[list[Place]]:
    places = {p.id: p for p in topology.places}
    out: dict[str, list[Way]] = {}
    into: Counter[str] = Counter()
    for way in topology.ways:
        out.setdefault(way.source, []).append(way)
        into[way.target] += 1

    def after(place: Place) -> Place | None:
        ways = out.get(place.id, [])
        if len(ways) != 1 or ways[0].label or into[ways[0].target] != 1:
            return None
        following = places[ways[0].target]
        return following if _plain(following) else None

    behind = {p.id for place in topology.places if _plain(place) and (p := after(place))}
    chains = []
    for place in topology.places:
        if _plain(place) and place.id not in behind:
            chain = [place]
            while following := after(chain[-1]):
                chain.append(following)
            chains.append(chain)
    return chains


def _plain(place: Place) -> bool:
    return place.kind is Kind.STEP and not place.nested and not place.many and not place.note.startswith("⏸")


def _place(chain: Sequence[Place]) -> Place:
    name = f"{clean(chain[0].name, 14)} … {clean(chain[-1].name, 14)}"
    return replace(chain[0], name=name, note=f"{len(chain)} steps", many=True)


def _moved(way: Way, at: Mapping[str, str]) -> Way:
    return replace(way, source=at.get(way.source, way.source), target=at.get(way.target, way.target))
