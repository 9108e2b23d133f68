"""Parked: what this process remembers of the runs that it has parked.

Owns: `Parked`, the newest small records, each for as long as nobody else can have changed the run. Refuses: large ones
and old ones; a run that waits costs nothing, and its journal is the truth.

Only the owner of a run's epoch appends to its journal, and each claim raises the epoch by one. So whoever claims a run
that he has parked himself, under the very next epoch, knows the journal: his record is its fold. From a signal to the
step behind it, what remains is to deliver, to claim, to read the mailbox and to record. (Measured: with the two reads
for folding it took a third longer.)
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from flowbook.plan.records import Run
from flowbook.ports import RunRow
from flowbook.run.loading import Loaded
from flowbook.run.values import ATOMS

MOST: Final = 256
"""Records that are remembered."""
SMALL: Final = 16_384
"""Characters, bytes and further values that one of them may hold."""


@dataclass(frozen=True, slots=True)
class _Known:
    row: RunRow
    loaded: Loaded


class Parked:
    """The newest records of runs that were parked here."""

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, _Known] = OrderedDict()

    def keep(self, row: RunRow, loaded: Loaded) -> None:
        """Remember a run that was parked under the epoch of ``row``, if it is small."""
        self._known.pop(row.id, None)
        if _is_small(loaded.run):
            self._known[row.id] = _Known(row, loaded)
            if len(self._known) > MOST:
                self._known.popitem(last=False)

    def take(self, row: RunRow) -> Loaded | None:
        """What is known of a run that was claimed just now, if that is all there is to know."""
        known = self._known.pop(row.id, None)
        if known is None or row.epoch != known.row.epoch + 1 or row.lost or row.fingerprint != known.row.fingerprint:
            return None
        return known.loaded

    def row(self, run_id: UUID) -> RunRow | None:
        """The row of a run that is remembered, as it was claimed: whose run it is and of which code never changes."""
        known = self._known.get(run_id)
        return None if known is None else known.row


def _is_small(run: Run) -> bool:
    room = SMALL
    for token in run.tokens.values():
        for part in (token.view.values, token.view.results, [delta.result for delta in token.deltas]):
            room = _room_left(part, room)
    return _room_left([call.result for call in run.calls.values()], room) >= 0


def _room_left(value: Any, room: int) -> int:
    """The room that a value leaves; negative: it is too large, or of a kind that does not tell its size."""
    kind = type(value)
    if kind is str or kind is bytes:
        return room - len(value)
    if kind in ATOMS:
        return room - 1
    if kind is dict:
        value = [*value, *value.values()]
    elif kind is not list and kind is not tuple:
        return -1
    for item in value:
        if room < 0:
            return room
        room = _room_left(item, room - 1)
    return room
