"""Enrolling: starting a notebook's run, or going on with the one that has its key.

Owns: which run a call means, and what of earlier runs is taken over. Refuses: executing (`sessions.py`).

Under one *run key* there is one line of runs. The same notebook with the same parameters goes on with its run: a
failed one from the cell that failed it, one whose process is dead from its first unfinished cell, one that is
completed not at all. If a cell was edited meanwhile, a new run of the line takes over the cells before the edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from flowbook.app import App
from flowbook.graph.flow import Graph
from flowbook.handle import Run
from flowbook.ids import short
from flowbook.notebooks.desk import Desk
from flowbook.notebooks.documents import Prepared
from flowbook.notebooks.records import CellRecord, records_in
from flowbook.notebooks.sessions import release, serve
from flowbook.plan.query import RunQuery
from flowbook.plan.records import Status
from flowbook.ports import RunRow
from flowbook.run.inputs import input_of

MARK = "notebook"
"""The key in a run's metadata that says what notebook it is of."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A notebook's run, begun or gone on with."""

    run: Run
    graph: Graph
    created: bool
    """False: it was there."""
    done: Mapping[int, CellRecord] = field(default_factory=dict)
    """Its cells that had finished before."""
    kept: Mapping[str, CellRecord] = field(default_factory=dict)
    """Chain -> record of a cell that an earlier run of the line has finished."""
    results: Mapping[str, Any] = field(default_factory=dict)
    status: Status = Status.RUNNING
    """What it was before."""


def metadata_of(prepared: Prepared, key: str | None) -> dict[str, Any]:
    """What is kept with a notebook's run, and found by `Runs.metadata`."""
    said = {"path": prepared.path, "chain": prepared.chain, "cells": len(prepared.cells), "key": key}
    return {MARK: said, "parameters": prepared.stored()["parameters"]}


async def enrol(app: App, prepared: Prepared, key: str | None = None, desk: Desk | None = None) -> Enrolled:
    """Start a notebook, or go on with the run that has its key; carried on by this app.

    ``desk``: where its cells are executed; None: in a thread that is made for it. Raises `NotebookUnreadable`,
    `StoreUnavailable`.
    """
    graph = prepared.flow
    line = [] if key is None else await line_of(app, graph.name, key)
    for row in line:
        if row.metadata[MARK]["chain"] == prepared.chain and row.status is not Status.CANCELLED:
            return await go_on(app, row, prepared, desk)
    kept = await _finished_in(app, line)
    unique = key if not line else f"{key}~{len(line) + 1}"
    run = await app.start(graph, prepared.stored(), key=unique, metadata=metadata_of(prepared, key))
    if desk is not None:  # before the loop turns, so before its first step
        serve(run.id, desk)
    return Enrolled(run, graph, True, kept=kept)


async def go_on(app: App, row: RunRow, prepared: Prepared | None = None, desk: Desk | None = None) -> Enrolled:
    """Carry a notebook's run on here, from its first unfinished cell."""
    graph = await known(app, row)
    state = await app.state(row.id)
    if desk is not None and row.status is not Status.COMPLETED:
        serve(row.id, desk)
    try:
        if not row.status.over or row.status is Status.FAILED:
            await app.resume(row.id)
    except BaseException:
        if desk is not None:
            release(row.id, desk)
        raise
    results = dict(state.get("results") or {})
    return Enrolled(Run(app, row.id), graph, False, records_in(state), results=results, status=row.status)


async def known(app: App, row: RunRow) -> Graph:
    """The graph of a notebook's run, registered."""
    from flowbook.notebooks.flows import flow_of

    graph = flow_of(row.flow, int((row.metadata.get(MARK) or input_of(row))["cells"]))
    await app.register(graph)
    return graph


def is_notebook(row: RunRow) -> bool:
    """True for the run of a notebook; of a row without its input, for one that was not started by another run."""
    said = row.metadata.get(MARK)
    if isinstance(said, Mapping) and "chain" in said and "cells" in said:
        return True
    return row.parent_id is not None and bool(row.input) and {"document", "cells", "notebook"} <= input_of(row).keys()


async def line_of(app: App, flow: str, key: str) -> list[RunRow]:
    """The runs under a run key, newest first."""
    query = RunQuery(app.options.namespace, flow, metadata={MARK: {"key": key}}, limit=50, children=True, inputs=False)
    return [row for row in await app.store.runs(query) if is_notebook(row)]


async def _finished_in(app: App, line: list[RunRow]) -> dict[str, CellRecord]:
    kept: dict[str, CellRecord] = {}
    for row in line:  # the newest one that has a cell counts
        await known(app, row)
        for record in records_in(await app.state(row.id)).values():
            if not record.exited:
                kept.setdefault(record.chain, replace(record, kept_from=record.kept_from or short(row.id)))
    return kept


async def results_of(app: App, run_id: UUID) -> dict[str, Any]:
    """What a notebook has given: what it glued, and the variables that were asked for."""
    return dict((await app.state(run_id)).get("results") or {})
