"""Threads: where synchronous steps run by default.

Owns: a pool of threads, and carrying the caller's context variables into them (a raw pool prints into whichever cell
is executing). Refuses: stopping a body; a thread cannot be stopped, which is why time-outs are judged by the runner.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

WORKERS = 64
"""Threads at most: synchronous steps wait for the network or for a library that releases the GIL."""


class ThreadExecutor:
    """Runs bodies in threads."""

    def __init__(self, workers: int = WORKERS) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="flowbook-step")

    async def run(self, body: Callable[[], Any]) -> Any:
        """The body's result; its exception is raised here."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._pool, context.run, body)

    def shutdown(self) -> None:
        """Begin nothing more; bodies that run go on until they end."""
        self._pool.shutdown(wait=False, cancel_futures=True)
