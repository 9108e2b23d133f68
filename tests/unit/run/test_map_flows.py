"""Maps over flows: a child per item, whatever dies in between, in memory."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict
from uuid import UUID

import pytest

from flowbook.errors import ChildFailed, RunCancelled, StepFailed
from flowbook.graph.expression import branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.imperative import flow
from flowbook.graph.mapping import map_
from flowbook.graph.pause import wait
from flowbook.graph.race import race
from flowbook.graph.step import step
from flowbook.handle import Run
from flowbook.observe.views import State
from flowbook.plan.mapped import ItemError
from flowbook.plan.records import Status
from flowbook.ports import Mail, RunRow
from flowbook.run import children as children_module
from flowbook.run import maps as maps_module
from flowbook.run.context import Context
from flowbook.run.items import Items
from flowbook.store.memory import MemoryStore
from tests.unit.run.apps import Apps, scenario, step_of, until


@pytest.fixture(autouse=True)
def _no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent parks at once, so that every scenario is one of parking and waking."""
    monkeypatch.setattr(children_module, "LINGER", 0.0)


@step
async def double(n: int) -> dict[str, int]:
    return {"twice": 2 * n}


TWICE = graph("twice", double, outputs=["twice"])


class Work:
    """A flow of two steps that counts what it did, and whose second one fails or waits where it is told to."""

    def __init__(self, *failing: int) -> None:
        self.failing = set(failing)
        self.gates: dict[int, asyncio.Event] = {}
        self.ran: Counter[str] = Counter()
        self.at_once = self.most = 0

        @step
        async def look(n: int) -> dict[str, int]:
            self.ran[f"look {n}"] += 1
            return {"seen": n + 1}

        @step
        async def store(n: int, seen: int) -> dict[str, int]:
            self.ran[f"store {n}"] += 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            try:
                await asyncio.sleep(0)
                if n in self.gates:
                    await self.gates[n].wait()
            finally:
                self.at_once -= 1
            if n in self.failing:
                raise ValueError(f"no {n}")
            return {"stored": seen}

        self.flow: Graph = graph("work", look >> store, outputs=["stored"])

    def ended(self, apps: Apps, run: Run) -> list[str]:
        """The items of a run that have their outcomes."""
        return [kind.split()[0] for kind in apps.kinds(run) if kind.endswith("] finished")]


async def child_of(run: Run, index: int) -> RunRow:
    """The child of an item."""
    return next(row for row in await run.children() if str(row.parent_path).endswith(f"[{index}]"))


# --------------------------------------------------------------------------------------------------- input and result


@scenario
async def test_each_item_is_a_run_of_its_own_and_results_stand_in_their_order(apps: Apps) -> None:
    """However they finish; each has a row, a journal and the map's item as its parent's path."""
    app, work = await apps.open(), Work()
    work.gates[0] = asyncio.Event()
    run = await app.start(graph("f", map_(work.flow, over="ns", into="out", concurrency=2)), ns=[0, 1, 2])
    await until(lambda: len(work.ended(apps, run)) == 2)
    work.gates[0].set()
    assert (await run.result())["out"] == [{"stored": 1}, {"stored": 2}, {"stored": 3}]
    children = await run.children()
    assert sorted(str(c.parent_path) for c in children) == ["work#1[0]", "work#1[1]", "work#1[2]"]
    assert {(c.flow, c.status, c.root_id, c.queue) for c in children} == {("work", Status.COMPLETED, run.id, "default")}
    assert apps.kinds(run)[-1] == "completed"
    assert [k for k in apps.kinds(run) if k.startswith("work#1[2]")] == ["work#1[2] child", "work#1[2] finished"]
    assert [r.id for r in await app.runs()] == [run.id], "lists leave children out"


@scenario
async def test_no_more_children_than_the_concurrency_are_under_way(apps: Apps) -> None:
    """And the record holds no more of them than that."""
    app, work = await apps.open(), Work()
    run = await app.start(graph("f", map_(work.flow, over="ns", concurrency=3)), ns=list(range(12)))
    assert len((await run.result())["work"]) == 12
    assert work.most <= 3
    assert set(work.ran.values()) == {1}


