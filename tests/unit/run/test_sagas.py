"""Sagas: what a run has done is undone before it ends badly, once, in order, and whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import operator
from collections import Counter
from typing import Annotated, Any, TypedDict

import pytest

from flowbook.cli.ending import cancelled
from flowbook.errors import PointUnknown, RunCancelled, RunTimedOut, RunUndone, StepFailed
from flowbook.graph.expression import branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.pause import wait
from flowbook.graph.race import race
from flowbook.graph.step import UNDO_RETRIES, Step, step, when
from flowbook.graph.subflow import subflow
from flowbook.handle import Run
from flowbook.observe.records import view_record
from flowbook.plan.events import AttemptFailed, RunFailed, StepStarted, UndoingBegan
from flowbook.plan.records import Status
from flowbook.run import runner as runner_module
from flowbook.run.context import Context
from flowbook.show.html import run_html
from flowbook.show.journal import journal_plain
from flowbook.show.text import run_plain
from tests.unit.run.apps import Apps, scenario, step_of, until


class Log(TypedDict, total=False):
    """A list that steps add to."""

    log: Annotated[list[str], operator.add]


class World:
    """What steps do to the world, and what undoes it."""

    def __init__(self) -> None:
        self.undone: list[str] = []
        self.saw: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.gates: dict[str, asyncio.Event] = {}

    def __call__(self, name: str, *, waits: bool = False, undo_waits: bool = False, **options: Any) -> Step:
        """A step that can be undone, and adds its name to the log."""

        async def undo(state: dict[str, Any], ctx: Context) -> str:
            self.calls[ctx.path] += 1
            if undo_waits:
                await self.gate(ctx.path).wait()
            if name in self.broken:
                raise OSError(f"cannot undo {name}")
            self.undone.append(ctx.path.removesuffix("/compensation#1"))
            self.saw[ctx.path.removesuffix("/compensation#1")] = dict(state)
            return f"undid {name}"

        async def body() -> dict[str, Any]:
            self.calls[name] += 1
            if waits:
                await self.gate(name).wait()
            return {"log": [name]}

        compensate = step(name=f"undo_{name}", **{"retries": 0, "backoff": (0.001,), **options})(undo)
        return step(name=name, compensate=compensate)(body)

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())


@step
async def boom() -> None:
    raise ValueError("the first error")


async def failed(run: Run) -> BaseException:
    """The exception of a run that fails; the step's own, or what is left of it where the run was parked since."""
    with pytest.raises((ValueError, StepFailed), match="the first error") as raised:
        await run.result()
    return raised.value


# -------------------------------------------------------------------------------------------------- order and content


@scenario
async def test_what_was_done_is_undone_in_reverse_order_of_completion(apps: Apps) -> None:
    """Not in that of definition: the branch that finished last is undone first."""
    world = World()
    flow = graph("f", world("a") >> [world("b", waits=True), world("c", waits=True)] >> boom, state=Log)
    app = await apps.open()
    run = await app.start(flow)
    await until(lambda: world.calls["b"] + world.calls["c"] == 2)
    world.gate("c").set()
    await until(lambda: "c#1 finished" in apps.kinds(run))
    world.gate("b").set()
    await failed(run)
    assert world.undone == ["b#1", "c#1", "a#1"]
    assert apps.kinds(run)[-6:] == [
        "boom#1 attempt",
        "undoing",
        "b#1/compensation#1 finished",
        "c#1/compensation#1 finished",
        "a#1/compensation#1 finished",
        "failed",
    ]


@scenario
async def test_a_run_that_ends_well_undoes_nothing(apps: Apps) -> None:
    """And its journal is what it would be without."""
    world = World()
    app = await apps.open()
    run = await app.start(graph("f", world("a") >> world("b"), state=Log))
    await run.result()
    assert not world.undone
    assert apps.kinds(run) == ["a#1 finished", "b#1 finished", "completed"]


