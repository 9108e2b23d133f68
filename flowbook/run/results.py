"""Results: what a run has come to, for whoever asks for it.

Owns: the result of a run that has ended, and its state at any time, in the shape that the schema declares. Refuses:
loading a run, and waiting for its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowbook.graph.flow import Graph
from flowbook.graph.imperative import Imperative
from flowbook.plan.records import Run
from flowbook.run.items import Read
from flowbook.run.values import shown


def result_of(graph: Graph, run: Run, key: bytes | None, read: Read) -> Any:
    """What a step that halted the run gave, or the body of an imperative flow; else the declared outputs, as a dict;
    else the state.

    An output that the run never came to is left out. ``key`` verifies pickles; raises `SignatureRefused`. ``read``
    reads the results of large maps when they are looked at.
    """
    if run.halted is not None and run.halted.given:
        return shown(run.halted.result, read, key)
    if isinstance(graph, Imperative):
        return shown(kept_result(graph, run), read, key)
    if graph.outputs is None:
        return state_of(graph, run, key, read)
    return {name: shown(value, read, key) for name, value in kept_result(graph, run).items()}


def kept_result(graph: Graph, run: Run) -> Any:
    """The same as the journal keeps it: placeholders are not opened, and a state is a dict."""
    if run.halted is not None and run.halted.given:
        return run.halted.result
    if isinstance(graph, Imperative):
        return run.view.results[graph.name]
    values = run.view.values
    names = values if graph.outputs is None else [name for name in graph.outputs if name in values]
    return {name: values[name] for name in names}


def state_of(graph: Graph, run: Run, key: bytes | None, read: Read) -> Any:
    """The state as the root token sees it: a dict, or an instance of the class that the flow declares."""
    return shaped(graph, run.view.values, key, read)


def shaped(graph: Graph, values: Mapping[str, Any], key: bytes | None, read: Read) -> Any:
    """Values of a state as people declared it."""
    values = all_shown(values, key, read)
    return values if graph.schema is None else graph.schema.build(values)


def all_shown(values: Mapping[str, Any], key: bytes | None, read: Read) -> dict[str, Any]:
    """Each of these values as callers get it."""
    return {name: shown(value, read, key) for name, value in values.items()}
