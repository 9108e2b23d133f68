"""Queries as people write them: ``app.runs().flow("research").status("failed").since("24h").page()``.

Owns: the conditions as methods, `Runs` with its verbs as coroutines, and `runs`, which finds the current app. Refuses:
what the conditions mean (`plan/query.py`, the stores), and runs of another namespace than the app's.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from flowbook.errors import UsageError
from flowbook.graph import launch
from flowbook.graph.durations import seconds
from flowbook.handle import Run
from flowbook.plan.query import (
    LONGEST_TEXT,
    MOST_COUNTED,
    MOST_RUNS,
    SORTS,
    TRIGGERS,
    Count,
    RunQuery,
    RunSummary,
    cursor,
    position,
    searchable,
    unsearchable,
)
from flowbook.plan.records import Status
from flowbook.ports import RunRow

if TYPE_CHECKING:
    import pandas as pd

    from flowbook.app import App


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of a query, and where the next ones begin."""

    rows: tuple[RunRow, ...]
    cursor: str | None
    """For `Runs.page`, as it is; None: these were the last."""

    def __iter__(self) -> Iterator[RunRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


class Filters(ABC):
    """The conditions of a query. Each method returns another query; one that is called again replaces itself."""

    def __init__(self, query: RunQuery) -> None:
        self.query = query

    def flow(self, name: str) -> Self:
        """Runs of the flow of this name."""
        return self._with(flow=name)

    def status(self, *statuses: str) -> Self:
        """Runs of one of these statuses. Raises `UsageError` for a word that is none."""
        try:
            return self._with(status=tuple(dict.fromkeys(Status(s) for s in statuses)))
        except ValueError:
            wrong = next(s for s in statuses if s not in set(Status))
            raise UsageError(f"status {wrong!r} is none of {', '.join(Status)}") from None

    def namespace(self, name: str) -> Self:
        """For code that says where it looks: it must be the app's. Raises `UsageError` for another one."""
        if name != self.query.namespace:
            raise UsageError(
                f"this app is connected for namespace {self.query.namespace!r}, and sees no run of {name!r}"
            )
        return self

    def metadata(self, **values: Any) -> Self:
        """Runs whose metadata holds these values; inside of dicts and lists, as ``@>`` of Postgres' jsonb."""
        try:
            text = json.dumps(values, allow_nan=False, ensure_ascii=False)
            text.encode()
        except (TypeError, ValueError) as error:  # half a pair of surrogates is a ValueError
            raise UsageError(f"metadata is JSON, and {values!r} is none: {error}") from None
        if "\\u0000" in text:
            raise UsageError(f"metadata cannot hold the character NUL, as in {values!r}")
        return self._with(metadata=json.loads(text))

    def input(self, **values: Any) -> Self:
        """Runs that were started with these inputs: short texts, numbers, booleans, None, dates, UUIDs."""
        found = {name: searchable(value) for name, value in values.items()}
        for name, value in found.items():
            if unsearchable(value):
                raise UsageError(
                    f"runs are not found by {name}={values[name]!r}: only texts of up to {LONGEST_TEXT} characters, "
                    f"numbers, booleans, None, dates and UUIDs are kept for this; a start's `metadata=` takes others"
                )
        return self._with(input=found)

    def current(self, node: str) -> Self:
        """Runs that wait at this node, or have failed there; ``judge#2``: at its second firing.

        A run that somebody carries right now is at no place that a list would know.
        """
        return self._with(current=node)

    def trigger(self, kind: str) -> Self:
        """Runs that came to be this way: ``manual``, ``child``, ``fork``, ``cron``. Raises `UsageError`."""
        if kind not in TRIGGERS:
            raise UsageError(f"trigger {kind!r} is none of {', '.join(TRIGGERS)}")
        return self._with(trigger=kind, children=self.query.children or kind == "child")

    def since(self, moment: datetime | timedelta | str) -> Self:
        """Runs that were made at this moment or later; ``"24h"`` and a timedelta count back from now."""
        return self._with(since=_moment(moment))

    def until(self, moment: datetime | timedelta | str) -> Self:
        """Runs that were made before this moment."""
        return self._with(until=_moment(moment))

    def matching(self, text: str) -> Self:
        """Runs with this text in the flow's name, the key, the error or the place; 8 hex digits: an end of the id."""
        return self._with(text=text.replace("\x00", ""))

    def among(self, *ids: UUID) -> Self:
        """Only these runs."""
        return self._with(ids=ids)

    def children(self, included: bool = True) -> Self:
        """Also runs that other runs have started; they are left out else."""
        return self._with(children=included)

    def sort(self, by: str) -> Self:
        """In the order of ``created_at``, ``started_at``, ``ended_at``, ``duration``, ``flow`` or ``status``.

        With a ``-`` the largest, or latest, first; what has not happened yet counts as later than all. The default is
        ``-created_at``. Raises `UsageError` for a word that is none.
        """
        name = by.removeprefix("-")
        if name not in SORTS:
            raise UsageError(f"runs are not sorted by {by!r}, but by {', '.join(SORTS)}, or -{SORTS[0]} and so on")
        return self._with(sort=name, descending=by.startswith("-"))

    def limit(self, rows: int) -> Self:
        """How many rows a page has: 1 to 1,000."""
        if not 1 <= rows <= MOST_RUNS:
            raise UsageError(f"limit {rows}: a page has 1 to {MOST_RUNS:,} rows; `page(cursor)` gives the next ones")
        return self._with(limit=rows)

    def _with(self, **changes: Any) -> Self:
        return self._like(replace(self.query, **changes))

    @abstractmethod
    def _like(self, query: RunQuery) -> Self:
        """These runs, asked for with another query."""


class Runs(Filters):
    """Runs of an app's namespace. ``await`` gives the rows of the first page; ``async for`` goes through all."""

    def __init__(self, app: App, query: RunQuery) -> None:
        super().__init__(query)
        self._app = app

    def _like(self, query: RunQuery) -> Self:
        return type(self)(self._app, query)

    async def page(self, cursor: str | None = None) -> Page:
        """The first rows, or those behind a cursor. Raises `UsageError` for a cursor that is none of this query's."""
        query = self.query
        if cursor is not None:
            query = replace(query, after=position(cursor, query))
        return await self._page(query)

    async def _page(self, query: RunQuery) -> Page:
        # One more than is wanted tells whether there are more.
        rows = await self._app.store.runs(replace(query, limit=query.limit + 1, inputs=False))
        if len(rows) <= query.limit:
            return Page(tuple(rows), None)
        shown = tuple(rows[: query.limit])
        return Page(shown, cursor(shown[-1], query))

    async def count(self) -> Count:
        """How many there are, exactly up to 10,000; more than that is ``10,000+``."""
        return Count(await self._app.store.count(self.query, MOST_COUNTED))

    async def first(self) -> Run | None:
        """The first one, as a handle with all verbs; None: there is none."""
        rows = await self._app.store.runs(replace(self.query, limit=1, inputs=False))
        return Run(self._app, rows[0].id) if rows else None

    async def ids(self) -> list[UUID]:
        """The ids of the rows of the first page."""
        return [row.id for row in await self.page()]

    async def summary(self) -> RunSummary:
        """How many of each status, on all pages; seconds (mean, p50, p95) of the newest 10,000 that have ended."""
        return await self._app.store.summary(self.query)

    async def df(self, rows: int = MOST_COUNTED) -> pd.DataFrame:
        """A pandas table of up to so many runs, a row each. Raises `UsageError` without pandas."""
        try:
            import pandas as pd
        except ImportError:
            raise UsageError("`df()` makes a pandas table: `pip install pandas`") from None
        found = []
        async for row in self:
            found.append(row)
            if len(found) == rows:
                break
        return pd.DataFrame([_record(row) for row in found], columns=list(_COLUMNS)).set_index("id")

    def __await__(self) -> Generator[Any, None, list[RunRow]]:
        return self._rows().__await__()

    async def _rows(self) -> list[RunRow]:
        return list((await self.page()).rows)

    async def __aiter__(self) -> AsyncIterator[RunRow]:
        after: str | None = None
        while True:
            page = await self.page(after)
            for row in page:
                yield row
            after = page.cursor
            if after is None:
                return

    def __repr__(self) -> str:
        return f"<runs {said(self.query)}>"


def runs(**conditions: Any) -> Any:
    """Runs of the app that is connected, to be narrowed down: ``fb.runs().status("failed").since("24h")``.

    In a notebook a table of them. Raises `NotConnected`, which says what to do, where nothing is connected.
    """
    return launch.current().runs(**conditions)


def said(query: RunQuery) -> str:
    """A query in words, for people."""
    words = [f"of {query.flow}" if query.flow else "", " or ".join(query.statuses)]
    words += [f"{name}={value!r}" for part in (query.input, query.metadata) for name, value in part.items()]
    words += [f"at {query.current}" if query.current else "", f"by {query.trigger}" if query.trigger else ""]
    words += [f"since {query.since:%Y-%m-%d %H:%M}" if query.since else ""]
    words += [f"until {query.until:%Y-%m-%d %H:%M}" if query.until else "", repr(query.text) if query.text else ""]
    plain = (query.sort, query.descending) == ("created_at", True)
    words += ["" if plain else f"by {'-' if query.descending else ''}{query.sort}"]
    return ", ".join(w for w in words if w) or f"of namespace {query.namespace}"


_COLUMNS = (
    "id", "flow", "version", "status", "trigger", "key", "current", "error", "seconds", "created_at", "started_at",
    "ended_at", "metadata",
)  # fmt: skip


def _record(row: RunRow) -> dict[str, Any]:
    record: dict[str, Any] = {name: getattr(row, name) for name in _COLUMNS if name != "seconds"}
    both = row.started_at and row.ended_at
    record["seconds"] = (row.ended_at - row.started_at).total_seconds() if both else None  # type: ignore[operator]
    return {**record, "id": str(row.id), "status": row.status.value, "metadata": dict(row.metadata)}


def _moment(moment: datetime | timedelta | str) -> datetime:
    try:
        if isinstance(moment, str):
            try:
                moment = datetime.fromisoformat(moment)
            except ValueError:
                moment = timedelta(seconds=seconds(str(moment)))
        if isinstance(moment, timedelta):
            return datetime.now(UTC) - moment
        return moment.astimezone(UTC)  # one without a zone is of this machine's
    except (UsageError, OverflowError, AttributeError):
        raise UsageError(
            f'{moment!r} is no moment: write a datetime, "2026-11-21", or how long ago, as in "24h" or "2d"'
        ) from None