@scenario
async def test_a_compensation_sees_the_state_as_it_was_behind_its_step(apps: Apps) -> None:
    """Of its own branch: neither what came later nor what a sibling did."""
    world = World()
    flow = graph("f", world("a") >> [world("b") >> world("c"), world("d")] >> world("e") >> boom, state=Log)
    app = await apps.open()
    run = await app.start(flow, log=["input"])
    await failed(run)
    assert {path: saw["log"] for path, saw in world.saw.items()} == {
        "a#1": ["input", "a"],
        "b#1": ["input", "a", "b"],
        "c#1": ["input", "a", "b", "c"],
        "d#1": ["input", "a", "d"],
        "e#1": ["input", "a", "b", "c", "d", "e"],
    }


@scenario
async def test_a_compensation_is_filled_by_name_and_gets_the_result_that_it_undoes(apps: Apps) -> None:
    """The step's own name means what this firing of it returned; the rest is as for any step."""
    got: list[Any] = []

    def refund(charge: Any, order: str, reserve: dict[str, Any], ctx: Context, missing: int = 7) -> None:
        got.append((charge, order, reserve, ctx.path, ctx.attempt, missing, ctx.idempotency_key))

    @step
    def reserve() -> dict[str, Any]:
        return {"slot": 4}

    @step(compensate=refund)
    def charge(order: str) -> dict[str, Any]:
        return {"receipt": f"paid {order}"}

    app = await apps.open()
    run = await app.start(graph("f", reserve >> charge >> boom), order="a book")
    await failed(run)
    path = "charge#1/compensation#1"
    assert got == [({"receipt": "paid a book"}, "a book", {"slot": 4}, path, 1, 7, f"{run.id}:{path}")]


@scenario
async def test_each_firing_of_a_loop_is_undone_with_its_own_result(apps: Apps) -> None:
    """Also where a reducer has put all of them into one list."""
    got: list[Any] = []

    class Paid(TypedDict, total=False):
        charge: Annotated[list[int], operator.add]
        n: int

    def refund(charge: list[int], state: dict[str, Any]) -> None:
        got.append((charge, state["n"]))

    @step
    def count(n: int = 0) -> dict[str, Any]:
        return {"n": n + 1}

    @step(compensate=refund)
    def charge(n: int) -> dict[str, Any]:
        return {"charge": [n * 10]}

    app = await apps.open()
    flow = graph("f", count >> charge >> branch(lambda s: s.n < 3, {True: count, False: boom}), state=Paid)
    run = await app.start(flow)
    await failed(run)
    assert got == [([30], 3), ([20], 2), ([10], 1)]


@scenario
async def test_only_what_finished_is_undone(apps: Apps) -> None:
    """Not a step that failed, nor one that was skipped, nor one that was never reached."""
    world = World()

    async def fails() -> None:
        raise ValueError("the first error")

    half = step(name="half", compensate=lambda: world.undone.append("half"))(fails)
    app = await apps.open()
    run = await app.start(graph("f", when(lambda s: False, world("a")) >> world("b") >> half >> world("c"), state=Log))
    await failed(run)
    assert world.undone == ["b#1"]


@scenario
async def test_a_sibling_that_finishes_while_the_run_fails_is_undone_too(apps: Apps) -> None:
    """What is under way when a step fails may finish; its effect is there, so it is undone."""
    world = World()
    app = await apps.open()
    run = await app.start(graph("f", world("a") >> [world("slow", waits=True), boom] >> world("z"), state=Log))
    await until(lambda: "boom#1 attempt" in apps.kinds(run))
    assert not world.undone, "it waits for what is under way"
    world.gate("slow").set()
    await failed(run)
    assert world.undone == ["slow#1", "a#1"]


# ------------------------------------------------------------------------------------------------ trying again


@scenario
async def test_a_compensation_is_tried_again_by_its_own_policy(apps: Apps) -> None:
    """And those before it wait until it is through: one at a time, in order."""
    calls: list[str] = []

    async def flaky(ctx: Context) -> None:
        calls.append(f"b{ctx.attempt}")
        if ctx.attempt < 3:
            raise OSError("not now")

    a = step(name="a", compensate=lambda: calls.append("a"))(lambda: 1)
    b = step(name="b", compensate=step(retries=2, backoff=(0.02,))(flaky))(lambda: 1)
    app = await apps.open()
    run = await app.start(graph("f", a >> b >> boom))
    await failed(run)
    assert calls == ["b1", "b2", "b3", "a"]
    view = await run.view()
    assert [x.number for x in step_of(view, "b#1/compensation#1").attempts] == [1, 2, 3]
    assert view.failure is not None
    assert not view.failure.notes


