"""Postgres is shut down the hard way, again and again, under load: the workers wait for it and go on by themselves."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbook.store.embedded import Cluster
from flowbook.store.embedded.layout import Home, Record
from tests.crash.fleet import Fleet

PATHS = sorted(f"tick{n:02}#1" for n in range(1, 21))


class Server:
    """An embedded Postgres of this test's own. Its supervisor starts it again when it has ended."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._cluster = Cluster(home, grace=1.0)

    def start(self) -> str:
        return self._cluster.attach().url

    def end(self) -> None:
        self._cluster.detach()
        self._cluster.down(timeout=20.0)

    def die(self) -> None:
        """What ``pg_ctl stop -m immediate`` does: no checkpoint, no goodbye, recovery at the next start."""
        record = Record.read(Home(self.home).record)
        assert record is not None
        pid = int((Path(record.cell) / "data" / "postmaster.pid").read_text().split()[0])
        assert b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
        os.kill(pid, signal.SIGQUIT)


@pytest.fixture
def server() -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="fbt-pg-", dir="/tmp"))
    home.chmod(0o711)
    server = Server(home)
    try:
        yield server
    finally:
        server.end()
        shutil.rmtree(home, ignore_errors=True)


async def under_load(server: Server, tmp_path: Path, *, restarts: int, runs: int, pause: float) -> None:
    async with Fleet(await asyncio.to_thread(server.start), tmp_path) as fleet:
        for _ in range(2):
            await fleet.spawn(concurrency=runs // 2)  # each carries half
        ids = await fleet.put("ticks20", runs, n=0, pause=pause)
        waits = []
        for number in range(1, restarts + 1):
            due = runs * len(PATHS) * number // (restarts + 1)
            await fleet.until(lambda due=due: len(fleet.marks()) >= due, 60)  # type: ignore[misc]
            await asyncio.sleep(random.uniform(0, 0.1))
            slow = random.choice(list(fleet.alive)) if number == restarts else 0
            if slow:
                fleet.send(slow, signal.SIGSTOP)
            # All that is under way ends in the dark; that more ends than was under way needs the database.
            more = len(fleet.marks(what="end")) + 2 * runs
            died = asyncio.get_running_loop().time()
            await asyncio.to_thread(server.die)
            if slow:
                # All locks are free, and the one worker that is back has seconds to misunderstand that.
                await asyncio.sleep(3.0)
                fleet.send(slow, signal.SIGCONT)
            await fleet.until(lambda more=more: len(fleet.marks(what="end")) >= more, 30)  # type: ignore[misc]
            waits.append(asyncio.get_running_loop().time() - died)

        fleet.sql.terminate()
        await fleet.connect()
        ended = await fleet.ended(ids, 60)
        told = ", ".join(f"{wait:.2f} s" for wait in waits)
        print(f"\n{restarts} restarts (a worker asleep for 3 s at the last), {runs} runs: on again after {told}")
        assert Counter((r["status"], r["error"]) for r in ended) == {("completed", None): runs}
        assert Counter((r["lost"], r["epoch"]) for r in ended) == {(0, 1): runs}, "a live run was stolen"
        assert not fleet.buried(), "a worker did not survive it"
        # No process died, so nothing explains a second execution of anything.
        assert set(fleet.executions().values()) == {1}
        assert len(fleet.executions("end")) == runs * len(PATHS)
        for run in ids:
            journal = await fleet.journal(run)
            assert [r["seq"] for r in journal] == list(range(1, len(journal) + 1))
            assert {r["epoch"] for r in journal} == {1}
            assert sorted(r["path"] for r in journal if r["kind"] == "finished") == PATHS
            assert Counter(r["kind"] for r in journal)["completed"] == 1
        again = await fleet.put("ticks3", 20, n=0, pause=0.0)
        assert {r["status"] for r in await fleet.ended(again, 15)} == {"completed"}


@pytest.mark.timeout(110)
async def test_two_restarts_of_postgres_lose_and_repeat_nothing(server: Server, tmp_path: Path) -> None:
    """Every acknowledged step stays, no body runs twice, no run changes hands, and all goes on by itself.
    At the last restart one of the two workers is slow to come back, and keeps its runs all the same."""
    await under_load(server, tmp_path, restarts=2, runs=16, pause=0.1)


@pytest.mark.crash
@pytest.mark.timeout(400)
async def test_five_restarts_of_postgres_lose_and_repeat_nothing(server: Server, tmp_path: Path) -> None:
    """The same with more of everything."""
    await under_load(server, tmp_path, restarts=5, runs=30, pause=0.25)
