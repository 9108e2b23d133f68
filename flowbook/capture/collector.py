"""The collector: brings what steps print to the store, now and then, in one batch for all attempts of a process.

Owns: when that is. Refuses: bounds (`shelf.py`), and being waited for: a step ends, and a run too, whether what it
printed is stored or not. Who is killed loses what was printed in the last half second.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final

from flowbook.capture.shelf import Shelf
from flowbook.plan.outputs import Output

log = logging.getLogger("flowbook")

EVERY: Final = 0.4
"""Seconds between two batches."""
PATIENCE: Final = 5.0
"""Seconds that closing waits for a database that is away."""


class Collector:
    """All shelves of an app; lives on the loop that made it."""

    def __init__(self, keep: Callable[[Sequence[Output]], Awaitable[None]], now: Callable[[], datetime]) -> None:
        self._keep, self.now = keep, now
        self._loop = asyncio.get_running_loop()
        self._guard = threading.Lock()
        self._dirty: dict[Shelf, None] = {}
        self._armed = False
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def flush(self) -> None:
        """Store all that has been printed so far; who is cancelled meanwhile loses nothing of it."""
        await asyncio.shield(self._begin())

    async def _flush(self) -> None:
        async with self._writing:
            with self._guard:
                shelves, self._dirty = list(self._dirty), {}
                self._armed = False
            outputs = [output for shelf in shelves for output in shelf.drain()]
            if not outputs:
                return
            try:
                await self._keep(outputs)
            except Exception:
                log.warning("flowbook: %d outputs of steps could not be stored", len(outputs), exc_info=True)

    async def close(self) -> None:
        """Store what is left, unless the database is away."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.flush()
        except TimeoutError:
            log.warning("flowbook: what steps printed last could not be stored: the database is away")

    def touched(self, shelf: Shelf) -> None:
        """It has something to be stored; may be called from any thread."""
        with self._guard:
            self._dirty[shelf] = None
            if self._armed:
                return
            self._armed = True
        with contextlib.suppress(RuntimeError):  # the app is closed; a thread that nobody could stop talks on
            # In a context of its own: what is logged while storing is nobody's output.
            self._loop.call_soon_threadsafe(self._arm, context=contextvars.Context())

    def _arm(self) -> None:
        self._loop.call_later(EVERY, self._begin, context=contextvars.Context())

    def _begin(self) -> asyncio.Task[None]:
        task = self._loop.create_task(self._flush(), name="flowbook-outputs", context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
