"""Reuse: what of a run still holds for another version of its flow.

Owns: `reusable`, one fold of a run's results into the flow as it is now. Refuses: judging code (`graph/parts.py` says
which nodes are stale), storing (`ports.Store.fork`) and words for people (`observe/planned.py`).

A result is kept if its step is what it was, a token of the *new* topology stands at its path, and the step is given the
same as it was given then. So a change is followed by what steps are given, and the topology may be another one: a step
that was added in between makes again what reads something of it, and nothing else. Results are applied in the order in
which they became durable; one that comes before its token would stand there is made again.

What belongs to a firing without a result of its own, items of a map that broke off, calls of a body that did, is made
again with it: a retry is the way to keep those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from flowbook.codec import encode
from flowbook.errors import FlowbookError
from flowbook.graph.binding import slots
from flowbook.graph.flow import Graph
from flowbook.graph.pause import Pause
from flowbook.graph.step import Step
from flowbook.plan.apply import apply
from flowbook.plan.events import Event, RunForked
from flowbook.plan.journal import KEPT, OUTCOMES, Entry, Kind, from_entry
from flowbook.plan.paths import home, node_of
from flowbook.plan.records import Phase, Run, Token
from flowbook.plan.traces import given
from flowbook.plan.undoing import undone_in


class Because(StrEnum):
    """Why a result is not kept."""

    CODE = "code"
    """The step, or what it uses, changed."""
    GIVEN = "given"
    """It is given something else."""
    BEFORE = "before"
    """No token comes there with what is kept: something before it is made again, or the topology leads elsewhere."""
    UNDONE = "undone"
    """The run has undone it."""
    GONE = "gone"
    """The flow has no such step any more."""
    BROKEN = "broken"
    """What it returned cannot be taken into the state as it is now."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A result that is not kept."""

    because: Because
    details: tuple[str, ...] = ()
    """Of `CODE` what changed, of `GIVEN` which parameters, of `BROKEN` the error."""


@dataclass(frozen=True, slots=True)
class Reusable:
    """What of a run is kept, as a fork of it needs it."""

    kept: tuple[str, ...]
    """Paths of the firings whose results are kept, in their order."""
    lost: Mapping[str, Lost]
    """Path of a firing that has a result -> why that is not kept."""
    before: Run
    """The run as it stands with what is kept, before anything is made again."""
    standing: tuple[str, ...]
    """Where it goes on; none: nothing is left to do."""
    seq: int
    """Last row of the run's own journal that is read; 0: none."""
    without: tuple[str, ...]
    """Paths whose rows up to there are not read."""
    edits: Mapping[str, Any] = field(default_factory=dict)
    """What the run was itself forked with at the place where it goes on."""


def reusable(
    graph: Graph, beginning: Run, entries: Iterable[Entry], stale: Mapping[str, tuple[str, ...]],
    old: tuple[Graph, Run] | None = None,
) -> Reusable:  # fmt: skip
    """What of a run still holds for ``graph``.

    ``beginning``: the run before its first event, as ``graph`` has it; ``entries``: its whole history. ``stale``: node
    -> why what it returned does not hold any more. ``old``: the code of the run and its beginning with that; None: it
    is ``graph``'s topology and state, so that a step whose token stands there is given what it was given.
    """
    entries = list(entries)
    fold = _Fold(graph, beginning, stale, old, undone_in(entries))
    fold.finished = {entry.path for entry in entries if entry.kind in OUTCOMES and _base(entry.path) == entry.path}
    for entry in entries:
        if entry.kind is Kind.UNDOING:
            break  # the rest is compensations
        if entry.kind in KEPT:
            fold.take(entry, from_entry(entry))
    return fold.found()


