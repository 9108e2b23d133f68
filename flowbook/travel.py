"""Travel: a run as it was at one of its steps, and another run that begins there.

Owns: `fork`, `look`, `lineage`, `diff`, and finding the code that a run is folded with. Refuses: the rules of what a
fork keeps (`plan/forks.py`) and storing it.

Which code a fork runs. The parent's, if this process has it or can rebuild it from its signed source; unless it has
another version of the flow and not that one: then that one, if its topology is the same, and the fork's first row says
what is different. Whoever gives a graph gets that one, under the same condition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.agents.messages import is_conversation, with_results
from flowbook.codec import encode
from flowbook.errors import CodeMissing, NotPortable, PointUnknown, SignatureRefused, StateError
from flowbook.graph.changes import changed_nodes, changes, same_topology
from flowbook.graph.flow import Graph
from flowbook.graph.names import END
from flowbook.graph.rebuild import rebuild
from flowbook.graph.source import describe
from flowbook.ids import new_id
from flowbook.observe.diffs import Diff, Side, compare
from flowbook.plan.apply import begin, fold
from flowbook.plan.events import RunForked
from flowbook.plan.forks import cut, cut_at_end
from flowbook.plan.journal import Entry, to_entry
from flowbook.plan.moments import moment
from flowbook.plan.quotes import Reader
from flowbook.plan.records import Run as Record
from flowbook.plan.records import Token
from flowbook.plan.spliced import spliced
from flowbook.plan.traces import trace
from flowbook.ports import NewFork, RunRow
from flowbook.run.inputs import whole_input
from flowbook.run.results import all_shown, shaped
from flowbook.run.values import shown

if TYPE_CHECKING:
    from flowbook.app import App


@dataclass(frozen=True, slots=True)
class Moment:
    """A run at one of its steps, or at one of its journal's rows."""

    path: str
    """The step; empty: a row that concerns the run as a whole."""
    branch: str
    """Where it stood: ``fork#1[0]`` on a branch of a fork, empty outside of any."""
    seq: int
    """The row; 0 and below: it stands in the journal of a run that this one was forked from."""
    at: datetime | None
    """When it was written, by the database's clock."""
    before: Any
    """The state that the step saw, in the shape that its schema declares."""
    state: Any
    """The state after its outcome, as its branch sees it; what it saw where it has none."""
    finished: bool
    """True if the step has its outcome at this moment."""
    result: Any
    """What it returned; None if it has not finished."""
    route: int | None
    """Which case of its branch was taken."""


async def fork(
    app: App, run_id: UUID, at: str, edits: Mapping[str, Any], graph: Graph | None = None, *, carry: bool = True
) -> RunRow:
    """See `App.fork`."""
    parent = app._ours(await app.store.run(run_id))
    graph, different = await _code_for_fork(app, parent, graph)
    beginning, entries = await history(app, parent, graph)
    if at == END:
        made = cut_at_end(graph, beginning, entries)
        at = made.token.path
    else:
        made = cut(graph, beginning, entries, at)
    values = made.token.view.values
    if "results" in edits and is_conversation(values):
        edits = with_results(values, edits)
    checked = _checked(graph, made.token, f"the fork at {at}", edits)
    definition = app._registered.get(graph.fingerprint) or await app._define(graph)
    stored = {key: spliced(values.get(key), value) for key, value in checked.items()}
    first = to_entry(RunForked(at, {**made.edits, **stored}, parent.id, different))
    new = NewFork(new_id(), parent.id, made.seq, made.without, definition.fingerprint, definition.version, first)
    row = await app.store.fork(new)
    return await app.engine.resume(row.id) if carry else row


async def retry_edits(app: App, row: RunRow, edits: Mapping[str, Any]) -> Mapping[str, Any]:
    """Edits for the retry of a failed run, checked. Raises as `fork` does; `PointUnknown` where no step failed it."""
    graph = await code_of(app, row)
    run, entries = await history(app, row, graph)
    reader = Reader()
    run = fold(graph, run, ((e.seq, reader.event(e)) for e in entries))
    token = next((t for t in run.tokens.values() if t.path and t.path == run.failed_path), None)
    if token is None:
        raise PointUnknown(f"run {row.id} was failed at {run.failed_path!r}, and no state can be edited there: fork it")
    return _checked(graph, token, f"the retry at {token.path}", edits)


async def look(app: App, run_id: UUID, where: str | int) -> Moment:
    """A run as it was at a step, after its outcome, or at a row of its journal. Raises `PointUnknown`."""
    row = app._ours(await app.store.run(run_id))
    graph = await code_of(app, row)
    beginning, entries = await history(app, row, graph)
    it = moment(graph, beginning, entries, where)
    key, read = app.options.key, app.store.outcomes_now
    before, after = (shaped(graph, values, key, read) for values in (it.before.values, it.values))
    result = all_shown(it.result, key, read) if isinstance(it.result, dict) else shown(it.result, read, key)
    return Moment(it.path, it.token, it.seq, it.at, before, after, it.finished, result, it.route)


