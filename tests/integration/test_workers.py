"""``flowbook worker`` as a process: what it carries, what it leaves alone, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import nbformat
import pytest

import flowbook as fb
from flowbook.cli import main
from flowbook.graph.sign import load_key
from flowbook.plan.records import Status
from flowbook.ports import RunRow

FLOWS = """
import asyncio
import os
import time
from pathlib import Path

import flowbook as fb


@fb.step
async def mark(folder):
    with Path(folder, "marks").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    return {"pid": os.getpid()}


@fb.step
async def hold(folder, pid):
    while not Path(folder, "go").exists():
        await asyncio.sleep(0.02)
    return {"first": pid, "last": os.getpid()}


@fb.step
def block(folder):
    Path(folder, "blocked").touch()
    time.sleep(600)


held = fb.graph("held", mark >> hold)
blocked = fb.graph("blocked", block)
"""


SPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}


class Bench:
    """A database, a folder with a module of flows, and workers that run on them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self.home = url, folder, folder / "home"
        (folder / "bench_flows.py").write_text(FLOWS)
        self.env = {**os.environ, "FLOWBOOK_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}
        self.processes: list[subprocess.Popen[str]] = []

    def worker(self, *words: str) -> subprocess.Popen[str]:
        """A worker; back once it says that it works."""
        command = [sys.executable, "-m", "flowbook.cli", "worker", "--url", self.url, *words]
        with (self.folder / f"log{len(self.processes)}").open("w") as log:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.folder, env=self.env
            )
        self.processes.append(process)
        self.until(lambda: " takes " in self.log(process) or process.poll() is not None)
        assert process.poll() is None, self.log(process)
        return process

    def log(self, process: subprocess.Popen[str]) -> str:
        """What it has said so far."""
        return (self.folder / f"log{self.processes.index(process)}").read_text()

    def until(self, true: Callable[[], object], seconds: float = 60) -> None:
        """Wait for a condition."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.02)

    def row(self, run: str) -> asyncpg.Record:
        """The row of a run as it is now."""

        async def ask() -> asyncpg.Record:
            connection = await asyncpg.connect(self.url)
            try:
                return await connection.fetchrow("select * from flowbook.run where id = $1", run)
            finally:
                await connection.close()

        return asyncio.run(ask())

    def close(self) -> None:
        """End all processes."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.communicate()


