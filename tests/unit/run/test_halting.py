"""Ends that come early: halts, declared outputs, cycles that go round too often."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest

import flowbook as fb
from flowbook.errors import FlowbookError, RecursionLimitReached, RunCancelled, TopologyError, UsageError
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import RECURSION_LIMIT, Graph, graph
from flowbook.graph.pause import wait
from flowbook.graph.step import step, value
from flowbook.graph.subflow import subflow
from flowbook.observe.views import State
from flowbook.plan.records import Status
from tests.unit.run.apps import Apps, scenario, step_of, until
from tests.unit.run.test_pauses import logs, parked

# ---------------------------------------------------------------------------------------------------------------- halt


@pytest.mark.parametrize("end", [fb.halt, fb.complete], ids=["halt", "complete"])
@pytest.mark.parametrize("result", [{"report": 1}, None, [], "text", {}], ids=repr)
@scenario
async def test_a_step_ends_the_run_with_a_result(apps: Apps, end: Any, result: Any) -> None:
    """Both names mean the same; what is given is the result, whatever it is, and nothing behind it runs."""
    app = await apps.open()

    @step
    def stop() -> Any:
        return end(result)

    run = await app.start(graph("f", logs("a") >> stop >> logs("never")))
    assert await run.result(5) == result
    assert await run.status() is Status.COMPLETED
    assert await run.state() == {"log": ["a"]}
    assert apps.kinds(run) == ["a#1 finished", "stop#1 finished", "completed"]
    again = await apps.open()
    again.engine.register(app.engine.graph((await app.store.run(run.id)).fingerprint) or graph("x", stop))
    assert await (await again.run(run.id)).result(5) == result, "another process reads it from the journal"


@scenario
async def test_a_halt_without_a_result_gives_the_state(apps: Apps) -> None:
    """As the step saw it."""
    app = await apps.open()

    @step
    def stop() -> Any:
        return fb.halt()

    run = await app.start(graph("f", logs("a") >> stop >> logs("never")), {"n": 1})
    assert await run.result(5) == {"n": 1, "log": ["a"]}


@scenario
async def test_a_halt_in_a_branch_cancels_everything_else(apps: Apps) -> None:
    """Siblings under way, pauses, forks inside of forks; the run does not wait for them."""
    app, stopped, go = await apps.open(), asyncio.Event(), asyncio.Event()

    @step
    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.set()

    @step
    async def stop() -> Any:
        await go.wait()
        return fb.halt("done")

    run = await app.start(graph("f", [slow, wait("never"), logs("a") >> [logs("b"), stop]] >> logs("join")))
    await until(lambda: {"never#1 waiting", "b#1 finished"} <= set(apps.kinds(run)))
    assert "slow#1" in app.engine.attempts(run.id)
    go.set()
    assert await run.result(5) == "done"
    await until(stopped.is_set)
    view = await run.view()
    assert step_of(view, "never#1").state is State.CANCELLED
    assert "join#1" not in [s.path for s in view.steps]


@scenario
async def test_a_value_is_not_a_halt(apps: Apps) -> None:
    """Only what `halt` makes ends a run."""
    app = await apps.open()

    @step
    def plain() -> Any:
        return value({"halt": True})

    run = await app.start(graph("f", plain >> logs("after")))
    assert await run.result(5) == {"plain": {"halt": True}, "log": ["after"]}


@scenario
async def test_a_halted_result_may_be_a_pickle_and_not_recomputed(apps: Apps) -> None:
    """What would have to be made again by a step of a run that is over is no result."""
    app = await apps.open()

    @step(store="pickle")
    def model() -> Any:
        return fb.halt(Odd(3))

    @step(store="recompute")
    def fleeting() -> Any:
        return fb.halt(Odd(4))

    run = await app.start(graph("f", model))
    assert (await run.result(5)).n == 3
    failing = await app.start(graph("g", fleeting))
    with pytest.raises(FlowbookError, match="recompute"):
        await failing.result(5)


class Odd:
    """Nothing that the codec knows."""

    def __init__(self, n: int) -> None:
        self.n = n


# ------------------------------------------------------------------------------------------------------------- outputs


@scenario
async def test_declared_outputs_are_the_result_and_the_state_stays_whole(apps: Apps) -> None:
    """An output that the run never came to is left out; a halt's result goes before them."""
    app = await apps.open()

    @step
    def work() -> dict[str, Any]:
        return {"report": "r", "scratch": 1}

    run = await app.start(graph("f", work, outputs=["report", "score"]), {"topic": "t"})
    assert await run.result(5) == {"report": "r"}
    assert await run.state() == {"topic": "t", "report": "r", "scratch": 1}

    @step
    def stop() -> Any:
        return fb.halt("early")

    assert await (await app.start(graph("g", stop, outputs=["report"]))).result(5) == "early"


def test_an_output_that_the_state_does_not_declare_is_a_mistake() -> None:
    """Told with all others, where a schema tells; a text is no list."""

    class Report(TypedDict, total=False):
        report: str

    @step
    def report() -> None: ...

    with pytest.raises(TopologyError) as caught:
        graph("f", report >> "x", state=Report, outputs=["report", "score"])
    assert caught.value.problems == (
        "'x' is a text: name the step itself, without quotes",
        "outputs names 'score', which the state does not declare",
    )
    with pytest.raises(TopologyError, match="it is a list of state keys"):
        graph("f", report, outputs="report")


