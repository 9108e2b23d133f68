"""Waits on Postgres: signals and time-outs between processes, some of which are killed.

Owns: what `tests/unit/run/test_pauses.py` promises, where a database and several processes are needed to believe it.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flowbook.app import App, Options
from flowbook.errors import RunOver
from flowbook.graph.flow import graph
from flowbook.graph.pause import sleep, wait
from flowbook.graph.step import step
from flowbook.plan.query import RunQuery
from flowbook.plan.records import Status
from flowbook.store.postgres import PostgresStore

pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

ROOT = Path(__file__).resolve().parents[2]

CHILD = '''
"""argv: url, flow, what: `carry` starts a run under the key "k" and prints its state, `work` claims what is due."""
import asyncio, json, sys
import flowbook as fb

@fb.step
async def slow():
    await asyncio.sleep(0.8)

@fb.step
def publish(): return {"did": "publish"}

@fb.step
def revise(): return {"did": "revise"}

@fb.step
def escalate(): return {"did": "escalate"}

FLOWS = {
    "gate": fb.graph("gate", slow >> fb.wait("approved") >> publish),
    "choice": fb.graph("choice", publish >> fb.wait_any({"approved": revise, "rejected": escalate})),
    "limit": fb.graph("limit", slow >> fb.wait("approved", timeout=6, on_timeout=escalate)),
}

async def main(url, name, what):
    async with fb.connect(url) as app:
        if what == "work":
            await app.register(FLOWS[name])
            await app.work()
        else:
            print(json.dumps(await (await app.start(FLOWS[name], key="k")).result()), flush=True)

asyncio.run(main(*sys.argv[1:]))
'''


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop of its own."""

    def run(place: Place) -> None:
        async def whole() -> None:
            async with asyncio.timeout(60):
                await test(place)

        asyncio.run(whole())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


class Place:
    """A database, and processes on it."""

    def __init__(self, url: str, folder: Path, *, always_suspend: bool) -> None:
        self.url, self.always_suspend = url, always_suspend
        self.script = folder / "child.py"
        self.script.write_text(CHILD)
        self.children: list[subprocess.Popen[str]] = []

    @asynccontextmanager
    async def opened(self) -> Any:
        """An app of this process."""
        async with App(PostgresStore(self.url, poll=0.1), Options("default", b"k", self.always_suspend)) as app:
            yield app

    def child(self, flow: str, what: str = "carry") -> subprocess.Popen[str]:
        """Another process."""
        command = [sys.executable, str(self.script), self.url, flow, what]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.children.append(child)
        return child

    async def answer(self, child: subprocess.Popen[str]) -> Any:
        """What a child printed at its end."""
        out, _ = await asyncio.to_thread(child.communicate, None, 30)
        return json.loads(out)

    def close(self) -> None:
        for child in self.children:
            child.kill()
            child.communicate()


@pytest.fixture
def place(fresh_database: str, tmp_path: Path, always_suspend: bool) -> Iterator[Place]:
    """A migrated database, and no process yet."""
    from flowbook.store.migrate import upgrade

    asyncio.run(upgrade(fresh_database))
    place = Place(fresh_database, tmp_path, always_suspend=always_suspend)
    yield place
    place.close()


async def row_of(app: App, flow: str, status: Status | None = None) -> Any:
    """The one run of a flow, once it is there (in that status)."""
    async with asyncio.timeout(30):
        while not (rows := await app.store.runs(RunQuery("default", flow, status))):
            await asyncio.sleep(0.02)
    return rows[0]


async def kinds(app: App, run_id: UUID) -> list[str]:
    """The journal, in short, without advisory rows."""
    entries = await app.store.history(run_id)
    return [f"{e.path} {e.kind}".strip() for e in entries if e.kind != "started"]


