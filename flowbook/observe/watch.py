"""Watching: who is told how a run looks when it changes.

Owns: one task per watched run, which folds what becomes durable into a view and calls back, the first change at once,
then at most `RATE` times a second. Refuses: the store (it is given functions that read) and drawing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from flowbook.observe.folding import Folding
from flowbook.observe.views import RunView
from flowbook.plan.journal import Entry, Kind
from flowbook.plan.records import Status
from flowbook.ports import Ack, RunRow

log = logging.getLogger("flowbook")

RATE = 10.0
"""Views per second at most: more is not seen, and a front end sustains about 450 messages a second in all."""
POLL = 1.0
"""Seconds between looks at a run that another process carries."""

Callback = Callable[[RunView], None]
Reading = tuple[RunRow, Sequence[Entry], Mapping[str, Any], Mapping[str, Any], str | None]
"""Row, journal after an entry, spec of the topology, input, and what the run needs to go on (None: nothing)."""
_ENDS = {Kind.COMPLETED: Status.COMPLETED, Kind.FAILED: Status.FAILED, Kind.CANCELLED: Status.CANCELLED}


class Watch:
    """A run that is being looked at."""

    def __init__(
        self,
        run_id: UUID,
        read: Callable[[UUID, int], Awaitable[Reading]],
        running: Callable[[UUID], Mapping[str, int]],
        local: Callable[[UUID], bool],
    ) -> None:
        self._run_id, self._read, self._running, self._local = run_id, read, running, local
        self._callbacks: list[Callback] = []
        self._fresh: list[tuple[Sequence[Entry], Ack]] = []
        self._dirty = asyncio.Event()
        self._dirty.set()
        self._task = asyncio.create_task(self._loop(), name=f"flowbook-watch-{run_id}")

    @property
    def ended(self) -> bool:
        """True when the last view has been shown: the run is over, or nobody looks any more."""
        return self._task.done()

    def close(self) -> None:
        """Stop watching."""
        self._callbacks.clear()
        self._task.cancel()

    def add(self, callback: Callback) -> None:
        """Call back with the next view, and with all that follow."""
        if callback not in self._callbacks:
            self._callbacks.append(callback)
        self._dirty.set()

    def again(self) -> Watch:
        """The same watch of a run that was over and is not any more, for those who have not left."""
        watch = Watch(self._run_id, self._read, self._running, self._local)
        watch._callbacks = list(self._callbacks)
        return watch

    @property
    def wanted(self) -> bool:
        """True while anybody looks, or would if the run went on."""
        return bool(self._callbacks)

    def remove(self, callback: Callback) -> bool:
        """Stop calling back; True when nobody is left, and then the watch has ended."""
        with contextlib.suppress(ValueError):
            self._callbacks.remove(callback)
        if not self._callbacks:
            self._task.cancel()
        return not self._callbacks

    def heard(self, entries: Sequence[Entry], ack: Ack | None) -> None:
        """Something became durable in this process (``ack`` says where), or an attempt began.

        Called for each append of a run at full speed: all else waits for the next look.
        """
        if ack is not None and entries:
            self._fresh.append((entries, ack))
        self._dirty.set()

    def _news(self, after: int) -> list[Entry]:
        """What was heard since the last look and is not known yet."""
        fresh, self._fresh = self._fresh, []
        news = []
        for entries, ack in fresh:
            seq = ack.seq - len(entries)
            for e in entries:
                seq += 1
                if seq > after:
                    news.append(Entry(e.kind, e.path, e.attempt, e.payload, seq, ack.at))
        return news

    async def _loop(self) -> None:
        row, entries, spec, input, needs = await self._read(self._run_id, 0)
        fold = Folding(row.id, spec, input)
        fold.add_all(entries)
        del entries  # there may be many
        while True:
            news = self._news(fold.seq)
            if news and news[0].seq == fold.seq + 1 and self._local(self._run_id):
                fold.follow(news)
                row = replace(row, status=_ENDS.get(news[-1].kind, Status.RUNNING))
            elif news or not self._local(self._run_id):
                row, needs = await self._catch_up(fold)
            view = fold.view(row, self._running(self._run_id), needs)
            self._call(view)
            if view.status.over:
                row, _ = await self._catch_up(fold)
                self._call(fold.view(row, {}))
                if row.status.over:
                    return
            await asyncio.sleep(1 / RATE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._dirty.wait()
            self._dirty.clear()

    async def _catch_up(self, fold: Folding) -> tuple[RunRow, str | None]:
        """Read what is new; the row and what the run needs."""
        row, entries, _, _, needs = await self._read(self._run_id, fold.seq)
        fold.add_all(entries)
        return row, needs

    def _call(self, view: RunView) -> None:
        for callback in tuple(self._callbacks):
            try:
                callback(view)
            except Exception:
                log.exception("flowbook: a view of run %s could not be shown", self._run_id)
