"""Mapped: what stands in the state for the many results of a map.

Owns: `Mapped`, a reference to rows of the journal, and `ItemError`, the record of an item that has failed for good.
Refuses: reading the rows (`run/items.py` makes the sequence that does).
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Mapped:
    """The results of a map, which lie in the journal as the outcomes of its items."""

    run: UUID
    """The run whose journal has them."""
    path: str
    """Firing of the map: item i has the path ``<path>[i]``."""
    total: int
    """How many there are."""

    def __repr__(self) -> str:
        return f"<{self.total:,} results of {self.path}>"


@dataclass(frozen=True, slots=True)
class ItemError:
    """Stands among the results of ``map_(..., on_error="collect")`` for an item that has failed for good."""

    index: int
    """Place of the item, from 0."""
    type: str
    """Qualified name of the exception's class."""
    message: str
