"""Running: a papermill job as a durable run, and this door's view of the environment.

Owns: the environment variables of papermill jobs, and one connection for all notebooks of a process. Refuses: cells
(`notebooks/`).

    FLOWBOOK_RUN_KEY       the run key: the same call again goes on where it stopped
    FLOWBOOK_CHECKPOINT    namespace (the default), outputs or none
    FLOWBOOK_DATABASE_URL, DATABASE_URL, FLOWBOOK_HOME    which database, as everywhere

In Python the first two are arguments: ``execute_notebook(..., engine_name="flowbook", run_key="daily")``.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from papermill.log import logger

from flowbook.connecting import Connection, connect
from flowbook.graph import launch
from flowbook.ids import short
from flowbook.notebooks.client import restore_all
from flowbook.notebooks.desk import Desk
from flowbook.notebooks.documents import Prepared
from flowbook.notebooks.enrolling import Enrolled, enrol
from flowbook.notebooks.memory import Checkpoint, known_checkpoint
from flowbook.notebooks.records import records_in
from flowbook.notebooks.sessions import carry_out, memory_of, release
from flowbook.notebooks.underway import Underway
from flowbook.sync import SyncApp


def carried(nb_man: Any, prepared: Prepared, key: str | None, options: Mapping[str, Any]) -> UUID:
    """Carry a notebook out with the app of this process; the id of its run. ``options``: for papermill's client."""
    with current_app() as app:
        return run_in(app, nb_man, prepared, key or os.environ.get("FLOWBOOK_RUN_KEY") or None, options)


def run_in(app: SyncApp, nb_man: Any, prepared: Prepared, key: str | None, options: Mapping[str, Any]) -> UUID:
    """Carry a notebook out in this thread, as a run of this app; the id of the run.

    Raises what ended it, but no cell's exception: that is in the notebook.
    """
    desk = Desk()
    enrolled = app.portal.call(enrol(app.app, prepared, key, desk))
    run_id = enrolled.run.id
    logger.info(_told(enrolled, len(prepared.cells)))
    nb_man.nb.metadata["flowbook"] = {"run": str(run_id)} | ({} if key is None else {"key": key})
    underway = Underway(
        run_id, prepared.cells, desk,
        memory_of(prepared.checkpoint, app.app.store, app.app.options.key), key, prepared.checkpoint, prepared.wanted,
        dict(enrolled.done), enrolled.kept, dict(enrolled.results),
    )  # fmt: skip
    over = app.portal.submit(app.app.engine.over(run_id))
    over.add_done_callback(lambda _: desk.no_more())
    try:
        executed = carry_out(nb_man, prepared, underway, options)
        if not executed:  # all of it had been done before, or somebody else has done it meanwhile
            state = app.portal.call(enrolled.run.state())
            _put_all(nb_man, prepared, state, run_id)
        over.result()
        if not raised_in(nb_man.nb):
            app.portal.call(app.app.result(run_id))  # what failed it is nothing that papermill would find
    finally:
        release(run_id, desk)
        over.cancel()
    return run_id


def raised_in(nb: Any) -> bool:
    """True if a cell's own exception ended the notebook: papermill raises that itself."""
    return any(cell.metadata.get("papermill", {}).get("exception") for cell in nb.cells)


def _put_all(nb_man: Any, prepared: Prepared, state: Mapping[str, Any], run_id: UUID) -> None:
    restore_all(nb_man, prepared.cells, records_in(state), short(run_id))


def _told(enrolled: Enrolled, cells: int) -> str:
    run = f"flowbook run {enrolled.run.id}"
    if enrolled.created:
        return f"{run}: {cells} cells" + (f", {len(enrolled.kept)} kept from an earlier run" if enrolled.kept else "")
    return f"{run} was {enrolled.status}: {len(enrolled.done)} of {cells} cells are kept"


def checkpoint_of(given: str | None) -> Checkpoint:
    """What is kept of each cell: as given, else as the environment says. Raises `UsageError`."""
    return known_checkpoint(given or os.environ.get("FLOWBOOK_CHECKPOINT") or "namespace")


# ---------------------------------------------------------------------------------------------------------- connection

_guard = threading.Lock()
_users: list[object] = []
"""One per notebook under way."""
_open: list[tuple[Connection, SyncApp]] = []


@contextlib.contextmanager
def current_app() -> Iterator[SyncApp]:
    """The app that is connected in this process, else one that all notebooks which run at this time share."""
    for launcher in reversed(launch.connected()):
        if isinstance(launcher, SyncApp) and not any(launcher is app for _, app in _open):
            yield launcher
            return
    with _guard:
        if not _open:
            connection = connect(env=os.environ)
            _open.append((connection, connection.open()))
        me = object()
        _users.append(me)
        app = _open[0][1]
    try:
        yield app
    finally:
        with _guard:
            _users.remove(me)
            if not _users:
                _open.pop()[0].close()
