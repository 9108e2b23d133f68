"""Races on their way: the winner is durable before a loser is stopped, and nothing of a loser is kept."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from flowbook.errors import RunCancelled
from flowbook.graph.flow import graph
from flowbook.graph.mapping import map_
from flowbook.graph.pause import sleep, wait
from flowbook.graph.race import race
from flowbook.graph.step import step
from flowbook.graph.subflow import subflow
from flowbook.observe.views import State
from flowbook.plan.events import StepDropped
from flowbook.plan.records import Status
from tests.unit.run.apps import Apps, scenario, step_of, until
from tests.unit.run.test_pauses import Log, logs, parked


@scenario
async def test_the_winners_result_counts_and_the_loser_is_cancelled(apps: Apps) -> None:
    """The run does not wait for it, and the journal says who lost."""
    app, told = await apps.open(), list[str]()

    @step
    async def slow() -> dict[str, Any]:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            told.append("cancelled")
            raise
        return {"log": ["slow"]}

    run = await app.start(graph("f", race(logs("quick"), slow) >> logs("end"), state=Log))
    assert await run.result(5) == {"log": ["quick", "end"]}
    await until(lambda: told == ["cancelled"])
    assert apps.kinds(run) == ["quick#1 finished", "slow#1 dropped", "end#1 finished", "completed"]
    assert [s.state for s in (await run.view()).steps if s.path == "slow#1"] == [State.CANCELLED]


@scenario
async def test_a_loser_that_is_cancelled_has_not_failed(apps: Apps) -> None:
    """No attempt is recorded for it, whatever it raises when it is stopped."""
    app, stopped = await apps.open(), asyncio.Event()

    @step(retries=3)
    async def angry() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.set()
            raise ValueError("not now")

    run = await app.start(graph("f", race(logs("quick"), angry) >> wait("go")))
    await parked(app, run)
    await until(stopped.is_set)
    await asyncio.sleep(0.05)
    assert apps.kinds(run) == ["quick#1 finished", "angry#1 dropped", "go#1 waiting"]
    await run.signal("go")
    assert (await run.result(5))["log"] == ["quick"]


@scenario
async def test_a_thread_that_cannot_be_stopped_holds_up_nothing(apps: Apps) -> None:
    """It goes on by itself; what it returns is dropped."""
    app, gate, left = await apps.open(), threading.Event(), threading.Event()

    @step
    def deaf() -> dict[str, Any]:
        gate.wait(10)
        left.set()
        return {"log": ["deaf"]}

    run = await app.start(graph("f", race(logs("quick"), deaf) >> logs("end"), state=Log))
    try:
        assert await run.result(5) == {"log": ["quick", "end"]}
        assert not left.is_set()
    finally:
        gate.set()
    await until(left.is_set)
    assert "deaf#1 finished" not in apps.kinds(run)
    assert await run.status() is Status.COMPLETED


@scenario
async def test_two_that_finish_in_the_same_moment_are_one_winner(apps: Apps) -> None:
    """The second outcome of one flush finds its race decided, and is dropped."""
    app = await apps.open()
    gate = asyncio.Event()

    def gated(name: str) -> Any:
        async def body() -> dict[str, Any]:
            await gate.wait()
            return {"log": [name]}

        return step(name=name)(body)

    run = await app.start(graph("f", race(gated("a"), gated("b"), gated("c")) >> logs("end"), state=Log))
    await until(lambda: len(app.engine.attempts(run.id)) == 3)
    gate.set()
    log = (await run.result(5))["log"]
    assert log in (["a", "end"], ["b", "end"], ["c", "end"])
    assert len([e for e in apps.events(run.id) if isinstance(e, StepDropped)]) == 2


@scenario
async def test_a_time_limit_stops_the_work(apps: Apps) -> None:
    """``race(work, sleep(...))``: what follows sees that there is no result."""
    app = await apps.open()

    @step
    async def work() -> str:
        await asyncio.sleep(3600)
        return "done"

    @step
    def report(work: str = "too late") -> dict[str, Any]:
        return {"said": work}

    run = await app.start(graph("f", race(work, sleep("20ms", name="limit")) >> report))
    assert await run.result(5) == {"said": "too late"}
    view = await run.view()
    assert step_of(view, "work#1").state is State.CANCELLED
    assert step_of(view, "limit#1").state is State.FINISHED


@scenario
async def test_work_in_time_ends_the_timer(apps: Apps) -> None:
    """The limit is no wait of the run any more: it parks at the next pause until a signal, not until the hour."""
    app = await apps.open()
    run = await app.start(graph("f", race(logs("work"), sleep("1h", name="limit")) >> wait("go"), state=Log))
    await parked(app, run)
    row = await app.store.run(run.id)
    assert row.current == "go#1"
    assert step_of(await run.view(), "limit#1").state is State.CANCELLED
    await run.signal("go")
    assert await run.result(5) == {"log": ["work"]}


@scenario
async def test_a_parked_race_goes_on_with_the_signal_that_comes_first(apps: Apps) -> None:
    """A race of pauses costs nothing while it waits; the other signal stays for whoever waits for it later."""
    app = await apps.open()
    again = wait("no", name="later")
    run = await app.start(graph("f", race(wait("yes") >> logs("yes_"), wait("no") >> logs("no_")) >> again))
    await parked(app, run)
    await run.signal("yes", n=1)
    await until(lambda: "later#1 waiting" in apps.kinds(run))
    await run.signal("no", n=2)
    assert await run.result(5) == {"yes": {"n": 1}, "log": ["yes_"], "no": {"n": 2}}


@scenario
async def test_a_member_that_fails_leaves_the_race_to_the_others(apps: Apps) -> None:
    """Its failure is kept in the journal, and the run goes on."""
    app, gate = await apps.open(), asyncio.Event()

    @step
    async def broken() -> None:
        raise ValueError("no")

    @step
    async def good() -> dict[str, Any]:
        await gate.wait()
        return {"log": ["good"]}

    run = await app.start(graph("f", race(broken, good) >> logs("end"), state=Log))
    await until(lambda: "broken#1 attempt" in apps.kinds(run))
    gate.set()
    assert await run.result(5) == {"log": ["good", "end"]}
    assert step_of(await run.view(), "broken#1").state is State.FAILED


@scenario
async def test_a_race_that_all_have_lost_fails_and_is_retried_as_a_whole(apps: Apps) -> None:
    """The first failure is the run's; a retry lets all members go on."""
    app, well = await apps.open(), list[int]()

    @step
    async def first() -> dict[str, Any]:
        if not well:
            raise ValueError("first")
        await asyncio.sleep(3600)
        return {}

    @step
    async def second() -> dict[str, Any]:
        if not well:
            raise KeyError("second")
        return {"log": ["second"]}

    run = await app.start(graph("f", race(first, second) >> logs("end"), state=Log))
    with pytest.raises((ValueError, KeyError)):
        await run.result(5)
    well.append(1)
    await run.retry()
    assert await run.result(5) == {"log": ["second", "end"]}


