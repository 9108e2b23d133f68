"""The client: papermill's, driven by the steps of a run.

Owns: `CellClient`: executing the cells that a desk asks for, restoring those that have finished, and telling how a cell
or a kernel has ended. Refuses: deciding what is executed (the run does) and keeping it (the run does).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat.v4 import new_output
from papermill.clientwrap import PapermillNotebookClient

from flowbook.capture.routing import portable
from flowbook.errors import CellFailed, FlowbookError, KernelDied
from flowbook.ids import short
from flowbook.notebooks.cells import Cell
from flowbook.notebooks.desk import Desk, Job
from flowbook.notebooks.glue import glued
from flowbook.notebooks.kernels import Vitals
from flowbook.notebooks.memory import Memory
from flowbook.notebooks.records import CellRecord
from flowbook.notebooks.underway import Finished, Underway

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class DeadKernel(KernelDied, DeadKernelError):
    """`KernelDied`, for those who know nbclient's name for it (papermill exits with 138)."""


class CellClient(PapermillNotebookClient):
    """Executes the cells that are asked for, and no other."""

    def __init__(self, nb_man: Any, underway: Underway, **kw: Any) -> None:
        super().__init__(nb_man, **kw)
        self.underway = underway
        self.desk: Desk = underway.desk
        self.memory: Memory = underway.memory
        self._steps: Mapping[int, Cell] = {cell.index: cell for cell in underway.cells}
        self._job: Job | None = None
        self.vitals: Vitals | None = None

    # -- all cells -----------------------------------------------------------------------------------------------------

    def papermill_execute_cells(self) -> None:
        """See papermill: the cells in their order, each when its step asks for it."""
        self.vitals = Vitals(self.km)
        self.desk.interrupt = self.vitals.interrupt
        self.memory.begin(self.call)
        self._go_on()
        try:
            self._all()
        finally:
            if self.vitals.exit is None:  # also behind a cell that raised: what stands before it is kept
                self.memory.end()

    def _all(self) -> None:
        for index, cell in enumerate(self.nb.cells):
            step = self._steps.get(index)
            if step is None:
                if index >= self.underway.restored_to:
                    self.nb_man.cell_start(cell, index)
                    self.nb_man.cell_complete(cell, cell_index=index)
            elif step.number not in self.underway.done:
                job = self._next(step)
                if job is None or not self._execute(step, job):
                    break

    def _go_on(self) -> None:
        """Make the kernel what it was behind the last finished cell."""
        done = self.underway.done
        if not done:
            return
        lost = self.memory.go_on(self.underway.cells, done, self._again)
        if lost:
            names = "; ".join(f"{name} ({why})" for name, why in lost.items())
            self.log.warning("flowbook: not restored, and an error if it is used: %s", names)
            self.nb.metadata.setdefault("flowbook", {})["lost"] = dict(lost)
        self.nb_man.save()

    def _again(self, step: Cell) -> None:
        """Execute a finished cell for what it leaves in the kernel. Its outputs stay as they were."""
        cell = self.nb.cells[step.index]
        before = cell.outputs, cell.execution_count
        self.log.info("flowbook: cell %s is run again, for what it leaves in the kernel", step.number)
        try:
            self.execute_cell(cell, step.index, store_history=False)
        except CellExecutionError as error:
            failed = CellFailed(f"{self._named(step)} was run again in a new kernel, and raised {_raised(error)}")
            self.desk.close(failed)
            raise failed from None
        except DeadKernelError:
            raise self._died(step) from None
        finally:
            self.nb.cells[step.index].update(outputs=before[0], execution_count=before[1])

    def _next(self, step: Cell) -> Job | None:
        """The job that asks for a cell; None: nobody does any more."""
        job = self.underway.first or self.desk.take(self.underway.patience)
        self.underway.first = None
        while job is not None and job.number < step.number:  # asked for twice: by a run that was carried on elsewhere
            job.finish(Finished(self.underway.done[job.number]))
            job = self.desk.take(self.underway.patience)
        return job

    # -- one cell ------------------------------------------------------------------------------------------------------

    def _execute(self, step: Cell, job: Job) -> bool:
        """Do a job; False: the notebook ends with it."""
        cell = self.nb.cells[step.index]
        self._job = job
        began = time.monotonic()
        try:
            self.nb_man.cell_start(cell, step.index)
            assert self.vitals is not None
            self.vitals.look()
            self.memory.before(step)
            self.execute_cell(cell, step.index)
            said = self.memory.after(step)
            self._finished(step, job, time.monotonic() - began, said)
        except CellExecutionError as error:
            self.nb_man.cell_exception(cell, cell_index=step.index, exception=error)
            if error.ename == "SystemExit" and error.evalue in ("", "0"):
                self._finished(step, job, time.monotonic() - began, {}, exited=True)
            else:
                job.fail(self._failed(step, error))
            return False
        except DeadKernelError:
            died = self._died(step)
            self._mark(cell, step, died)
            job.fail(KernelDied(died.message))
            raise died from None
        except BaseException as error:  # a time limit, Ctrl-C, an error of flowbook's own
            self._mark(cell, step, error)
            job.fail(error if isinstance(error, FlowbookError) else self._stopped(step, error))
            raise
        finally:
            if self.vitals is not None:
                self.vitals.heard()
            self._job = None
            self.nb_man.cell_complete(self.nb.cells[step.index], cell_index=step.index)
        return True

    def _finished(self, step: Cell, job: Job, seconds: float, said: Mapping[str, Any], *, exited: bool = False) -> None:
        cell = self.nb.cells[step.index]
        began, ended = cell.metadata.papermill.get("start_time") or "", self.nb_man.now().isoformat()
        kept = self.underway.keeps_outputs
        record = CellRecord(
            step.chain, cell.execution_count, [dict(o) for o in cell.outputs] if kept else (), seconds,
            (began, ended), said, exited=exited,
        )  # fmt: skip
        self.underway.results = {**self.underway.results, **glued(cell.outputs)}
        if step.number == len(self.underway.cells) or exited:
            self.underway.results |= self.underway.asked_for(self.call)
        self.underway.done[step.number] = record
        job.finish(Finished(record, self.underway.results))

    def _mark(self, cell: Any, step: Cell, error: BaseException) -> None:
        """Say in the notebook what ended this cell: nothing in it does."""
        self.nb_man.cell_exception(cell, cell_index=step.index, exception=error)
        told = error.message if isinstance(error, FlowbookError) else str(error)
        name = "KernelDied" if isinstance(error, KernelDied) else type(error).__name__
        cell.outputs.append(new_output("error", ename=name, evalue=told, traceback=[f"{name}: {told}"]))

    # -- words ---------------------------------------------------------------------------------------------------------

    def _named(self, step: Cell) -> str:
        return f"cell {step.number} of {len(self.underway.cells)} (`{step.shown}`)"

    def _failed(self, step: Cell, error: CellExecutionError) -> CellFailed:
        failed = CellFailed(f"{self._named(step)} raised {_raised(error)}")
        failed.__dict__["__flowbook_traceback__"] = _COLOURS.sub("", error.traceback)
        return failed

    def _stopped(self, step: Cell, error: BaseException) -> CellFailed:
        told = str(error).strip() or type(error).__name__
        return CellFailed(f"{self._named(step)} was stopped: {told}. {self._way_on(step)}")

    def _died(self, step: Cell) -> DeadKernel:
        assert self.vitals is not None
        return DeadKernel(f"{self.vitals.death()}. It was at {self._named(step)}. {self._way_on(step)}")

    def _way_on(self, step: Cell) -> str:
        before = step.number - 1
        kept = "" if before < 1 else "Cell 1 is kept. " if before == 1 else f"Cells 1 to {before} are kept. "
        key = f", or the same call with run key {self.underway.key!r}," if self.underway.key else ""
        resume = f"`flowbook resume {short(self.underway.run_id)}`"
        return f"{kept}{resume}{key} goes on at cell {step.number} in a new kernel"

    # -- the kernel ----------------------------------------------------------------------------------------------------

    def call(self, code: str, expression: str) -> str:
        """Run code in the kernel, unseen; the text of an expression then. Raises `DeadKernelError`, RuntimeError."""
        assert self.kc is not None
        asked = self.kc.execute(
            code, silent=True, store_history=False, user_expressions={"it": expression}, allow_stdin=False
        )
        reply = self.wait_for_reply(asked)
        content: Mapping[str, Any] = reply["content"] if reply else {}
        found = content.get("user_expressions", {}).get("it", {})
        if content.get("status") != "ok" or found.get("status") != "ok":
            wrong = found if found.get("status") == "error" else content
            raise RuntimeError(f"{wrong.get('ename', 'no answer')}: {wrong.get('evalue', '')}")
        return str(found["data"]["text/plain"])

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """See papermill; what it brings is also for those who look at the run."""
        if self._job is not None and self._job.shelf is not None:
            _show(self._job, msg)
        return super().process_message(msg, cell, cell_index)

    async def _async_check_alive(self) -> None:
        if self.vitals is not None:
            self.vitals.look()
        await super()._async_check_alive()


