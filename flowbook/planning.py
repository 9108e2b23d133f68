"""Planning: what a run would do, and a run that does no more than that.

Owns: `plan` (a dry run: nothing is executed, nothing is written) and `reuse` (a run that keeps what a plan calls
reused). Refuses: what may be kept (`plan/reuse.py`), words and medians (`observe/planned.py`).

A run that reuses is a fork of the other run at the places where something is to be made again: what is kept is read
from the other run's journal and not copied. So it has the other run's input; with another one everything runs again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.codec import encode
from flowbook.errors import CodeMissing, NothingToReuse, RunNotFound
from flowbook.graph.changes import changes, same_topology
from flowbook.graph.flow import Graph
from flowbook.graph.parts import stale as stale_nodes
from flowbook.graph.parts import unseen
from flowbook.graph.source import describe
from flowbook.handle import Run
from flowbook.ids import new_id
from flowbook.observe.planned import Plan, Spent, planned, spent
from flowbook.plan.apply import begin
from flowbook.plan.events import RunForked
from flowbook.plan.journal import Entry, to_entry
from flowbook.plan.query import RunQuery
from flowbook.plan.records import Status
from flowbook.plan.reuse import Reusable, reusable
from flowbook.ports import NewFork, RunRow
from flowbook.run.inputs import whole_input
from flowbook.travel import code_of

if TYPE_CHECKING:
    from flowbook.app import App

HISTORY = 20
"""Finished runs that expectations are made of, the newest."""
ROWS = 2_000
"""Rows that are read of each of them."""
LOOKED = 200
"""Runs of a flow among which one with the input is looked for, the newest."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A flow beside a run of it."""

    row: RunRow | None
    reuse: Reusable | None
    stale: Mapping[str, tuple[str, ...]]
    known: frozenset[str]
    changes: tuple[str, ...]
    input_changed: tuple[str, ...]
    notes: tuple[str, ...]


async def plan(
    app: App, graph: Graph, input: Mapping[str, Any] | None = None, *, against: str | UUID | None = None
) -> Plan:
    """What a run of a flow would do, relative to the last run of it with that input (or to the run ``against``).

    Without ``input`` (None) with the input of that run. Nothing is executed, and nothing is written. A plan says of
    each node whether its results are reused, why it runs again or that it is new, and what that may take and cost.
    Raises `StateError` for an input that does not fit, `RunNotFound`.
    """
    it = await _compared(app, graph, input, against)
    described = describe(graph)
    failed = (await app.view(it.row.id)).failed_path if it.row is not None and it.row.status is Status.FAILED else ""
    row = it.row
    return planned(
        graph.name, graph.fingerprint, described.spec, it.reuse, history=await _history(app, graph.name),
        stale=it.stale, known=it.known, failed=failed or "", changes=it.changes, input_changed=it.input_changed,
        against=None if row is None else (row.id, row.version, row.status, row.created_at), notes=it.notes,
    )  # fmt: skip


async def reuse(
    app: App, graph: Graph, input: Mapping[str, Any] | None = None, *, against: str | UUID | None = None
) -> Run:
    """Start a run that makes again what a plan says will run again, and reuses the rest.

    It is a fork of the run that the plan is relative to. If nothing is to be made again, the answer is that run itself.
    Raises `NothingToReuse` where there is no such run, or where its results cannot be read with this code.
    """
    it = await _compared(app, graph, input, against)
    if it.row is None:
        raise NothingToReuse(f"flow {graph.name!r} has not run yet, so there is nothing to reuse: start it")
    if it.input_changed:
        names = ", ".join(map(repr, it.input_changed))
        raise NothingToReuse(
            f"no run of flow {graph.name!r} was given this input; that of run {it.row.id} differs in {names}, and what "
            f"is reused was made from it. Start a new run"
        )
    if it.reuse is None:
        raise NothingToReuse(
            f"nothing of run {it.row.id} can be reused: {'; '.join(it.notes) or '; '.join(it.changes)}. Start a new run"
        )
    if not it.reuse.standing:
        return Run(app, it.row.id)
    kept, at = it.reuse, it.reuse.standing[0]
    definition = await app._define(graph)
    first = to_entry(RunForked(at, kept.edits, it.row.id, it.changes))
    new = NewFork(new_id(), it.row.id, kept.seq, kept.without, definition.fingerprint, definition.version, first)
    row = await app.store.fork(new)
    await app.engine.resume(row.id)
    return Run(app, row.id)


