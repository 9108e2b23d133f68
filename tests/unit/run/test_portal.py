"""The sync face: the same verbs without `await`, from any thread, with the engine on its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from flowbook.app import App, Options
from flowbook.errors import NotConnected, RunCancelled, RunUnfinished, StepFailed, UsageError
from flowbook.graph import launch
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.flow import graph
from flowbook.graph.step import step
from flowbook.observe.views import RunView
from flowbook.plan.records import Status
from flowbook.run.portal import Portal
from flowbook.store.memory import MemoryStore
from flowbook.sync import SyncApp


@pytest.fixture
def app(suspending: bool) -> Iterator[SyncApp]:
    """A sync app on a store in memory, connected as `with connect(...)` does it."""
    portal = Portal()
    portal.start()
    inner = portal.call(App(MemoryStore(poll=0.02), Options("default", b"key", suspending)).__aenter__())
    sync = SyncApp(inner, portal, "memory")
    launch.push(sync)
    yield sync
    sync.close()


@step
def double(n: int) -> dict[str, int]:
    return {"n": n * 2}


class Gate:
    """A step that waits until it is let go, without holding the loop."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.begun = threading.Event()

        async def wait() -> str:
            self.begun.set()
            while not self.opened.is_set():
                await asyncio.sleep(0.002)
            return "through"

        self.flow = graph("gated", step(name="wait")(wait))


def test_a_graph_is_run_by_the_current_app(app: SyncApp) -> None:
    """`flow.run(...)` gives the state, `flow.start(...)` a handle at once."""
    flow = graph("twice", double >> END)
    assert flow.run(n=2) == {"n": 4}
    run = flow.start(n=3, metadata={"who": "me"})
    assert run.result(timeout=5) == {"n": 6}
    assert run.status is Status.COMPLETED
    assert run.state == {"n": 6}
    assert [s.path for s in run.steps] == ["double#1"]
    assert (run.current, run.error) == ((), None)
    assert app.find(str(run.id)).id == run.id
    assert {row.id for row in app.runs(flow="twice", status="completed")} >= {run.id}


def test_without_an_app_a_graph_says_how_to_connect() -> None:
    """Instead of an AttributeError."""
    with pytest.raises(NotConnected, match="connect"):
        graph("twice", double).run(n=2)


def test_after_the_end_nothing_hangs(app: SyncApp) -> None:
    """A handle of a closed app says so at once."""
    run = graph("twice", double).start(n=1)
    run.result()
    app.close()
    with pytest.raises(UsageError, match="connect again"):
        _ = run.status
    with pytest.raises(NotConnected):
        graph("twice", double).run(n=2)
    app.close = lambda: None  # type: ignore[method-assign]  # the fixture closes it too


def test_the_steps_own_exception_is_raised(app: SyncApp) -> None:
    """In the caller's thread, by its class."""

    @step
    def breaks() -> None:
        raise LookupError("boom")

    run = graph("bad", breaks).start()
    with pytest.raises(LookupError, match="boom"):
        run.result()
    assert run.error is not None
    assert run.error.message == "boom"
    with pytest.raises(LookupError, match="boom"):
        run.retry().result()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_step_that_exits_does_not_end_the_engine(app: SyncApp, error: type[BaseException]) -> None:
    """The engine's thread is everybody's."""

    @step
    async def exits() -> None:
        raise error

    with pytest.raises(StepFailed):
        graph("exits", exits).run()
    assert app.portal.thread.is_alive()
    assert graph("twice", double).run(n=1) == {"n": 2}


def test_many_threads_may_use_one_app(app: SyncApp) -> None:
    """Each gets its own result."""
    flow = graph("twice", double)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: flow.run(n=n)["n"], range(40))) == [n * 2 for n in range(40)]


def test_a_busy_caller_does_not_stop_the_engine(app: SyncApp) -> None:
    """A cell that computes leaves the run alone: it ends meanwhile."""
    ended = threading.Event()

    @step
    def last() -> None:
        ended.set()

    graph("long", double.as_("a") >> double.as_("b") >> last).start(n=1)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not ended.is_set():
        pass
    assert ended.is_set(), "its last step ran while this thread was busy"


