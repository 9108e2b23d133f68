"""Runs on Postgres: the essential behaviours of the engine with the real store, and with real processes that die.

Owns: what `tests/unit/run` promises, where a database and several processes are needed to believe it.
Refuses: the store's own contract (`tests/contract`) and kills at every point of the wire (`tests/crash`).
"""

from __future__ import annotations

import asyncio
import functools
import math
import operator
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from flowbook.app import App, Options
from flowbook.errors import KeyConflict, RunCancelled, StepFailed, Unencodable
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.pause import wait
from flowbook.graph.step import Step, step
from flowbook.plan.journal import from_entry
from flowbook.plan.records import Status
from flowbook.run import runner as runner_module
from flowbook.store.postgres import PostgresStore

pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

ROOT = Path(__file__).resolve().parents[2]


class Log(TypedDict, total=False):
    """A list that steps add to."""

    log: Annotated[list[str], operator.add]


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop of its own."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        async def whole() -> None:
            async with asyncio.timeout(60):
                await test(**fixtures)

        asyncio.run(whole())

    return run


@pytest.fixture
def opened(fresh_database: str, always_suspend: bool) -> Callable[[], Any]:
    """A new app on the test's database, as ``async with opened() as app``."""
    from flowbook.store.migrate import upgrade

    asyncio.run(upgrade(fresh_database))

    @asynccontextmanager
    async def open_one() -> Any:
        async with App(PostgresStore(fresh_database, poll=0.1), Options("default", b"key", always_suspend)) as app:
            yield app

    return open_one


def logging(name: str, seconds: float = 0.0) -> Step:
    """A step that logs its name."""

    async def body() -> dict[str, Any]:
        await asyncio.sleep(seconds)
        return {"log": [name]}

    return step(name=name)(body)


async def kinds(app: App, run: Any) -> list[str]:
    """The journal, in short, without advisory rows."""
    entries = await app.store.history(run.id)
    assert [e.seq for e in entries] == list(range(1, len(entries) + 1))
    assert all(from_entry(e) for e in entries)
    return [f"{e.path} {e.kind}".strip() for e in entries if e.kind != "started"]


# ------------------------------------------------------------------------------------------------------- one process


@scenario
async def test_a_fork_gives_its_state_in_declaration_order(opened: Any) -> None:
    """Here and to another process that folds the journal."""
    flow = graph(
        "fork", logging("a") >> [logging("b", 0.03), logging("c"), logging("d", 0.01)] >> logging("e"), state=Log
    )
    async with opened() as app, opened() as other:
        run = await app.start(flow)
        assert await run.result() == {"log": list("abcde")}
        await other.register(flow)
        assert await other.result(run.id) == {"log": list("abcde")}
        assert (await kinds(app, run))[-2:] == ["e#1 finished", "completed"]


@scenario
async def test_a_loop_and_odd_values_go_through_the_database(opened: Any) -> None:
    """NaN, NUL, lone surrogates, -0.0, None and {} come back as they were."""
    odd = {
        "nan": float("nan"),
        "nul": "\x00",
        "lone": "\ud800",
        "zero": -0.0,
        "none": None,
        "inf": -math.inf,
        "b": b"\x00",
    }

    def count(n: int) -> dict[str, Any]:
        return {"n": n + 1, **odd}

    counting = step(name="count")(count)

    @step
    def empty() -> dict[str, Any]:
        return {}

    flow = graph("loop", counting >> branch(lambda s: s.n < 3, {True: counting, False: empty}), empty >> END)
    async with opened() as app, opened() as other:
        run = await app.start(flow, n=0)
        state = await run.result()
        await other.register(flow)
        again = await other.result(run.id)
    assert repr(state) == repr(again) == repr({"n": 3, **odd})


@scenario
async def test_a_run_id_is_an_ordinary_value_before_and_after_a_claim(opened: Any) -> None:
    """``ctx.run_id`` and ``run.id`` can be returned and given, by whoever started the run and by whoever claimed it."""

    def noted(ctx: Any) -> dict[str, Any]:
        return {ctx.path.partition("#")[0]: ctx.run_id}

    flow = graph("noted", step(name="before")(noted) >> wait("go") >> step(name="behind")(noted))
    async with opened() as app:
        first = await app.start(flow)
        second = await app.start(flow, other=first.id)
        while await second.status() is not Status.WAITING:
            await asyncio.sleep(0.02)
        await second.signal("go")
        assert await second.result(30) == {"other": first.id, "before": second.id, "behind": second.id, "go": {}}


