"""Vaults: where the bytes of checkpoints lie, each piece once, under the blake3 digest of its content.

Owns: the port, the digest, and the vault in memory. Refuses: SQL (`store/vault.py` is the vault in Postgres) and what
the bytes mean. All calls block and may come from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Protocol

from blake3 import blake3

from flowbook.errors import CheckpointDamaged

_PARALLEL: Final = 1024 * 1024
"""Bytes above which two threads hash faster than one."""


def digest(data: Any) -> bytes:
    """The blake3 digest of something bytes-like, 32 bytes."""
    size = data.nbytes if isinstance(data, memoryview) else len(data)
    return blake3(data, max_threads=blake3.AUTO if size > _PARALLEL else 1).digest()


class Vault(Protocol):
    """Pieces of bytes by digest. A piece that was put is durable once `put` has returned."""

    def has(self, digests: Collection[bytes]) -> set[bytes]:
        """Those of the digests that are there; they count as used now, so garbage collection leaves them alone."""
        ...

    def put(self, pieces: Mapping[bytes, bytes]) -> None:
        """Store pieces; one that is there already stays as it is."""
        ...

    def get(self, digests: Collection[bytes]) -> dict[bytes, bytes]:
        """The pieces of these digests; those that are not there are left out."""
        ...


class MemoryVault:
    """A vault in this process' memory, for tests and for a session without a database."""

    def __init__(self) -> None:
        self.pieces: dict[bytes, bytes] = {}
        self.written = 0
        """Bytes that were new when they were put."""
        self._notes: dict[bytes, bytes] = {}
        self._guard = threading.Lock()

    def has(self, digests: Collection[bytes]) -> set[bytes]:
        """See `Vault.has`."""
        with self._guard:
            return {d for d in digests if d in self.pieces}

    def put(self, pieces: Mapping[bytes, bytes]) -> None:
        """See `Vault.put`."""
        with self._guard:
            for key, data in pieces.items():
                if key not in self.pieces:
                    self.pieces[key] = bytes(data)
                    self.written += len(data)

    def get(self, digests: Collection[bytes]) -> dict[bytes, bytes]:
        """See `Vault.get`."""
        with self._guard:
            return {d: self.pieces[d] for d in digests if d in self.pieces}

    def note(self, key: bytes, text: bytes) -> None:
        """See `namespace.steps.Notes`."""
        self._notes[key] = text

    def noted(self, key: bytes) -> bytes | None:
        """See `namespace.steps.Notes`."""
        return self._notes.get(key)


def fetch(vault: Vault, digests: Iterable[bytes]) -> dict[bytes, bytes]:
    """Pieces by digest, each of them verified.

    Raises:
        CheckpointDamaged: One is gone, or is not what its digest says.
    """
    wanted = list(dict.fromkeys(digests))
    found = vault.get(wanted)
    for key in wanted:
        if key not in found:
            raise CheckpointDamaged(
                f"the piece {key.hex()[:12]} of this checkpoint is not in the vault any more; run the cells again"
            )
        if digest(found[key]) != key:
            raise CheckpointDamaged(
                f"the piece {key.hex()[:12]} of this checkpoint was changed since it was written, so it is not loaded; "
                "run the cells again"
            )
    return found
