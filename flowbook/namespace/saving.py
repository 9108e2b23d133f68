"""Saving: pieces on their way to the vault while the next cell runs.

Owns: one thread that writes them in the order of their checkpoints, the manifest of each last. Refuses: hashing and
copying, which must come before the next cell. A checkpoint is durable when its manifest is in the vault.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from flowbook.errors import CheckpointDamaged
from flowbook.namespace.vault import Vault, digest, fetch

_BATCH: Final = 16 * 1024 * 1024
"""Bytes that are put at once."""


def body_of(manifest: Mapping[str, Any]) -> bytes:
    """A signed manifest as the bytes that the vault has."""
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


def identity(manifest: Mapping[str, Any]) -> bytes:
    """What a checkpoint is known by: the digest of its signed manifest."""
    return digest(body_of(manifest))


def find(vault: Vault, ident: bytes) -> dict[str, Any]:
    """The signed manifest of a checkpoint. Raises `CheckpointDamaged` if the vault does not have it."""
    found: dict[str, Any] = json.loads(fetch(vault, [ident])[ident])
    return found


class Saver:
    """Writes pieces in the background."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._queue: deque[tuple[dict[bytes, bytes], bytes]] = deque()
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._open = 0
        self.error: Exception | None = None
        """Why the newest checkpoints are not durable."""
        self.pending = 0
        """Bytes of pieces that were handed over and are not written yet."""
        self.written = 0
        """Bytes of pieces that were handed to the vault because it did not have them."""

    def save(self, pieces: dict[bytes, bytes], manifest: Mapping[str, Any]) -> None:
        """Have them written; back at once. A checkpoint whose predecessor failed writes nothing and fails as well."""
        with self._change:
            self._queue.append((pieces, body_of(manifest)))
            self._open += 1
            self.pending += sum(map(len, pieces.values()))
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="flowbook-checkpoints", daemon=True)
                self._thread.start()
            self._change.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Until all is durable; False after ``timeout`` seconds. Raises what the vault has raised."""
        with self._change:
            done = self._change.wait_for(lambda: self._open == 0, timeout)
            if self.error is not None:
                raise self.error
            return done

    def _main(self) -> None:
        while True:
            with self._change:
                if not self._change.wait_for(lambda: self._queue, 5.0):
                    self._thread = None  # a kernel at rest has no thread of ours
                    return
                pieces, body = self._queue.popleft()
                size = sum(map(len, pieces.values()))
            try:
                if self.error is None:
                    self._write(pieces, body)
            except Exception as error:
                self.error = error
            with self._change:
                self._open -= 1
                self.pending -= size
                self._change.notify_all()

    def _write(self, pieces: dict[bytes, bytes], body: bytes) -> None:
        there = self._vault.has(pieces.keys())
        batch: dict[bytes, bytes] = {}
        size = 0
        for key in list(pieces):
            data = pieces.pop(key)
            if key in there:
                continue
            batch[key] = data
            size += len(data)
            if size >= _BATCH:
                self._vault.put(batch)
                self.written += size
                batch, size = {}, 0
        self._vault.put(batch)
        self._vault.put({digest(body): body})
        self.written += size


def check(vault: Vault, digests: set[bytes]) -> None:
    """Raise `CheckpointDamaged` unless the vault has all of these."""
    gone = digests - vault.has(digests)
    if gone:
        raise CheckpointDamaged(
            f"{len(gone)} of the {len(digests)} pieces of this checkpoint are not in the vault any more, so nothing of "
            "it was loaded; run the cells again"
        )