def restore(nb_man: Any, cell: Any, record: CellRecord, run: str) -> None:
    """Put in place what a finished cell has left."""
    import nbformat

    cell.outputs = [nbformat.from_dict(output) for output in record.outputs]
    cell.execution_count = record.execution_count
    nb_man.cell_restored(cell, record, run)


def restore_all(nb_man: Any, cells: Sequence[Cell], done: Mapping[int, CellRecord], run: str) -> int:
    """Put the finished cells in place, and the text before them; the index behind the last one."""
    last = max((cell.index for cell in cells if cell.number in done), default=-1)
    if len(done) == len(cells):
        last = len(nb_man.nb.cells) - 1  # the text at the end as well
    steps = {cell.index: cell for cell in cells}
    for index, cell in enumerate(nb_man.nb.cells[: last + 1]):
        if index not in steps:
            nb_man.cell_restored(cell, None)
        elif steps[index].number in done:
            restore(nb_man, cell, done[steps[index].number], run)
    if last >= 0:
        nb_man.save()
    return last + 1


def _raised(error: CellExecutionError) -> str:
    return f"{error.ename}: {error.evalue}" if error.evalue else str(error.ename)


def _show(job: Job, msg: Mapping[str, Any]) -> None:
    shelf, content = job.shelf, msg["content"]
    assert shelf is not None
    match msg["msg_type"]:
        case "stream":
            shelf.write("stderr" if content.get("name") == "stderr" else "stdout", content.get("text", ""))
        case "display_data" | "execute_result" | "update_display_data":
            name = str((content.get("transient") or {}).get("display_id") or "")
            if kept := portable(content.get("data")):
                shelf.display(kept, content.get("metadata") or {}, name)
        case "error":
            shelf.write("stderr", _COLOURS.sub("", "\n".join(content.get("traceback") or ())) + "\n")
        case _:
            pass
