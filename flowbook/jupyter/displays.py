"""Displays: runs in cells, live while a page can show it, still in the end.

Owns: which of the two a cell gets, following the run, and putting the still picture in the live one's place. Refuses:
drawing (`show/`).

An output that holds a widget shows "model not found" once its kernel is gone, and never falls back to another form. So
a cell has two outputs while its run goes on: a still picture, and the widget, whose own style rules hide the still one
as long as they are there. At the end the widget's output is emptied. A kernel that is killed in the middle leaves the
still picture of a second before. Without a page (nbclient, papermill, a terminal) there is the still one only,
and what comes after the end of the cell would be lost: there a start waits for the end.
"""

from __future__ import annotations

import contextvars
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from IPython.display import display

from flowbook.ids import short
from flowbook.observe.views import RunView
from flowbook.plan.records import Status
from flowbook.show.html import run_html
from flowbook.show.live import LiveRun
from flowbook.show.text import run_plain

if TYPE_CHECKING:
    from flowbook.jupyter.session import Session
    from flowbook.sync import SyncRun

HEADLESS = "FLOWBOOK_HEADLESS"
"""Set by the papermill engine: there is no page."""


@dataclass(eq=False)
class Display:
    """One run in one cell."""

    run: SyncRun
    id: str
    """Of the still picture."""
    live_id: str
    live: LiveRun | None
    context: contextvars.Context
    """The cell's: what is shown from the engine's thread must reach the cell that it belongs to."""
    over: bool = False
    shown: str = ""
    """The still picture that is there now."""


class Displays:
    """All displays of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cell: list[Display] = []
        """Those of the cell that is being executed."""
        self._guard = threading.Lock()

    @property
    def headless(self) -> bool:
        """True when nobody looks: no page, or what comes after the cell's end is dropped."""
        kernel = getattr(self._session.ip, "kernel", None)
        if kernel is None or self._session.env.get(HEADLESS):
            return True
        parent = kernel.get_parent() or {}
        asks = parent.get("content", {}).get("allow_stdin", True)
        return not asks and "cellId" not in parent.get("metadata", {})

    def show(self, run: SyncRun) -> None:
        """Show a run below the cell, and follow it."""
        self._session.last = run
        view = run.view()
        still = view.status.over or self.headless
        name = f"flowbook-{uuid4().hex}"
        it = Display(run, name, f"{name}-live", None, contextvars.copy_context(), over=view.status.over)
        self._cell.append(it)
        first = bundle(view)
        it.shown = first["text/html"]
        self._session.publish(first, it.id)
        if still:
            return
        it.live = LiveRun(view, run.cancel, lambda new: it.context.copy().run(self._picture, it, new))
        display(it.live, display_id=it.live_id)

        def follow(new: RunView) -> None:
            assert it.live is not None
            it.live.update(new)
            if new.status.over:
                it.context.copy().run(self._picture, it, new)

        self._session.app.watch(run.id, follow)  # ends with the run

    def shown(self, run_id: UUID) -> bool:
        """Has the cell that is being executed shown this run already?"""
        return any(it.run.id == run_id for it in self._cell)

    def cell_ends(self, *, interrupted: bool) -> None:
        """After each cell: what is over gets its last picture while the front end still listens to this cell."""
        mine, self._cell = self._cell, []
        if not self._session.connected:
            return
        for it in mine:
            if it.over:
                continue
            view = it.run.view()
            if view.status.over or it.live is None:
                self._picture(it, view)
            elif interrupted:
                name = short(it.run.id)
                print(f"Nobody waits for run {name} now, but it goes on: `%flow cancel {name}` stops it.")  # noqa: T201

    def _picture(self, it: Display, view: RunView) -> None:
        """Bring the still picture up to date; at the end it alone is left."""
        with self._guard:
            if view.status.over and not it.over and it.live is not None:
                # The model is kept: a page that was loaded again hears of no update, and would miss it.
                self._session.publish({"text/html": "", "text/plain": ""}, it.live_id, update=True)
            if it.over and not view.status.over:
                return  # a timer's, late
            it.over = view.status.over
            still = bundle(view)
            if still["text/html"] != it.shown:
                it.shown = still["text/html"]
                self._session.publish(still, it.id, update=True)


def bundle(view: RunView) -> dict[str, str]:
    """The forms of a run that need no kernel."""
    html = run_html(view, hint=hint(view), enter=entry(view))
    return {"text/html": f'<div class="fb-still">{html}</div>', "text/plain": run_plain(view)}


def hint(view: RunView) -> str:
    """What can be done about it now."""
    if view.status is Status.FAILED:
        return f"%flow retry {short(view.id)}"
    if view.status in (Status.PENDING, Status.WAITING) and not view.needs:
        return f"%flow resume {short(view.id)}"
    return "" if view.status.over else f"%flow show {short(view.id)}"


def entry(view: RunView) -> str:
    """What opens the step that failed."""
    failed = view.status is Status.FAILED and view.failed_path
    return f"%flow enter {short(view.id)} {view.failed_path}" if failed else ""
