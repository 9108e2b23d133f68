"""Bodies: where a step's function runs, and what it is given."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from datetime import datetime, timedelta
from typing import Any

import pytest

import flowbook
from flowbook.errors import BindingError, RunError
from flowbook.graph.flow import graph
from flowbook.graph.step import step
from tests.unit.run.apps import Apps, scenario

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


@scenario
async def test_sync_steps_run_in_threads_and_async_ones_on_the_loop(apps: Apps) -> None:
    """A step that blocks does not block the others."""
    threads: dict[str, int] = {}

    @step
    def sync() -> None:
        threads["sync"] = threading.get_ident()

    @step
    async def asynchronous() -> None:
        threads["async"] = threading.get_ident()

    app = await apps.open()
    await (await app.start(graph("f", sync >> asynchronous))).result()
    assert threads["async"] == threading.get_ident()
    assert threads["sync"] != threading.get_ident()


@scenario
async def test_two_sync_branches_run_at_the_same_time(apps: Apps) -> None:
    """They can wait for each other."""
    meeting = threading.Barrier(2, timeout=5)

    def meet() -> int:
        return meeting.wait()

    flow = graph(
        "f",
        step(name="a")(lambda: 1) >> [step(name="b")(meet), step(name="c")(meet)],
    )
    app = await apps.open()
    state = await (await app.start(flow)).result()
    assert {state["b"], state["c"]} == {0, 1}


@scenario
async def test_context_variables_of_the_starter_reach_every_step(apps: Apps) -> None:
    """So what is printed goes to the cell that started the run; what a step sets stays its own."""

    @step
    def sync() -> str:
        seen = WHO.get()
        WHO.set("the step")
        return seen

    @step
    async def asynchronous() -> str:
        return WHO.get()

    app = await apps.open()
    WHO.set("the starter")
    state = await (await app.start(graph("f", sync >> asynchronous))).result()
    assert state == {"sync": "the starter", "asynchronous": "the starter"}
    assert WHO.get() == "the starter"


@scenario
async def test_a_context_tells_where_a_step_is(apps: Apps) -> None:
    """Run, flow, path, attempt, state and time; the key is the attempts' own in common."""
    keys: list[str] = []
    seen: list[Any] = []

    @step(retries=1, backoff=(0,))
    def tell(ctx: flowbook.Context) -> None:
        keys.append(ctx.idempotency_key)
        seen.append(ctx)
        if ctx.attempt == 1:
            raise ValueError("again")

    app = await apps.open()
    run = await app.start(graph("flow", tell), n=5)
    await run.result()
    assert [c.attempt for c in seen] == [1, 2]
    assert {(c.run_id, c.flow, c.path, c.state.n, c.state["n"]) for c in seen} == {(run.id, "flow", "tell#1", 5, 5)}
    assert keys == [f"{run.id}:tell#1"] * 2
    assert isinstance(seen[0].now(), datetime)
    assert seen[0].now().utcoffset() == timedelta()
    with pytest.raises(AttributeError, match="read-only"):
        seen[0].state.n = 6


@scenario
async def test_a_step_stays_a_function(apps: Apps) -> None:
    """It can be called by itself, and by another step."""

    @step
    def double(n: int) -> int:
        return n * 2

    @step
    def use(n: int) -> int:
        return int(double(n)) + 1

    assert double(4) == 8
    app = await apps.open()
    assert await (await app.start(graph("f", use), n=4)).result() == {"n": 4, "use": 9}


@scenario
async def test_a_plain_function_that_gives_a_coroutine_is_awaited(apps: Apps) -> None:
    """As functools.partial of an async function does."""

    async def fetch(url: str, n: int) -> str:
        await asyncio.sleep(0)
        return f"{url}{n}"

    app = await apps.open()
    flow = graph("f", step(name="fetch")(functools.partial(fetch, "u")))
    assert await (await app.start(flow, n=1)).result() == {"n": 1, "fetch": "u1"}


@scenario
async def test_default_parameters_and_bound_ones_mix(apps: Apps) -> None:
    """State key, then last result, then default; positional-only and loose ones too."""

    @step
    def odd(n: int, /, missing: int = 7, *args: int, k: int, **more: int) -> list[Any]:
        return [n, missing, args, k, more]

    app = await apps.open()
    state = await (await app.start(graph("f", odd), n=1, k=2, other=3)).result()
    assert state["odd"] == [1, 7, (), 2, {}]


# ---------------------------------------------------------------------------------------------------------- process


def in_process(n: int) -> dict[str, int]:
    """A body that a child process can import."""
    import os

    print("what is printed does not mix with the answer")
    return {"pid": os.getpid(), "n": n + 1}


def dies() -> None:
    """A body that ends its process."""
    import os

    os._exit(7)


def sleeps() -> None:
    """A body that does not end."""
    import time

    time.sleep(60)


def raises() -> None:
    """A body that raises."""
    raise LookupError("in the child")


@scenario
async def test_a_process_step_runs_in_a_child(apps: Apps) -> None:
    """And its result comes back."""
    import os

    app = await apps.open()
    state = await (await app.start(graph("f", step(name="p", executor="process")(in_process)), n=1)).result()
    assert state["n"] == 2
    assert state["pid"] != os.getpid()


@scenario
async def test_a_child_that_dies_is_the_steps_failure(apps: Apps) -> None:
    """Not this process' end, and it is tried again as often as it says."""
    app = await apps.open()
    run = await app.start(graph("f", step(name="p", executor="process", retries=1, backoff=(0,))(dies)))
    with pytest.raises(RunError, match="exit status 7"):
        await run.result()
    assert apps.kinds(run) == ["p#1 attempt", "p#1 attempt", "failed"]


@scenario
async def test_a_child_past_its_time_is_killed(apps: Apps) -> None:
    """A process can be stopped, a thread cannot."""
    app = await apps.open()
    run = await app.start(graph("f", step(name="p", executor="process", timeout=0.5)(sleeps)))
    with pytest.raises(RunError, match="time limit"):
        await run.result(timeout=5)


@scenario
async def test_a_childs_exception_is_the_steps(apps: Apps) -> None:
    """With its class, its text, and where in the step it was raised."""
    app = await apps.open()
    run = await app.start(graph("f", step(name="p", executor="process")(raises)))
    with pytest.raises(LookupError, match="in the child"):
        await run.result()
    failure = (await run.view()).failure
    assert failure is not None
    assert "in raises" in failure.traceback


class Awkward(Exception):
    """It pickles, and does not come back."""

    def __init__(self, a: int, *, b: int) -> None:
        super().__init__(f"awkward {a} {b}")


def raises_awkwardly() -> None:
    """A body whose exception cannot travel."""
    raise Awkward(1, b=2)


@scenario
async def test_a_childs_exception_that_cannot_travel_is_told_by_its_text(apps: Apps) -> None:
    """With its class and where it was raised; neither process breaks."""
    app = await apps.open()
    run = await app.start(graph("f", step(name="p", executor="process")(raises_awkwardly)))
    with pytest.raises(RunError, match=r"Awkward: awkward 1 2"):
        await run.result()
    failure = (await run.view()).failure
    assert failure is not None
    assert "in raises_awkwardly" in failure.traceback


@scenario
async def test_a_process_step_cannot_have_the_context(apps: Apps) -> None:
    """It says so instead of failing to pickle it."""

    def wants(ctx: Any) -> None:
        raise AssertionError(ctx)

    app = await apps.open()
    run = await app.start(graph("f", step(name="p", executor="process")(wants)))
    with pytest.raises(BindingError, match="asks for ctx"):
        await run.result()
