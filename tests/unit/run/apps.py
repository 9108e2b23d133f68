"""Apps on one memory database: opened, crashed and closed by a test.

Owns: `Apps`, and the decorator that runs an async scenario on a loop of its own. Refuses: assertions.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

from flowbook.app import App, Options
from flowbook.capture import routing
from flowbook.handle import Run
from flowbook.observe.views import RunView, StepView
from flowbook.plan.events import Event
from flowbook.plan.journal import from_entry
from flowbook.store.memory import MemoryStore
from flowbook.store.memory_database import MemoryDatabase

LIMIT = 20.0
"""Seconds after which a scenario hangs."""
POLL = 0.02
"""Seconds between a store's looks for what is due, so that no test waits long."""


class Apps:
    """A database, and the apps on it."""

    def __init__(self, *, always_suspend: bool = False) -> None:
        self.always_suspend = always_suspend
        self.database = MemoryDatabase()
        self._open: list[App] = []

    async def open(self, *, namespace: str = "default", store: type[MemoryStore] = MemoryStore) -> App:
        """A new app, as another process would have it."""
        options = Options(namespace, b"key", self.always_suspend)
        app = App(store(self.database, poll=POLL), options)
        await app.__aenter__()
        self._open.append(app)
        return app

    async def crash(self, app: App) -> None:
        """Its process is killed: nothing is written any more, and the others notice."""
        assert isinstance(app.store, MemoryStore)
        await app.store.die()
        routing.uninstall(app.engine)
        self._open.remove(app)
        for watch in app._watches.values():
            watch.close()
        app.engine._loop and app.engine._loop.cancel()
        for task in list(app.engine._tasks.values()):
            task.cancel()
        app.engine.tools.threads.shutdown()
        self.database.bury(app.store.worker_id)

    async def leave(self, app: App) -> None:
        """Its process ends in order."""
        self._open.remove(app)
        await app.__aexit__(None, None, None)

    async def close(self) -> None:
        """Close every app that is still open."""
        for app in self._open:
            await app.__aexit__(None, None, None)

    def events(self, run_id: UUID) -> list[Event]:
        """The journal."""
        return [from_entry(entry) for entry in self.database.runs[run_id].journal]

    def kinds(self, run: Run) -> list[str]:
        """The journal, in short, without advisory rows: "a#1 finished", "completed"."""
        rows = [e for e in self.database.runs[run.id].journal if e.kind != "started"]
        return [f"{e.path} {e.kind}".strip() for e in rows]


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop of its own, with a limit, and close its apps."""

    # pytest passes fixtures by name, and takes the names from the wrapped test.
    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        async def whole() -> None:
            try:
                async with asyncio.timeout(LIMIT):
                    await test(**fixtures)
            finally:
                if "apps" in fixtures:
                    await fixtures["apps"].close()

        asyncio.run(whole())

    return run


def step_of(view: RunView, path: str) -> StepView:
    """One firing of a view."""
    return next(s for s in view.steps if s.path == path)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something to become true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
