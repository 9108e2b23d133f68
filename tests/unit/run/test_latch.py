"""The small clockwork: a latch, and the tick that many share."""

from __future__ import annotations

import asyncio

import pytest

from flowbook.run import latch as latch_module
from flowbook.run.latch import Latch, Ticker
from tests.unit.run.apps import scenario


@scenario
async def test_an_open_latch_lets_one_wait_through_and_closes() -> None:
    """What was opened before anybody waited is not lost, and not counted twice."""
    latch = Latch()
    latch.open()
    latch.open()
    await asyncio.wait_for(latch.wait(), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(latch.wait(), 0.01)


@scenario
async def test_a_waiter_goes_when_the_latch_is_opened() -> None:
    """Also when the opening and another opening fall together."""
    latch = Latch()
    waiting = asyncio.create_task(latch.wait())
    await asyncio.sleep(0)
    latch.open()
    latch.open()
    await asyncio.wait_for(waiting, 1)


@scenario
async def test_a_wait_ends_after_its_time_and_leaves_nothing_behind() -> None:
    """The next wait begins anew, and the timer of the last one does not open it."""
    latch = Latch()
    await latch.wait(0.005)
    waiting = asyncio.create_task(latch.wait(0.02))
    await asyncio.sleep(0)
    latch.open()
    await waiting
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(latch.wait(), 0.04)


@scenario
async def test_a_cancelled_wait_loses_no_opening() -> None:
    """Who waits next is let through."""
    latch = Latch()
    waiting = asyncio.create_task(latch.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    latch.open()
    await asyncio.wait_for(latch.wait(), 1)


def test_a_tick_calls_each_who_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it asked; and who asks during a tick is called at the next one."""
    monkeypatch.setattr(latch_module, "TICK", 0.01)
    ticker = Ticker()
    called: list[str] = []

    class Asking:
        def __init__(self, name: str, again: bool = False) -> None:
            self.name, self.again = name, again

        def tick(self) -> None:
            called.append(self.name)
            if self.again:
                self.again = False
                ticker.add(self)

    async def whole() -> None:
        one, two = Asking("one"), Asking("two", again=True)
        for who in (one, two, one, one):
            ticker.add(who)
        while not called:
            await asyncio.sleep(0.001)
        assert sorted(called) == ["one", "two"]
        while len(called) < 3:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.03)
        assert sorted(called) == ["one", "two", "two"]

    asyncio.run(whole())
