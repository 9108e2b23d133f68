"""Watching: who looks at a run sees how it changes, first at once, then not more often than eyes can."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from flowbook.app import App
from flowbook.graph.flow import graph
from flowbook.graph.step import Step, step
from flowbook.observe import watch as watch_module
from flowbook.observe.views import RunView, State
from flowbook.plan.records import Status
from flowbook.testing import MemoryDatabase, memory_app


def run(scenario: Callable[[App], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario with an app in memory."""

    async def whole() -> None:
        async with asyncio.timeout(20), memory_app() as app:
            await scenario(app)

    asyncio.run(whole())


class Look:
    """A watcher that keeps what it sees."""

    def __init__(self) -> None:
        self.views: list[RunView] = []
        self.over = asyncio.Event()

    def __call__(self, view: RunView) -> None:
        self.views.append(view)
        if view.status.over:
            self.over.set()

    @property
    def statuses(self) -> set[Status]:
        return {v.status for v in self.views}


def gated(name: str, gate: asyncio.Event) -> Step:
    """A step that waits."""

    async def body() -> str:
        await gate.wait()
        return name

    return step(name=name)(body)


def test_a_watcher_sees_a_run_from_now_to_its_end() -> None:
    """The step that is under way, then its result, then the end, and nothing after it."""

    async def scenario(app: App) -> None:
        gate, look = asyncio.Event(), Look()
        handle = await app.start(graph("f", gated("a", gate)), {"n": 1}, key="k")
        app.watch(handle.id, look)
        while not look.views:
            await asyncio.sleep(0.002)
        first = look.views[0]
        assert (first.status, first.key, first.input, first.steps[0].state) == (
            Status.RUNNING,
            "k",
            {"n": 1},
            State.RUNNING,
        )
        gate.set()
        await look.over.wait()
        await asyncio.sleep(0.05)
        last = look.views[-1]
        assert (last.status, last.steps[0].result) == (Status.COMPLETED, "a")
        assert last.ended_at is not None
        assert app._watches[handle.id].ended

    run(scenario)


def test_a_quick_run_is_not_shown_a_hundred_times() -> None:
    """Ten views a second at most, however much happens."""

    async def scenario(app: App) -> None:
        look = Look()
        chain: Any = step(name="s0")(lambda: 0)
        for n in range(1, 100):
            chain = chain >> step(name=f"s{n}")(lambda: 0)
        handle = await app.start(graph("f", chain))
        app.watch(handle.id, look)
        began = asyncio.get_running_loop().time()
        await look.over.wait()
        seconds = asyncio.get_running_loop().time() - began
        await asyncio.sleep(0)
        assert len(look.views) <= 3 + seconds * watch_module.RATE
        assert look.views[-1].done == 100

    run(scenario)


def test_a_run_in_another_process_is_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By looking again and again."""
    monkeypatch.setattr(watch_module, "POLL", 0.02)

    async def scenario() -> None:
        database, gate, look = MemoryDatabase(), asyncio.Event(), Look()
        async with memory_app(database) as app, memory_app(database) as other:
            handle = await app.start(graph("f", gated("a", gate)))
            other.watch(handle.id, look)
            while Status.RUNNING not in look.statuses:
                await asyncio.sleep(0.002)
            gate.set()
            await asyncio.wait_for(look.over.wait(), 5)
            assert look.views[-1].steps[0].result == "a"

    asyncio.run(scenario())


def test_a_failed_run_that_somebody_retries_is_seen_going_on() -> None:
    """Also where the retry came by another way than the one who looks: through the store, from a terminal."""

    async def scenario(app: App) -> None:
        look, left, tries = Look(), Look(), []

        @step
        async def fetch() -> str:
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionError("nobody is there")
            return "sent"

        handle = await app.start(graph("f", fetch))
        app.watch(handle.id, look)
        stop = app.watch(handle.id, left)
        await look.over.wait()
        while not app._watches[handle.id].ended:
            await asyncio.sleep(0.002)
        stop()
        seen, look.over = len(left.views), asyncio.Event()
        await app.retry(handle.id)
        await look.over.wait()
        assert [look.views[0].status, look.views[-1].status] != [Status.FAILED] * 2
        assert look.views[-1].nodes["fetch"].result == "sent"
        assert len(left.views) == seen, "who has left is left alone"

    run(scenario)


def test_a_watcher_that_raises_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the run nor the other watchers."""

    async def scenario(app: App) -> None:
        gate, look = asyncio.Event(), Look()

        def broken(_: RunView) -> None:
            raise RuntimeError("cannot draw")

        handle = await app.start(graph("f", gated("a", gate)))
        app.watch(handle.id, broken)
        app.watch(handle.id, look)
        gate.set()
        await look.over.wait()
        assert await handle.result() == {"a": "a"}

    with caplog.at_level(logging.ERROR, "flowbook"):
        run(scenario)
    assert "could not be shown" in caplog.text


def test_who_stops_looking_is_not_called_again() -> None:
    """The others are; and when the last one is gone, nothing is read any more."""

    async def scenario(app: App) -> None:
        gate, one, two = asyncio.Event(), Look(), Look()
        handle = await app.start(graph("f", gated("a", gate)))
        stop, stop_too = app.watch(handle.id, one), app.watch(handle.id, two)
        while not one.views or not two.views:
            await asyncio.sleep(0.002)
        stop()
        before = len(one.views)
        gate.set()
        await two.over.wait()
        assert len(one.views) == before
        stop_too()
        stop_too()
        assert handle.id not in app._watches

    run(scenario)


def test_a_late_watcher_is_shown_the_end_at_once() -> None:
    """Of a run that has been over for long."""

    async def scenario(app: App) -> None:
        look = Look()
        handle = await app.start(graph("f", step(name="a")(lambda: 1)))
        await handle.result()
        app.watch(handle.id, look)
        await asyncio.wait_for(look.over.wait(), 1)
        assert look.views[-1].steps[0].result == 1

    run(scenario)


def test_a_retried_run_can_be_watched_again() -> None:
    """To its new end."""

    async def scenario(app: App) -> None:
        broken = [True]

        @step
        def a() -> str:
            if broken:
                raise ValueError("boom")
            return "done"

        look = Look()
        handle = await app.start(graph("f", a))
        app.watch(handle.id, look)
        await look.over.wait()
        assert look.views[-1].status is Status.FAILED
        while not app._watches[handle.id].ended:
            await asyncio.sleep(0.002)
        broken.clear()
        again = Look()
        await handle.retry()
        app.watch(handle.id, again)
        await again.over.wait()
        assert again.views[-1].steps[0].result == "done"

    run(scenario)
