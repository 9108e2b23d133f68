"""Results: what a step returns is what is kept, seen again and given back."""

from __future__ import annotations

import asyncio
import math
import operator
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import pytest

from flowbook.errors import PayloadTooLarge, StateError, StepFailed, Unencodable
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.step import Step, step, value
from flowbook.plan.records import Status
from flowbook.store import blobs
from tests.unit.run.apps import Apps, scenario, step_of


class Log(TypedDict, total=False):
    """A list that steps add to."""

    log: Annotated[list[str], operator.add]


def returning(result: Any, name: str = "made") -> tuple[Step, list[int]]:
    """A step that returns this, and how often it was called."""
    calls: list[int] = []

    def body() -> Any:
        calls.append(1)
        return result() if callable(result) else result

    return step(name=name)(body), calls


@pytest.mark.parametrize("result", [None, {}, [], 0, False, ""], ids=repr)
@scenario
async def test_an_empty_result_is_not_taken_for_not_yet_run(apps: Apps, result: Any) -> None:
    """Also by another process that takes the run over: the step is not called again."""
    made, calls = returning(result)
    gate = asyncio.Event()

    async def wait() -> str:
        await gate.wait()
        return "waited"

    flow = graph("empty", made >> step(name="wait")(wait))
    first = await apps.open()
    run = await first.start(flow)
    while not apps.kinds(run):
        await asyncio.sleep(0.002)
    await apps.crash(first)
    second = await apps.open()
    await second.register(flow)
    resumed = await second.resume(run.id)
    gate.set()
    state = await resumed.result()
    assert len(calls) == 1
    assert state == ({"wait": "waited"} if result == {} else {"made": result, "wait": "waited"})


class Slotted:
    """A class the codec knows nothing of."""


def nested(depth: int) -> list[Any]:
    """A list in a list in a list."""
    outer: list[Any] = []
    for _ in range(depth):
        outer = [outer]
    return outer


STORED = {
    "nan": float("nan"),
    "infinity": -math.inf,
    "minus zero": -0.0,
    "nul": "\x00",
    "nul in a key": {"a\x00b": 1},
    "lone surrogate": "\ud800",
    "bytes": b"\x00\xff",
    "huge int": 2**200,
    "set": {1, 2},
    "tuple": (1, (2,)),
    "int keys": value({1: "a", (2, 3): "b"}),
}


@pytest.mark.parametrize("result", STORED.values(), ids=STORED)
@scenario
async def test_an_odd_value_comes_back_exactly(apps: Apps, result: Any) -> None:
    """What JSON or jsonb would refuse or change goes through the journal as it is."""
    made, _ = returning(result)
    seen: list[Any] = []

    @step
    def look(state: dict[str, Any]) -> None:
        seen.append(state)

    flow = graph("odd", made >> look)
    app = await apps.open()
    run = await app.start(flow)
    state = await run.result()
    other = await apps.open()
    await other.register(flow)
    again = await other.result(run.id)
    expected = getattr(result, "value", result)
    if not isinstance(result, dict):
        expected = {"made": expected}
    for found in (state, again, {**seen[0], "look": None}):
        assert repr(found) == repr({**expected, "look": None}), "repr tells NaN, -0.0 and types apart"


@scenario
async def test_five_thousand_nested_lists_come_back(apps: Apps) -> None:
    """The loop does not die of a RecursionError, here or in the process that reads it."""
    made, _ = returning(lambda: nested(5_000))
    flow = graph("deep", made)
    app, other = await apps.open(), await apps.open()
    run = await app.start(flow)
    await other.register(flow)
    for state in (await run.result(), await other.result(run.id)):
        depth, inner = 0, state["made"]
        while inner:
            depth, inner = depth + 1, inner[0]
        assert depth == 5_000


def cyclic() -> list[Any]:
    """A list that holds itself."""
    loop: list[Any] = []
    loop.append(loop)
    return loop


def numbers() -> Any:
    """A generator."""
    yield 1


