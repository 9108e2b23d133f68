"""Places: what can be a node of a graph.

Owns: the union `Place`, and what is asked of one whatever it is. Refuses: where it stands (`flow.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from flowbook.graph.binding import slots
from flowbook.graph.mapping import Map
from flowbook.graph.pause import Pause
from flowbook.graph.step import Step
from flowbook.graph.subflow import Subflow

if TYPE_CHECKING:
    from flowbook.graph.flow import Graph

Place = Step | Pause | Map | Subflow
"""What can be a node."""

KINDS: Mapping[type, str] = {Step: "steps", Pause: "pauses", Map: "maps", Subflow: "sub-flows"}
"""What several of them are called."""


def may_call(place: Place) -> bool:
    """May this node's body make durable calls (``ctx.step`` and its like)?"""
    step = place.step if isinstance(place, Map) else place
    return isinstance(step, Step) and step.is_async and slots(step).context


def flow_of(place: Place) -> Graph | None:
    """The flow that a node runs, once or for each item of a list; None: it runs no flow."""
    what = place.step if isinstance(place, Map) else place
    return what.flow if isinstance(what, Subflow) else None


def is_same(one: Place, other: Place) -> bool:
    """Are these the same node? Two pauses that look alike are not: each is waited at for itself."""
    if isinstance(one, Map) and isinstance(other, Map):
        return _is_same_work(one.step, other.step) and replace(one, step=other.step) == other
    parts = ("fn", "guard", "compensation", "wiring")
    alike = isinstance(one, Step) and isinstance(other, Step)
    return alike and all(getattr(one, part) is getattr(other, part) for part in parts)


def _is_same_work(one: Step | Subflow, other: Step | Subflow) -> bool:
    """Do two maps do the same with each item?"""
    if isinstance(one, Subflow):
        return isinstance(other, Subflow) and one.flow is other.flow and one.queue == other.queue
    return isinstance(other, Step) and one.fn is other.fn
