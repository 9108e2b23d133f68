"""What steps print and display, in Postgres.

Owns: a connection of its own, so that nothing else waits for what is printed, and the way of large displays to the
blobs. Refuses: bounds (`capture/`), and throwing away: outputs go with their run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from flowbook.plan.outputs import Output
from flowbook.store import output_statements as sql
from flowbook.store.blobs import LARGE, Blobs
from flowbook.store.retrying import Line
from flowbook.store.rows import BLOB, INLINE

BATCH: Final = 4 * 1024 * 1024
"""Bytes of one statement, about."""


class Outputs:
    """The ``output`` table."""

    def __init__(self, url: str, blobs: Blobs) -> None:
        self._line = Line(url, "outputs")
        self._blobs = blobs

    async def close(self) -> None:
        """Hang up."""
        await self._line.close()

    async def keep(self, outputs: Sequence[Output]) -> None:
        """Write outputs, those that are there already anew."""
        batch: list[tuple[Output, int, bytes]] = []
        size = 0
        for output in outputs:
            large = len(output.payload) > LARGE
            payload = await self._blobs.put(output.payload) if large else output.payload
            batch.append((output, BLOB if large else INLINE, payload))
            size += len(payload)
            if size > BATCH:
                await self._write(batch)
                batch, size = [], 0
        if batch:
            await self._write(batch)

    async def read(self, run_id: UUID, path: str | None) -> list[Output]:
        """What was kept, in the order of time."""
        found = []
        for r in await self._line.fetch(sql.OUTPUTS, run_id, path):
            payload = r["payload"] if r["codec"] == INLINE else await self._large(r["path"], r["payload"])
            found.append(Output(r["run_id"], r["path"], r["attempt"], r["n"], r["kind"], payload, r["at"]))
        return found

    async def _large(self, path: str, digest: bytes) -> bytes:
        return await self._blobs.get(digest, f"an output of {path!r}")

    async def _write(self, batch: Sequence[tuple[Output, int, bytes]]) -> None:
        columns = [
            [o.run_id for o, _, _ in batch], [o.path for o, _, _ in batch], [o.attempt for o, _, _ in batch],
            [o.n for o, _, _ in batch], [o.at for o, _, _ in batch], [codec for _, codec, _ in batch],
            [o.kind for o, _, _ in batch], [payload for _, _, payload in batch],
        ]  # fmt: skip
        await self._line.fetch(sql.KEEP_OUTPUTS, *columns)
