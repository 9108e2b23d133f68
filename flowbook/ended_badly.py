"""Ended badly: the exceptions that tell whoever waits for a run why it has no result.

Owns: `cancelled` and `failure`, from what this process saw of the end, else from the journal. Refuses: waiting for the
end (`App.result`) and results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from flowbook.errors import RecursionLimitReached, RunCancelled, RunTimedOut, StepFailed
from flowbook.plan.undoing import lines, notes
from flowbook.run.engine import Ended
from flowbook.run.undoing import has_compensations

if TYPE_CHECKING:
    from flowbook.app import App


async def cancelled(app: App, run_id: UUID, ended: Ended | None) -> RunCancelled:
    """That a run was cancelled, with what of it could not be undone."""
    told = RunCancelled(f"run {run_id} was cancelled")
    here = ended.run if ended else None
    said = notes(here) if here else ()
    if not here and has_compensations(await app._spec(await app.store.run(run_id))):
        said = lines((await app.view(run_id)).not_undone)
    for line in said:
        told.add_note(line)
    return told


async def failure(app: App, run_id: UUID, ended: Ended | None) -> BaseException:
    """Why a run failed: the step's own exception if it was raised here, else what the journal says of it."""
    cause = ended.exception if ended else None
    if isinstance(cause, Exception):
        return cause  # SystemExit, CancelledError and their like would end whoever asks
    view = await app.view(run_id)
    if view.failure is None:
        return StepFailed(f"run {run_id} failed")
    if view.failure.code == RunTimedOut.code:
        return RunTimedOut(view.failure.message)
    text = view.failure.traceback.rstrip() or f"{view.failure.type}: {view.failure.message}"
    kind = RecursionLimitReached if view.failure.code == RecursionLimitReached.code else StepFailed
    told = kind(f"run {run_id} failed at {view.failed_path or 'its start'}: {view.failure.message}\n{text}")
    for note in view.failure.notes:
        told.add_note(note)
    told.__cause__ = cause
    return told
