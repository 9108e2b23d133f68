"""`flowbook.testing`: what users test their flows with."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

import flowbook.testing
from flowbook.graph.flow import graph
from flowbook.graph.step import step
from flowbook.testing import FixedClock, MemoryDatabase, memory_app, run_to_completion


@step
def double(n: int) -> dict[str, int]:
    return {"n": n * 2}


@step
async def fails(n: int) -> None:
    raise LookupError(f"no {n}")


def test_a_flow_runs_to_its_result_in_one_call() -> None:
    """Input in, state out."""
    assert run_to_completion(graph("twice", double >> double.as_("again")), n=3) == {"n": 12}


def test_the_steps_own_exception_is_raised() -> None:
    """A test can expect it by its class."""
    with pytest.raises(LookupError, match="no 3"):
        run_to_completion(graph("bad", fails), n=3)


def test_it_can_be_called_where_a_loop_runs_already() -> None:
    """In a notebook, or in an async test."""

    async def inside() -> dict[str, int]:
        result: dict[str, int] = run_to_completion(graph("one", double), n=1)
        return result

    assert asyncio.run(inside()) == {"n": 2}


def test_apps_on_one_database_see_the_same_runs() -> None:
    """What one has ended, the other reads."""

    async def scenario() -> None:
        database, flow = MemoryDatabase(), graph("one", double)
        async with memory_app(database) as app, memory_app(database) as other:
            run = await app.start(flow, n=1)
            await run
            await other.register(flow)
            assert await (await other.run(run.id)).result() == {"n": 2}

    asyncio.run(scenario())


def test_the_clock_moves_when_it_is_told_to() -> None:
    """And not otherwise."""
    clock = FixedClock()
    before = clock.now()
    assert clock.now() == before
    clock.advance(90)
    assert clock.now() - before == timedelta(seconds=90)


def test_every_public_name_is_there() -> None:
    """`__all__` is what the module offers."""
    assert all(hasattr(flowbook.testing, name) for name in flowbook.testing.__all__)