def test_a_result_can_be_given_up_without_harm(app: SyncApp) -> None:
    """After a timeout the run goes on."""
    gate = Gate()
    run = gate.flow.start()
    with pytest.raises(RunUnfinished):
        run.result(timeout=0.02)
    gate.opened.set()
    assert run.result(timeout=5) == {"wait": "through"}


def test_a_cancel_reaches_a_running_run(app: SyncApp) -> None:
    """From the caller's thread."""
    gate = Gate()
    run = gate.flow.start()
    assert gate.begun.wait(5)
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result(timeout=5)


INTERRUPTED = """
import asyncio, os, signal, threading, time
from flowbook.app import App, Options
from flowbook.graph.flow import graph
from flowbook.graph.step import step
from flowbook.run.portal import Portal
from flowbook.store.memory import MemoryStore
from flowbook.sync import SyncApp

gate, begun = threading.Event(), threading.Event()

@step
async def wait():
    begun.set()
    while not gate.is_set():
        await asyncio.sleep(0.002)
    return "through"

portal = Portal()
portal.start()
app = SyncApp(portal.call(App(MemoryStore(), Options()).__aenter__()), portal, "memory")
run = app.start(graph("gated", wait))

def interrupt():
    begun.wait(5)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    run.result(timeout=10)
except KeyboardInterrupt:
    print("interrupted")
gate.set()
print(run.result(timeout=5)["wait"])
app.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_the_waiting_and_not_the_run() -> None:
    """KeyboardInterrupt comes to whoever waits, the run goes on to its result, and all is closed in order."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.split(), done.returncode) == (["interrupted", "through"], 0), done.stderr


def test_a_run_can_be_awaited_on_any_loop(app: SyncApp, caplog: pytest.LogCaptureFixture) -> None:
    """Also one that fails; nothing is said about futures that nobody looked at."""

    @step
    async def breaks() -> None:
        await asyncio.sleep(0.25)  # longer than a tick: the waiting wakes several times
        raise LookupError("boom")

    async def inside() -> Any:
        good = await graph("twice", double).start(n=4)
        with pytest.raises(LookupError, match="boom"):
            await graph("bad", breaks).start()
        return good

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(inside()) == {"n": 8}
        gc.collect()
    assert "never retrieved" not in caplog.text


def test_a_blocking_call_on_the_engines_own_loop_is_refused(app: SyncApp) -> None:
    """It would wait for itself for ever."""

    @step
    async def calls() -> Any:
        return graph("twice", double).run(n=1)

    with pytest.raises(UsageError, match="own loop"):
        graph("inner", calls).run()


def test_a_sync_step_may_run_another_flow(app: SyncApp) -> None:
    """It is in a thread, so it may block."""

    @step
    def calls() -> Any:
        return graph("twice", double).run(n=4)

    assert graph("outer", calls).run() == {"n": 8}


def test_views_come_to_a_watcher(app: SyncApp) -> None:
    """From the first to the last, until it is told to stop."""
    gate = Gate()
    run = gate.flow.start()
    views: list[RunView] = []
    last = threading.Event()

    def look(view: RunView) -> None:
        views.append(view)
        if view.status.over:
            last.set()

    stop = app.watch(run.id, look)
    assert gate.begun.wait(5)
    gate.opened.set()
    assert last.wait(5)
    stop()
    assert views[-1].status is Status.COMPLETED
    assert views[-1].steps[0].result == "through"


def test_a_run_is_displayed_where_there_is_a_display(app: SyncApp) -> None:
    """`flow.run` shows it before it waits; `run.show()` without a display says what brings one."""
    shown: list[Any] = []
    flow = graph("twice", double)
    with pytest.raises(UsageError, match="load_ext"):
        flow.start(n=1).show()
    app.display = shown.append
    flow.run(n=1)
    assert len(shown) == 1


def test_the_portal_ends_what_it_is_told_to(app: SyncApp) -> None:
    """`call(timeout=)` cancels what it waited for."""
    ended: list[str] = []

    async def long() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append("cancelled")

    with pytest.raises(TimeoutError):
        app.portal.call(long(), timeout=0.02)
    for _ in range(200):
        if ended:
            break
        time.sleep(0.005)
    assert ended == ["cancelled"]
