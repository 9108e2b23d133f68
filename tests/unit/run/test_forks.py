"""Forks and time travel: another run begins inside one, and does nothing again that it need not."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pydantic
import pytest

from flowbook.errors import CodeMissing, PointUnknown, StateError, StepFailed, Unencodable
from flowbook.fixing import enter
from flowbook.graph.expression import branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.mapping import map_
from flowbook.graph.pause import sleep, wait
from flowbook.graph.step import step
from flowbook.plan.events import RunForked
from flowbook.plan.records import Status
from tests.unit.run.apps import Apps, scenario, step_of, until


class State(TypedDict, total=False):
    query: str
    docs: Annotated[list[str], operator.add]
    judge: bool
    report: str


class Calls(list[str]):
    """Names of the steps whose bodies ran."""

    def take(self) -> list[str]:
        taken, self[:] = list(self), []
        return taken


def research(calls: Calls, *, verdict: str = "ok", version: str | None = None) -> Graph:
    """search, then judge, then write."""

    @step
    def search(query: str) -> dict[str, Any]:
        calls.append("search")
        return {"docs": [f"about {query}"]}

    @step
    def judge(docs: list[str]) -> bool:
        calls.append("judge")
        if any("bad" in d for d in docs):
            raise ValueError("bad document")
        return len(docs) > 1

    @step
    def write(docs: list[str], judge: bool) -> dict[str, Any]:
        calls.append("write")
        return {"report": f"{'many' if judge else 'few'}: {' '.join(docs)}"}

    return graph("research", search >> judge >> write, state=State, version=version)


@scenario
async def test_a_fork_runs_from_its_point_with_the_edited_state(apps: Apps) -> None:
    """What came before is neither run nor copied; the parent stays as it was."""
    calls = Calls()
    app = await apps.open()
    run = await app.start(research(calls), query="q")
    before = await run.result()
    calls.take()
    fork = await run.fork(at="judge#1", docs=["a", "b"])
    assert await fork.result() == {"query": "q", "docs": ["a", "b"], "judge": True, "report": "many: a b"}
    assert calls.take() == ["judge", "write"]
    assert await run.state() == before
    assert apps.kinds(fork) == ["judge#1 forked", "judge#1 finished", "write#1 finished", "completed"]
    assert await fork.lineage() == (fork.id, run.id)


@scenario
async def test_a_sibling_that_finished_after_the_point_is_not_run_again(apps: Apps) -> None:
    """Forks are causal: the branch beside it does not depend on the edit."""
    calls = Calls()

    def tells(name: str) -> Any:
        def body(state: dict[str, Any]) -> str:
            calls.append(name)
            return f"{name} {state.get('k')}"

        return step(name=name)(body)

    a, late, meet = tells("a"), tells("late"), tells("meet")
    nap = sleep("0.05s", name="nap")
    flow = graph("siblings", tells("begin") >> [a, nap], a >> meet, nap >> late >> meet)
    app = await apps.open()
    run = await app.start(flow, k=1)
    await run.result()
    assert calls.take() == ["begin", "a", "late", "meet"]
    fork = await run.fork(at="a#1", k=2)
    state = await fork.result()
    assert calls.take() == ["a", "meet"]
    assert (state["a"], state["late"], state["meet"]) == ("a 2", "late 1", "meet 2")
    view = await fork.view()
    assert [s.path for s in view.steps if s.kept] == ["begin#1", "nap#1", "late#1"]
    assert view.forked is not None
    assert (view.forked.parent, view.forked.at, view.forked.edits) == (run.id, "a#1", {"k": 2})


@scenario
async def test_a_failed_run_is_forked_at_the_step_that_failed_it(apps: Apps) -> None:
    """With other inputs; the failed run stays failed."""
    calls = Calls()
    app = await apps.open()
    run = await app.start(research(calls), query="bad")
    with pytest.raises(ValueError, match="bad document"):
        await run.result()
    fork = await run.fork(at="judge#1", docs=["good"])
    assert (await fork.result())["report"] == "few: good"
    assert await run.status() is Status.FAILED
    assert calls.take() == ["search", "judge", "judge", "write"]


@scenario
async def test_a_waiting_run_and_a_cancelled_one_are_forked(apps: Apps) -> None:
    """A signal that the parent has taken is in the prefix; what was sent to it later is not the fork's."""
    calls = Calls()

    @step
    def use(go: dict[str, Any], extra: int = 0) -> str:
        calls.append("use")
        return f"{go['by']} {extra}"

    flow = graph("gates", wait("go") >> use >> wait("more") >> step(name="end")(lambda more: more))
    app = await apps.open()
    run = await app.start(flow)
    await run.signal("go", by="ana")
    await until(lambda: "more#1 waiting" in apps.kinds(run))
    fork = await run.fork(at="use#1", extra=3)
    await run.signal("more", n=1)
    await run.result()
    assert "use" in calls
    await fork.signal("more", n=2)
    state = await fork.result()
    assert (state["use"], state["more"]) == ("ana 3", {"n": 2})
    other = await app.start(flow)
    await other.cancel()
    await app.store.run(other.id)
    again = await other.fork(at="go#1", go={"by": "eva"})
    await again.signal("go", by="ida")
    await again.signal("more", n=3)
    assert (await again.result())["use"] == "ida 0"


