"""Races and forks by name: ``race(a, b)`` and ``parallel(a, b)``.

Owns: both functions, and the question whether a way out of a node leads into a race. Refuses: who wins
(`plan/tokens.py`), and stopping the others (the runner).

A race is a fork of which one branch goes on. The first branch that has come through, to the join or to END, wins:
only what it changed counts, the others are stopped wherever they stand, and the run goes on where the winner went. A
branch that fails is out of the race, and its failure is kept; the run fails when no branch is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from flowbook.graph.expression import RACE_IN_LIST, Edge, Fragment, fragment, side_by_side


def parallel(*members: Any) -> Fragment:
    """A fork to all of these, the list form by name.

    ``a >> parallel(b, c) >> d`` is the same as ``a >> [b, c] >> d``.
    """
    return side_by_side(members)


def race(*members: Any) -> Fragment:
    """All of these at once, and the first that comes through wins: the others are cancelled, what they did is dropped.

    ``ask >> race(work, sleep("1h")) >> report`` gives ``work`` an hour.

    A member is a step, a pause or a topology that begins with one node, e.g. ``primary >> check``. It has come through
    when it reaches what follows the race, or END; wherever the winner leads, the run goes. A member that fails is out
    of the race, and the run fails only when all have failed; a retry of the run then lets all of them go on.

    A step that runs in a thread cannot be stopped: it goes on by itself, and what it returns is dropped.
    """
    parts = [fragment(m) for m in members]
    whole = side_by_side(parts)
    loose = [problem for problem in whole.loose if problem != RACE_IN_LIST]
    if len(parts) < 2:
        loose.append(f"a race has {len(parts)} member{'' if parts else 's'}: it takes two or more")
    for part in parts:
        if part.race:
            loose.append("a race stands directly in a race: take its members into the outer one, or put a step before")
        elif len(part.heads) > 1:
            loose.append(f"a member of a race begins with {_names(part.heads)}: put a step before them")
    return replace(whole, loose=tuple(loose), race=True)


def races(node: str, edges: Sequence[Edge], problems: list[str]) -> bool:
    """Do these edges, one way out of a node, lead into a race? One that also leads elsewhere is a mistake."""
    groups = {e.race for e in edges}
    if len(groups) > 1:
        inside = [h for group in groups for h in group]
        problems.append(
            f"{node} leads into a race of {_names(dict.fromkeys(inside))} and elsewhere at once: put a step before "
            f"the race, or take all of it into one race"
        )
    return groups != {()} and bool(groups)


def begins(entry: Iterable[str], fragments: Iterable[Fragment], problems: list[str]) -> bool:
    """Is what a flow begins with, START being left out, a race?"""
    wanted, found = set(entry), False
    for heads in ({getattr(h, "name", "") for h in f.heads} for f in fragments if f.race):
        if heads == wanted:
            found = True
        elif heads & wanted:
            problems.append(
                f"the flow begins with a race of {_names(sorted(heads))} and with other steps: put a step before it"
            )
    return found


def _names(nodes: Iterable[Any]) -> str:
    return ", ".join(str(getattr(n, "name", n)) for n in nodes)
