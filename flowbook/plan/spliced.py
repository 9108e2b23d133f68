"""Splices: a list that was edited, as what is different in it.

Owns: `Spliced`, and the way from two lists to it and back. Refuses: anything but lists: another value is kept whole.

Who forks a conversation of 800 messages with one of them changed means that one. The row of the fork has it alone, and
the rest stays where it was stored first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LEAST = 2
"""Items in common that are worth it."""


@dataclass(frozen=True, slots=True)
class Spliced:
    """A list in terms of the one that was there before."""

    head: int
    """So many of its first items are kept."""
    middle: list[Any]
    """What comes behind them."""
    tail: int
    """So many of its last items are kept."""

    def __repr__(self) -> str:
        return f"<the first {self.head} and the last {self.tail} as before, between them {self.middle!r}>"


def spliced(old: Any, new: Any) -> Any:
    """What is to be stored of ``new``, where ``old`` is known."""
    if type(old) is not list or type(new) is not list:
        return new
    most = min(len(old), len(new))
    head = next((i for i in range(most) if not _same(old[i], new[i])), most)
    tail = next((i for i in range(most - head) if not _same(old[-1 - i], new[-1 - i])), most - head)
    if head + tail < LEAST:
        return new
    return Spliced(head, new[head : len(new) - tail], tail)


def whole(old: Any, stored: Any) -> Any:
    """The value that was meant."""
    if type(stored) is not Spliced:
        return stored
    return [*old[: stored.head], *stored.middle, *old[len(old) - stored.tail :]]


def _same(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other) and repr(one) == repr(other)
    except Exception:  # values of the user's may refuse to be compared, as arrays do
        return one is other
