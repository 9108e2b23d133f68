"""Maps: a durable step per item of a list, in memory."""

from __future__ import annotations

import asyncio
import functools
import operator
import pickle
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import pytest

from flowbook.errors import BindingError, StoreUnavailable
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.mapping import map_
from flowbook.graph.step import Step, step, value
from flowbook.observe.views import State
from flowbook.plan.events import AttemptFailed, ItemFinished, MapBegan
from flowbook.plan.mapped import ItemError
from flowbook.plan.records import Status
from flowbook.run import maps as maps_module
from flowbook.run import runner as runner_module
from flowbook.run.context import Context
from flowbook.run.items import Items
from tests.unit.run.apps import Apps, scenario, step_of, until


@step
async def double(n: int) -> int:
    return 2 * n


class Bodies:
    """A step that counts how often it ran for which item, and fails where it is told to."""

    def __init__(self, *failing: int, retries: int = 0, backoff: float = 0.0, times: int = 10**9) -> None:
        self.ran: Counter[int] = Counter()
        self.failing, self.times = set(failing), times
        self.at_once = self.most = 0

        async def fetch(n: int) -> dict[str, int]:
            self.ran[n] += 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            await asyncio.sleep(0)
            self.at_once -= 1
            if n in self.failing and self.ran[n] <= self.times:
                raise ValueError(f"no {n}")
            return {"n": n}

        self.step: Step = step(name="fetch", retries=retries, backoff=(backoff,))(fetch)


# ------------------------------------------------------------------------------------------------------- results


@scenario
async def test_results_stand_in_the_order_of_the_items_however_they_finish(apps: Apps) -> None:
    """The last item finishes first."""
    app = await apps.open()

    @step
    async def slow_first(n: int) -> int:
        await asyncio.sleep(0.02 * (3 - n))
        return n

    run = await app.start(graph("f", map_(slow_first, over="xs", into="ys")), xs=[0, 1, 2])
    assert (await run.result())["ys"] == [0, 1, 2]
    order = [e.path for e in apps.events(run.id) if isinstance(e, ItemFinished)]
    assert order == ["slow_first#1[2]", "slow_first#1[1]", "slow_first#1[0]"]


@scenario
async def test_few_results_are_a_plain_list_that_steps_may_change(apps: Apps) -> None:
    """In the state, for a step, and for the caller."""
    app = await apps.open()

    @step
    def add(ys: list[int]) -> dict[str, Any]:
        assert type(ys) is list
        ys.append(0)
        return {"added": ys}

    result = await (await app.start(graph("f", map_(double, over="xs", into="ys") >> add), xs=[1, 2])).result()
    assert result == {"xs": [1, 2], "ys": [2, 4], "added": [2, 4, 0]}
    assert type(result["ys"]) is list


@scenario
async def test_an_empty_list_goes_on_at_once(apps: Apps) -> None:
    """With an empty list, and no item has run."""
    app = await apps.open()
    run = await app.start(graph("f", map_(double, over="xs") >> double.as_("after")), xs=[], n=4)
    assert await run.result() == {"xs": [], "n": 4, "double": [], "after": 8}
    assert apps.kinds(run) == ["double#1 finished", "after#1 finished", "completed"]


@scenario
async def test_none_and_empty_results_are_results(apps: Apps) -> None:
    """They are not taken for "not run yet", neither at the end nor after a crash."""
    app, ran, gate = await apps.open(), Counter[int](), asyncio.Event()

    @step
    async def nothing(n: int) -> Any:
        ran[n] += 1
        if n == 3:
            await gate.wait()
        return [None, {}, [], 0][n]

    flow = graph("f", map_(nothing, over="xs", into="ys"))
    run = await app.start(flow, xs=[0, 1, 2, 3])
    await until(lambda: ran[3] == 1 and sum(isinstance(e, ItemFinished) for e in apps.events(run.id)) == 3)
    await apps.crash(app)
    gate.set()
    second = await apps.open()
    await second.register(flow)
    assert (await (await second.resume(run.id)).result())["ys"] == [None, {}, [], 0]
    assert ran == {0: 1, 1: 1, 2: 1, 3: 2}


@scenario
async def test_a_dict_is_an_items_result_and_no_update(apps: Apps) -> None:
    """Nor is it wrapped where it was returned as a value."""
    app = await apps.open()

    @step
    async def page(n: int) -> Any:
        return {"xs": n} if n else value({"xs": n})

    run = await app.start(graph("f", map_(page, over="xs", into="ys")), xs=[0, 1])
    assert await run.result() == {"xs": [0, 1], "ys": [{"xs": 0}, {"xs": 1}]}