def test_a_plain_function_as_compensation_is_tried_again_by_itself() -> None:
    """An undo that gives up at the first hiccup leaves the world as nobody wants it; a step says for itself."""
    undo = step(name="a", compensate=lambda: None)(lambda: 1).compensation
    assert undo is not None
    assert undo.policy.retries == UNDO_RETRIES > 0
    own = step(name="b", compensate=step(name="c", retries=0)(lambda: None))(lambda: 1)
    flow = graph("f", own, retries=9)
    assert flow.compensations["b"].policy.retries == 0, "a flow's defaults are for its steps"


@scenario
async def test_a_compensation_that_fails_is_reported_and_the_first_error_stays(apps: Apps) -> None:
    """Told by the journal, the steps, the error's notes, the exception, the row, every face; the others still run."""
    world = World()
    world.broken.add("b")
    app = await apps.open()
    run = await app.start(graph("f", world("a") >> world("b") >> world("c") >> boom, state=Log))
    error = await failed(run)
    note = "b#1 was not undone, its compensation failed: OSError: cannot undo b"
    assert world.undone == ["c#1", "a#1"], "the others were not undone"
    assert error.__notes__ == [note]
    view = await run.view()
    assert view.status is Status.FAILED
    assert view.failed_path == "boom#1"
    assert view.failure is not None
    assert (view.failure.type, view.failure.message, view.failure.notes) == ("ValueError", "the first error", (note,))
    assert view.undone == ("c#1", "a#1")
    assert view.not_undone["b#1"].message == "cannot undo b"
    assert [step_of(view, p).state for p in ("a#1", "b#1", "c#1")] == ["undone", "finished", "undone"]
    assert step_of(view, "b#1/compensation#1").state == "failed"
    events = apps.events(run.id)
    assert [e.path for e in events if isinstance(e, AttemptFailed) and e.final] == ["boom#1", "b#1/compensation#1"]
    assert next(e for e in events if isinstance(e, RunFailed)).failure.notes == (note,)
    row = await app.store.run(run.id)
    assert row.error == f"boom#1: ValueError: the first error; {note}"
    for face in (run_plain(view), run_html(view)):
        assert "the first error" in face
        assert note in face
    rows = journal_plain(apps.database.runs[run.id].journal).splitlines()
    assert "what was done is undone" in next(r for r in rows if "\tundoing\t" in r)
    assert "OSError: cannot undo b (no attempt is left)" in next(r for r in rows if "b#1/compensation#1" in r)
    assert "the first error; b#1 was not undone" in rows[-1]
    record = view_record(view)
    assert record["failure"]["notes"] == [note]
    assert [s["undoes"] for s in record["steps"]] == [None] * 4 + ["c#1", "b#1", "a#1"]
    elsewhere = await apps.open()
    with pytest.raises(StepFailed, match="the first error") as raised:
        await (await elsewhere.run(run.id)).result()
    assert raised.value.__notes__ == [note]


@scenario
async def test_a_parameter_that_nothing_fills_fails_the_compensation_and_no_more(apps: Apps) -> None:
    """A mistake in the undoing does not stop the rest of it."""
    world = World()
    wrong = step(name="wrong", compensate=lambda nobody_has_this: None)(lambda: {"log": ["wrong"]})
    app = await apps.open()
    run = await app.start(graph("f", world("a") >> wrong >> boom, state=Log))
    error = await failed(run)
    assert "nobody_has_this" in error.__notes__[0]
    assert world.undone == ["a#1"]


@scenario
async def test_what_a_compensation_returns_cannot_hurt(apps: Apps) -> None:
    """Its effect is done, so a value that cannot be stored is left out; one that can be is kept to be looked at."""
    a = step(name="a", compensate=lambda: {"refund": 12})(lambda: 1)
    b = step(name="b", compensate=lambda: {1, object()})(lambda: 1)
    app = await apps.open()
    run = await app.start(graph("f", a >> b >> boom))
    await failed(run)
    view = await run.view()
    assert step_of(view, "a#1/compensation#1").result == {"refund": 12}
    assert step_of(view, "b#1/compensation#1").result is None
    assert view.undone == ("b#1", "a#1")
    assert await run.state() == {"a": 1, "b": 1}, "what a compensation returns is no update"


