"""Resources: made when a step first asks, one per app, closed with it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from flowbook.errors import BindingError, StepTimeout, WrongLoop
from flowbook.graph.flow import graph
from flowbook.graph.resource import resource
from flowbook.graph.step import step
from tests.unit.run.apps import Apps, scenario

LOG: list[str] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


@resource
async def base() -> AsyncIterator[str]:
    LOG.append("open base")
    yield "base"
    LOG.append("close base")


@resource
def client(base: str) -> Iterator[list[str]]:
    LOG.append("open client")
    yield [base, threading.current_thread().name]
    LOG.append("close client")


@step
async def first(client: list[str]) -> Any:
    client.append("seen")
    return {"one": client[0]}


@step
def second(client: list[str]) -> Any:
    return {"two": list(client)}


@scenario
async def test_a_resource_is_made_once_per_app_and_closed_with_it(apps: Apps) -> None:
    """Every step of every run gets the very same thing; what it needs is closed after it."""
    flow = graph("f", first >> second)
    app, other = await apps.open(), await apps.open()
    assert LOG == []
    found = await asyncio.gather(*[(await app.start(flow)).result() for _ in range(3)])
    assert found[0]["two"][0] == "base"
    assert found[0]["two"][1].startswith("flowbook-step")
    assert LOG == ["open base", "open client"]
    await (await other.start(flow)).result()
    assert LOG == ["open base", "open client"] * 2
    LOG.clear()
    await apps.close()
    apps._open.clear()
    assert LOG == ["close client", "close base"] * 2


@scenario
async def test_a_parameter_is_filled_by_the_state_before_a_result_before_a_resource(apps: Apps) -> None:
    """product.md, "Parameters are filled by name"."""

    @resource
    def one() -> str:
        return "resource"

    @resource
    def two() -> str:
        return "resource"

    @resource
    def three() -> str:
        return "resource"

    @step(name="two")
    def two_() -> Any:
        return {"x": 1}

    @step
    def look(one: Any, two: Any, three: Any = "default") -> Any:
        return {"saw": [one, two, three]}

    app = await apps.open()
    run = await app.start(graph("f", two_ >> look, resources=[one, two, three]), {"one": "state"})
    assert (await run.result())["saw"] == ["state", {"x": 1}, "resource"]


@scenario
async def test_a_resource_that_cannot_be_made_fails_the_attempt_and_is_tried_again(apps: Apps) -> None:
    """Its error is the step's, and the step's retries are its retries."""
    tries: list[int] = []

    @resource
    async def shaky() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("not yet")
        return "made"

    @step(retries=2, backoff=[0])
    def look(shaky: str) -> str:
        return shaky

    app = await apps.open()
    assert await (await app.start(graph("f", look, resources=[shaky]))).result() == {"look": "made"}
    assert len(tries) == 3


@scenario
async def test_making_a_resource_is_under_the_steps_time_limit(apps: Apps) -> None:
    """A connect that hangs hangs no run."""

    @resource
    async def hangs() -> None:
        await asyncio.sleep(60)

    @step(timeout=0.05)
    def look(hangs: Any) -> None: ...

    app = await apps.open()
    with pytest.raises(StepTimeout):
        await (await app.start(graph("f", look, resources=[hangs]))).result()


@scenario
async def test_a_cancelled_step_does_not_take_the_resource_from_the_others(apps: Apps) -> None:
    """Two wait for it while it is made; one of them is cancelled."""
    gate, asked = asyncio.Event(), asyncio.Event()

    @resource
    async def slow() -> str:
        asked.set()
        await gate.wait()
        return "made"

    @step
    def look(slow: str) -> str:
        return slow

    app, flow = await apps.open(), graph("f", look, resources=[slow])
    one = await app.start(flow)
    await asked.wait()
    two = await app.start(flow)
    await one.cancel()
    with pytest.raises(Exception, match="cancelled"):
        await one.result()
    gate.set()
    assert await two.result() == {"look": "made"}


@scenario
async def test_a_resource_is_left_by_the_task_that_entered_it(apps: Apps) -> None:
    """A task group inside of one works: it refuses to be left by another task."""

    @resource
    async def group() -> AsyncIterator[asyncio.TaskGroup]:
        async with asyncio.TaskGroup() as made, asyncio.timeout(None):
            yield made

    @step
    async def look(group: asyncio.TaskGroup) -> str:
        return await group.create_task(asyncio.sleep(0, "done"))

    app = await apps.open()
    assert await (await app.start(graph("f", look, resources=[group]))).result() == {"look": "done"}


@scenario
async def test_a_step_in_another_process_gets_no_resource(apps: Apps) -> None:
    """It stays here, and the error says so before anything is sent."""

    @resource
    def local() -> int:
        return 1

    @step(executor="process")
    def look(local: int) -> int:
        return local

    app = await apps.open()
    with pytest.raises(BindingError, match='has executor="process" and asks for the resource'):
        await (await app.start(graph("f", look, resources=[local]))).result()


@scenario
async def test_a_client_of_another_loop_is_explained(apps: Apps) -> None:
    """A lock of the notebook's loop, used on the engine's: asyncio's own words say little."""
    made: list[asyncio.Lock] = []

    def cell() -> None:
        async def inner() -> None:
            lock = asyncio.Lock()
            await lock.acquire()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(lock.acquire(), 0.01)  # contended once: it belongs to this loop now
            made.append(lock)

        asyncio.run(inner())

    await asyncio.to_thread(cell)

    @step(retries=3)
    async def look() -> None:
        async with made[0]:
            pass

    app = await apps.open()
    run = await app.start(graph("f", look))
    with pytest.raises(WrongLoop, match=r"@fb\.resource async def client") as told:
        await run.result()
    assert isinstance(told.value.__cause__, RuntimeError)
    assert len((await run.view()).steps[0].attempts) == 1  # another attempt would end the same


@scenario
async def test_a_steps_own_runtime_error_is_left_alone(apps: Apps) -> None:
    """Only asyncio's words about loops are explained."""

    @step
    async def look() -> None:
        raise RuntimeError("something different")

    app = await apps.open()
    with pytest.raises(RuntimeError, match="something different"):
        await (await app.start(graph("f", look))).result()
