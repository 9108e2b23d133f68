"""Saving: papermill's metadata and its output file, which never say more than is true.

Owns: `TrueManager`. Refuses: executing. Papermill's own manager calls every cell that nobody told it of "completed" at
the end, also when the kernel never started or has died under another cell.
"""

from __future__ import annotations

from typing import Any

from papermill.engines import NotebookExecutionManager

from flowbook.notebooks.records import CellRecord

_RESTORED = {"status": "completed", "exception": False}


class TrueManager(NotebookExecutionManager):
    """Papermill's manager of one execution, with cells that an earlier execution has finished."""

    output_path: str | None

    def notebook_complete(self, **kwargs: Any) -> None:
        """See papermill; a cell that was not executed stays "pending", one that was under way has "failed"."""
        pending = [cell for cell in self.nb.cells if cell.metadata.papermill["status"] == self.PENDING]
        for cell in self.nb.cells:
            if cell.metadata.papermill["status"] == self.RUNNING:
                self.cell_exception(cell)
        for cell in pending:
            cell.metadata.papermill["status"] = "not executed"  # out of the way of what papermill makes of pending
        held, self.output_path = self.output_path, None  # saved below, once it is true
        try:
            super().notebook_complete(**kwargs)
        finally:
            self.output_path = held
        for cell in pending:
            cell.metadata.papermill["status"] = self.PENDING
        self.save()

    def cell_restored(self, cell: Any, record: CellRecord | None, run: str = "") -> None:
        """Put in place what a cell has left; None: it is text. Does not save: many of them come at once."""
        said = cell.metadata.papermill
        said.update(_RESTORED)
        if record is not None:
            said["start_time"], said["end_time"] = (time or None for time in record.times)
            said["duration"] = record.seconds
            cell.metadata["flowbook"] = {"restored": True, "run": record.kept_from or run}
        if self.pbar:
            self.pbar.update(1)
