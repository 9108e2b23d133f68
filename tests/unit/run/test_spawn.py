"""Spawned children: a body starts other flows and goes on, and what becomes of them comes to it once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from flowbook.errors import ChildFailed, StateError, UsageError
from flowbook.graph.flow import graph
from flowbook.graph.halt import halt
from flowbook.graph.imperative import flow
from flowbook.graph.mapping import map_
from flowbook.graph.rebuild import rebuild
from flowbook.graph.step import step
from flowbook.handle import Run
from flowbook.plan.records import Status
from flowbook.ports import RunRow
from flowbook.run import children as children_module
from flowbook.run.context import Context
from flowbook.testing import run_to_completion
from tests.unit.run.apps import Apps, scenario, step_of, until

RAN: Counter[str] = Counter()
BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    RAN.clear()
    BROKEN.clear()
    # A parent parks at once, so that every scenario is one of parking and waking.
    monkeypatch.setattr(children_module, "LINGER", 0.0)


class Odd:
    """What the codec refuses."""

    def __init__(self, n: int) -> None:
        self.n = n


@step
async def work(name: str) -> str:
    RAN[name] += 1
    if name in BROKEN:
        raise ValueError(f"{name} is broken")
    return name.upper()


@flow
async def child(ctx: Any, name: str, wait: bool = False) -> str:
    if wait:
        await ctx.wait("go")
    return str(await ctx.step(work, name))


def children_of(apps: Apps, run: Run) -> dict[str, RunRow]:
    """Path -> child."""
    return {str(k.row.parent_path): k.row for k in apps.database.runs.values() if k.row.parent_id == run.id}


async def is_waiting(apps: Apps, run_id: Any) -> None:
    """Until nobody owns a run, which waits."""
    await until(lambda: apps.database.runs[run_id].row.status is Status.WAITING)


@scenario
async def test_a_spawned_child_runs_beside_its_body_and_its_result_is_joined(apps: Apps) -> None:
    """The handle is there at once; it may be joined, or awaited, as often as one likes."""
    app = await apps.open()

    @flow
    async def parent(ctx: Any) -> list[Any]:
        one = ctx.spawn(child, name="one")
        two = ctx.spawn(child, name="two")
        mine = await ctx.step(work, "mine")
        return [mine, await ctx.join(two), await one, await ctx.join(one)]

    run = await app.start(parent)
    assert await run.result() == ["MINE", "TWO", "ONE", "ONE"]
    assert {p: r.status for p, r in children_of(apps, run).items()} == {
        "parent#1/child#1": Status.COMPLETED,
        "parent#1/child#2": Status.COMPLETED,
    }
    assert RAN == {"one": 1, "two": 1, "mine": 1}
    shown = step_of(await run.view(), "parent#1/child#2")
    assert (shown.child, shown.result) == (children_of(apps, run)["parent#1/child#2"].id, "TWO")


@scenario
async def test_a_parked_parent_wakes_at_the_ends_of_its_children_in_whatever_order_they_come(apps: Apps) -> None:
    """Nobody owns it meanwhile, another process carries it on, and no child is started twice."""
    app = await apps.open()

    @flow
    async def parent(ctx: Any) -> list[str]:
        RAN["body"] += 1
        all_ = [ctx.spawn(child, name=name, wait=True) for name in ("a", "b", "c")]
        return list(await ctx.gather(*all_))

    run = await app.start(parent)
    await until(lambda: len(children_of(apps, run)) == 3)
    await is_waiting(apps, run.id)
    ids = {path: row.id for path, row in children_of(apps, run).items()}
    for row_id in ids.values():
        await is_waiting(apps, row_id)
    await apps.crash(app)
    other = await apps.open()
    await other.register(parent)
    for path in ("parent#1/child#2", "parent#1/child#3", "parent#1/child#1"):
        ended = await other.resume(ids[path])
        await ended.signal("go")
        await ended.result()
    assert await (await other.resume(run.id)).result() == ["A", "B", "C"]
    assert {path: row.id for path, row in children_of(apps, run).items()} == ids
    assert (RAN["a"], RAN["b"], RAN["c"]) == (1, 1, 1)
    assert RAN["body"] >= 2


@scenario
async def test_a_child_that_fails_raises_at_its_join_and_a_retry_of_the_run_goes_on_with_it(apps: Apps) -> None:
    """The same child, from the step that failed it; what had ended is not done again."""
    app = await apps.open()

    @flow
    async def parent(ctx: Any) -> list[str]:
        good, bad = ctx.spawn(child, name="good"), ctx.spawn(child, name="bad")
        return [await ctx.join(good), await ctx.join(bad)]

    BROKEN.add("bad")
    run = await app.start(parent)
    with pytest.raises(ChildFailed, match=r"parent#1/child#2: child .* of flow 'child' failed"):
        await run.result()
    ids = {path: row.id for path, row in children_of(apps, run).items()}
    BROKEN.clear()
    assert await (await run.retry()).result() == ["GOOD", "BAD"]
    assert {path: row.id for path, row in children_of(apps, run).items()} == ids
    assert (RAN["good"], RAN["bad"]) == (1, 2)


@scenario
async def test_a_body_that_catches_the_failure_of_a_child_goes_another_way(apps: Apps) -> None:
    """And the same way each time it runs."""
    app = await apps.open()

    @flow
    async def parent(ctx: Any) -> str:
        try:
            return str(await ctx.spawn(child, name="bad"))
        except ChildFailed:
            return str(await ctx.step(work, "instead"))

    BROKEN.add("bad")
    run = await app.start(parent)
    assert await run.result() == "INSTEAD"
    assert RAN == {"bad": 1, "instead": 1}


@scenario
async def test_a_body_maps_over_a_flow_and_a_crash_starts_no_child_twice(apps: Apps) -> None:
    """Each item is a child at the item's path; results in their order, dicts as whole inputs, so many at once."""
    app = await apps.open()

    @flow
    async def parent(ctx: Any, names: list[Any]) -> list[str]:
        return list(await ctx.map(child, names, concurrency=2))

    run = await app.start(parent, names=["a", {"name": "b", "wait": True}, "c", "d"])
    await until(lambda: RAN["a"] == RAN["c"] == RAN["d"] == 1)
    await is_waiting(apps, run.id)
    held = children_of(apps, run)["parent#1/map#1/child#2"]
    await apps.crash(app)
    other = await apps.open()
    await other.register(parent)
    await (await other.resume(held.id)).signal("go")
    assert await (await other.resume(run.id)).result() == ["A", "B", "C", "D"]
    assert set(children_of(apps, run)) == {f"parent#1/map#1/child#{n}" for n in (1, 2, 3, 4)}
    assert RAN == {"a": 1, "b": 1, "c": 1, "d": 1}