@scenario
async def test_one_bad_value_hurts_one_run(opened: Any) -> None:
    """Runs in the same flush are unharmed."""
    bad = graph("bad", step(name="made")(lambda: {"lock": threading.Lock()}))
    good = graph("good", step(name="made")(lambda: 7))
    async with opened() as app:
        runs = [await app.start(flow) for flow in (good, bad, good, bad, good)]
        results = await asyncio.gather(*(run.result() for run in runs), return_exceptions=True)
    assert [r == {"made": 7} for r in results] == [True, False, True, False, True]
    assert all(isinstance(r, Unencodable) and "lock" in str(r) for r in results[1::2])


@scenario
async def test_retries_are_counted_and_the_failed_run_goes_on_from_its_step(opened: Any) -> None:
    """`retries=1` is two calls; after `retry()` good siblings are not run again."""
    calls: list[str] = []
    broken = [True]

    def b() -> None:
        calls.append("b")
        if broken:
            raise ValueError("boom")

    flow = graph(
        "f",
        step(name="a")(lambda: calls.append("a"))
        >> [step(name="b", retries=1, backoff=(0.01,))(b), step(name="c")(lambda: calls.append("c"))],
    )
    async with opened() as app, opened() as other:
        run = await app.start(flow)
        with pytest.raises(ValueError, match="boom"):
            await run.result()
        assert sorted(calls) == ["a", "b", "b", "c"]
        with pytest.raises(StepFailed, match=r"(?s)b#1.*boom"):
            await other.result(run.id)
        broken.clear()
        await other.register(flow)
        assert await (await other.retry(run.id)).result() == {"a": None, "b": None, "c": None}
        assert sorted(calls) == ["a", "b", "b", "b", "c"]
        assert await run.result() == {"a": None, "b": None, "c": None}


@scenario
async def test_four_concurrent_starts_under_one_key_run_the_body_once(opened: Any) -> None:
    """And a new input under it is an error."""
    calls: list[int] = []

    def work(n: int) -> int:
        calls.append(n)
        return n

    flow = graph("keyed", step(name="work")(work))
    async with opened() as one, opened() as two:
        runs = await asyncio.gather(*(app.start(flow, n=5, key="k") for app in (one, two, one, two)))
        assert len({run.id for run in runs}) == 1
        assert [await run.result() for run in runs] == [{"n": 5, "work": 5}] * 4
        assert calls == [5]
        with pytest.raises(KeyConflict):
            await two.start(flow, n=6, key="k")


@scenario
async def test_cancels_from_elsewhere_before_and_after_the_end(opened: Any) -> None:
    """A running run is cancelled, a completed one is not."""
    begun = asyncio.Event()

    async def sleeps() -> None:
        begun.set()
        await asyncio.sleep(60)

    async with opened() as app, opened() as other:
        run = await app.start(graph("sleeps", step(name="sleeps")(sleeps)))
        await begun.wait()
        await other.cancel(run.id)
        with pytest.raises(RunCancelled):
            await run.result()
        done = await app.start(graph("done", step(name="done")(lambda: 1)))
        assert await done.result() == {"done": 1}
        assert (await other.cancel(done.id)).status is Status.COMPLETED
        assert await done.result() == {"done": 1}


