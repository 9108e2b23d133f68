"""Races, outputs and limits on Postgres: between processes, one of which is killed, and from stored source."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import flowbook as fb
from flowbook.cli.code import graphs_of, load_module

pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

FLOW = '''
"""argv: url, home. Starts a run and prints its id as soon as it is durable."""
import asyncio, os, sys
from pathlib import Path
import flowbook as fb


@fb.step
def begin():
    return {"n": 0, "scratch": "x"}


@fb.step
async def quick(flag):
    with Path(flag + ".log").open("a") as file:
        file.write("quick\\n")
    while not Path(flag).exists():
        await asyncio.sleep(0.02)
    return {"won": "quick"}


@fb.step
async def slow():
    await asyncio.sleep(60)
    return {"won": "slow"}


@fb.step(when=lambda s: s.won == "slow")
def mourn():
    return {"won": "nobody"}


@fb.step
def count(n):
    return {"n": n + 1}


raced = fb.graph(
    "raced",
    begin >> fb.race(quick, slow, fb.sleep("1h", name="limit")) >> mourn >> count,
    count >> fb.branch(lambda s: s.n < 20, {True: count, False: fb.END}),
    outputs=["won", "n"],
    recursion_limit=10,
)

if __name__ == "__main__":
    with fb.connect(sys.argv[1], home=Path(sys.argv[2])) as app:
        run = app.start(raced, {"flag": sys.argv[3]})
        print(run.id, flush=True)
        run.result()
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the flow's file, and the home with the user's key."""
    for name in ("FLOWBOOK_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLOWBOOK_HOME", str(tmp_path / "home"))
    (tmp_path / "raced_flow.py").write_text(FLOW)
    return tmp_path


def command(url: str, *words: str) -> tuple[int, Any, str]:
    """A command in a process of its own: exit code, document, errors."""
    done = subprocess.run(
        [sys.executable, "-m", "flowbook.cli", *words, "--json", "--url", url],
        env=os.environ.copy(), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def test_a_killed_race_goes_on_from_stored_source_and_keeps_its_limit_and_outputs(
    fresh_database: str, place: Path
) -> None:
    """kill -9 in an open race, no file left: the rebuilt flow races on, drops the losers, goes round as often as it
    may, is retried with a higher limit by yet another process, and gives what it declares."""
    flag, file = place / "flag", place / "raced_flow.py"
    log = Path(f"{flag}.log")
    child = subprocess.Popen(
        [sys.executable, str(file), fresh_database, str(place / "home"), str(flag)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    run_id = child.stdout.readline().strip()
    deadline = time.monotonic() + 30
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    child.stdout.close()
    file.unlink()
    flag.touch()

    code, view, error = command(fresh_database, "resume", run_id, "--from-source")
    assert (code, view["status"]) == (1, "failed"), error
    assert (view["failed_path"], view["failure"]["code"]) == ("count#11", "FB318")
    states = {s["path"]: s["state"] for s in view["steps"]}
    assert (states["quick#1"], states["limit#1"], states["mourn#1"]) == ("finished", "cancelled", "skipped")
    assert log.read_text().split() == ["quick", "quick"], "what was under way in the open race is tried again, once"

    code, view, error = command(fresh_database, "retry", run_id, "--from-source", "--recursion-limit", "100")
    assert (code, view["status"]) == (0, "completed"), error
    assert sum(s["node"] == "count" and s["state"] == "finished" for s in view["steps"]) == 20

    file.write_text(FLOW)
    with fb.connect(fresh_database, home=place / "home") as app:
        app.register(next(graphs_of(load_module(str(file)))))
        assert app.find(run_id).result(20) == {"won": "quick", "n": 20}


@pytest.mark.parametrize("loser", ["async", "thread"])
def test_a_race_on_postgres_drops_the_loser(fresh_database: str, place: Path, loser: str) -> None:
    """Its row is never written, and the run does not wait for it."""
    stop = place / "stop"

    @fb.step
    async def patient() -> str:
        import asyncio

        await asyncio.sleep(60)
        return "late"

    @fb.step
    def deaf() -> str:
        while not stop.exists():
            time.sleep(0.02)
        return "late"

    @fb.step
    def quick() -> str:
        return "quick"

    flow = fb.graph("f", fb.race(patient if loser == "async" else deaf, quick), outputs=["quick", "patient", "deaf"])
    with fb.connect(fresh_database, home=place / "home") as app:
        run = app.start(flow)
        try:
            assert run.result(20) == {"quick": "quick"}
        finally:
            stop.touch()
        assert {s.node: str(s.state) for s in run.steps}["quick"] == "finished"
        assert "finished" not in {str(s.state) for s in run.steps if s.node != "quick"}
