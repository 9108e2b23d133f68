"""The engine: papermill's one hook, and this door's view of the environment.

Owns: `FlowbookEngine` (entry point ``papermill.engine``: ``flowbook``), the environment variables of papermill jobs,
and one connection for all notebooks of a process. Refuses: all that papermill does itself, and cells.

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

from papermill.engines import NBClientEngine
from papermill.log import logger
from papermill.utils import remove_args

from flowbook.connecting import Connection, connect
from flowbook.graph import launch
from flowbook.notebooks.client import restore_all
from flowbook.notebooks.desk import Desk
from flowbook.notebooks.documents import Prepared, of_node
from flowbook.notebooks.enrolling import Enrolled, enrol
from flowbook.notebooks.memory import Checkpoint, known_checkpoint
from flowbook.notebooks.saving import TrueManager
from flowbook.notebooks.sessions import carry_out, memory_of, release
from flowbook.notebooks.underway import Underway
from flowbook.sync import SyncApp


class FlowbookEngine(NBClientEngine):
    """Papermill's nbclient engine, with each cell as a step of a durable run."""

    @classmethod
    def execute_notebook(
        cls, nb: Any, kernel_name: str, output_path: str | None = None, progress_bar: Any = True,
        log_output: bool = False, autosave_cell_every: int = 30, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """See papermill; with a manager that never says more than is true."""
        manager = TrueManager(
            nb, output_path=output_path, progress_bar=progress_bar, log_output=log_output,
            autosave_cell_every=autosave_cell_every,
        )  # fmt: skip
        manager.notebook_start()
        try:
            cls.execute_managed_notebook(manager, kernel_name, log_output=log_output, **kwargs)
        finally:
            manager.cleanup_pbar()
            manager.notebook_complete()
        return manager.nb

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, log_output: bool = False, stdout_file: Any = None, stderr_file: Any = None,
        start_timeout: int = 60, execution_timeout: int | None = None, run_key: str | None = None,
        checkpoint: str | None = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        """See papermill. ``run_key`` and ``checkpoint``: see above."""
        limit = execution_timeout or kwargs.get("timeout")
        prepared = of_node(
            nb_man.nb, kwargs.pop("input_path", None), nb_man.output_path, kernel_name, start_timeout=start_timeout,
            cell_timeout=limit, checkpoint=checkpoint_of(checkpoint),
        )  # fmt: skip
        if not prepared.cells:
            return super().execute_managed_notebook(
                nb_man, kernel_name, log_output, stdout_file, stderr_file, start_timeout, execution_timeout, **kwargs
            )
        options = {
            **remove_args(["timeout", "startup_timeout"], **kwargs), "timeout": limit,
            "startup_timeout": start_timeout, "log": logger, "log_output": log_output, "stdout_file": stdout_file,
            "stderr_file": stderr_file,
        }  # fmt: skip
        with current_app() as app:
            run_in(app, nb_man, prepared, run_key or os.environ.get("FLOWBOOK_RUN_KEY") or None, options)
        return nb_man.nb


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
        run_id, prepared.cells, desk, memory_of(prepared), key, prepared.checkpoint, prepared.wanted,
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
    from flowbook.ids import short
    from flowbook.notebooks.records import records_in

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
