"""Maps over flows on Postgres: items that are runs here and elsewhere, and processes that are killed.

Owns: what `tests/unit/run/test_map_flows.py` promises, where a database and several processes are needed to believe it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowbook.graph.flow import graph
from flowbook.graph.mapping import map_
from flowbook.graph.rebuild import rebuild
from flowbook.graph.step import step
from flowbook.plan.events import StepFinished
from flowbook.plan.journal import from_entry
from flowbook.plan.records import Status
from tests.integration.places import Place, row_of, scenario

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 40

PROGRAM = '''
"""argv: url, what: `carry FLOW` starts it under the key "k" and prints its pages, `work QUEUE` claims what is due.

A line "STEP ITEM PID" is left by each body; the one of KILL_AT kills its process.
"""
import asyncio, json, os, signal, sys
import flowbook as fb

def mark(name, n):
    with open(os.environ["MARKS"], "a") as file:
        file.write(f"{name} {n} {os.getpid()}\\n")

@fb.step
async def look(n):
    mark("look", n)
    return {"seen": n + 1}

@fb.step
async def store(n, seen):
    mark("store", n)
    if str(n) == os.environ.get("KILL_AT"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"stored": seen}

@fb.step
def total(pages):
    return {"total": sum(page["stored"] for page in pages)}

page = fb.graph("page", look >> store, outputs=["stored"])
FLOWS = {
    "spread": fb.graph("spread", fb.map_(page, over="ns", into="pages", concurrency=5) >> total),
    "queued": fb.graph("queued", fb.map_(page, over="ns", into="pages", concurrency=5, queue="gpu") >> total),
}

async def main(url, what, name):
    async with fb.connect(url) as app:
        if what == "work":
            for flow in FLOWS.values():
                await app.register(flow)
            await app.work([name], concurrency=4)
        else:
            run = await app.start(FLOWS[name], key="k", ns=list(range(int(os.environ["ITEMS"]))))
            print(json.dumps((await run.result())["total"]), flush=True)

asyncio.run(main(*sys.argv[1:]))
'''
TOTAL = sum(range(1, ITEMS + 1))


class Marked(Place):
    """A place whose program writes who has run what: ``step item process``."""

    def killed_at(self, *words: str, item: int) -> subprocess.Popen[str]:
        """A process that kills itself in that item."""
        return self.process(*words, KILL_AT=str(item))

    def marks(self) -> list[tuple[str, int]]:
        """(step and item, process) of the bodies that ran, in order."""
        return [(line.rpartition(" ")[0], int(line.rpartition(" ")[2])) for line in self.lines()]

    def again(self) -> dict[str, int]:
        """What ran more than once."""
        return {what: times for what, times in Counter(what for what, _ in self.marks()).items() if times > 1}


@pytest.fixture
def place(fresh_database: str, tmp_path: Path, always_suspend: bool) -> Iterator[Marked]:
    """A migrated database, and no process yet."""
    more = {"KILL_AT": "-1", "ITEMS": str(ITEMS)}
    place = Marked(fresh_database, tmp_path, PROGRAM, always_suspend=always_suspend, **more)
    yield place
    place.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(40):
        while not condition():
            await asyncio.sleep(0.01)


@scenario
async def test_a_parent_killed_in_the_middle_goes_on_elsewhere_with_its_children(place: Marked) -> None:
    """SIGKILL while five children are under way: another worker carries all of them on; no item gets a second child,
    and no body runs again that was not under way.
    """
    carrying = place.killed_at("carry", "spread", item=17)
    await asyncio.to_thread(carrying.wait, 60)
    assert carrying.returncode == -signal.SIGKILL
    place.process("work", "default")
    async with place.opened() as app:
        parent = await row_of(app, "spread", Status.COMPLETED)
        entries = await app.store.history(parent.id)
        (event,) = (from_entry(e) for e in entries if e.path == "total#1" and e.kind == "finished")
        assert isinstance(event, StepFinished)
        assert event.result == {"total": TOTAL}
        children = await app.store.children(parent.id)
        assert sorted(int(str(c.parent_path)[7:-1]) for c in children) == list(range(ITEMS))
        assert {c.status for c in children} == {Status.COMPLETED}
    assert "store 17" in place.again()
    assert all(times == 2 for times in place.again().values())
    assert len(place.again()) <= 5, "no more than were under way at once"


@scenario
async def test_workers_of_its_queue_carry_the_children_and_the_parent_stays_here(place: Marked) -> None:
    """One of them is killed in the middle, and the other one ends them all; the parent waits parked."""
    killed = place.killed_at("work", "gpu", item=9)
    carrying = place.process("carry", "queued")
    await asyncio.to_thread(killed.wait, 60)
    worker = place.process("work", "gpu")
    out, _ = await asyncio.to_thread(carrying.communicate, None, 60)
    assert json.loads(out) == TOTAL
    assert {pid for _, pid in place.marks()} == {killed.pid, worker.pid}
    assert set(place.again().values()) == {2}
    assert len(place.again()) <= 5


@scenario
async def test_a_killed_map_is_carried_on_from_its_stored_source(place: Marked) -> None:
    """Its definition, as the database gives it back, brings the mapped flow along."""
    carrying = place.killed_at("carry", "spread", item=17)
    await asyncio.to_thread(carrying.wait, 60)
    os.environ["MARKS"] = str(place.file)
    try:
        async with place.opened() as app:
            parent = await row_of(app, "spread")
            await app.register(rebuild(await app.definition(parent), key=None, allow_unsigned=True))
            run = await app.resume(parent.id)
            assert (await run.result())["total"] == TOTAL
            assert len(await app.store.children(parent.id)) == ITEMS
    finally:
        del os.environ["MARKS"]
    assert {pid for _, pid in place.marks()} == {carrying.pid, os.getpid()}


@scenario
async def test_children_that_begin_and_end_together_share_their_commits(place: Marked) -> None:
    """What is written for forty of them, twenty at once, is less than one statement for each."""
    from flowbook.store import driver

    @step
    async def begin(n: int) -> dict[str, int]:
        return {"n": n}

    flow = graph("outer", map_(graph("inner", begin), over="ns", concurrency=20))
    writes = ("start", "append", "append one", "settle", "settle family")
    asked: list[str] = []
    async with place.opened() as app:
        await (await app.start(flow, ns=[0])).result()
        driver.set_tap(lambda name, phase: asked.append(name) if phase == "sent" else None)
        try:
            await (await app.start(flow, ns=list(range(ITEMS)))).result()
        finally:
            driver.set_tap(None)
    if not place.always_suspend:
        assert sum(asked.count(name) for name in writes) < ITEMS


@scenario
async def test_a_cancel_stops_children_that_others_carry(place: Marked) -> None:
    """They are told durably, wherever they are, and no other one begins."""
    from flowbook.graph.pause import wait

    @step
    async def begin(n: int) -> dict[str, int]:
        return {"n": n}

    inner = graph("inner", begin >> wait("never"))
    flow = graph("outer", map_(inner, over="ns", concurrency=3, queue="gpu"))
    async with place.opened() as app, place.opened() as other:
        await other.register(flow)
        working = asyncio.create_task(other.work(["gpu"]))
        run = await app.start(flow, ns=list(range(10)))

        async def waiting() -> int:
            return len([c for c in await app.store.children(run.id) if c.status is Status.WAITING])

        async with asyncio.timeout(40):
            while await waiting() < 3:
                await asyncio.sleep(0.02)
        await run.cancel()
        await row_of(app, "outer", Status.CANCELLED)
        async with asyncio.timeout(40):
            while {c.status for c in await app.store.children(run.id)} != {Status.CANCELLED}:
                await asyncio.sleep(0.02)
        assert len(await app.store.children(run.id)) == 3
        working.cancel()
