"""The flows that are killed (`KILLED`), each with what is true of it however it was killed. Every body leaves a mark
outside the database.

Imported by the victims (`victims.py`) and by the tests.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

import flowbook as fb

MARKS = "FLOWBOOK_CRASH_MARKS"
"""Environment variable with the file that bodies append to: one line per execution, ``path``."""


PACE = "FLOWBOOK_CRASH_PACE"
"""Environment variable with the seconds that `second` takes, so that what goes by the clock comes about as well."""


EFFECTS_TABLE = "create table effects (run text, path text)"
EFFECT = text("insert into effects values (:run, :path)")


def mark(ctx: fb.Context, what: str = "") -> None:
    """Leave a mark that survives any kill: one short append, which the kernel makes whole. ``what`` tells runs of one
    flow apart.
    """
    fd = os.open(os.environ[MARKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, f"{ctx.path}{what}\n".encode())
    finally:
        os.close(fd)


@fb.step
async def first(ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    return {"trail": ["first"], "n": 0}


@fb.step
def second(trail: list[str], ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    time.sleep(float(os.environ.get(PACE, "0")))
    return {"trail": [*trail, "second"]}


@fb.step
async def third(trail: list[str], ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    return {"trail": [*trail, "third"]}


@fb.step
async def left(ctx: fb.Context) -> str:
    mark(ctx)
    return "left"


@fb.step
def right(ctx: fb.Context) -> str:
    mark(ctx)
    return "right"


@fb.step
async def meet(left: str, right: str, ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    return {"trail": [left, right]}


@fb.step
async def count(n: int, ctx: fb.Context) -> dict[str, int]:
    mark(ctx)
    return {"n": n + 1}


@fb.step
async def kin(trail: list[str], ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    return {"trail": [*trail, "kin"]}


@fb.step
async def loser() -> dict[str, Any]:
    """Always under way when the race is over; it leaves no mark."""
    await asyncio.sleep(60)
    return {"trail": ["loser"]}


@fb.step
async def numbers(ctx: fb.Context) -> list[int]:
    mark(ctx)
    return [0, 1, 2]


@fb.step(retries=1, backoff=(0,))
async def piece(number: int, ctx: fb.Context) -> str:
    mark(ctx)
    if number == 1 and ctx.attempt == 1:
        raise ValueError("the first attempt of this item fails")
    return str(number)


@fb.step
async def bit(number: int, ctx: fb.Context) -> dict[str, str]:
    mark(ctx, f"~{number}")
    return {"text": str(number)}


@fb.step
async def together(pieces: list[dict[str, str]], ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    return {"trail": [piece["text"] for piece in pieces]}


@fb.step
async def whole(pieces: list[str], ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    return {"trail": pieces}


@fb.step(transactional=True)
async def pay(trail: list[str], ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    await ctx.session.execute(EFFECT, {"run": str(ctx.run_id), "path": ctx.path})
    return {"trail": [*trail, "pay"]}


@fb.step(transactional=True)
async def ship(trail: list[str], ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    await ctx.session.execute(EFFECT, {"run": str(ctx.run_id), "path": ctx.path})
    return {"trail": [*trail, "ship"]}


@fb.step(retries=9, backoff=(0.01,))
async def unmark(ctx: fb.Context) -> None:
    mark(ctx)


@fb.step(compensate=unmark)
async def book(ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    return {"trail": ["book"], "n": 0}


@fb.step(compensate=unmark)
def charge(ctx: fb.Context) -> None:
    mark(ctx)


@fb.step
async def refuse(ctx: fb.Context) -> None:
    mark(ctx)
    raise ValueError("sold out")


@fb.step
async def long(ctx: fb.Context) -> None:
    mark(ctx)
    await asyncio.sleep(60)


@fb.step
async def one(name: str, ctx: fb.Context) -> str:
    mark(ctx)
    return name


@fb.flow
async def told(ctx: fb.Context) -> dict[str, list[str]]:
    trail = [await ctx.step(one, "a")]
    trail += await ctx.gather(ctx.step(one, "b"), ctx.step(one, "c"))
    await ctx.sleep(0.4)
    await ctx.emit("rested", trail)
    return {"trail": [*trail, await ctx.step(one, "d")]}


@fb.step
async def say(trail: list[str], ctx: fb.Context) -> dict[str, Any]:
    mark(ctx)
    for word in SAID.split(" "):
        await ctx.stream(f"{word} ")
        await asyncio.sleep(0.12)  # so that it is written in pieces
    return {"trail": [*trail, "said"]}


SAID = "it is said"
"""What `say` streams, with a space behind each word."""

PART = fb.graph("part", bit, outputs=["text"])


@dataclass(frozen=True)
class Killed:
    """A flow, and what is true of each of its runs at the end."""

    graph: fb.Graph
    trail: tuple[str, ...]
    """What the state has at the end; of one that does not end well, what failed it and what was undone."""
    bodies: tuple[str, ...]
    """Paths that leave a mark, those of children included."""
    pauses: tuple[str, ...] = ()
    """Further paths with a result, which have no body and so leave no mark."""
    unfinished: tuple[str, ...] = ()
    """Those of the bodies that have no result in the run: what never ends well, and what children do."""
    children: int = 0
    status: str = "completed"
    failing: int = 0
    """How many attempts fail by themselves."""
    at_once: int = 1
    """How many bodies are under way at once."""
    fork: tuple[str, tuple[str, ...]] | None = None
    """Where it is forked once it has ended, and what the fork does again: not the branch beside that."""
    signal: str = ""
    """The signal that it waits for."""
    decided: str = ""
    """The signal that somebody answers its pause ``gate#1`` with, who says who they are."""
    cancelled_at: str = ""
    """The path at whose mark it is cancelled."""
    effects: tuple[str, ...] = ()
    """Paths that have an effect in the user's table, each exactly one."""
    streams: str = ""
    """The path that streams `SAID`."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path with a result in the run, sorted."""
        return tuple(sorted({*self.bodies, *self.pauses} - {*self.unfinished}))