REFUSED = {
    "lock": threading.Lock,
    "generator": numbers,
    "own class": Slotted,
    "function": lambda: print,
    "cyclic": cyclic,
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
@scenario
async def test_what_cannot_be_stored_fails_once_and_by_name(apps: Apps, make: Any) -> None:
    """A typed error that names step and key; the effect is not repeated; other runs are unharmed."""
    calls: list[int] = []

    def body() -> Any:
        calls.append(1)
        return {"good": 1, "bad": [make()]}

    bad = graph("bad", step(name="made", retries=5, backoff=(0,))(body))
    good = graph("good", returning(7)[0])
    app = await apps.open()
    runs = [await app.start(flow) for flow in (good, bad, good)]
    with pytest.raises(Unencodable) as caught:
        await runs[1].result()
    assert calls == [1]
    failure = (await runs[1].view()).failure
    assert failure is not None
    assert failure.code == "FB101"
    assert "'made'" in failure.message
    assert "bad[0]" in failure.message
    assert "bad[0]" in str(caught.value)
    assert [await run.result() for run in (runs[0], runs[2])] == [{"made": 7}] * 2


@scenario
async def test_a_result_too_large_to_be_stored_fails_its_step_alone(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, by name; what its siblings made in the same moment is kept, and a retry of the run goes on from it."""
    monkeypatch.setattr(blobs, "TOO_LARGE", 30_000)
    calls: list[str] = []
    size = [50_000]

    async def big() -> str:
        calls.append("big")
        return "x" * size[0]

    async def small() -> str:
        calls.append("small")
        return "small"

    fork = [step(name="big", retries=3, backoff=(0,))(big), step(name="small")(small)]
    app = await apps.open()
    run = await app.start(graph("f", returning(1, "a")[0] >> fork >> returning(2, "z")[0]))
    with pytest.raises(PayloadTooLarge, match=r"'big#1'"):
        await run.result()
    view = await run.view()
    assert view.failed_path == "big#1"
    assert step_of(view, "small#1").result == "small"
    assert sorted(calls) == ["big", "small"]
    size[0] = 5
    assert await (await run.retry()).result() == {"a": 1, "big": "xxxxx", "small": "small", "z": 2}
    assert sorted(calls) == ["big", "big", "small"]


@scenario
async def test_a_step_that_changes_its_input_changes_nothing(apps: Apps) -> None:
    """Neither a parameter, nor `state`, nor `ctx.state` leads into the record."""

    @step
    def load() -> dict[str, Any]:
        return {"rows": [1, 2], "deep": {"list": [1]}}

    @step
    def spoil(rows: list[int], state: dict[str, Any], load: dict[str, Any], ctx: Any) -> int:
        rows.append(3)
        state["deep"]["list"].append(2)
        state["new"] = 1
        load["rows"].clear()
        ctx.state.rows.append(4)
        ctx.state["deep"]["list"].append(5)
        return len(rows)

    app = await apps.open()
    run = await app.start(graph("spoil", load >> spoil))
    assert await run.result() == {"rows": [1, 2], "deep": {"list": [1]}, "spoil": 3}


@scenario
async def test_a_router_that_changes_the_state_changes_nothing(apps: Apps) -> None:
    """Its view is read-only, also further down."""

    @step
    def load() -> dict[str, Any]:
        return {"rows": [1]}

    @step
    def again() -> None:
        return None

    def router(s: Any) -> bool:
        s.rows.append(9)
        with pytest.raises(AttributeError):
            s.rows = []
        with pytest.raises(TypeError):
            s["rows"] = []
        return True

    app = await apps.open()
    flow = graph("route", load >> again >> branch(router, {True: END, False: load}))
    assert await (await app.start(flow)).result() == {"rows": [1], "again": None}


@scenario
async def test_a_step_that_keeps_its_result_and_changes_it_later_changes_nothing(apps: Apps) -> None:
    """What was journalled is what the next step sees."""
    kept: list[int] = [1]

    @step
    def give() -> dict[str, Any]:
        return {"rows": kept}

    @step
    def after(rows: list[int]) -> int:
        kept.append(2)
        return len(rows)

    @step
    def last(rows: list[int]) -> int:
        return len(rows)

    app = await apps.open()
    run = await app.start(graph("kept", give >> after >> last))
    assert await run.result() == {"rows": [1], "after": 1, "last": 1}


@scenario
async def test_the_state_keeps_the_order_of_the_input_and_of_the_steps(apps: Apps) -> None:
    """Keys come back as they came in."""
    app = await apps.open()
    flow = graph("order", returning(1, "m")[0] >> returning(2, "a")[0])
    state = await (await app.start(flow, {"z": 0, "b": 1, "q": 2})).result()
    assert list(state) == ["z", "b", "q", "m", "a"]


@scenario
async def test_lists_are_the_same_whichever_branch_is_faster(apps: Apps) -> None:
    """Reducers work inside a fork, in declaration order."""

    def logging(name: str, seconds: float) -> Step:
        async def body() -> dict[str, Any]:
            await asyncio.sleep(seconds)
            return {"log": [name]}

        return step(name=name)(body)

    app = await apps.open()
    for delays in ((0.02, 0.0, 0.01), (0.0, 0.01, 0.02)):
        b, c, d = (logging(n, s) for n, s in zip("bcd", delays, strict=True))
        flow = graph("fork", logging("a", 0) >> [b, c, d] >> logging("e", 0), state=Log)
        assert await (await app.start(flow)).result() == {"log": list("abcde")}


@scenario
async def test_a_loop_sees_the_merged_state(apps: Apps) -> None:
    """`while n < 3` runs to 3."""

    @step
    def count(n: int) -> dict[str, int]:
        return {"n": n + 1}

    app = await apps.open()
    flow = graph("loop", count >> branch(lambda s: s.n < 3, {True: count, False: END}))
    run = await app.start(flow, n=0)
    assert await run.result() == {"n": 3}
    assert apps.kinds(run) == ["count#1 finished", "count#2 finished", "count#3 finished", "completed"]


@scenario
async def test_a_successful_step_with_retries_runs_once(apps: Apps) -> None:
    """Retries are for failures."""
    calls: list[int] = []
    app = await apps.open()
    run = await app.start(graph("once", step(name="s", retries=3)(lambda: calls.append(1))))
    await run.result()
    assert calls == [1]
    view = await run.view()
    assert [a.number for a in step_of(view, "s#1").attempts] == [1]


@scenario
async def test_an_input_that_does_not_fit_is_refused_before_anything_is_written(apps: Apps) -> None:
    """By its own name: no row, no half-started run."""
    app = await apps.open()
    flow = graph("fit", step(name="s")(lambda: {"log": ["s"]}), state=Log)
    with pytest.raises(StateError, match="'other'"):
        await app.start(flow, other=1)
    with pytest.raises(Unencodable, match=r"input\.log"):
        await app.start(flow, log=threading.Lock())
    assert not apps.database.runs


@dataclass
class Born:
    """A state whose defaults are different each time they are made."""

    id: str = field(default_factory=lambda: str(uuid4()))
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    tags: list[str] = field(default_factory=list)
    name: str = "nobody"


@scenario
async def test_the_defaults_of_a_state_are_made_once(apps: Apps) -> None:
    """Every step and every process sees the same; and they are no part of what a key compares."""
    seen: list[tuple[str, datetime]] = []

    def look(id: str, at: datetime) -> dict[str, Any]:
        seen.append((id, at))
        return {}

    flow = graph("born", step(name="a")(look) >> step(name="b")(look), state=Born)
    app, other = await apps.open(), await apps.open()
    run = await app.start(flow, name="ana", key="k")
    here = await run.result()
    await other.register(flow)
    there = await other.result(run.id)
    assert here == there
    assert (here.name, here.tags) == ("ana", [])
    assert set(seen) == {(here.id, here.at)}
    assert (await app.start(flow, name="ana", key="k")).id == run.id


@scenario
async def test_a_result_that_the_schema_does_not_declare_fails_once(apps: Apps) -> None:
    """With the schema's keys in the text."""
    calls: list[int] = []

    def body() -> dict[str, int]:
        calls.append(1)
        return {"lgo": 1}

    app = await apps.open()
    run = await app.start(graph("typo", step(name="s", retries=4, backoff=(0,))(body), state=Log))
    with pytest.raises(StateError, match=r"'lgo'.*'log'"):
        await run.result()
    assert calls == [1]
    assert await run.status() is Status.FAILED


@scenario
async def test_a_result_that_a_reducer_refuses_fails_the_run_and_not_the_engine(apps: Apps) -> None:
    """The effect is not repeated, the next run works."""
    app = await apps.open()
    bad = await app.start(graph("red", step(name="s", retries=4, backoff=(0,))(lambda: {"log": 5}), state=Log))
    with pytest.raises(StateError, match="'log'"):
        await bad.result()
    good = await app.start(graph("good", step(name="s")(lambda: {"log": ["x"]}), state=Log))
    assert await good.result() == {"log": ["x"]}


@scenario
async def test_a_wrong_label_fails_once_and_names_the_labels(apps: Apps) -> None:
    """A false branch neither hangs the run nor goes silently to END."""
    calls: list[int] = []
    asked = step(name="ask", retries=3, backoff=(0,))(lambda: calls.append(1))
    app = await apps.open()
    # 1 is not True: labels are compared with their types.
    run = await app.start(graph("label", asked >> branch(lambda s: 1, {True: END, "no": asked})))
    with pytest.raises(Exception, match=r"'ask' was told to take 1, .*True, 'no'"):
        await run.result()
    assert calls == [1]


@scenario
async def test_a_router_that_raises_fails_the_step(apps: Apps) -> None:
    """With the router's own exception."""
    app = await apps.open()
    flow = graph("raises", returning(1, "s")[0] >> branch(lambda s: s.missing, {True: END}))
    run = await app.start(flow)
    with pytest.raises(AttributeError, match="no 'missing'"):
        await run.result()


@scenario
async def test_a_result_is_had_where_the_run_ended_and_elsewhere(apps: Apps) -> None:
    """From memory in one process, from the journal in another; the exception likewise."""
    made, _ = returning(5)

    @step
    def breaks() -> None:
        raise ValueError("boom")

    good, bad = graph("good", made), graph("bad", breaks)
    app, other = await apps.open(), await apps.open()
    runs = [await app.start(good), await app.start(bad)]
    assert await runs[0].result() == {"made": 5}
    with pytest.raises(ValueError, match="boom"):
        await runs[1].result()
    await other.register(good)
    assert await other.result(runs[0].id) == {"made": 5}
    with pytest.raises(StepFailed, match=r"(?s)breaks#1.*boom.*ValueError"):
        await other.result(runs[1].id)
