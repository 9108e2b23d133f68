"""Loading: a claimed run from its row and its journal.

Owns: reading the history after the claim, folding it, and finding attempts that died with their process. Refuses:
writing events (the runner records what is found here) and snapshots (`shots.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flowbook.errors import IllegalTransition, Undecodable
from flowbook.graph.flow import Graph
from flowbook.plan import snapshots
from flowbook.plan.apply import begin, fold, lost_attempts
from flowbook.plan.journal import OUTCOMES, Entry, from_entry
from flowbook.plan.mapping import under_way
from flowbook.plan.records import Run, Trouble, View
from flowbook.ports import RunRow, Store
from flowbook.quick import quick
from flowbook.run.inputs import whole_input
from flowbook.run.shots import Shots


@quick
@dataclass(frozen=True, slots=True)
class Loaded:
    """A run as its new owner finds it."""

    run: Run
    shots: Shots
    """Its snapshots so far."""
    lost: tuple[tuple[str, int], ...]
    """(path, attempt) of what was running when the last owner died."""
    suspects: frozenset[str]
    """Paths that stand ready after an owner died: any of them may have killed it, so their next attempt is recorded
    before its body runs."""
    given: Mapping[str, Any]
    """The state that it began with: what of it is unchanged is in no snapshot."""


async def load(store: Store, graph: Graph, row: RunRow) -> Loaded:
    """Read and fold a run. Raises `StateError` if its input does not fit, `Undecodable` for a damaged journal."""
    run = begin(graph, row.id, await whole_input(store, row), row.started_at)
    given = run.view.values
    tag = snapshots.tag(graph)
    snapshot, shots = await store.newest(row.id, tag), Shots()
    if snapshot is not None:
        with contextlib.suppress(Undecodable):  # a snapshot is a cache: without it, everything is folded again
            run = shots.load(run, snapshot)
    async for entries in store.pages(row.id, shots.seq):
        shots.weigh(entries)
        run = fold(graph, run, ((e.seq, from_entry(e)) for e in entries))
    # A process that ended in order leaves beginnings behind as well: no path has died more often than its owners have.
    lost = tuple((p, n) for p, n in lost_attempts(run) if run.troubles.get(p, Trouble()).lost < row.lost)
    ready = under_way(graph, run) if row.lost else frozenset()
    return Loaded(run, shots, lost, ready, given)


async def fresh_run(store: Store, graph: Graph, row: RunRow) -> Loaded:
    """A run that was started a moment ago and has no journal yet."""
    run = begin(graph, row.id, await whole_input(store, row), row.started_at)
    return Loaded(run, Shots(), (), frozenset(), run.view.values)


async def entries_of(store: Store, run_id: UUID) -> AsyncIterator[Entry]:
    """The journal in order, a page of it at a time; items of a map come without what they returned."""
    async for page in store.pages(run_id):
        for entry in page:
            yield entry


async def view_before(store: Store, graph: Graph, row: RunRow, path: str) -> View:
    """What the step at ``path`` saw. Raises `IllegalTransition` if it never finished."""
    run = begin(graph, row.id, await whole_input(store, row))
    async for entry in entries_of(store, row.id):
        if entry.path == path and entry.kind in OUTCOMES:
            for token in run.tokens.values():
                if token.path == path:
                    return token.view
        run = fold(graph, run, [(entry.seq, from_entry(entry))])
    raise IllegalTransition(f"run {row.id} has no result at {path}, so it cannot be computed again")
