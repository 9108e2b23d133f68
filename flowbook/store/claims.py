"""Owning runs.

Owns: taking due runs, taking one run by name from nobody or from the dead, and the claims whose answer was lost.
Refuses: judging who is dead (`liveness.py`), reading the journal (the caller does, after the claim).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from flowbook.plan.records import Status
from flowbook.ports import RunRow
from flowbook.store import statements as sql
from flowbook.store.driver import Record, Statement, went_away
from flowbook.store.ledger import Ledger
from flowbook.store.retrying import Line, pauses
from flowbook.store.rows import to_run


class Claims:
    """The one door through which this worker becomes an owner of what others have started."""

    def __init__(self, line: Line, worker_id: UUID, ledger: Ledger, bury: Callable[[UUID], Awaitable[bool]]) -> None:
        """``bury``: frees the runs of a worker if it is dead; True if it is not listed any more."""
        self._line = line
        self._worker_id = worker_id
        self._ledger = ledger
        self._bury = bury
        self._turn = asyncio.Lock()
        self._unclaimed: list[RunRow] = []

    async def due(
        self,
        known: frozenset[str],
        namespace: str,
        queues: Sequence[str],
        limit: int,
        among: frozenset[UUID] | None,
    ) -> list[RunRow]:
        """Up to ``limit`` due runs, highest priority first, then longest due."""
        return await self._keep(self._due(known, namespace, queues, limit, among))

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
    ) -> list[RunRow]:
        async with self._turn:
            rows, self._unclaimed = self._unclaimed[:limit], self._unclaimed[limit:]
            if len(rows) < limit and known:
                ids = None if among is None else list(among)
                args = self._worker_id, list(known), list(queues), limit - len(rows), namespace, ids
                rows += await self._take(sql.CLAIM, args)
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
                rows = [to_run(record) for record in records]
                for row in rows:
                    self._ledger.adopt(row.id, row.epoch, parented=row.parent_id is not None)
                return rows
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")
