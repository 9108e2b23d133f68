"""Preparing: the verbs of an app that come before a run, each loaded when it is first used.

Owns: `plan`, `reuse`, `prove` and `promote` as `App` has them. Refuses: what they do (`planning.py`, `proving.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.errors import NotProven
from flowbook.graph.flow import Graph
from flowbook.ports import KeptProof

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.handle import Run
    from flowbook.observe.planned import Plan
    from flowbook.observe.proofs import Proof

Input = Mapping[str, Any]


async def plan(app: App, graph: Graph, input: Input | None = None, *, against: str | UUID | None = None) -> Plan:
    """What a run would do: which results it would reuse, and why the rest is made again (`planning.plan`)."""
    from flowbook import planning  # 15 ms: only who plans pays for it

    return await planning.plan(app, graph, input, against=against)


async def reuse(app: App, graph: Graph, input: Input | None = None, *, against: str | UUID | None = None) -> Run:
    """Start a run that does no more than its plan says (`planning.reuse`)."""
    from flowbook import planning

    return await planning.reuse(app, graph, input, against=against)


async def prove(app: App, graph: Graph, input: Input | None = None, **options: Any) -> Proof:
    """Kill a flow at every step boundary and compare what comes of it (`proving.prove`)."""
    from flowbook import proving

    return await proving.prove(app, graph, input, **options)


async def promote(
    app: App, graph: Graph, *, unproven: bool = False, by: str = "", cron: str | None = None, **schedule: Any
) -> KeptProof:
    """Pin this version of a flow: it is the one that is started by its name from now on.

    ``cron``, ``every`` or ``at`` hand it to the workers as well: a schedule that stays with this version, with the
    options of `App.schedule`. Raises `NotProven` for a version of which no proof has passed, unless ``unproven``; what
    `App.schedule` raises, and then nothing is pinned.
    """
    definition = await app._define(graph)
    namespace, fingerprint = app.options.namespace, definition.fingerprint
    known = next((p for p in await app.store.proofs.of(namespace, graph.name) if p.fingerprint == fingerprint), None)
    if not unproven and (known is None or not known.passed):
        why = "it was never proven" if known is None or not known.report else "; ".join(known.report["why"])
        raise NotProven(
            f"flow {graph.name!r} is not promoted as version {definition.version} ({fingerprint[:8]}): {why}. Prove it "
            f"first (`%flow prove {graph.name}(...)`, `flowbook prove`), or say --unproven"
        )
    if cron is not None or schedule:
        await app.schedule(graph, cron, pin=True, **schedule)
    return await app.store.proofs.promote(namespace, graph.name, fingerprint, by)


async def pinned(app: App, flow: str) -> KeptProof | None:
    """The version of a flow that was promoted last; None: none was."""
    promoted = [p for p in await app.store.proofs.of(app.options.namespace, flow) if p.promoted_at is not None]
    return max(promoted, key=lambda p: p.promoted_at or p.at, default=None)
