"""Loading: a claimed run from its row and its journal.

Owns: reading the history after the claim, folding it, and finding attempts that died with their process; snapshots of
the fold. Refuses: writing events; the runner records what is found here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flowbook.errors import IllegalTransition, Undecodable, Unencodable
from flowbook.graph.flow import Graph
from flowbook.plan import snapshots
from flowbook.plan.apply import begin, fold, lost_attempts
from flowbook.plan.journal import OUTCOMES, Entry, from_entry
from flowbook.plan.mapping import under_way
from flowbook.plan.records import Run, Trouble, View
from flowbook.ports import RunRow, Snapshot, Store
from flowbook.quick import quick
from flowbook.run.inputs import whole_input


@quick
@dataclass(frozen=True, slots=True)
class Loaded:
    """A run as its new owner finds it."""

    run: Run
    snapshot_seq: int
    """Where the newest usable snapshot is; 0: none."""
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
    snapshot = await store.newest(row.id, tag)
    if snapshot is not None:
        try:
            run = snapshots.load(run, snapshot.payload)
        except Undecodable:  # a snapshot is a cache: without it, everything is folded again
            snapshot = None
    async for entries in store.pages(row.id, snapshot.seq if snapshot else 0):
        run = fold(graph, run, ((e.seq, from_entry(e)) for e in entries))
    # A process that ended in order leaves beginnings behind as well: no path has died more often than its owners have.
    lost = tuple((p, n) for p, n in lost_attempts(run) if run.troubles.get(p, Trouble()).lost < row.lost)
    ready = under_way(graph, run) if row.lost else frozenset()
    return Loaded(run, snapshot.seq if snapshot else 0, lost, ready, given)


async def keep(store: Store, graph: Graph, row: RunRow, run: Run, given: Mapping[str, Any]) -> None:
    """Store a snapshot of a run that this process owns; ``given`` as `Loaded` has it."""
    try:
        payload = snapshots.dump(run, given)
    except Unencodable:
        return  # a reducer made something that only memory can hold; folding again makes it again
    await store.snapshot(row.id, row.epoch, Snapshot(run.seq, snapshots.tag(graph), payload))


async def fresh_run(store: Store, graph: Graph, row: RunRow) -> Loaded:
    """A run that was started a moment ago and has no journal yet."""
    run = begin(graph, row.id, await whole_input(store, row), row.started_at)
    return Loaded(run, 0, (), frozenset(), run.view.values)


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
