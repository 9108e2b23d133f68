"""The flows that are killed: a linear, a forked, a cyclic and a waiting one, a race, maps, a fork, transactional
steps. Every body leaves a mark outside the database.

Imported by the victims (`zygote.py`), so it needs nothing but flowbook.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from sqlalchemy import text

import flowbook as fb

MARKS = "FLOWBOOK_CRASH_MARKS"
"""Environment variable with the file that bodies append to: one line per execution, ``path``."""


PACE = "FLOWBOOK_CRASH_PACE"
"""Environment variable with the seconds that `second` takes, so that what goes by the clock comes about as well."""


EFFECTS = {"transactional": ("pay#1", "ship#1")}
"""Paths of a flow that have an effect in the user's table, each exactly one."""

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


PART = fb.graph("part", bit, outputs=["text"])

FLOWS: dict[str, fb.Graph] = {
    "spread": fb.graph("spread", numbers >> fb.map_(PART, over="numbers", into="pieces", concurrency=2) >> together),
    "saga": fb.graph("saga", book >> charge >> refuse),
    "mapped": fb.graph("mapped", numbers >> fb.map_(piece, over="numbers", into="pieces", concurrency=2) >> whole),
    "transactional": fb.graph("transactional", first >> pay >> ship >> third),
    "linear": fb.graph("linear", first >> second >> third),
    "forked": fb.graph("forked", first >> [left, right] >> meet),
    "cyclic": fb.graph("cyclic", first >> count >> fb.branch(lambda s: s.n < 3, {True: count, False: third})),
    "waiting": fb.graph("waiting", first >> fb.wait("go", name="gate") >> second >> fb.sleep(0.4, name="nap") >> third),
    "parent": fb.graph("parent", first >> fb.subflow(fb.graph("child", kin), input=["trail"], into=None) >> third),
    "again": fb.graph("again", first >> [left, right] >> meet),
    "raced": fb.graph("raced", first >> fb.race(loser, second, fb.wait("never", name="limit")) >> third),
}

PATHS: dict[str, tuple[str, ...]] = {
    "spread": ("numbers#1", "part#1", *(f"part#1[{i}]" for i in range(3)), "together#1"),
    "mapped": (
        "numbers#1",
        "piece#1",
        *(f"piece#1[{i}]" for i in range(3)),
        "whole#1",
    ),
    "transactional": ("first#1", "pay#1", "ship#1", "third#1"),
    "saga": ("book#1", "book#1/compensation#1", "charge#1", "charge#1/compensation#1"),
    "linear": ("first#1", "second#1", "third#1"),
    "forked": ("first#1", "left#1", "meet#1", "right#1"),
    "cyclic": ("count#1", "count#2", "count#3", "first#1", "third#1"),
    "waiting": ("first#1", "gate#1", "nap#1", "second#1", "third#1"),
    "parent": ("child#1", "first#1", "third#1"),
    "again": ("first#1", "left#1", "meet#1", "right#1"),
    "raced": ("first#1", "second#1", "third#1"),
}
"""Every path that a finished run has, sorted."""

PAUSES = frozenset({"gate#1", "nap#1", "child#1", "piece#1", "part#1", *(f"part#1[{i}]" for i in range(3))})
"""Those of them that have no body, and so leave no mark."""

KIN = {"parent": ("kin#1",), "spread": tuple(f"bit#1~{i}" for i in range(3))}
"""What the children of a flow leave as marks, one each."""

FAILING = {"mapped": 1}
"""How many attempts of a flow fail by themselves."""

AT_ONCE = {"again": 2, "forked": 2, "mapped": 2, "spread": 2}
"""How many bodies of a flow are under way at once; else one."""

FORKS = {"again": ("left#1", ("left#1", "meet#1"))}
"""Where a flow is forked once it has ended, and what the fork does again: not the branch beside that."""

DOOMED = {"saga": "refuse#1"}
"""The path at which a flow always fails. Its ``trail`` is then what failed, and what was undone."""

SIGNALS = {"waiting": "go"}
"""The signal that a flow waits for."""

RESULTS: dict[str, list[str]] = {
    "spread": ["0", "1", "2"],
    "mapped": ["0", "1", "2"],
    "transactional": ["first", "pay", "ship", "third"],
    "saga": ["refuse#1", "charge#1", "book#1"],
    "linear": ["first", "second", "third"],
    "forked": ["left", "right"],
    "cyclic": ["first", "third"],
    "waiting": ["first", "second", "third"],
    "parent": ["first", "kin", "third"],
    "again": ["left", "right"],
    "raced": ["first", "second", "third"],
}
"""The ``trail`` in the state at the end."""
