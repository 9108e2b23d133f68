"""Plans: what a run would do, before it does anything.

Owns: `Plan`, and `planned`, which puts it together from what can be reused and from what runs took so far. Refuses:
reading runs (`flowbook/planning.py`) and drawing (`show/planned.py`). All of it is pure.

Expectations are medians over finished runs: of a node over those in which it ran, of the whole plan over all of them,
so that a branch which is seldom taken adds nothing to it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from flowbook.plan.events import ChildFinished, Event, MapFinished, StepFinished
from flowbook.plan.journal import OUTCOMES, Entry, Kind, from_entry
from flowbook.plan.paths import node_of
from flowbook.plan.records import Status
from flowbook.plan.reuse import Because, Lost, Reusable


class Fate(StrEnum):
    """What becomes of a node."""

    REUSED = "reused"
    AGAIN = "will run again"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node in a plan."""

    node: str
    fate: Fate
    why: str
    """In words; empty where there is nothing to say."""
    seconds: float | None = None
    """What it may take in a run: the median over finished runs in which it ran; None: it never did, or is a pause."""
    usd: float | None = None
    """What it may cost; None: nothing that is known of."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run of a flow would do."""

    flow: str
    fingerprint: str
    spec: Mapping[str, Any]
    nodes: tuple[PlannedNode, ...]
    """In the order of the flow."""
    against: UUID | None
    """The run whose results it would reuse; None: there is none, so all of it is new."""
    against_version: int
    against_status: Status | None
    against_at: datetime | None
    changes: tuple[str, ...]
    """What is different in the code since then."""
    input_changed: tuple[str, ...]
    """Names of inputs that are not what that run was given. Then nothing is reused."""
    standing: tuple[str, ...]
    """Paths where a run that reuses would go on; none with ``against``: nothing is left to do."""
    history: int
    """Of how many finished runs the expectations are."""
    seconds: float | None
    """What all that is not reused may take, one step after the other; None: no run has finished yet."""
    usd: float | None
    """What it may cost; None: no step has ever said what it cost."""
    saved: float | None
    """Seconds that the reused steps have taken."""
    notes: tuple[str, ...] = ()
    """What a plan cannot know."""

    def of(self, fate: Fate) -> tuple[PlannedNode, ...]:
        """The nodes of this fate."""
        return tuple(n for n in self.nodes if n.fate is fate)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.of(fate))} {fate}" for fate in Fate if self.of(fate))
        return f"<plan {self.flow}: {counts or 'no steps'}>"


@dataclass(frozen=True, slots=True)
class Spent:
    """What one finished run has taken, by node."""

    seconds: Mapping[str, float]
    usd: Mapping[str, float]


def spent(entries: Iterable[Entry]) -> Spent:
    """What the nodes of a run have taken; pauses take nothing, items of maps count with their map."""
    seconds: dict[str, float] = {}
    usd: dict[str, float] = {}
    begun: dict[str, datetime] = {}
    for entry in entries:
        if "/" in entry.path or entry.path.endswith("]"):
            continue
        if entry.kind in (Kind.MAPPING, Kind.CHILD) and entry.at is not None:
            begun.setdefault(entry.path, entry.at)
        if entry.kind not in OUTCOMES:
            continue
        event, node = from_entry(entry), node_of(entry.path)
        took = event.seconds if isinstance(event, StepFinished) else None
        if isinstance(event, MapFinished | ChildFinished) and entry.at is not None and entry.path in begun:
            took = (entry.at - begun[entry.path]).total_seconds()
        if took is not None:
            seconds[node] = seconds.get(node, 0.0) + took
        if (cost := _usd(event)) is not None:
            usd[node] = usd.get(node, 0.0) + cost
    return Spent(seconds, usd)


def planned(
    flow: str, fingerprint: str, spec: Mapping[str, Any], reuse: Reusable | None, *, history: Sequence[Spent],
    stale: Mapping[str, tuple[str, ...]], known: frozenset[str] = frozenset(), failed: str = "",
    against: tuple[UUID, int, Status, datetime] | None = None, changes: tuple[str, ...] = (),
    input_changed: tuple[str, ...] = (), notes: tuple[str, ...] = (),
) -> Plan:  # fmt: skip
    """Put a plan together.

    ``reuse``: what of the other run is kept, None if nothing may be; ``known``: the nodes that its flow had;
    ``failed``: the path that failed it.
    """
    names = [str(n["name"]) for n in spec.get("nodes") or ()]
    fates = {}
    for name in names:
        if reuse is None or against is None:
            fates[name] = _without_run(name, known, against is not None, input_changed)
        else:
            fates[name] = _fate(name, spec, reuse, stale, known, failed)
    nodes = tuple(_node(name, fates[name], history) for name in names)
    todo = [n.node for n in nodes if n.fate is not Fate.REUSED]
    kept = [n.seconds or 0.0 for n in nodes if n.fate is Fate.REUSED]
    costs = any(s.usd for s in history)
    it = against or (None, 0, None, None)
    return Plan(
        flow, fingerprint, spec, nodes, it[0], it[1], it[2], it[3], changes, input_changed,
        reuse.standing if reuse else (), len(history),
        _median([sum(s.seconds.get(n, 0.0) for n in todo) for s in history]),
        _median([sum(s.usd.get(n, 0.0) for n in todo) for s in history]) if costs else None,
        sum(kept) if kept and history else None, notes,
    )  # fmt: skip


