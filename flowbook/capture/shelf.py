"""Shelves: the output of one attempt, within bounds.

Owns: what is kept of it and what is only counted. Refuses: where it comes from (`routing.py`) and where it goes
(`collector.py`).

Text of one kind is one *piece* as long as nothing else comes between, up to `PIECE` characters; the last piece grows in
place. A carriage return takes back the line that it stands in, so a progress bar is one line however long it runs.
Beyond `MOST_TEXT` there is a note of how much is missing, and the last `TAIL` characters: the end of a log says why.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

from flowbook.ids import plain
from flowbook.plan.outputs import Kind, Output, displayed
from flowbook.secret import redact_bytes

MOST_TEXT: Final = 1_000_000
"""Characters of text that are kept of an attempt."""
TAIL: Final = 20_000
"""Characters of its end that are kept beyond that."""
PIECE: Final = 16_000
"""Characters of a piece, about."""
MOST_PIECES: Final = 2_000
"""Pieces of an attempt: one that alternates between two streams has many small ones."""
MOST_DISPLAYS: Final = 50
MOST_DISPLAYED: Final = 32 * 1024 * 1024
"""Bytes of all displays of an attempt."""

_BACK: Final = re.compile(r"[^\n]*\r(?=[^\n\r])")
"""What a carriage return takes back, as far as something is written over it."""

_making = threading.Lock()


@dataclass(slots=True)
class _Piece:
    n: int
    kind: Kind
    at: datetime
    text: str = ""
    payload: bytes | None = None
    """Of a display."""
    fresh: bool = True
    """It is not stored as it is."""


class Owner(Protocol):
    """Of a run: its row."""

    @property
    def id(self) -> UUID: ...
    @property
    def epoch(self) -> int: ...


class Try(Protocol):
    """An attempt: the command that began it."""

    @property
    def path(self) -> str: ...
    @property
    def attempt(self) -> int: ...


class Listening(Protocol):
    """Who brings shelves to the store."""

    def now(self) -> datetime:
        """The moment."""
        ...

    def touched(self, shelf: Shelf) -> None:
        """There is something to be stored."""
        ...


class Shelf:
    """Where an attempt's output goes. Cheap to make; all calls may come from any thread."""

    __slots__ = ("_collector", "_kept", "_owner", "_try")

    def __init__(self, collector: Listening, owner: Owner, attempt: Try) -> None:
        self._collector, self._owner, self._try = collector, owner, attempt
        self._kept: _Kept | None = None

    @property
    def ids(self) -> tuple[UUID, str, int]:
        """Run, path and attempt whose output this is."""
        return plain(self._owner.id), self._try.path, self._try.attempt

    def write(self, kind: Kind, text: str) -> None:
        """Keep a text."""
        if text:
            self._pieces().write(kind, text, self._collector.now())
            self._collector.touched(self)

    def display(self, data: Mapping[str, Any], metadata: Mapping[str, Any], name: str = "") -> None:
        """Keep something rich. With a ``name`` it takes the place of what was displayed under that name before."""
        try:
            payload = displayed(data, metadata)
        except (TypeError, ValueError) as error:
            self.write("error", f"a display was not kept: {error}\n")
            return
        self._pieces().display(payload, self._collector.now(), name)
        self._collector.touched(self)

    def drain(self) -> list[Output]:
        """What is not stored yet, or not as it is."""
        if self._kept is None:
            return []
        run_id, first = plain(self._owner.id), self._owner.epoch << 32
        return [
            Output(run_id, self._try.path, self._try.attempt, first + p.n, p.kind,
                   redact_bytes(p.text.encode("utf-8", "replace") if p.payload is None else p.payload), p.at)
            for p in self._kept.drain()
        ]  # fmt: skip

    def _pieces(self) -> _Kept:
        with _making:
            if self._kept is None:
                self._kept = _Kept()
            return self._kept


class _Kept:
    """The pieces of a shelf that has any."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: list[_Piece] = []
        """Those that are to be stored."""
        self._last: _Piece | None = None
        """The text that still grows."""
        self._count = 0
        self._room = MOST_TEXT
        self._shown, self._bytes = 0, 0
        self._named: dict[str, _Piece] = {}
        self._cut: _Piece | None = None
        self._end: _Piece | None = None
        self._tail: deque[str] = deque()
        self._tailed = 0
        self._missing_lines, self._missing = 0, 0
        self._missing_displays = 0

    def write(self, kind: Kind, text: str, now: datetime) -> None:
        with self._guard:
            full = self._room <= 0 or self._count >= MOST_PIECES
            some, more = ("", text) if full else (text[: self._room], text[self._room :])
            if some:
                self._grow(kind, some, now)
            if more:
                self._beyond(kind, more, now)

    def _grow(self, kind: Kind, text: str, now: datetime) -> None:
        last = self._last
        if last is None or last.kind != kind or len(last.text) >= PIECE:
            last = self._last = self._new(kind, now)
        else:
            self._again(last)
        before = last.text
        last.text += text
        if "\r" in text or before[-1:] == "\r":
            last.text = _BACK.sub("", last.text)
        self._room -= len(last.text) - len(before)

    def display(self, payload: bytes, now: datetime, name: str) -> None:
        with self._guard:
            before = self._named.get(name) if name else None
            size = len(payload) - (len(before.payload or b"") if before else 0)
            if (before is None and self._shown >= MOST_DISPLAYS) or self._bytes + size > MOST_DISPLAYED:
                self._missing_displays += 1
                self._beyond("stdout", "", now)
                return
            self._bytes += size
            if before is None:
                self._shown += 1
                self._last = None
                before = self._new("display", now)
                if name:
                    self._named[name] = before
            else:
                self._again(before)
            before.payload = payload

    def drain(self) -> list[_Piece]:
        with self._guard:
            if self._cut is not None:
                self._cut.text = self._note()
            if self._end is not None:
                self._end.text = "".join(self._tail)
            waiting, self._waiting = self._waiting, []
            for piece in waiting:
                piece.fresh = False
            return [_Piece(p.n, p.kind, p.at, p.text, p.payload) for p in waiting]

    def _new(self, kind: Kind, now: datetime) -> _Piece:
        piece = _Piece(self._count, kind, now)
        self._count += 1
        self._waiting.append(piece)
        return piece

    def _beyond(self, kind: Kind, text: str, now: datetime) -> None:
        """There is no room: keep the end, and count what falls out of it."""
        self._last = None
        if self._cut is None:
            self._cut = self._new("cut", now)
        if text and self._end is None:
            self._end = self._new(kind, now)
        self._tail.append(text)
        self._tailed += len(text)
        while self._tailed > TAIL:
            gone = self._tail.popleft()
            if (keep := TAIL - (self._tailed - len(gone))) > 0:
                self._tail.appendleft(gone[-keep:])
                gone = gone[:-keep]
            self._tailed -= len(gone)
            self._missing_lines += gone.count("\n")
            self._missing += len(gone)
        for piece in (self._cut, self._end):
            if piece is not None:
                self._again(piece)

    def _again(self, piece: _Piece) -> None:
        """It is to be stored as it is now."""
        if not piece.fresh:
            piece.fresh = True
            self._waiting.append(piece)

    def _note(self) -> str:
        more = []
        if self._missing:
            more.append(f"{self._missing_lines:,} more lines ({self._missing:,} characters)")
        if self._missing_displays:
            more.append(f"{self._missing_displays:,} more displays")
        return f"... {' and '.join(more)} ...\n" if more else ""
