"""Victims: processes that carry one run and kill themselves at one chosen point of the wire.

A zygote imports everything once and forks a victim per request (a line of JSON on standard input), because an
interpreter's start would cost more than the run. It answers with a line of JSON: how the victim ended, and every
point of the wire that it passed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import flowbook as fb
from flowbook.errors import RunOver, StepFailed
from flowbook.run import children, runner
from flowbook.store import driver

sys.path.insert(0, str(Path(__file__).resolve().parent))
from flows import DOOMED, FLOWS, FORKS, MARKS, PACE, SIGNALS


async def carry(request: dict[str, Any]) -> Any:
    """Start the run under its key, or re-attach to it, and wait for its end."""
    async with fb.connect(
        request["url"], lease=request.get("lease", 60.0), always_suspend=request.get("suspend", False)
    ) as app:
        run = await app.start(FLOWS[request["flow"]], key=request["key"])
        if request["flow"] in SIGNALS:
            # Not before it is parked (or over), so that parking and waking are on the wire.
            while app.engine.carries(run.id):
                await asyncio.sleep(0.01)
            with contextlib.suppress(RunOver):
                await app.signal(run.id, SIGNALS[request["flow"]])
        if request["flow"] in DOOMED:
            with contextlib.suppress(ValueError, StepFailed):
                await run.result(timeout=30)
            view = await run.view()
            return {"trail": [view.failed_path, *view.undone]}
        result = await run.result(timeout=30)
        if request["flow"] not in FORKS:
            return result
        made = [row for row in await app.runs(flow=request["flow"], limit=1000) if row.forked_from == run.id]
        at, _ = FORKS[request["flow"]]
        fork = await (app.resume(made[0].id) if made else app.fork(run.id, at=at))
        return await fork.result(timeout=30)


def victim(request: dict[str, Any], out: int) -> None:
    """Be the victim: never returns."""
    os.environ.update({MARKS: request["marks"], PACE: str(request.get("pace", 0))})
    passed: Counter[str] = Counter()
    lock = threading.Lock()

    def tap(name: str, phase: driver.Phase) -> None:
        with lock:
            point = f"{name}:{phase}"
            passed[point] += 1
            os.write(out, f"{point}\n".encode())
            if f"{point}:{passed[point]}" == request["kill_at"]:
                os.kill(os.getpid(), signal.SIGKILL)

    driver.set_tap(tap)
    try:
        result = asyncio.run(carry(request))
        os.write(out, ("=" + json.dumps(result["trail"]) + "\n").encode())
        os._exit(0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        os._exit(1)


runner.LINGER = 0.1  # seconds: a short sleep parks as a long one would
children.LINGER = 0.0  # a parent parks at once, so that its wake is on the wire


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
            told = pipe.read().splitlines()
        _, status = os.waitpid(pid, 0)
        points = [t for t in told if not t.startswith("=")]
        results = [json.loads(t[1:]) for t in told if t.startswith("=")]
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        answer = {"killed": killed, "exit": os.waitstatus_to_exitcode(status), "points": points, "results": results}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
