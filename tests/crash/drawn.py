"""Victims that carry topologies drawn at random.

A request has ``url, block, key, kill_at, suspend``. Told is, where it is not killed, the state at the end and the paths
that finished. A block (`tests/unit/plan/topologies.py`) is plain data, so that every process builds the same graph from
it. ``kill_at`` counts the points of the wire that a victim passes; 0: it is not killed.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import flowbook as fb
from flowbook.plan.journal import OUTCOMES
from flowbook.store import driver
from tests.crash.zygotes import Tell, killing, serve
from tests.unit.plan.topologies import flow


def block_of(data: Any) -> Any:
    """JSON knows no tuples."""
    return tuple(block_of(x) for x in data) if isinstance(data, list) else data


async def carry(request: dict[str, Any]) -> dict[str, Any]:
    """Start the run under its key, or re-attach to it, and wait for its end."""
    async with fb.connect(request["url"], lease=60.0, always_suspend=request["suspend"]) as app:
        run = await app.start(flow(block_of(request["block"])), key=request["key"])
        values = await run.result(timeout=60)
        rows = await app.store.history(run.id)
        return {"values": values, "paths": sorted(e.path for e in rows if e.kind in OUTCOMES)}


def victim(request: dict[str, Any], tell: Tell) -> None:
    """One run, to its end or to the chosen point."""
    driver.set_tap(killing(lambda _point, _number, passed: passed == request["kill_at"]))
    tell(json.dumps(asyncio.run(carry(request))))


if __name__ == "__main__":
    serve(victim)
