"""Children on Postgres: a parent here, its child there, and processes that are killed.

Owns: what `tests/unit/run/test_children.py` promises, where a database and several processes are needed to believe it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from flowbook.app import App
from flowbook.graph.flow import graph
from flowbook.graph.pause import wait
from flowbook.graph.rebuild import rebuild
from flowbook.graph.step import step
from flowbook.graph.subflow import subflow
from flowbook.plan.records import Status
from tests.integration.places import Place, row_of, scenario

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = '''
"""argv: url, flow, what: `carry` starts it under the key "k" and prints its state, `work QUEUE` claims what is due."""
import asyncio, json, os, sys
import flowbook as fb

def mark(name):
    with open(os.environ["MARKS"], "a") as file:
        file.write(name + "\\n")

@fb.step
def before():
    mark("before")
    return {"n": 1}

@fb.step
def work(n):
    mark("work")
    return {"n": n + 1}

@fb.step
def after(inner):
    mark("after")
    return {"n": inner["n"] + 1}

inner = fb.graph("inner", fb.wait("go") >> work)
FLOWS = {
    "outer": fb.graph("outer", before >> fb.subflow(inner, input=["n"]) >> after),
    "spread": fb.graph("spread", before >> fb.subflow(inner, input=["n"], queue="gpu") >> after),
}

async def main(url, flow, what, queue="default"):
    async with fb.connect(url) as app:
        if what == "work":
            await app.register(FLOWS[flow])
            await app.work([queue])
        else:
            print(json.dumps(await (await app.start(FLOWS[flow], key="k")).result()), flush=True)

asyncio.run(main(*sys.argv[1:]))
'''
DONE = {"n": 3, "inner": {"n": 2, "go": {}}}


@pytest.fixture
def place(fresh_database: str, tmp_path: Path, always_suspend: bool) -> Iterator[Place]:
    """A migrated database, and no process yet."""
    place = Place(fresh_database, tmp_path, PROGRAM, always_suspend=always_suspend)
    yield place
    place.close()


async def outcomes(app: App, run_id: UUID) -> list[str]:
    """The finished paths of a run."""
    entries = await app.store.history(run_id)
    return [e.path for e in entries if e.kind == "finished"]


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and wait for it."""
    process.send_signal(signal.SIGKILL)
    process.wait()


@scenario
async def test_a_child_runs_on_another_worker_and_its_parent_goes_on_here(place: Place) -> None:
    """The parent is parked meanwhile, and the end reaches it across processes."""
    place.process("spread", "work", "gpu")
    carrying = place.process("spread", "carry")
    async with place.opened() as app:
        parent = await row_of(app, "spread", Status.WAITING)
        child = await row_of(app, "inner", Status.WAITING)
        assert (parent.worker_id, child.worker_id, child.parent_id, child.queue) == (None, None, parent.id, "gpu")
        await app.signal(child.id, "go")
        out, _ = await asyncio.to_thread(carrying.communicate, None, 40)
        assert json.loads(out) == DONE
        assert await outcomes(app, parent.id) == ["before#1", "inner#1", "after#1"]
    assert place.lines() == ["before", "work", "after"]


@scenario
async def test_a_parent_killed_after_its_child_finished_goes_on(place: Place) -> None:
    """Its process died while it was parked, and the child's with it; the child ends elsewhere, and then the parent."""
    carrying = place.process("outer", "carry")
    async with place.opened() as app:
        parent = await row_of(app, "outer", Status.WAITING)
        child = await row_of(app, "inner", Status.WAITING)
        kill(carrying)
        await app.signal(child.id, "go")
        worker = place.process("outer", "work")
        assert (await row_of(app, "inner", Status.COMPLETED)).id == child.id
        assert (await row_of(app, "outer", Status.COMPLETED)).id == parent.id
        kill(worker)
        assert await outcomes(app, parent.id) == ["before#1", "inner#1", "after#1"]
    assert place.lines() == ["before", "work", "after"]