@scenario
async def test_a_child_that_fails_a_map_of_a_body_goes_on_by_a_retry_or_stands_in_its_place(apps: Apps) -> None:
    """The same child, from its failed step; with "collect" its exception; `item=` names the input."""
    app = await apps.open()

    @flow
    async def parent(ctx: Any, how: str) -> list[str]:
        return [str(x) for x in await ctx.map(child, ["good", "bad"], on_error=how, item="name")]

    BROKEN.add("bad")
    good, failed = await (await app.start(parent, how="collect")).result()
    assert good == "GOOD"
    assert "failed at work#1" in failed or "failed at child#1" in failed
    run = await app.start(parent, how="fail")
    with pytest.raises(ChildFailed):
        await run.result()
    ids = {path: row.id for path, row in children_of(apps, run).items()}
    BROKEN.clear()
    assert await (await run.retry()).result() == ["GOOD", "BAD"]
    assert {path: row.id for path, row in children_of(apps, run).items()} == ids


@scenario
async def test_an_item_that_a_mapped_flow_does_not_take_is_refused_at_its_line(apps: Apps) -> None:
    """With what to say instead."""
    app = await apps.open()

    @flow
    async def parent(ctx: Any, named: bool) -> Any:
        if named:
            return await ctx.map(work, ["a"], item="name")
        return await ctx.map(child, [{"nam": "a"}])

    with pytest.raises(StateError, match=r"ctx.map\(child\): .*name that by item="):
        await (await app.start(parent, named=False)).result()
    with pytest.raises(UsageError, match="that is for a flow"):
        await (await app.start(parent, named=True)).result()


