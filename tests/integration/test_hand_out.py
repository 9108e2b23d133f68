"""Steps that are handed out, on Postgres: completed from other processes, some of which are killed.

Owns: what `tests/unit/run/test_hand_out.py` promises, where a database and several processes are needed to believe it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import flowbook as fb
from flowbook.app import App, Options
from flowbook.errors import AlreadyAnswered
from flowbook.plan.records import Status
from flowbook.store.postgres import PostgresStore

pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(sys.platform == "win32", reason="processes are killed here")]

ROOT = Path(__file__).resolve().parents[2]

CHILD = '''
"""argv: url, folder. Carries a run of `pay` under the key "k"; its tokens are appended to the file `tokens`."""
import asyncio, json, pathlib, sys
import flowbook as fb

URL, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])

@fb.step
async def pay(ctx: fb.Context):
    with (FOLDER / "tokens").open("a") as file:
        print(ctx.hand_out(), file=file)

@fb.step
def book(pay): return {"booked": pay}

flow = fb.graph("pay_flow", pay >> book)

async def main():
    async with fb.connect(URL, home=FOLDER) as app:
        run = await app.start(flow, key="k")
        print(json.dumps(await run.result()), flush=True)

asyncio.run(main())
'''


class Desk:
    """A database, a process that hands out, and who completes."""

    def __init__(self, url: str, folder: Path, *, always_suspend: bool) -> None:
        self.url, self.folder, self.always_suspend = url, folder, always_suspend
        (folder / "child.py").write_text(CHILD)
        self._children: list[subprocess.Popen[str]] = []

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[App]:
        """An app of this process, which does not know the code."""
        async with App(PostgresStore(self.url, poll=0.1), Options("default", b"k", self.always_suspend)) as app:
            yield app

    def child(self) -> subprocess.Popen[str]:
        """Another process, which carries the run."""
        command = [sys.executable, str(self.folder / "child.py"), self.url, str(self.folder)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self._children.append(child)
        return child

    def tokens(self) -> list[str]:
        """What was given away so far."""
        file = self.folder / "tokens"
        return file.read_text().split() if file.exists() else []

    async def handed(self, app: App) -> fb.Run:
        """The run, once it waits for its answer."""
        async with asyncio.timeout(30):
            while not (rows := await app.runs(status="waiting")):
                await asyncio.sleep(0.02)
        return await app.run(rows[0].id)

    async def answer(self, child: subprocess.Popen[str]) -> object:
        """What a child printed at its end."""
        out, _ = await asyncio.to_thread(child.communicate, None, 60)
        return json.loads(out)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The command line, as a program in any language would use it."""
        environment = {**os.environ, "FLOWBOOK_HOME": str(self.folder)}
        command = [sys.executable, "-m", "flowbook.cli", *words, "--url", self.url]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=ROOT
        )

    def close(self) -> None:
        for child in self._children:
            child.kill()
            child.communicate()


@pytest.fixture
def desk(fresh_database: str, tmp_path: Path, always_suspend: bool) -> Iterator[Desk]:
    """A migrated database, and no process yet."""
    from flowbook.store.migrate import upgrade

    asyncio.run(upgrade(fresh_database))
    desk = Desk(fresh_database, tmp_path, always_suspend=always_suspend)
    yield desk
    desk.close()


def test_a_program_in_another_language_completes_a_step_from_the_command_line(desk: Desk) -> None:
    """A token and some JSON are all that it needs; who comes second is told what the first answer was."""

    async def scenario() -> None:
        child = desk.child()
        async with desk.opened() as app:
            run = await desk.handed(app)
            (token,) = desk.tokens()
            wrong = await asyncio.to_thread(desk.command, "complete", token, "paid")
            assert (wrong.returncode, "is not JSON" in wrong.stderr) == (2, True)
            first = await asyncio.to_thread(desk.command, "complete", token, '{"amount": 12}')
            assert first.returncode == 0, first.stderr
            assert await desk.answer(child) == {"amount": 12, "booked": {"amount": 12}}
            second = await asyncio.to_thread(desk.command, "complete", token, '{"amount": 13}')
            assert second.returncode == 2
            assert "FB332" in second.stderr
            assert "12" in second.stderr
            assert (await run.status()) is Status.COMPLETED

    asyncio.run(scenario())


def test_killed_while_handed_out_then_completed_then_resumed(desk: Desk) -> None:
    """The body is not run again: the journal has that it was handed out, the mailbox what the answer is."""

    async def scenario() -> None:
        child = desk.child()
        async with desk.opened() as app:
            run = await desk.handed(app)
            child.send_signal(signal.SIGKILL)
            child.wait()
            (token,) = desk.tokens()
            await app.complete(token, 5)
            with pytest.raises(AlreadyAnswered, match="with 5"):
                await app.complete(token, 6)
            assert await run.status() is Status.WAITING  # nobody here has its code
            assert await desk.answer(desk.child()) == {"pay": 5, "booked": 5}
            assert desk.tokens() == [token]

    asyncio.run(scenario())
