"""Fixing: a run goes on with other code from the step that failed it.

Owns: `enter` (what a step was given, and its source), `refitted` (a flow with some of its steps replaced) and `proceed`
(a failed run is given new code and is retried). Refuses: cells (`jupyter/`), and other topologies: a journal can only
be read by a flow with the same places in it.
"""

from __future__ import annotations

import ast
import textwrap
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.errors import CodeMissing, PointUnknown, UsageError
from flowbook.graph.changes import changed_nodes
from flowbook.graph.flow import Graph
from flowbook.graph.source import describe
from flowbook.graph.step import Step
from flowbook.plan.events import CodeChanged
from flowbook.plan.journal import to_entry
from flowbook.plan.moments import moment
from flowbook.plan.paths import node_of
from flowbook.plan.records import Status
from flowbook.plan.traces import given
from flowbook.run.results import all_shown
from flowbook.travel import code_of, history, other_code

if TYPE_CHECKING:
    from flowbook.app import App


@dataclass(frozen=True, slots=True)
class Entered:
    """A step as somebody wants to have it before him."""

    path: str
    node: str
    inputs: Mapping[str, Any]
    """Parameter -> what it was given; the context and resources are left out."""
    source: str
    """The text of its function, without ``@step``; empty: it has none."""
    function: str
    """The name that the function has in that text."""


async def enter(app: App, run_id: UUID, path: str | None = None) -> Entered:
    """What the step at a path was given, and its source; default: the step that failed the run.

    Raises `PointUnknown` for a path that the run never came to, `UsageError` where there is no step.
    """
    row = app._ours(await app.store.run(run_id))
    graph = await code_of(app, row)
    beginning, entries = await history(app, row, graph)
    if path is None:
        path = (await app.view(run_id)).failed_path
    if not path:
        raise UsageError(f"run {run_id} is {row.status}: name the step to enter, e.g. fit#2")
    seen = moment(graph, beginning, entries, path)
    node = node_of(path)
    inputs = given(graph, node, seen.before)
    if inputs is None:
        raise PointUnknown(f"{path} is no step with a function: there is nothing in it to be fixed")
    source, name = _source(await app.definition(row), node)
    return Entered(path, node, all_shown(inputs, app.options.key, app.store.outcomes_now), source, name or node)


def refitted(graph: Graph, steps: Mapping[str, Any]) -> Graph:
    """A flow with the functions of some nodes replaced, by a step or by a plain function; policies are kept, unless a
    step brings its own. The same flow if nothing is another one.
    """
    nodes = dict(graph.nodes)
    for name, thing in steps.items():
        old = nodes[name].step
        if not isinstance(old, Step):
            continue
        if isinstance(thing, Step) and thing.fn is not old.fn:
            nodes[name] = replace(nodes[name], step=thing.like(name=name, guard=thing.guard or old.guard))
        elif isinstance(thing, types.FunctionType) and thing is not old.fn:
            nodes[name] = replace(nodes[name], step=old.like(fn=thing))
    return replace(graph, nodes=nodes) if any(nodes[n] is not graph.nodes[n] for n in nodes) else graph


async def proceed(app: App, run_id: UUID, graph: Graph) -> tuple[str, ...]:
    """Carry a failed run on from the step that failed it with another version of its flow; what is different in it.

    Everything that has finished is kept. The journal gets a row that says what was changed. Raises `UsageError` if the
    run has not failed or the code is the same, `CodeMissing` if its topology is another one.
    """
    row = app._ours(await app.store.run(run_id))
    if row.status is not Status.FAILED:
        raise UsageError(
            f"run {run_id} is {row.status}, and only a failed run goes on with other code: fork it instead"
        )
    if graph.fingerprint == row.fingerprint:
        raise UsageError(
            f"the code of run {run_id} is what it was when it failed: fix the step and run its cell, or `%flow retry` "
            f"to try once more as it is"
        )
    different, same = await other_code(app, row, graph)
    if not same:
        raise CodeMissing(
            f"run {run_id} cannot go on with this version of flow {row.flow!r}, whose steps lead elsewhere: "
            f"{'; '.join(different)}. Keep the topology, or start a new run"
        )
    definition = await app._define(graph)
    nodes = tuple(sorted(changed_nodes(await app.definition(row), describe(graph))))
    entry = to_entry(CodeChanged(definition.fingerprint, definition.version, nodes, different))
    if not await app.store.change_code(run_id, row.fingerprint, definition.fingerprint, definition.version, entry):
        raise UsageError(
            f"run {run_id} is not as it was a moment ago: somebody has retried or changed it. Look at it again"
        )
    await app.retry(run_id)
    return different


def _source(definition: Any, node: str) -> tuple[str, str]:
    """The text of a node's function without its ``@step``, and the name that it has there."""
    spec: Mapping[str, Any] = next((n for n in definition.spec.get("nodes") or () if n["name"] == node), {})
    entry = (definition.sources.get("callables") or {}).get(spec.get("step"), {})
    text = textwrap.dedent(entry.get("text") or "")
    if entry.get("kind") == "lambda":
        return f"{node} = {text}\n", node
    try:
        tree = ast.parse(text).body[0]
    except (SyntaxError, IndexError):
        return "", ""
    if not isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        return "", ""
    kept = tree.decorator_list[len(tree.decorator_list) - entry.get("decorators", 0) :]
    first = min((d.lineno for d in kept), default=tree.lineno)
    return "\n".join(text.splitlines()[first - 1 :]) + "\n", tree.name
