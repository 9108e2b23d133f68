"""The tests' side of the workers: spawn, kill and stop them, give them runs, read what they did.

Owns: `Fleet`. Refuses: promises, which are the tests'. Runs are put straight into the table, so that no process of
the test stands in the ring of workers.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import asyncpg

from flowbook.codec import digest, encode
from flowbook.ids import new_id
from flowbook.store import migrate
from tests.crash.jobs import FLOWS
from tests.crash.zygotes import Zygote

OVER = frozenset({"completed", "failed", "cancelled", "superseded"})


@dataclass(frozen=True)
class Mark:
    """One line that a body has left."""

    run: UUID
    path: str
    attempt: int
    pid: int
    at: int
    """Monotonic nanoseconds, the same clock in all processes."""
    what: str


class Fleet:
    """Workers on one database. ``async with Fleet(url, folder) as fleet``."""

    always_suspend = False
    """True under --always-suspend: they fold each run anew after each of its steps."""

    def __init__(self, url: str, folder: Path, *, lease: float = 60.0) -> None:
        self.url, self.folder, self.lease = url, folder, lease
        self.log = folder / "log"
        self.alive: dict[int, dict[str, Any]] = {}
        """pid -> how it was spawned."""
        self.deaths = 0

    async def __aenter__(self) -> Self:
        await self.connect()
        await migrate.upgrade(self.url)
        self._zygote = Zygote("tests.crash.workers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zygote.close()
        self.sql.terminate()
        if kind is not None and self.log.exists():
            print("\n".join(self.log.read_text().splitlines()[-80:]))

    async def connect(self) -> None:
        """The test's own connections, anew when the server has died under them."""
        self.sql = await asyncpg.create_pool(self.url, min_size=0, max_size=4)

    # ------------------------------------------------------------------------------------------------------- processes

    async def spawn(
        self, *, flows: Sequence[str] = tuple(FLOWS), concurrency: int = 16, kill_at: str = "", wait: bool = True
    ) -> int:
        """A new worker; back when it works."""
        ready = self.folder / "ready"
        request = {
            "url": self.url, "home": str(self.folder), "lease": self.lease, "flows": list(flows), "kill_at": kill_at,
            "concurrency": concurrency, "marks": str(self.folder / "marks"), "log": str(self.log), "ready": str(ready),
            "suspend": self.always_suspend,
        }  # fmt: skip
        pid: int = self._zygote.ask({"spawn": request})["pid"]
        self.alive[pid] = {"flows": flows, "concurrency": concurrency}
        if wait:
            await self.until(lambda: ready.exists() and str(pid) in ready.read_text().split(), 30)
        return pid

    def send(self, pid: int, number: signal.Signals) -> int:
        """Send a signal; the answer is when, in monotonic nanoseconds."""
        if number is signal.SIGKILL:
            self.alive.pop(pid, None)
        at: int = self._zygote.ask({"signal": int(number), "pid": pid})["at"]
        return at

    def buried(self) -> list[int]:
        """Workers that have ended since this was asked last."""
        dead: list[int] = self._zygote.ask({"dead": True})["dead"]
        return dead

    async def keep_up(self) -> None:
        """Replace workers that have ended by themselves."""
        for pid in self.buried():
            how = self.alive.pop(pid, None)
            if how is not None:
                self.deaths += 1
                await self.spawn(**how, wait=False)

    # ------------------------------------------------------------------------------------------------------------ runs

    async def put(self, flow: str, number: int = 1, /, **input: Any) -> list[UUID]:
        """Runs that are due at once."""
        data = encode(input)
        ids = [new_id() for _ in range(number)]
        await self.sql.executemany(
            "INSERT INTO flowbook.run (id, namespace, flow, version, fingerprint, input, input_digest) "
            "VALUES ($1, 'default', $2, 1, $3, $4, $5)",
            [(run, flow, FLOWS[flow].fingerprint, data, digest(data)) for run in ids],
        )
        await self.sql.execute("SELECT pg_notify('flowbook_wake', 'test:*')")
        return ids

    async def rows(self, ids: Sequence[UUID]) -> list[Any]:
        """The rows of these runs, in their order."""
        rows = await self.sql.fetch(
            "SELECT id, status, epoch, lost, claims, mail, error, worker_id FROM flowbook.run WHERE id = ANY($1)", ids
        )
        by_id = {row["id"]: row for row in rows}
        return [by_id[run] for run in ids]

    async def journal(self, run: UUID) -> list[Any]:
        """Its rows, in order."""
        return await self.sql.fetch(
            "SELECT seq, epoch, kind, path, attempt, at FROM flowbook.journal WHERE run_id = $1 ORDER BY seq", run
        )

    async def finished(self, run: UUID) -> list[str]:
        """The paths that have a result, sorted; one that had two would be here twice."""
        return sorted(row["path"] for row in await self.journal(run) if row["kind"] == "finished")

    async def ended(self, ids: Sequence[UUID], timeout: float, *, keep_up: bool = False) -> list[Any]:
        """The rows when all of these runs are over."""

        async def over() -> bool:
            if keep_up:
                await self.keep_up()
            return all(row["status"] in OVER for row in await self.rows(ids))

        await self.until(over, timeout)
        return await self.rows(ids)

    # ----------------------------------------------------------------------------------------------------------- marks

    def marks(self, run: UUID | None = None, path: str | None = None, what: str = "begin") -> list[Mark]:
        """What bodies have left, in the order of writing."""
        return [m for m in self._marks() if m.what == what and run in (None, m.run) and path in (None, m.path)]

    def executions(self, what: str = "begin") -> Counter[tuple[UUID, str]]:
        """How often the body of each path of each run has begun."""
        return Counter((m.run, m.path) for m in self._marks() if m.what == what)

    def _marks(self) -> Iterator[Mark]:
        file = self.folder / "marks"
        for line in file.read_text().splitlines() if file.exists() else ():
            run, path, attempt, pid, at, what = line.split()
            yield Mark(UUID(run), path, int(attempt), int(pid), int(at), what)

    async def begun(self, run: UUID, path: str, times: int = 1, timeout: float = 20) -> Mark:
        """The mark of the so-manieth beginning of a path."""
        await self.until(lambda: len(self.marks(run, path)) >= times, timeout, every=0.01)
        return self.marks(run, path)[times - 1]

    async def until(self, true: Callable[[], bool | Awaitable[bool]], timeout: float, *, every: float = 0.05) -> None:
        """Wait for something; `TimeoutError` says that it did not come."""
        deadline = time.monotonic() + timeout
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"not so after {timeout:g} s")
            await asyncio.sleep(every)