@scenario
async def test_a_parked_retry_is_carried_on_by_its_kernel_and_cancelled_by_anybody(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits in the database; the wait ends when it is due."""
    monkeypatch.setattr(runner_module, "LINGER", 0.0)
    calls: list[float] = []

    @step(retries=1, backoff=(0.3,))
    def flaky() -> str:
        calls.append(time.monotonic())
        if len(calls) == 1:
            raise ValueError("again")
        return "done"

    @step(retries=1, backoff=(600,))
    def far() -> None:
        raise ValueError("again")

    async with opened() as app, opened() as other:
        run = await app.start(graph("flaky", flaky))
        assert await run.result() == {"flaky": "done"}
        assert 0.3 <= calls[1] - calls[0] < 3
        parked = await app.start(graph("far", far))
        while await parked.status() is not Status.WAITING:
            await asyncio.sleep(0.01)
        assert (await other.cancel(parked.id)).status is Status.CANCELLED
        with pytest.raises(RunCancelled):
            await parked.result()


@scenario
async def test_many_short_runs_end_each_with_its_own_result(opened: Any) -> None:
    """A hundred at once, in common flushes."""
    double = step(name="double")(lambda n: {"n": n * 2})
    flow = graph("short", double >> double.as_("again"))
    async with opened() as app:
        runs = [await app.start(flow, n=n) for n in range(100)]
        assert [(await run.result())["n"] for run in runs] == [n * 4 for n in range(100)]


# ----------------------------------------------------------------------------------------------------- two processes

FLOWS = '''
"""Flows of which every body leaves a line in a file, imported by workers."""
import asyncio, os, time
import flowbook as fb

MARKS = {marks!r}

def mark(word):
    fd = os.open(MARKS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, (word + " " + str(os.getpid()) + " " + repr(time.time()) + "\\n").encode())
    os.close(fd)

@fb.step
def first():
    mark("first")

@fb.step
async def second():
    mark("second")
    if {slow!r} and not os.path.exists(MARKS + ".go"):
        await asyncio.sleep(60)

@fb.step
def third():
    mark("third")
    return "end"

@fb.step(retries=2, backoff=(1.5,))
def flaky():
    mark("flaky")
    if not os.path.exists(MARKS + ".go"):
        raise ValueError("not yet")

@fb.step
def kills():
    mark("kills")
    time.sleep(0.3)
    os.kill(os.getpid(), 9)

line = fb.graph("line", first >> second >> third)
backing = fb.graph("backing", first >> flaky >> third)
poison = fb.graph("poison", first >> kills >> third)
'''

WORKER = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
import flows
from flowbook.app import App, Options
from flowbook.run import runner
from flowbook.store.postgres import PostgresStore

runner.LINGER = 0.5

async def main():
    async with App(PostgresStore(sys.argv[1], poll=0.1), Options("default", b"key")) as app:
        for flow in (flows.line, flows.backing, flows.poison):
            await app.register(flow)
        print("ready", flush=True)
        await app.work()

asyncio.run(main())
"""


class Site:
    """A database, flows in a folder, and workers that can be killed."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self.marks = url, folder, folder / "marks"
        self.workers: list[subprocess.Popen[str]] = []
        (folder / "flows.py").write_text(FLOWS.format(marks=str(self.marks), slow=True))
        sys.path.insert(0, str(folder))
        try:
            sys.modules.pop("flows", None)
            import flows

            self.flows = flows
        finally:
            sys.path.remove(str(folder))
            sys.modules.pop("flows", None)

    def worker(self) -> subprocess.Popen[str]:
        """A worker that has registered the flows."""
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, self.url, str(self.folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.workers.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline().strip() == "ready"
        return worker

    def go(self) -> None:
        """Let `second` and `flaky` succeed from now on."""
        Path(f"{self.marks}.go").touch()

    def words(self) -> list[str]:
        """What was executed, in order."""
        return [line.split()[0] for line in self._lines()]

    def pids(self, word: str) -> list[int]:
        """Who executed it."""
        return [int(line.split()[1]) for line in self._lines() if line.startswith(f"{word} ")]

    def times(self, word: str) -> list[float]:
        """When it was executed."""
        return [float(line.split()[2]) for line in self._lines() if line.startswith(f"{word} ")]

    def _lines(self) -> list[str]:
        return self.marks.read_text().splitlines() if self.marks.exists() else []

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait. Raises TimeoutError."""
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.02)

    async def give(self, app: App, flow: Any) -> Any:
        """Start a run that is for the workers, and not for this process."""
        from flowbook.codec import digest, encode
        from flowbook.ids import new_id
        from flowbook.ports import NewRun

        d = (await app.register(flow)).definition
        data = encode({})
        new = NewRun(new_id(), d.namespace, d.flow, d.fingerprint, d.version, data, digest(data), claim=False)
        await app.store.start(new)
        return await app.run(new.id)

    def close(self) -> None:
        """Kill all workers that are left."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
            assert worker.stdout is not None
            worker.stdout.close()


@pytest.fixture
def site(fresh_database: str, opened: Any, tmp_path: Path) -> Iterator[Site]:
    """Nothing runs yet."""
    site = Site(fresh_database, tmp_path)
    yield site
    site.close()


@scenario
async def test_a_killed_workers_run_goes_on_in_another(site: Site, opened: Any) -> None:
    """At the step it was in, soon, and with nothing done twice that was done."""
    one = site.worker()
    async with opened() as app:
        run = await site.give(app, site.flows.line)
        await site.until(lambda: site.words() == ["first", "second"])
        assert site.pids("second") == [one.pid]
        two = site.worker()
        site.go()
        killed_at = time.monotonic()
        one.send_signal(signal.SIGKILL)
        one.wait()
        state = await run.result(timeout=30)
        took = time.monotonic() - killed_at
        assert state == {"first": None, "second": None, "third": "end"}
        assert site.words() == ["first", "second", "second", "third"]
        assert site.pids("third") == [two.pid]
        assert took < 10, f"a death is noticed by the neighbour at once, not after a lease; it took {took:.1f} s"
        assert (await app.store.run(run.id)).lost == 1


@scenario
async def test_a_run_whose_only_worker_died_waits_for_the_next_one(site: Site, opened: Any) -> None:
    """Killed right after the claim or between two steps, a run is never running for ever."""
    one = site.worker()
    async with opened() as app:
        run = await site.give(app, site.flows.line)
        await site.until(lambda: "second" in site.words())
        one.send_signal(signal.SIGKILL)
        one.wait()
        site.go()
        site.worker()
        assert (await run.result(timeout=30))["third"] == "end"
        assert site.words() == ["first", "second", "second", "third"]


@scenario
async def test_a_back_off_outlives_the_process_that_began_it(site: Site, opened: Any) -> None:
    """It is parked in the database; another process claims it when it is due, neither earlier nor from zero."""
    one = site.worker()
    async with opened() as app:
        run = await site.give(app, site.flows.backing)
        await site.until(lambda: site.words() == ["first", "flaky"])
        while await run.status() is not Status.WAITING:
            await asyncio.sleep(0.02)
        row = await app.store.run(run.id)
        assert (row.worker_id, row.current) == (None, "flaky#1")
        one.send_signal(signal.SIGKILL)
        one.wait()
        two = site.worker()
        site.go()
        assert (await run.result(timeout=30))["third"] == "end"
        assert site.words() == ["first", "flaky", "flaky", "third"]
        assert site.pids("flaky") == [one.pid, two.pid]
        began, again = site.times("flaky")
        assert 1.4 <= again - began < 10
        assert (await app.store.run(run.id)).lost == 0, "a parked run is nobody's, so nobody died with it"


@scenario
async def test_a_step_that_kills_its_process_is_capped(site: Site, opened: Any) -> None:
    """Three processes, and the run says which step it was."""
    async with opened() as app:
        run = await site.give(app, site.flows.poison)
        for _ in range(3):
            worker = site.worker()
            await site.until(lambda worker=worker: worker.poll() is not None)  # type: ignore[misc]
        site.worker()
        with pytest.raises(StepFailed, match=r"kills#1"):
            await run.result(timeout=30)
        assert site.words() == ["first", "kills", "kills", "kills"]
        assert (await run.view()).lost == 3


@scenario
async def test_a_kernel_that_dies_leaves_its_run_to_the_key(site: Site, opened: Any, fresh_database: str) -> None:
    """The cell that is run again in a new kernel takes the run up where it was."""
    script = (
        "import asyncio, sys\nsys.path.insert(0, sys.argv[2])\nimport flows\n"
        "from flowbook.app import App, Options\nfrom flowbook.store.postgres import PostgresStore\n"
        "async def main():\n"
        "    async with App(PostgresStore(sys.argv[1]), Options('default', b'key')) as app:\n"
        "        print((await (await app.start(flows.line, key='daily')).result())['third'])\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", script, fresh_database, str(site.folder)]
    with subprocess.Popen(command, cwd=ROOT) as kernel:
        await site.until(lambda: "second" in site.words())
        kernel.kill()
    site.go()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=40, check=True)
    assert done.stdout.strip() == "end"
    assert site.words() == ["first", "second", "second", "third"]
