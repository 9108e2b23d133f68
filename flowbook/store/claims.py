"""Owning runs.

Owns: taking due runs, taking one run by name from nobody or from the dead, and the claims whose answer was lost.
Refuses: judging who is dead (`liveness.py`), reading the journal (the caller does, after the claim).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

from flowbook.plan.records import Status
from flowbook.ports import RunRow
from flowbook.store import fleet_statements as fleet
from flowbook.store import statements as sql
from flowbook.store.driver import Record, Statement, went_away
from flowbook.store.ledger import Ledger
from flowbook.store.retrying import Line, pauses
from flowbook.store.rows import to_claimed

SHORTEST: Final = 0.02
"""Seconds between two looks at least, however many timers end."""
REMEMBERED: Final = 2.0
"""Seconds that limits of queues are believed."""
LATER: Final = 0.002
"""Seconds by which an alarm is late, so that the database's clock is past the moment too."""


class Limits:
    """The limits of queues, as they were a moment ago."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._known: dict[str, int] = {}
        self._asked: tuple[str, tuple[str, ...]] | None = None
        self._until = 0.0

    async def of(self, namespace: str, queues: Sequence[str]) -> dict[str, int]:
        """Queue -> how many of its runs may be carried at once; those without a limit are left out."""
        asked, now = (namespace, tuple(queues)), asyncio.get_running_loop().time()
        if asked != self._asked or now >= self._until:
            records = await self._line.fetch(fleet.LIMITED, namespace, list(queues))
            self._known = {record["queue"]: record["most"] for record in records}
            self._asked, self._until = asked, now + REMEMBERED
        return self._known


class Claims:
    """The one door through which this worker becomes an owner of what others have started."""

    def __init__(
        self,
        line: Line,
        worker_id: UUID,
        ledger: Ledger,
        bury: Callable[[UUID], Awaitable[bool]],
        wake: Callable[[UUID | None], None],
        poll: float,
    ) -> None:
        """Nothing happens until something is claimed.

        Args:
            line: The connection.
            worker_id: Who claims.
            ledger: Is told what is owned.
            bury: Frees the runs of a worker if it is dead; True if it is not listed any more.
            wake: Is called with None at the moment when a run becomes due, if that is before the next poll.
            poll: Seconds between two looks, on average.
        """
        self._wake = wake
        self._ahead = 1.5 * poll
        self._alarm: asyncio.TimerHandle | None = None
        self._line = line
        self._worker_id = worker_id
        self._ledger = ledger
        self._bury = bury
        self._turn = asyncio.Lock()
        self._limits = Limits(line)
        self._doubtful = False
        """True: a claim of a limited queue may have brought something, and its answer was lost."""
        self._unclaimed: list[RunRow] = []

    async def due(
        self,
        known: frozenset[str],
        namespace: str,
        queues: Sequence[str],
        limit: int,
        among: frozenset[UUID] | None,
        home: bool,
    ) -> list[RunRow]:
        """Up to ``limit`` due runs, highest priority first, then longest due."""
        return await self._keep(self._due(known, namespace, queues, limit, among, home))

    async def only(self, known: frozenset[str], namespace: str, run_id: UUID) -> list[RunRow]:
        """That run, due or not, unless it is over, unknown code, or a live worker's."""
        return await self._keep(self._only(known, namespace, run_id))

    async def _keep(self, claiming: Any) -> list[RunRow]:
        """A claim that was sent is finished even if its caller is gone; then the next caller gets what it brings."""
        task = asyncio.ensure_future(claiming)
        try:
            rows: list[RunRow] = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._left_over)
            raise
        return rows

    def _left_over(self, task: asyncio.Task[list[RunRow]]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._unclaimed += task.result()

    async def _due(
        self,
        known: frozenset[str],
        namespace: str,
        queues: Sequence[str],
        limit: int,
        among: frozenset[UUID] | None,
        home: bool,
    ) -> list[RunRow]:
        async with self._turn:
            rows, self._unclaimed = self._unclaimed[:limit], self._unclaimed[limit:]
            if len(rows) < limit and known:
                limits = await self._limits.of(namespace, queues) if among is None else {}
                for queue, most in limits.items():
                    left = limit - len(rows)
                    of_one = self._worker_id, list(known), [queue], left, namespace, None, home, self._ahead
                    rows += await self._take_of_limited(most, of_one) if left > 0 else []
                queues = [queue for queue in queues if queue not in limits]
            if len(rows) < limit and known and queues:
                ids = None if among is None else list(among)
                args = self._worker_id, list(known), list(queues), limit - len(rows), namespace, ids
                if ids is None or home:
                    rows += await self._take(sql.CLAIM, (*args, home, self._ahead))
                else:
                    rows += await self._take(sql.CLAIM_AMONG, (*args, self._ahead))
            # RETURNING keeps no order.
            return sorted(rows, key=lambda row: (-row.priority, row.due_at, row.id))

    async def _only(self, known: frozenset[str], namespace: str, run_id: UUID) -> list[RunRow]:
        async with self._turn:
            for row in self._unclaimed:
                if row.id == run_id:
                    self._unclaimed.remove(row)
                    return [row]
            rows = await self._take(sql.CLAIM_ONLY, (self._worker_id, list(known), run_id, namespace))
            if rows:
                return [row for row in rows if row.id == run_id] or rows
        owner = await self._owner(run_id)
        if owner is None or owner == self._worker_id or not await self._bury(owner):
            return []
        async with self._turn:
            return await self._take(sql.CLAIM_ONLY, (self._worker_id, list(known), run_id, namespace))

    async def _owner(self, run_id: UUID) -> UUID | None:
        record = await self._line.fetchrow(sql.RUN, run_id)
        if record is None or record["status"] != Status.RUNNING.value:
            return None
        owner: UUID | None = record["worker_id"]
        return owner

    async def _take(self, statement: Statement, args: tuple[Any, ...]) -> list[RunRow]:
        """Send a claim; after a lost answer look for what it may have brought before sending it again."""
        lost = False
        for pause in pauses():
            connection = await self._line.connection()
            try:
                records: list[Record] = []
                if lost:
                    records = await connection.fetch(sql.OWNED, self._worker_id, self._ledger.owned)
                if not records:
                    records = await connection.fetch(statement, *args)
            except Exception as error:
                if not went_away(error):
                    raise
                connection.abort()
                lost = True
            else:
                if records and "due_in" in records[0]:
                    self._look_again(records[0]["due_in"])
                return self._adopt(records)
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    async def _take_of_limited(self, most: int, args: tuple[Any, ...]) -> list[RunRow]:
        """Claim of one queue whose runs are limited, when those who claimed of it before are through."""
        namespace, queue, wanted = args[4], args[2][0], args[3]
        connection = await self._line.connection()
        try:
            if self._doubtful:
                records = await connection.fetch(sql.OWNED, self._worker_id, self._ledger.owned)
                self._doubtful = False
                if records:
                    return self._adopt(records)
            async with connection.transaction() as within:
                await within.fetch(fleet.FLOOR, namespace, queue)
                room = (await within.fetch(fleet.ROOM, namespace, queue, most))[0]["room"]
                taken = min(wanted, room)
                records = await within.fetch(sql.CLAIM, *args[:3], taken, *args[4:]) if taken > 0 else []
        except Exception as error:
            if not went_away(error):
                raise
            connection.abort()
            self._doubtful = True  # it may have been committed
            return []
        return self._adopt(records)

    def _adopt(self, records: Sequence[Record]) -> list[RunRow]:
        rows = [to_claimed(record) for record in records if record["id"] is not None]
        for row in rows:
            self._ledger.adopt(row.id, row.epoch, parented=row.parent_id is not None)
        return rows

    def stop(self) -> None:
        """Nobody is to be woken any more."""
        self._ahead = 0.0
        if self._alarm is not None:
            self._alarm.cancel()

    def _look_again(self, seconds: float | None) -> None:
        """Wake the engine in so many seconds, unless it is woken earlier anyway."""
        if seconds is None or not self._ahead:
            return
        loop = asyncio.get_running_loop()
        # A little later, so that it is surely due; and what becomes due at nearly the same time goes together.
        at = loop.time() + max(seconds, SHORTEST) + LATER
        if self._alarm is None or not loop.time() < self._alarm.when() <= at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm = loop.call_at(at, self._wake, None)
