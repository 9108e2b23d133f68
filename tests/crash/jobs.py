"""What the workers of these tests carry. Every body leaves marks outside the database, with the process and the time.

Imported by the workers (`workers.py`) and by the tests, so that both have the same code and so the same fingerprints.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import flowbook as fb

MARKS = "FLOWBOOK_CRASH_MARKS"
"""Environment variable with the file that bodies append to; `fleet.Mark` reads it."""


def mark(ctx: fb.Context, what: str = "begin") -> None:
    """Leave a mark that survives any kill: one short append, which the kernel makes whole."""
    fd = os.open(os.environ[MARKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, f"{ctx.run_id} {ctx.path} {ctx.attempt} {os.getpid()} {time.monotonic_ns()} {what}\n".encode())
    finally:
        os.close(fd)


def first_time(ctx: fb.Context) -> bool:
    """True for the first execution of a path, whichever process it is in."""
    try:
        Path(f"{os.environ[MARKS]}.{ctx.run_id}.{ctx.path}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def kill_myself() -> None:
    """What a step does that runs out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@fb.step
async def first(ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    return {"trail": ["first"]}


@fb.step
async def hold(trail: list[str], hold: float, ctx: fb.Context) -> dict[str, Any]:
    held = first_time(ctx)
    mark(ctx)
    if held:
        await asyncio.sleep(hold)
    mark(ctx, "end")
    return {"trail": [*trail, f"hold by {os.getpid()}"]}


@fb.step
async def last(trail: list[str], ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    return {"trail": [*trail, "last"]}


@fb.step
async def tick(n: int, pause: float, ctx: fb.Context) -> dict[str, int]:
    mark(ctx)
    await asyncio.sleep(pause)
    mark(ctx, "end")
    return {"n": n + 1}


@fb.step
def work(pause: float, ctx: fb.Context) -> int:
    mark(ctx)
    time.sleep(pause)
    mark(ctx, "end")
    return 1


@fb.step
def die(ctx: fb.Context) -> None:
    mark(ctx)
    kill_myself()


@fb.step(retries=2)
def die_retried(ctx: fb.Context) -> None:
    mark(ctx)
    kill_myself()


@fb.step
async def die_later(ctx: fb.Context) -> None:
    mark(ctx)
    await asyncio.sleep(0.25)
    kill_myself()


@fb.step
async def meet(ctx: fb.Context) -> None:
    mark(ctx)


@fb.step
async def once(of: str, ctx: fb.Context) -> dict[str, str]:
    mark(ctx)
    return {"was": of}


def ticks(n: int) -> Any:
    """A chain of so many ticks."""
    chain: Any = tick.as_("tick01")
    for number in range(2, n + 1):
        chain = chain >> tick.as_(f"tick{number:02}")
    return chain


def works(n: int) -> Any:
    """A chain of so many works."""
    chain: Any = work.as_("work01")
    for number in range(2, n + 1):
        chain = chain >> work.as_(f"work{number:02}")
    return chain


FLOWS: dict[str, fb.Graph] = {
    "held": fb.graph("held", first >> hold >> last),
    "single": fb.graph("single", once),
    "ticks3": fb.graph("ticks3", ticks(3)),
    "ticks20": fb.graph("ticks20", ticks(20)),
    "works": fb.graph("works", works(6)),
    "poison": fb.graph("poison", first >> die >> last),
    "poison_retried": fb.graph("poison_retried", first >> die_retried >> last),
    "poison_slow": fb.graph("poison_slow", first >> die_later >> last),
    "poison_beside": fb.graph("poison_beside", first >> [die_later, works(12)] >> meet),
}
