"""Worlds: a database and the workers on it, alike for every store.

Owns: making, killing and closing stores, and the short forms that keep scenarios readable.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol
from uuid import UUID

import asyncpg

from flowbook.ids import new_id
from flowbook.plan.journal import Entry, Kind
from flowbook.plan.records import Status
from flowbook.ports import NewRun, RunRow, Settlement, Snapshot, Store
from flowbook.store.memory import MemoryStore
from flowbook.store.memory_database import MemoryDatabase
from flowbook.store.postgres import PostgresStore

CODE = frozenset({"f1"})
"""The fingerprint of all runs that a test does not say otherwise of."""
LIMIT = 60.0
"""Seconds after which a scenario hangs."""


class World(Protocol):
    """A database and its workers."""

    async def worker(self) -> Store:
        """A new worker, opened."""
        ...

    async def kill(self, store: Store) -> None:
        """The worker is gone as if its process had been killed; its object can still be asked to write."""
        ...

    async def close(self) -> None:
        """Close every worker."""
        ...


class MemoryWorld:
    """Workers that share dictionaries."""

    def __init__(self) -> None:
        self._database = MemoryDatabase()
        self._stores: list[MemoryStore] = []

    async def worker(self) -> Store:
        store = MemoryStore(self._database, poll=0.1)
        await store.open()
        self._stores.append(store)
        return store

    async def kill(self, store: Store) -> None:
        self._database.workers[store.worker_id].alive = False

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


class PostgresWorld:
    """Workers on one Postgres database."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._stores: list[PostgresStore] = []

    async def worker(self) -> PostgresStore:
        store = PostgresStore(self.url, poll=0.1)
        await store.open()
        self._stores.append(store)
        return store

    async def kill(self, store: Store) -> None:
        """Its lock session ends without a word and does not come back; its writer goes on, as a zombie's would."""
        assert isinstance(store, PostgresStore)

        async def hang_up(connection: Any) -> None:
            connection.abort()

        store._liveness._leave = hang_up  # type: ignore[method-assign]
        await store._liveness.stop()

    async def sql(self) -> Any:
        """A plain connection for looking and meddling."""
        return await asyncpg.connect(self.url)

    async def close(self) -> None:
        for store in self._stores:
            await store.close()


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop of its own, with a limit, and close its world, which is one of its fixtures."""

    # pytest passes fixtures by name, and takes the names from the wrapped test.
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        world: World = next(given for given in fixtures.values() if isinstance(given, MemoryWorld | PostgresWorld))

        async def whole() -> None:
            try:
                async with asyncio.timeout(LIMIT):
                    await test(**fixtures)
            finally:
                await world.close()

        asyncio.run(whole())

    return run


def new(**fields: Any) -> NewRun:
    """A run that is to be started."""
    usual: dict[str, Any] = {
        "id": new_id(),
        "namespace": "default",
        "flow": "fit",
        "fingerprint": "f1",
        "version": 1,
        "input": b"input",
        "input_digest": b"d" * 16,
    }
    return NewRun(**(usual | fields))


def outcome(path: str, payload: bytes = b"result", attempt: int = 1) -> Entry:
    """A step's result."""
    return Entry(Kind.FINISHED, path, attempt, payload)


def started(path: str, attempt: int = 1) -> Entry:
    """An advisory entry."""
    return Entry(Kind.STARTED, path, attempt, b"")


def failed(path: str, attempt: int = 1) -> Entry:
    """A failed attempt: not an outcome."""
    return Entry(Kind.ATTEMPT_FAILED, path, attempt, b"boom")


COMPLETED = Entry(Kind.COMPLETED, "", 0, b"")


async def own(store: Store, **fields: Any) -> RunRow:
    """A new run that ``store`` owns."""
    return (await store.start(new(**fields))).row


async def journal(store: Store, run_id: UUID) -> list[tuple[int, str, str]]:
    """Number, kind and path of each row."""
    return [(entry.seq, entry.kind.value, entry.path) for entry in (await store.history(run_id))]


async def behind(store: Store, run_id: UUID, tag: str) -> tuple[Snapshot | None, list[int]]:
    """The newest snapshot of a tag, and the numbers of the rows that are read behind it, as a new owner does it."""
    snapshot = await store.newest(run_id, tag)
    return snapshot, [e.seq async for page in store.pages(run_id, snapshot.seq if snapshot else 0) for e in page]


def park(row: RunRow, seen: int = 0, due_in: float | None = None) -> Settlement:
    """Let a run wait."""
    return Settlement(row.id, row.epoch, Status.WAITING, seen, due_in=due_in)


def complete(row: RunRow, seen: int = 0) -> Settlement:
    """Let a run end well."""
    return Settlement(row.id, row.epoch, Status.COMPLETED, seen, COMPLETED)


async def eventually(true: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not await true():
            await asyncio.sleep(0.01)
