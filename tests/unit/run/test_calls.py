"""Durable calls: imperative flows, and calls in the steps of graphs, in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from flowbook.app import App
from flowbook.errors import CallsChanged, DeclarationError, StateError, UsageError, WaitTimedOut
from flowbook.graph.flow import graph
from flowbook.graph.imperative import flow
from flowbook.graph.step import step
from flowbook.handle import Run
from flowbook.plan.events import CallFinished, WaitBegan
from flowbook.plan.records import Status
from flowbook.run import runner as runner_module
from flowbook.testing import run_to_completion
from tests.unit.run.apps import Apps, scenario, step_of, until


class Order(BaseModel):
    """What is ordered."""

    id: int
    amount: float = 1.0


class Receipt(BaseModel):
    """What was paid."""

    order: int
    paid: float


class Declined(Exception):
    """A card that is not good."""

    def __init__(self, code: int) -> None:
        super().__init__(f"declined with {code}")
        self.code = code


RAN: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    RAN.clear()


@step
async def charge(order: Order) -> Receipt:
    RAN["charge"] += 1
    return Receipt(order=order.id, paid=order.amount)


@step
def note(text: Any) -> Any:
    RAN[f"note {text}"] += 1
    return text


@step
async def nothing(what: Any = None) -> Any:
    RAN["nothing"] += 1
    return what


async def parked(app: App, run: Run) -> None:
    """Until a run costs nothing any more."""
    async with asyncio.timeout(5):
        while (await app.store.run(run.id)).status is not Status.WAITING or app.engine.carries(run.id):
            await asyncio.sleep(0.002)


# -------------------------------------------------------------------------------------------------- input and result


@scenario
async def test_an_imperative_flow_runs_from_its_input_to_its_result(apps: Apps) -> None:
    """A dict becomes the model that the annotation names, and the result is what the body returns."""
    app = await apps.open()

    @flow
    async def shop(ctx, order: Order) -> Receipt:
        RAN["body"] += 1
        return await ctx.step(charge, order)

    run = await app.start(shop, order={"id": 3, "amount": "2.5"})
    assert await run.result() == Receipt(order=3, paid=2.5)
    assert apps.kinds(run) == ["shop#1/charge#1 finished", "shop#1 finished", "completed"]
    assert RAN["charge"] == 1
    assert RAN["body"] == (2 if apps.always_suspend else 1)


def test_an_input_that_does_not_fit_is_refused_before_anything_is_written() -> None:
    """Missing, unknown, and of another type."""

    @flow
    async def shop(ctx: Any, order: Order, times: int = 1) -> None: ...

    for given, told in (({}, "needs 'order'"), ({"order": {"id": 1}, "x": 1}, "has no 'x'"), ({"order": {}}, "id")):
        with pytest.raises(StateError, match=told):
            run_to_completion(shop, **given)


def test_a_result_that_does_not_fit_its_annotation_fails_the_run() -> None:
    """And is not tried again: it would be the same."""

    @flow(retries=2, backoff=(0,))
    async def shop(ctx: Any) -> int:
        RAN["body"] += 1
        return "many"  # type: ignore[return-value]

    with pytest.raises(StateError, match="result of flow 'shop'"):
        run_to_completion(shop)
    assert RAN["body"] == 1


def test_a_plain_function_is_refused_as_a_flow() -> None:
    """With what to write instead; so is one without a context, or with parameters that have no names."""
    with pytest.raises(DeclarationError, match="async def shop"):
        flow(name="shop")(lambda ctx: None)

    async def lonely(order: int) -> None: ...

    async def loose(ctx: Any, *orders: int) -> None: ...

    with pytest.raises(DeclarationError, match="asks for no context"):
        flow(lonely)
    with pytest.raises(DeclarationError, match="'orders'"):
        flow(loose)


def test_a_flow_is_called_like_the_function_that_it_is() -> None:
    """With whatever context a test gives it."""

    class Stub:
        async def step(self, step: Any, *args: Any) -> Any:
            return await step(*args)

    @flow
    async def shop(ctx: Any, order: Order) -> Any:
        return await ctx.step(charge, order)

    assert asyncio.run(shop(Stub(), Order(id=1))).paid == 1.0


# ----------------------------------------------------------------------------------------------- replay and identity


@scenario
async def test_finished_calls_are_not_made_again_after_a_crash(apps: Apps) -> None:
    """Also one whose result is None, or an empty dict: an outcome is an outcome."""
    first, second, gate = await apps.open(), await apps.open(), asyncio.Event()

    @step
    async def hold() -> str:
        RAN["hold"] += 1
        await gate.wait()
        return "held"

    @flow
    async def shop(ctx: Any) -> list[Any]:
        return [await ctx.step(nothing), await ctx.step(nothing, {}), await ctx.step(note, ""), await ctx.step(hold)]

    run = await first.start(shop)
    await until(lambda: RAN["hold"] == 1)
    await apps.crash(first)
    gate.set()
    await second.register(shop)
    assert await (await second.resume(run.id)).result() == [None, {}, "", "held"]
    assert (RAN["nothing"], RAN["note "], RAN["hold"]) == (2, 1, 2)
    assert len([e for e in apps.events(run.id) if isinstance(e, CallFinished)]) == 4


@scenario
async def test_distinct_calls_in_a_gather_get_their_own_results_whatever_order_they_end_in(apps: Apps) -> None:
    """Told apart by where they were made, never by which ended first."""
    first, second = await apps.open(), await apps.open()
    gates = {n: asyncio.Event() for n in "abc"}

    @step
    async def one(name: str) -> str:
        RAN[name] += 1
        await gates[name].wait()
        return name.upper()

    async def chain(ctx: Any, name: str) -> str:
        got = await ctx.step(one, name)
        return f"{got}{await ctx.step(note, name)}"

    @flow
    async def shop(ctx: Any) -> list[str]:
        ours = await ctx.gather(chain(ctx, "a"), chain(ctx, "b"))
        theirs = await asyncio.gather(ctx.step(note, "x"), chain(ctx, "c"))
        return [*ours, *theirs]

    run = await first.start(shop)
    await until(lambda: RAN["a"] == 1 and RAN["b"] == 1)
    gates["b"].set()
    await until(lambda: RAN["note b"] == 1)
    await apps.crash(first)
    gates["a"].set()
    gates["c"].set()
    await second.register(shop)
    assert await (await second.resume(run.id)).result() == ["Aa", "Bb", "x", "Cc"]
    assert (RAN["b"], RAN["a"]) == (1, 2)
    assert RAN["note a"] == RAN["note x"] == RAN["note c"] == 1
    paths = [e.path for e in apps.events(run.id) if isinstance(e, CallFinished)]
    assert len(paths) == len(set(paths)) == 7


@scenario
async def test_tasks_are_numbered_when_they_are_made(apps: Apps) -> None:
    """Not when they make their first call: what they await before that takes another time each time."""
    apps.always_suspend = True
    app = await apps.open()
    delays = iter([0.03, 0.0, 0.0, 0.02, 0.01, 0.03, 0.0, 0.02] * 20)

    async def worker(ctx: Any, n: int) -> int:
        await asyncio.sleep(next(delays))
        return int(await ctx.step(note, n))

    @flow
    async def shop(ctx: Any) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker(ctx, n)) for n in range(3)]
        return [t.result() for t in tasks]

    run = await app.start(shop)
    assert await run.result() == [0, 1, 2]
    assert {e.path for e in apps.events(run.id) if isinstance(e, CallFinished)} == {
        f"shop#1/worker#{n}/note#1" for n in (1, 2, 3)
    }
    assert RAN == {"note 0": 1, "note 1": 1, "note 2": 1}


@scenario
async def test_answers_come_in_the_order_of_the_journal_when_a_body_runs_again(apps: Apps) -> None:
    """So whoever takes the first of several takes the same one each time."""
    first, second, gate, go = await apps.open(), await apps.open(), asyncio.Event(), asyncio.Event()

    @step
    async def slow() -> str:
        await gate.wait()
        return "slow"

    @step
    async def hold() -> None:
        RAN["hold"] += 1
        await go.wait()

    @flow
    async def shop(ctx: Any) -> list[str]:
        order = []
        for done in asyncio.as_completed([ctx.step(slow), ctx.step(note, "fast")]):
            got = await done
            order.append(got)
            await ctx.step(note, f"{got} at {len(order)}")
        await ctx.step(hold)
        return order

    run = await first.start(shop)
    await until(lambda: RAN["note fast at 1"] == 1)
    gate.set()
    await until(lambda: RAN["hold"] == 1)
    await apps.crash(first)
    go.set()
    await second.register(shop)
    assert await (await second.resume(run.id)).result() == ["fast", "slow"]
    assert RAN["note fast at 1"] == RAN["note slow at 2"] == 1


@scenario
async def test_a_call_that_changed_is_reported_with_its_place(apps: Apps) -> None:
    """Never is another call's result handed out, and nothing that the body catches hides it."""
    apps.always_suspend = True
    app, seen = await apps.open(), iter(range(10))

    @flow(retries=3, backoff=(0,))
    async def shop(ctx: Any) -> Any:
        try:
            await ctx.step(note, next(seen))
            return await ctx.step(note, "last")
        except Exception:
            return "swallowed"

    with pytest.raises(CallsChanged, match=r"shop#1/note#1 was note\(0\) when it was made first, and is note\(1\) now"):
        await (await app.start(shop)).result()
    assert RAN == {"note 0": 1}


