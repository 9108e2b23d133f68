"""Items: the results of a large map, as a sequence that reads them when they are looked at.

Owns: `Items`, what steps, routers and callers get where the state holds a `Mapped`. Refuses: changing anything, and
small maps, whose results are a plain list in the state.

Reading blocks: a plain loop may stand anywhere, also in a coroutine on the engine's loop, which then stands still for
as long as a page takes. ``async for`` reads the pages beside the loop instead. One page is held at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, overload
from uuid import UUID

from flowbook.codec.registry import COPIES, Parts, taker, takes
from flowbook.errors import Undecodable
from flowbook.plan.events import ItemFinished
from flowbook.plan.journal import Entry, from_entry
from flowbook.plan.mapped import Mapped
from flowbook.plan.paths import item
from flowbook.plan.sealed import Sealed
from flowbook.run.sealing import unsealed

PAGE = 1000
"""Results that are read at once, if they are not too large."""
BACKWARDS = 100
"""The same for who goes backwards."""

Read = Callable[[UUID, Sequence[str]], Sequence[Entry]]
"""`Store.outcomes_now`."""


class Items(Sequence[Any]):
    """The results of a map, in the order of its items; read-only, and otherwise as a list."""

    __slots__ = ("_key", "_page", "_read", "reference")
    __hash__: ClassVar[None]  # type: ignore[assignment]  # as a list has none

    def __init__(self, reference: Mapped, read: Read, key: bytes | None = None) -> None:
        self.reference = reference
        self._read, self._key = read, key
        self._page: tuple[int, list[Any]] = (0, [])
        """(index of the first, values); replaced as one, so that threads may share a sequence."""

    def __len__(self) -> int:
        return self.reference.total

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        """One result; of a slice a list, which holds them all."""
        if isinstance(index, slice):
            wanted = range(*index.indices(len(self)))
            found = list(self._between(min(wanted), max(wanted) + 1)) if wanted else []
            return [found[i - min(wanted)] for i in wanted]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"index {index} of {len(self):,} results")
        first, page = self._page
        if not first <= place < first + len(page):
            first, page = place, self._read_page(place, len(self))
        return page[place - first]

    def __iter__(self) -> Iterator[Any]:
        return self._between(0, len(self))

    def __reversed__(self) -> Iterator[Any]:
        for end in range(len(self), 0, -BACKWARDS):
            yield from reversed(list(self._between(max(0, end - BACKWARDS), end)))

    async def __aiter__(self) -> AsyncIterator[Any]:
        """As a plain loop, but nobody else on this event loop has to wait."""
        place = 0
        while place < len(self):
            page = await asyncio.to_thread(self._read_page, place, len(self))
            place += len(page)
            for value in page:
                yield value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | tuple | Items) or isinstance(other, tuple):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it is a list."""
        return list, (list(self),)

    def __repr__(self) -> str:
        return repr(self.reference)

    def _between(self, start: int, stop: int) -> Iterator[Any]:
        place = start
        while place < stop:
            page = self._read_page(place, stop)
            place += len(page)
            yield from page

    def _read_page(self, start: int, stop: int) -> list[Any]:
        """The values from ``start`` on: a page of them, fewer where they are large, but one at least."""
        entries = self._read(self.reference.run, paths_of(self.reference.path, start, stop))
        page = [self._opened(value) for value in values_of(entries, self.reference.path, start)]
        self._page = (start, page)
        return page

    def _opened(self, value: Any) -> Any:
        if not has_placeholder(value):
            return value
        if type(value) is dict:  # the state that a child ended with
            return {key: self._opened(inner) for key, inner in value.items()}
        if type(value) is Mapped:
            return Items(value, self._read, self._key)
        return unsealed(value, self._key)


def has_placeholder(value: Any) -> bool:
    """True for a result that is not there itself, or that has such a value in it."""
    if type(value) is dict:
        return any(type(inner) in (Sealed, Mapped) for inner in value.values())
    return type(value) in (Sealed, Mapped)


def paths_of(path: str, start: int, stop: int) -> list[str]:
    """The paths of a page of items."""
    return [item(path, i) for i in range(start, min(stop, start + PAGE))]


def values_of(entries: Iterable[Entry], path: str, start: int) -> list[Any]:
    """What consecutive items have returned. Raises `Undecodable` if one of them is missing."""
    values = []
    for index, entry in enumerate(entries, start):
        event = from_entry(entry)
        if entry.path != item(path, index) or not isinstance(event, ItemFinished):
            break
        values.append(event.result)
    if not values:
        raise Undecodable(f"the result of {item(path, start)} is not in the journal any more")
    return values


@takes(Items)
def _take_items(items: Items) -> Parts:
    """A step that returns what it was given stores the reference again, and no results."""
    take = taker(Mapped)
    assert take is not None
    return take(items.reference)


COPIES[Items] = lambda items: Items(items.reference, items._read, items._key)
