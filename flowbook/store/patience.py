"""Runs whose row somebody keeps locked.

Owns: a connection of its own with a lock_timeout, opened when it is first needed, and the parcels that wait for a
lock. Refuses: judging (`writer.py`).

A user's open transaction may hold the row of one run for minutes. All other runs go on without it: the writer hands
it over after three refusals. Here everything that waits is tried once in one statement that skips locks; then one
of them, in turn, stands in the queue for its lock for half a second, so that neither a stream of short locks starves
it nor its release goes unnoticed for long. That is two or three statements per second in all, not per run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import asyncpg

from flowbook.errors import StoreUnavailable
from flowbook.store import flushes
from flowbook.store import statements as sql
from flowbook.store.driver import Connection, went_away
from flowbook.store.flushes import Answer
from flowbook.store.parcels import Parcel
from flowbook.store.retrying import Line, pauses

LONGEST_PAUSE: Final = 0.5
"""Seconds between two rounds at most, however long the locks are held."""

Judge = Callable[[Connection, Parcel, Answer], Awaitable[bool]]
Refuse = Callable[[Parcel, Exception], None]

log = logging.getLogger(__name__)


class Patience:
    """The lane of the runs that wait for a lock."""

    def __init__(self, url: str, judge: Judge, refuse: Refuse) -> None:
        self._line = Line(url, "patience")
        self._judge = judge
        self._refuse = refuse
        self._waiting: deque[Parcel] = deque()
        self._task: asyncio.Task[None] | None = None
        self._patient: Connection | None = None

    @property
    def idle(self) -> bool:
        """True when no run waits for a lock."""
        return self._task is None or self._task.done()

    def __contains__(self, parcel: Parcel) -> bool:
        return parcel in self._waiting

    def take(self, parcel: Parcel) -> None:
        """Keep sending this parcel until its row is free. It is the only one of its run that is on its way."""
        self._waiting.append(parcel)
        if self.idle:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="flowbook patience")

    async def close(self) -> None:
        """Give up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self._line.close()

    async def _run(self) -> None:
        rounds = pauses()
        while self._waiting:
            before = len(self._waiting)
            try:
                connection = await self._connection()
                await self._round(connection)
            except StoreUnavailable:
                return
            except Exception as error:
                if not went_away(error):
                    log.exception("the patient lane stumbled")
            if len(self._waiting) < before:
                rounds = pauses()
            if self._waiting:
                await asyncio.sleep(min(next(rounds), LONGEST_PAUSE))

    async def _connection(self) -> Connection:
        connection = await self._line.connection()
        if connection is not self._patient:
            await connection.execute(sql.BE_PATIENT)
            self._patient = connection
        return connection

    async def _round(self, connection: Connection) -> None:
        for sort in ((False, False), (True, False), (True, True)):
            some = [parcel for parcel in self._waiting if (parcel.settle is not None, parcel.family) == sort]
            if some:
                await self._try(connection, some, wait=False)
        if self._waiting:
            self._waiting.rotate(-1)
            await self._try(connection, [self._waiting[0]], wait=True)

    async def _try(self, connection: Connection, parcels: Sequence[Parcel], *, wait: bool) -> None:
        write = flushes.append if parcels[0].settle is None else flushes.settle
        try:
            answers = await write(connection, parcels, wait=wait)
        except asyncpg.LockNotAvailableError:
            return
        except Exception as error:
            if went_away(error):
                for parcel in parcels:
                    parcel.doubtful = True
                connection.abort()
                raise
            if len(parcels) > 1:
                for parcel in parcels:
                    await self._try(connection, [parcel], wait=wait)
                return
            self._drop(parcels[0])
            self._refuse(parcels[0], error)
            return
        for parcel, answer in zip(parcels, answers, strict=True):
            if await self._judge(connection, parcel, answer):
                self._drop(parcel)

    def _drop(self, parcel: Parcel) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(parcel)