async def lineage(app: App, run_id: UUID) -> tuple[UUID, ...]:
    """A run, the one that it was forked from, and so on to the one that began by itself."""
    row = app._ours(await app.store.run(run_id))
    found = [row.id]
    while row.forked_from is not None:
        row = await app.store.run(row.forked_from)
        found.append(row.id)
    return tuple(found)


async def diff(app: App, a: UUID, b: UUID) -> Diff:
    """How two runs differ; where the code of one is not known, what their steps were given is left out."""
    one, other = await _side(app, a), await _side(app, b)
    old, new = await app.definition(one[0]), await app.definition(other[0])
    code = () if old.fingerprint == new.fingerprint else changes(old, new) or ("it is another one",)
    return compare(one[1], other[1], code, changed_nodes(old, new) if code else frozenset())


async def _side(app: App, run_id: UUID) -> tuple[RunRow, Side]:
    row, view = app._ours(await app.store.run(run_id)), await app.view(run_id)
    try:
        graph = await code_of(app, row)
    except CodeMissing:
        entries = await app.store.history(run_id)
        return row, Side(row.id, row.flow, row.version, row.status, trace(None, None, entries), view)
    beginning, rows = await history(app, row, graph)
    return row, Side(row.id, row.flow, row.version, row.status, trace(graph, beginning, rows), view)


async def history(app: App, row: RunRow, graph: Graph) -> tuple[Record, list[Entry]]:
    """A run before its first event, and all its rows."""
    entries = await app.store.history(row.id)
    return begin(graph, row.id, await whole_input(app.store, row)), list(entries)


async def code_of(app: App, row: RunRow) -> Graph:
    """The code that a run is pinned to: registered here, or rebuilt from its source if this user's key has signed it.

    Raises `CodeMissing`, saying why it cannot be rebuilt.
    """
    known = app.engine.graph(row.fingerprint) or app.rebuilt.get(row.fingerprint)
    if known is not None:
        return known
    try:
        app.rebuilt[row.fingerprint] = rebuild(await app.definition(row), key=app.options.key)
    except (NotPortable, SignatureRefused) as error:
        raise CodeMissing(
            f"the state of run {row.id} is folded by the code of flow {row.flow!r}, version {row.version}, which is "
            f"not registered here: run the cell or module that declares it. It cannot be rebuilt either: "
            f"{error.message}"
        ) from error
    return app.rebuilt[row.fingerprint]


async def _code_for_fork(app: App, parent: RunRow, given: Graph | None) -> tuple[Graph, tuple[str, ...]]:
    """The code that a fork runs, and what is different in it from its parent's."""
    graph = given or app.engine.graph(parent.fingerprint)
    if graph is None:
        graph = app.engine.newest(parent.flow)
    if graph is None:
        graph = await code_of(app, parent)
    if graph.fingerprint == parent.fingerprint:
        return graph, ()
    different, same = await other_code(app, parent, graph)
    if not same:
        raise CodeMissing(
            f"run {parent.id} began with version {parent.version} of flow {parent.flow!r}, and the one that is here "
            f"leads its steps elsewhere, so nothing could be kept: {'; '.join(different)}. Declare the flow again as "
            f"it was, or start a new run"
        )
    return graph, different


async def other_code(app: App, row: RunRow, graph: Graph) -> tuple[tuple[str, ...], bool]:
    """What is different in a flow from what a run is pinned to, and whether the run's journal can be read by it."""
    old, new = await app.definition(row), describe(graph)
    different = changes(old, new) or ("its code is another one",)
    return different, graph.name == row.flow and same_topology(old.spec, new.spec)


def _checked(graph: Graph, token: Token, what: str, edits: Mapping[str, Any]) -> Mapping[str, Any]:
    """Edits at a token as the schema wants them. Raises `StateError`, `Unencodable`."""
    if graph.schema is not None:
        edits = graph.schema.validate(what, edits, whole=True)
        summed = [key for key in edits if key in graph.schema.reducers]
        if summed and token.scope is not None:
            raise StateError(
                f"{', '.join(map(repr, summed))} cannot be edited at {token.path}, which stands on a branch: where its "
                f"fork joins, the key is put together by its reducer from what each branch adds, so the edit would be "
                f"lost, or what the others add. Fork at {token.scope}, or behind the join"
            )
    encode(dict(edits), at="edits")
    return edits