@scenario
async def test_children_that_nobody_joins_have_begun_when_their_body_ends_and_go_on(apps: Apps) -> None:
    """A run is over when its body is; its children are runs of their own."""
    app = await apps.open()

    @flow
    async def parent(ctx: Any) -> str:
        for name in ("a", "b"):
            ctx.spawn(child, name=name, wait=name == "b")
        return "done"

    run = await app.start(parent)
    assert await run.result() == "done"
    rows = children_of(apps, run)
    assert set(rows) == {"parent#1/child#1", "parent#1/child#2"}
    await is_waiting(apps, rows["parent#1/child#2"].id)
    await (await app.resume(rows["parent#1/child#2"].id)).signal("go")
    await until(lambda: {r.status for r in children_of(apps, run).values()} == {Status.COMPLETED})


@scenario
async def test_a_cancel_of_a_run_stops_the_children_that_it_has_spawned(apps: Apps) -> None:
    """Joined or not."""
    app = await apps.open()

    @flow
    async def parent(ctx: Any) -> None:
        first = ctx.spawn(child, name="a", wait=True)
        ctx.spawn(child, name="b", wait=True)
        await ctx.join(first)

    run = await app.start(parent)
    await until(lambda: len(children_of(apps, run)) == 2)
    await run.cancel()
    await until(lambda: {r.status for r in children_of(apps, run).values()} == {Status.CANCELLED})
    assert await run.status() is Status.CANCELLED
    assert not RAN


@scenario
async def test_who_stops_waiting_for_a_child_has_not_stopped_it(apps: Apps) -> None:
    """A time limit around a join ends the waiting alone."""
    app = await apps.open()

    @flow
    async def parent(ctx: Any) -> str:
        one = ctx.spawn(child, name="a", wait=True)
        other = asyncio.ensure_future(ctx.join(one))
        await ctx.sleep(0)
        other.cancel()
        return str(await ctx.join(one))

    run = await app.start(parent)
    await until(lambda: len(children_of(apps, run)) == 1)
    (row,) = children_of(apps, run).values()
    await is_waiting(apps, row.id)
    await (await app.resume(row.id)).signal("go")
    assert await run.result() == "A"


@scenario
async def test_a_step_of_a_graph_spawns_as_a_body_does(apps: Apps) -> None:
    """Of a graph the child's result is its state; the step runs again from its start and finds the same child."""
    app = await apps.open()
    inner = graph("inner", work)

    @step
    async def outer(ctx: Context) -> dict[str, Any]:
        one = ctx.spawn(inner, name="x")
        return {"got": (await ctx.join(one))["work"]}

    run = await app.start(graph("whole", outer))
    assert await run.result() == {"got": "X"}
    assert set(children_of(apps, run)) == {"outer#1/inner#1"}
    assert RAN == {"x": 1}


def test_what_cannot_be_spawned_or_joined_is_refused_where_it_is_typed() -> None:
    """A thing that is no flow, an input that does not fit, a thing that is no child."""

    @flow
    async def parent(ctx: Any, what: str) -> None:
        if what == "flow":
            ctx.spawn(work, name="a")
        elif what == "input":
            ctx.spawn(child, nom="a")
        else:
            await ctx.join("a")

    for what, kind, told in (
        ("flow", UsageError, "give it a flow"),
        ("input", StateError, "has no 'nom'"),
        ("join", UsageError, "what ctx.spawn has returned"),
    ):
        with pytest.raises(kind, match=told):
            run_to_completion(parent, what=what)


