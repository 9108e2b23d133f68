"""Keys: one key, one run, whatever happened to it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from pydantic import BaseModel, Field

from flowbook.errors import CodeMissing, KeyConflict
from flowbook.graph.flow import Graph, graph
from flowbook.graph.imperative import flow as imperative
from flowbook.graph.step import step
from flowbook.plan.records import Status
from tests.unit.run.apps import Apps, scenario

_made = itertools.count(1)


class Order(BaseModel):
    """What is ordered; each one gets a number of its own."""

    id: int
    parts: dict[str, int] = {}
    serial: int = Field(default_factory=lambda: next(_made))


class Body:
    """A flow of one step that counts, waits and fails as it is told."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.fails = False
        self.gate.set()

    @property
    def flow(self) -> Graph:
        async def work(n: Any = 0) -> Any:
            self.calls += 1
            await self.gate.wait()
            if self.fails:
                raise ValueError("boom")
            return n

        return graph("keyed", step(name="work")(work))


@scenario
async def test_four_concurrent_starts_run_the_body_once(apps: Apps) -> None:
    """From two processes at once; all four get the same run and its result."""
    body = Body()
    flow = body.flow
    one, two = await apps.open(), await apps.open()
    runs = await asyncio.gather(*(app.start(flow, n=5, key="k") for app in (one, two, one, two)))
    assert len({run.id for run in runs}) == 1
    assert [await run.result() for run in runs] == [{"n": 5, "work": 5}] * 4
    assert body.calls == 1


@scenario
async def test_a_run_still_going_is_attached(apps: Apps) -> None:
    """The second start does not start anything."""
    body = Body()
    body.gate.clear()
    app, flow = await apps.open(), body.flow
    first = await app.start(flow, key="k")
    while not body.calls:
        await asyncio.sleep(0.002)
    second = await app.start(flow, key="k")
    assert second.id == first.id
    body.gate.set()
    assert await second.result() == {"work": 0}
    assert body.calls == 1


@scenario
async def test_a_completed_run_gives_its_result(apps: Apps) -> None:
    """Not an error, and not a second execution; also in a new process."""
    body = Body()
    flow = body.flow
    app = await apps.open()
    await (await app.start(flow, key="k", n=3)).result()
    other = await apps.open()
    assert await (await other.start(flow, key="k", n=3)).result() == {"n": 3, "work": 3}
    assert body.calls == 1


@scenario
async def test_a_failed_run_is_its_handle_with_the_error(apps: Apps) -> None:
    """It is not run again by itself; it can be retried through the handle."""
    body = Body()
    body.fails = True
    flow, app = body.flow, await apps.open()
    with pytest.raises(ValueError, match="boom"):
        await (await app.start(flow, key="k")).result()
    again = await app.start(flow, key="k")
    assert await again.status() is Status.FAILED
    with pytest.raises(ValueError, match="boom"):
        await again.result()
    assert body.calls == 1
    body.fails = False
    assert await (await again.retry()).result() == {"work": 0}


@scenario
async def test_a_new_input_under_a_key_is_an_error_that_shows_both(apps: Apps) -> None:
    """And the stored input stays as it was."""
    body = Body()
    flow, app = body.flow, await apps.open()
    run = await app.start(flow, n=1, key="k")
    with pytest.raises(KeyConflict, match=r"(?s)'k'.*'n': 1.*'n': 2"):
        await app.start(flow, n=2, key="k")
    assert await run.result() == {"n": 1, "work": 1}
    assert await (await app.start(flow, n=2, key="other")).result() == {"n": 2, "work": 2}


@pytest.mark.parametrize("other", [True, 1.0, "1", [1]], ids=repr)
@scenario
async def test_a_value_of_another_type_is_another_input(apps: Apps, other: Any) -> None:
    """1, 1.0 and True are different inputs, though Python calls them equal."""
    body = Body()
    flow, app = body.flow, await apps.open()
    await (await app.start(flow, n=1, key="k")).result()
    with pytest.raises(KeyConflict):
        await app.start(flow, n=other, key="k")


