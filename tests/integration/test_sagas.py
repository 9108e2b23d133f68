"""Sagas on Postgres: a process is killed in the middle of undoing, and another one goes on from the stored source.

Owns: what `tests/unit/run/test_sagas.py` promises, where a database and several processes are needed to believe it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

ROOT = Path(__file__).resolve().parents[2]

CHILD = '''
"""argv: url, home. Runs a flow that fails behind three steps that can be undone."""
import asyncio, os, sys
from pathlib import Path
import flowbook as fb

def mark(text):
    with open(os.environ["SAGA_MARKS"], "a") as file:
        file.write(text + chr(10))

def unbook(book, ctx):
    mark(f"{ctx.path} {book}")

async def unpay(pay, state, ctx):
    mark(f"{ctx.path} {pay} {sorted(state)}")
    if "SAGA_HOLD" in os.environ:
        await asyncio.sleep(3600)

@fb.step(retries=1, backoff=[0.01])
def unship(ctx):
    mark(f"{ctx.path} {ctx.attempt}")
    raise OSError("it is on its way")

@fb.step(compensate=unbook)
def book(): return "seat 4"

@fb.step(compensate=unpay)
async def pay(book): return 12

@fb.step(compensate=unship)
def ship(pay): return "parcel"

@fb.step
def confirm(ship): raise ValueError("nobody at home")

async def main(url, home):
    async with fb.connect(url, home=Path(home)) as app:
        await (await app.start(fb.graph("trip", book >> pay >> ship >> confirm), key="k")).result()

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
'''


def test_a_saga_that_is_killed_half_way_is_finished_by_another_process_from_source(
    fresh_database: str, tmp_path: Path
) -> None:
    """What was recorded as undone is not undone again, what was under way is; a compensation that fails is told beside
    the first error. The second process has nothing but the database and the key."""
    (tmp_path / "trip.py").write_text(CHILD)
    marks = tmp_path / "marks"
    home = str(tmp_path / "home")  # where the key lies that signs and verifies the source
    env = {**os.environ, "FLOWBOOK_HOME": home, "SAGA_MARKS": str(marks), "FLOWBOOK_DATABASE_URL": fresh_database}
    env["PYTHONPATH"] = str(ROOT)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "trip.py"), fresh_database, home], env={**env, "SAGA_HOLD": "1"}, cwd=ROOT
    ) as first:
        deadline = time.monotonic() + 60
        while not (marks.exists() and "pay#1/" in marks.read_text()):
            assert first.poll() is None, "the first process undid nothing"
            assert time.monotonic() < deadline, "the first process undid nothing"
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "flowbook.cli", *words]
        return subprocess.run(line, env=env, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)

    (tmp_path / "trip.py").unlink()
    resumed = command("resume", "last", "--from-source", "--json")
    assert resumed.returncode == 1, resumed.stdout + resumed.stderr
    run = json.loads(resumed.stdout)
    assert (run["status"], run["failed_path"]) == ("failed", "confirm#1")
    assert run["failure"]["message"] == "nobody at home"
    assert run["failure"]["notes"] == ["ship#1 was not undone, its compensation failed: OSError: it is on its way"]
    assert [(s["undoes"], s["state"]) for s in run["steps"] if s["undoes"]] == [
        ("ship#1", "failed"),
        ("pay#1", "finished"),
        ("book#1", "finished"),
    ]
    assert marks.read_text().splitlines() == [
        "ship#1/compensation#1 1",
        "ship#1/compensation#1 2",
        "pay#1/compensation#1 12 ['book', 'pay']",
        "pay#1/compensation#1 12 ['book', 'pay']",
        "book#1/compensation#1 seat 4",
    ]
    shown = command("show", "last")
    assert "ship#1 was not undone" in shown.stdout
    assert "undone" in shown.stdout
    retried = command("retry", "last", "--from-source")
    assert retried.returncode == 1, retried.stdout + retried.stderr
    assert marks.read_text().splitlines()[5:] == ["ship#1/compensation#1 1", "ship#1/compensation#1 2"]
