"""Pieces: a pickle and its buffers cut so that what did not change has the digest that it had.

Owns: where a buffer is cut, hashing, copying what is new while nothing else runs, and putting pieces together again.
Refuses: writing them (`saving.py`). A buffer of several rows (the columns of a frame lie in one buffer) is cut at its
rows first, so a changed column is the only one that is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowbook.errors import CheckpointDamaged
from flowbook.namespace.vault import Vault, digest, fetch

SIZE: Final = 4 * 1024 * 1024
"""Bytes of a piece: small against a column, large against the 32 bytes of its digest."""
INLINE: Final = 1024
"""Bytes of a stream up to which it stays in the manifest."""
_ROW: Final = 256 * 1024
"""Bytes from which a row is cut by itself."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Something that was cut into pieces: their digests in order, or the bytes themselves."""

    digests: tuple[bytes, ...]
    size: int
    inline: bytes | None = None
    read_only: bool = False

    def to_json(self) -> Any:
        """For the manifest."""
        if self.inline is not None:
            return self.inline.hex()
        return {"size": self.size, "pieces": [d.hex() for d in self.digests], **({"ro": 1} if self.read_only else {})}

    @classmethod
    def from_json(cls, data: Any) -> Cut:
        """From the manifest."""
        if isinstance(data, str):
            raw = bytes.fromhex(data)
            return cls((), len(raw), raw)
        return cls(tuple(bytes.fromhex(d) for d in data["pieces"]), int(data["size"]), read_only=bool(data.get("ro")))


class Cutter:
    """Cuts, and keeps a copy of every piece that is not in the vault yet."""

    def __init__(self) -> None:
        self.known: set[bytes] = set()
        """Digests of pieces that are in the vault or on their way there."""
        self.new: dict[bytes, bytes] = {}
        """Copies of pieces that have to be written; whoever writes them takes them away."""

    def cut(self, data: memoryview, *, inline: bool = False) -> Cut:
        """Cut a stream (``inline``: a short one is kept as it is) or a buffer."""
        if inline and data.nbytes <= INLINE:
            return Cut((), data.nbytes, bytes(data))
        digests = []
        for piece in _pieces(data):
            key = digest(piece)
            digests.append(key)
            if key not in self.known:
                self.known.add(key)
                self.new[key] = bytes(piece)
        return Cut(tuple(digests), data.nbytes, read_only=data.readonly)

    def take(self) -> dict[bytes, bytes]:
        """The pieces that have to be written."""
        new, self.new = self.new, {}
        return new


def joined(cut: Cut, vault: Vault, at_hand: Mapping[bytes, bytes] | None = None) -> Any:
    """What was cut, verified: a bytearray, or bytes where the buffer was read-only. Raises `CheckpointDamaged`."""
    if cut.inline is not None:
        return cut.inline
    found = dict(at_hand or {})
    whole = bytearray(cut.size)
    at = 0
    for start in range(0, len(cut.digests), 16):  # 64 MB at a time
        some = cut.digests[start : start + 16]
        got = {**fetch(vault, [d for d in some if d not in found]), **{d: found[d] for d in some if d in found}}
        for key in some:
            piece = got[key]
            whole[at : at + len(piece)] = piece
            at += len(piece)
    if at != cut.size or len(whole) != cut.size:
        raise CheckpointDamaged(f"the pieces of this checkpoint have {at:,} bytes together, {cut.size:,} are meant")
    return memoryview(whole).toreadonly() if cut.read_only else whole


def _pieces(data: memoryview) -> Iterator[memoryview]:
    shape = data.shape or (1,)
    rows = 1
    if data.ndim > 1 and data.nbytes:
        rows = shape[0] if data.c_contiguous else shape[-1]  # Fortran's order: the last index is the slow one
    flat = _flat(data)
    row = data.nbytes // rows if rows else 0
    step = row if row >= _ROW else data.nbytes
    for start in range(0, data.nbytes, step or 1):
        end = min(start + step, data.nbytes)
        for at in range(start, end, SIZE):
            yield flat[at : min(at + SIZE, end)]


def _flat(data: memoryview) -> memoryview:
    if data.ndim == 1 and data.format == "B":
        return data
    import pickle

    return pickle.PickleBuffer(data).raw()
