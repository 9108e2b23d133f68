"""Parked runs that go on where they were parked: what it costs, and that others are not overlooked.

Owns: what `flowbook/run/parked.py` promises on Postgres. Refuses: waits themselves (`test_waits.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flowbook.app import App, Options
from flowbook.graph.flow import Graph, graph
from flowbook.graph.pause import wait
from flowbook.graph.step import step
from flowbook.plan.records import Status
from flowbook.store import driver, migrate
from flowbook.store.postgres import PostgresStore

pytestmark = pytest.mark.timeout(60)


@asynccontextmanager
async def opened(url: str, poll: float = 0.1) -> AsyncIterator[App]:
    """An app that remembers what it has parked."""
    async with App(PostgresStore(url, poll=poll), Options("default", b"key")) as app:
        yield app


async def parked(app: App, run: Any) -> None:
    while app.engine.carries(run.id) or await run.status() is not Status.WAITING:
        await asyncio.sleep(0.01)


def twice() -> Graph:
    @step
    def behind() -> dict[str, Any]:
        return {"done": True}

    return graph("twice", wait("a") >> wait("b") >> behind)


def test_from_a_signal_to_the_step_behind_it_are_three_statements(fresh_database: str) -> None:
    """Deliver, claim with the letter, record: neither journal nor mailbox is read, and the run is not looked up."""

    async def whole() -> None:
        resumed = asyncio.Event()

        @step
        async def behind() -> None:
            resumed.set()
            await asyncio.sleep(0.5)  # what comes after it is not counted

        sent: list[str] = []
        await migrate.upgrade(fresh_database)
        async with opened(fresh_database, poll=1000.0) as app:
            run = await app.start(graph("once", wait("go") >> behind))
            await parked(app, run)
            await asyncio.sleep(0.2)
            driver.set_tap(lambda name, phase: sent.append(name) if phase == "before" else None)
            try:
                await run.signal("go")
                await resumed.wait()
            finally:
                driver.set_tap(None)
        assert [name for name in sent if name != "notify"] == ["send", "claim among", "append one"]

    asyncio.run(whole())


def test_a_run_that_somebody_else_had_meanwhile_is_read_anew(fresh_database: str) -> None:
    """A record is worth nothing once another process has owned the run, and its rows are there as well."""

    async def whole() -> None:
        await migrate.upgrade(fresh_database)
        flow = twice()
        async with opened(fresh_database, poll=1000.0) as app:
            run = await app.start(flow)
            await parked(app, run)
            async with opened(fresh_database) as other:
                await other.register(flow)
                theirs = await other.resume(run.id)
                await theirs.signal("a")
                while (row := await app.store.run(run.id)).status is not Status.WAITING or row.current != "b#1":
                    await asyncio.sleep(0.01)
            await run.signal("b")
            assert await run.result(20) == {"a": {}, "b": {}, "done": True}
            entries = await app.store.history(run.id)
            assert [e.seq for e in entries] == list(range(1, len(entries) + 1))
            assert [e.path for e in entries if e.kind == "finished"] == ["a#1", "b#1", "behind#1"]

    asyncio.run(whole())


def test_a_run_that_is_parked_again_and_again_has_one_journal(fresh_database: str) -> None:
    """Numbers go on without a gap from what was remembered, and another process folds the same state."""

    async def whole() -> None:
        await migrate.upgrade(fresh_database)
        flow = twice()
        async with opened(fresh_database) as app:
            run = await app.start(flow)
            for name in "ab":
                await parked(app, run)
                await run.signal(name, n=ord(name))
            result = await run.result(20)
            entries = await app.store.history(run.id)
            assert [e.seq for e in entries] == list(range(1, len(entries) + 1))
            async with opened(fresh_database) as other:
                await other.register(flow)
                assert await other.result(run.id) == result == {"a": {"n": 97}, "b": {"n": 98}, "done": True}

    asyncio.run(whole())
