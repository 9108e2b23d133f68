"""Cancelling to the end: asking, and seeing what comes of it.

Owns: waiting for a cancelled run to be over. Refuses: killing anything.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.ports import RunRow

LOOK = 0.3
"""Seconds between looks. A run whose process is dead is given up by its store within a second or so; only then can
the cancel be carried out here."""


async def cancelled(app: App, row: RunRow, timeout: float) -> None:
    """Ask ``row`` to stop and wait up to ``timeout`` seconds for its end, if anybody can bring it about."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    now = await app.cancel(row.id)
    while not now.status.over and loop.time() < deadline:
        if now.worker_id is None and await app.needs(now):
            return  # what it has done is undone where its code is
        await asyncio.sleep(LOOK)
        now = await app.store.run(row.id)
        if not now.status.over and now.worker_id is None:
            now = await app.cancel(row.id)
