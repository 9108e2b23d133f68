"""The table of runs: a page of a query, which a person narrows down, sorts, leafs through and acts on.

Owns: what the page is told of rows, counts and times, and answering its questions. Refuses: a connection (the door
hands in a query with its verbs, and what can be done with a run), and deciding what may be cancelled.

The page asks, and nothing is pushed: a table that nobody looks at costs nothing. It asks once a second at most for the
rows that it shows *as they are now*, whatever the filters say of them, so that no row moves or goes under the reader's
eyes; how many newer ones there are comes along as a number.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol, Self
from uuid import UUID

import traitlets

from flowbook.errors import UsageError
from flowbook.ids import short
from flowbook.plan.query import RunQuery, RunSummary
from flowbook.plan.records import Status
from flowbook.ports import RunRow
from flowbook.show.looks import STATUS, rules
from flowbook.show.safe import clean, duration
from flowbook.show.spark import MOST, spark
from flowbook.show.widget import Widget, module, sheet

SHOWN: Final = (
    Status.RUNNING, Status.WAITING, Status.PENDING, Status.COMPLETED, Status.FAILED, Status.CANCELLED,
)  # fmt: skip
SINCE: Final = {"": "any time", "1h": "last hour", "24h": "last day", "7d": "last week", "30d": "last 30 days"}
SUMMED: Final = 3.0
"""Seconds for which counts and times of the same filters are not asked for again."""
MOST_AT_ONCE: Final = 200
"""Runs that one press of a button concerns at most."""
_OVER: Final = tuple(s for s in Status if s.over)


class Page(Protocol):
    """A page of rows."""

    @property
    def rows(self) -> Sequence[RunRow]: ...
    @property
    def cursor(self) -> str | None: ...


class Asking(Protocol):
    """A query with its verbs (`sync.SyncRuns`)."""

    @property
    def query(self) -> RunQuery: ...
    def flow(self, name: str) -> Self: ...
    def status(self, *statuses: str) -> Self: ...
    def matching(self, text: str) -> Self: ...
    def since(self, moment: Any) -> Self: ...
    def sort(self, by: str) -> Self: ...
    def limit(self, rows: int) -> Self: ...
    def among(self, *ids: UUID) -> Self: ...
    def page(self, cursor: str | None = None) -> Page: ...
    def summary(self) -> RunSummary: ...


class Acting(Protocol):
    """What can be done with runs."""

    def open(self, run: UUID) -> tuple[Widget, Callable[[], object]]:
        """What shows one of them below the table, and what ends that."""
        ...

    def cancel(self, run: UUID, mark: str) -> str:
        """Ask it to stop; what became of it, for people. What comes twice under one ``mark`` is done once."""
        ...

    def retry(self, run: UUID, mark: str) -> str:
        """Carry it on from the step that failed; as `cancel`."""
        ...

    def compare(self, older: UUID, newer: UUID) -> str:
        """How two of them differ, as HTML in which everything of theirs is escaped."""
        ...


class RunsTable(Widget):
    """Runs on a page. ``on_seen`` hears of what is shown, for whoever keeps a still form beside it."""

    _esm = module("dom", "table")
    _css = sheet("base", "table") + rules(".fb")

    first = traitlets.Dict().tag(sync=True)
    """What the page begins with: the answer to its first question."""
    frame = traitlets.Dict().tag(sync=True)
    """What does not change: statuses with their words, choices of time, what the query itself says."""
    opened = traitlets.Dict().tag(sync=True)
    """``id``, ``ref`` of what is shown below; empty: nothing."""

    def __init__(
        self,
        runs: Asking,
        acting: Acting,
        flows: Callable[[], Iterable[str]] = tuple,
        on_seen: Callable[[Sequence[RunRow], RunSummary, str], object] = lambda rows, summary, spark: None,
    ) -> None:
        self._runs, self._acting, self._flows, self._on_seen = runs, acting, flows, on_seen
        self._guard = threading.Lock()
        self._sums: tuple[str, float, RunSummary, str] | None = None
        self._end: Callable[[], object] = lambda: None
        """Ends what is open."""
        super().__init__(
            {
                "page": self._page, "fresh": self._fresh, "open": self._open, "close": self._close_detail,
                "which": self._which, "cancel": self._cancel, "retry": self._retry,
                "compare": self._compare,
            },
            frame=frame(runs.query),
        )  # fmt: skip
        self.first = self._page({})

    def __repr__(self) -> str:
        return "<table of runs>"

    def close(self) -> None:
        """Take it off the page."""
        self._end()
        super().close()

    # -- looking -------------------------------------------------------------------------------------------------------

    def _asked(self, args: Mapping[str, Any]) -> Asking:
        """The query as the page has it narrowed down."""
        runs = self._runs
        if flow := str(args.get("flow") or "").strip():
            runs = runs.flow(flow)
        statuses = args.get("status")
        if isinstance(statuses, list):
            runs = runs.status(*map(str, statuses))
        if text := str(args.get("text") or "").strip():
            runs = runs.matching(text)
        if since := str(args.get("since") or ""):
            runs = runs.since(since)
        return runs.sort(str(args["sort"])) if args.get("sort") else runs

    def _page(self, args: Mapping[str, Any]) -> dict[str, Any]:
        runs = self._asked(args)
        cursor = args.get("cursor")
        page = runs.page(None if cursor is None else str(cursor))
        return {
            "rows": [row(r) for r in page.rows], "next": page.cursor, **self._around(args, runs, page.rows),
            "flows": sorted({clean(name, 80) for name in (*self._flows(), *(r.flow for r in page.rows))}),
        }  # fmt: skip

    def _fresh(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The rows that are shown as they are now, and how many there are before the first of them."""
        runs, ids = self._asked(args), _ids(args)
        now = {r.id: r for r in self._runs.status().among(*ids).limit(max(1, len(ids))).page().rows} if ids else {}
        rows = [now[i] for i in ids if i in now]
        newest = runs.query.sort == "created_at" and runs.query.descending
        new = 0
        if newest and args.get("cursor") is None:
            known = set(ids)
            for found in runs.page().rows:
                if found.id in known:
                    break
                new += 1
        return {"rows": [row(r) for r in rows], "new": new, **self._around(args, runs, rows)}

    def _around(self, args: Mapping[str, Any], runs: Asking, rows: Sequence[RunRow]) -> dict[str, Any]:
        """Counts and times."""
        everything = runs.status()
        about = repr([args.get(name) for name in ("flow", "text", "since")])
        with self._guard:
            if self._sums is None or self._sums[0] != about or time.monotonic() - self._sums[1] > SUMMED:
                summary = everything.summary()
                ended = everything.status(*_OVER).sort("-created_at").limit(MOST).page().rows
                took = [
                    ((r.ended_at - r.started_at).total_seconds(), r.status)
                    for r in ended
                    if r.ended_at and r.started_at
                ]
                self._sums = (about, time.monotonic(), summary, spark(took[::-1]))
            _, _, summary, picture = self._sums
        self._on_seen(rows, summary, picture)
        return {
            "counts": counts(summary),
            "times": times(summary),
            "spark": picture,
            "at": _ms(datetime.now().astimezone()),
        }

    # -- acting --------------------------------------------------------------------------------------------------------

    def _open(self, args: Mapping[str, Any]) -> dict[str, str]:
        (run,) = _ids({"ids": [args.get("id")]})
        widget, end = self._acting.open(run)
        before, self._end = self._end, end
        self.opened = {"id": str(run), "short": short(run), "ref": f"anywidget:{widget.model_id}"}
        before()
        return dict(self.opened)

    def _close_detail(self, args: Mapping[str, Any]) -> None:
        before, self._end = self._end, lambda: None
        self.opened = {}
        before()

    def _which(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Which of these runs a button would concern, as they are now: asked before anything is done."""
        verb, ids = str(args.get("verb")), _ids(args)
        rows = {r.id: r for r in self._runs.status().among(*ids).limit(max(1, len(ids))).page().rows} if ids else {}
        able = [i for i in ids if i in rows and _able(verb, rows[i].status)]
        others = [i for i in ids if i not in able]
        return {
            "ids": [str(i) for i in able],
            "runs": [_named(i, rows) for i in able],
            "others": [_named(i, rows) for i in others],
        }  # fmt: skip

    def _cancel(self, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._each(args, self._acting.cancel)

    def _retry(self, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._each(args, self._acting.retry)

    def _compare(self, args: Mapping[str, Any]) -> dict[str, str]:
        ids = _ids(args)
        if len(ids) != 2:
            raise UsageError("two runs are compared")
        return {"html": self._acting.compare(*ids), "about": f"{short(ids[0])} compared with {short(ids[1])}"}

    def _each(self, args: Mapping[str, Any], act: Callable[[UUID, str], str]) -> list[dict[str, Any]]:
        """One after the other; what cannot be done with one is told of it, and the next one has its turn."""
        told, mark = [], str(args.get("mark") or "")
        for run in _ids(args):
            try:
                text, well = act(run, mark), True
            except Exception as error:
                text, well = str(error), False
            told.append({"id": str(run), "short": short(run), "well": well, "text": clean(text, 300)})
        with self._guard:
            self._sums = None
        return told


def frame(query: RunQuery) -> dict[str, Any]:
    """What the page is told once."""
    return {
        "statuses": [
            {"status": s.value, "word": STATUS[s][1], "sign": STATUS[s][0].sign} for s in SHOWN
        ],
        "since": SINCE,
        "flow": clean(query.flow, 80) if query.flow else "",
        "status": [s.value for s in query.statuses],
        "text": clean(query.text, 80),
        "sort": f"{'-' if query.descending else ''}{query.sort}",
    }  # fmt: skip


def row(r: RunRow) -> dict[str, Any]:
    """What the page is told of a run."""
    look, word = STATUS[r.status]
    return {
        "id": str(r.id), "short": short(r.id), "flow": clean(r.flow, 60), "version": r.version,
        "status": r.status.value, "word": f"{look.sign} {word}",
        "at": clean(r.error if r.status is Status.FAILED and r.error else r.current, 160),
        "bad": r.status is Status.FAILED, "key": clean(r.key or "", 60),
        "how": "" if r.trigger == "manual" else clean(r.trigger, 20),
        "created": _ms(r.created_at), "started": _ms(r.started_at), "ended": _ms(r.ended_at),
        "going": r.status is Status.RUNNING, "over": r.status.over,
    }  # fmt: skip


def counts(summary: RunSummary) -> dict[str, int]:
    """Status -> how many."""
    return {s.value: n for s, n in summary.statuses.items() if n}


def times(summary: RunSummary) -> str:
    """The times in one line; empty where nothing has ended."""
    if summary.mean is None or summary.p50 is None or summary.p95 is None:
        return ""
    return f"mean {duration(summary.mean)} · p50 {duration(summary.p50)} · p95 {duration(summary.p95)}"


def _able(verb: str, status: Status) -> bool:
    return status is Status.FAILED if verb == "retry" else not status.over


def _named(run: UUID, rows: Mapping[UUID, RunRow]) -> str:
    return f"{clean(rows[run].flow, 60)} {short(run)}, {rows[run].status}" if run in rows else f"{short(run)}, unknown"


def _ids(args: Mapping[str, Any]) -> list[UUID]:
    given = args.get("ids")
    if not isinstance(given, list) or len(given) > MOST_AT_ONCE:
        raise UsageError(f"name up to {MOST_AT_ONCE} runs")
    try:
        return [UUID(i) for i in given]
    except (ValueError, TypeError, AttributeError):
        raise UsageError("that is no run's id") from None


def _ms(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1000)
