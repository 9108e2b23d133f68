"""Traces: what every step of a run was given, and what it made of it.

Owns: `trace`, one fold over a whole history. Refuses: comparing two of them (`observe/diffs.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowbook.graph.binding import slots
from flowbook.graph.flow import Graph
from flowbook.graph.step import Step
from flowbook.plan.apply import apply
from flowbook.plan.events import (
    AttemptFailed,
    ChildFinished,
    ItemFinished,
    MapFinished,
    RunForked,
    StepFinished,
    WaitFinished,
)
from flowbook.plan.journal import Entry
from flowbook.plan.paths import node_of
from flowbook.plan.quotes import Reader
from flowbook.plan.records import Failure, Run, View


@dataclass(frozen=True, slots=True)
class Firing:
    """One path and what came of it."""

    path: str
    node: str
    inputs: Mapping[str, Any] | None
    """Parameter of the step -> what it was given; None: the code is not known here, or it is no step."""
    finished: bool
    result: Any = None
    route: int | None = None
    """Which case of its branch was taken."""
    failure: Failure | None = None
    """Of its last attempt, as long as it has not finished."""
    kept: bool = False
    """True: it stands in the journal of a run before this one."""


@dataclass(frozen=True, slots=True)
class Trace:
    """All firings of a run that have finished or failed."""

    firings: Mapping[str, Firing]
    """In the order in which they became durable."""
    values: Mapping[str, Any] | None
    """The state at the end; None: the code is not known here."""


def trace(graph: Graph | None, beginning: Run | None, entries: Iterable[Entry]) -> Trace:
    """Trace a run; without its code (None, None) what was given and the state are left out."""
    found: dict[str, Firing] = {}
    run, reader = beginning, Reader()
    for entry in entries:
        event = reader.event(entry)
        match event:
            case StepFinished() | WaitFinished() | ChildFinished():
                inputs = None if graph is None or run is None else _inputs(graph, run, entry.path)
                path, kept = entry.path, entry.seq <= 0
                found.pop(path, None)
                found[path] = Firing(path, node_of(path), inputs, True, event.result, event.route, kept=kept)
            case ItemFinished(path, result=result):
                found.pop(path, None)
                found[path] = Firing(path, node_of(path), None, True, result)
            case MapFinished(path):
                # Its items are firings of their own; a reference to them names the run, which is no difference.
                result = event.total if event.values is None else event.values
                found[path] = Firing(path, node_of(path), None, True, result, event.route)
            case AttemptFailed(path, failure=failure):
                inputs = None if graph is None or run is None else _inputs(graph, run, path)
                found[path] = Firing(path, node_of(path), inputs, False, failure=failure)
            case RunForked() if entry.seq > 0:
                found = {p: replace(f, kept=True) for p, f in found.items()}
            case _:
                pass
        if graph is not None and run is not None:
            run = apply(graph, run, event, entry.seq)
    return Trace(found, None if run is None else run.view.values)


def given(graph: Graph, node: str, view: View) -> Mapping[str, Any] | None:
    """What the step at a node is given of a state: parameter -> value, the context and resources left out."""
    place = graph.nodes[node].step if node in graph.nodes else None
    if not isinstance(place, Step):
        return None
    found: dict[str, Any] = {}
    for parameter in slots(place).parameters:
        name = parameter[0]
        if name in view.values:
            found[name] = view.values[name]
        elif name == "state":
            found[name] = dict(view.values)
        elif name in view.results:
            found[name] = view.results[name]
    return found


def _inputs(graph: Graph, run: Run, path: str) -> Mapping[str, Any] | None:
    token = run.at(path)
    return None if token is None else given(graph, token.at, token.view)