@scenario
async def test_a_race_is_taken_over_by_another_process(apps: Apps) -> None:
    """What has lost is not begun again, and what was under way in an undecided race is."""
    one, calls = await apps.open(), list[str]()
    gate = asyncio.Event()

    @step
    async def slow() -> dict[str, Any]:
        calls.append("slow")
        await asyncio.sleep(3600)
        return {}

    @step
    async def after() -> dict[str, Any]:
        calls.append("after")
        await gate.wait()
        return {"log": ["after"]}

    flow = graph("f", race(logs("quick"), slow) >> after, state=Log)
    run = await one.start(flow)
    await until(lambda: "after" in calls)
    await apps.crash(one)
    two = await apps.open()
    await two.register(flow)
    gate.set()
    await two.resume(run.id)
    assert await (await two.run(run.id)).result(5) == {"log": ["quick", "after"]}
    assert calls.count("slow") == 1


@scenario
async def test_a_map_and_a_child_may_race(apps: Apps) -> None:
    """A map whose item has failed is out of the race, one that is slower is stopped with all its items."""
    app = await apps.open()

    @step
    async def item(item: int) -> int:
        if item == 2:
            raise ValueError("two")
        await asyncio.sleep(0 if item == 1 else 3600)
        return item

    slow = graph("slow", wait("never"))
    for items in ([1, 2], [3, 4]):
        members = race(map_(item, over="items"), subflow(slow), sleep("50ms", name="limit"))
        run = await app.start(graph("f", members >> logs("end")), {"items": items})
        assert (await run.result(10))["log"] == ["end"]
        assert step_of(await run.view(), "limit#1").state is State.FINISHED
        (child,) = await app.store.children(run.id)
        with pytest.raises(RunCancelled):
            await (await app.run(child.id)).result(10)
