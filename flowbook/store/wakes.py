"""Telling other workers that a run wants them, and hearing it from them.

Owns: one LISTEN connection, the coalesced NOTIFYs, the jittered poll. Refuses: being needed. A wake is a hint and may
be lost; that a run is taken up at all rests on the poll, and after each reconnect everything is looked at again.

A payload is ``<sender>:<id>,<id>,...`` in hex, or ``<sender>:*`` for "look at everything"; ``~<id>`` says that a run
has streamed text, which concerns its readers alone. The sender is there so that nobody is woken by its own voice.
Nothing is ever notified in the journal's transactions: a NOTIFY takes one lock for the whole server at commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Final
from uuid import UUID

from flowbook.clock import DICE
from flowbook.store import vital_statements as sql
from flowbook.store.driver import Connection, connect, went_away

CHANNEL: Final = "flowbook_wake"
COURTESY: Final = 0.001
"""Seconds that the others hear later: what this process does about it itself is under way by then."""
INTERVAL: Final = 0.04
"""Seconds between two notifications of one worker at least: a signal that meets it is not felt to be late."""
NEWS: Final = "~"
"""Before the id of a run that has streamed text. Who does not know it takes it for no id, and sleeps on."""
PER_PAYLOAD: Final = 200
"""Ids of 34 characters each; a payload must stay under 8,000 bytes."""
MOST: Final = 2_000
"""Ids that are worth naming; more of them at once say "look at everything"."""
LONGEST_BACK_OFF: Final = 2.0

log = logging.getLogger(__name__)


class Wakes:
    """Hears and announces wakes on the engine's loop; made, started and stopped there."""

    def __init__(
        self,
        url: str,
        worker_id: UUID,
        poll: float,
        callback: Callable[[UUID | None], None],
        on_news: Callable[[UUID], None] = lambda _: None,
        *,
        listen: bool = True,
    ) -> None:
        """Nothing happens until `start`.

        Args:
            url: ``postgresql://...``.
            worker_id: The sender of what is announced here.
            poll: Seconds between two polls, on average.
            callback: Called with a run's id, or with None: look at everything. Must not raise or block.
            on_news: Called with the id of a run that has streamed text. Must not raise or block.
            listen: False behind PgBouncer in transaction mode: only the poll, and announcing does nothing.
        """
        self._url = url
        self._sender = worker_id.hex
        self._poll = poll
        self._callback = callback
        self._on_news = on_news
        self._listen = listen
        self._waiting: dict[str, None] = {}
        """What is to be announced, as it is written in a payload."""
        self._everything = False
        self._connected = False
        self._announced, self._quiet = asyncio.Event(), asyncio.Event()
        self._lost = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def start(self) -> None:
        """Begin to poll, and to listen as soon as there is a connection; never fails."""
        loop = asyncio.get_running_loop()
        self._tasks = (loop.create_task(self._keep_polling(), name="flowbook poll"),)
        if self._listen:
            self._tasks += (loop.create_task(self._keep_listening(), name="flowbook wakes"),)

    async def stop(self) -> None:
        """Send what is waiting to be announced, if that is quick, and end."""
        if self._announced.is_set() and self._connected:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._quiet.wait()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._tasks = ()

    def announce(self, run_id: UUID | None = None) -> None:
        """Let the others know that a run is due (None: that many are); at once, then 25 times a second at most."""
        if run_id is None or len(self._waiting) >= MOST:
            self._everything = True
        else:
            self._waiting[run_id.hex] = None
        self._ring()

    def announce_news(self, run_id: UUID) -> None:
        """Let the others know that a run has streamed text; nobody has to do anything about it."""
        if len(self._waiting) < MOST:
            self._waiting[f"{NEWS}{run_id.hex}"] = None
            self._ring()

    def _ring(self) -> None:
        self._announced.set()
        self._quiet.clear()

    async def _keep_polling(self) -> None:
        while True:
            # Jittered, so that a hundred workers do not ask in one moment.
            await asyncio.sleep(self._poll * DICE.uniform(0.75, 1.25))
            self._callback(None)

    async def _keep_listening(self) -> None:
        pause = 0.0
        while True:
            connection: Connection | None = None
            self._lost.clear()
            try:
                connection = await connect(self._url, name="wakes", on_lost=self._lose)
                await connection.listen(CHANNEL, self._hear)
                pause = 0.0
                self._connected = True
                self._callback(None)  # whatever was announced before we could hear
                while not self._lost.is_set():
                    await self._announced.wait()
                    if not self._lost.is_set():
                        await asyncio.sleep(COURTESY)
                        await self._notify(connection)
                        await asyncio.sleep(INTERVAL)
            except Exception as error:  # whatever it is, this task must not end: nobody would hear of it
                if not went_away(error):
                    log.warning("cannot listen for wakes, polling only: %s", error)
                    pause = LONGEST_BACK_OFF
            finally:
                self._connected = False
                if connection is not None:
                    connection.abort()
            await asyncio.sleep(pause * DICE.uniform(0.5, 1.0))
            pause = min(2 * pause + 0.02, LONGEST_BACK_OFF)

    async def _notify(self, connection: Connection) -> None:
        """Send what is waiting; what cannot be sent waits for the next connection."""
        waiting, everything = self._waiting, self._everything
        self._waiting, self._everything = {}, False
        payloads = [f"{self._sender}:*"] if everything else list(self._payloads(list(waiting)))
        try:
            async with asyncio.timeout(5.0):
                await connection.fetch(sql.NOTIFY, payloads)
        except BaseException:
            self._waiting, self._everything = waiting | self._waiting, everything or self._everything
            raise
        if not self._waiting and not self._everything:
            self._announced.clear()
            self._quiet.set()

    def _payloads(self, waiting: list[str]) -> Iterator[str]:
        for start in range(0, len(waiting), PER_PAYLOAD):
            yield f"{self._sender}:{','.join(waiting[start : start + PER_PAYLOAD])}"

    def _hear(self, payload: str) -> None:
        sender, _, names = payload.partition(":")
        if sender == self._sender:
            return
        for name in names.split(","):
            # Somebody else's text on our channel is nobody's wake.
            with contextlib.suppress(ValueError):
                if name.startswith(NEWS):
                    self._on_news(UUID(hex=name[1:]))
                else:
                    self._callback(None if name == "*" else UUID(hex=name))

    def _lose(self) -> None:
        self._lost.set()
        self._announced.set()  # the one event that the listening task waits for