@scenario
async def test_a_worker_takes_no_more_children_than_it_has_room_for(apps: Apps) -> None:
    """Eight begin together; three are carried, the parent among them while it is not parked, and the others wait."""
    app, work = await apps.open(), Work()
    work.gates = {n: asyncio.Event() for n in range(8)}
    flow = graph("f", map_(work.flow, over="ns", concurrency=8))
    await app.register(flow)
    working = asyncio.create_task(app.work(concurrency=3))
    await until(lambda: app.engine._queues is not None)
    run = await app.start(flow, ns=list(range(8)))
    await until(lambda: sum(k.endswith("child") for k in apps.kinds(run)) == 8)
    await until(lambda: work.at_once >= 2)
    for gate in work.gates.values():
        gate.set()
    assert len((await run.result())["work"]) == 8
    assert work.most <= 3
    working.cancel()


@scenario
async def test_an_item_is_the_flows_first_parameter_or_as_a_dict_its_input(apps: Apps) -> None:
    """A number; a dict of inputs; with item= whatever it is, a dict too."""
    app = await apps.open()

    @step
    def size(word: Any, times: int = 1) -> dict[str, Any]:
        return {"size": len(word) * times}

    sized = graph("sized", size, outputs=["size"])
    plain = graph("f", map_(sized, over="words"))
    assert (await (await app.start(plain, words=["ab", "abc"])).result())["sized"] == [{"size": 2}, {"size": 3}]
    dicts: list[Any] = [{"word": "ab", "times": 3}, {"word": "abc"}]
    assert (await (await app.start(plain, words=dicts)).result())["sized"] == [{"size": 6}, {"size": 3}]
    named = graph("g", map_(sized, over="words", item="word"))
    assert (await (await app.start(named, words=[{"a": 1, "b": 2}])).result())["sized"] == [{"size": 2}]


@scenario
async def test_an_imperative_flow_is_mapped_and_its_result_is_the_items(apps: Apps) -> None:
    """Its first parameter besides the context gets the item."""
    app = await apps.open()

    @flow
    async def squared(ctx: Context, n: int, add: int = 0) -> int:
        return int((await ctx.step(double, n))["twice"]) + add

    mapped = graph("f", map_(squared, over="ns"))
    assert (await (await app.start(mapped, ns=[1, 2])).result())["squared"] == [2, 4]
    assert (await (await app.start(mapped, ns=[{"n": 3, "add": 1}])).result())["squared"] == [7]


@scenario
async def test_an_item_that_the_flow_does_not_take_says_what_to_do(apps: Apps) -> None:
    """A dict that is one input among others; something that could be one of several; a dict that is no input at all."""
    app = await apps.open()

    @flow
    async def ship(ctx: Context, order: dict[str, int]) -> int:
        return order["id"]

    with pytest.raises(Exception, match=r"is the whole input of the flow.*name that by item="):
        await (await app.start(graph("f", map_(ship, over="orders")), orders=[{"id": 7}])).result()
    right = graph("f", map_(ship, over="orders", item="order"))
    assert (await (await app.start(right, orders=[{"id": 7}])).result())["ship"] == [7]
    vague = graph("vague", wait("go") >> double)
    with pytest.raises(Exception, match=r"does not tell which of its inputs that is.*item="):
        await (await app.start(graph("g", map_(vague, over="ns")), ns=[1])).result()
    with pytest.raises(Exception, match="has the key 1, which is no text"):
        await (await app.start(graph("h", map_(TWICE, over="ns")), ns=[{1: 2}])).result()


class Batch(TypedDict, total=False):
    """What the mapped flow declares."""

    n: int
    twice: int


