"""Resuming: what a run does after a crash, a retry, a hand-over."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from typing import Annotated, Any, TypedDict

import pytest

from flowbook.errors import CodeMissing
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.step import LOST_LIMIT, Step, step
from flowbook.plan import snapshots
from flowbook.plan.events import AttemptFailed, StepStarted
from flowbook.plan.records import Status
from flowbook.run import runner as runner_module
from tests.unit.run.apps import Apps, scenario, until


class Log(TypedDict, total=False):
    """A list that steps add to."""

    log: Annotated[list[str], operator.add]


class Bodies:
    """Steps that count their calls; some wait, some fail."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.fails: set[str] = set()
        self.gates: dict[str, asyncio.Event] = {}

    def __call__(self, name: str, *, waits: bool = False, **options: Any) -> Step:
        if waits:
            self.gates[name] = asyncio.Event()

        async def body() -> dict[str, Any]:
            self.calls[name] += 1
            if waits:
                await self.gates[name].wait()
            if name in self.fails:
                raise ValueError(f"{name} fails")
            return {"log": [name]}

        return step(name=name, **options)(body)


@scenario
async def test_a_run_goes_on_in_another_process_where_it_stopped(apps: Apps) -> None:
    """Nothing finished is run again, what was under way is."""
    it = Bodies()
    flow = graph("f", it("a") >> [it("b"), it("c", waits=True)] >> it("d"), state=Log)
    first, second = await apps.open(), await apps.open()
    run = await first.start(flow)
    await until(lambda: apps.kinds(run) == ["a#1 finished", "b#1 finished"] and it.calls["c"] == 1)
    await apps.crash(first)
    await second.register(flow)
    resumed = await second.resume(run.id)
    it.gates["c"].set()
    assert await resumed.result() == {"log": ["a", "b", "c", "d"]}
    assert it.calls == {"a": 1, "b": 1, "c": 2, "d": 1}


@scenario
async def test_a_worker_takes_up_what_another_left(apps: Apps) -> None:
    """Killed between two steps, a run is found without being asked for."""
    it = Bodies()
    flow = graph("f", it("a") >> it("b", waits=True), state=Log)
    first, second = await apps.open(), await apps.open()
    await second.register(flow)
    working = asyncio.create_task(second.work())
    run = await first.start(flow)
    await until(lambda: bool(it.calls["b"]))
    it.gates["b"].set()
    await apps.crash(first)
    assert await second.result(run.id, timeout=5) == {"log": ["a", "b"]}
    assert it.calls["a"] == 1
    working.cancel()


@scenario
async def test_a_process_without_the_code_is_told_what_is_missing(apps: Apps) -> None:
    """The run stays as it is, and says what it needs."""
    it = Bodies()
    flow = graph("f", it("a", waits=True), state=Log)
    first, second = await apps.open(), await apps.open()
    run = await first.start(flow)
    await apps.crash(first)
    with pytest.raises(CodeMissing, match="flow 'f'"):
        await second.resume(run.id)
    needs = (await second.view(run.id)).needs
    assert needs is not None
    assert needs.startswith("code: f@")
    assert (await second.store.run(run.id)).status is Status.PENDING


@scenario
async def test_a_live_workers_run_is_left_with_it(apps: Apps) -> None:
    """Resuming what is being carried elsewhere does not run it twice."""
    it = Bodies()
    flow = graph("f", it("a", waits=True), state=Log)
    first, second = await apps.open(), await apps.open()
    run = await first.start(flow)
    await until(lambda: bool(it.calls["a"]))
    await second.register(flow)
    await second.resume(run.id)
    assert not second.engine.carries(run.id)
    it.gates["a"].set()
    assert await second.result(run.id) == {"log": ["a"]}
    assert it.calls == {"a": 1}


@scenario
async def test_a_stale_owner_writes_nothing(apps: Apps) -> None:
    """Fenced: its result is refused, its run object ends, the new owner's result stands."""
    it = Bodies()
    flow = graph("f", it("a", waits=True), state=Log)
    first, second = await apps.open(), await apps.open()
    run = await first.start(flow)
    await until(lambda: bool(it.calls["a"]))
    # The others take it for dead, though it lives: as after a long pause of its process.
    apps.database.release(first.store.worker_id, lost=True)
    await second.register(flow)
    resumed = await second.resume(run.id)
    await until(lambda: it.calls["a"] == 2)
    it.gates["a"].set()
    assert await resumed.result() == {"log": ["a"]}
    await until(lambda: not first.engine.carries(run.id))
    assert apps.kinds(run).count("a#1 finished") == 1
    assert await first.result(run.id) == {"log": ["a"]}


