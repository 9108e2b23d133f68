"""The engine: whose runs are carried here, and that none is left to nobody."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from flowbook.codec import digest, encode
from flowbook.errors import RunUnfinished
from flowbook.graph.flow import graph
from flowbook.graph.pause import wait
from flowbook.graph.step import step
from flowbook.ids import new_id
from flowbook.plan.records import Status
from flowbook.ports import NewRun
from flowbook.run import runner as runner_module
from flowbook.store.memory import MemoryStore
from tests.unit.run.apps import Apps, scenario, until


class Slow(MemoryStore):
    """The answer to a settlement comes late, as over a network: others see the run before its last owner does."""

    async def settle(self, settlement: Any) -> bool:
        settled = await super().settle(settlement)
        await asyncio.sleep(0.05)
        return settled


@scenario
async def test_a_run_that_is_claimed_while_its_runner_ends_is_carried(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that claims its own parked run before it knows that it has parked must not lose it."""
    monkeypatch.setattr(runner_module, "LINGER", -1.0)
    calls: list[int] = []

    @step(retries=3, backoff=(0.01,))
    def flaky() -> str:
        calls.append(1)
        if len(calls) < 4:
            raise ValueError("again")
        return "done"

    app = await apps.open(store=Slow)
    flow = graph("f", flaky)
    await app.register(flow)
    working = asyncio.create_task(app.work())
    await asyncio.sleep(0)
    run = await app.start(flow)
    assert await run.result(timeout=5) == {"flaky": "done"}
    assert len(calls) == 4
    working.cancel()


@scenario
async def test_a_kernel_claims_only_what_it_started(apps: Apps) -> None:
    """Not another notebook's run of the same flow, though it knows the code."""
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    flow = graph("f", step(name="wait")(wait))
    first, second = await apps.open(), await apps.open()
    run = await first.start(flow)
    await second.register(flow)
    await apps.crash(first)
    await asyncio.sleep(0.1)
    assert (await second.store.run(run.id)).status is Status.PENDING
    assert not second.engine.carries(run.id)


@scenario
async def test_workers_share_the_runs_and_run_each_once(apps: Apps) -> None:
    """No run is handed out twice, none is left, and nobody idles while others have all."""
    done: list[tuple[int, int]] = []

    @step
    async def work(n: int, ctx: Any) -> None:
        await asyncio.sleep(0.001)
        done.append((n, ctx.attempt))

    flow = graph("f", work)
    starter = await apps.open()
    workers = [await apps.open() for _ in range(3)]
    registered = await starter.register(flow)
    d = registered.definition
    for n in range(60):
        data = encode({"n": n})
        await starter.store.start(
            NewRun(new_id(), "default", "f", d.fingerprint, d.version, data, digest(data), claim=False)
        )
    for app in workers:
        await app.register(flow)
    working = [asyncio.create_task(app.work(concurrency=4)) for app in workers]
    await until(lambda: len(done) == 60)
    await asyncio.sleep(0.05)
    assert sorted(done) == [(n, 1) for n in range(60)]
    rows = await starter.runs(status="completed", limit=100)
    assert len(rows) == 60
    assert all(row.claims == 1 for row in rows)
    for task in working:
        task.cancel()


@scenario
async def test_a_worker_carries_no_more_than_its_concurrency(apps: Apps) -> None:
    """The rest stays for others."""
    now: list[int] = []
    most: list[int] = []

    @step
    async def work() -> None:
        now.append(1)
        most.append(len(now))
        await asyncio.sleep(0.005)
        now.pop()

    flow = graph("f", work)
    app = await apps.open()
    d = (await app.register(flow)).definition
    data = encode({})
    for _ in range(12):
        await app.store.start(
            NewRun(new_id(), "default", "f", d.fingerprint, d.version, data, digest(data), claim=False)
        )
    working = asyncio.create_task(app.work(concurrency=3))
    await until(lambda: len(most) == 12 and not now)
    assert max(most) == 3
    working.cancel()


