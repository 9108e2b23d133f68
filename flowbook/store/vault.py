"""The vault in Postgres: pieces of checkpoints, in the table that has all large values.

Owns: a connection on a loop of its own in a background thread, made when it is first needed, so that a kernel which
runs no flow has no engine either. Refuses: what the pieces mean (`namespace/`), and throwing away (gc does).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Coroutine, Mapping
from typing import Any, Final, TypeVar

from flowbook.errors import StoreUnavailable
from flowbook.store import statements as sql
from flowbook.store import vault_statements as vault_sql
from flowbook.store.retrying import Line

T = TypeVar("T")

_TOGETHER: Final = 4
"""Pieces that are read at once: one has 4 MB at most."""


class PostgresVault:
    """See `namespace.vault.Vault`. Waits for a database that is away. Any thread may call."""

    def __init__(self, url: str) -> None:
        self._line = Line(url, "vault")
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def has(self, digests: Collection[bytes]) -> set[bytes]:
        """Those that are there; they count as used now."""
        if not digests:
            return set()
        rows = self._wait(self._line.fetch(vault_sql.BLOBS_TOUCH, list(digests)))
        return {row["digest"] for row in rows}

    def put(self, pieces: Mapping[bytes, bytes]) -> None:
        """Store pieces, each durable by itself; returns when all are."""
        for key, data in pieces.items():
            self._wait(self._line.fetch(sql.BLOB_PUT, key, data))

    def get(self, digests: Collection[bytes]) -> dict[bytes, bytes]:
        """The pieces that are there."""
        wanted = list(digests)
        found: dict[bytes, bytes] = {}
        for start in range(0, len(wanted), _TOGETHER):
            rows = self._wait(self._line.fetch(sql.BLOBS, wanted[start : start + _TOGETHER]))
            found |= {row["digest"]: row["bytes"] for row in rows}
        return found

    def note(self, key: bytes, text: bytes) -> None:
        """Write a small text, in the place of an earlier one of that key."""
        self._wait(self._line.fetch(vault_sql.NOTE, key, text))

    def noted(self, key: bytes) -> bytes | None:
        """Read one; it counts as used now."""
        row = self._wait(self._line.fetchrow(vault_sql.NOTED, key))
        return None if row is None else row["payload"]

    def close(self) -> None:
        """Hang up; whoever calls gets `StoreUnavailable`."""
        with self._guard:
            self._closed = True
            loop, thread, self._loop = self._loop, self._thread, None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(self._line.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        with self._guard:
            if self._closed:
                work.close()
                raise StoreUnavailable("the vault is closed: connect again")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="flowbook-vault", daemon=True)
                self._thread.start()
            loop = self._loop
        return asyncio.run_coroutine_threadsafe(work, loop).result()