@scenario
async def test_a_signal_from_another_process_before_its_waiter_exists(place: Place) -> None:
    """The waiter finds it and does not even begin to wait."""
    child = place.child("gate")
    async with place.opened() as app:
        row = await row_of(app, "gate")
        await app.signal(row.id, "approved", {"by": "ana"})
        assert await place.answer(child) == {"slow": None, "approved": {"by": "ana"}, "did": "publish"}
        assert await kinds(app, row.id) == ["slow#1 finished", "approved#1 finished", "publish#1 finished", "completed"]
        with pytest.raises(RunOver):
            await app.signal(row.id, "approved")


@scenario
async def test_a_signal_from_another_process_wakes_the_kernel_of_a_parked_run(place: Place) -> None:
    """Both names are heard; between park and signal nobody owns the run."""
    child = place.child("choice")
    async with place.opened() as app:
        row = await row_of(app, "choice", Status.WAITING)
        assert (row.worker_id, row.current) == (None, "approved_or_rejected#1")
        began = time.monotonic()
        await app.signal(row.id, "rejected", {})
        assert await place.answer(child) == {"did": "escalate", "rejected": {}}
        assert time.monotonic() - began < 5


@scenario
async def test_killed_while_waiting_then_the_signal_then_resumed(place: Place) -> None:
    """The wait has begun once and ends once; what finished before it is not done again."""
    child = place.child("gate")
    async with place.opened() as app:
        row = await row_of(app, "gate", Status.WAITING)
        child.send_signal(signal.SIGKILL)
        child.wait()
        await app.signal(row.id, "approved", {"by": "ana"})
        await asyncio.sleep(0.3)
        assert (await app.store.run(row.id)).status is Status.WAITING  # nobody here has its code
        state = await place.answer(place.child("gate"))
        assert state == {"slow": None, "approved": {"by": "ana"}, "did": "publish"}
        told = await kinds(app, row.id)
        assert told == [
            "slow#1 finished", "approved#1 waiting", "approved#1 finished", "publish#1 finished", "completed",
        ]  # fmt: skip


@scenario
async def test_a_worker_in_another_process_takes_up_what_got_its_signal(place: Place) -> None:
    """The kernel that started the run is dead."""
    child = place.child("gate")
    async with place.opened() as app:
        row = await row_of(app, "gate", Status.WAITING)
        child.send_signal(signal.SIGKILL)
        place.child("gate", "work")
        await app.signal(row.id, "approved", {})
        assert (await row_of(app, "gate", Status.COMPLETED)).id == row.id


@scenario
async def test_a_time_out_that_passed_while_nobody_lived_fires_once_at_resume(place: Place) -> None:
    """Its limit is counted from the beginning of the wait, whatever died since."""
    child = place.child("limit")
    async with place.opened() as app:
        row = await row_of(app, "limit", Status.WAITING)
        child.send_signal(signal.SIGKILL)
        child.wait()
        left = (row.due_at - await app.store.now()).total_seconds()
        assert 2 < left <= 6
        await asyncio.sleep(left + 0.2)
        began = time.monotonic()
        assert await place.answer(place.child("limit")) == {"slow": None, "did": "escalate"}
        assert time.monotonic() - began < 5  # not another six seconds
        told = await kinds(app, row.id)
        assert (
            told.count("approved#1 waiting")
            == told.count("approved#1 finished")
            == told.count("escalate#1 finished")
            == 1
        )


@scenario
async def test_parked_timers_and_signals_go_on_in_their_kernel(place: Place) -> None:
    """Seventy runs, more than one claim takes, each with its own signal and then its own timer."""

    @step
    def last(go: dict[str, int]) -> dict[str, int]:
        return {"n": go["n"]}

    flow = graph("many", wait("go") >> sleep(0.2) >> last)
    async with place.opened() as app:
        runs = [await app.start(flow) for _ in range(70)]
        async with asyncio.timeout(20):
            while len(await app.store.runs(RunQuery("default", "many", Status.WAITING, limit=100))) < 70:
                await asyncio.sleep(0.05)
        await asyncio.gather(*(run.signal("go", n=i) for i, run in enumerate(runs)))
        states = await asyncio.gather(*(run.result() for run in runs))
        assert [s["n"] for s in states] == list(range(70))