@scenario
async def test_starting_a_killed_parent_under_its_key_again_carries_its_child_on(place: Place) -> None:
    """The child lay with the dead kernel; whoever carries the parent carries it too, and there is no second one."""
    carrying = place.process("outer", "carry")
    async with place.opened() as app:
        parent = await row_of(app, "outer", Status.WAITING)
        kill(carrying)
        again = place.process("outer", "carry")
        child = await row_of(app, "inner", Status.WAITING)
        await app.signal(child.id, "go")
        out, _ = await asyncio.to_thread(again.communicate, None, 40)
        assert json.loads(out) == DONE
        assert len(await app.store.children(parent.id)) == 1
    assert place.lines() == ["before", "work", "after"]


@scenario
async def test_a_killed_parent_is_carried_on_from_its_stored_source(place: Place) -> None:
    """Its definition, as the database gives it back, brings the flow of its child along."""
    carrying = place.process("outer", "carry")
    os.environ["MARKS"] = str(place.file)
    try:
        async with place.opened() as app:
            parent = await row_of(app, "outer", Status.WAITING)
            child = await row_of(app, "inner", Status.WAITING)
            kill(carrying)
            await app.register(rebuild(await app.definition(parent), key=None, allow_unsigned=True))
            run = await app.resume(parent.id)
            await app.signal(child.id, "go")
            assert await run.result() == DONE
    finally:
        del os.environ["MARKS"]
    assert place.lines() == ["before", "work", "after"]


@scenario
async def test_many_children_end_while_their_parents_park_and_are_claimed(place: Place) -> None:
    """Two hundred children of fifty parents, no lingering: every end is heard, nobody sleeps for ever."""

    @step
    async def quick(n: int) -> dict[str, int]:
        await asyncio.sleep(0.001 * (n % 7))
        return {"n": n + 1}

    @step
    def begin() -> None:
        pass

    inner = graph("quick", quick)
    subs = [subflow(inner, input=["n"], name=f"sub{i}") for i in range(4)]
    flow = graph("many", begin >> subs)
    async with place.opened() as app:
        runs = [await app.start(flow, n=n) for n in range(50)]
        states = await asyncio.gather(*(run.result() for run in runs))
        for n, state in enumerate(states):
            assert [state[f"sub{i}"] for i in range(4)] == [{"n": n + 1}] * 4


@scenario
async def test_a_key_from_the_state_attaches_to_a_run_of_another_app(place: Place) -> None:
    """Started there by itself; its end is told here, and a later one finds it over."""
    ran: list[int] = []

    @step
    def charge(order: int) -> int:
        ran.append(order)
        return order

    inner = graph("order", wait("go") >> charge)
    flow = graph("buy", subflow(inner, input=["order"], key=lambda s: f"order-{s.order}"))
    async with place.opened() as app, place.opened() as other:
        await other.start(inner, order=7, key="order-7")
        run = await app.start(flow, order=7)
        await row_of(app, "buy", Status.WAITING)
        await other.signal((await row_of(app, "order")).id, "go")
        assert (await run.result())["order"]["charge"] == 7
        assert (await (await app.start(flow, order=7)).result())["order"]["charge"] == 7
        assert await run.children() == []
    assert ran == [7]


@scenario
async def test_a_run_without_family_costs_what_it_did(place: Place) -> None:
    """One statement per step and one with the last of them: the statements of families are for families."""
    from flowbook.store import driver

    @step
    def first() -> dict[str, int]:
        return {"n": 1}

    asked: list[str] = []
    async with place.opened() as app:
        flow = graph("plain", first >> step(name="second")(lambda n: {"n": n}))
        await (await app.start(flow)).result()
        driver.set_tap(lambda name, phase: asked.append(name) if phase == "sent" else None)
        try:
            await (await app.start(flow)).result()
        finally:
            driver.set_tap(None)
    counted = [
        name for name in asked if name in ("start", "append one", "append", "settle", "settle family", "children")
    ]
    if not place.always_suspend:
        assert counted == ["start", "append one", "settle"]