@scenario
async def test_one_failing_look_does_not_end_the_looking(
    apps: Apps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does a run that was deleted meanwhile; the others are carried on."""
    monkeypatch.setattr(runner_module, "LINGER", -1.0)
    calls: list[str] = []

    @step(retries=1, backoff=(0.05,))
    def flaky(n: str) -> str:
        calls.append(n)
        if calls.count(n) == 1:
            raise ValueError("again")
        return "done"

    app, flow = await apps.open(), graph("f", flaky)
    gone, kept = await app.start(flow, n="gone"), await app.start(flow, n="kept")
    while {await gone.status(), await kept.status()} != {Status.WAITING}:
        await asyncio.sleep(0.001)
    del apps.database.runs[gone.id]
    plain, failures = app.store.claim, [RuntimeError("once")]

    async def failing(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return await plain(*args, **kwargs)

    monkeypatch.setattr(app.store, "claim", failing)
    assert await kept.result(timeout=5) == {"n": "kept", "flaky": "done"}
    assert not failures
    assert "looking for runs" in caplog.text


@scenario
async def test_a_result_that_does_not_come_in_time_leaves_the_run_alone(apps: Apps) -> None:
    """The waiting ends, the run goes on."""
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    app = await apps.open()
    run = await app.start(graph("f", step(name="wait")(wait)))
    with pytest.raises(RunUnfinished, match=r"after 0.02 s"):
        await run.result(timeout=0.02)
    gate.set()
    assert await run.result() == {"wait": None}


@scenario
async def test_many_may_wait_for_one_run(apps: Apps) -> None:
    """Here and in another process; one that gives up does not take the others with it."""
    gate = asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    flow = graph("f", step(name="wait")(wait))
    app, other = await apps.open(), await apps.open()
    run = await app.start(flow)
    await other.register(flow)
    waiting = [asyncio.create_task(run.result()) for _ in range(3)]
    waiting.append(asyncio.create_task(other.result(run.id)))
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [{"wait": None}] * 3


@scenario
async def test_a_store_that_is_not_steady_starts_nothing(apps: Apps) -> None:
    """While this process may have been given up for dead, no body begins; afterwards the run goes on."""
    calls: list[int] = []

    class Shaky(MemoryStore):
        sure = False

        @property
        def steady(self) -> bool:
            return self.sure and super().steady

    app = await apps.open(store=Shaky)
    run = await app.start(graph("f", step(name="a")(lambda: calls.append(1))))
    await asyncio.sleep(0.05)
    assert not calls
    app.store.sure = True  # type: ignore[attr-defined]
    await run.result(timeout=5)
    assert calls == [1]


@scenario
async def test_a_finished_run_leaves_nothing_to_the_garbage_collector(apps: Apps) -> None:
    """What carried it is gone with its last reference: a circle per run would make the collector work at each step."""
    app = await apps.open()
    runners: list[weakref.ref[Any]] = []

    @step
    async def look() -> int:
        runners.extend(weakref.ref(runner) for runner in app.engine._runners.values())
        return 1

    gc.collect()
    gc.disable()
    try:
        assert await (await app.start(graph("f", look))) == {"look": 1}
        await until(lambda: runners[0]() is None)
    finally:
        gc.enable()
    assert len(runners) == 1
    assert not app.engine._changed, "nobody waits for it any more"


@scenario
async def test_many_that_wait_for_parked_runs_share_their_looks(apps: Apps) -> None:
    """Whoever waits for a parked run asks once, and then together twice a second, not each for himself."""
    asked: list[Any] = []

    class Counting(MemoryStore):
        async def run(self, run_id: Any) -> Any:
            asked.append(run_id)
            return await super().run(run_id)

    app = await apps.open(store=Counting)
    flow = graph("f", wait("go"))
    runs = [await app.start(flow) for _ in range(200)]
    waiting = [asyncio.ensure_future(run.result()) for run in runs]
    await until(lambda: len(app.engine._parked) == len(runs) and len(set(asked)) == len(runs))
    await asyncio.sleep(0.1)
    asked.clear()
    await asyncio.sleep(1.2)
    assert len(asked) < 100
    for run in runs:
        await run.signal("go")
    async with asyncio.timeout(20):
        await asyncio.gather(*waiting)