# ----------------------------------------------------------------------------------------------------- when it happens


@scenario
async def test_a_cancelled_run_is_undone_and_then_cancelled(apps: Apps) -> None:
    """The step under way is stopped and is not undone; a compensation that fails is told to who asks."""
    world = World()
    world.broken.add("b")
    app = await apps.open()
    run = await app.start(graph("f", world("a") >> world("b") >> world("c", waits=True), state=Log))
    await until(lambda: world.calls["c"] == 1)
    await run.cancel(by="ana")
    with pytest.raises(RunCancelled) as raised:
        await run.result()
    assert "b#1 was not undone" in raised.value.__notes__[0]
    assert world.undone == ["a#1"]
    row = await app.store.run(run.id)
    assert row.status is Status.CANCELLED
    assert row.error is not None
    assert row.error.startswith("cancelled by ana; b#1 was not undone")
    assert apps.kinds(run)[-4:] == ["undoing", "b#1/compensation#1 attempt", "a#1/compensation#1 finished", "cancelled"]


@scenario
async def test_a_run_is_running_until_it_is_undone(apps: Apps) -> None:
    """Who waits for its end does not go on before the world is in order."""
    world = World()
    app = await apps.open()
    run = await app.start(graph("f", world("a", undo_waits=True) >> boom, state=Log))
    await until(lambda: world.calls["a#1/compensation#1"] == 1)
    assert await run.status() is Status.RUNNING
    view = await run.view()
    assert view.failure is not None
    assert step_of(view, "a#1/compensation#1").state == "running"
    assert step_of(view, "a#1").state == "finished"
    world.gate("a#1/compensation#1").set()
    await failed(run)
    assert step_of(await run.view(), "a#1").state == "undone"


@scenario
async def test_a_cancel_while_a_run_is_undone_changes_nothing(apps: Apps) -> None:
    """Its fate is written down: the first error is not hidden by a cancel that came after it."""
    world = World()
    app = await apps.open()
    run = await app.start(graph("f", world("a") >> world("b", undo_waits=True) >> boom, state=Log))
    await until(lambda: world.calls["b#1/compensation#1"] == 1)
    await run.cancel()
    await until(lambda: "cancel" in apps.kinds(run))
    world.gate("b#1/compensation#1").set()
    await failed(run)
    assert world.undone == ["b#1", "a#1"]
    assert world.calls["b#1/compensation#1"] == 1


@scenario
async def test_a_run_out_of_time_is_undone_and_its_compensations_have_time(apps: Apps) -> None:
    """The limit is for what the run is for."""
    world = World()

    async def slow_undo() -> None:
        await asyncio.sleep(0.3)
        world.undone.append("slow")

    slow = step(name="slow", compensate=slow_undo)(lambda: {"log": ["slow"]})
    app = await apps.open()
    run = await app.start(graph("f", world("a") >> slow >> world("z", waits=True), state=Log, run_timeout=0.2))
    with pytest.raises(RunTimedOut):
        await run.result()
    assert world.undone == ["slow", "a#1"]
    assert apps.kinds(run)[-1] == "failed"


@scenario
async def test_a_step_that_finishes_as_the_cancel_comes_is_undone(apps: Apps) -> None:
    """Its effect is done; that nobody had written it down yet must not keep it."""
    world = World()
    entered = asyncio.Event()

    async def stubborn() -> dict[str, Any]:
        entered.set()
        with contextlib.suppress(asyncio.CancelledError):  # it is past the point of no return, and says so
            await asyncio.sleep(60)
        return {"log": ["stubborn"]}

    async def undo() -> None:
        world.undone.append("stubborn")

    app = await apps.open()
    run = await app.start(graph("f", world("a") >> step(compensate=undo)(stubborn) >> world("z"), state=Log))
    await entered.wait()
    await run.cancel()
    with pytest.raises(RunCancelled):
        await run.result()
    assert world.undone == ["stubborn", "a#1"]
    assert "z" not in world.calls


# ------------------------------------------------------------------------------------------------------------ crashes


