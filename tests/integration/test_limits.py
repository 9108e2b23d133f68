"""The time of a run on Postgres: counted from its beginning, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowbook.app import App, Options
from flowbook.errors import RunTimedOut
from flowbook.graph.flow import graph
from flowbook.graph.pause import wait
from flowbook.graph.step import step
from flowbook.plan.query import RunQuery
from flowbook.plan.records import Status
from flowbook.run import runner
from flowbook.store.postgres import PostgresStore

pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

ROOT = Path(__file__).resolve().parents[2]

CHILD = '''
"""argv: url. Starts a run that would take an hour."""
import asyncio, sys
import flowbook as fb

@fb.step
async def slow():
    print("begun", flush=True)
    await asyncio.sleep(3600)

async def main(url):
    async with fb.connect(url) as app:
        await (await app.start(fb.graph("slow_one", slow, run_timeout=3), key="k")).result()

asyncio.run(main(sys.argv[1]))
'''


def test_the_time_of_a_run_goes_on_while_its_process_is_dead(fresh_database: str, tmp_path: Path) -> None:
    """Killed in the middle of a step; the next process has what is left of the time, and then the run fails with the
    code for it, in the database as well."""
    (tmp_path / "child.py").write_text(CHILD)
    command = [sys.executable, str(tmp_path / "child.py"), fresh_database]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=None) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        first.send_signal(signal.SIGKILL)
    second = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert "RunTimedOut: [FB313]" in second.stderr, second.stderr

    async def look() -> None:
        async with App(PostgresStore(fresh_database)) as app:
            (row,) = await app.store.runs(RunQuery())
            assert row.status is Status.FAILED
            assert row.started_at is not None
            assert row.ended_at is not None
            took = (row.ended_at - row.started_at).total_seconds()
            assert 3 <= took < 30, "the second process gave it the whole time again"
            assert (await app.view(row.id)).failure is not None

    asyncio.run(look())


def test_a_parked_run_is_woken_when_its_time_is_up(
    fresh_database: str, always_suspend: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a signal that nobody sends, and its row says when it is due; a retry gives it as long again."""

    monkeypatch.setattr(runner, "LINGER", 0.2)

    @step
    def begin() -> int:
        return 1

    async def wait_for_it() -> None:
        async with App(PostgresStore(fresh_database), Options(always_suspend=always_suspend)) as app:
            run = await app.start(graph("waits", begin >> wait("go"), run_timeout=2))
            while await run.status() is not Status.WAITING:
                await asyncio.sleep(0.02)
            row = await app.store.run(run.id)
            assert row.started_at is not None
            assert 1.9 <= (row.due_at - row.started_at).total_seconds() <= 3
            with pytest.raises(RunTimedOut):
                await run.result()
            await run.retry()
            await run.signal("go", by="ana")
            assert (await run.result())["go"] == {"by": "ana"}

    asyncio.run(wait_for_it())
