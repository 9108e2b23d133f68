"""Displays: what a session has shown in cells; runs among it, live while a page can show it, still in the end.

Owns: whether a display gets a widget, following the run, and what happens when its cell ends. Refuses: drawing
(`show/`) and how a widget and its still form stand in one cell (`beside.py`).

The still form is kept up to date while a run goes on, so a kernel that is killed in the middle leaves the picture of a
second before. At the end the widget is taken away: a file that nobody opens in JupyterLab has no rules that would hide
it. Without a page (nbclient, papermill, a terminal) there is the still form only, and what comes after the end of the
cell would be lost: there a start waits for the end.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID
from weakref import WeakSet

from flowbook.errors import FlowbookError
from flowbook.ids import short
from flowbook.jupyter.answers import control, of_run, who
from flowbook.jupyter.beside import Beside, Make
from flowbook.jupyter.talking import talk
from flowbook.observe.views import RunView
from flowbook.plan.records import Status
from flowbook.show.html import run_html
from flowbook.show.live import LiveRun, possible
from flowbook.show.text import run_plain
from flowbook.show.widget import Widget

if TYPE_CHECKING:
    from flowbook.jupyter.inspection import Inspection
    from flowbook.jupyter.session import Session
    from flowbook.sync import SyncRun

OnInterrupt = Literal["keep", "cancel"]
STOPPING = 2.0
"""Seconds that an interrupted cell waits for the run that it cancels."""
HEADLESS = "FLOWBOOK_HEADLESS"
"""Set by the papermill engine: there is no page."""


@dataclass(eq=False)
class Display:
    """One run in one cell."""

    run: SyncRun
    place: Beside
    on_interrupt: OnInterrupt = "keep"
    """What becomes of the run when the cell that shows it is interrupted."""
    over: bool = False
    view: RunView | None = None
    """The newest view that was shown as a still picture."""
    guard: threading.Lock = field(default_factory=threading.Lock)


class Displays:
    """All displays of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cell: list[Display] = []
        """Those of the cell that is being executed."""
        self._inspected: set[UUID] = set()
        """Runs whose inspector it has shown."""
        self.inspections: WeakSet[Inspection] = WeakSet()
        """Inspectors of whichever cell: a run that goes on again here goes on in them too."""

    @property
    def headless(self) -> bool:
        """True when nobody looks: no page, or what comes after the cell's end is dropped."""
        kernel = getattr(self._session.ip, "kernel", None)
        if kernel is None or self._session.env.get(HEADLESS):
            return True
        parent = kernel.get_parent() or {}
        asks = parent.get("content", {}).get("allow_stdin", True)
        return not asks and "cellId" not in parent.get("metadata", {})

    def put(self, bundle: Mapping[str, str], make: Make | None) -> Beside:
        """Show something below the cell: its still form, and what ``make`` makes if there is a page for it."""
        return Beside(bundle, None if make is None or self.headless else make())

    def show(self, run: SyncRun, *, on_interrupt: OnInterrupt | None = None) -> None:
        """Show a run below the cell, and follow it; ``on_interrupt``: None: as the session has it."""
        self._session.last = run
        for inspection in list(self.inspections):
            inspection.again(run.id)
        view = run.view()
        answers = of_run(self._session, run)

        def again(args: Mapping[str, Any]) -> Any:
            said = answers["retry"](args)
            self._session.app.watch(run.id, follow)
            return said

        kinds = {**answers, "retry": again}
        live = (
            None if view.status.over else lambda: LiveRun(view, kinds, lambda new: self._picture(it, new), self._child)
        )
        it = Display(run, self.put(bundle(view), live), on_interrupt or self._session.on_interrupt, view.status.over)
        self._cell.append(it)
        widget = it.place.widget
        if not isinstance(widget, LiveRun):
            return
        widget.control = control(self._session, run)
        words = talk(self, run, view)

        def follow(new: RunView) -> None:
            widget.update(new)
            if words is not None:
                words.follow(new)
            if new.status.over:
                self._picture(it, new)

        self._session.app.watch(run.id, follow)  # ends with the run

    def _child(self, run_id: UUID) -> tuple[Widget, Callable[[], object]]:
        """The live view of a run that was started at a step, and what ends it."""
        run = self._session.app.find(run_id)
        view, answers, stops = run.view(), of_run(self._session, run), []

        def again(args: Mapping[str, Any]) -> Any:
            said = answers["retry"](args)
            stops.append(self._session.app.watch(run_id, widget.update))
            return said

        widget = LiveRun(view, {**answers, "retry": again}, opening=self._child)
        widget.control = control(self._session, run)
        if not view.status.over:
            stops.append(self._session.app.watch(run_id, widget.update))

        def end() -> None:
            for stop in stops:
                stop()
            widget.close()

        return widget, end

    def inspect(self, run: SyncRun) -> None:
        """Show the inspector of a run below the cell; it stays in use after the run's end, as long as the kernel."""
        from flowbook.jupyter.inspector import inspect  # it comes with pages of its own, which few cells need

        self._session.last = run
        self._inspected.add(run.id)
        inspect(self._session, run)

    def shown(self, run_id: UUID) -> bool:
        """Has the cell that is being executed shown this run already?"""
        return run_id in self._inspected or any(it.run.id == run_id for it in self._cell)

    def cell_ends(self, *, interrupted: bool) -> None:
        """After each cell: what is over gets its last picture while the front end still listens to this cell."""
        mine, self._cell = self._cell, []
        self._inspected.clear()
        if not self._session.connected:
            return
        for it in mine:
            if it.over:
                continue
            if interrupted:
                self._interrupted(it)
            view = it.run.view()
            if view.status.over or it.place.widget is None:
                self._picture(it, view)

    def _interrupted(self, it: Display) -> None:
        """Who interrupts the kernel means the cell; what becomes of the run is as they have chosen, and is said."""
        name = short(it.run.id)
        if it.on_interrupt == "keep":
            print(  # noqa: T201 - never silent
                f"Nobody waits for run {name} now, but it goes on: `%flow cancel {name}` stops it. (With "
                f"--on-interrupt=cancel, or after `%flow interrupt cancel`, an interrupt cancels it.)"
            )
            return
        status = it.run.cancel(by=who(self._session.env))
        with contextlib.suppress(FlowbookError):  # it was cancelled, or stops when its step lets it
            it.run.result(STOPPING)
        ended = it.run.status
        told = f"is {status} already" if status.over and status is not Status.CANCELLED else "was cancelled"
        told = told if ended.over else "has been asked to stop, and stops when its step lets it"
        print(f"Interrupted: run {name} {told}.")  # noqa: T201 - as above

    def _picture(self, it: Display, view: RunView) -> None:
        """Bring the still picture up to date; when nothing can be done any more it alone is left."""
        with it.guard:
            if it.view is view or (it.view and view.seq < it.view.seq):
                return  # shown already, or a timer's, late
            it.over, it.view = view.status.over, view
            if it.over and not possible(view):
                it.place.end(bundle(view))
            else:
                it.place.still(bundle(view))


def bundle(view: RunView) -> dict[str, str]:
    """The forms of a run that need no kernel."""
    html = run_html(view, hint=hint(view), enter=entry(view))
    return {"text/html": html, "text/plain": run_plain(view)}


def hint(view: RunView) -> str:
    """What can be done about it now."""
    if view.status is Status.FAILED:
        return f"%flow retry {short(view.id)}"
    waiting = view.overview.waiting.values()  # of all steps there may be 20,000
    open_ones = [s for s in waiting if s.wait and (s.wait.signals or s.wait.handed_out)]
    if open_ones and not view.status.over:
        return f"%flow approve {short(view.id)} {open_ones[0].path}"
    if view.status in (Status.PENDING, Status.WAITING) and not view.needs:
        return f"%flow resume {short(view.id)}"
    return "" if view.status.over else f"%flow show {short(view.id)}"


def entry(view: RunView) -> str:
    """What opens the step that failed."""
    failed = view.status is Status.FAILED and view.failed_path
    return f"%flow enter {short(view.id)} {view.failed_path}" if failed else ""
