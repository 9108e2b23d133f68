"""Plans: what a run would do is told before it does anything, and a run that reuses does no more than that."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest

from flowbook.app import App
from flowbook.errors import NothingToReuse, RunNotFound
from flowbook.graph.expression import branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.step import Step, step
from flowbook.observe.planned import Fate, Plan
from flowbook.plan.records import Status
from tests.unit.run.apps import Apps, scenario


class Notes(TypedDict, total=False):
    query: str
    docs: list[str]
    words: int
    title: str
    seen: Annotated[list[str], operator.add]
    report: str


CALLS: list[str] = []
"""Names of the steps whose bodies ran."""


def took() -> list[str]:
    """What has run since this was asked last."""
    taken, CALLS[:] = sorted(CALLS), []
    return taken


@step
def search(query: str) -> dict[str, Any]:
    CALLS.append("search")
    return {"docs": [f"about {query}", "more"], "seen": ["search"]}


@step
def count(docs: list[str]) -> dict[str, Any]:
    CALLS.append("count")
    return {"words": sum(len(d.split()) for d in docs), "seen": ["count"]}


@step
def title(query: str) -> str:
    CALLS.append("title")
    return query.title()


@step
def write(words: int, title: str) -> dict[str, Any]:
    CALLS.append("write")
    return {"report": f"{title}: {words}"}


def counted_otherwise() -> Step:
    """The step ``count`` with other code."""

    @step(name="count")
    def count(docs: list[str]) -> dict[str, Any]:
        CALLS.append("count")
        return {"words": 2 * sum(len(d.split()) for d in docs), "seen": ["twice"]}

    return count


def flow(counting: Step = count, writing: Step = write) -> Graph:
    """search, then two branches, then write."""
    return graph("notes", search >> [counting, title] >> writing, state=Notes)


async def finished(app: App, it: Graph, **input: Any) -> Any:
    """A run, to its end; what ran is forgotten."""
    run = await app.start(it, input)
    await run.result()
    took()
    return run


def fates(plan: Plan) -> dict[str, str]:
    """Node -> first letter of its fate: r(eused), w(ill run again), n(ew)."""
    return {n.node: str(n.fate)[0] for n in plan.nodes}


def why(plan: Plan, node: str) -> str:
    """The reason of a node."""
    return next(n.why for n in plan.nodes if n.node == node)


@scenario
async def test_a_plan_says_of_each_node_what_becomes_of_it_and_why(apps: Apps) -> None:
    """The edited step runs again because its code changed, what follows because of that; the sibling is reused."""
    app = await apps.open()
    run = await finished(app, flow(), query="q")
    plan = await app.plan(flow(counted_otherwise()), {"query": "q"})
    assert fates(plan) == {"search": "r", "count": "w", "title": "r", "write": "w"}
    assert why(plan, "count") == "its code changed"
    assert why(plan, "write") == "after `count`"
    assert plan.against == run.id
    assert plan.history == 1
    assert plan.changes == ("step `count` changed",)


@scenario
async def test_a_plan_executes_and_writes_nothing(apps: Apps) -> None:
    """It is a dry run: no step runs, no run and no definition is made."""
    app = await apps.open()
    await finished(app, flow(), query="q")
    before = len(await app.runs()), len(await app.store.definitions("default", "notes"))
    await app.plan(flow(counted_otherwise()), {"query": "q"})
    await app.plan(flow(counted_otherwise()), {"query": "another"})
    assert took() == []
    assert (len(await app.runs()), len(await app.store.definitions("default", "notes"))) == before


@scenario
async def test_a_run_that_reuses_makes_again_what_the_plan_says_and_nothing_else(apps: Apps) -> None:
    """Its result is that of a new run, and its journal has only what was made again."""
    app = await apps.open()
    await finished(app, flow(), query="q")
    edited = flow(counted_otherwise())
    run = await app.reuse(edited, {"query": "q"})
    assert await run.result() == {
        "query": "q", "docs": ["about q", "more"], "words": 6, "seen": ["search", "twice"], "title": "Q",
        "report": "Q: 6",
    }  # fmt: skip
    assert took() == ["count", "write"]
    assert await (await app.start(edited, {"query": "q"})).result() == await run.result()


@scenario
async def test_two_edited_branches_are_both_made_again(apps: Apps) -> None:
    """A fork has one point, and a change may have many: nothing that was edited keeps its old result."""

    @step(name="title")
    def shouted(query: str) -> str:
        CALLS.append("title")
        return query.upper() + "!"

    app = await apps.open()
    await finished(app, flow(), query="q")
    edited = graph("notes", search >> [counted_otherwise(), shouted] >> write, state=Notes)
    assert fates(await app.plan(edited)) == {"search": "r", "count": "w", "title": "w", "write": "w"}
    run = await app.reuse(edited)
    assert (await run.result())["report"] == "Q!: 6"
    assert took() == ["count", "title", "write"]


@scenario
async def test_a_helper_or_a_constant_that_changed_is_named(apps: Apps) -> None:
    """What a step uses is part of what its result depends on."""

    def made(factor: int, plus: Callable[[int], int]) -> Graph:
        @step
        def scale(x: int) -> int:
            return plus(x) * factor

        return graph("scaled", search >> scale)

    def one(n: int) -> int:
        return n + 1

    def two(n: int) -> int:
        return n + 2

    app = await apps.open()
    await finished(app, made(2, one), query="q", x=1)
    assert why(await app.plan(made(3, one)), "scale") == "`factor` is 3 instead of 2"
    plan = await app.plan(made(2, two))
    assert "uses, changed" in why(plan, "scale") or why(plan, "scale") == "its code changed"
    assert fates(await app.plan(made(2, one))) == {"search": "r", "scale": "r"}


@scenario
async def test_a_step_that_was_added_is_new_and_what_does_not_read_of_it_is_reused(apps: Apps) -> None:
    """The topology may change: results are kept where their steps are given the same."""

    @step
    def check(docs: list[str]) -> dict[str, Any]:
        CALLS.append("check")
        return {"seen": ["check"]}

    app = await apps.open()
    await finished(app, graph("notes", search >> count >> title >> write, state=Notes), query="q")
    longer = graph("notes", search >> check >> count >> title >> write, state=Notes)
    plan = await app.plan(longer, {"query": "q"})
    assert fates(plan) == {"search": "r", "check": "n", "count": "w", "title": "w", "write": "w"}
    at_the_end = graph("notes", search >> count >> title >> write >> check, state=Notes)
    plan = await app.plan(at_the_end, {"query": "q"})
    assert fates(plan) == {"search": "r", "count": "r", "title": "r", "write": "r", "check": "n"}
    run = await app.reuse(at_the_end)
    assert (await run.result())["seen"] == ["search", "count", "check"]
    assert took() == ["check"]


@scenario
async def test_a_step_that_is_taken_out_makes_again_only_what_was_given_something_of_it(apps: Apps) -> None:
    """Inputs are compared, not places: ``title`` asks for nothing that ``count`` gave."""
    app = await apps.open()
    await finished(app, graph("notes", search >> count >> title, state=Notes), query="q")
    plan = await app.plan(graph("notes", search >> title, state=Notes))
    assert fates(plan) == {"search": "r", "title": "r"}


@scenario
async def test_with_another_input_everything_runs_again_and_the_plan_says_so(apps: Apps) -> None:
    """The input is named; a run that reuses has the other run's input, so there is none."""
    app = await apps.open()
    await finished(app, flow(), query="q")
    plan = await app.plan(flow(), {"query": "other"})
    assert set(fates(plan).values()) == {"w"}
    assert plan.input_changed == ("query",)
    assert why(plan, "title") == "input changed: `query`"
    with pytest.raises(NothingToReuse, match="query"):
        await app.reuse(flow(), {"query": "other"})


