"""Forks: what a run that begins inside another one keeps of it.

Owns: `cut`, which finds the causal descendants of a point, and `inherited`, which picks a fork's prefix out of the
journals of those before it. Refuses: storing (`ports.Store.fork`), and applying the edits (`apply.py`).

What depends on a point is what the token that stood there did since, what the branches that it opened did, and what
follows the join of its scope: all the rest would have come out alike. So a branch beside it is kept, also what it did
*later* than the point, and is not paid for again. Only results are kept. Attempts, failures, pauses that had begun,
requests and the end belong to the other run; so does its mailbox, but a signal that a kept pause has taken stays taken.

Causality is followed by tokens: an event changes the tokens that it moves, the scopes that it closes pass it on to the
token that forked, and what is closed under causality can be left out of a fold without a trace.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flowbook.errors import IllegalTransition, PointUnknown
from flowbook.graph.flow import Graph
from flowbook.plan.apply import apply, onward
from flowbook.plan.events import Event, RunForked
from flowbook.plan.journal import KEPT, Entry, Kind, from_entry
from flowbook.plan.records import ROOT, Phase, Run, Token
from flowbook.plan.undoing import undone_in

SHOWN = 30
"""Paths that an error names."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a fork begins, and what it keeps."""

    seq: int
    """Last row of the other run's own journal that is read; 0: none."""
    without: tuple[str, ...]
    """Paths that depend on the point, as far as rows of theirs would be read otherwise."""
    before: Run
    """The run as it stands at the point: everything kept is in it, the edits are not."""
    token: Token
    """The token that stands at the point."""
    edits: Mapping[str, Any] = field(default_factory=dict)
    """What the other run was itself forked with at the very point: its step saw it, so the fork has it too."""


def cut(graph: Graph, beginning: Run, entries: Iterable[Entry], at: str) -> Cut:
    """Cut a run at the step that stands, or stood, at the path ``at``.

    ``beginning``: the run before its first event; ``entries``: its whole history, as `Store.history` gives it. Raises
    `PointUnknown`, naming the paths that there are.
    """
    entries = list(entries)
    # What was undone is done again by whoever goes on behind it: its effects are gone.
    points = {at, *undone_in(entries)}
    run, touched, seq = beginning, frozenset[str](), 0
    gone: dict[str, int] = {}
    edits: Mapping[str, Any] = {}
    reached: dict[str, None] = {}
    kept: list[tuple[int, Event]] = []
    for entry in entries:
        if entry.kind is Kind.UNDOING:
            break  # the rest is compensations
        if entry.kind not in KEPT:
            continue
        event = from_entry(entry)
        touched |= _standing(run, points)
        reached.update(dict.fromkeys(run.ready))
        mover = _mover(run, entry.path)
        if mover.phase is Phase.ENDED and entry.path == at:
            touched |= {mover.id}  # the point is where it went on behind its end
        after = apply(graph, run, event, entry.seq)
        if mover.id in touched:
            gone.setdefault(entry.path, entry.seq)  # an edit stands before the outcome of its path
            if entry.path == at and isinstance(event, RunForked):
                edits = event.edits
        else:
            kept.append((entry.seq, event))
            seq = max(seq, entry.seq)
        run, touched = after, _spread(run, after, mover.id, touched)
    reached.update(dict.fromkeys(run.ready))
    if at not in reached:
        raise point_unknown(at, list(reached))
    before = beginning
    for number, event in kept:
        before = apply(graph, before, event, min(number, 0))
    if at not in before.ready:
        before = onward(graph, before)
    token = before.at(at)
    if token is None:
        raise PointUnknown(
            f"a run cannot begin at {at}: what it would keep, which does not depend on {at}, has passed it by (a race "
            f"that another branch has won, or an early end). Fork before that"
            if len(points) == 1
            else f"a run cannot begin at {at}: steps before it were undone, and have to be done again. Fork at the "
            f"first of them: {', '.join(sorted(points - {at})[:SHOWN])}"
        )
    return Cut(seq, tuple(p for p, n in gone.items() if n <= seq), before, token, edits)