@scenario
async def test_a_process_that_dies_half_way_leaves_the_rest_to_the_next(apps: Apps) -> None:
    """What was recorded is never undone twice; what was under way is done again; the error stays the first one."""
    world = World()
    flow = graph("f", world("a") >> world("b", undo_waits=True) >> world("c") >> boom, state=Log)
    first = await apps.open()
    run = await first.start(flow)
    await until(lambda: world.calls["b#1/compensation#1"] == 1)
    await apps.crash(first)
    world.gate("b#1/compensation#1").set()
    second = await apps.open()
    await second.register(flow)
    handle = await second.resume(run.id)
    with pytest.raises(StepFailed, match="the first error"):
        await handle.result()
    assert world.undone == ["c#1", "b#1", "a#1"]
    assert world.calls["c#1/compensation#1"] == 1
    assert world.calls["boom#1"] == 0
    assert sum(isinstance(e, UndoingBegan) for e in apps.events(run.id)) == 1


@scenario
async def test_a_compensation_that_kills_its_process_is_given_up(apps: Apps) -> None:
    """As a step is; those before it are still undone, by the process that is left."""
    world = World()
    flow = graph("f", world("a") >> world("killer", undo_waits=True) >> boom, state=Log)
    app = await apps.open()
    run = await app.start(flow)
    path = "killer#1/compensation#1"
    for deaths in range(1, 4):
        await until(lambda n=deaths: world.calls[path] == n)  # type: ignore[misc]
        await until(lambda n=deaths: _begun(apps, run, path) == n)  # type: ignore[misc]
        await apps.crash(app)
        app = await apps.open()
        await app.register(flow)
        await app.resume(run.id)
    handle = await app.run(run.id)
    with pytest.raises(StepFailed, match="the first error") as raised:
        await handle.result()
    assert "killer#1 was not undone" in raised.value.__notes__[0]
    assert world.calls[path] == 3
    assert world.undone == ["a#1"]


def _begun(apps: Apps, run: Run, path: str) -> int:
    return sum(isinstance(e, StepStarted) and e.path == path for e in apps.events(run.id))