@scenario
async def test_a_retry_goes_on_from_the_failed_step(apps: Apps) -> None:
    """Good siblings are not run again; the budget of attempts is a new one."""
    it = Bodies()
    it.fails.add("b")
    flow = graph("f", it("a") >> [it("b", retries=1, backoff=(0,)), it("c")] >> it("d"), state=Log)
    app = await apps.open()
    run = await app.start(flow)
    with pytest.raises(ValueError, match="b fails"):
        await run.result()
    assert it.calls == {"a": 1, "b": 2, "c": 1}
    it.fails.clear()
    assert await (await run.retry()).result() == {"log": ["a", "b", "c", "d"]}
    assert it.calls == {"a": 1, "b": 3, "c": 1, "d": 1}
    assert (await run.view()).failure is None


@scenario
async def test_a_failing_member_does_not_cost_its_siblings_result(apps: Apps) -> None:
    """What is under way when a step fails may end, and is kept."""
    it = Bodies()
    it.fails.add("b")
    flow = graph("f", it("a") >> [it("b"), it("c", waits=True) >> it("e")] >> it("d"), state=Log)
    app = await apps.open()
    run = await app.start(flow)
    await until(lambda: "b#1 attempt" in apps.kinds(run))
    it.gates["c"].set()
    with pytest.raises(ValueError, match="b fails"):
        await run.result()
    assert apps.kinds(run) == ["a#1 finished", "b#1 attempt", "c#1 finished", "failed"]
    it.fails.clear()
    assert await (await run.retry()).result() == {"log": ["a", "b", "c", "e", "d"]}
    assert it.calls == {"a": 1, "b": 2, "c": 1, "d": 1, "e": 1}


@scenario
async def test_a_retry_in_another_process_is_seen_where_the_run_failed(apps: Apps) -> None:
    """What the first process remembers of the failure is not taken for the result."""
    it = Bodies()
    it.fails.add("a")
    flow = graph("f", it("a"), state=Log)
    first, second = await apps.open(), await apps.open()
    run = await first.start(flow)
    with pytest.raises(ValueError, match="a fails"):
        await run.result()
    it.fails.clear()
    await second.register(flow)
    assert await (await second.retry(run.id)).result() == {"log": ["a"]}
    assert await run.result() == {"log": ["a"]}


