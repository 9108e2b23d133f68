"""Streamed text: what a step says before its outcome is there, and what somebody who looks on is told.

Owns: `Chunk` and `News`. Refuses: the state of a run. Text is no event: nothing that is folded or decided depends on
it, and when its path has an outcome it is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from flowbook.plan.journal import Entry
from flowbook.plan.records import Status


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of the text that a step streams while it runs, kept until shortly after its path has an outcome."""

    run_id: UUID
    n: int
    """Place among all chunks of the run, ascending: ``epoch << 32`` and a count, so that an owner need not ask."""
    stream: int
    """Number of the first chunk of one body's text. Another stream at the same path takes its place."""
    path: str
    attempt: int
    channel: str
    data: bytes
    """UTF-8."""
    at: datetime | None = None
    """The database's time of writing; None: not written yet."""


BEGINNING = -(2**31)
"""Before the first row of any journal, what a fork reads of those before it included."""


@dataclass(frozen=True, slots=True)
class News:
    """What has happened to a run since somebody looked, as it was at one moment."""

    status: Status
    entries: Sequence[Entry]
    """In order; of a fork also what it reads from those before it, numbered 0, -1, ... backwards."""
    chunks: Sequence[Chunk]
    """In order; none of a path whose outcome was known."""
    more_entries: bool
    """True: there are more, so what happened behind the last of these is not known yet."""
    more_chunks: bool