@scenario
async def test_many_results_are_a_sequence_that_reads_them(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for steps; a step behind the map and the caller read them."""
    monkeypatch.setattr(maps_module, "FEW", 3)
    app = await apps.open()

    @step
    def total(out: Any) -> dict[str, int]:
        assert type(out) is Items
        return {"total": sum(one["twice"] for one in out)}

    inner = graph("inner", double, state=Batch)
    run = await app.start(graph("f", map_(inner, over="ns", into="out") >> total), ns=list(range(5)))
    state = await run.result()
    assert (state["total"], state["out"][4]) == (20, {"n": 4, "twice": 8})


@scenario
async def test_large_maps_and_pickles_of_children_are_opened_when_they_are_looked_at(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child's state may hold a reference to its own map, or a pickle; a caller sees the values."""
    monkeypatch.setattr(maps_module, "FEW", 1)
    app = await apps.open()

    @step(store="pickle")
    def model(n: int) -> Any:
        return {"n": n, "made": Odd(n)}

    inner = graph("inner", map_(double, over="ms", into="ys") >> model)
    run = await app.start(graph("f", map_(inner, over="ns", into="out")), ns=[{"ms": [1, 2], "n": 5}])
    (state,) = (await run.result())["out"]
    assert list(state["ys"]) == [{"twice": 2}, {"twice": 4}]
    assert state["made"].n == 5


class Summed(TypedDict, total=False):
    """A state whose results are merged."""

    ns: list[Any]
    out: Annotated[list[Any], operator.add]


class Odd:
    """No value that the codec knows."""

    def __init__(self, n: int) -> None:
        self.n = n


@scenario
async def test_an_empty_list_starts_nothing_and_a_router_sees_the_results(apps: Apps) -> None:
    """As for steps."""
    app = await apps.open()

    @step
    def none() -> str:
        return "none"

    @step
    def some() -> str:
        return "some"

    both = map_(TWICE, over="ns") >> branch(lambda s: len(s.twice), {0: none, 1: some})
    run = await app.start(graph("f", both), ns=[])
    assert "none" in await run.result()
    assert await run.children() == []
    assert "some" in await (await app.start(graph("f", both), ns=[4])).result()


# ------------------------------------------------------------------------------------------------------------ failing


@scenario
async def test_a_child_that_fails_fails_the_run_and_a_retry_goes_on_from_its_failed_step(apps: Apps) -> None:
    """Neither what it had done is done again, nor what its siblings did."""
    app, work = await apps.open(), Work(1)
    run = await app.start(graph("f", map_(work.flow, over="ns", concurrency=2)), ns=[0, 1, 2, 3])
    with pytest.raises(ChildFailed, match=r"work#1\[1\]: child .* of flow 'work' failed at store#1"):
        await run.result()
    failed = await child_of(run, 1)
    work.failing.clear()
    await run.retry()
    assert [one["stored"] for one in (await run.result())["work"]] == [1, 2, 3, 4]
    assert (await child_of(run, 1)).id == failed.id, "the same child went on"
    assert work.ran["store 1"] == 2
    assert sum(work.ran.values()) == 9


@scenario
async def test_a_child_that_fails_is_collected_where_the_map_says_so(apps: Apps) -> None:
    """Its place holds an `ItemError`; the others have their results, and the record forgets the child."""
    app, work = await apps.open(), Work(1)
    run = await app.start(graph("f", map_(work.flow, over="ns", on_error="collect")), ns=[0, 1, 2])
    first, error, third = (await run.result())["work"]
    assert (first, third) == ({"stored": 1}, {"stored": 3})
    assert isinstance(error, ItemError)
    assert (error.index, error.type.rpartition(".")[2]) == (1, "ChildFailed")
    items = step_of(await run.view(), "work#1").items
    assert items is not None
    assert (items.done, items.failed, items.running) == (2, 1, 0)


@scenario
async def test_a_cancel_stops_the_children(apps: Apps) -> None:
    """Those under way end as cancelled, and no other begins."""
    app, work = await apps.open(), Work()
    work.gates = {n: asyncio.Event() for n in range(4)}
    run = await app.start(graph("f", map_(work.flow, over="ns", concurrency=2)), ns=[0, 1, 2, 3])
    await until(lambda: work.ran["store 0"] == work.ran["store 1"] == 1)
    items = step_of(await run.view(), "work#1").items
    assert items is not None
    assert (items.total, items.running, items.done) == (4, 2, 0)
    await run.cancel()
    with pytest.raises(RunCancelled):
        await run.result()
    rows = [kept.row for kept in apps.database.runs.values() if kept.row.parent_id == run.id]
    await until(lambda: all(apps.database.runs[r.id].row.status is Status.CANCELLED for r in rows))
    assert len(rows) == 2


@scenario
async def test_a_cancelled_child_is_replaced_by_another_when_the_run_is_retried(apps: Apps) -> None:
    """It is over for good, so its item begins anew."""
    app, work = await apps.open(), Work()
    work.gates[0] = asyncio.Event()
    run = await app.start(graph("f", map_(work.flow, over="ns")), ns=[0])
    await until(lambda: work.ran["store 0"] == 1)
    gone = await child_of(run, 0)
    await app.cancel(gone.id)
    with pytest.raises(ChildFailed, match="was cancelled"):
        await run.result()
    work.gates.clear()
    await run.retry()
    assert (await run.result())["work"] == [{"stored": 1}]
    assert len(await run.children()) == 2


@scenario
async def test_a_map_of_flows_that_loses_a_race_has_its_children_stopped(apps: Apps) -> None:
    """The winner's way goes on without them."""
    app, work = await apps.open(), Work()
    work.gates[0] = asyncio.Event()

    @step
    async def quick() -> str:
        await until(lambda: work.ran["store 0"] == 1)
        return "won"

    run = await app.start(graph("f", race(map_(work.flow, over="ns"), quick)), ns=[0])
    assert (await run.result())["quick"] == "won"
    child = await child_of(run, 0)
    await until(lambda: apps.database.runs[child.id].row.status is Status.CANCELLED)


@scenario
async def test_a_reducer_gets_no_placeholders(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused with the reason."""
    monkeypatch.setattr(maps_module, "FEW", 1)
    app = await apps.open()
    inner = graph("inner", map_(double, over="ms", into="ys"))
    outer = graph("f", map_(inner, over="ns", into="out"), state=Summed)
    with pytest.raises(StepFailed, match="'out' has a reducer, which cannot merge"):
        await (await app.start(outer, ns=[{"ms": [1, 2]}])).result()


# ------------------------------------------------------------------------------------------------------------ crashes


@scenario
async def test_a_parent_killed_in_the_middle_goes_on_with_its_children(apps: Apps) -> None:
    """What had ended is not run again, what was under way is carried on, and no item gets a second child."""
    app, work = await apps.open(), Work()
    work.gates = {2: asyncio.Event(), 3: asyncio.Event()}
    outer = graph("f", map_(work.flow, over="ns", concurrency=2))
    run = await app.start(outer, ns=list(range(6)))
    await until(lambda: len(work.ended(apps, run)) == 2 and work.ran["store 2"] == work.ran["store 3"] == 1)
    await apps.crash(app)
    for gate in work.gates.values():
        gate.set()
    second = await apps.open()
    await second.register(outer)
    again = await second.resume(run.id)
    assert [one["stored"] for one in (await again.result())["work"]] == [1, 2, 3, 4, 5, 6]
    assert len(await again.children()) == 6
    assert {name for name, times in work.ran.items() if times > 1} <= {"store 2", "store 3"}
    assert all(work.ran[f"look {n}"] == 1 for n in range(6))


@scenario
async def test_a_parent_killed_after_a_child_finished_goes_on(apps: Apps) -> None:
    """The child's row says how it ended, whoever was told."""
    app, work = await apps.open(), Work()
    work.gates[0] = asyncio.Event()
    outer = graph("f", map_(work.flow, over="ns"))
    run = await app.start(outer, ns=[0])
    await until(lambda: work.ran["store 0"] == 1)
    await until(lambda: apps.database.runs[run.id].row.status is Status.WAITING)
    await apps.crash(app)
    work.gates.clear()
    second = await apps.open()
    await second.register(outer)
    child = Run(second, (await child_of(Run(second, run.id), 0)).id)
    await second.resume(child.id)
    await child.result()
    assert (await (await second.resume(run.id)).result())["work"] == [{"stored": 1}]


class Postman(MemoryStore):
    """A store that counts what it hands out."""

    handed = 0

    async def mailbox(self, run_id: UUID, after: int = 0, *, ends_after: int = 0) -> Sequence[Mail]:
        """As every store."""
        mails = await super().mailbox(run_id, after, ends_after=ends_after)
        Postman.handed += len(mails)
        return mails


@scenario
async def test_a_parent_that_wakes_for_each_child_does_not_read_of_all_that_ended_before(apps: Apps) -> None:
    """Thirty children one after the other, each of which finds its parent parked: what is read grows with them, and
    not with their square.
    """
    app, work = await apps.open(store=Postman), Work()
    Postman.handed = 0
    run = await app.start(graph("f", map_(work.flow, over="ns", concurrency=1)), ns=list(range(30)))
    assert len((await run.result())["work"]) == 30
    assert apps.database.runs[run.id].row.claims > 10, "it was parked again and again"
    assert Postman.handed <= 60


@scenario
async def test_the_picture_says_how_the_items_are_doing(apps: Apps) -> None:
    """Done and under way are counted from the journal, whoever carries the children."""
    app, work = await apps.open(), Work()
    work.gates = {1: asyncio.Event()}
    run = await app.start(graph("f", map_(work.flow, over="ns", concurrency=1)), ns=[0, 1, 2])
    await until(lambda: work.ran["store 1"] == 1)
    shown = step_of(await run.view(), "work#1")
    assert shown.state is State.RUNNING
    assert shown.items is not None
    assert (shown.items.total, shown.items.done, shown.items.running) == (3, 1, 1)
    work.gates[1].set()
    await run.result()
