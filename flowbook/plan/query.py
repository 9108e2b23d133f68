"""Queries: which runs are asked for, in which order, and where a page ends.

Owns: `RunQuery` and its answers, the part of an input that can be searched (`projection`), the order of rows (`rank`)
and cursors. Refuses: SQL (`store/query_statements.py`) and the words that users type (`flowbook/query.py`).

A page begins behind the *rank* of the last row of the page before (keyset): what is added or goes meanwhile moves no
other row, as an offset would let it. A rank is a whole number or a text, so that every store compares alike.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, Protocol
from uuid import UUID

from flowbook.errors import UsageError
from flowbook.plan.records import Status

SORTS: Final = ("created_at", "started_at", "ended_at", "duration", "flow", "status")
TRIGGERS: Final = ("manual", "child", "fork", "cron")
"""How a run came to be: somebody's start, a parent's, a fork, a schedule."""
MOST_RUNS: Final = 1000
"""Rows of a page at most; a store gives one more to who asks for it, which tells whether there are more."""
MOST_COUNTED: Final = 10_000
"""Up to here a count is exact."""

LONGEST_TEXT: Final = 200
MOST_KEYS: Final = 16
LARGEST: Final = 10**30
NEVER: Final = 2**63 - 1
"""Rank of what has not happened yet: after everything that has."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What to list. Each condition that is given must hold."""

    namespace: str | None = None
    flow: str | None = None
    status: Status | tuple[Status, ...] | None = None
    """One of these; None or empty: any."""
    limit: int = 50
    """Rows of a page, at most `MOST_RUNS` + 1."""
    children: bool = False
    """True: children too. False: only runs that nobody else has started, as people think of them."""
    ids: tuple[UUID, ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON that the metadata of the run holds, in the sense of Postgres' ``@>``."""
    input: Mapping[str, Any] = field(default_factory=dict)
    """The same for the projection of its input."""
    current: str = ""
    """A node, or a path, at which the run rests (it waits there, or has failed there)."""
    trigger: str | None = None
    """One of `TRIGGERS`."""
    since: datetime | None = None
    """Made at this moment or later."""
    until: datetime | None = None
    """Made before this moment."""
    text: str = ""
    """A part of the flow's name, the key, the error or the place; or the beginning or ending of the id (`id_part`)."""
    sort: str = "created_at"
    """One of `SORTS`; rows that are alike in it are in the order of their ids."""
    descending: bool = True
    after: tuple[int | str | None, UUID] | None = None
    """(rank, id) of the row that the page begins behind."""
    inputs: bool = True
    """False: rows come without their input, which may be large."""

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The wanted statuses; empty: any."""
        if self.status is None:
            return ()
        return (self.status,) if isinstance(self.status, Status) else self.status

    @property
    def identity(self) -> str:
        """Digest of all that decides which rows there are and in which order: a cursor of another query is refused."""
        parts = [
            self.namespace, self.flow, sorted(s.value for s in self.statuses), self.children,
            None if self.ids is None else sorted(i.hex for i in self.ids), self.metadata, self.input, self.current,
            self.trigger, _text(self.since), _text(self.until), self.text, self.sort, self.descending,
        ]  # fmt: skip
        return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Runs counted and timed."""

    statuses: Mapping[Status, int]
    """How many there are of each status; those of which there are none are left out."""
    ended: int
    """How many the times are of: those that are over and had begun, the newest 10,000 of them."""
    mean: float | None
    """Seconds from the first start to the end; None where nothing has ended."""
    p50: float | None
    p95: float | None

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.statuses.values())


class Count(int):
    """A number of runs; one that is larger than `MOST_COUNTED` was not counted to its end, and says so."""

    @property
    def exact(self) -> bool:
        """False: there are more than that."""
        return self <= MOST_COUNTED

    def __str__(self) -> str:
        return f"{int(self):,}" if self.exact else f"{MOST_COUNTED:,}+"

    __repr__ = __str__


class Row(Protocol):
    """What a rank is made of."""

    @property
    def id(self) -> UUID: ...
    @property
    def flow(self) -> str: ...
    @property
    def status(self) -> Status: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def ended_at(self) -> datetime | None: ...


