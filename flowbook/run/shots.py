"""Shots: when a run's fold is worth keeping, and keeping it.

Owns: `Shots`, what a runner remembers of its journal's bytes and of its snapshots. Refuses: making a fold into bytes
(`plan/snapshots.py`) and reading (`loading.py`).

A snapshot saves folding, not storage: it repeats what the journal has. So all snapshots of a run together get a small
share of its journal's bytes. One that does not fit is of a state which is mostly the history itself (a conversation):
reading it from a snapshot is no quicker than from the journal, and every message would be stored again each time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

from flowbook.errors import Undecodable, Unencodable
from flowbook.graph.flow import Graph
from flowbook.plan import snapshots
from flowbook.plan.journal import Entry
from flowbook.plan.records import Run
from flowbook.ports import RunRow, Snapshot, Store

SHARE = 0.1
"""Of a journal's bytes, for all snapshots of it together."""
FREE = 4096
"""Bytes of snapshots that are no matter."""
ROW = 250
"""Bytes that a row takes beside its payload: header, columns, its places in two indexes."""
_HEAD = struct.Struct(">QQ")


class Shots:
    """The snapshots of one run."""

    __slots__ = ("seq", "spent", "weight")

    def __init__(self) -> None:
        self.seq = 0
        """Where the newest one is, or the newest that was not worth it; 0: nowhere."""
        self.weight = 0
        """Bytes of the journal."""
        self.spent = 0
        """Bytes of the snapshots."""

    def weigh(self, entries: Iterable[Entry]) -> None:
        """Rows were written, or read."""
        for entry in entries:
            self.weight += len(entry.payload) + ROW

    def due(self, seq: int) -> bool:
        """True if one at ``seq`` may be worth it."""
        return snapshots.due(self.seq, seq)

    async def take(self, store: Store, graph: Graph, row: RunRow, run: Run, given: Mapping[str, Any]) -> None:
        """Store a snapshot of a run that this process owns, if there is room for it; ``given`` as `Loaded` has it."""
        self.seq = run.seq
        try:
            payload = snapshots.dump(run, given)
        except Unencodable:
            return  # a reducer made something that only memory can hold; folding again makes it again
        spent = self.spent + _HEAD.size + len(payload)
        if spent > FREE + self.weight * SHARE:
            return
        self.spent = spent
        kept = Snapshot(run.seq, snapshots.tag(graph), _HEAD.pack(self.weight, spent) + payload)
        await store.snapshot(row.id, row.epoch, kept)

    def load(self, run: Run, snapshot: Snapshot) -> Run:
        """The run that a snapshot is of; ``run``, as it began. Raises `Undecodable`."""
        payload = snapshot.payload
        if len(payload) < _HEAD.size:
            raise Undecodable(f"a snapshot of run {run.id} is damaged: it has {len(payload)} bytes")
        run = snapshots.load(run, payload[_HEAD.size :])
        self.weight, self.spent = _HEAD.unpack_from(payload)
        self.seq = snapshot.seq
        return run
