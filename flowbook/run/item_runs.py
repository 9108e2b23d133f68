"""Item runs: the items of a map that are runs of their own, because a flow is mapped.

Owns: `cared_for`, which begins the child of an item, has it retried, and makes its end the item's outcome. Refuses:
which items are wanted (`plan/mapping.py`), the list and its results (`maps.py`), what holds a run and its children
together (`children.py`) and recording (`runner.py`).
"""

from __future__ import annotations

from flowbook.errors import StoreError
from flowbook.graph.flow import Graph
from flowbook.graph.mapping import Map
from flowbook.graph.subflow import Subflow
from flowbook.plan.commands import RunChild, StartStep
from flowbook.plan.events import ChildStarted, ItemFinished
from flowbook.plan.journal import to_entry
from flowbook.plan.records import Run
from flowbook.ports import RunRow
from flowbook.run.attempts import Outcome
from flowbook.run.children import Children
from flowbook.run.maps import Maps


async def cared_for(
    children: Children, maps: Maps, graph: Graph, command: RunChild, run: Run
) -> ChildStarted | Outcome | None:
    """What the child of an item wants now; None: nothing before there is news of it. Writes nothing to the journal."""
    path, child = command.path, run.children.get(command.path)
    if child is not None and not child.again and children.alive(path, run):
        return None
    step = StartStep(path, command.token, command.node, 1 if child is None else child.number)
    place = graph.nodes[command.node].step
    assert isinstance(place, Map)
    assert isinstance(place.step, Subflow)
    sub = place.step
    try:
        if child is None or child.again:
            given = place.given(await maps.item(path, command.node, run.tokens[command.token].view))
            if child is None:
                return await children.begin(path, sub.flow, given, queue=sub.queue)
            return await children.again(path, child, sub.flow, given, queue=sub.queue)
        end = await children.end(path, child)
        if end is None:
            return None
        if end.error is not None:
            raise end.error
        event = ItemFinished(path, child.number, end.result, _seconds(end.row))
        return Outcome(step, to_entry(event), event)
    except StoreError:
        raise  # not the item's fault
    except Exception as error:
        return Outcome(step, error=error)


def _seconds(row: RunRow) -> float:
    """How long a child took from when it was first carried, its waiting included."""
    return (row.ended_at - row.started_at).total_seconds() if row.ended_at and row.started_at else 0.0