@scenario
async def test_a_call_that_is_left_out_is_reported_at_the_end(apps: Apps) -> None:
    """The journal has it, so the body is not the one that it was."""
    apps.always_suspend = True
    app = await apps.open()

    @flow
    async def shop(ctx: Any) -> None:
        RAN["body"] += 1
        if RAN["body"] == 1:
            await ctx.step(note, "once")

    with pytest.raises(CallsChanged, match=r"has come to its end without shop#1/note#1 \(note\('once'\)\)"):
        await (await app.start(shop)).result()


@scenario
async def test_what_a_step_raised_is_caught_again_when_its_body_runs_again(apps: Apps) -> None:
    """The same class with the same attributes, in a process that never saw it happen."""
    first, second, gate = await apps.open(), await apps.open(), asyncio.Event()

    @step(retries=1, backoff=(0,))
    async def pay() -> None:
        RAN["pay"] += 1
        raise Declined(51)

    @step
    async def hold() -> None:
        RAN["hold"] += 1
        await gate.wait()

    @flow
    async def shop(ctx: Any) -> str:
        try:
            await ctx.step(pay)
        except Declined as error:
            await ctx.step(hold)
            return f"{error} ({error.code})"
        return "paid"

    run = await first.start(shop)
    await until(lambda: RAN["hold"] == 1)
    await apps.crash(first)
    gate.set()
    await second.register(shop)
    assert await (await second.resume(run.id)).result() == "declined with 51 (51)"
    assert (RAN["pay"], RAN["hold"]) == (2, 2)


