"""Victims that carry topologies drawn at random.

One line of JSON in, ``{url, block, key, kill_at, suspend}``, one line out: whether it was killed, and else the state
at the end and the paths that finished. A block (`tests/unit/plan/topologies.py`) is plain data, so that every process
builds the same graph from it. ``kill_at`` counts the points of the wire that a victim passes; 0: it is not killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import flowbook as fb
from flowbook.plan.journal import OUTCOMES
from flowbook.store import driver
from tests.unit.plan.topologies import flow


def block_of(data: Any) -> Any:
    """JSON knows no tuples."""
    return tuple(block_of(x) for x in data) if isinstance(data, list) else data


async def carry(request: dict[str, Any]) -> dict[str, Any]:
    """Start the run under its key, or re-attach to it, and wait for its end."""
    async with fb.connect(request["url"], lease=60.0, always_suspend=request["suspend"]) as app:
        run = await app.start(flow(block_of(request["block"])), key=request["key"])
        values = await run.result(timeout=60)
        _, rows = await app.store.history(run.id)
        return {"values": values, "paths": sorted(e.path for e in rows if e.kind in OUTCOMES)}


def victim(request: dict[str, Any], out: int) -> None:
    """Be the victim: never returns."""
    passed = 0
    lock = threading.Lock()

    def tap(name: str, phase: driver.Phase) -> None:
        nonlocal passed
        with lock:
            passed += 1
            if passed == request["kill_at"]:
                os.kill(os.getpid(), signal.SIGKILL)

    driver.set_tap(tap)
    try:
        os.write(out, json.dumps(asyncio.run(carry(request))).encode())
        os._exit(0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        os._exit(1)


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            victim(request, writer)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            told = pipe.read()
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(json.dumps({"killed": killed, "end": json.loads(told) if told else None}), flush=True)


if __name__ == "__main__":
    main()