class _Fold:
    """A run of the new flow, with what fits of the old one's results."""

    def __init__(
        self, graph: Graph, beginning: Run, stale: Mapping[str, tuple[str, ...]], old: tuple[Graph, Run] | None,
        undone: frozenset[str],
    ) -> None:  # fmt: skip
        self.graph, self.run, self.stale, self.undone = graph, beginning, stale, undone
        self.old_graph = old[0] if old else None
        self.old_run = old[1] if old else None
        self.finished: set[str] = set()
        self.verdicts: dict[str, Lost | None] = {}
        self.without: dict[str, int] = {}
        self.edits: dict[str, Mapping[str, Any]] = {}
        self.seq = 0

    def take(self, entry: Entry, event: Event) -> None:
        """One row that a fork would read."""
        base = _base(entry.path)
        forked = isinstance(event, RunForked)
        if isinstance(event, RunForked) and event.edits:
            self.edits[base] = event.edits
        if base not in self.verdicts:
            self.verdicts[base] = self._verdict(base)
        whole = base in self.finished or forked
        if self.verdicts[base] is None and whole and self._applied(entry, base, event):
            self.seq = max(self.seq, entry.seq)
        else:
            self.without.setdefault(entry.path, entry.seq)
        if self.old_graph is not None and self.old_run is not None:
            self.old_run = apply(self.old_graph, self.old_run, event, entry.seq)

    def found(self) -> Reusable:
        """The whole of it."""
        kept = tuple(p for p, lost in self.verdicts.items() if lost is None and p in self.finished)
        lost = {p: why for p, why in self.verdicts.items() if why is not None and p in self.finished}
        standing = [] if self.run.halted else [
            t.path for t in self.run.tokens.values() if t.phase is Phase.READY and t.path
        ]  # fmt: skip
        standing.sort(key=lambda path: path not in self.edits)  # the place that was edited first: the edit is kept
        edits = self.edits.get(standing[0], {}) if standing and standing[0] in self.without else {}
        without = tuple(p for p, seq in self.without.items() if seq <= self.seq)
        return Reusable(kept, lost, self.run, tuple(standing), self.seq, without, edits)

    def _applied(self, entry: Entry, base: str, event: Event) -> bool:
        try:
            self.run = apply(self.graph, self.run, event, min(entry.seq, 0))
        except FlowbookError as error:
            self.verdicts[base] = Lost(Because.BROKEN, (error.message,))
            return False
        return True

    def _verdict(self, base: str) -> Lost | None:
        node = node_of(base)
        if node not in self.graph.nodes:
            return Lost(Because.GONE)
        if why := self.stale.get(node):
            return Lost(Because.CODE, why)
        if base in self.undone:
            return Lost(Because.UNDONE)
        token = _standing(self.run, base)
        if token is None:
            return Lost(Because.BEFORE)
        if self.old_graph is None or self.old_run is None:
            return None
        then = _standing(self.old_run, base)
        if then is None:
            return Lost(Because.BEFORE)
        differ = _differ(_given(self.graph, token), _given(self.old_graph, then))
        return Lost(Because.GIVEN, differ) if differ else None


def _base(path: str) -> str:
    """The firing of a node that a row belongs to: a map for its items, a body for its calls."""
    return home(path.partition("/")[0]) if "/" in path else home(path)


def _standing(run: Run, path: str) -> Token | None:
    return next((t for t in run.tokens.values() if t.path == path and t.phase is Phase.READY), None)


def _given(graph: Graph, token: Token) -> Mapping[str, Any]:
    """Everything that the step at a token may read of the state."""
    place = graph.nodes[token.at].step
    if isinstance(place, Pause):
        return {}
    found = given(graph, token.at, token.view)
    reads_all = found is None or (isinstance(place, Step) and (slots(place).context or slots(place).positional))
    if graph.nodes[token.at].router is not None or (isinstance(place, Step) and place.guard is not None):
        reads_all = True
    return {**(found or {}), **token.view.values} if reads_all else found or {}


def _differ(now: Mapping[str, Any], then: Mapping[str, Any]) -> tuple[str, ...]:
    names = [*now, *(name for name in then if name not in now)]
    return tuple(n for n in names if (n in now) is not (n in then) or not _alike(now.get(n), then.get(n)))


def _alike(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        return encode(one) == encode(other)
    except FlowbookError:  # a reducer made something that only memory can hold
        return False