@scenario
async def test_a_compensation_waits_for_its_next_attempt_in_the_store(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long back-off parks the run, and its budget survives that."""
    monkeypatch.setattr(runner_module, "LINGER", 0.0)
    world = World()
    world.broken.add("b")
    app = await apps.open()
    run = await app.start(graph("f", world("a") >> world("b", retries=2, backoff=(0.05,)) >> boom, state=Log))
    await failed(run)
    assert (await app.store.run(run.id)).claims >= 3
    assert world.calls["b#1/compensation#1"] == 3
    assert world.undone == ["a#1"]


@scenario
async def test_a_cancel_of_a_run_that_nobody_carries_undoes_it_first(apps: Apps) -> None:
    """Where its code is: who does not have it leaves the run to who does, and does not end it over its head."""
    world = World()
    flow = graph("f", world("a") >> world("b", waits=True), state=Log)
    first = await apps.open()
    run = await first.start(flow)
    await until(lambda: world.calls["b"] == 1)
    await apps.crash(first)
    stranger = await apps.open()
    row = await stranger.cancel(run.id, by="ana")
    assert row.status is Status.PENDING
    assert not world.undone
    owner = await apps.open()
    await owner.register(flow)
    handle = await owner.resume(run.id)
    with pytest.raises(RunCancelled):
        await handle.result()
    assert world.undone == ["a#1"]
    assert world.calls["b"] == 1


@scenario
async def test_who_has_the_code_undoes_a_parked_run_when_it_cancels_it(apps: Apps) -> None:
    """A run that waits for a signal is undone by who says that it is not wanted any more."""
    world = World()
    flow = graph("f", world("a") >> wait("go") >> world("b"), state=Log)
    first = await apps.open()
    run = await first.start(flow)
    await until(lambda: apps.kinds(run)[-1:] == ["go#1 waiting"])
    await apps.crash(first)
    second = await apps.open()
    await second.register(flow)
    await second.cancel(run.id)
    with pytest.raises(RunCancelled):
        await (await second.run(run.id)).result()
    assert world.undone == ["a#1"]


@scenario
async def test_a_run_with_nothing_to_undo_is_cancelled_by_anyone(apps: Apps) -> None:
    """Compensations that are declared and not owed are in nobody's way."""
    world = World()
    flow = graph("f", wait("go") >> world("a"), state=Log)
    first = await apps.open()
    run = await first.start(flow)
    await until(lambda: apps.kinds(run) == ["go#1 waiting"])
    await apps.crash(first)
    stranger = await apps.open()
    assert (await stranger.cancel(run.id)).status is Status.CANCELLED


# ------------------------------------------------------------------------------------------------------------ retrying


@scenario
async def test_a_run_that_was_undone_cannot_go_on_from_where_it_failed(apps: Apps) -> None:
    """The state that its failed step would see is not the world's any more; the error says what can be done instead."""
    world = World()
    app = await apps.open()
    run = await app.start(graph("f", world("a") >> world("b") >> boom, state=Log))
    await failed(run)
    with pytest.raises(RunUndone, match=r"undone \(b#1, a#1\).*run.fork\(at='a#1'\)"):
        await run.retry()
    assert await run.status() is Status.FAILED
    assert apps.kinds(run)[-1] == "failed"


@scenario
async def test_a_retry_goes_on_with_the_compensations_that_failed(apps: Apps) -> None:
    """With those alone; then the run has failed of what it failed of, with nothing left to be said beside it."""
    world = World()
    world.broken.add("b")
    app = await apps.open()
    run = await app.start(graph("f", world("a") >> world("b", retries=1) >> boom, state=Log))
    await failed(run)
    assert world.calls["b#1/compensation#1"] == 2
    world.broken.clear()
    await run.retry()
    with pytest.raises((ValueError, StepFailed), match="the first error"):
        await run.result()
    assert world.undone == ["a#1", "b#1"]
    assert world.calls["a#1/compensation#1"] == 1
    view = await run.view()
    assert view.failed_path == "boom#1"
    assert view.failure is not None
    assert not view.failure.notes
    with pytest.raises(RunUndone):
        await run.retry()


@scenario
async def test_a_failed_run_that_had_nothing_to_undo_is_retried_as_ever(apps: Apps) -> None:
    """Compensations of steps that never finished stand in nobody's way."""
    calls: list[int] = []

    @step(compensate=lambda: calls.append(-1))
    def first_fails() -> str:
        calls.append(len(calls))
        if len(calls) == 1:
            raise ValueError("the first error")
        return "done"

    app = await apps.open()
    run = await app.start(graph("f", first_fails))
    await failed(run)
    await run.retry()
    assert await run.result() == {"first_fails": "done"}
    assert calls == [0, 1]


@scenario
async def test_steps_of_a_lost_race_are_undone_as_well(apps: Apps) -> None:
    """They finished before they lost: their effect is there."""
    world = World()
    flow: Graph = graph(
        "f", race(world("fast"), world("early") >> world("late", waits=True)) >> world("hold", waits=True) >> boom,
        state=Log,
    )  # fmt: skip
    app = await apps.open()
    run = await app.start(flow)
    await until(lambda: world.calls["hold"] == 1)
    had = "early#1 finished" in apps.kinds(run)
    world.gate("hold").set()
    await failed(run)
    assert world.undone[0] == "hold#1"
    assert ("early#1" in world.undone) == had
    assert "late#1" not in world.undone


@scenario
async def test_a_cancel_does_not_wait_for_code_that_nobody_has(apps: Apps) -> None:
    """The command comes back at once and can say what is missing."""
    world = World()
    first = await apps.open()
    run = await first.start(graph("f", world("a") >> world("b", waits=True), state=Log))
    await until(lambda: world.calls["b"] == 1)
    await apps.crash(first)
    stranger = await apps.open()
    await cancelled(stranger, await stranger.store.run(run.id), timeout=15.0)
    view = await stranger.view(run.id)
    assert view.status is Status.PENDING
    assert view.needs is not None
    assert sum(mail.kind == "cancel" for mail in apps.database.runs[run.id].mail) == 1


# --------------------------------------------------------------------------------------------------- forks and children


@scenario
async def test_a_fork_of_a_run_that_was_undone_does_again_what_was_undone(apps: Apps) -> None:
    """On every branch, also on one that does not depend on the point; a point behind it is refused, with the way on."""
    world = World()
    world.broken.add("stays")
    fails = [True]

    @step
    def once() -> None:
        if fails.pop():
            raise ValueError("the first error")

    flow = graph("f", world("stays") >> [world("b"), world("c")] >> once, state=Log)
    app = await apps.open()
    run = await app.start(flow)
    await failed(run)
    assert sorted(world.undone) == ["b#1", "c#1"]
    with pytest.raises(PointUnknown, match=r"undone.*Fork at the first of them: b#1, c#1"):
        await run.fork(at="once#1")
    fails.append(False)
    again = await run.fork(at="b#1")
    assert sorted((await again.result())["log"]) == ["b", "c", "stays"]
    assert (world.calls["stays"], world.calls["b"], world.calls["c"]) == (1, 2, 2)


@scenario
async def test_a_fork_undoes_only_what_it_has_done_itself(apps: Apps) -> None:
    """What it has kept is the other run's: that one may have ended well, and stands by it."""
    world = World()
    fails = [True, False]

    @step
    def second_time() -> None:
        if fails.pop():
            raise ValueError("the first error")

    app = await apps.open()
    run = await app.start(graph("f", world("a") >> world("b") >> second_time, state=Log))
    await run.result()
    fork = await run.fork(at="b#1")
    await failed(fork)
    assert world.undone == ["b#1"]
    assert world.saw["b#1"]["log"] == ["a", "b"]


@scenario
async def test_children_of_a_cancelled_run_undo_what_they_have_done(apps: Apps) -> None:
    """Each run by itself: the child its steps, the parent its own."""
    world = World()
    child = graph("child", world("x") >> world("y", waits=True), state=Log)
    app = await apps.open()
    run = await app.start(graph("f", world("a") >> subflow(child) >> world("z"), state=Log))
    await until(lambda: world.calls["y"] == 1)
    await run.cancel()
    with pytest.raises(RunCancelled):
        await run.result()
    await until(lambda: len(world.undone) == 2)
    assert sorted(world.undone) == ["a#1", "x#1"]
    await until(lambda: all(kept.row.status is Status.CANCELLED for kept in apps.database.runs.values()))


@scenario
async def test_children_of_a_run_out_of_time_are_stopped(apps: Apps) -> None:
    """They are what was under way."""
    world = World()
    child = graph("child", world("x") >> world("y", waits=True), state=Log)
    app = await apps.open()
    run = await app.start(graph("f", subflow(child), state=Log, run_timeout=0.3))
    with pytest.raises(RunTimedOut):
        await run.result()
    await until(lambda: world.undone == ["x#1"])
    statuses = {kept.row.flow: kept.row.status for kept in apps.database.runs.values()}
    await until(lambda: apps.database.runs[run.id].row.status is Status.FAILED)
    assert statuses["f"] is Status.FAILED


@scenario
async def test_a_compensation_that_makes_a_durable_call_is_told_that_it_cannot(apps: Apps) -> None:
    """Nobody would answer it, so it fails at once instead of waiting for ever."""

    @step
    async def note() -> None: ...

    async def undo(ctx: Context) -> None:
        await ctx.step(note)

    @step(compensate=undo)
    def book() -> int:
        return 1

    app = await apps.open()
    run = await app.start(graph("f", book >> boom))
    assert "makes no durable calls" in (await failed(run)).__notes__[0]


@scenario
async def test_a_call_under_way_is_no_part_of_the_undoing(apps: Apps) -> None:
    """Cancelled in the middle of a body's durable call, killed in the middle of the undoing: each thing once."""
    world = World()
    called: list[str] = []

    @step
    async def slow() -> None:
        called.append("slow")
        await asyncio.sleep(60)

    @step
    async def outer(ctx: Context) -> None:
        await ctx.step(slow)

    flow = graph("f", world("a", undo_waits=True) >> outer, state=Log)
    first = await apps.open()
    run = await first.start(flow)
    await until(lambda: bool(called))
    first.engine._runners[run.id].tick()  # their beginnings are told, as after a while
    await run.cancel(by="ana")
    await until(lambda: world.calls["a#1/compensation#1"] == 1)
    await apps.crash(first)
    world.gate("a#1/compensation#1").set()
    second = await apps.open()
    await second.register(flow)
    with pytest.raises(RunCancelled):
        await (await second.resume(run.id)).result()
    assert (world.undone, called) == (["a#1"], ["slow"])
    assert not [e for e in apps.events(run.id) if isinstance(e, AttemptFailed) and "slow" in e.path]