def rank(row: Row, query: RunQuery) -> int | str | None:
    """Where a row stands; rows of the same rank, and all where it is None, are in the order of their ids."""
    match query.sort:
        case "created_at":
            # Ids begin with the time, but those of children are made from their parents'.
            return micros(row.created_at) if query.children else None
        case "started_at":
            return micros(row.started_at)
        case "ended_at":
            return micros(row.ended_at)
        case "duration":
            both = row.ended_at is not None and row.started_at is not None
            return (row.ended_at - row.started_at) // timedelta(microseconds=1) if both else NEVER  # type: ignore[operator]
        case "flow":
            return row.flow
        case "status":
            return row.status.value
        case _:
            raise AssertionError(f"{query.sort!r} is none of SORTS")


def micros(at: datetime | None) -> int:
    """Microseconds since 1970."""
    return NEVER if at is None else (at - _EPOCH) // timedelta(microseconds=1)


def cursor(row: Row, query: RunQuery) -> str:
    """Where the page that ends with this row ends, as a text that means nothing to others."""
    data = json.dumps([query.identity, rank(row, query), row.id.hex], separators=(",", ":"))
    return base64.urlsafe_b64encode(data.encode()).decode().rstrip("=")


def position(text: str, query: RunQuery) -> tuple[int | str | None, UUID]:
    """The (rank, id) in a cursor. Raises `UsageError` for a text that is none, or one of another query."""
    problem = UsageError("this cursor is none that a page has given: pass on `page.cursor` as it is")
    try:
        identity, value, id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        where = UUID(hex=id)
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise problem from None
    if identity != query.identity:
        raise UsageError("this cursor belongs to another query: its filters and its order must be the same")
    kind = type(None) if query.sort == "created_at" and not query.children else int
    if type(value) is not (str if query.sort in ("flow", "status") else kind):
        raise problem
    if isinstance(value, int) and abs(value) > NEVER:
        raise problem
    return value, where


def id_part(text: str) -> str | None:
    """The hex digits of a text that can only be the beginning or the ending of an id: eight or more of them."""
    typed = text.strip().lower().replace("-", "")
    return typed if 8 <= len(typed) <= 32 and not set(typed) - set("0123456789abcdef") else None


def projection(given: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an input that runs are found by: its short texts, numbers, booleans, Nones, dates and UUIDs."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        if len(found) == MOST_KEYS:
            break
        if searchable(key) is key:
            plain = searchable(value)
            if plain is not _NOT:
                found[key] = plain
    return found


def searchable(value: Any) -> Any:
    """A value as it stands in a projection; `unsearchable` tells one that does not."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        fits = len(value) <= LONGEST_TEXT and "\x00" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
        return (value if type(value) is str else str.__str__(value)) if fits else _NOT
    if isinstance(value, int | float):
        return value + 0 if math.isfinite(value) and abs(value) < LARGEST else _NOT
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else _NOT


class _Not:
    """Stands for what cannot be searched for: None can be."""


_NOT: Final = _Not()


def unsearchable(value: Any) -> bool:
    """Is this what `searchable` answers where there is no such form?"""
    return value is _NOT


def holds(whole: Any, part: Any) -> bool:
    """Postgres' ``whole @> part`` for JSON."""
    match whole, part:
        case dict(), dict():
            return all(key in whole and holds(whole[key], value) for key, value in part.items())
        case list(), list():
            return all(any(_same(it, wanted) or _nested(it, wanted) for it in whole) for wanted in part)
        case _:
            return _same(whole, part)


def _nested(it: Any, wanted: Any) -> bool:
    return isinstance(wanted, dict | list) and type(it) is type(wanted) and holds(it, wanted)


def _same(a: Any, b: Any) -> bool:
    """Are two scalars one JSON value? True is no 1."""
    if isinstance(a, dict | list) or isinstance(b, dict | list):
        return False
    return isinstance(a, bool) is isinstance(b, bool) and bool(a == b)


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
