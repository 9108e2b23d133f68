"""Sessions: a notebook on its way in this process.

Owns: which desk serves which run, `perform` (the body of every cell's step), and carrying a notebook out from its
first wanted cell to its end. Refuses: starting runs (`enrolling.py`) and messages (`client.py`).

Whoever starts or resumes a notebook's run with papermill serves it from his own thread. A run that nobody here serves
(a worker has claimed it, ``flowbook resume``) gets a thread of its own when its first cell is wanted.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from flowbook.capture import routing
from flowbook.errors import FlowbookError, KernelNotStarted
from flowbook.notebooks.cells import number_of
from flowbook.notebooks.desk import Desk, Job
from flowbook.notebooks.documents import Prepared
from flowbook.notebooks.glue import glued
from flowbook.notebooks.memory import Checkpoint, Checkpoints, Memory, Outputs
from flowbook.notebooks.records import CellRecord
from flowbook.notebooks.underway import Finished, Underway
from flowbook.plan.paths import node_of as node_of_path
from flowbook.run.context import Context

log = logging.getLogger("flowbook")

IDLE: Final = 60.0
"""Seconds after which a kernel of ours that nothing is asked of is stopped: somebody else has its run."""

_desks: dict[UUID, Desk] = {}
_guard = threading.Lock()


def serve(run_id: UUID, desk: Desk) -> None:
    """Let the cells of a run be executed at this desk, in this process."""
    with _guard:
        _desks[run_id] = desk


def release(run_id: UUID, desk: Desk) -> None:
    """Undo `serve`."""
    with _guard:
        if _desks.get(run_id) is desk:
            del _desks[run_id]


async def perform(ctx: Context) -> dict[str, Any]:
    """Have the cell of a step executed; the update of the run's state."""
    node = node_of_path(ctx.path)
    number = number_of(node)
    if ended := ctx.state.get("ended"):
        return {node: replace(SKIPPED, kept_from=f"cell {ended} ended the notebook").stored()}
    with _guard:
        desk = _desks.get(ctx.run_id)
        fresh = desk is None or desk.closed
        if desk is None or fresh:
            desk = _desks[ctx.run_id] = Desk()
    state = dict(ctx.state) if fresh else {}
    if fresh:
        house(ctx.run_id, desk, state, memory_of(state["checkpoint"], ctx.tools.store, ctx.tools.key))
    done: Finished = await desk.ask(Job(number, routing.current.get()))
    update: dict[str, Any] = {node: done.record.stored()}
    if done.results:
        update["results"] = dict(done.results)
    if done.record.exited:
        update["ended"] = number
    return update


SKIPPED: Final = CellRecord("", skipped=True)
"""Of a cell behind the one that ended the notebook."""


def house(run_id: UUID, desk: Desk, state: Mapping[str, Any], memory: Memory) -> None:
    """Carry a notebook out in a thread of its own, from what the state of its run says."""

    def carry() -> None:
        from flowbook.notebooks.housed import carried  # with papermill behind it: only who executes pays for it

        try:
            carried(run_id, desk, state, memory)
        except BaseException as error:
            desk.close(error if isinstance(error, FlowbookError) else _unstarted(error))
            if not isinstance(error, FlowbookError):
                log.debug("flowbook: notebook of run %s", run_id, exc_info=True)
        finally:
            desk.close()
            release(run_id, desk)

    threading.Thread(target=carry, name=f"flowbook-notebook-{run_id}", daemon=True).start()


@contextlib.contextmanager
def own_loop() -> Iterator[None]:
    """Close the event loop that nbclient makes for a thread; the main thread's is left as papermill leaves it."""
    try:
        yield
    finally:
        if threading.current_thread() is not threading.main_thread():
            from jupyter_core.utils import ensure_event_loop

            ensure_event_loop().close()


def carry_out(nb_man: Any, prepared: Prepared, underway: Underway, options: Mapping[str, Any]) -> bool:
    """Execute what is asked for; False: nothing was. Papermill's ``options`` for its client.

    Raises what ended the notebook, but not a cell's own exception: that is in the notebook. On return the desk is
    closed.
    """
    desk, done = underway.desk, underway.done
    try:
        underway.results |= glued(output for record in done.values() for output in record.outputs)
        job = desk.take(underway.patience)
        while job is not None and (kept := underway.kept.get(underway.cells[job.number - 1].chain)) is not None:
            done[job.number] = kept
            underway.results |= glued(kept.outputs)
            job.finish(Finished(kept, dict(underway.results)))
            job = desk.take(underway.patience)
        if job is None:
            return False
        underway.first = job
        with own_loop():
            _with_kernel(nb_man, prepared, underway, options)
        return True
    finally:
        desk.close()


def _with_kernel(nb_man: Any, prepared: Prepared, underway: Underway, options: Mapping[str, Any]) -> None:
    from flowbook.notebooks.client import CellClient, restore_all
    from flowbook.notebooks.kernels import forget, manager_for

    underway.restored_to = restore_all(nb_man, underway.cells, underway.done, underway.shown_id)
    client = manager = None
    try:
        manager = None if "kernel_manager_class" in options else manager_for(prepared.kernel)
        client = CellClient(nb_man, underway, km=manager, kernel_name=prepared.kernel, **options)
        client.owns_km = True
        client.execute(**({} if prepared.cwd is None else {"cwd": prepared.cwd}))
    except BaseException as error:
        if client is None or client.vitals is None:  # it never came to a cell
            underway.desk.close(_unstarted(error))
        raise
    finally:
        if client is not None and manager is not None:
            with contextlib.suppress(OSError):
                forget(manager)


def _unstarted(error: BaseException) -> KernelNotStarted:
    return KernelNotStarted(
        f"the notebook's kernel could not be started: {type(error).__name__}: {error}. `jupyter kernelspec list` shows "
        f"which kernels there are; -k names another one, --start-timeout gives it longer"
    )


def memory_of(checkpoint: Checkpoint, store: Any, key: bytes | None) -> Memory:
    """What keeps the variables of a notebook whose run is in this store; ``key``: this user's."""
    url = getattr(store, "url", None)  # of a store in memory there is none that a kernel could reach
    return Checkpoints(url, key) if checkpoint == "namespace" and url and key else Outputs()