@scenario
async def test_a_fork_of_a_fork_keeps_both_prefixes(apps: Apps) -> None:
    """And each result once."""
    calls = Calls()
    app = await apps.open()
    run = await app.start(research(calls), query="q")
    await run.result()
    first = await run.fork(at="judge#1", docs=["a", "b"])
    await first.result()
    calls.take()
    second = await first.fork(at="write#1", judge=False)
    assert (await second.result())["report"] == "few: a b"
    assert calls.take() == ["write"]
    assert await second.lineage() == (second.id, first.id, run.id)
    third = await second.fork(at="search#1")
    assert (await third.result())["report"] == "few: about q"
    assert calls.take() == ["search", "judge", "write"]


@scenario
async def test_a_fork_goes_on_in_another_process_after_a_crash(apps: Apps) -> None:
    """Its prefix is read from its parent's journal by whoever carries it."""
    calls = Calls()
    one = await apps.open()
    flow = gated(calls)
    run = await one.start(flow, n=1)
    await run.signal("go")
    await run.result()
    fork = await run.fork(at="second#1", n=5)
    await until(lambda: "go#1 waiting" in apps.kinds(fork))
    await apps.crash(one)
    calls.take()
    two = await apps.open()
    await two.register(gated(calls))
    again = await two.resume(fork.id)
    await again.signal("go")
    assert (await again.result())["third"] == 7
    assert calls.take() == ["third"]


def gated(calls: Calls) -> Graph:
    @step
    def first(n: int) -> int:
        calls.append("first")
        return n

    @step
    def second(n: int, first: int) -> int:
        calls.append("second")
        return n + first

    @step
    def third(second: int) -> int:
        calls.append("third")
        return second + 1

    return graph("gated", first >> second >> wait("go") >> third)


# ---------------------------------------------------------------------------------------------------- refusals


@scenario
async def test_a_point_that_is_not_there_lists_those_that_are(apps: Apps) -> None:
    """A step that has not run is none."""
    app = await apps.open()
    run = await app.start(research(Calls()), query="bad")
    with pytest.raises(ValueError, match="bad document"):
        await run.result()
    with pytest.raises(PointUnknown, match=r"'write#1'.*It came to: search#1, judge#1"):
        await run.fork(at="write#1")
    with pytest.raises(PointUnknown, match="did you mean 'judge#1'"):
        await run.fork(at="judge")


@scenario
async def test_an_edit_that_does_not_fit_is_refused_before_anything_is_written(apps: Apps) -> None:
    """Unknown keys, values that the schema refuses, values that the codec refuses."""

    class Model(pydantic.BaseModel):
        n: int = 0
        tags: Annotated[list[str], operator.add] = []

    @step
    def add(n: int) -> dict[str, Any]:
        return {"n": n + 1, "tags": ["t"]}

    app = await apps.open()
    run = await app.start(graph("typed", add, state=Model), n=1)
    await run.result()
    with pytest.raises(StateError, match=r"fork at add#1 has 'm', which Model does not declare"):
        await run.fork(at="add#1", m=2)
    with pytest.raises(StateError, match=r"'n' does not fit Model"):
        await run.fork(at="add#1", n="many")
    with pytest.raises(StateError, match=r"'tags' does not fit Model"):
        await run.fork(at="add#1", tags="one")
    loose = await app.start(graph("loose", step(name="a")(lambda: 1)))
    await loose.result()
    with pytest.raises(Unencodable, match=r"edits.*tags"):
        await loose.fork(at="a#1", tags=[object()])
    assert len(await app.runs()) == 2
    fork = await run.fork(at="add#1", n="41", tags=["a"])
    assert (await fork.result()).tags == ["a", "t"]
    assert (await fork.state()).n == 42


