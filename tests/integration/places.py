"""Places: a database, a program, and processes of it that tests start and kill.

Owns: `Place`, running async tests on it (`scenario`) and waiting for a run (`row_of`). Refuses: what the program does,
which each test file writes, and assertions.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from flowbook.app import App, Options
from flowbook.plan.query import RunQuery
from flowbook.plan.records import Status
from flowbook.ports import RunRow
from flowbook.store.migrate import upgrade
from flowbook.store.postgres import PostgresStore

ROOT = Path(__file__).resolve().parents[2]


class Place:
    """A migrated database, and processes on it; ``env``: variables that all of them get."""

    def __init__(self, url: str, folder: Path, program: str, *, always_suspend: bool, **env: str) -> None:
        self.url, self.always_suspend, self.file, self.env = url, always_suspend, folder / "marks", env
        self.script = folder / "program.py"
        self.script.write_text(program)
        self.processes: list[subprocess.Popen[str]] = []
        asyncio.run(upgrade(url))

    @asynccontextmanager
    async def opened(self) -> Any:
        """An app of this process."""
        async with App(PostgresStore(self.url, poll=0.1), Options("default", b"k", self.always_suspend)) as app:
            yield app

    def process(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """Another process; ``more``: variables that it alone gets."""
        command = [sys.executable, str(self.script), self.url, *words]
        env = {**os.environ, "MARKS": str(self.file), **self.env, **more}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
        self.processes.append(process)
        return process

    def lines(self) -> list[str]:
        """What the bodies that ran have written into the file MARKS, in order."""
        return self.file.read_text().splitlines() if self.file.exists() else []

    def close(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.kill()
            process.communicate()


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop of its own."""

    def run(place: Place) -> None:
        async def whole() -> None:
            async with asyncio.timeout(90):
                await test(place)

        asyncio.run(whole())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def row_of(app: App, flow: str, status: Status | None = None) -> RunRow:
    """The one run of a flow, once it is there (in that status)."""
    async with asyncio.timeout(60):
        while not (rows := await app.store.runs(RunQuery("default", flow, status, children=True))):
            await asyncio.sleep(0.02)
    return rows[0]
