"""Flows: a notebook as a graph, one node per cell that is executed.

Owns: `flow_of`, and the body of its steps. Refuses: executing (`sessions.py`); the body asks for it.

The graph says how many cells there are and nothing of what they do: the sources are in the input of a run. So a process
needs no more than this package to carry any notebook's run on.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from flowbook.graph.flow import Graph, graph
from flowbook.graph.step import step
from flowbook.notebooks.cells import node_of
from flowbook.notebooks.sessions import perform
from flowbook.run.context import Context

RESULTS = "results"
"""The state key that holds what a notebook glued, and what of it was asked for by name."""


async def cell(ctx: Context) -> Any:
    """Execute one cell of a notebook."""
    return await perform(ctx)


def flow_of(name: str, cells: int) -> Graph:
    """The flow of a notebook with so many steps (one at least)."""
    nodes: list[Any] = [step(name=node_of(number))(cell) for number in range(1, cells + 1)]
    topology: Any = reduce(lambda before, node: before >> node, nodes)
    return graph(name, topology, outputs=[RESULTS])
