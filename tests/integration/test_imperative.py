"""Imperative flows on Postgres, between processes that are killed.

Owns: what `tests/unit/run/test_calls.py` promises, where a database and several processes are needed to believe it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flowbook.app import App, Options
from flowbook.graph.imperative import flow
from flowbook.graph.rebuild import rebuild
from flowbook.graph.step import step
from flowbook.plan.query import RunQuery
from flowbook.plan.records import Status
from flowbook.store.postgres import PostgresStore

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

ROOT = Path(__file__).resolve().parents[2]

CHILD = '''
"""argv: url, file: one run of `shop` under the key "k"; what its steps do goes into the file."""
import asyncio, json, sys
import flowbook as fb
from pydantic import BaseModel

class Order(BaseModel):
    id: int
    parts: list[str]

class Declined(Exception): ...

def mark(text):
    with open(sys.argv[2], "a") as file:
        file.write(text + "\\n")

@fb.step
async def pack(part: str) -> str:
    mark(part)
    await asyncio.sleep(0.05)
    return part.upper()

@fb.step
def pay(amount: int):
    mark("pay")
    raise Declined(amount)

@fb.step
async def slow(name: str) -> str:
    mark(name)
    await asyncio.sleep(0.6)
    return name

@fb.flow
async def shop(ctx, order: Order) -> dict[str, object]:
    packed = await ctx.map(pack, order.parts, concurrency=2)
    try:
        await ctx.step(pay, 7)
        paid = "yes"
    except Declined as error:
        paid = f"no, {error}"
    await ctx.sleep(0.3)
    both = await ctx.gather(ctx.step(slow, "left"), ctx.step(slow, "right"))
    return {"packed": packed, "paid": paid, "both": both, "uuid": str(ctx.uuid())}

async def main():
    async with fb.connect(sys.argv[1]) as app:
        run = await app.start(shop, order={"id": 1, "parts": ["a", "b", "c", "d", "e"]}, key="k")
        print(json.dumps(await run.result()), flush=True)

asyncio.run(main())
'''


async def opened(url: str, always_suspend: bool, key: bytes = b"key") -> App:
    """An app, as another process would have it."""
    return await App(PostgresStore(url), Options("default", key, always_suspend)).__aenter__()


def test_killed_again_and_again_an_imperative_flow_ends_as_if_it_had_not_been(
    fresh_database: str, tmp_path: Path
) -> None:
    """No call that had ended is made again, what was under way is at most once per kill."""
    marks = tmp_path / "marks"
    marks.touch()

    def begin() -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", CHILD, fresh_database, str(marks)]
        return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    for wanted in (2, 4, 6, 8):
        child = begin()
        deadline = time.monotonic() + 30
        while len(set(marks.read_text().split())) < wanted and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=10)
    last = begin()
    out, _ = last.communicate(timeout=60)
    result = json.loads(out)
    assert (result["packed"], result["paid"], result["both"]) == (list("ABCDE"), "no, 7", ["left", "right"])
    seen = marks.read_text().split()
    assert set(seen) == {"a", "b", "c", "d", "e", "pay", "left", "right"}
    assert len(seen) <= 8 + 4 * 2, seen


def test_an_imperative_flow_is_carried_on_from_its_stored_source(fresh_database: str, always_suspend: bool) -> None:
    """Its body, the steps it calls and the exceptions it catches are part of the definition."""

    @step
    async def double(n: int) -> int:
        return 2 * n

    @flow
    async def shop(ctx, n: int) -> int:
        got = await ctx.step(double, n)
        signal = await ctx.wait("go")
        return int(await ctx.step(double, got + signal["by"]))

    async def scenario() -> Any:
        app = await opened(fresh_database, always_suspend)
        try:
            registered = await app.register(shop)
            assert registered.portable, registered.obstacles
            run = await app.start(shop, n=3)
            while await run.status() is not Status.WAITING:
                await asyncio.sleep(0.01)
        finally:
            await app.__aexit__(None, None, None)
        other = await opened(fresh_database, always_suspend)
        try:
            (row,) = await other.store.runs(RunQuery("default", "shop"))
            rebuilt = rebuild(await other.definition(row), key=b"key")
            assert rebuilt.fingerprint == shop.fingerprint
            assert repr(rebuilt) == repr(shop)
            await other.register(rebuilt)
            resumed = await other.resume(row.id)
            await resumed.signal("go", by=4)
            return await resumed.result(timeout=30)
        finally:
            await other.__aexit__(None, None, None)

    assert asyncio.run(scenario()) == 20


def test_what_an_imperative_flow_has_called_can_be_looked_at(fresh_database: str, always_suspend: bool) -> None:
    """Each call is a step of the view under its path, and the waits say what they wait for."""

    @step
    async def double(n: int) -> int:
        return 2 * n

    @flow
    async def shop(ctx: Any) -> list[int]:
        await ctx.wait("go", timeout="1h")
        return list(await ctx.map(double, [1, 2, 3]))

    async def scenario() -> None:
        app = await opened(fresh_database, always_suspend)
        try:
            run = await app.start(shop)
            while await run.status() is not Status.WAITING:
                await asyncio.sleep(0.01)
            (waiting,) = [s for s in (await run.view()).steps if s.wait is not None]
            assert (waiting.path, waiting.wait.signals) == ("shop#1/go#1", ("go",))  # type: ignore[union-attr]
            await run.signal("go")
            assert await run.result(timeout=30) == [2, 4, 6]
            shown = {s.path: s.result for s in (await run.view()).steps if "double" in s.path}
            assert shown == {f"shop#1/map#1/double#{i}": 2 * i for i in (1, 2, 3)}
            assert set((await run.view()).nodes) == {"shop"}
        finally:
            await app.__aexit__(None, None, None)

    asyncio.run(scenario())


SPAWNING = '''
"""argv: url, file: one run of `parent` under the key "k"; what the steps of its children do goes into the file."""
import asyncio, json, sys
import flowbook as fb

def mark(text):
    with open(sys.argv[2], "a") as file:
        file.write(text + "\\n")

@fb.step
async def slow(name: str) -> str:
    mark(name)
    await asyncio.sleep(0.3)
    return name.upper()

@fb.flow
async def child(ctx, name: str) -> list[str]:
    return [await ctx.step(slow, name + n) for n in "123"]

@fb.flow
async def parent(ctx) -> list[object]:
    a = ctx.spawn(child, name="a")
    await ctx.sleep(0.1)
    b = ctx.spawn(child, name="b")
    return [await ctx.join(b), await a]

async def main():
    async with fb.connect(sys.argv[1]) as app:
        run = await app.start(parent, key="k")
        print(json.dumps([await run.result(), sorted(str(row.id) for row in await run.children())]), flush=True)

asyncio.run(main())
'''


def test_killed_with_its_children_under_way_a_parent_goes_on_with_the_same_ones(
    fresh_database: str, tmp_path: Path
) -> None:
    """No second child is started, and no step of theirs that had ended runs again."""
    marks = tmp_path / "marks"
    marks.touch()

    def begin() -> subprocess.Popen[str]:
        argv = [sys.executable, "-c", SPAWNING, fresh_database, str(marks)]
        return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    for wanted in (2, 4):
        child = begin()
        deadline = time.monotonic() + 30
        while len(set(marks.read_text().split())) < wanted and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=10)
    out, _ = begin().communicate(timeout=60)
    result, children = json.loads(out)
    assert result == [["B1", "B2", "B3"], ["A1", "A2", "A3"]]
    assert len(children) == 2
    seen = marks.read_text().split()
    assert set(seen) == {"a1", "a2", "a3", "b1", "b2", "b3"}
    assert len(seen) <= 6 + 2 * 2, seen