@scenario
async def test_a_reducer_gets_the_results_in_their_order(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are."""
    monkeypatch.setattr(maps_module, "FEW", 2)

    class Log(TypedDict, total=False):
        xs: list[int]
        log: Annotated[list[int], operator.add]

    app = await apps.open()
    flow = graph("f", map_(double, over="xs", into="log", concurrency=2), state=Log)
    run = await app.start(flow, xs=[3, 2, 1, 0], log=[7])
    assert (await run.result())["log"] == [7, 6, 4, 2, 0]


@scenario
async def test_the_item_is_the_first_parameter_and_others_are_filled_by_name(apps: Apps) -> None:
    """The context is never the item, and the item goes before a state key of that name."""
    app = await apps.open()

    @step
    def fetch(ctx: Context, url: str, token: str, retries: int = 3) -> Any:
        return [url, token, retries, ctx.index, ctx.path]

    run = await app.start(graph("f", map_(fetch, over="urls")), urls=["a", "b"], token="t", url="other")
    assert (await run.result())["fetch"] == [["a", "t", 3, 0, "fetch#1[0]"], ["b", "t", 3, 1, "fetch#1[1]"]]


@scenario
async def test_an_item_cannot_change_the_list_it_is_of(apps: Apps) -> None:
    """It gets a copy, as every step does."""
    app = await apps.open()

    @step
    async def spoil(item: dict[str, int]) -> None:
        item.clear()

    result = await (await app.start(graph("f", map_(spoil, over="xs")), xs=[{"a": 1}])).result()
    assert result["xs"] == [{"a": 1}]


@scenario
async def test_a_map_in_a_loop_and_in_a_fork_counts_its_firings(apps: Apps) -> None:
    """Each firing has items of its own, and each branch its own map."""
    app = await apps.open()

    @step
    def again(ys: list[int], turn: int) -> dict[str, Any]:
        return {"xs": ys, "turn": turn + 1}

    loop = map_(double, over="xs", into="ys")
    flow = graph("f", loop >> again >> branch(lambda s: s.turn < 3, {True: loop, False: END}))
    run = await app.start(flow, xs=[1, 2], turn=0)
    assert (await run.result())["ys"] == [8, 16]
    assert [s.path for s in (await run.view()).steps if s.items] == ["double#1", "double#2", "double#3"]
    meet = step(name="meet")(lambda left, right: left + right)
    forked = graph("g", double >> [map_(double, over="xs", name="left"), map_(double, over="xs", name="right")] >> meet)
    assert (await (await app.start(forked, xs=[1, 2], n=0)).result())["meet"] == [2, 4, 2, 4]


@scenario
async def test_a_router_sees_the_results(apps: Apps) -> None:
    """Of a map as of a step."""
    app = await apps.open()
    twice = map_(double, over="xs", into="ys", name="twice")
    flow = graph("f", twice >> branch(lambda s: len(s.ys), {2: double, 3: END}))
    assert "double" in await (await app.start(flow, xs=[1, 2], n=1)).result()
    assert "double" not in await (await app.start(flow, xs=[1, 2, 3], n=1)).result()


@scenario
async def test_threads_do_the_work_of_plain_functions_at_once(apps: Apps) -> None:
    """Twelve items wait for each other: with fewer than twelve at once the map would hang."""
    import threading

    app, barrier = await apps.open(), threading.Barrier(12, timeout=10)

    @step
    def together(n: int) -> int:
        barrier.wait()
        return n

    run = await app.start(graph("f", map_(together, over="xs", concurrency=12)), xs=list(range(12)))
    assert (await run.result())["together"] == list(range(12))


# ------------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("over", [{"a": 1}, "text", 7, {1, 2}, None], ids=repr)
def test_what_is_no_list_fails_the_run_and_says_so(over: Any, suspending: bool) -> None:
    """A text and a dict are no lists of items, though they could be iterated over."""

    @scenario
    async def whole(apps: Apps) -> None:
        app = await apps.open()
        run = await app.start(graph("f", map_(double, over="xs")), xs=over)
        with pytest.raises(BindingError, match=f"'xs', which is no list but a {type(over).__name__}"):
            await run.result()

    whole(apps=Apps(always_suspend=suspending))


@scenario
async def test_a_list_that_is_not_there_fails_the_run_and_says_what_is(apps: Apps) -> None:
    """With the keys that the state has."""
    run = await (await apps.open()).start(graph("f", map_(double, over="xs")), ys=[1])
    with pytest.raises(BindingError, match="goes over 'xs', and there is none: the state has 'ys'"):
        await run.result()


@scenario
async def test_one_failing_item_does_not_run_the_good_ones_again(apps: Apps) -> None:
    """Seen elsewhere: one failing member re-ran the good ones. The run names the item, and its retry runs it alone."""
    app, it = await apps.open(), Bodies(2, times=1)
    run = await app.start(graph("f", map_(it.step, over="xs", into="ys", concurrency=2)), xs=list(range(5)))
    with pytest.raises(ValueError, match="no 2"):
        await run.result()
    view = await run.view()
    assert (view.failed_path, view.steps[0].state) == ("fetch#1[2]", State.FAILED)
    before = dict(it.ran)
    assert before in ({0: 1, 1: 1, 2: 1, 3: 1}, {0: 1, 1: 1, 2: 1}), "others than those under way were begun"
    await run.retry()
    assert (await run.result())["ys"] == [{"n": n} for n in range(5)]
    assert it.ran == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}


@scenario
async def test_items_that_are_under_way_may_finish_when_one_has_failed(apps: Apps) -> None:
    """And what they did is kept for the retry."""
    app, gate, ran = await apps.open(), asyncio.Event(), Counter[int]()

    @step
    async def fetch(n: int) -> int:
        ran[n] += 1
        if n == 0 and ran[0] == 1:
            raise ValueError("no")
        if n == 1:
            await gate.wait()
        return n

    run = await app.start(graph("f", map_(fetch, over="xs", into="ys", concurrency=2)), xs=[0, 1, 2])
    await until(lambda: any(isinstance(e, AttemptFailed) for e in apps.events(run.id)) and ran[1] == 1)
    assert await run.status() is Status.RUNNING
    gate.set()
    with pytest.raises(ValueError, match="no"):
        await run.result()
    await run.retry()
    assert (await run.result())["ys"] == [0, 1, 2]
    assert ran == {0: 2, 1: 1, 2: 1}


@scenario
async def test_collecting_puts_the_record_of_a_failure_in_its_place(apps: Apps) -> None:
    """Type, message and index; the run completes, and the view counts."""
    app, it = await apps.open(), Bodies(1, 3)
    run = await app.start(
        graph("f", map_(it.step, over="xs", into="ys", on_error="collect", concurrency=2)), xs=list(range(5))
    )
    assert (await run.result())["ys"] == [
        {"n": 0}, ItemError(1, "ValueError", "no 1"), {"n": 2}, ItemError(3, "ValueError", "no 3"), {"n": 4},
    ]  # fmt: skip
    items = step_of(await run.view(), "fetch#1").items
    assert items is not None
    assert (items.total, items.done, items.failed, [i for i, _ in items.troubles]) == (5, 3, 2, [1, 3])
    assert it.ran == dict.fromkeys(range(5), 1)


@scenario
async def test_each_item_has_the_retries_of_the_step(apps: Apps) -> None:
    """Counted for itself."""
    app, it = await apps.open(), Bodies(0, 1, 4, retries=2, times=2)
    run = await app.start(graph("f", map_(it.step, over="xs", into="ys")), xs=list(range(5)))
    assert (await run.result())["ys"] == [{"n": n} for n in range(5)]
    assert it.ran == {0: 3, 1: 3, 2: 1, 3: 1, 4: 3}


@scenario
async def test_an_item_that_waits_for_its_next_attempt_keeps_its_place(apps: Apps) -> None:
    """With two places, one of them backing off, the others go through the second one; the run then parks."""
    app, it = await apps.open(), Bodies(0, retries=1, backoff=0.4, times=1)
    run = await app.start(graph("f", map_(it.step, over="xs", into="ys", concurrency=2)), xs=list(range(6)))
    await until(lambda: sum(isinstance(e, ItemFinished) for e in apps.events(run.id)) == 5)
    items = step_of(await run.view(), "fetch#1").items
    assert items is not None
    assert (items.done, items.retrying) == (5, 1)
    assert (await run.result())["ys"] == [{"n": n} for n in range(6)]
    assert it.most <= 2


@scenario
async def test_a_run_parks_while_all_open_items_back_off(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody owns it meanwhile, and it goes on by itself."""
    monkeypatch.setattr(runner_module, "LINGER", 0.05)
    app, it = await apps.open(), Bodies(0, 1, retries=1, backoff=0.4, times=1)
    run = await app.start(graph("f", map_(it.step, over="xs", into="ys", concurrency=2)), xs=[0, 1, 2])
    await until(lambda: not app.engine.carries(run.id))
    assert (await app.store.run(run.id)).current == "fetch#1"
    assert (await run.result())["ys"] == [{"n": n} for n in range(3)]


@scenario
async def test_never_more_than_so_many_items_at_once(apps: Apps) -> None:
    """The limit is kept, and reached."""
    app, it = await apps.open(), Bodies()
    run = await app.start(graph("f", map_(it.step, over="xs", concurrency=7)), xs=list(range(60)))
    await run.result()
    assert it.most == 7


@scenario
async def test_a_cancel_stops_a_map(apps: Apps) -> None:
    """Items under way are stopped, others do not begin."""
    app, begun = await apps.open(), Counter[int]()

    @step
    async def hang(n: int) -> None:
        begun[n] += 1
        await asyncio.Event().wait()

    run = await app.start(graph("f", map_(hang, over="xs", concurrency=3)), xs=list(range(9)))
    await until(lambda: len(begun) == 3)
    await run.cancel()
    await until(lambda: not app.engine.carries(run.id))
    assert await run.status() is Status.CANCELLED
    assert set(begun) == {0, 1, 2}


@scenario
async def test_what_a_dead_process_had_under_way_is_counted_item_by_item(apps: Apps) -> None:
    """An item that kills its process each time is given up, and it alone; the others keep what they have."""
    app = await apps.open()
    ran = Counter[int]()

    @step
    async def fatal(n: int) -> int:
        ran[n] += 1
        if n == 1:
            await asyncio.Event().wait()
        return n

    flow = graph("f", map_(fatal, over="xs", into="ys", concurrency=1, on_error="collect"))
    run = await app.start(flow, xs=[0, 1, 2])

    def has_begun(attempt: int) -> bool:
        rows = apps.database.runs[run.id].journal
        written = any((e.path, e.kind, e.attempt) == ("fatal#1[1]", "started", attempt) for e in rows)
        return written and ran[1] == attempt

    for death in (1, 2, 3):
        await until(functools.partial(has_begun, death))
        await apps.crash(app)
        app = await apps.open()
        await app.register(flow)
        await app.resume(run.id)
    result = (await (await app.run(run.id)).result())["ys"]
    assert (result[0], result[1].index, result[1].type, result[2]) == (0, 1, "flowbook.errors.AttemptLost", 2)
    assert ran == {0: 1, 1: 3, 2: 1}


@scenario
async def test_a_fork_has_the_results_of_the_items_that_it_keeps(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork behind a map reads them from the run before; one of a fork, too; and one at the map runs all of them."""
    monkeypatch.setattr(maps_module, "FEW", 3)
    app, it = await apps.open(), Bodies()

    @step
    async def total(ys: Any, more: int) -> int:
        return sum([y["n"] async for y in ys]) + more

    flow = graph("f", map_(it.step, over="xs", into="ys") >> total)
    run = await app.start(flow, xs=[1, 2, 3, 4], more=0)
    assert (await run.result())["total"] == 10
    behind = await run.fork("total#1", more=5)
    result = await behind.result()
    assert (result["total"], result["ys"]) == (15, [{"n": n} for n in (1, 2, 3, 4)])
    assert (await (await behind.fork("total#1", more=7)).result())["total"] == 17
    assert it.ran == dict.fromkeys([1, 2, 3, 4], 1)
    again = await run.fork("fetch#1", xs=[5, 6, 7, 8])
    assert (await again.result())["total"] == 26
    assert it.ran == dict.fromkeys(range(1, 9), 1)


# --------------------------------------------------------------------------------------------- many results


@scenario
async def test_many_results_are_a_sequence_that_reads_as_a_list(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a step in a thread, for a coroutine, for a router and for the caller; the state holds a reference."""
    monkeypatch.setattr(maps_module, "FEW", 10)
    app, want = await apps.open(), [2 * n for n in range(50)]

    def checked(ys: Any) -> int:
        assert isinstance(ys, Sequence)
        assert type(ys) is not list
        assert len(ys) == 50
        assert ys == want
        assert want == ys
        assert ys != want[1:]
        assert (ys[0], ys[-1], ys[7:10], ys[::-20], list(reversed(ys))) == (
            0,
            98,
            [14, 16, 18],
            [98, 58, 18],
            want[::-1],
        )
        assert repr(ys) == "<50 results of double#1>"
        assert 98 in ys
        assert ys.index(6) == 3
        with pytest.raises(IndexError):
            ys[50]
        return sum(ys)

    @step
    def threaded(ys: list[int]) -> int:
        return checked(ys)

    @step
    async def awaiting(ys: Any, ctx: Context) -> int:
        assert [y async for y in ys] == want
        return checked(ctx.state.ys) + checked(ys)

    flow = graph(
        "f", map_(double, over="xs", into="ys") >> threaded >> awaiting
        >> branch(lambda s: checked(s.ys), {sum(want): END, 0: awaiting})
    )  # fmt: skip
    run = await app.start(flow, xs=list(range(50)))
    result = await run.result()
    assert checked(result["ys"]) == result["threaded"] == sum(want)
    payload = apps.database.ended(run.id, ["double#1"])[0].payload
    assert len(payload) < 100, "the results are stored once"


@scenario
async def test_a_sequence_may_be_mapped_over_returned_and_sent(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map over the results of a map; who returns what he was given keeps the reference; a pickle is a list."""
    monkeypatch.setattr(maps_module, "FEW", 10)
    app = await apps.open()

    @step
    async def kept(ys: Any) -> dict[str, Any]:
        assert pickle.loads(pickle.dumps(ys)) == list(ys)
        return {"kept": ys}

    flow = graph("f", map_(double, over="xs", into="ys") >> map_(double, over="ys", into="zs", name="more") >> kept)
    result = await (await app.start(flow, xs=list(range(20)))).result()
    assert result["zs"] == [4 * n for n in range(20)]
    assert type(result["kept"]) is Items
    assert result["kept"] == result["ys"] == [2 * n for n in range(20)]


@scenario
async def test_large_results_are_not_held_by_the_state(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few, but large."""
    monkeypatch.setattr(maps_module, "SMALL", 1000)
    app = await apps.open()

    @step
    async def long(n: int) -> str:
        return str(n) * 600

    result = await (await app.start(graph("f", map_(long, over="xs")), xs=[1, 2])).result()
    assert type(result["long"]) is Items
    assert result["long"] == ["1" * 600, "2" * 600]


@scenario
async def test_pickled_items_are_opened_when_they_are_read(apps: Apps) -> None:
    """What the codec refuses can be an item's result as it can be a step's."""
    app = await apps.open()

    @step(store="pickle")
    async def odd(n: int) -> Any:
        return slice(n, complex) if n else 0

    @step
    def seen(odd: Sequence[Any]) -> list[str]:
        return [type(o).__name__ for o in odd]

    assert (await (await app.start(graph("f", map_(odd, over="xs") >> seen), xs=[0, 1])).result())["seen"] == [
        "int", "slice"]  # fmt: skip


@scenario
async def test_a_sequence_of_a_closed_app_says_what_to_do(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be read any more, and says so instead of hanging."""
    monkeypatch.setattr(maps_module, "FEW", 1)
    app = await apps.open()
    ys = (await (await app.start(graph("f", map_(double, over="xs")), xs=[1, 2, 3])).result())["double"]
    await app.__aexit__(None, None, None)
    with pytest.raises(StoreUnavailable, match="read them before"):
        list(ys)


# ---------------------------------------------------------------------------------------------------- crash and view


@scenario
async def test_a_killed_map_goes_on_with_what_is_missing(apps: Apps) -> None:
    """Another process runs the items that had no result, and no other."""
    app, gate, it = await apps.open(), asyncio.Event(), Bodies()

    @step
    async def fetch(n: int) -> int:
        it.ran[n] += 1
        if n == 20:
            await gate.wait()
        return n

    flow = graph("f", map_(fetch, over="xs", into="ys", concurrency=3))
    run = await app.start(flow, xs=list(range(40)))
    await until(lambda: sum(isinstance(e, ItemFinished) for e in apps.events(run.id)) == 39)
    await apps.crash(app)
    gate.set()
    second = await apps.open()
    await second.register(flow)
    assert (await (await second.resume(run.id)).result())["ys"] == list(range(40))
    assert it.ran == {n: 2 if n == 20 else 1 for n in range(40)}


@scenario
async def test_a_view_of_a_map_is_one_line(apps: Apps) -> None:
    """With how many are done, failed and under way."""
    app, gate = await apps.open(), asyncio.Event()

    @step
    async def fetch(n: int) -> int:
        if n >= 3:
            await gate.wait()
        return n

    run = await app.start(graph("f", map_(fetch, over="xs", concurrency=2)), xs=list(range(6)))
    await until(lambda: sum(isinstance(e, ItemFinished) for e in apps.events(run.id)) == 3)
    await until(lambda: len(app.engine.attempts(run.id)) == 2)
    view = await run.view()
    assert [s.path for s in view.steps] == ["fetch#1"]
    items = view.steps[0].items
    assert items is not None
    assert (view.steps[0].state, items.done, items.running, items.total) == (State.RUNNING, 3, 2, 6)
    gate.set()
    await run.result()
    assert MapBegan("fetch#1", 6) in apps.events(run.id)
