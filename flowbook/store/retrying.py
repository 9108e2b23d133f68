"""A line to the database that comes back.

Owns: connecting again with a jittered, growing pause, and sending a statement again after its answer was lost.
Refuses: statements that must not be sent twice unless their caller says how that is told apart (`writer.py` re-sends
the same rows with the same numbers; a message carries a token).

A *line* is one held connection for one purpose. Everybody who asks while it is away waits, and goes on by himself
when it is back. What the database says about a statement (bad data, a violated constraint) is raised at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

from flowbook.clock import DICE
from flowbook.errors import StoreUnavailable
from flowbook.store.driver import Connection, Record, Statement, connect, went_away

FIRST_PAUSE: Final = 0.05
"""Seconds before the second attempt."""
LONGEST_PAUSE: Final = 0.5
"""Seconds that a pause grows to."""


def pauses() -> Iterator[float]:
    """Seconds to wait before each further attempt: doubling.

    Half of each is random, so that a hundred kernels do not come back in the same millisecond.
    """
    pause = FIRST_PAUSE
    while True:
        yield pause * (0.5 + DICE.random() / 2)
        pause = min(pause * 2, LONGEST_PAUSE)


class Line:
    """One connection for one purpose, made anew whenever it is lost."""

    def __init__(
        self, url: str, name: str, on_lost: Callable[[], None] | None = None, *, keeping: bool = False
    ) -> None:
        self._url = url
        self._name = name
        self._keeping = keeping
        self._on_lost = on_lost
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._closed = asyncio.Event()
        self._reached = False

    @property
    def live(self) -> Connection | None:
        """The connection if there is one right now."""
        connection = self._connection
        return None if connection is None or connection.is_closed else connection

    async def reach(self, patience: float) -> Connection:
        """The first connection: waits ``patience`` seconds for a database that is starting, then gives up.

        Raises:
            StoreUnavailable: It did not answer in time, or said something that waiting does not mend.
        """
        try:
            async with asyncio.timeout(patience):
                return await self.connection()
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the database did not answer within {patience:g} s; is it running, and is the URL right?"
            ) from error

    async def connection(self) -> Connection:
        """The connection; waits as long as the database is away.

        Raises:
            StoreUnavailable: The line is closed, or the server refuses for a reason that does not pass (a wrong
                password, no such database).
        """
        if live := self.live:
            return live
        async with self._connecting:
            for pause in pauses():
                if self._closed.is_set():
                    raise StoreUnavailable("the store is closed")
                if live := self.live:
                    return live
                try:
                    self._connection = await connect(
                        self._url, name=self._name, on_lost=self._on_lost, keeping=self._keeping
                    )
                    self._reached = True
                except Exception as error:
                    # What was right once is tried again whatever the server says: it may be half restored.
                    if not self._reached and not went_away(error):
                        raise StoreUnavailable(f"the database refuses the connection: {error}") from error
                    await self._sleep(pause)
        raise AssertionError("pauses never end")

    async def fetch(self, statement: Statement, *args: Any) -> list[Record]:
        """All rows of a statement that may be sent twice."""
        for pause in pauses():
            connection = await self.connection()
            try:
                return await connection.fetch(statement, *args)
            except Exception as error:
                if not went_away(error):
                    raise
                # A server that still talks but will not write (a standby, no more slots) is left for another one.
                connection.abort()
            await self._sleep(pause)
        raise AssertionError("pauses never end")

    async def fetchrow(self, statement: Statement, *args: Any) -> Record | None:
        """The first row of a statement that may be sent twice, or None."""
        rows = await self.fetch(statement, *args)
        return rows[0] if rows else None

    async def close(self) -> None:
        """Hang up for good; whoever waits gets `StoreUnavailable`."""
        self._closed.set()
        if self._connection is not None:
            await self._connection.close()

    async def _sleep(self, seconds: float) -> None:
        """A pause that closing cuts short."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            pass
