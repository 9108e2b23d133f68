"""Workers: processes that carry whatever is due, until somebody kills them.

A zygote imports everything once and forks a worker per request, because an interpreter's start takes a second. It is
the parent of all workers, so it alone sends them signals: a pid is theirs until it has reaped them. One line of JSON
in, one line out:

    {"spawn": {...}}            -> {"pid": 1}            see `worker`
    {"signal": 9, "pid": 1}     -> {"at": 123}           monotonic nanoseconds, just before it was sent; 0: it had ended
    {"dead": true}              -> {"dead": [1, 2]}      those that have ended since this was asked last
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import flowbook as fb
from flowbook.run.ending import Ending
from flowbook.run.runner import Runner
from flowbook.store import driver
from tests.crash.jobs import FLOWS, MARKS


async def carry(request: dict[str, Any]) -> None:
    """Register the flows, say so, and work."""
    connection = fb.connect(
        request["url"], home=Path(request["home"]), lease=request["lease"], always_suspend=request["suspend"]
    )
    async with connection as app:
        for name in request["flows"]:
            await app.register(FLOWS[name])
        with Path(request["ready"]).open("a") as ready:
            ready.write(f"{os.getpid()}\n")
        await app.work(concurrency=request["concurrency"])


def worker(request: dict[str, Any]) -> None:
    """Be a worker: never returns. ``kill_at``: where on the wire it kills itself, ``name:phase:number``."""
    os.environ[MARKS] = request["marks"]
    logging.basicConfig(filename=request["log"], level=logging.INFO, format=f"%(asctime)s {os.getpid()} %(message)s")
    passed: Counter[str] = Counter()

    def tap(name: str, phase: driver.Phase) -> None:
        point = f"{name}:{phase}"
        passed[point] += 1
        if f"{point}:{passed[point]}" == request["kill_at"]:
            os.kill(os.getpid(), 9)

    if request["kill_at"]:
        driver.set_tap(tap)

    drive = Runner.drive

    async def told(self: Runner) -> Ending:
        ending = await drive(self)
        logging.getLogger("test").info("let go of %s: %s", self.row.id, ending)
        return ending

    Runner.drive = told  # type: ignore[method-assign]
    try:
        asyncio.run(carry(request))
    except BaseException:
        logging.getLogger("test").error("%s", traceback.format_exc())
    os._exit(1)


def main() -> None:
    children: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if "spawn" in request:
            pid = os.fork()
            if pid == 0:
                os.close(0)
                os.close(1)
                worker(request["spawn"])
            children.add(pid)
            answer["pid"] = pid
        elif "signal" in request:
            answer["at"] = 0
            if request["pid"] in children:
                answer["at"] = time.monotonic_ns()
                os.kill(request["pid"], request["signal"])
        else:
            dead = [pid for pid in children if os.waitpid(pid, os.WNOHANG)[0]]
            children.difference_update(dead)
            answer["dead"] = dead
        print(json.dumps(answer), flush=True)
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
