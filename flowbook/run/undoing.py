"""Undoing: compensations on their way.

Owns: what a compensation sees, one try at it, and whether a run may still be retried. Refuses: deciding which is next
(`plan/undoing.py`) and recording (`runner.py`).

A compensation sees the state as its step's own branch saw it right after the step: what a later step or another branch
has done is not there, whether or not it has been undone by then. That state is not kept anywhere: it is folded from the
journal when it is first asked for, so a run that ends well pays nothing for being able to end badly.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from flowbook.errors import DeclarationError, RunUndone
from flowbook.graph.flow import Graph
from flowbook.plan.apply import apply, begin
from flowbook.plan.commands import StartStep
from flowbook.plan.events import StepFinished, StepHandedOut
from flowbook.plan.journal import Entry, Kind, from_entry, to_entry
from flowbook.plan.paths import node_of
from flowbook.plan.quotes import filled
from flowbook.plan.records import Delta, View
from flowbook.plan.tokens import view_after
from flowbook.ports import RunRow, Store
from flowbook.run.attempts import Bench, Outcome, body
from flowbook.run.inputs import whole_input
from flowbook.run.loading import entries_of
from flowbook.run.loops import explained

RESULT_LIMIT = 100_000
"""Bytes of a compensation's result; a longer one is not kept."""


class Undoings:
    """What the compensations of one run see."""

    def __init__(self, store: Store, graph: Graph, row: RunRow) -> None:
        self._store, self._graph, self._row = store, graph, row
        self._views: dict[str, View] = {}

    async def view(self, path: str) -> View:
        """The state behind the finished step at ``path``, with the step's own result under its name."""
        if path not in self._views:
            self._views = await _views(self._store, self._graph, self._row)
        return self._views[path]


async def _views(store: Store, graph: Graph, row: RunRow) -> dict[str, View]:
    run = begin(graph, row.id, await whole_input(store, row), row.started_at)
    found: dict[str, View] = {}
    async for entry in entries_of(store, row.id):
        event = from_entry(entry)
        if entry.kind is Kind.UNDOING:
            break
        if isinstance(event, StepFinished) and not event.skipped:
            event = filled(event, lambda path: run.calls[path].result)  # noqa: B023  called at once
            token = next(t for t in run.tokens.values() if t.path == event.path)
            if token.at in graph.compensations:
                view = view_after(graph, token.view, Delta(token.at, event.result, event.update))
                found[event.path] = _with_own(view, token.at, event)
        run = apply(graph, run, event, entry.seq)
    return found


def _with_own(view: View, node: str, event: StepFinished) -> View:
    """The view in which the step's name means what this firing of it returned, and not what a reducer made of it."""
    own: Any = event.update.get(node, event.result)
    if node in view.values:
        return View({**view.values, node: own}, view.results)
    return View(view.values, {**view.results, node: own})


async def compensate(bench: Bench, command: StartStep, view: View) -> Outcome:
    """Try a compensation once. Raises nothing but `CancelledError`: every error of it is in the outcome."""
    step = bench.graph.compensations[command.node]
    try:
        began = time.perf_counter()
        returned = await body(bench, step, command, view)
        if type(returned) is StepHandedOut:
            raise DeclarationError(f"compensation {step.name!r} was handed out: only a step can wait for somebody else")
        return Outcome(command, _entry(command, returned, time.perf_counter() - began))
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return Outcome(command, error=explained(error, step.name))


def _entry(command: StartStep, returned: Any, seconds: float) -> Entry:
    """What it returned is kept for people, where it can be: its effect is done, so nothing about it may fail now."""
    try:
        entry = to_entry(StepFinished(command.path, command.attempt, returned, {}, None, seconds))
        if len(entry.payload) <= RESULT_LIMIT:
            return entry
    except Exception:  # noqa: S110 - a value of any class: it is not needed
        pass
    return to_entry(StepFinished(command.path, command.attempt, None, {}, None, seconds))


def has_compensations(spec: Mapping[str, Any]) -> bool:
    """True if some node of a flow is undone when its run fails."""
    return any("undo" in node for node in spec.get("nodes", ()))


async def must_undo(store: Store, row: RunRow) -> bool:
    """True if a run has done something that has to be undone before it may be ended; its code need not be known."""
    definition = await store.definition(row.namespace, row.flow, row.fingerprint)
    spec = definition.spec if definition else {}
    nodes = {node["name"] for node in spec.get("nodes", ()) if "undo" in node}
    if not nodes:
        return False
    async for entry in entries_of(store, row.id):
        own = entry.seq > 0  # what a fork has kept is not
        if own and entry.kind is Kind.FINISHED and node_of(entry.path) in nodes:
            return True
    return False


def check_retry(run_id: UUID, failed_path: str | None, undone: Sequence[str], not_undone: Collection[str]) -> None:
    """Raise `RunUndone` for a run that has nothing left to go on from; one with a failed compensation has that."""
    if undone and not not_undone:
        names = ", ".join(undone[:5]) + ("..." if len(undone) > 5 else "")
        raise RunUndone(
            f"run {run_id} failed at {failed_path or 'its time limit'}, and what it had done was undone ({names}), so "
            f"it cannot go on from there. Start it anew, or fork it where its first effect was: "
            f"run.fork(at={undone[-1]!r})"
        )
