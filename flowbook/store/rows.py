"""Rows of the database as records, and back.

Owns: the order of columns and the shape of what goes over the wire. Refuses: asking for anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from flowbook.plan.journal import Entry, Kind
from flowbook.plan.records import Status
from flowbook.plan.streamed import Chunk
from flowbook.ports import Mail, RunRow
from flowbook.store.driver import Record

INLINE: Final = 0
"""Codec tag of a payload that is in its row."""
BLOB: Final = 1
"""Codec tag of a payload that is in ``blob``; the row has its digest."""

NEVER: Final = datetime.max.replace(tzinfo=UTC)
"""``due_at`` of a run that time alone does not wake: the database's infinity."""

_STATUSES: Final[Mapping[str, Status]] = {status.value: status for status in Status}
_KINDS: Final[Mapping[str, Kind]] = {kind.value: kind for kind in Kind}


class Line(NamedTuple):
    """A journal entry on its way to the database."""

    attempt: int
    codec: int
    kind: str
    path: str
    payload: bytes


def to_line(entry: Entry) -> Line:
    """An entry whose payload stays in its row."""
    return Line(entry.attempt, INLINE, entry.kind, entry.path, entry.payload)


def to_entry(record: Record) -> Entry:
    """A journal row; the payload of a row with tag `BLOB` is still the digest."""
    return Entry(
        _KINDS[record["kind"]], record["path"], record["attempt"], record["payload"], record["seq"], record["at"]
    )


def to_chunk(run_id: UUID, record: Record) -> Chunk:
    """A row of ``chunk``, as NEWS names its columns."""
    return Chunk(
        run_id, record["seq"], record["stream"], record["path"], record["attempt"], record["kind"], record["payload"],
        record["at"],
    )  # fmt: skip


def to_run(record: Record) -> RunRow:
    """A row of ``run``."""
    due_at: datetime = record["due_at"]  # asyncpg gives infinity without a zone
    return RunRow(
        id=record["id"],
        namespace=record["namespace"],
        flow=record["flow"],
        version=record["version"],
        fingerprint=record["fingerprint"],
        queue=record["queue"],
        priority=record["priority"],
        status=_STATUSES[record["status"]],
        due_at=due_at if due_at.tzinfo is not None else NEVER,
        epoch=record["epoch"],
        worker_id=record["worker_id"],
        claims=record["claims"],
        lost=record["lost"],
        mail=record["mail"],
        current=record["current"],
        key=record["key"],
        input=record["input"],
        input_digest=record["input_digest"],
        metadata=json.loads(record["metadata"]),
        error=record["error"],
        forked_from=record["forked_from"],
        created_at=record["created_at"],
        started_at=record["started_at"],
        ended_at=record["ended_at"],
        parent_id=record["parent_id"],
        root_id=record["root_id"],
        parent_path=record["parent_path"] or "",
        trigger=record["trigger"],
    )


def to_claimed(record: Record) -> RunRow:
    """A row of ``run`` as a claim has it, perhaps with the newest delivery."""
    row = to_run(record)
    if record.get("letter_at") is None:
        return row
    kind, name, payload, at = (record[f"letter_{part}"] for part in ("kind", "name", "payload", "at"))
    return replace(row, letter=Mail(row.mail, kind, name, payload, at))


def to_json(value: Mapping[str, Any]) -> str:
    """For the small searchable columns only: jsonb keeps neither order nor every text."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