@pytest.fixture
def bench(fresh_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """A bench whose folder is the current one."""
    bench = Bench(fresh_database, tmp_path)
    monkeypatch.setenv("FLOWBOOK_HOME", str(bench.home))
    monkeypatch.chdir(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def call(bench: Bench, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """A command on that database, which must end well; what it prints."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--url", bench.url])
        assert not ended.value.code, capsys.readouterr().err
        return capsys.readouterr().out.strip()

    return run


def test_a_worker_that_is_told_to_end_hands_its_runs_over_and_no_attempt_is_used_up(
    bench: Bench, call: Callable[..., str]
) -> None:
    """SIGTERM: the run is free for others at once, coroutine or thread, and another worker goes on where it stood."""
    first = bench.worker("--module", "bench_flows.py")
    flow = call("start", "held", f"folder={bench.folder}", "--module", "bench_flows.py")
    thread = call("start", "blocked", f"folder={bench.folder}")
    bench.until((bench.folder / "marks").exists)
    bench.until((bench.folder / "blocked").exists)
    told = time.monotonic()
    first.send_signal(signal.SIGTERM)
    bench.until(lambda: bench.row(flow)["status"] == "pending" and bench.row(thread)["status"] == "pending")
    took = time.monotonic() - told
    print(f"handed over after {took:.2f} s")
    assert took < 20, "two seconds are promised, to a machine that has nothing else to do"
    assert first.wait(30) == 0, "and it ends, though the thread of a step goes on"
    second = bench.worker("--module", "bench_flows.py")
    (bench.folder / "go").touch()
    bench.until(lambda: bench.row(flow)["status"] == "completed")
    state = json.loads(call("show", flow, "--json"))
    assert (state["lost"], [s["path"] for s in state["steps"]]) == (0, ["mark#1", "hold#1"])
    assert {a["number"] for s in state["steps"] for a in s["attempts"] if not a["lost"]} == {1}
    assert (bench.folder / "marks").read_text().split() == [str(first.pid)], "what was done is not done again"
    call("cancel", thread)
    assert second.poll() is None


def test_a_killed_workers_runs_go_on_with_another_that_builds_the_flow_from_its_source(
    bench: Bench, call: Callable[..., str]
) -> None:
    """SIGKILL of a worker: another one, which was given no module, carries the run on from the stored source."""
    first = bench.worker("--module", "bench_flows.py")
    run = call("start", "held", f"folder={bench.folder}")
    bench.until((bench.folder / "marks").exists)
    second = bench.worker("--concurrency", "4")
    first.kill()
    (bench.folder / "go").touch()
    bench.until(lambda: bench.row(run)["status"] == "completed")
    assert "built from its stored source" in bench.log(second)
    assert bench.row(run)["lost"] == 1
    served = {f["flow"]: (f["portable"], f["served"]) for f in json.loads(call("flows", "--json"))}
    assert served == {"held": (True, True), "blocked": (True, False)}


def test_a_scheduled_notebook_is_run_by_a_worker_as_it_was_when_it_was_scheduled(
    bench: Bench, call: Callable[..., str]
) -> None:
    """The source is kept with the schedule; parameters and the output's name are filled with the moment."""
    cells = [("date = ''", ["parameters"]), ("print('report of', date)", [])]
    book = nbformat.v4.new_notebook(metadata={"kernelspec": SPEC})
    book.cells = [nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in cells]
    nbformat.write(book, bench.folder / "in.ipynb")
    now = datetime.now(UTC)
    words = [
        "--name",
        "daily",
        "--at",
        now.isoformat(),
        "-p",
        "date",
        "{{ fire_time | date }}",
        "--on-missed",
        "latest",
    ]
    made = json.loads(call("schedule", "add", "in.ipynb", "out-{{ fire_time | date }}.ipynb", *words, "--json"))
    assert len(made["input"]["sha256"]) == 64
    (bench.folder / "in.ipynb").write_text("not any more")
    bench.worker()
    out = bench.folder / f"out-{now:%Y-%m-%d}.ipynb"
    bench.until(lambda: [f for f in json.loads(call("schedule", "history", "daily", "--json")) if f["run"]], 60)
    (fire,) = json.loads(call("schedule", "history", "daily", "--json"))
    bench.until(lambda: bench.row(fire["run"])["status"] in ("completed", "failed"), 90)
    assert bench.row(fire["run"])["status"] == "completed", bench.row(fire["run"])["error"]
    done = nbformat.read(out, as_version=4)
    assert f"report of {now:%Y-%m-%d}" in str(done.cells[-1].outputs)
    (listed,) = json.loads(call("schedule", "list", "--json"))
    assert (listed["name"], listed["next_at"]) == ("daily", None), "a single moment has no next one"


def test_what_a_worker_cannot_know_it_leaves_alone(fresh_database: str, tmp_path: Path) -> None:
    """A run whose code is neither registered nor portable stays pending under a working worker, and nothing is lost;
    one that is portable and comes after it is carried."""

    async def whole() -> None:
        handle = Path(os.devnull).open()  # noqa: SIM115  the point: no source can make it again

        @fb.step
        def write(n: int) -> dict[str, int]:
            return {"fd": handle.fileno() + n}

        foreign, local = fb.graph("foreign", write), fb.graph("local", plain)
        load_key(tmp_path)
        async with fb.connect(fresh_database, home=tmp_path) as starter, fb.connect(fresh_database, home=tmp_path) as w:
            left = await starter.start(foreign, n=1, carry=False)
            work = asyncio.create_task(w.work(concurrency=2, learn=True))
            run = await starter.start(local, n=1, carry=False)
            assert (await run.result(60))["doubled"] == 2
            row: RunRow = await starter.store.run(left.id)
            assert (row.status, row.claims) == (Status.PENDING, 0)
            work.cancel()
            await asyncio.wait((work,))
        handle.close()

    asyncio.run(whole())


@fb.step
def plain(n: int) -> dict[str, int]:
    """A step that its source can make again."""
    return {"doubled": 2 * n}


def test_runs_of_a_queue_go_to_its_workers_and_the_more_urgent_first(fresh_database: str, tmp_path: Path) -> None:
    """A worker takes runs of its queues alone, highest priority first."""

    async def whole() -> None:
        order: list[int] = []

        @fb.step
        def note(n: int) -> dict[str, int]:
            order.append(n)
            return {"noted": n}

        flow = fb.graph("noting", note)
        async with fb.connect(fresh_database, home=tmp_path) as app:
            runs = [await app.start(flow, n=n, queue="gpu", priority=n) for n in (1, 3, 2)]
            other = await app.start(flow, n=9, queue="cpu")
            work = asyncio.create_task(app.work(["gpu"], concurrency=1))
            for run in runs:
                await run.result(60)
            work.cancel()
            await asyncio.wait((work,))
            assert order == [3, 2, 1]
            assert (await app.store.run(other.id)).status is Status.PENDING

    asyncio.run(whole())
