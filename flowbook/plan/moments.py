"""Moments: a run as one of its steps saw it.

Owns: `moment`, which folds a history up to a path or a row. Refuses: placeholders (the app opens them) and reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowbook.errors import PointUnknown
from flowbook.graph.flow import Graph
from flowbook.graph.state import merge
from flowbook.plan.apply import apply
from flowbook.plan.events import ChildFinished, MapFinished, StepFinished, WaitFinished
from flowbook.plan.forks import point_unknown
from flowbook.plan.journal import OUTCOMES, Entry, from_entry
from flowbook.plan.mapping import results
from flowbook.plan.quotes import filled
from flowbook.plan.records import Run, View


@dataclass(frozen=True, slots=True)
class Moment:
    """A run at one of its steps, or at one of its rows."""

    path: str
    """The step; empty: a row that concerns the run as a whole."""
    token: str
    """Id of the token that stood there: empty for the run's own, else the fork and the number of the branch."""
    seq: int
    """The row; 0 and below: it stands in the journal of a run before this one. Of a step without an outcome, the last
    row there is."""
    at: datetime | None
    """When the row was written, by the database's clock."""
    before: View
    """What the step saw."""
    values: Mapping[str, Any]
    """The state after its outcome, as its token sees it; what the step saw where it has none."""
    finished: bool
    """True if the step has its outcome at this moment."""
    result: Any = None
    route: int | None = None
    """Which case of its branch was taken."""


def moment(graph: Graph, beginning: Run, entries: Iterable[Entry], where: str | int) -> Moment:
    """The moment of a path (after its outcome) or of a row.

    Raises `PointUnknown` for a path that no token came to and for a row that there is not.
    """
    run, reached, last = beginning, dict.fromkeys(beginning.ready), None
    for entry in entries:
        here = entry.path == where and entry.kind in OUTCOMES if isinstance(where, str) else entry.seq == where
        if here:
            return _at(graph, run, entry)
        run, last = apply(graph, run, from_entry(entry), entry.seq), entry
        reached.update(dict.fromkeys(run.ready))
    if isinstance(where, int):
        raise PointUnknown(
            f"the journal of run {run.id} has no row {where}: it has rows 1 to {last.seq if last else 0}"
        )
    token = run.at(where)
    if token is None:
        raise point_unknown(where, list(reached))
    return Moment(where, token.id, run.seq, last.at if last else None, token.view, token.view.values, finished=False)


def _at(graph: Graph, run: Run, entry: Entry) -> Moment:
    event, token = from_entry(entry), run.at(entry.path)
    if isinstance(event, StepFinished):
        event = filled(event, lambda path: run.calls[path].result)
    if token is not None and isinstance(event, StepFinished | WaitFinished | ChildFinished):
        values = merge(graph.schema, token.view.values, event.update)
        return Moment(entry.path, token.id, entry.seq, entry.at, token.view, values, True, event.result, event.route)
    if token is not None and isinstance(event, MapFinished):
        result = results(run, event)
        values = merge(graph.schema, token.view.values, {event.key: result})
        return Moment(entry.path, token.id, entry.seq, entry.at, token.view, values, True, result, event.route)
    after = apply(graph, run, event, entry.seq)
    seen = after.at(entry.path)
    if token is None or seen is None:
        return Moment("", "", entry.seq, entry.at, run.view, after.view.values, finished=False)
    return Moment(entry.path, token.id, entry.seq, entry.at, token.view, seen.view.values, finished=False)