def _node(name: str, fate: tuple[Fate, str], history: Sequence[Spent]) -> PlannedNode:
    seconds = _median([s.seconds[name] for s in history if name in s.seconds])
    return PlannedNode(name, *fate, seconds, _median([s.usd[name] for s in history if name in s.usd]))


def _without_run(name: str, known: frozenset[str], compared: bool, input_changed: tuple[str, ...]) -> tuple[Fate, str]:
    if not compared:
        return Fate.NEW, "never ran with this flow"
    if name not in known:
        return Fate.NEW, "added since that run"
    shown = ", ".join(f"`{n}`" for n in input_changed)
    return Fate.AGAIN, f"input changed: {shown}" if shown else "nothing of that run can be read with this code"


def _fate(
    name: str, spec: Mapping[str, Any], reuse: Reusable, stale: Mapping[str, tuple[str, ...]], known: frozenset[str],
    failed: str,
) -> tuple[Fate, str]:  # fmt: skip
    kept = [p for p in reuse.kept if node_of(p) == name]
    lost = [(p, why) for p, why in reuse.lost.items() if node_of(p) == name]
    if name not in known:
        return Fate.NEW, "added since that run"
    if lost:
        own = next((why for _, why in lost if why.because is not Because.BEFORE), None)
        return Fate.AGAIN, _said(name, own, spec, reuse, stale, failed)
    if failed and node_of(failed) == name:
        changed = "; ".join(stale.get(name, ()))
        return Fate.AGAIN, f"it failed in that run{f', and {changed}' if changed else ''}"
    if kept:
        times = f"{len(kept)} results" if len(kept) > 1 else ""
        return Fate.REUSED, times
    if any(node_of(p) == name for p in reuse.standing):
        return Fate.NEW, "that run did not come to its end"
    return Fate.NEW, "never ran: that run did not come here"


def _said(
    name: str, own: Lost | None, spec: Mapping[str, Any], reuse: Reusable, stale: Mapping[str, tuple[str, ...]],
    failed: str,
) -> str:  # fmt: skip
    if own is None:
        causes = _causes(name, spec, reuse, stale, failed)
        return f"after {', '.join(f'`{c}`' for c in causes)}" if causes else "the steps lead here another way now"
    match own.because:
        case Because.CODE:
            return "; ".join(own.details)
        case Because.GIVEN:
            return f"it is given another {', '.join(f'`{d}`' for d in own.details)}"
        case Because.UNDONE:
            return "what it did was undone"
        case _:
            return "what it returned does not fit any more: " + "; ".join(own.details)


def _causes(
    name: str, spec: Mapping[str, Any], reuse: Reusable, stale: Mapping[str, tuple[str, ...]], failed: str
) -> list[str]:
    """The nodes before a node that run again for reasons of their own, or are new."""
    after = {str(n["name"]): {t for way in n.get("ways") or () for t in way} for n in spec.get("nodes") or ()}
    own = {node_of(p) for p, why in reuse.lost.items() if why.because is not Because.BEFORE}
    own |= {node_of(p) for p in reuse.standing} | set(stale) | ({node_of(failed)} if failed else set())
    return [cause for cause in after if cause in own and cause != name and name in _reach(after, cause)]


def _reach(after: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for target in after.get(waiting.pop(), ()):
            if target not in found:
                found.add(target)
                waiting.append(target)
    return found


def _usd(event: Event) -> float | None:
    """What the turns of a model have cost that an outcome tells of."""
    turns: Any = None
    if isinstance(event, StepFinished):
        turns = event.update.get("turns")
    elif isinstance(event, ChildFinished) and isinstance(event.result, Mapping):
        turns = event.result.get("turns")
    if not isinstance(turns, list):
        return None
    costs = [t.get("usd") for t in turns if isinstance(t, Mapping)]
    known = [c for c in costs if isinstance(c, int | float)]
    return float(sum(known)) if known else None


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None
