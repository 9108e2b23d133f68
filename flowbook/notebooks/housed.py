"""Housed: a notebook whose run was not started by papermill, carried out in a thread of this process.

Owns: its output file and its end. Refuses: cells (`client.py`). What papermill does around an execution is done here
with papermill's own parts, but without changing the process' working directory: notebooks run beside each other.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from papermill.exceptions import PapermillExecutionError
from papermill.execute import raise_for_execution_errors
from papermill.iorw import write_ipynb

from flowbook.notebooks.desk import Desk
from flowbook.notebooks.documents import Prepared
from flowbook.notebooks.memory import Memory
from flowbook.notebooks.records import records_in
from flowbook.notebooks.saving import TrueManager
from flowbook.notebooks.sessions import IDLE, carry_out
from flowbook.notebooks.underway import Underway

log = logging.getLogger("papermill")


def carried(run_id: UUID, desk: Desk, state: Mapping[str, Any], memory: Memory) -> None:
    """Carry out the notebook of a run, whose state is ``state``. Raises what ended it, but no cell's exception."""
    prepared = Prepared.from_stored(state)
    underway = Underway(
        run_id, prepared.cells, desk, memory, checkpoint=prepared.checkpoint, wanted=prepared.wanted,
        done=records_in(state), results=dict(state.get("results") or {}), patience=IDLE,
    )  # fmt: skip
    manager = manager_of(prepared)
    manager.notebook_start()
    try:
        carry_out(manager, prepared, underway, client_options(prepared))
    finally:
        manager.notebook_complete()
    written(manager.nb, prepared.output)


def manager_of(prepared: Prepared) -> TrueManager:
    """Papermill's manager of an execution whose progress is shown by the run."""
    if prepared.output is not None and "://" not in prepared.output and prepared.output != "-":
        Path(prepared.output).parent.mkdir(parents=True, exist_ok=True)
    return TrueManager(prepared.fresh(), output_path=prepared.output, progress_bar=False)


def client_options(prepared: Prepared) -> dict[str, Any]:
    """For papermill's client."""
    return {
        "startup_timeout": prepared.start_timeout, "timeout": prepared.cell_timeout, "log": log,
        "store_widget_state": False,
    }  # fmt: skip


def written(nb: Any, output: str | None) -> None:
    """Write the executed notebook, with papermill's marks where a cell has raised."""
    try:
        raise_for_execution_errors(nb, output)
    except PapermillExecutionError:
        return  # it has been written with its marks, and the run says the same
    write_ipynb(nb, output)