@scenario
async def test_a_child_ends_with_its_outputs_or_with_what_it_was_halted_with(apps: Apps) -> None:
    """Its parent gets what whoever asks the child for its result gets."""
    app = await apps.open()

    @step
    def work() -> dict[str, Any]:
        return {"report": "r", "scratch": 1}

    @step
    def stop() -> Any:
        return fb.halt(7)

    brief, early = graph("brief", work, outputs=["report"]), graph("early", stop)
    run = await app.start(graph("f", subflow(brief, into=None) >> subflow(early) >> logs("end")))
    assert await run.result(5) == {"report": "r", "early": 7, "log": ["end"]}
    merged = await app.start(graph("g", subflow(early, into=None)))
    with pytest.raises(FlowbookError, match="no update of the state"):
        await merged.result(5)


@scenario
async def test_a_halt_cancels_the_children_of_the_run(apps: Apps) -> None:
    """They are part of everything else."""
    app, go = await apps.open(), asyncio.Event()

    @step
    async def stop() -> Any:
        await go.wait()
        return fb.halt("done")

    child = graph("child", wait("never"))
    run = await app.start(graph("f", [subflow(child), stop]))
    await until(lambda: any(k.startswith("child#1") for k in apps.kinds(run)))
    go.set()
    assert await run.result(5) == "done"
    (row,) = await app.store.children(run.id)
    with pytest.raises(RunCancelled):
        await (await app.run(row.id)).result(5)


# ----------------------------------------------------------------------------------------------------- recursion limit


def turning(turns: int, limit: int | None = None) -> Graph:
    """A flow that goes round so often."""

    @step
    def count(n: int) -> dict[str, int]:
        return {"n": n + 1}

    topology = count >> branch(lambda s: s.n < s.turns, {True: count, False: END})
    return graph("turning", topology, recursion_limit=RECURSION_LIMIT if limit is None else limit)


@scenario
async def test_a_cycle_goes_round_as_often_as_the_limit_and_no_more(apps: Apps) -> None:
    """The failure names the node, the limit and the way on, and has a code of its own."""
    app, flow = await apps.open(), turning(6, limit=5)
    assert (await (await app.start(flow, {"n": 0, "turns": 5})).result(5))["n"] == 5
    run = await app.start(flow, {"n": 0, "turns": 6})
    with pytest.raises(RecursionLimitReached, match=r"count more than 5 times.*recursion_limit=25"):
        await run.result(5)
    view = await run.view()
    assert (view.status, view.failed_path) == (Status.FAILED, "count#6")
    assert view.failure is not None
    assert view.failure.code == "FB318"


@scenario
async def test_a_retry_with_a_higher_limit_goes_on_where_it_stood(apps: Apps) -> None:
    """The limit is journalled with the retry: who takes the run over keeps to it. No turn is made again."""
    app, flow = await apps.open(), turning(50, limit=5)
    run = await app.start(flow, {"n": 0, "turns": 50})
    with pytest.raises(RecursionLimitReached):
        await run.result(5)
    await run.retry()
    with pytest.raises(RecursionLimitReached, match="more than 5 times"):
        await run.result(5)
    await run.retry(recursion_limit=10)
    with pytest.raises(RecursionLimitReached, match="more than 10 times"):
        await run.result(5)
    other = await apps.open()
    await other.register(flow)
    await other.retry(run.id, recursion_limit=100)
    assert (await (await other.run(run.id)).result(5))["n"] == 50
    finished = [k for k in apps.kinds(run) if k.endswith("finished")]
    assert len(finished) == len(set(finished)) == 50


@scenario
async def test_a_limit_that_is_none_is_refused(apps: Apps) -> None:
    """At the declaration and at the retry."""
    app = await apps.open()
    for wrong in (0, -1, True, 2.5):
        with pytest.raises(FlowbookError, match="recursion_limit="):
            turning(1, limit=wrong)  # type: ignore[arg-type]
    run = await app.start(turning(6, limit=5), {"n": 0, "turns": 6})
    with pytest.raises(RecursionLimitReached):
        await run.result(5)
    with pytest.raises(UsageError, match="recursion_limit=0"):
        await run.retry(recursion_limit=0)
    assert await run.status() is Status.FAILED


def test_a_thousand_is_the_default() -> None:
    """And is no part of the definition, where another limit is."""
    assert turning(1).recursion_limit == 1_000
    assert turning(1, limit=1_000).fingerprint == turning(1).fingerprint
    assert turning(1, limit=5).fingerprint != turning(1).fingerprint


# ---------------------------------------------------------------------------------------------------------------- when


@scenario
async def test_a_step_may_have_its_condition_in_its_decorator(apps: Apps) -> None:
    """The same as ``when(condition, step)``; a plain function and a step get theirs in a list."""
    app = await apps.open()

    @step(when=lambda s: s.n > 1)
    def one() -> dict[str, Any]:
        return {"one": True}

    @step
    def two() -> dict[str, Any]:
        return {"two": True}

    def three() -> dict[str, Any]:
        return {"three": True}

    flow = graph("f", one >> step(two, when=lambda s: s.n > 2) >> step(three, when=lambda s: s.n > 3, retries=1))
    assert await (await app.start(flow, {"n": 1})).result(5) == {"n": 1}
    assert await (await app.start(flow, {"n": 3})).result(5) == {"n": 3, "one": True, "two": True}
    assert flow.step_at("three").policy.retries == 1
    run = await app.start(graph("g", one >> wait("go")), {"n": 5})
    await parked(app, run)
    assert step_of(await run.view(), "one#1").state is State.FINISHED