_ENDS = fb.wait_any({"yes": kin, "no": loser}, timeout=0.4, on_timeout=third, name="gate")
_HEARS = fb.wait_any({"yes": kin, "no": loser}, timeout="1m", on_timeout=third, name="gate")
_FORKED = ("first#1", "left#1", "meet#1", "right#1")
_BITS = tuple(f"bit#1~{i}" for i in range(3))
_PIECES = tuple(f"piece#1[{i}]" for i in range(3))

KILLED: dict[str, Killed] = {
    "linear": Killed(
        fb.graph("linear", first >> second >> third),
        ("first", "second", "third"), ("first#1", "second#1", "third#1"),
    ),
    "forked": Killed(
        fb.graph("forked", first >> [left, right] >> meet),
        ("left", "right"), _FORKED, at_once=2,
    ),
    "cyclic": Killed(
        fb.graph("cyclic", first >> count >> fb.branch(lambda s: s.n < 3, {True: count, False: third})),
        ("first", "third"), ("count#1", "count#2", "count#3", "first#1", "third#1"),
    ),
    "waiting": Killed(
        fb.graph("waiting", first >> fb.wait("go", name="gate") >> second >> fb.sleep(0.4, name="nap") >> third),
        ("first", "second", "third"), ("first#1", "second#1", "third#1"), ("gate#1", "nap#1"), signal="go",
    ),
    "expired": Killed(
        fb.graph("expired", first >> _ENDS),
        ("first", "third"), ("first#1", "third#1"), ("gate#1",),
    ),
    "chosen": Killed(
        fb.graph("chosen", first >> _HEARS),
        ("first", "kin"), ("first#1", "kin#1"), ("gate#1",), signal="yes",
    ),
    "decided": Killed(
        fb.graph("decided", first >> _HEARS),
        ("first", "kin"), ("first#1", "kin#1"), ("gate#1",), decided="yes",
    ),
    "raced": Killed(
        fb.graph("raced", first >> fb.race(loser, second, fb.wait("never", name="limit")) >> third),
        ("first", "second", "third"), ("first#1", "second#1", "third#1"),
    ),
    "parent": Killed(
        fb.graph("parent", first >> fb.subflow(fb.graph("child", kin), input=["trail"], into=None) >> third),
        ("first", "kin", "third"), ("first#1", "kin#1", "third#1"), ("child#1",), ("kin#1",), children=1,
    ),
    "mapped": Killed(
        fb.graph("mapped", numbers >> fb.map_(piece, over="numbers", into="pieces", concurrency=2) >> whole),
        ("0", "1", "2"), ("numbers#1", *_PIECES, "whole#1"), ("piece#1",), failing=1, at_once=2,
    ),
    "spread": Killed(
        fb.graph("spread", numbers >> fb.map_(PART, over="numbers", into="pieces", concurrency=2) >> together),
        ("0", "1", "2"), ("numbers#1", *_BITS, "together#1"), ("part#1", *(f"part#1[{i}]" for i in range(3))), _BITS,
        children=3, at_once=2,
    ),
    "imperative": Killed(
        told,
        ("a", "b", "c", "d"), tuple(f"told#1/one#{i}" for i in range(1, 5)),
        ("told#1", "told#1/rested#1", "told#1/sleep#1"), at_once=2,
    ),
    "again": Killed(
        fb.graph("again", first >> [left, right] >> meet),
        ("left", "right"), _FORKED, at_once=2, fork=("left#1", ("left#1", "meet#1")),
    ),
    "saga": Killed(
        fb.graph("saga", book >> charge >> refuse),
        ("refuse#1", "charge#1", "book#1"),
        ("book#1", "book#1/compensation#1", "charge#1", "charge#1/compensation#1", "refuse#1"),
        unfinished=("refuse#1",), status="failed",
    ),
    "cancelled": Killed(
        fb.graph("cancelled", book >> long),
        ("book#1",), ("book#1", "book#1/compensation#1", "long#1"), unfinished=("long#1",), status="cancelled",
        cancelled_at="long#1",
    ),
    "transactional": Killed(
        fb.graph("transactional", first >> pay >> ship >> third),
        ("first", "pay", "ship", "third"), ("first#1", "pay#1", "ship#1", "third#1"), effects=("pay#1", "ship#1"),
    ),
    "streamed": Killed(
        fb.graph("streamed", first >> say >> third),
        ("first", "said", "third"), ("first#1", "say#1", "third#1"), streams="say#1",
    ),
}  # fmt: skip
