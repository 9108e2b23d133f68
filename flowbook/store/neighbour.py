"""What a worker does about the others: watch the next one, find out who is dead, bury them.

Owns: waiting on the neighbour's lock, the two probes, burials and orphans. Refuses: this worker's own lock and lease
(`liveness.py`), and every clock but the database's.

Workers stand in a ring by id and each waits on the lock of the next, so a death is noticed as soon as the server has
closed the dead one's session. Waiting proves nothing by itself (a connection may be lost and retaken): a worker is
dead when

    its lock is free at two probes 300 ms apart, and was taken since the server started; or
    its lease is past, the server has been up for longer than that lease, and we have been connected for a while.

A burial takes the runs from the dead one by raising their epoch, so even a wrong verdict loses no result but its own.

Not seen from here: a fail-over to a standby that has been up for long looks like a moment in which all sessions end.
Who has just connected therefore accuses nobody by a free lock within its first second, in which the living are back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from flowbook.clock import DICE
from flowbook.store import vital_statements as sql
from flowbook.store.driver import Connection, connect, went_away

BETWEEN_PROBES: Final = 0.3
"""Seconds in which a living worker retakes a lock that it lost."""
FIRST_SECOND: Final = 1.0
"""Seconds after connecting before a free lock may be held against anyone."""
SETTLING: Final = 5.0
"""Seconds after connecting before a late heartbeat may be held against anyone: who was cut off with us is back."""

log = logging.getLogger(__name__)


class Coroner:
    """Finds the dead and frees their runs, over one connection. Any number of tasks may ask."""

    def __init__(
        self, worker_id: UUID, connection: Connection, since: datetime, freed: Callable[[tuple[UUID, ...]], None]
    ) -> None:
        self._worker_id = worker_id
        self.connection = connection
        self._since = since
        self._connected = asyncio.get_running_loop().time()
        self._freed = freed

    async def dead(self, suspects: Sequence[UUID] | None = None) -> list[Any]:
        """Those of ``suspects`` (None: of all) that are dead, as rows to bury them by."""
        first = await self._probe(suspects)
        if suspects is not None and not any(row["free"] or row["late"] for row in first):
            # Somebody asks because something happened: the server may need a moment to see that a client is gone.
            await asyncio.sleep(0.05)
            first = await self._probe(suspects)
        lapsed = [row for row in first if row["late"]]
        free = [row["id"] for row in first if row["free"] and not row["late"]]
        if not free:
            return lapsed
        age = asyncio.get_running_loop().time() - self._connected
        await asyncio.sleep(max(BETWEEN_PROBES, FIRST_SECOND - age))
        return lapsed + [row for row in await self._probe(free) if row["free"] or row["late"]]

    async def bury(self, suspects: Sequence[UUID] | None = None) -> frozenset[UUID]:
        """Bury those of ``suspects`` (None: of all) that are dead; the answer: whom this call has buried."""
        buried = set()
        for row in await self.dead(suspects):
            answer = await self.connection.fetchrow(sql.BURY, row["id"], row["alive_until"], row["locked_at"])
            if answer is None or not answer["won"]:
                continue  # it has given a sign of life, or somebody else was first
            buried.add(row["id"])
            why = "its lease is past" if row["late"] else "its session ended"
            runs = tuple(answer["freed"])
            log.info("worker %s (%s, pid %s) is dead: %s; freed %d runs", *row_name(row), why, len(runs))
            self._freed(runs)
        if buried:
            await self._adopt_skipped()
        return frozenset(buried)

    async def is_gone(self, worker_id: UUID) -> bool:
        """True if a worker is not listed; runs that still name it are freed."""
        if await self._probe([worker_id]):
            return False
        await self.free_orphans()
        return True

    async def is_dead(self, worker_id: UUID) -> bool:
        """True if a worker is dead or not listed; nothing is changed."""
        return not await self._probe([worker_id]) or bool(await self.dead([worker_id]))

    async def free_orphans(self) -> bool:
        """Free running runs whose owner is not listed. True if some are left, because they were locked."""
        orphans = await self.connection.fetch(sql.ORPHANS)
        if not orphans:
            return False
        ids, epochs = [row["id"] for row in orphans], [row["epoch"] for row in orphans]
        freed = tuple(row["id"] for row in await self.connection.fetch(sql.FREE_ORPHANS, ids, epochs))
        if freed:
            self._freed(freed)
        return len(freed) < len(orphans)

    async def _adopt_skipped(self) -> None:
        # Mostly an append of the dead one that the server was still working on; an open transaction takes longer and
        # is left to the first in the ring, who looks at every heartbeat.
        for _ in range(5):
            if not await self.free_orphans():
                return
            await asyncio.sleep(0.1)

    async def _probe(self, suspects: Sequence[UUID] | None) -> list[Any]:
        asked = None if suspects is None else list(suspects)
        return await self.connection.fetch(sql.PROBE, self._worker_id, asked, self._since, SETTLING)


def row_name(row: Any) -> tuple[UUID, str, int]:
    """How a worker is named in the log."""
    return row["id"], row["host"], row["pid"]


class Watch:
    """Waits on the neighbour's lock, on a connection of its own that exists only while there is a neighbour."""

    def __init__(self, url: str, ended: Callable[[], Awaitable[None]]) -> None:
        """``ended`` is called when the neighbour's session has ended; it finds out what that means."""
        self._url = url
        self._ended = ended
        self._key: int | None = None
        self._aimed = asyncio.Event()

    def aim(self, key: int | None) -> None:
        """Wait on this lock from now on; None: there is no neighbour."""
        if key != self._key:
            self._key = key
            self._aimed.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        pause = 0.05
        while True:
            while self._key is None:
                await self._aimed.wait()
                self._aimed.clear()
            connection = None
            try:
                connection = await connect(self._url, name="neighbour")
                pause = 0.05
                await self._watch(connection)
            except Exception as error:  # whatever it is, the watch must go on
                if not went_away(error):
                    log.warning("cannot watch the neighbour: %s", error)
                    pause = 5.0
            finally:
                if connection is not None:
                    await connection.close(1.0)  # not an abort: a cancelled wait is still to be called off
            await asyncio.sleep(pause * DICE.uniform(0.5, 1.5))
            pause = min(2 * pause, 2.0)

    async def _watch(self, connection: Connection) -> None:
        while self._key is not None:
            self._aimed.clear()
            key = self._key
            await connection.fetchval(sql.AIM, str(key))
            while self._key == key and not await self._outlives(connection):
                pass
            if self._key == key:
                await self._ended()
                if self._key == key:  # neither dead nor back: its lease decides, and until then its lock stays free
                    await asyncio.sleep(1.0)

    async def _outlives(self, connection: Connection) -> bool:
        """Wait until the neighbour's session has ended (True), the ring has changed or it is time to wait anew."""
        waiting = asyncio.ensure_future(connection.execute(sql.WAIT_ON_NEIGHBOUR))
        changed = asyncio.ensure_future(self._aimed.wait())
        try:
            await asyncio.wait((waiting, changed), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                return False
            await waiting
            return bool(await connection.fetchval(sql.OUTLIVED))
        finally:
            waiting.cancel()
            changed.cancel()
            await asyncio.wait((waiting, changed))
            if not waiting.cancelled():
                waiting.exception()  # looked at above, or of no interest: the ring has changed
