"""The portal: how code without a running event loop talks to the engine.

Owns: a background thread with an event loop, and waiting for what runs there. Refuses: any verb of its own; sync and
async are never written twice, the sync face of everything is this one door.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from flowbook.errors import UsageError

T = TypeVar("T")

TICK = 0.1
"""Seconds between looks at Ctrl-C while a thread waits: a wait on a lock alone is not interrupted everywhere."""


class Portal:
    """An event loop in a thread of its own."""

    def __init__(self, name: str = "flowbook-engine") -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)

    @property
    def thread(self) -> threading.Thread:
        """The engine's thread."""
        return self._thread

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop the loop and wait for its thread."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
        if not self.loop.is_closed():
            self.loop.close()

    def submit(self, coro: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begin something on the engine's loop; the submitter's context goes along, so prints reach its cell."""
        if not self._thread.is_alive():
            coro.close()
            raise UsageError("flowbook's engine is not running any more in this process: connect again")
        return asyncio.run_coroutine_threadsafe(coro, self.loop)

    def call(self, coro: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Wait for something on the engine's loop. Ctrl-C is raised here and cancels it; `TimeoutError` likewise."""
        if threading.current_thread() is self._thread:
            coro.close()
            raise UsageError(
                "a blocking call was made on flowbook's own loop, which would wait for itself: in an async step use "
                "the async verbs (`await app.start(...)`)"
            )
        future = self.submit(coro)
        left = timeout
        try:
            while True:
                wait = TICK if left is None else min(TICK, left)
                done, _ = concurrent.futures.wait([future], timeout=wait)
                if done:
                    return future.result()
                if left is not None:
                    left -= wait
                    if left <= 0:
                        raise TimeoutError
        except BaseException:
            future.cancel()
            raise

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
