"""Preparing: the verbs of an app that come before a run, each loaded when it is first used.

Owns: `plan` and `reuse` as `App` has them. Refuses: what they do (`planning.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.graph.flow import Graph

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.handle import Run
    from flowbook.observe.planned import Plan

Input = Mapping[str, Any]


async def plan(app: App, graph: Graph, input: Input | None = None, *, against: str | UUID | None = None) -> Plan:
    """What a run would do: which results it would reuse, and why the rest is made again (`planning.plan`)."""
    from flowbook import planning  # 15 ms: only who plans pays for it

    return await planning.plan(app, graph, input, against=against)


async def reuse(app: App, graph: Graph, input: Input | None = None, *, against: str | UUID | None = None) -> Run:
    """Start a run that does no more than its plan says (`planning.reuse`)."""
    from flowbook import planning

    return await planning.reuse(app, graph, input, against=against)
