"""Victims: processes that carry one run and kill themselves at one chosen point of the wire.

A request names the flow, the key of the run and ``kill_at``. Told is every point of the wire that a victim passed, and
behind ``=`` the trail of the run that it has brought to its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import flowbook as fb
from flowbook.errors import AlreadyAnswered, NothingToDecide, RunCancelled, RunOver, StepFailed
from flowbook.run import children, runner
from flowbook.store import driver
from tests.crash.flows import KILLED, MARKS, PACE, SAID, Killed
from tests.crash.zygotes import Tell, killing, serve


async def carry(request: dict[str, Any]) -> list[str]:
    """Start the run under its key, or re-attach to it, wait for its end, and answer with its trail."""
    it = KILLED[request["flow"]]
    async with fb.connect(
        request["url"], lease=request.get("lease", 60.0), always_suspend=request.get("suspend", False)
    ) as app:
        run = await app.start(it.graph, key=request["key"])
        if it.signal or it.decided:
            # Not before it is parked (or over), so that parking and waking are on the wire.
            while app.engine.carries(run.id):
                await asyncio.sleep(0.01)
            # A process before this one may have been killed after it had said so.
            with contextlib.suppress(RunOver, AlreadyAnswered, NothingToDecide):
                if it.decided:
                    await app.answer(run.id, "gate#1", it.decided, by="ana")
                else:
                    await app.signal(run.id, it.signal)
        if it.cancelled_at:
            while it.cancelled_at not in Path(request["marks"]).read_text().split() and not (await run.status()).over:
                await asyncio.sleep(0.01)
            await run.cancel()
        if it.status != "completed":
            with contextlib.suppress(ValueError, StepFailed, RunCancelled):
                await run.result(timeout=30)
            view = await run.view()
            return [*filter(None, [view.failed_path]), *view.undone]
        result = await run.result(timeout=30)
        if it.streams:
            await check_text(run, it)
        if it.fork is not None:
            made = [row for row in await app.runs(flow=request["flow"], limit=1000) if row.forked_from == run.id]
            fork = await (app.resume(made[0].id) if made else app.fork(run.id, at=it.fork[0]))
            result = await fork.result(timeout=30)
        return list(result["trail"])


async def check_text(run: fb.Run, it: Killed) -> None:
    """A reader has the whole text, or nothing if it was thrown away; no piece of it twice."""
    text = ""
    async for event in run.stream():
        if isinstance(event, fb.events.Streamed):
            assert event.path == it.streams
            text = event.text if event.begins else text + event.text
    assert text in ("", "".join(f"{word} " for word in SAID.split(" "))), text


def victim(request: dict[str, Any], tell: Tell) -> None:
    """One run, to its end or to the chosen point."""
    os.environ.update({MARKS: request["marks"], PACE: str(request.get("pace", 0))})
    Path(request["marks"]).touch()
    driver.set_tap(killing(lambda point, number, _: f"{point}:{number}" == request["kill_at"], tell))
    tell("=" + json.dumps(asyncio.run(carry(request))))


runner.LINGER = 0.1  # seconds: a short sleep parks as a long one would
children.LINGER = 0.0  # a parent parks at once, so that its wake is on the wire


if __name__ == "__main__":
    serve(victim)