@scenario
async def test_a_retry_of_the_run_makes_the_call_anew_that_failed_it(apps: Apps) -> None:
    """Calls that had their result keep it; a failure that the body had caught stays caught."""
    app = await apps.open()

    @step
    async def pay(ok: bool) -> str:
        RAN[f"pay {ok}"] += 1
        if not ok or RAN["pay True"] < 2:
            raise Declined(51)
        return "paid"

    @flow
    async def shop(ctx: Any) -> list[str]:
        await ctx.step(note, "first")
        try:
            await ctx.step(pay, ok=False)
        except Declined:
            await ctx.step(note, "caught")
        return [await ctx.step(pay, ok=True)]

    run = await app.start(shop)
    with pytest.raises(Declined):
        await run.result()
    assert await (await run.retry()).result() == ["paid"]
    assert RAN == {"note first": 1, "pay False": 1, "note caught": 1, "pay True": 2}


# --------------------------------------------------------------------------------------------------- pauses and time


@scenario
async def test_a_signal_is_taken_by_the_body_that_waits_for_it(apps: Apps) -> None:
    """Parked meanwhile, owned by nobody; the payload becomes the model."""
    app = await apps.open()

    @flow
    async def shop(ctx: Any) -> Any:
        RAN["body"] += 1
        order = await ctx.wait("placed", schema=Order)
        return [order, await ctx.wait("placed")]

    run = await app.start(shop)
    await parked(app, run)
    row = await app.store.run(run.id)
    assert (row.worker_id, row.current) == (None, "shop#1/placed#1")
    await run.signal("placed", id="seven")
    await until(lambda: any("refused" in k for k in apps.kinds(run)))
    await run.signal("placed", id=7)
    await run.signal("placed", id=8)
    assert await run.result() == [Order(id=7), {"id": 8}]
    assert RAN["body"] >= 2


