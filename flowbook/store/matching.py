"""A query's conditions and its summary, for rows in memory.

Owns: what `query_statements.py` says in SQL, said in Python; one contract suite holds both to each other. Refuses:
keeping rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from flowbook.plan.query import MOST_COUNTED, RunQuery, RunSummary, holds, id_part, rank
from flowbook.ports import RunRow


def fits(row: RunRow, searchable: Mapping[str, Any], query: RunQuery) -> bool:
    """Do all conditions of a query hold for a row?"""
    return (
        (query.children or row.parent_id is None)
        and query.namespace in (None, row.namespace)
        and query.flow in (None, row.flow)
        and (not query.statuses or row.status in query.statuses)
        and (query.ids is None or row.id in query.ids)
        and holds(dict(row.metadata), dict(query.metadata))
        and holds(dict(searchable), dict(query.input))
        and (not query.current or _rests(row.current, query.current))
        and query.trigger in (None, row.trigger)
        and (query.since is None or row.created_at >= query.since)
        and (query.until is None or row.created_at < query.until)
        and (not query.text or _says(row, query.text.strip().lower()))
    )


def listed(rows: Sequence[RunRow], query: RunQuery) -> list[RunRow]:
    """Rows in the order of a query, those behind its ``after``."""

    def place(row: RunRow) -> tuple[Any, UUID]:
        return (rank(row, query) or "" if query.sort in ("flow", "status") else rank(row, query) or 0), row.id

    ordered = sorted(rows, key=place, reverse=query.descending)
    if query.after is None:
        return ordered
    value, id = query.after
    after = (value or ("" if query.sort in ("flow", "status") else 0), id)
    return [row for row in ordered if (place(row) < after if query.descending else place(row) > after)]


def summed(rows: Sequence[RunRow]) -> RunSummary:
    """Rows counted and timed."""
    newest = sorted((r for r in rows if r.ended_at and r.started_at), key=lambda r: r.id, reverse=True)[:MOST_COUNTED]
    took = sorted((r.ended_at - r.started_at).total_seconds() for r in newest if r.ended_at and r.started_at)
    mean = math.fsum(took) / len(took) if took else None
    return RunSummary(Counter(row.status for row in rows), len(took), mean, _part(took, 0.5), _part(took, 0.95))


def _part(took: Sequence[float], fraction: float) -> float | None:
    """Postgres' ``percentile_cont``."""
    if not took:
        return None
    place = fraction * (len(took) - 1)
    low, high = took[math.floor(place)], took[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def _rests(current: str, wanted: str) -> bool:
    return f", {wanted}{',' if '#' in wanted else '#'}" in f", {current},"


def _says(row: RunRow, text: str) -> bool:
    typed = id_part(text)
    if typed is not None:
        return row.id.hex.startswith(typed) or row.id.hex.endswith(typed)
    return any(text in (part or "").lower() for part in (row.flow, row.key, row.error, row.current))