@scenario
async def test_a_body_is_rebuilt_with_the_flows_that_it_spawns(apps: Apps) -> None:
    """They are part of its definition, and a change of one is a change of it; also one that spawns itself."""
    app = await apps.open()

    @flow
    async def leaf(ctx: Any, n: int) -> int:
        return n * 10

    @flow
    async def tree(ctx: Any, n: int) -> int:
        if n == 0:
            return int(await ctx.spawn(leaf, n=1))
        return 1 + int(await ctx.spawn(tree, n=n - 1))

    registered = await app.register(tree)
    assert registered.portable, registered.obstacles
    rebuilt = rebuild(registered.definition, key=b"key")
    assert rebuilt.fingerprint == tree.fingerprint
    assert [f.name for f in rebuilt.flows] == ["leaf"]
    other = await Apps.open(apps)
    run = await other.start(rebuilt, n=2)
    assert await run.result() == 12


@scenario
async def test_a_body_gets_the_state_of_a_graph_with_what_lies_elsewhere(apps: Apps) -> None:
    """The results of a map, which lie in the child's journal, and what is stored as a signed pickle."""
    app = await apps.open()

    @step(store="pickle")
    def model() -> Any:
        return Odd(7)

    inner = graph("inner", map_(work, over="names", into="done") >> model)

    @flow
    async def parent(ctx: Any) -> list[Any]:
        got = await ctx.spawn(inner, names=["a", "b"])
        await ctx.sleep(0)
        return [list(got["done"]), got["model"].n]

    assert await (await app.start(parent)).result() == [["A", "B"], 7]


@scenario
async def test_the_result_of_a_child_may_be_the_many_results_of_a_map(apps: Apps) -> None:
    """1,001 values are a sequence in the body that joins, as they are to a step, and not what stands for them."""
    app, want = await apps.open(), list(range(1_001))

    @step
    async def count(x: int) -> int:
        return x

    @step
    async def finish(ys: Any) -> Any:
        return halt(ys)

    inner = graph("inner", map_(count, over="xs", into="ys", concurrency=500) >> finish)

    @flow
    async def parent(ctx: Any) -> list[int]:
        ys = await ctx.join(ctx.spawn(inner, xs=want))
        return [len(ys), sum(ys), ys[-1]]

    run = await app.start(parent)
    assert await run.result() == [1_001, sum(want), 1_000]


@scenario
async def test_a_run_that_is_handed_back_while_children_are_to_begin_begins_them_elsewhere(apps: Apps) -> None:
    """A body that has returned and waits for that alone holds nobody up."""
    app = await apps.open()

    @flow
    async def parent(ctx: Any) -> str:
        if not RAN["body"]:
            app.engine._runners[ctx.run_id].drain()
        RAN["body"] += 1
        ctx.spawn(child, name="a")
        return "done"

    run = await app.start(parent)
    assert await run.result() == "done"
    await until(lambda: [r.status for r in children_of(apps, run).values()] == [Status.COMPLETED])
    assert RAN["a"] == 1


@scenario
async def test_a_further_attempt_of_a_body_has_the_child_that_failed_it_retried(apps: Apps) -> None:
    """Not another one, and not the same failure again."""
    app = await apps.open()

    @flow(retries=1, backoff=(0,))
    async def parent(ctx: Any) -> str:
        RAN["body"] += 1
        try:
            return str(await ctx.spawn(child, name="a"))
        except ChildFailed:
            BROKEN.discard("a")
            raise

    BROKEN.add("a")
    run = await app.start(parent)
    assert await run.result() == "A"
    assert RAN["a"] == 2
    assert len(children_of(apps, run)) == 1
