"""Everything that is only looked at, and the writes that nobody's journal waits for.

Owns: questions, and the rare or unhurried writes: definitions, forks, other code for a failed run, mail, snapshots and
streamed text (these two through the fence). Refuses: connecting (it is given a `Line`), the appends of owners
(`writer.py`), ownership (`claims.py`). Every statement here may be sent twice, so each waits out a database that is
away.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from flowbook.errors import RunNotFound
from flowbook.plan.forks import renumbered
from flowbook.plan.journal import KEPT, Entry, Kind
from flowbook.plan.query import MOST_RUNS, RunQuery, RunSummary
from flowbook.plan.records import Status
from flowbook.plan.streamed import Chunk, News
from flowbook.ports import Asked, Definition, InboxQuery, Mail, NewFork, RunRow, Snapshot
from flowbook.store import chunk_statements as chunks
from flowbook.store import family_statements as family
from flowbook.store import history_statements as history
from flowbook.store import inbox_statements as inbox
from flowbook.store import query_statements as queries
from flowbook.store import statements as sql
from flowbook.store import vital_statements as vital
from flowbook.store.blobs import Blobs
from flowbook.store.driver import Record
from flowbook.store.retrying import Line
from flowbook.store.rows import Line as JournalLine
from flowbook.store.rows import to_chunk, to_json, to_run

PAGE: Final = 2000
"""Entries of a journal that are read at once to be folded."""
MOST_NEWS: Final = 500
"""Entries, and chunks, that a reader of a run's stream gets at once."""
BUDGET: Final = 4 * 1024 * 1024
"""Bytes of outcomes that are read at once, one outcome at least."""


