"""Streaming: the events of a run, one after the other, from any process.

Owns: `stream`, and `Readers`, who are told when a look is worth while. Refuses: the records (`observe/events.py`) and
writing text (`run/streams.py`).

A reader is nothing but a position and a question: what is behind it? One statement answers that for the journal and
for streamed text as they were at one moment, so an outcome never overtakes the text that came before it. News make a
reader look at once: what this process records, and what any process streams. That a reader misses nothing rests on
the look once a second alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.clock import DICE
from flowbook.errors import SignatureRefused, UsageError
from flowbook.observe.events import RunEvent, of_chunk, of_entry
from flowbook.plan.journal import Entry
from flowbook.plan.quotes import Reader
from flowbook.plan.streamed import BEGINNING, Chunk, News
from flowbook.run.values import shown

if TYPE_CHECKING:
    from flowbook.app import App

POLL = 1.0
"""Seconds between looks of a reader whom nobody tells of news."""
RATE = 50.0
"""Looks per second at most, however much there is to be told."""


class Readers:
    """Who reads which run."""

    def __init__(self) -> None:
        self._bells: dict[UUID, list[asyncio.Event]] = {}

    def __bool__(self) -> bool:
        return bool(self._bells)

    def tell(self, run_id: UUID) -> None:
        """There is news of a run."""
        for bell in self._bells.get(run_id, ()):
            bell.set()

    @contextlib.contextmanager
    def reading(self, run_id: UUID) -> Iterator[asyncio.Event]:
        """A bell that rings when there is news."""
        bell = asyncio.Event()
        self._bells.setdefault(run_id, []).append(bell)
        try:
            yield bell
        finally:
            self._bells[run_id].remove(bell)
            if not self._bells[run_id]:
                del self._bells[run_id]


async def stream(app: App, run_id: UUID, after: str | None = None) -> AsyncIterator[RunEvent]:
    """The events of a run behind a position (None: all), and those that are to come; ends with the run.

    Raises `UsageError` for a text that is no position, `RunNotFound`.
    """
    seq, n = place_of(after)
    app._ours(await app.store.run(run_id))

    def seen(value: Any) -> Any:
        try:
            return {k: seen(v) for k, v in value.items()} if type(value) is dict else shown(
                value, app.store.outcomes_now, app.options.key)  # fmt: skip
        except SignatureRefused:
            return value  # somebody else's pickle stays closed; the rest of the story goes on

    reader = Reader()
    with app.readers.reading(run_id) as bell:
        while True:
            bell.clear()
            news = await app.store.news(run_id, seq, n)
            for one in in_order(news):
                event: RunEvent | None
                if isinstance(one, Chunk):
                    n = one.n
                    event = of_chunk(one, position(seq, n))
                else:
                    seq = one.seq
                    event = of_entry(one, run_id, position(seq, n), seen, reader.event)
                if event is not None:
                    yield event
            if news.more_entries or news.more_chunks:
                continue
            if news.status.over:
                return
            await asyncio.sleep(1 / RATE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL * DICE.uniform(0.5, 1.0)):
                    await bell.wait()


def in_order(news: News) -> Iterator[Entry | Chunk]:
    """Rows and text as they came, by the database's clock; as far as nothing can have come between that is not here."""
    entries, chunks = list(news.entries), list(news.chunks)
    e = c = 0
    while e < len(entries) or c < len(chunks):
        if (e == len(entries) and news.more_entries) or (c == len(chunks) and news.more_chunks):
            return
        if c < len(chunks) and (e == len(entries) or _before(chunks[c], entries[e])):
            yield chunks[c]
            c += 1
        else:
            yield entries[e]
            e += 1


def _before(chunk: Chunk, entry: Entry) -> bool:
    assert chunk.at is not None  # they have been written
    assert entry.at is not None
    return entry.seq > 0 and chunk.at <= entry.at


def position(seq: int, n: int) -> str:
    """Behind row ``seq`` and chunk ``n``."""
    return f"{seq}.{n}"


def place_of(after: Any) -> tuple[int, int]:
    """(seq, n) of a position; None: before everything. Raises `UsageError`."""
    if after is None:
        return BEGINNING, 0
    seq, dot, n = after.partition(".") if isinstance(after, str) else ("", "", "")
    try:
        if not dot:
            raise ValueError
        return int(seq), int(n)
    except ValueError:
        raise UsageError(f"after={after!r} is no position: give what an event has as `event.position`") from None
