"""Taken edges: which ways a run has gone.

Owns: reading them off a view. Refuses: drawing. The rules are those of forks and joins (docs/architecture.md): a step
that has finished goes out by one of its ways, which is a single edge, or all the edges of a fork; the edge from the bar
where branches meet is gone once, when all have arrived, so it counts when the node behind it has fired. A loser of a
race was begun, and so its edge was taken; it never finished, and so it took none.
"""

from __future__ import annotations

from flowbook.graph.names import START
from flowbook.observe.views import RunView
from flowbook.show.topology import Topology


def taken(view: RunView, topology: Topology) -> frozenset[int]:
    """The edges that ``view``'s run has gone, as indices into ``topology.ways``; of a loop, any of its rounds."""
    it = view.overview
    gone = {*it.gone, (START, 0)} if it.nodes else it.gone
    return frozenset(i for i, way in enumerate(topology.ways) if way.out in gone or (way.into and way.into in it.nodes))