class Reads:
    """Questions to the database."""

    def __init__(self, line: Line, blobs: Blobs) -> None:
        self._line = line
        self._blobs = blobs

    async def history(self, run_id: UUID) -> list[Entry]:
        """The whole journal, behind what a fork reads of those before it."""
        entries = await self._blobs.entries(await self._line.fetch(history.HISTORY, run_id))
        return [*await self.prefix(run_id, entries), *entries]

    async def fork(self, fork: NewFork, line: JournalLine) -> RunRow:
        """Insert a fork with its first row. Raises `RunNotFound`."""
        await self._line.fetch(
            sql.FORK, fork.id, fork.parent, fork.version, fork.fingerprint, fork.seq, list(fork.without), *line
        )
        try:
            return await self.run(fork.id)
        except RunNotFound:
            raise RunNotFound(f"there is no run {fork.parent} to be forked") from None

    async def prefix(self, run_id: UUID, entries: Sequence[Entry]) -> list[Entry]:
        """What goes before the first ``entries`` of a journal: nothing, unless they say that the run is a fork."""
        if not entries or entries[0].kind is not Kind.FORKED:
            return []
        records = await self._line.fetch(history.PREFIX, run_id, list(KEPT))
        return renumbered(await self._blobs.entries(records))

    async def newest(self, run_id: UUID, tag: str) -> Snapshot | None:
        """The newest snapshot of that tag."""
        record = await self._line.fetchrow(sql.NEWEST_SNAPSHOT, run_id, tag)
        return None if record is None else Snapshot(record["seq"], record["tag"], record["payload"])

    async def page(self, run_id: UUID, after: int) -> list[Entry]:
        """The next entries of a journal, without the values of a map's items; fewer than `PAGE`: they are the last."""
        return await self._blobs.entries(await self._line.fetch(history.PAGE, run_id, after, PAGE))

    async def news(self, run_id: UUID, seq: int, n: int) -> News:
        """What has happened since, as it was at one moment. Raises `RunNotFound`."""
        records = await self._line.fetch(chunks.NEWS, run_id, max(0, seq), n, MOST_NEWS)
        if not records:
            raise RunNotFound(f"there is no run {run_id}")
        status = Status(records[0]["kind"])
        rows = [r for r in records if r["what"] == 1]
        said = [to_chunk(run_id, r) for r in records if r["what"] == 2]
        entries = await self._blobs.entries(rows)
        if seq < 1 and (prefix := await self.prefix(run_id, entries)):
            entries[:0] = [entry for entry in prefix if entry.seq > seq]
        return News(status, entries, said, len(rows) == MOST_NEWS, len(said) == MOST_NEWS)

    async def write_chunks(self, said: Sequence[Chunk]) -> None:
        """Keep streamed text, through the fence."""
        columns = [
            [c.run_id for c in said], [c.n for c in said], [c.stream for c in said], [c.path for c in said],
            [c.attempt for c in said], [c.channel for c in said], [c.data for c in said],
        ]  # fmt: skip
        await self._line.fetch(chunks.WRITE_CHUNKS, *columns)

    async def drop_chunks(self, streams: Sequence[tuple[UUID, int]]) -> None:
        """Throw text away."""
        await self._line.fetch(chunks.DROP_CHUNKS, [run for run, _ in streams], [stream for _, stream in streams])

    async def sweep_chunks(self) -> None:
        """Throw away the text of runs that are over."""
        await self._line.fetch(chunks.SWEEP_CHUNKS)

    async def outcomes(self, run_id: UUID, paths: Sequence[str]) -> list[Entry]:
        """The first outcomes of these paths that stay within `BUDGET`."""
        return await self._blobs.entries(await self._line.fetch(history.ITEMS, run_id, list(paths), BUDGET))

    async def change_code(self, run_id: UUID, old: str, new: str, version: int, line: JournalLine) -> bool:
        """Give a failed run other code, with the row that says so; False: it is not as it is thought to be."""
        if await self._line.fetch(sql.CHANGE_CODE, run_id, old, new, version, *line):
            return True
        # Sent again after a lost answer, the statement finds its own work.
        row = await self.run(run_id)
        return row.status is Status.FAILED and row.fingerprint == new

    async def snapshot(self, run_id: UUID, epoch: int, snapshot: Snapshot) -> None:
        """Keep a fold, through the fence."""
        await self._line.fetch(sql.SNAPSHOT, run_id, epoch, snapshot.seq, snapshot.tag, snapshot.payload)

    async def define(self, definition: Definition) -> Definition:
        """Store a definition unless it is there."""
        key = definition.namespace, definition.flow, definition.fingerprint
        while True:
            try:
                record = await self._line.fetchrow(
                    sql.DEFINE, *key, to_json(definition.spec), to_json(definition.sources), definition.signature
                )
            except asyncpg.UniqueViolationError:
                continue  # another fingerprint took this version number in the same moment
            if record is not None:
                return replace(definition, version=record["version"])
            stored = await self.definition(*key)
            if stored is not None:
                return stored

    async def definition(self, namespace: str, flow: str, fingerprint: str) -> Definition | None:
        """A stored definition."""
        record = await self._line.fetchrow(sql.DEFINITION, namespace, flow, fingerprint)
        return None if record is None else to_definition(record)

    async def definitions(self, namespace: str, flow: str) -> list[Definition]:
        """All stored definitions of a flow, newest first."""
        return [to_definition(record) for record in await self._line.fetch(sql.DEFINITIONS, namespace, flow)]

    async def now(self) -> datetime:
        """The database's time."""
        at: datetime = (await self._line.fetch(vital.SERVER_NOW))[0][0]
        return at

    async def send(self, run_id: UUID, kind: str, name: str, payload: bytes, token: UUID) -> tuple[RunRow, bool]:
        """Deliver a message; the row after it, and whether it was delivered. Raises `RunNotFound`."""
        try:
            record = await self._line.fetchrow(sql.SEND, run_id, token, kind, name, payload)
        except asyncpg.UniqueViolationError:
            # Sent again after a lost answer, or by somebody who was second: the first one had arrived.
            return await self.run(run_id), True
        if record is not None:
            return to_run(record), True
        return await self.run(run_id), False

    async def mail(self, worker_id: UUID) -> dict[UUID, int]:
        """Deliveries so far, of the runs of a worker that have had any."""
        return {r["id"]: r["mail"] for r in await self._line.fetch(sql.MAIL, worker_id)}

    async def mailbox(self, run_id: UUID, after: int, ends_after: int) -> list[Mail]:
        """Deliveries after number ``after``."""
        records = await self._line.fetch(sql.MAILBOX, run_id, after, ends_after)
        return [Mail(r["id"], r["kind"], r["name"], r["payload"], r["at"]) for r in records]

    async def asked(self, query: InboxQuery) -> list[Asked]:
        """Places that wait for somebody's decision."""
        wanted = (query.namespace, query.flow, query.run_id, max(0, min(query.limit, MOST_RUNS)))
        records = await self._line.fetch(inbox.ASKED, *wanted)
        letters: dict[UUID, list[Mail]] = {}
        if records:
            for r in await self._line.fetch(inbox.LETTERS, list({r["id"] for r in records})):
                mail = Mail(r["id"], r["kind"], r["name"], r["payload"], r["at"])
                letters.setdefault(r["run_id"], []).append(mail)
        return [
            Asked(to_run(r), _entry(r, "j"), _entry(r, "b") if r["b_seq"] else None, letters.get(r["id"], ()))
            for r in records
        ]

    async def run(self, run_id: UUID) -> RunRow:
        """One row. Raises `RunNotFound`."""
        record = await self._line.fetchrow(sql.RUN, run_id)
        if record is None:
            raise RunNotFound(f"there is no run {run_id}")
        return to_run(record)

    async def find(self, text: str) -> RunRow:
        """A run by what people type of its id. Raises `RunNotFound`."""
        typed = plain(text)
        rows = [to_run(record) for record in await self._line.fetch(sql.FIND, typed)]
        return the_one(text, rows)

    async def runs(self, query: RunQuery) -> list[RunRow]:
        """The rows of a page."""
        statement, values = queries.page(query)
        return [to_run(record) for record in await self._line.fetch(statement, *values)]

    async def count(self, query: RunQuery, most: int) -> int:
        """How many rows, ``most + 1`` for more than that."""
        statement, values = queries.count(query, most)
        number: int = (await self._line.fetch(statement, *values))[0][0]
        return number

    async def summary(self, query: RunQuery) -> RunSummary:
        """All rows, counted and timed."""
        statement, values = queries.summary(query)
        records = await self._line.fetch(statement, *values)
        timed = next(r for r in records if r["status"] is None)
        p50, p95 = timed["parts"] or (None, None)
        counts = {Status(r["status"]): r["n"] for r in records if r["status"] is not None}
        return RunSummary(counts, timed["n"], timed["mean"], p50, p95)

    async def children(self, run_id: UUID, *, live: bool) -> list[RunRow]:
        """Rows of runs that a run has started, in the order of their start."""
        return [to_run(record) for record in await self._line.fetch(family.CHILDREN, run_id, live)]

    async def served(self) -> frozenset[str]:
        """Fingerprints that a live worker serves."""
        return frozenset(record[0] for record in await self._line.fetch(sql.SERVED))


