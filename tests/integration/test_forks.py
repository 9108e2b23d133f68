"""Forks on Postgres: with the real store, and processes that come and go."""

from __future__ import annotations

import asyncio
from typing import Any

from flowbook.graph.flow import graph
from flowbook.graph.pause import wait
from flowbook.graph.step import step
from flowbook.plan.records import Status
from tests.integration.test_runs import Log, logging, opened, pytestmark, scenario

__all__ = ["opened", "pytestmark"]


@scenario
async def test_a_fork_keeps_a_sibling_that_finished_later_and_nothing_is_copied(opened: Any) -> None:
    """Its journal has its own rows alone; another process folds the same state."""
    flow = graph("two", logging("a") >> [logging("b"), logging("late", 0.1)] >> logging("meet"), state=Log)
    async with opened() as app, opened() as other:
        run = await app.start(flow)
        assert await run.result() == {"log": ["a", "b", "late", "meet"]}
        fork = await run.fork(at="b#1")
        assert await fork.result() == {"log": ["a", "b", "late", "meet"]}
        entries = await app.store.history(fork.id)
        own = [f"{e.path} {e.kind}".strip() for e in entries if e.seq > 0 and e.kind != "started"]
        assert own == ["b#1 forked", "b#1 finished", "meet#1 finished", "completed"]
        assert [e.path for e in entries if e.seq <= 0] == ["a#1", "late#1"]
        await other.register(flow)
        assert await other.result(fork.id) == {"log": ["a", "b", "late", "meet"]}
        assert (await (await other.run(fork.id)).at("meet#1")).before == {"log": ["a", "b", "late"]}


@scenario
async def test_a_fork_of_a_run_that_goes_on_leaves_it_alone(opened: Any) -> None:
    """Both come to their ends, each with its own signals; the fork is carried on by another process."""
    flow = graph("gate", logging("a") >> wait("go") >> step(name="use")(lambda go: {"log": [go["by"]]}), state=Log)
    async with opened() as app:
        run = await app.start(flow)
        await asyncio.sleep(0.3)
        fork = await app.fork(run.id, at="go#1", edits={"log": ["x"]}, carry=False)
        await run.signal("go", by="ana")
        assert await run.result() == {"log": ["a", "ana"]}
        assert await fork.status() is Status.PENDING
    async with opened() as app:
        await app.register(flow)
        await app.resume(fork.id)
        await app.signal(fork.id, "go", {"by": "eva"})
        assert await app.result(fork.id) == {"log": ["x", "eva"]}
        assert await (await app.run(fork.id)).lineage() == (fork.id, run.id)


@scenario
async def test_a_fork_deep_in_a_long_line_is_loaded_in_one_query(opened: Any) -> None:
    """Each generation forks the last one; the state is what one run would have."""
    names = [f"s{i}" for i in range(12)]
    topology: Any = logging(names[0])
    for name in names[1:]:
        topology = topology >> logging(name)
    flow = graph("line", topology, state=Log)
    async with opened() as app:
        run = await app.start(flow)
        await run.result()
        for name in names[3:]:
            run = await run.fork(at=f"{name}#1")
            assert await run.result() == {"log": names}
        assert len(await run.lineage()) == 10
        before = (await run.at("s11#1")).before
        assert before == {"log": names[:-1]}
