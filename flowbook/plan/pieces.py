"""Pieces: what stands in a stored input for a list that is too long for a row.

Owns: `InPieces`, a reference to values that lie beside the run. Refuses: cutting lists and putting them together again
(`run/inputs.py`): nothing that folds a run ever sees a reference.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InPieces:
    """A list whose slices are stored one by one, each under the digest of its bytes."""

    total: int
    """Items in all."""
    size: int
    """Bytes of all pieces together."""
    pieces: tuple[bytes, ...]
    """Digests of the pieces, in order."""

    def __repr__(self) -> str:
        return f"<list of {self.total:,} items, {self.size:,} bytes>"
