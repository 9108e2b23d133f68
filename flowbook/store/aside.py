"""Reading aside: outcomes for who cannot wait on the engine's loop, because he is not a coroutine.

Owns: a connection on a loop of its own in a background thread, made when it is first needed. Refuses: everything but
reading outcomes. A plain loop over the results of a large map reads through here, wherever it stands: in a step's
thread, in a coroutine on the engine's own loop (which stands still for as long as a page takes), in a notebook's cell.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from uuid import UUID

from flowbook.errors import StoreUnavailable
from flowbook.plan.journal import Entry
from flowbook.store.blobs import Blobs
from flowbook.store.reads import Reads
from flowbook.store.retrying import Line


class Aside:
    """Reads that block their caller and nobody else."""

    def __init__(self, url: str) -> None:
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False
        self._line = Line(url, "aside")
        self._blobs = Blobs(url)
        self._reads = Reads(self._line, self._blobs)

    def outcomes(self, run_id: UUID, paths: Sequence[str]) -> list[Entry]:
        """See `Reads.outcomes`. Raises `StoreUnavailable` once the store is closed."""
        reading = self._reads.outcomes(run_id, paths)
        try:
            loop = self._begun()
        except StoreUnavailable:
            reading.close()
            raise
        return asyncio.run_coroutine_threadsafe(reading, loop).result()

    async def close(self) -> None:
        """Hang up; whoever reads gets `StoreUnavailable`."""
        with self._guard:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._hang_up(), loop))
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.to_thread(thread.join)
        loop.close()

    def _begun(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._closed:
                raise StoreUnavailable(
                    "the app is closed, and these results lie in its database: read them before (`list(...)`), or "
                    "connect again and ask the run for its state"
                )
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="flowbook-aside", daemon=True)
                self._thread.start()
            return self._loop

    async def _hang_up(self) -> None:
        await self._line.close()
        await self._blobs.close()
