"""Flows that are defined as data, in Postgres.

Owns: versions of specs by namespace and name. Refuses: reading a spec (`graph/reading.py`). Every statement here may be
sent twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from flowbook.ids import plain
from flowbook.ports import Defined
from flowbook.store import spec_statements as sql
from flowbook.store.driver import Record
from flowbook.store.retrying import Line


class Specs:
    """`flowbook.ports.SpecStore` over one connection."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def define(self, new: Defined) -> Defined:
        """Store a spec as the next version of its name; the newest one, if it is the same."""
        text = json.dumps(new.spec)  # in its own order: that of the steps is part of the flow
        while True:
            record = await self._line.fetchrow(sql.DEFINE_SPEC, new.namespace, new.name, text, new.fingerprint, new.by)
            if record is not None:
                return _defined(record)
            newest = next(iter(await self.versions(new.namespace, new.name)), None)
            if newest is not None and newest.ended_at is None and json.dumps(newest.spec) == text:
                return newest

    async def versions(self, namespace: str, name: str) -> Sequence[Defined]:
        """All versions of a name, newest first, also those that were taken back."""
        return [_defined(record) for record in await self._line.fetch(sql.SPEC_VERSIONS, namespace, name)]

    async def live(self, namespace: str | None) -> Sequence[Defined]:
        """The newest version of each name that is defined; None: of all namespaces."""
        return [_defined(record) for record in await self._line.fetch(sql.SPECS, namespace)]

    async def end(self, namespace: str, name: str) -> datetime | None:
        """Take a name back; the moment. None: it was not defined."""
        record = await self._line.fetchrow(sql.END_SPEC, namespace, name)
        return None if record is None else record["ended_at"]

    async def restore(self, namespace: str, name: str, ended_at: datetime) -> None:
        """Undo what `end` did at that moment."""
        await self._line.fetch(sql.RESTORE_SPEC, namespace, name, ended_at)

    async def active(self, namespace: str, flow: str) -> Sequence[UUID]:
        """Up to eleven runs of a flow that are not over."""
        return [plain(record["id"]) for record in await self._line.fetch(sql.ACTIVE_RUNS, namespace, flow)]


def _defined(record: Record) -> Defined:
    return Defined(**{**record, "spec": json.loads(record["spec"])})
