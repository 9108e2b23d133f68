"""Victims that carry an agent: twelve turns of two tools each, one of them with leave, every answer streamed.

A request names the database, the model's server, the run's key (which is the model's name as well, so that the server
can tell who asks), the file of marks and ``kill_at``. Told are the points of the wire, and behind ``=`` what the agent
has come to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import openai  # noqa: F401  the zygote pays for it, and not each of its victims

import flowbook as fb
import flowbook.connecting
from flowbook.errors import AlreadyAnswered, RunOver
from flowbook.store import driver
from tests.crash.zygotes import Tell, killing, serve

TURNS = 12
ASKED = {"turn": 5, "side": "b"}
"""The call that waits for leave."""
MARKS = "FLOWBOOK_CRASH_MARKS"


@fb.step
async def note(turn: int, side: str) -> str:
    """Write it down, outside of the database."""
    fd = os.open(os.environ[MARKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, f"{turn}{side}\n".encode())
    finally:
        os.close(fd)
    return f"noted {turn}{side}; {'and what else there was to say of it ' * 4}"


def clerk(address: str, key: str) -> Any:
    """The agent; it asks the model that is called like its run."""
    return fb.agent(
        "clerk", "You take notes.", model=fb.Model(key, base_url=address), tools=[note],
        approve=lambda name, arguments: arguments == {"turn": 5, "side": "b"}, max_turns=TURNS + 1,
    )  # fmt: skip


async def carry(request: dict[str, Any]) -> Any:
    """Start the run under its key or re-attach to it, say yes when it asks, and answer with all that was said."""
    async with fb.connect(request["url"]) as app:
        run = await app.start(clerk(request["model"], request["key"]), question="Take notes.", key=request["key"])
        async for event in run.stream():
            if isinstance(event, fb.events.WaitBegan) and not request.get("silent"):
                with contextlib.suppress(AlreadyAnswered, RunOver):  # by the process that was killed
                    await run.approve(event.path)
        return [await run.result(timeout=60), (await run.state())["messages"]]


def victim(request: dict[str, Any], tell: Tell) -> None:
    """One run, to its end or to the chosen point."""
    os.environ[MARKS] = request["marks"]
    Path(request["marks"]).touch()
    driver.set_tap(killing(lambda point, number, _: f"{point}:{number}" == request["kill_at"], tell))
    tell("=" + json.dumps(asyncio.run(carry(request))))


if __name__ == "__main__":
    serve(victim)
