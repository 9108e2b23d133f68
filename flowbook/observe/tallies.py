"""Tallies: how the items of maps are doing, while a journal is folded into a view.

Owns: `ItemsView`, and `Tally`, which counts. Refuses: a record per item: there may be 100,000, and a view is made anew
ten times a second.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from flowbook.plan.events import AttemptFailed, ChildStarted, ItemFinished
from flowbook.plan.paths import item_of
from flowbook.plan.records import Failure

TOLD = 10
"""Failures of items that a view keeps per map."""


@dataclass(frozen=True, slots=True)
class ItemsView:
    """How the items of a map are doing."""

    total: int
    done: int = 0
    """Items with a result."""
    failed: int = 0
    """Items that have failed for good, whatever becomes of the map."""
    running: int = 0
    """Items under way in this process; where a flow is mapped, children that have begun, wherever they are."""
    retrying: int = 0
    """Items that wait for another attempt."""
    troubles: tuple[tuple[int, Failure], ...] = ()
    """(index, what it failed with) of items that have failed for good, the last ten."""


@dataclass(slots=True)
class Tally:
    """The items of one map, counted."""

    total: int
    since: datetime | None
    """When the map began."""
    done: int = 0
    collected: int = 0
    """Items in whose place the record of their failure stands."""
    failed: set[int] = field(default_factory=set)
    """Items that have failed for good and are not collected (yet)."""
    retrying: set[int] = field(default_factory=set)
    children: set[int] = field(default_factory=set)
    """Items that are runs of their own and have not ended."""
    troubles: deque[tuple[int, Failure]] = field(default_factory=lambda: deque(maxlen=TOLD))

    def add(self, event: AttemptFailed | ItemFinished | ChildStarted) -> None:
        """Something happened to an item."""
        index = item_of(event.path)[1]
        self.retrying.discard(index)
        self.children.discard(index)
        match event:
            case ChildStarted():
                self.children.add(index)
            case ItemFinished(attempt=0):
                self.failed.discard(index)
                self.collected += 1
            case ItemFinished():
                self.done += 1
            case AttemptFailed(failure=failure, final=True):
                self.failed.add(index)
                self.troubles.append((index, failure))
            case AttemptFailed():
                self.retrying.add(index)

    def again(self) -> None:
        """The run is retried: what failed it is to be tried anew."""
        self.troubles = deque((t for t in self.troubles if t[0] not in self.failed), maxlen=TOLD)
        self.failed.clear()

    def view(self, running: int, *, over: bool) -> ItemsView:
        """As it is now."""
        return ItemsView(
            self.total, self.done, self.collected + len(self.failed),
            running + (0 if over else len(self.children)),
            0 if over else len(self.retrying), tuple(self.troubles),
        )  # fmt: skip