def _entry(record: Record, prefix: str) -> Entry:
    kind, path, attempt, payload, seq, at = (
        record[f"{prefix}_{name}"] for name in ("kind", "path", "attempt", "payload", "seq", "at")
    )
    return Entry(Kind(kind), path, attempt, payload, seq, at)


def to_definition(record: Record) -> Definition:
    """A definition as it was stored."""
    return Definition(
        record["namespace"],
        record["flow"],
        record["fingerprint"],
        json.loads(record["spec"]),
        json.loads(record["sources"]),
        record["signature"],
        record["version"],
    )


def plain(text: str) -> str:
    """What was typed as hex digits. Raises `RunNotFound` if it cannot be of an id."""
    typed = text.strip().lower().replace("-", "")
    if not typed or len(typed) > 32 or set(typed) - set("0123456789abcdef"):
        raise RunNotFound(f"{text!r} is no run id: type all of it, its beginning or its ending")
    return typed


def the_one(text: str, fitting: Sequence[RunRow]) -> RunRow:
    """The only row that fits. Raises `RunNotFound`, naming those that fit."""
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise RunNotFound(f"no run has an id that begins or ends with {text!r}")
    names = ", ".join(f"{row.flow} {row.id.hex}" for row in fitting)
    raise RunNotFound(f"more than one run fits {text!r}: {names}")