async def _compared(app: App, graph: Graph, input: Mapping[str, Any] | None, against: str | UUID | None) -> Compared:
    given = None if input is None else graph.accept(dict(input))
    row, changed = await _chosen(app, graph, input, given, against)
    if row is None:
        return Compared(None, None, {}, frozenset(), (), (), ())
    old, new = await app.definition(row), describe(graph)
    same = row.fingerprint == graph.fingerprint
    known = frozenset(str(n["name"]) for n in old.spec.get("nodes") or ())
    stale = {} if same else stale_nodes(old, new)
    different = () if same else changes(old, new) or ("its code is another one",)
    if changed:
        return Compared(row, None, stale, known, different, changed, ())
    notes = _blind(stale, unseen(new))
    before = None
    if not same and not (same_topology(old.spec, new.spec) and old.spec.get("state") == new.spec.get("state")
                         and not _schema_changed(old, new)):  # fmt: skip
        try:
            was = await code_of(app, row)
        except CodeMissing:
            note = "its steps lead elsewhere now, and the code of that run is not here to tell what they were given"
            return Compared(row, None, stale, known, different, (), (note,))
        before = was, begin(was, row.id, await whole_input(app.store, row))
    beginning = begin(graph, row.id, await whole_input(app.store, row))
    found = reusable(graph, beginning, await app.store.history(row.id), stale, before)
    return Compared(row, found, stale, known, different, (), notes)


def _schema_changed(old: Any, new: Any) -> bool:
    """True if the class of the state is another one, or what its reducers call."""
    names = [(d.spec.get("state") or {}).get("class") for d in (old, new)]
    if None in names:
        return names[0] != names[1]
    nodes: list[dict[str, Any]] = [{"nodes": [{"name": "state", "step": name, "ways": []}]} for name in names]
    return bool(stale_nodes(_Part(nodes[0], old.sources), _Part(nodes[1], new.sources)))


@dataclass(frozen=True, slots=True)
class _Part:
    spec: Mapping[str, Any]
    sources: Mapping[str, Any]


def _blind(stale: Mapping[str, tuple[str, ...]], reads: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(
        f"`{node}` reads {', '.join(f'`{n}`' for n in names)}, which belongs to no definition: a plan cannot tell "
        f"whether it changed"
        for node, names in reads.items()
        if node not in stale
    )


async def _chosen(
    app: App, graph: Graph, input: Mapping[str, Any] | None, given: Mapping[str, Any] | None,
    against: str | UUID | None,
) -> tuple[RunRow | None, tuple[str, ...]]:  # fmt: skip
    """The run to compare with, and which inputs it was given otherwise."""
    if against is not None and against != "last":
        row = app._ours(await (app.store.run(against) if isinstance(against, UUID) else app.store.find(against)))
        if row.flow != graph.name:
            raise RunNotFound(f"run {row.id} is one of flow {row.flow!r}, not of {graph.name!r}")
        return row, await _differ(app, graph, row, input, given)
    newest = [
        row for row in await app.store.runs(RunQuery(app.options.namespace, graph.name, limit=LOOKED))
        if row.status.over
    ]  # fmt: skip
    if not newest:
        return None, ()
    if given is None:
        return newest[0], ()
    for row in newest:
        if not await _differ(app, graph, row, input, given):
            return row, ()
    return newest[0], await _differ(app, graph, newest[0], input, given)


async def _differ(
    app: App, graph: Graph, row: RunRow, input: Mapping[str, Any] | None,
    given: Mapping[str, Any] | None,
) -> tuple[str, ...]:  # fmt: skip
    """Names of inputs that a run was given otherwise; defaults that differ each time are nobody's choice."""
    if given is None:
        return ()
    had = await whole_input(app.store, row)
    again = graph.accept(dict(input or {}))
    volatile = {n for n in given if encode(given[n]) != encode(again[n])}  # a date, an id: nobody chose it
    names = [*given, *(name for name in had if name not in given)]
    return tuple(
        n for n in names
        if (n in had) is not (n in given) or (n not in volatile and encode(had[n]) != encode(given[n]))
    )  # fmt: skip


async def _history(app: App, flow: str) -> list[Spent]:
    query = RunQuery(app.options.namespace, flow, Status.COMPLETED, limit=HISTORY, inputs=False)
    return [spent(await _first_rows(app, row.id)) for row in await app.store.runs(query)]


async def _first_rows(app: App, run_id: UUID) -> list[Entry]:
    found: list[Entry] = []
    async for page in app.store.pages(run_id):
        found += page
        if len(found) >= ROWS:
            break
    return found
