"""Large payloads, stored once under the digest of their bytes.

Owns: what is large, the way there and back, and a connection of its own so that a value of 100 MB holds up neither
appends nor reads. Refuses: throwing away (gc does, a day after the last use).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from flowbook.errors import PayloadTooLarge, Undecodable
from flowbook.plan.journal import Entry
from flowbook.store import statements as sql
from flowbook.store.driver import Record
from flowbook.store.retrying import Line
from flowbook.store.rows import BLOB, to_entry, to_line
from flowbook.store.rows import Line as JournalLine

LARGE: Final = 1024 * 1024
"""A payload of more bytes goes to ``blob``, so that it delays no other run's flush."""
TOO_LARGE: Final = 512 * 1024 * 1024
"""A payload of more bytes is refused: Postgres takes no value above 1 GB, and its text form doubles it."""


class Blobs:
    """Payloads that are too large for their row."""

    def __init__(self, url: str) -> None:
        self._line = Line(url, "blobs")

    async def close(self) -> None:
        """Hang up."""
        await self._line.close()

    async def lines(self, entries: Sequence[Entry]) -> list[JournalLine]:
        """Entries as journal lines; large payloads are stored first. Raises `PayloadTooLarge`."""
        refuse_huge(entries)
        lines = []
        for entry in entries:
            if len(entry.payload) <= LARGE:
                lines.append(to_line(entry))
                continue
            digest = await self.put(entry.payload)
            lines.append(JournalLine(entry.attempt, BLOB, entry.kind, entry.path, digest))
        return lines

    async def put(self, payload: bytes) -> bytes:
        """Store a value unless it is there; the answer is its digest. Raises `PayloadTooLarge`."""
        refuse_large(payload, "a value")
        digest = (await asyncio.to_thread(blake2b, payload, digest_size=32)).digest()
        if not await self._line.fetch(sql.BLOB_TOUCH, digest):
            await self._line.fetch(sql.BLOB_PUT, digest, payload)
        return digest

    async def entries(self, records: Sequence[Record]) -> list[Entry]:
        """Journal rows as entries, with their large payloads. Raises `Undecodable` if one is not there."""
        entries = [to_entry(record) for record in records]
        places = [place for place, record in enumerate(records) if record["codec"] == BLOB]
        for place in places:
            # One at a time: two of the largest would be a gigabyte in one message.
            payload = await self.get(entries[place].payload, f"the value of {entries[place].path!r}")
            entries[place] = replace(entries[place], payload=payload)
        return entries

    async def get(self, digest: bytes, what: str) -> bytes:
        """The value of a digest. Raises `Undecodable`, with ``what`` it is, if it is not there."""
        found = await self._line.fetch(sql.BLOBS, [digest])
        if not found:
            raise gone(what)
        payload: bytes = found[0]["bytes"]
        return payload


def refuse_huge(entries: Sequence[Entry]) -> None:
    """Raise `PayloadTooLarge` if a payload is larger than anything that can be stored."""
    for entry in entries:
        refuse_large(entry.payload, f"the result of {entry.path!r}")


def refuse_large(payload: bytes, what: str) -> None:
    """Raise `PayloadTooLarge` for more bytes than can be stored."""
    if len(payload) > TOO_LARGE:
        raise PayloadTooLarge(
            f"{what} has {len(payload):,} bytes, {TOO_LARGE:,} are possible: "
            "write it to a file or an object store in the step, and return where it is"
        )


def gone(what: str) -> Undecodable:
    """The error of a value that was there."""
    return Undecodable(f"{what} is not in the database any more: its blob was deleted")
