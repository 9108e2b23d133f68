"""Runs in a notebook: the table of a query, and what its buttons do.

Owns: putting the table and its still form into a cell, and what opens below it. Refuses: drawing (`show/`), and what a
query means (`flowbook/query.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.deciding import asked
from flowbook.jupyter.answers import control, who
from flowbook.jupyter.inspection import Inspection
from flowbook.plan.query import RunSummary
from flowbook.plan.records import Status
from flowbook.ports import RunRow
from flowbook.show.compared import diff_html
from flowbook.show.html import runs_html
from flowbook.show.runs_table import RunsTable
from flowbook.show.spark import spark
from flowbook.show.text import runs_plain
from flowbook.show.widget import Widget
from flowbook.sync import SyncRuns

if TYPE_CHECKING:
    from flowbook.jupyter.beside import Beside
    from flowbook.jupyter.session import Session

OFTEN = 2.0
"""Seconds between two still forms of a table."""


def show_runs(session: Session, runs: SyncRuns) -> None:
    """Show a query below the cell: a table that is live where there is a page, and its still form."""
    page = runs.page()
    first = _bundle(page.rows, runs.summary(), more=page.cursor is not None)
    place: list[Beside] = []
    last = time.monotonic()

    def seen(rows: Sequence[RunRow], summary: RunSummary, picture: str) -> None:
        nonlocal last
        if place and time.monotonic() - last > OFTEN:
            last = time.monotonic()
            place[0].still(_bundle(rows, summary, picture, more=summary.total > len(rows)))

    def table() -> Widget:
        widget = RunsTable(runs, _Acting(session), session.flow_names, seen)
        widget.control = control(session)
        return widget

    place.append(session.displays.put(first, table))


def _bundle(rows: Sequence[RunRow], summary: RunSummary, picture: str = "", *, more: bool) -> dict[str, str]:
    """The forms of a page of runs that need no kernel."""
    now = datetime.now(UTC)
    ended = [((r.ended_at - r.started_at).total_seconds(), r.status) for r in rows if r.ended_at and r.started_at]
    html = runs_html(rows, now, summary=summary, picture=picture or spark(ended[::-1]), more=more)
    return {"text/html": html, "text/plain": runs_plain(rows, now)}


class _Acting:
    """What the table's buttons do (`show.runs_table.Acting`)."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def open(self, run: UUID) -> tuple[Widget, Callable[[], None]]:
        """The inspector of a run, and what ends it."""
        view = self._session.app.find(run).view()
        it = Inspection(self._session, view)
        widget = it.make()
        if not view.status.over:
            it.follow(run)

        def end() -> None:
            it.close()
            widget.close()

        return widget, end

    def cancel(self, run: UUID, mark: str) -> str:
        """See `App.cancel`."""
        status = Status(self._ask(run, "cancel", mark))
        if status is Status.CANCELLED:
            return "cancelled"
        return f"is {status} already" if status.over else "is asked to stop"

    def retry(self, run: UUID, mark: str) -> str:
        """See `App.retry`; told at once what keeps it from going on here."""
        self._ask(run, "retry", mark)
        needs = self._session.app.find(run).view().needs
        return f"stands still: it needs {needs}" if needs else "goes on"

    def compare(self, older: UUID, newer: UUID) -> str:
        """See `Run.diff`."""
        app = self._session.app
        return diff_html(app.find(older).diff(app.find(newer)))

    def _ask(self, run: UUID, kind: str, mark: str) -> Any:
        session = self._session
        app = session.app
        return app.portal.call(asked(app.app, app.find(run).id, kind, {"mark": mark}, who(session.env)))