@scenario
async def test_the_order_of_the_input_is_no_part_of_it(apps: Apps) -> None:
    """The same names and values, typed in another order, are the same input; inside it as well."""
    body = Body()
    flow, app = body.flow, await apps.open()
    first = await app.start(flow, {"n": {"x": 1, "y": [{"a": 1, "b": 2}]}, "m": 2}, key="k")
    second = await app.start(flow, {"m": 2, "n": {"y": [{"b": 2, "a": 1}], "x": 1}}, key="k")
    assert first.id == second.id
    await second.result()
    assert body.calls == 1


@scenario
async def test_an_orphan_under_its_key_goes_on(apps: Apps) -> None:
    """A notebook's cell that is run again after the kernel died takes its run up where it was."""
    done: list[str] = []
    gate = asyncio.Event()

    async def second() -> None:
        await gate.wait()
        done.append("second")

    flow = graph("f", step(name="first")(lambda: done.append("first")) >> step(name="second")(second))
    app = await apps.open()
    run = await app.start(flow, key="k")
    while not done:
        await asyncio.sleep(0.002)
    await asyncio.sleep(0.01)
    await apps.crash(app)
    other = await apps.open()
    again = await other.start(flow, key="k")
    assert again.id == run.id
    gate.set()
    assert await again.result() == {"first": None, "second": None}
    assert done == ["first", "second"]


@scenario
async def test_a_cancelled_run_under_its_key_stays_cancelled(apps: Apps) -> None:
    """Starting it again tells so."""
    body = Body()
    body.gate.clear()
    flow, app = body.flow, await apps.open()
    run = await app.start(flow, key="k")
    await run.cancel()
    with pytest.raises(Exception, match="cancelled"):
        await run.result()
    again = await app.start(flow, key="k")
    assert (again.id, await again.status()) == (run.id, Status.CANCELLED)


@scenario
async def test_a_key_is_of_its_namespace(apps: Apps) -> None:
    """Another tenant's run with the same flow and key is another run."""
    body = Body()
    flow = body.flow
    one, two = await apps.open(namespace="one"), await apps.open(namespace="two")
    runs = [await one.start(flow, key="k", n=1), await two.start(flow, key="k", n=2)]
    assert [await run.result() for run in runs] == [{"n": 1, "work": 1}, {"n": 2, "work": 2}]
    assert [row.id for row in await two.runs()] == [runs[1].id]


@scenario
async def test_changed_code_under_the_key_of_an_orphan_is_never_silent(apps: Apps) -> None:
    """The start says which run it is, what changed, and the ways on; the run is left as it was."""
    gate = asyncio.Event()

    async def work() -> int:
        await gate.wait()
        return 1

    old = graph("edited", step(name="work")(work))

    async def work() -> int:  # type: ignore[no-redef]
        return 2

    new = graph("edited", step(name="work")(work))
    one, two = await apps.open(), await apps.open()
    first = await one.start(old, key="k")
    attached = await two.start(new, key="k")
    assert attached.id == first.id  # a live process carries it: nothing is missing
    await apps.crash(one)
    with pytest.raises(CodeMissing, match=r"step `work` changed.*--from-source.*another key"):
        await two.start(new, key="k")
    assert (await two.store.run(first.id)).status is Status.PENDING
    gate.set()
    await two.start(old, key="k")
    assert await two.result(first.id) == {"work": 1}


@scenario
async def test_a_model_and_the_dict_it_is_made_of_are_one_input(apps: Apps) -> None:
    """To an imperative flow, whose annotation makes the model; defaults made anew each time make no other input."""
    app = await apps.open()

    @imperative
    async def shop(ctx: Any, order: Order, times: int = 1) -> int:
        return order.id * times

    first = await app.start(shop, key="k", order=Order(id=3, parts={"a": 1, "b": 2}))
    assert await first.result() == 3
    for same in ({"id": 3, "parts": {"b": 2, "a": 1}}, Order(parts={"b": 2, "a": 1}, id=3)):
        assert (await app.start(shop, key="k", order=same)).id == first.id
    for other in (Order(id=4, parts={"a": 1, "b": 2}), {"id": 3}):
        with pytest.raises(KeyConflict):
            await app.start(shop, key="k", order=other)