def cut_at_end(graph: Graph, beginning: Run, entries: Iterable[Entry]) -> Cut:
    """Cut a run behind all that it did: it begins again, with the state that it has come to.

    Raises `PointUnknown` for one that has not come to its end, or that begins with several steps at once.
    """
    run, seq = beginning, 0
    for entry in entries:
        if entry.kind is Kind.UNDOING:
            break
        if entry.kind in KEPT:
            run, seq = apply(graph, run, from_entry(entry), entry.seq), max(seq, entry.seq)
    if run.tokens[ROOT].phase is not Phase.ENDED or run.halted is not None:
        raise PointUnknown("a run goes on behind its end once it has come to it: this one has not, or a step ended it")
    run = onward(graph, run)
    root = run.tokens[ROOT]
    if root.phase is not Phase.READY:
        raise PointUnknown("a flow that begins with several steps at once has no step to go on with behind its end")
    return Cut(seq, (), run, root)


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One run on the way up from a fork, the nearest first."""

    entries: Sequence[Entry]
    upto: int
    """``forked_seq`` of the run below it."""
    without: Collection[str]
    """``except_paths`` of the run below it."""


def inherited(ancestors: Sequence[Ancestor]) -> list[Entry]:
    """The rows that a fork reads from those before it, in order; their numbers count backwards from 0."""
    gone: set[str] = set()
    parts: list[list[Entry]] = []
    for one in ancestors:
        gone |= set(one.without)
        parts.append([e for e in one.entries if e.seq <= one.upto and e.kind in KEPT and e.path not in gone])
    return renumbered([entry for part in reversed(parts) for entry in part])


def renumbered(entries: Sequence[Entry]) -> list[Entry]:
    """The rows of a prefix, numbered so that a fork's own journal goes on with 1."""
    return [replace(entry, seq=i - len(entries) + 1) for i, entry in enumerate(entries)]


def _standing(run: Run, at: Collection[str]) -> frozenset[str]:
    return frozenset(t.id for t in run.tokens.values() if t.path in at and t.phase is Phase.READY)


def _mover(run: Run, path: str) -> Token:
    """The token that a row moves: the one at its path, or at what its path lies under (an item of a map)."""
    for token in run.tokens.values():
        if token.phase is Phase.READY and (token.path == path or path.startswith((f"{token.path}/", f"{token.path}["))):
            return token
    if (root := run.tokens[ROOT]).phase is Phase.ENDED:
        return root  # a fork behind the end
    raise IllegalTransition(f"{path} had an outcome, but no token stands there: the journal is damaged")


def _spread(before: Run, after: Run, mover: str, touched: frozenset[str]) -> frozenset[str]:
    """The tokens that depend on the point after an event, from those that did before it."""
    if mover in touched:
        moved = {t for t, token in after.tokens.items() if before.tokens.get(t) is not token}
        return (touched | moved).intersection(after.tokens)
    closed = [scope for path, scope in before.scopes.items() if path not in after.scopes]
    found = touched
    for _ in closed:  # a scope that closes may be the last that an outer one waited for
        found |= {s.parent for s in closed if not found.isdisjoint(s.members)}
    return found.intersection(after.tokens)


def point_unknown(at: str, reached: Sequence[str]) -> PointUnknown:
    """The error for a path that no token came to; it names those that there are."""
    near = [f"{at}#1"] if f"{at}#1" in reached else difflib.get_close_matches(at, reached, 1)
    more = f", and {len(reached) - SHOWN} more" if len(reached) > SHOWN else ""
    return PointUnknown(
        f"no step of this run stands or stood at {at!r}{f'; did you mean {near[0]!r}?' if near else '.'} "
        f"It came to: {', '.join(reached[-SHOWN:]) or 'nothing yet'}{more}"
    )
