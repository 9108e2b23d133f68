"""What a fleet of workers asks of Postgres.

Owns: the questions of workers as a whole. Refuses: runs, journals and who is alive (the other parts of the store).
Every statement here may be sent twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowbook.ports import Definition
from flowbook.store import fleet_statements as sql
from flowbook.store.reads import to_definition
from flowbook.store.retrying import Line


class Fleet:
    """`flowbook.ports.FleetStore` over one connection."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def flows(self, namespace: str) -> Sequence[Definition]:
        """The newest definition of each flow of a namespace, by name."""
        return [to_definition(record) for record in await self._line.fetch(sql.FLOWS, namespace)]

    async def strangers(
        self, namespace: str, queues: Sequence[str], known: frozenset[str]
    ) -> Sequence[tuple[str, str]]:
        """(flow, fingerprint) of due runs whose code is not in ``known`` and that no live process has parked."""
        records = await self._line.fetch(sql.STRANGERS, namespace, list(queues), list(known))
        return [(record["flow"], record["fingerprint"]) for record in records]
