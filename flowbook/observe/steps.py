"""The steps of a run while its journal is folded, and as a view has them.

Owns: `Steps`, in which the steps of a run are set one after the other, and `Firings`, all of them at one moment.
Refuses: what a row of the journal means (`folding.py`), and counting (`views.py`).

A live view folds 2,000 rows a second in the process that writes them, and shows the last one of each node. So a row
that says all of its step by itself is kept as it is, and read only when somebody asks for that step; and a view takes
no copy of the steps, but has them in pieces of which the unchanged ones are those of the view before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import overload

from flowbook.observe.views import StepView
from flowbook.plan.journal import Entry

PIECE = 256
"""Steps that are kept together."""

Kept = StepView | Entry
"""A step, or the row that says all of it."""
Read = Callable[[Entry], StepView]


class Firings(Sequence[StepView]):
    """The steps of a view, in the order in which their paths first appear. Frozen."""

    __slots__ = ("_length", "_made", "_pieces", "_read")

    def __init__(self, pieces: tuple[tuple[Kept, ...], ...], length: int, read: Read) -> None:
        self._pieces, self._length, self._read = pieces, length, read
        self._made: tuple[StepView, ...] | None = None

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[StepView]:
        return iter(self._all())

    @overload
    def __getitem__(self, at: int) -> StepView: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[StepView, ...]: ...
    def __getitem__(self, at: int | slice) -> StepView | tuple[StepView, ...]:
        if self._made is not None:
            return self._made[at]
        if isinstance(at, int):
            at = range(self._length)[at]  # raises IndexError, and counts from the end
            return self._step(self._pieces[at // PIECE][at % PIECE])
        start, stop, stride = at.indices(self._length)
        if stride != 1 or stop - start > PIECE:
            return self._all()[at]
        first = start // PIECE
        near = chain.from_iterable(self._pieces[first : stop // PIECE + 1])
        return tuple(map(self._step, islice(near, start - first * PIECE, max(start, stop) - first * PIECE)))

    def __eq__(self, other: object) -> bool:
        return self._all() == tuple(other) if isinstance(other, Firings | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._length)

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> tuple[StepView, ...]:
        if self._made is None:
            self._made = tuple(map(self._step, chain.from_iterable(self._pieces)))
        return self._made

    def _step(self, kept: Kept) -> StepView:
        return kept if type(kept) is StepView else self._read(kept)  # type: ignore[arg-type]  # it is a row


class Steps:
    """Path -> step, in the order of first appearance, and which of them were set since they were last counted."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._at: dict[str, int] = {}
        self._kept: list[Kept] = []
        self._pieces: list[tuple[Kept, ...]] = []
        """The steps as the last view has them; a piece that was changed since is made anew."""
        self._stale: set[int] = set()
        self._changed: dict[int, None] = {}
        self._undo: list[tuple[int, Kept]] | None = None

    def __contains__(self, path: str) -> bool:
        return path in self._at

    def __getitem__(self, path: str) -> StepView:
        at = self._at[path]
        kept = self._kept[at]
        if type(kept) is Entry:
            kept = self._kept[at] = self._read(kept)
        return kept  # type: ignore[return-value]  # it has been read

    def __setitem__(self, path: str, step: StepView) -> None:
        at = self._at.get(path)
        if at is None:
            self._append(path, step)
            return
        if self._undo is not None:
            self._undo.append((at, self._kept[at]))
        self._kept[at] = step
        self._stale.add(at // PIECE)
        self._changed[at] = None

    def get(self, path: str) -> StepView | None:
        """The step at ``path``; None: nothing is known of it."""
        return self[path] if path in self._at else None

    def say(self, path: str, entry: Entry) -> bool:
        """Keep the row that says all there is to say of its step; False: there is more of it, so it has to be read."""
        if path in self._at:
            return False
        self._append(path, entry)
        return True

    def read(self) -> Iterator[tuple[str, StepView]]:
        """Those that are not kept as rows: whatever is not finished is among them. They may be set meanwhile."""
        for path, at in list(self._at.items()):
            kept = self._kept[at]
            if type(kept) is StepView:
                yield path, kept

    def all(self) -> list[tuple[str, StepView]]:
        """All of them."""
        return [(path, self[path]) for path in self._at]

    def news(self) -> list[Kept]:
        """What was set since the last call, as it is now."""
        found = [self._kept[at] for at in self._changed]
        self._changed.clear()
        return found

    @contextlib.contextmanager
    def moment(self) -> Iterator[None]:
        """What is set within the block is undone at its end."""
        length, self._undo = len(self._kept), []
        try:
            yield
        finally:
            undo, self._undo = self._undo, None
            for at, kept in reversed(undo):
                self._kept[at] = kept
                self._stale.add(at // PIECE)
            if len(self._kept) > length:
                for path in list(islice(reversed(self._at), len(self._kept) - length)):
                    del self._at[path]
                self._stale.update(range(length // PIECE, len(self._kept) // PIECE + 1))
                del self._kept[length:]
            self._changed.clear()

    def firings(self) -> Firings:
        """All of them as they are now."""
        kept, pieces, length = self._kept, self._pieces, len(self._kept)
        del pieces[-(-length // PIECE) :]
        for at in self._stale:
            if at < len(pieces):
                pieces[at] = tuple(kept[at * PIECE : (at + 1) * PIECE])
        pieces += [tuple(kept[at * PIECE : (at + 1) * PIECE]) for at in range(len(pieces), -(-length // PIECE))]
        self._stale.clear()
        return Firings(tuple(pieces), length, self._read)

    def _append(self, path: str, kept: Kept) -> None:
        at = self._at[path] = len(self._kept)
        self._kept.append(kept)
        self._stale.add(at // PIECE)
        self._changed[at] = None
