"""Streams: the text that bodies say while they run, on its way to whoever looks on.

Owns: `Streams` (all text of a process: when it is written, and when it is thrown away) and `Streaming` (that of one
run). Refuses: reading (`streaming.py`), and every promise about a result: that is the outcome's alone.

    body      ctx.stream("Hel"), ctx.stream("lo")       a list in memory, no statement
    process   the first piece at once, then what has come, `RATE` times a second: one statement for all of its runs
    body      ends well: what is left is written, and then its outcome is on its way to the journal
    process   `KEPT` seconds later the text is thrown away

So readers have all of a path's text before they have its outcome, and who never streams pays nothing. A body that
fails takes back what was not written yet. Another attempt is another *stream*, whose first chunk takes the place of the
one before; a process that dies leaves a text without an outcome, which is never more than that.

The body of an imperative flow runs again from its start after each pause and says the same again. It goes on in the
same stream: what is in the database already is compared and swallowed. If it says something else, a new one begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
from collections import deque
from collections.abc import Generator, Mapping
from typing import Any
from uuid import UUID

from flowbook.errors import RunNotFound, StoreUnavailable, UsageError
from flowbook.plan.streamed import Chunk
from flowbook.ports import RunRow, Store

RATE = 10.0
"""Times a second that text is written at most, but for first and last pieces."""
KEPT = 5.0
"""Seconds that text stays when its body has ended: readers elsewhere look once a second at least."""
PATIENCE = 5.0
"""Seconds that an outcome waits for the last of its text to be written. It goes on without it then."""
ALL = 2**31 - 1
"""After this number there is no row of a journal."""
MUCH = 256 * 1024
"""Characters that may wait to be written before a body that awaits is held up."""

log = logging.getLogger("flowbook")


class Said:
    """What ``ctx.stream`` answers: to be awaited, or not."""

    __slots__ = ("_text",)

    def __init__(self, text: Text | None) -> None:
        self._text = text

    def __await__(self) -> Generator[Any, Any, None]:
        return self._room().__await__()

    async def _room(self) -> None:
        if self._text is not None and self._text.size > MUCH:
            await self._text.streaming.all.written(self._text)
        else:
            await asyncio.sleep(0)  # a loop that does nothing but stream lets others run


class Text:
    """What one body says."""

    __slots__ = ("asking", "attempt", "first", "owner", "path", "pieces", "size", "streaming", "swallowed", "told")

    def __init__(self, streaming: Streaming, owner: object, path: str, attempt: int) -> None:
        self.streaming, self.owner, self.path, self.attempt = streaming, owner, path, attempt
        self.pieces: list[tuple[str, str]] = []
        """(channel, text) that are to be written."""
        self.size = 0
        self.first = 0
        """Number of its first chunk; 0: nothing of it is written."""
        self.told: dict[str, str] = {}
        """Channel -> what was said before and has not been said again."""
        self.asking: asyncio.Task[None] | None = None
        """Finds that out; until then nothing is written."""
        self.swallowed: list[tuple[str, str]] = []

    def take(self) -> list[Chunk]:
        """What is to be written, and is not waiting any more."""
        if self.asking is not None:
            return []
        pieces, self.pieces, self.size = self._news(self.told), [], 0
        chunks = []
        for channel, group in itertools.groupby(pieces, key=lambda piece: piece[0]):
            n = next(self.streaming.numbers)
            self.first = self.first or n
            data = "".join(text for _, text in group).encode("utf-8", "surrogatepass")
            chunks.append(Chunk(self.streaming.run_id, n, self.first, self.path, self.attempt, channel, data))
        return chunks

    def _news(self, told: dict[str, str]) -> list[tuple[str, str]]:
        """What of the pieces was not said before; all of it, in a new stream, if that was something else."""
        if not any(told.values()):
            return self.pieces
        news: list[tuple[str, str]] = []
        for channel, text in self.pieces:
            before = told.get(channel, "")
            same = min(len(before), len(text))
            if before[:same] != text[:same]:
                news, self.first = [*self.swallowed, *self.pieces], 0
                told.clear()
                break
            told[channel] = before[same:]
            if same < len(text):
                news.append((channel, text[same:]))
        self.swallowed = [*self.swallowed, *self.pieces] if any(told.values()) else []
        return news


class Streaming:
    """The text of one run, under one owner."""

    __slots__ = ("_aside", "all", "attempts", "numbers", "open", "row", "run_id")

    def __init__(self, all_: Streams, row: RunRow, attempts: Mapping[str, int]) -> None:
        self.all, self.row, self.run_id, self.attempts = all_, row, row.id, attempts
        self.numbers = itertools.count((row.epoch << 32) + 1)
        self.open: dict[str, Text] = {}
        """Path -> what a body under way has said."""
        self._aside: dict[str, Text] = {}
        """What bodies have said that were stopped, and may run again."""

    def push(self, context: Any, channel: Any, text: Any) -> Said:
        """A body says something. From any thread; what an attempt says that is not under way any more is not heard."""
        if not isinstance(text, str):
            raise UsageError(
                f"ctx.stream({type(text).__name__}): only text is streamed; give it a str (json.dumps for a value)"
            )
        if not isinstance(channel, str) or not channel:
            raise UsageError(f"channel={channel!r}: a channel is named by a text, e.g. 'text'")
        if threading.get_ident() == self.all.thread:
            return Said(self._push(context, channel, text))
        with contextlib.suppress(RuntimeError):  # the loop is gone, and everything with it
            self.all.loop.call_soon_threadsafe(self._push, context, channel, text)
        return Said(None)

    async def end(self, path: str, *, well: bool, settled: bool = True) -> None:
        """A body has ended. ``well``: its outcome is to follow its text; ``settled``: and nobody else gives it."""
        text = self.open[path]
        if not well:
            text.pieces.clear()
        await self.all.written(text)
        del self.open[path]
        if settled:
            self.all.leave(text)

    def put_aside(self, path: str) -> None:
        """A body is stopped, and may run again: what it has said stays."""
        if path in self.open:
            self._aside[path] = self.open.pop(path)

    def close(self, *, over: bool) -> None:
        """The run is let go of. ``over``: for good."""
        for path in list(self.open):
            self.put_aside(path)
        for text in self._aside.values() if over else ():
            self.all.leave(text)

    def _push(self, context: Any, channel: str, text: str) -> Text | None:
        path = context.path
        found = self.open.get(path)
        if found is None:
            caller = context.caller
            if self.attempts.get(path) != context.attempt or (caller is not None and caller.closed):
                return None
            found = self.open[path] = Text(self, context, path, context.attempt)
            before = self._aside.pop(path, None)
            runs_again = context.durable_time or (caller is not None and caller.replays)
            if runs_again and (before is not None or self.row.epoch > 1):
                self.all.ask(found, before)
        elif found.owner is not context:
            return None
        if text:
            found.pieces.append((channel, text))
            found.size += len(text)
            self.all.offer(found)
        return found


class Streams:
    """The text of a process. Lives on the engine's loop; a task of its own while there is something to do."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.loop: asyncio.AbstractEventLoop
        self.thread = 0
        self._waiting: dict[Text, None] = {}
        self._writing: frozenset[Text] = frozenset()
        self._leaving: deque[tuple[float, UUID, int]] = deque()
        self._bell = asyncio.Event()
        self._urgent = False
        self._round: asyncio.Future[None] | None = None
        """Done when what is being written has been."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def of(self, row: RunRow, attempts: Mapping[str, int]) -> Streaming:
        """The streams of a run that this process owns; ``attempts``: path -> what is under way."""
        if not self.thread:
            self.loop, self.thread = asyncio.get_running_loop(), threading.get_ident()
        return Streaming(self, row, attempts)

    def offer(self, text: Text) -> None:
        """There is something to write."""
        if text.asking is not None or self._closed:
            return
        self._urgent = self._urgent or not text.first
        self._waiting[text] = None
        self._ring()

    def ask(self, text: Text, before: Text | None) -> None:
        """Find out what was said at a path before; until then nothing of the text is written."""
        text.asking = task = self.loop.create_task(self._ask(text, before), name="flowbook-streamed-before")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def written(self, text: Text) -> None:
        """Wait until all that was said is written, and nothing is on its way; not for ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while (text.pieces or text in self._writing) and not self._closed:
                    if text.asking is not None:
                        await asyncio.wait([text.asking])
                        continue
                    self._urgent = True
                    await self._next_round()

    def leave(self, text: Text) -> None:
        """A text has had its day, soon."""
        if text.first and not self._closed:
            self._leaving.append((self.loop.time() + KEPT, text.streaming.run_id, text.first))
            self._ring()

    async def close(self) -> None:
        """Write nothing more. What was to be thrown away stays for readers elsewhere, and is swept up later."""
        self._closed = True
        tasks = [*self._tasks, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        self._bell.set()
        if self._task is None or self._task.done():
            self._task = self.loop.create_task(self._keep_writing(), name="flowbook-streams")

    async def _next_round(self) -> None:
        if self._round is None or self._round.done():
            self._round = self.loop.create_future()
        self._bell.set()
        await asyncio.wait([self._round])

    async def _keep_writing(self) -> None:
        again = 0.0
        try:
            while self._waiting or self._leaving:
                self._bell.clear()
                now = self.loop.time()
                if self._waiting and (self._urgent or now >= again):
                    again = now + 1 / RATE
                    await self._write()
                    continue
                if self._leaving and self._leaving[0][0] <= now:
                    await self._drop(now)
                    continue
                until = again if self._waiting else self._leaving[0][0]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(until):
                        await self._bell.wait()
        except StoreUnavailable:
            self._closed = True
        finally:
            self._tell()

    async def _write(self) -> None:
        texts, self._waiting, self._urgent = self._waiting, {}, False
        chunks = [chunk for text in texts for chunk in text.take()]
        if chunks:
            self._writing = frozenset(texts)
            try:
                await self._store.write_chunks(chunks)
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("flowbook: streamed text was not written, and is left out")
            finally:
                self._writing = frozenset()
        self._tell()

    async def _drop(self, now: float) -> None:
        gone: list[tuple[UUID, int]] = []
        while self._leaving and self._leaving[0][0] <= now:
            _, run_id, stream = self._leaving.popleft()
            gone.append((run_id, stream))
        await self._store.drop_chunks(gone)

    async def _ask(self, text: Text, before: Text | None) -> None:
        try:
            if before is not None:
                await self.written(before)
            news, n, chunks = None, 0, list[Chunk]()
            while news is None or news.more_chunks:
                news = await self._store.news(text.streaming.run_id, ALL, n)
                n = news.chunks[-1].n if news.chunks else n
                chunks += [c for c in news.chunks if (c.path, c.attempt) == (text.path, text.attempt)]
            for chunk in chunks:
                said = chunk.data.decode("utf-8", "surrogatepass")
                text.told[chunk.channel] = text.told.get(chunk.channel, "") + said
            text.first = chunks[0].stream if chunks else 0
        except (StoreUnavailable, RunNotFound):
            pass
        finally:
            text.asking = None
        if text.pieces:
            self.offer(text)

    def _tell(self) -> None:
        if self._round is not None and not self._round.done():
            self._round.set_result(None)