@scenario
async def test_a_summed_key_cannot_be_edited_on_a_branch(apps: Apps) -> None:
    """At the join its reducer would lose the edit, or what the others add; so it is said."""
    a, b = step(name="a")(lambda: {"docs": ["a"]}), step(name="b")(lambda: {"docs": ["b"]})
    flow = graph("summed", step(name="head")(lambda: None) >> [a, b] >> step(name="meet")(lambda: None), state=State)
    app = await apps.open()
    run = await app.start(flow)
    await run.result()
    with pytest.raises(StateError, match=r"'docs' cannot be edited at a#1.*Fork at head#1"):
        await run.fork(at="a#1", docs=["x"])
    fork = await run.fork(at="a#1", query="x")
    assert await fork.result() == {"query": "x", "docs": ["a", "b"]}


# ---------------------------------------------------------------------------------------------------- code


@scenario
async def test_a_fork_runs_the_code_of_its_parent_where_that_is_known(apps: Apps) -> None:
    """Also if the flow has been declared anew since."""
    calls, edited = Calls(), Calls()
    app = await apps.open()
    run = await app.start(research(calls), query="q")
    await run.result()
    await app.register(other(edited))
    fork = await run.fork(at="write#1")
    await fork.result()
    assert edited == []
    view = await fork.view()
    assert (view.version, view.forked and view.forked.changes) == (1, ())
    chosen = await app.fork(run.id, at="write#1", graph=other(edited))
    assert (await chosen.result())["report"] == "edited"
    assert edited == ["write"]


def other(calls: Calls) -> Graph:
    """research with another writer."""
    old = research(Calls())

    @step
    def write() -> dict[str, Any]:
        calls.append("write")
        return {"report": "edited"}

    return graph("research", old.step_at("search") >> old.step_at("judge") >> write, state=State)


@scenario
async def test_a_fork_with_other_code_says_what_is_different(apps: Apps) -> None:
    """Never silently: the first row of its journal has the report."""
    one = await apps.open()
    run = await one.start(research(Calls()), query="q")
    await run.result()
    two = await apps.open()
    await two.register(other(Calls()))
    fork = await (await two.run(run.id)).fork(at="write#1")
    assert (await fork.result())["report"] == "edited"
    (forked,) = [e for e in apps.events(fork.id) if isinstance(e, RunForked)]
    assert "step `write` changed" in forked.changes
    assert (await two.store.run(fork.id)).version == 2


@scenario
async def test_other_code_with_another_topology_is_refused_with_what_is_different(apps: Apps) -> None:
    """Its journal could not be read by it."""
    one = await apps.open()
    run = await one.start(research(Calls()), query="q")
    await run.result()
    two = await apps.open()
    more = research(Calls())
    await two.register(
        graph("research", more.step_at("search") >> branch(lambda s: True, {True: more.step_at("write")}), state=State)
    )
    with pytest.raises(CodeMissing, match="step `judge` removed"):
        await (await two.run(run.id)).fork(at="write#1")


@scenario
async def test_a_fork_that_is_not_carried_waits_for_whoever_knows_its_code(apps: Apps) -> None:
    """A worker elsewhere, or a resume."""
    app = await apps.open()
    run = await app.start(research(Calls()), query="q")
    await run.result()
    fork = await app.fork(run.id, at="judge#1", carry=False)
    assert await fork.status() is Status.PENDING
    assert (await (await app.resume(fork.id)).result())["report"] == "few: about q"


# ---------------------------------------------------------------------------------------------------- time travel


@scenario
async def test_the_state_at_a_step_is_what_it_left(apps: Apps) -> None:
    """Before and after, with its result; of a fork also at steps that it has kept."""
    app = await apps.open()
    run = await app.start(research(Calls()), query="q")
    await run.result()
    it = await run.at("judge#1")
    assert (it.before, it.state) == (
        {"query": "q", "docs": ["about q"]},
        {"query": "q", "docs": ["about q"], "judge": False},
    )
    assert (it.finished, it.result, it.branch, it.path) == (True, False, "", "judge#1")
    assert (await run.at(it.seq)).state == it.state
    fork = await run.fork(at="judge#1", docs=["a", "b"])
    await fork.result()
    assert (await fork.at("search#1")).seq == 0
    assert (await fork.at("judge#1")).before == {"query": "q", "docs": ["a", "b"]}
    with pytest.raises(PointUnknown, match="has no row 99"):
        await fork.at(99)


@scenario
async def test_the_many_results_of_a_map_are_looked_at_as_steps_see_them(apps: Apps) -> None:
    """In the state, as a result, and as the input of a step that is entered: a sequence of 1,001 values each time."""
    app, want = await apps.open(), list(range(1_001))

    @step
    async def count(x: int) -> int:
        return x

    @step
    async def total(ys: Any) -> dict[str, Any]:
        return {"sum": sum(ys), "same": ys}

    run = await app.start(graph("f", map_(count, over="xs", into="ys", concurrency=500) >> total), xs=want)
    await run.result()
    it = await run.at("total#1")
    assert [it.before["ys"], it.state["ys"], it.state["same"], it.result["same"]] == [want] * 4
    assert [(await run.at("count#1")).result, (await enter(app, run.id, "total#1")).inputs["ys"]] == [want] * 2