@scenario
async def test_a_retried_run_is_waited_for_to_its_new_end(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it parks in between."""
    monkeypatch.setattr(runner_module, "LINGER", 0.0)
    it = Bodies()
    it.fails.add("a")
    flow = graph("f", it("a", retries=1, backoff=(0.05,)), state=Log)
    app = await apps.open()
    run = await app.start(flow)
    with pytest.raises(ValueError, match="a fails"):
        await run.result()
    again = await run.retry()
    await until(lambda: it.calls["a"] == 3)
    it.fails.clear()
    assert await again.result() == {"log": ["a"]}


@scenario
async def test_a_back_off_outlives_a_crash(apps: Apps) -> None:
    """It neither starts again from zero nor is forgotten, and the budget is not a new one."""
    it = Bodies()
    it.fails.add("a")
    flow = graph("f", it("a", retries=1, backoff=(1.0,)), state=Log)
    first, second = await apps.open(), await apps.open()
    loop = asyncio.get_running_loop()
    run = await first.start(flow)
    await until(lambda: bool(apps.kinds(run)))
    failed_at = loop.time()
    await asyncio.sleep(0.6)
    await apps.crash(first)
    await second.register(flow)
    resumed = await second.resume(run.id)
    with pytest.raises(ValueError, match="a fails"):
        await resumed.result()
    assert 0.7 <= loop.time() - failed_at < 1.6  # it had failed a little before that was seen
    assert it.calls == {"a": 2}


@scenario
async def test_a_step_that_kills_its_process_is_tried_three_times(apps: Apps) -> None:
    """Attempts are counted across deaths, from the second one on durably before the body runs."""
    it = Bodies()
    killer = it("killer", waits=True)
    flow = graph("f", it("a") >> [killer, it("b") >> it("c")] >> it("d"), state=Log)
    app = await apps.open()
    run = await app.start(flow)
    await until(lambda: "c#1 finished" in apps.kinds(run))
    for n in range(LOST_LIMIT):
        await until(lambda n=n: it.calls["killer"] == n + 1)  # type: ignore[misc]
        if n == 0:
            app.engine._runners[run.id].tick()
            app.store._flush_notes()  # type: ignore[attr-defined]  # the 100 ms after which a beginning is noted
        await apps.crash(app)
        app = await apps.open()
        await app.register(flow)
        await app.resume(run.id)
    with pytest.raises(Exception, match="died before it ended"):
        await app.result(run.id)
    assert it.calls == {"a": 1, "b": 1, "c": 1, "killer": LOST_LIMIT}
    failures = [e for e in apps.events(run.id) if isinstance(e, AttemptFailed)]
    assert [e.lost for e in failures] == [True] * LOST_LIMIT
    assert [e.path for e in failures] == ["killer#1"] * LOST_LIMIT
    noted = [e for e in apps.events(run.id) if isinstance(e, StepStarted) and e.path == "killer#1"]
    assert [e.attempt for e in noted] == [1, 2, 3]


@scenario
async def test_a_closed_app_hands_its_runs_back(apps: Apps) -> None:
    """Without waiting long, and without the step being said to have killed its process."""
    it = Bodies()
    flow = graph("f", it("a") >> it("b", waits=True), state=Log)
    first, second = await apps.open(), await apps.open()
    run = await first.start(flow)
    await until(lambda: bool(it.calls["b"]))
    first.engine._runners[run.id].tick()
    first.store._flush_notes()  # type: ignore[attr-defined]
    await first.engine.close(grace=0.01)
    await first.store.close()
    apps._open.remove(first)
    row = await second.store.run(run.id)
    assert (row.status, row.lost) == (Status.PENDING, 0)
    await second.register(flow)
    resumed = await second.resume(run.id)
    it.gates["b"].set()
    assert await resumed.result() == {"log": ["a", "b"]}
    assert not [e for e in apps.events(run.id) if isinstance(e, AttemptFailed)]


@scenario
async def test_orderly_closes_do_not_use_up_a_steps_lives(apps: Apps) -> None:
    """Also where one real death has been before: a step is blamed for no more deaths than there were."""
    it = Bodies()
    flow = graph("f", it("a", waits=True), state=Log)
    app = await apps.open()
    run = await app.start(flow)
    for n in range(6):
        await until(lambda n=n: it.calls["a"] == n + 1)  # type: ignore[misc]
        if run.id in app.engine._runners:
            app.engine._runners[run.id].tick()
            app.store._flush_notes()  # type: ignore[attr-defined]
        if n == 1:
            await apps.crash(app)
        else:
            await app.engine.close(grace=0.01)
            await app.store.close()
            apps._open.remove(app)
        app = await apps.open()
        await app.register(flow)
        await app.resume(run.id)
    it.gates["a"].set()
    assert await app.result(run.id) == {"log": ["a"]}
    assert len([e for e in apps.events(run.id) if isinstance(e, AttemptFailed)]) == 1


@scenario
async def test_a_parked_run_is_handed_on_with_its_app_closed(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping with waiting runs takes no time; another process carries them on when they are due."""
    monkeypatch.setattr(runner_module, "LINGER", 0.0)
    it = Bodies()
    it.fails.add("a")
    flow = graph("f", it("a", retries=1, backoff=(0.1,)), state=Log)
    first, second = await apps.open(), await apps.open()
    run = await first.start(flow)
    while await run.status() is not Status.WAITING:
        await asyncio.sleep(0.002)
    began = asyncio.get_running_loop().time()
    await first.__aexit__(None, None, None)
    apps._open.remove(first)
    assert asyncio.get_running_loop().time() - began < 0.5
    it.fails.clear()
    await second.register(flow)
    working = asyncio.create_task(second.work())
    assert await second.result(run.id) == {"log": ["a"]}
    assert it.calls == {"a": 2}
    working.cancel()


@scenario
async def test_a_long_run_is_resumed_from_a_snapshot(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fold is short, and the same."""
    monkeypatch.setattr(snapshots, "FIRST", 5)
    gate = asyncio.Event()
    calls: list[int] = []

    async def count(n: int) -> dict[str, int]:
        calls.append(n)
        if n == 30:
            await gate.wait()
        return {"n": n + 1}

    counting = step(name="count")(count)
    flow = graph("f", counting >> branch(lambda s: s.n < 40, {True: counting, False: END}))
    first, second = await apps.open(), await apps.open()
    run = await first.start(flow, n=0)
    await until(lambda: len(calls) == 31)
    await apps.crash(first)
    if not apps.always_suspend:
        assert [s.seq for s in apps.database.runs[run.id].snapshots][:2] == [5, 8]
        # The rows before the newest snapshot are not needed any more: nothing reads them.
        newest = apps.database.runs[run.id].snapshots[-1]
        assert await second.store.newest(run.id, newest.tag) == newest
        rest = [e async for page in second.store.pages(run.id, newest.seq) for e in page]
        assert len(rest) <= 30 / 3 + 1
    await second.register(flow)
    gate.set()
    assert await (await second.resume(run.id)).result() == {"n": 40}
    assert len(calls) == 41


@scenario
async def test_a_damaged_snapshot_is_not_used(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a cache: the journal is folded from its beginning instead."""
    from dataclasses import replace

    monkeypatch.setattr(snapshots, "FIRST", 2)
    it = Bodies()
    flow = graph("f", it("a") >> it("b") >> it("c") >> it("d", waits=True), state=Log)
    first, second = await apps.open(), await apps.open()
    run = await first.start(flow)
    await until(lambda: bool(it.calls["d"]))
    await apps.crash(first)
    kept = apps.database.runs[run.id]
    kept.snapshots[:] = [replace(s, payload=b"\x01rubbish") for s in kept.snapshots]
    assert kept.snapshots or apps.always_suspend
    await second.register(flow)
    it.gates["d"].set()
    assert await (await second.resume(run.id)).result() == {"log": ["a", "b", "c", "d"]}