@scenario
async def test_the_run_with_that_input_is_found_behind_newer_ones(apps: Apps) -> None:
    """The last run *with that input* is what a plan is relative to, or the one that is named."""
    app = await apps.open()
    first = await finished(app, flow(), query="q")
    second = await finished(app, flow(), query="other")
    assert (await app.plan(flow(), {"query": "q"})).against == first.id
    assert (await app.plan(flow())).against == second.id
    assert (await app.plan(flow(), against=first.id)).against == first.id
    other = await finished(app, graph("other", search >> count, state=Notes), query="q")
    with pytest.raises(RunNotFound, match="other"):
        await app.plan(flow(), against=other.id)


@scenario
async def test_a_flow_that_never_ran_is_all_new(apps: Apps) -> None:
    """There is nothing to compare it with, and nothing is expected of it."""
    app = await apps.open()
    plan = await app.plan(flow(), {"query": "q"})
    assert set(fates(plan).values()) == {"n"}
    assert plan.against is None
    assert plan.seconds is None
    with pytest.raises(NothingToReuse, match="has not run yet"):
        await app.reuse(flow(), {"query": "q"})


@scenario
async def test_nothing_is_left_to_do_where_nothing_changed(apps: Apps) -> None:
    """The run that has the results is the answer; none is started."""
    app = await apps.open()
    run = await finished(app, flow(), query="q")
    plan = await app.plan(flow(), {"query": "q"})
    assert set(fates(plan).values()) == {"r"}
    assert plan.standing == ()
    assert (await app.reuse(flow())).id == run.id
    assert took() == []