@scenario
async def test_the_state_at_a_failed_step_is_what_it_saw(apps: Apps) -> None:
    """Which is where somebody looks for the mistake."""
    app = await apps.open()
    run = await app.start(research(Calls()), query="bad")
    with pytest.raises((ValueError, StepFailed)):
        await run.result()
    it = await run.at("judge#1")
    assert (it.finished, it.result, it.before["docs"]) == (False, None, ["about bad"])
    assert it.state == it.before


@scenario
async def test_a_run_can_be_looked_at_where_its_code_can_be_rebuilt(apps: Apps) -> None:
    """Signed source is enough; where it is not, the error says why."""
    one = await apps.open()
    run = await one.start(PORTABLE, n=1)
    await run.result()
    two = await apps.open()
    other_run = await two.run(run.id)
    assert (await other_run.at("double#1")).state == {"n": 1, "double": 2}
    assert not two.engine.knows((await two.store.run(run.id)).fingerprint)
    loose = await one.start(research(Calls()), query="q")
    await loose.result()
    with pytest.raises(CodeMissing, match="cannot be rebuilt either"):
        await (await two.run(loose.id)).at("judge#1")


@step
def double(n: int) -> int:
    """Reads nothing from outside."""
    return 2 * n


PORTABLE = graph("portable", double)


@scenario
async def test_a_value_that_is_computed_again_sees_the_edit(apps: Apps) -> None:
    """`store="recompute"`: what a fork's step returned is computed from what it saw, not from what its parent's saw."""
    calls: list[int] = []

    @step(store="recompute")
    def fit(n: int) -> Any:
        calls.append(n)
        return {"model": lambda: n}

    @step
    def use(model: Any) -> int:
        return int(model())

    flow = graph("models", fit >> wait("go") >> use)
    one = await apps.open()
    run = await one.start(flow, n=1)
    await run.signal("go")
    await run.result()
    fork = await run.fork(at="fit#1", n=5)
    await until(lambda: "go#1 waiting" in apps.kinds(fork))
    await apps.crash(one)
    two = await apps.open()
    await two.register(flow)
    await two.resume(fork.id)
    await two.signal(fork.id, "go")
    await two.result(fork.id)
    assert step_of(await two.view(fork.id), "use#1").result == 5
    assert set(calls) == {1, 5}


# ---------------------------------------------------------------------------------------------------- differences


@scenario
async def test_a_fork_and_its_parent_part_at_the_point(apps: Apps) -> None:
    """What was kept is alike; the edited input is what differs first."""
    app = await apps.open()
    run = await app.start(research(Calls()), query="q")
    await run.result()
    fork = await run.fork(at="judge#1", docs=["a", "b"])
    await fork.result()
    found = await run.diff(fork)
    assert found.first is not None
    assert (found.first.path, found.first.inputs) == ("judge#1", ("docs",))
    assert (found.alike, [s.path for s in found.steps]) == (1, ["judge#1", "write#1"])
    assert found.state is not None
    assert [k.key for k in found.state] == ["docs", "judge", "report"]
    assert (await run.diff(run)).same


@scenario
async def test_runs_of_two_versions_are_compared_with_what_was_edited(apps: Apps) -> None:
    """Also from a process that knows neither, where their results are all there is."""
    one = await apps.open()
    run = await one.start(research(Calls()), query="q")
    await run.result()
    newer = await one.start(other(Calls()), query="q")
    await newer.result()
    found = await run.diff(newer)
    assert "step `write` changed" in found.code
    assert found.first is not None
    assert (found.first.path, found.first.what) == ("write#1", ("code", "result"))
    two = await apps.open()
    elsewhere = await (await two.run(run.id)).diff(await two.run(newer.id))
    assert (elsewhere.state, [s.path for s in elsewhere.steps]) == (None, ["write#1"])


@scenario
async def test_two_runs_with_a_map_are_compared_item_by_item(apps: Apps) -> None:
    """Large results are references that name their run: that is no difference."""
    flow = graph("mapped", map_(step(name="double")(lambda item: f"{item}" * 100_000), over="xs", name="doubled"))
    app = await apps.open()
    run = await app.start(flow, xs=list(range(12)))
    await run.result()
    other_run = await app.start(flow, xs=[*range(11), 7])
    await other_run.result()
    found = await run.diff(other_run)
    assert [s.path for s in found.steps] == ["doubled#1[11]"]
    assert found.state is not None
    assert [k.key for k in found.state] == ["xs"]
