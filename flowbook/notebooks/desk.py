"""The desk: where a step hands its cell over to the thread that has the kernel.

Owns: `Desk` and `Job`. Refuses: knowing what a cell is. The steps of a run live on the engine's loop; a kernel's
client is synchronous and lives in a thread, in papermill's case the caller's own.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any

from flowbook.capture.routing import Keeper


class Job:
    """One cell, asked for by one attempt of its step."""

    def __init__(self, number: int, shelf: Keeper | None) -> None:
        self.number = number
        self.shelf = shelf
        """Where what it prints is kept for those who look on; None: nobody can."""
        self.cancelled = threading.Event()
        """Set when nobody wants it any more."""
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Any] = self._loop.create_future()

    def finish(self, outcome: Any) -> None:
        """It has been done; from any thread."""
        self._tell(lambda: self.answer.set_result(outcome))

    def fail(self, error: BaseException) -> None:
        """It could not be done; from any thread."""
        self._tell(lambda: self.answer.set_exception(error))

    def _tell(self, say: Callable[[], None]) -> None:
        def tell() -> None:
            if not self.answer.done():
                say()

        try:
            self._loop.call_soon_threadsafe(tell)
        except RuntimeError:  # the loop is closed: whoever asked is gone
            return


class Desk:
    """Jobs on their way from steps to a kernel's thread. Closed once, by that thread."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._why: BaseException | None = None
        self._closed = False
        self._open: set[Job] = set()
        self.interrupt: Callable[[], None] = lambda: None
        """Stops the cell under way; set by the thread that has the kernel."""

    async def ask(self, job: Job) -> Any:
        """Have a cell executed; the outcome. Raises what executing it raised. A cancel stops the cell."""
        with self._guard:
            if self._closed:
                raise self._reason()
            self._open.add(job)
            self._jobs.put(job)
        try:
            return await job.answer
        except asyncio.CancelledError:
            job.cancelled.set()
            self.interrupt()
            raise
        finally:
            with self._guard:
                self._open.discard(job)

    def take(self, timeout: float | None = None) -> Job | None:
        """The next cell that is wanted, waiting for it; None: none will be, or none was for ``timeout`` seconds."""
        try:
            return self._jobs.get(timeout=timeout)
        except queue.Empty:
            return None

    def no_more(self) -> None:
        """Nothing will be asked for any more: the run is over, or somebody else has it. From any thread."""
        self._jobs.put(None)

    @property
    def closed(self) -> bool:
        """True: its thread takes no jobs any more."""
        return self._closed

    def close(self, why: BaseException | None = None) -> None:
        """Take no jobs any more; those that wait fail with ``why``."""
        with self._guard:
            if self._closed:
                return
            self._closed, self._why = True, why
            waiting = list(self._open)
        for job in waiting:
            job.fail(self._reason())

    def _reason(self) -> BaseException:
        return self._why or RuntimeError("the notebook's kernel is gone")