@scenario
async def test_what_failed_and_what_never_came_to_run_is_told_apart(apps: Apps) -> None:
    """A failed step runs again, what follows it is new."""

    @step(name="count")
    def broken(docs: list[str]) -> int:
        raise ValueError("no")

    app = await apps.open()
    run = await app.start(graph("notes", search >> broken >> write, state=Notes), {"query": "q", "title": "T"})
    with pytest.raises(ValueError, match="no"):
        await run.result()
    took()
    mended = graph("notes", search >> count >> write, state=Notes)
    plan = await app.plan(mended)
    assert fates(plan) == {"search": "r", "count": "w", "write": "n"}
    assert "failed in that run" in why(plan, "count")
    assert plan.against_status is Status.FAILED
    done = await app.reuse(mended)
    assert (await done.result())["report"] == "T: 3"
    assert took() == ["count", "write"]


@scenario
async def test_a_loop_is_made_again_from_its_first_round_that_changed(apps: Apps) -> None:
    """Each firing is compared by what it was given: a branch whose router changed is asked again."""

    @step
    def add(n: int) -> dict[str, Any]:
        CALLS.append("add")
        return {"n": n + 1}

    def upto(limit: int) -> Graph:
        return graph("loop", add >> branch(lambda s: s.n < limit, {True: add, False: title}))

    app = await apps.open()
    await finished(app, upto(3), n=0, query="q")
    plan = await app.plan(upto(4))
    assert fates(plan) == {"add": "w", "title": "w"}
    assert fates(await app.plan(upto(3))) == {"add": "r", "title": "r"}
    assert why(await app.plan(upto(3)), "add")[0] == "3"
    run = await app.reuse(upto(4))
    assert (await run.result())["n"] == 4
    assert took() == ["add", "add", "add", "add", "title"]


@scenario
async def test_expectations_are_medians_over_finished_runs(apps: Apps) -> None:
    """Of what runs again, one step after the other; what is reused costs nothing, and a failed run tells nothing."""
    import asyncio

    @step
    async def slow(x: float) -> dict[str, Any]:
        await asyncio.sleep(x)
        if x == 0.07:
            raise ValueError("no")
        return {"turns": [{"usd": x}, {"usd": None}]}

    @step
    def after(turns: list[dict[str, Any]]) -> int:
        return len(turns)

    def made(extra: int) -> Graph:
        @step(name="after")
        def other(turns: list[dict[str, Any]]) -> int:
            return len(turns) + extra

        return graph("timed", slow >> other)

    app = await apps.open()
    for x in (0.03, 0.01, 0.05):
        await finished(app, made(0), x=x)
    failed = await app.start(made(0), {"x": 0.07})
    with pytest.raises(ValueError, match="no"):
        await failed.result()
    plan = await app.plan(made(0), {"x": 0.5})
    node = plan.nodes[0]
    assert plan.history == 3
    assert node.usd == 0.03
    assert plan.usd == 0.03
    assert node.seconds is not None
    assert 0.03 <= node.seconds < 3
    edited = await app.plan(made(1), {"x": 0.01})
    assert edited.of(Fate.REUSED)[0].node == "slow"
    assert edited.usd == 0
    assert edited.saved is not None
    assert edited.seconds is not None
    assert edited.seconds < node.seconds


@scenario
async def test_what_no_definition_holds_is_named_as_unknown(apps: Apps) -> None:
    """A variable of the notebook that a step reads cannot be compared, so the plan does not pretend."""
    hidden = object()

    @step
    def reads(query: str) -> str:
        return f"{query} {hidden is None}"

    app = await apps.open()
    it = graph("hidden", reads)
    await finished(app, it, query="q")
    (note,) = (await app.plan(it)).notes
    assert "`reads` reads `hidden`" in note


@scenario
async def test_a_fork_of_a_reusing_run_and_a_plan_against_it_keep_what_it_kept(apps: Apps) -> None:
    """A run that reuses is an ordinary fork: it is planned against, forked and reused like any other."""
    app = await apps.open()
    await finished(app, flow(), query="q")
    edited = flow(counted_otherwise())
    second = await app.reuse(edited)
    await second.result()
    took()

    @step(name="write")
    def quiet(words: int) -> dict[str, Any]:
        CALLS.append("write")
        return {"report": f"{words}"}

    third = await app.reuse(flow(counted_otherwise(), quiet), against=second.id)
    assert (await third.result())["report"] == "6"
    assert took() == ["write"]
    fork = await third.fork(at="count#1", docs=["a"])
    assert (await fork.result())["report"] == "2"
