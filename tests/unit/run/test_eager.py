"""Eager attempts: a coroutine that need not wait gets no task, and one that waits cannot tell the difference.

Owns: what `asyncio.current_task`, time limits, cancelling, context variables and shared futures promise to a coroutine
that was begun on a stage. Refuses: runs (`test_engine.py` and its neighbours, which all begin their steps so).
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from flowbook.run.eager import Stages

SPOT: contextvars.ContextVar[str] = contextvars.ContextVar("spot", default="outside")


def scenario(test: Callable[[Stages], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test on a loop of its own, with stages that are closed at its end and leave no task behind."""

    @functools.wraps(test)
    def run() -> None:
        async def whole() -> None:
            stages = Stages()
            async with asyncio.timeout(20):
                await test(stages)
                await stages.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(whole())

    run.__dict__.pop("__wrapped__")  # or pytest would ask for a fixture of its parameter's name
    return run


@scenario
async def test_a_coroutine_that_never_waits_has_ended_when_begin_returns(stages: Stages) -> None:
    """And its stage is used again: ten of them are of one task."""
    tasks = set()

    async def quick() -> None:
        tasks.add(asyncio.current_task())

    for _ in range(10):
        assert stages.begin(quick(), "quick#1") is None
    assert len(tasks) == 1
    assert asyncio.current_task() not in tasks


@scenario
async def test_a_coroutine_that_waits_is_one_task_from_its_first_line_to_its_last(stages: Stages) -> None:
    """Also on a stage that was used before and rests, and the task has the name of the attempt."""
    seen: list[Any] = []

    async def idle() -> None:
        pass

    async def slow() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0.01)
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    for rested in (False, True):
        if rested:
            stages.begin(idle(), "idle#1")
            await asyncio.sleep(0.01)
        seen.clear()
        task = stages.begin(slow(), "slow#1")
        assert task is not None
        assert task.get_name() == "slow#1"
        await task
        assert seen == [task] * 3


@scenario
async def test_a_time_limit_that_is_set_before_the_first_wait_stops_the_coroutine_and_nobody_else(
    stages: Stages,
) -> None:
    """``asyncio.timeout`` asks for the current task when it is entered, which is before anybody has waited."""
    ended: list[str] = []

    async def limited() -> None:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(10)
        except TimeoutError:
            ended.append("limited")

    task = stages.begin(limited(), "limited#1")
    assert task is not None
    await task
    assert ended == ["limited"]
    me = asyncio.current_task()
    assert me is not None
    assert not me.cancelling()


@pytest.mark.parametrize("rested", [False, True])
@pytest.mark.parametrize("turns", [0, 1, 2])
def test_a_cancel_is_heard_whenever_it_comes(rested: bool, turns: int) -> None:
    """Before the task had a turn of its own, and later: the body hears of it, and so does what it waits for."""

    async def whole() -> None:
        stages, heard = Stages(), []

        async def inner() -> None:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                heard.append("inner")
                raise

        async def outer() -> None:
            try:
                await asyncio.ensure_future(inner())
            except asyncio.CancelledError:
                heard.append("outer")
                raise

        async def idle() -> None:
            pass

        if rested:
            stages.begin(idle(), "idle#1")
            await asyncio.sleep(0.01)
        task = stages.begin(outer(), "outer#1")
        assert task is not None
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # A task that is cancelled before its first turn never begins: that is asyncio's own rule.
        assert heard in (["inner", "outer"], *([["outer"]] if not turns else []))
        assert asyncio.all_tasks() - {asyncio.current_task()} <= {stage.task for stage in stages._idle}
        await stages.close()

    asyncio.run(whole())


@scenario
async def test_context_variables_are_the_attempts_own(stages: Stages) -> None:
    """What a coroutine sets it keeps over its waits, and nobody else sees it: neither the caller nor the next one."""
    seen: list[str] = []

    async def quick() -> None:
        seen.append(SPOT.get())
        SPOT.set("inside")

    async def slow() -> None:
        SPOT.set("slow")
        await asyncio.sleep(0.01)
        seen.append(SPOT.get())

    assert stages.begin(quick(), "quick#1") is None
    assert stages.begin(quick(), "quick#2") is None
    task = stages.begin(slow(), "slow#1")
    assert task is not None
    await task
    SPOT.set("caller")
    assert stages.begin(quick(), "quick#3") is None
    assert seen == ["outside", "outside", "slow", "caller"]
    assert SPOT.get() == "caller"


@scenario
async def test_many_may_wait_for_one_future(stages: Stages) -> None:
    """Whoever else waits for it in the same turn takes nothing away from them."""
    shared: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    got: list[int] = []

    async def waiting() -> None:
        got.append(await shared)

    async def other() -> None:
        got.append(await shared)

    others = [asyncio.ensure_future(other()) for _ in range(3)]
    tasks = [stages.begin(waiting(), f"waiting#{i}") for i in range(3)]
    await asyncio.sleep(0.01)
    shared.set_result(7)
    await asyncio.gather(*others, *(task for task in tasks if task is not None))
    assert got == [7] * 6


@scenario
async def test_an_error_before_the_first_wait_is_raised_at_once_and_one_after_it_is_the_tasks(stages: Stages) -> None:
    """And the stage of the first one is free for others."""

    async def broken(seconds: float) -> None:
        if seconds:
            await asyncio.sleep(seconds)
        raise ValueError(seconds)

    with pytest.raises(ValueError, match=r"0\.0"):
        stages.begin(broken(0.0), "broken#1")
    task = stages.begin(broken(0.01), "broken#2")
    assert task is not None
    with pytest.raises(ValueError, match=r"0\.01"):
        await task


@scenario
async def test_what_is_no_asyncio_is_told_so(stages: Stages) -> None:
    """A coroutine of another framework gets asyncio's own error where it waits, as in any task."""

    class Foreign:
        def __await__(self) -> Any:
            yield "foreign"

    async def foreign() -> None:
        await Foreign()

    task = stages.begin(foreign(), "foreign#1")
    assert task is not None
    with pytest.raises(RuntimeError, match="bad yield"):
        await task