@scenario
async def test_one_of_several_signals_is_told_by_its_name(apps: Apps) -> None:
    """The first that comes; the others are left for whoever waits for them next, also when the body runs again."""
    app = await apps.open()

    @flow
    async def shop(ctx: Any) -> Any:
        first = await ctx.wait_any("approved", "rejected", timeout="1h")
        await ctx.sleep(0.01)
        return [*first, *await ctx.wait_any("rejected", "approved")]

    run = await app.start(shop)
    await parked(app, run)
    await run.signal("other")
    await run.signal("rejected", why="dear")
    await run.signal("approved")
    assert await run.result() == ["rejected", {"why": "dear"}, "approved", {}]


@scenario
async def test_a_wait_that_nobody_answers_raises_and_raises_again(apps: Apps) -> None:
    """What the body does about it is up to it."""
    app = await apps.open()

    @flow
    async def shop(ctx: Any) -> str:
        try:
            await ctx.wait("placed", timeout=0.02)
        except WaitTimedOut:
            return str(await ctx.step(note, "late"))
        return "in time"

    assert await (await app.start(shop)).result() == "late"


@scenario
async def test_a_sleep_of_a_body_does_not_start_again_from_zero_after_a_crash(apps: Apps) -> None:
    """Its end was written down when it began."""
    first, second = await apps.open(), await apps.open()

    @flow
    async def shop(ctx: Any) -> None:
        await ctx.sleep(0.4)

    run = await first.start(shop)
    await until(lambda: "shop#1/sleep#1 waiting" in apps.kinds(run))
    await asyncio.sleep(0.2)
    await apps.crash(first)
    await second.register(shop)
    await (await second.resume(run.id)).result()
    (began,) = [e for e in apps.events(run.id) if isinstance(e, WaitBegan)]
    ended = next(e for e in apps.events(run.id) if isinstance(e, CallFinished))
    assert began.due is not None
    assert timedelta(0) <= ended.call.at - began.due + timedelta(milliseconds=1) < timedelta(seconds=0.19)


