"""The inspector in a cell: `run.show()` and ``%flow show``.

Owns: its place below the cell, and when its still form is made anew. Refuses: what its page is answered
(`inspection.py`) and how a widget and its still form stand beside each other (`beside.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from flowbook.errors import FlowbookError
from flowbook.jupyter.beside import Beside
from flowbook.jupyter.displays import bundle as small
from flowbook.jupyter.displays import entry, hint
from flowbook.jupyter.inspection import Inspection
from flowbook.observe.views import RunView
from flowbook.show.inspector import still
from flowbook.show.text import run_plain

if TYPE_CHECKING:
    from flowbook.jupyter.session import Session
    from flowbook.sync import SyncApp, SyncRun

LAG, DEAR = 2.0, 20.0
"""Seconds between two still forms of a run that goes on, and how many times longer that is than making one takes."""
MANY = 2000
"""Rows of a journal that is opened before its whole still form is made, which takes longer than to open it."""
_making = ThreadPoolExecutor(1, thread_name_prefix="flowbook-stills")


def inspect(session: Session, run: SyncRun) -> None:
    """Show the inspector of a run below the cell that is being executed."""
    view = run.view()
    it = Inspection(session, view)
    late = view.seq > MANY and not session.displays.headless
    place = session.displays.put(small(view) if late else bundle(session.app, view), it.make)
    if place.widget is None:
        return
    it.on_home = kept = Kept(session.app, place)
    if late:
        kept(view)
    if not view.status.over:
        it.follow(run.id)


class Kept:
    """Keeps the still form of an inspector up to date, as seldom as it is dear."""

    def __init__(self, app: SyncApp, place: Beside) -> None:
        self._app, self._place = app, place
        self._not_before = 0.0

    def __call__(self, view: RunView) -> None:
        begun = time.monotonic()
        if begun < self._not_before and not view.status.over:
            return
        _making.submit(self._make, view)  # not on the engine's thread
        self._not_before = begun + LAG

    def _make(self, view: RunView) -> None:
        begun = time.monotonic()
        self._place.still(bundle(self._app, view))
        spent = time.monotonic() - begun
        self._not_before = max(self._not_before, time.monotonic() + DEAR * spent)


def bundle(app: SyncApp, view: RunView) -> dict[str, str]:
    """The forms that need no kernel."""
    said = app.portal.call(app.app.outputs(view.id))
    html = still(view, _state(app, view), said, hint=hint(view), enter=entry(view))
    return {"text/html": html, "text/plain": run_plain(view)}


def _state(app: SyncApp, view: RunView) -> Mapping[str, Any] | None:
    """The state as it is now; None: it cannot be had here."""
    try:
        found = app.portal.call(app.app.state(view.id))
    except FlowbookError:
        return None
    if isinstance(found, Mapping):
        return found
    return {name: value for name, value in vars(found).items() if name[:1] != "_"}
