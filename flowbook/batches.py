"""Batches: many runs at once, started, or failed and retried.

Owns: `start_many`, `dead` and `retry_all`. Refuses: what one start or one retry is (`app.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from flowbook.errors import FlowbookError, StateError, UsageError
from flowbook.graph.flow import Graph
from flowbook.naming import named
from flowbook.plan.query import MOST_RUNS
from flowbook.ports import RunRow

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.handle import Run

TOGETHER: Final = 500
"""Starts that share a statement and a commit."""
RETRIED: Final = 50
"""Retries under way at once."""


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Failed runs of one flow that failed at one place with one error."""

    flow: str
    at: str
    """The path that failed them; empty: none did."""
    error: str
    runs: tuple[UUID, ...]
    """Newest first."""
    oldest: datetime
    newest: datetime
    """When the first and the last of them were made."""


@dataclass(frozen=True, slots=True)
class Retried:
    """What came of a retry of many."""

    retried: tuple[UUID, ...]
    refused: Mapping[UUID, str]
    """Run -> why it was not: it goes on again already, or all that it had done was undone."""


async def start_many(
    app: App,
    flow: Graph | str,
    inputs: Iterable[Mapping[str, Any]],
    *,
    keys: Sequence[str] | None = None,
    queue: str | None = None,
    priority: int = 0,
    metadata: Mapping[str, Any] | None = None,
    carry: bool = False,
) -> list[Run]:
    """Start a run per input, in their order, 500 in a commit; whichever workers claim them carry them.

    ``keys``: an idempotency key per input, so that a batch that broke off is sent again as a whole. ``carry``: this
    process owns all of them at once. Every input is checked before the first run is started: raises `StateError` with
    the place of the one that does not fit, `UsageError` for keys that are not as many, else as `App.start` does.
    """
    graph = await named(app, flow) if isinstance(flow, str) else flow
    given = [dict(one) for one in inputs]
    if keys is not None and len(keys) != len(given):
        raise UsageError(f"{len(keys)} keys for {len(given)} inputs: give one for each, and none twice")
    for place, one in enumerate(given):
        try:
            graph.accept(one)
        except StateError as error:
            raise StateError(f"input {place} of {len(given)}, and nothing was started: {error.message}") from error
    runs: list[Run] = []
    for begin in range(0, len(given), TOGETHER):
        starting = [
            app.start(
                graph, one, key=None if keys is None else keys[begin + n], queue=queue, priority=priority,
                metadata=metadata, carry=carry,
            )
            for n, one in enumerate(given[begin : begin + TOGETHER])
        ]  # fmt: skip
        runs += await asyncio.gather(*starting)
    return runs


async def dead(
    app: App, *, flow: str | None = None, since: str | None = None, match: str | None = None, limit: int = MOST_RUNS
) -> list[DeadLetters]:
    """The failed runs of this namespace, by what failed them, the most frequent first; the newest ``limit`` are looked
    at. ``match``: a part of the error, the place, the key or the id.
    """
    groups: dict[tuple[str, str, str], list[RunRow]] = {}
    for row in await _failed(app, flow, since, match, limit):
        groups.setdefault((row.flow, row.current, row.error or ""), []).append(row)
    found = [
        DeadLetters(*what, tuple(r.id for r in rows), min(r.created_at for r in rows), max(r.created_at for r in rows))
        for what, rows in groups.items()
    ]
    return sorted(found, key=lambda letters: (-len(letters.runs), letters.flow, letters.at))


async def retry_all(
    app: App, *, flow: str | None = None, since: str | None = None, match: str | None = None, limit: int = MOST_RUNS,
    by: str = "user",
) -> Retried:  # fmt: skip
    """Retry the failed runs that `dead` lists, each from the step that failed it."""
    rows = await _failed(app, flow, since, match, limit)
    retried: list[UUID] = []
    refused: dict[UUID, str] = {}
    gate = asyncio.Semaphore(RETRIED)

    async def one(row: RunRow) -> None:
        async with gate:
            try:
                await app.retry(row.id, by=by)
                retried.append(row.id)
            except FlowbookError as error:
                refused[row.id] = error.message

    await asyncio.gather(*map(one, rows))
    return Retried(tuple(retried), refused)


async def _failed(app: App, flow: str | None, since: str | None, match: str | None, limit: int) -> Sequence[RunRow]:
    found = app.runs(flow=flow, status="failed", limit=limit)
    found = found.since(since) if since else found
    return await (found.matching(match) if match else found)
