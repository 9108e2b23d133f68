"""Taken edges: which ways a run has gone.

Owns: reading them off a view. Refuses: drawing. The rules are those of forks and joins (docs/architecture.md): a step
that has finished goes out by one of its ways, which is a single edge, or all the edges of a fork; the edge from the bar
where branches meet is gone once, when all have arrived, so it counts when the node behind it has fired. A loser of a
race was begun, and so its edge was taken; it never finished, and so it took none.
"""

from __future__ import annotations

from flowbook.graph.names import START
from flowbook.observe.views import RunView, State
from flowbook.show.topology import Topology

_WENT_ON = (State.FINISHED, State.SKIPPED, State.UNDONE)
"""A step that was undone had finished before."""


def taken(view: RunView, topology: Topology) -> frozenset[int]:
    """The edges that ``view``'s run has gone, as indices into ``topology.ways``; of a loop, any of its rounds."""
    fired = {s.node for s in view.steps if "/" not in s.path}
    gone = {(s.node, s.route or 0) for s in view.steps if s.state in _WENT_ON and "/" not in s.path}
    if fired:
        gone.add((START, 0))
    return frozenset(i for i, way in enumerate(topology.ways) if way.out in gone or (way.into and way.into in fired))