@scenario
async def test_a_long_sleep_parks_the_run_and_its_body_runs_again_when_it_is_over(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Putting a body aside is no attempt of it, and its ``finally`` makes no call before its time."""
    monkeypatch.setattr(runner_module, "LINGER", 0.0)
    app = await apps.open()

    @flow
    async def shop(ctx: Any) -> str:
        RAN["body"] += 1
        try:
            for _ in range(5):
                await ctx.sleep(0.02)
        finally:
            RAN["finally"] += 1
            await ctx.step(note, "tidied")
        return f"attempt {ctx.attempt}"

    run = await app.start(shop)
    assert await run.result() == "attempt 1"
    assert RAN["body"] == RAN["finally"] >= 6
    if not apps.always_suspend:
        assert RAN["body"] == 6
    assert RAN["note tidied"] == 1


@scenario
async def test_the_time_and_the_uuids_of_a_body_are_the_same_each_time(apps: Apps) -> None:
    """The time moves with the calls; two uuids differ, and so do those of two runs."""
    app, seen = await apps.open(), list[Any]()

    @flow
    async def shop(ctx: Any) -> Any:
        first, one = ctx.now(), ctx.uuid()
        await ctx.sleep(0.02)
        second, other = ctx.now(), ctx.uuid()
        seen.append((first, second, one, other))
        await ctx.step(note, str(second))
        return one

    ids = {await (await app.start(shop)).result() for _ in range(2)}
    assert len(ids) == 2
    assert len(set(seen)) == 2
    for first, second, one, other in seen:
        assert second - first >= timedelta(seconds=0.02)
        assert one != other


@scenario
async def test_a_waiting_imperative_flow_can_be_cancelled(apps: Apps) -> None:
    """Parked or at work: the step that is under way is stopped, and nothing that its body does in ``finally`` runs."""
    app = await apps.open()

    @step
    async def long() -> None:
        RAN["long"] += 1
        await asyncio.sleep(60)

    @flow
    async def shop(ctx: Any) -> None:
        try:
            await ctx.step(long)
        finally:
            await ctx.step(note, "too late")

    run = await app.start(shop)
    await until(lambda: RAN["long"] == 1)
    await run.cancel()
    await until(lambda: apps.kinds(run)[-1:] == ["cancelled"])
    assert RAN == {"long": 1}


# ------------------------------------------------------------------------------------------------- several at a time


@scenario
async def test_a_map_runs_its_items_together_and_keeps_their_order(apps: Apps) -> None:
    """Each has a path of its own; no more are under way than is said."""
    app = await apps.open()
    under_way, most = 0, 0

    @step
    async def twice(n: int) -> int:
        nonlocal under_way, most
        RAN["twice"] += 1
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return 2 * n

    @flow
    async def shop(ctx: Any, n: int) -> list[int]:
        return await ctx.map(twice, range(n), concurrency=3)

    run = await app.start(shop, n=10)
    assert await run.result() == [2 * n for n in range(10)]
    assert (most, RAN["twice"]) == (3, 10)
    assert {e.path for e in apps.events(run.id) if isinstance(e, CallFinished)} == {
        f"shop#1/map#1/twice#{i}" for i in range(1, 11)
    }
    assert await (await app.start(shop, n=0)).result() == []


@scenario
async def test_a_failing_item_fails_its_map_or_stands_in_its_place(apps: Apps) -> None:
    """Whichever was asked for."""
    app = await apps.open()

    @step
    async def odd(n: int) -> int:
        if n % 2:
            raise Declined(n)
        return n

    @flow
    async def shop(ctx: Any, how: str) -> list[str]:
        return [str(x) for x in await ctx.map(odd, [0, 1, 2], on_error=how)]

    assert await (await app.start(shop, how="collect")).result() == ["0", "declined with 1", "2"]
    with pytest.raises(Declined):
        await (await app.start(shop, how="fail")).result()


@scenario
async def test_the_first_exception_of_a_gather_stops_the_others(apps: Apps) -> None:
    """And nothing of them goes on behind the back of who catches it."""
    app = await apps.open()

    @step
    async def fails() -> None:
        raise Declined(1)

    @step
    async def long() -> None:
        await asyncio.sleep(60)

    @flow
    async def shop(ctx: Any) -> str:
        try:
            await ctx.gather(ctx.step(long), ctx.step(fails))
        except Declined:
            return str(await ctx.step(note, "caught"))
        return "?"

    assert await (await app.start(shop)).result() == "caught"


@scenario
async def test_an_event_is_written_once(apps: Apps) -> None:
    """However often the body runs; whoever looks at the run sees it."""
    app = await apps.open()

    @flow
    async def shop(ctx: Any) -> None:
        await ctx.emit("progress", {"done": 1})
        await ctx.step(note, "x")
        await ctx.emit("progress", {"done": 2})

    run = await app.start(shop)
    await run.result()
    assert [k for k in apps.kinds(run) if "progress" in k] == [
        "shop#1/progress#1 finished", "shop#1/progress#2 finished"
    ]  # fmt: skip
    assert step_of(await run.view(), "shop#1/progress#2").result == {"done": 2}


# ------------------------------------------------------------------------------------------------------- in a graph


@scenario
async def test_a_step_of_a_graph_makes_durable_calls(apps: Apps) -> None:
    """Under its own path; tried again, it finds those that had ended."""
    app = await apps.open()

    @step(retries=1, backoff=(0,))
    async def shop(ctx: Any, n: int) -> dict[str, Any]:
        RAN["shop"] += 1
        await ctx.step(note, n)
        signal = await ctx.wait("go")
        if RAN["failed"] == 0:
            RAN["failed"] += 1
            raise ValueError("once")
        return {"got": [signal, await ctx.step(note, "end")]}

    run = await app.start(graph("g", nothing >> shop >> note), {"n": 5, "what": 1, "text": "t"})
    await run.signal("go", by="ana")
    state = await run.result()
    assert state["got"] == [{"by": "ana"}, "end"]
    assert RAN["note 5"] == RAN["note end"] == 1
    assert apps.kinds(run)[1:] == [
        "shop#1/note#1 finished", *(["shop#1/go#1 waiting"] if "shop#1/go#1 waiting" in apps.kinds(run) else []),
        "shop#1/go#1 finished", "shop#1 attempt", "shop#1/note#2 finished", "shop#1 finished", "note#1 finished",
        "completed",
    ]  # fmt: skip


@scenario
async def test_a_plain_step_that_makes_a_durable_call_is_told_what_to_do(apps: Apps) -> None:
    """It runs in a thread, which nobody can put aside."""
    app = await apps.open()

    @step
    def shop(ctx: Any) -> None:
        ctx.step(note, 1)

    with pytest.raises(UsageError, match="make the step `async def`"):
        await (await app.start(graph("g", shop))).result()


@scenario
async def test_a_called_step_makes_calls_of_its_own(apps: Apps) -> None:
    """Below its own path; once it has its result, they are not asked for again."""
    app = await apps.open()

    @step
    async def inner(n: int, ctx: Any) -> list[Any]:
        return [n, await ctx.step(note, n), await ctx.step(note, n + 1)]

    @flow
    async def shop(ctx: Any) -> Any:
        got = await ctx.gather(ctx.step(inner, 1), ctx.step(inner, n=5))
        await ctx.step(note, "end")
        return got

    assert await (await app.start(shop)).result() == [[1, 1, 2], [5, 5, 6]]
    assert set(RAN.values()) == {1}


@scenario
async def test_a_failed_step_beside_a_waiting_body_ends_the_run(apps: Apps) -> None:
    """The body waits for what nobody will do any more, so nobody waits for it."""
    app = await apps.open()

    @step
    async def fails() -> None:
        await asyncio.sleep(0.02)
        raise Declined(1)

    @step
    async def waits(ctx: Any) -> None:
        await ctx.wait("never")

    with pytest.raises(Declined):
        await (await app.start(graph("g", nothing >> [fails, waits]), {"what": 1})).result(timeout=10)


@scenario
async def test_a_step_that_kills_its_process_is_given_up_and_not_its_body(apps: Apps) -> None:
    """The call is to blame; its body is told, and may go on another way."""

    @step
    async def kills() -> None:
        RAN["kills"] += 1
        await asyncio.sleep(60)

    @flow
    async def shop(ctx: Any) -> str:
        try:
            await ctx.step(kills)
        except Exception as error:
            return f"{type(error).__name__}: {await ctx.step(note, 'given up')}"
        return "?"

    app = await apps.open()
    run = await app.start(shop)
    for killed in range(1, 6):
        await until(lambda killed=killed: RAN["kills"] == killed or RAN["note given up"] == 1)  # type: ignore[misc]
        if RAN["note given up"]:
            break
        await apps.crash(app)
        app = await apps.open()
        await app.register(shop)
        await app.resume(run.id)
    assert await app.result(run.id) == "StepFailed: given up"
    assert 3 <= RAN["kills"] <= 4
