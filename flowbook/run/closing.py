"""Closing: how a run that is carried comes to its end, or is let go of before it.

Owns: what has to happen before the end, in order: what is under way is waited for or stopped, children are cancelled,
what was done is undone; parking, handing back and giving up. Refuses: deciding that a run ends (`plan/decide.py`), the
end of runs that nobody carries (`ending.py`), and the row of the end itself (`Runner._settle`).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, assert_never

from flowbook.plan.commands import CancelRun, CompleteRun, FailRun
from flowbook.plan.events import RunCancelled, RunCompleted, RunFailed
from flowbook.plan.records import Status
from flowbook.plan.undoing import is_owed, notes, undoing_of
from flowbook.ports import Settlement
from flowbook.run.ending import THE_PARENT, Ending, cancel_children, end_broken
from flowbook.run.failures import cut, one_line, raised, with_notes
from flowbook.run.loading import Loaded

if TYPE_CHECKING:
    from flowbook.run.runner import Runner


async def park(runner: Runner, until: datetime | None) -> Ending | None:
    """Leave a run to itself until a moment, or until it has mail; None: it has."""
    due_in = None if until is None else max(0.0, (until - runner.tools.clock.now()).total_seconds())
    ending = await release(runner, Status.WAITING, due_in, Ending.PARKED)
    # What has begun and was put aside leaves rows behind that are not folded in.
    if ending is not None and not runner._run.started and not runner.tools.always_suspend:
        runner.left = Loaded(runner._run, runner._shots, (), frozenset(), runner._given)
    return ending


async def release(runner: Runner, status: Status, due_in: float | None, ending: Ending) -> Ending | None:
    """Let go of a run that is not over; None: there is mail to be read."""
    settlement = Settlement(
        runner.row.id, runner.row.epoch, status, runner._seen_mail, outcomes=runner._bodies.laid_down(), due_in=due_in,
        current=runner._run.current, asks=runner._run.asks,
    )  # fmt: skip
    if await runner.tools.store.settle(settlement):
        return ending
    runner._unread = True
    return None


async def give_up(runner: Runner, error: Exception) -> None:
    """Fail a run that cannot be carried on, so that nobody tries again and again."""
    runner.exception = error
    if await end_broken(runner.tools.store, runner.row, error):
        runner._tell([], None)


async def close(runner: Runner, command: CompleteRun | FailRun | CancelRun) -> Ending | None:
    """Take the next step towards the end of a run; None: it is not there yet, and `decide` is to be asked again."""
    store, run_id = runner.tools.store, runner.row.id
    match command:
        case FailRun(until=until) if runner._tasks and not _is_past(runner, until):
            await runner._bodies.put_aside(waiting=True)
            if runner._tasks:
                # What is under way may finish and is kept: a retry of the run does not pay for it again.
                await runner._wait(until)
            return None
        case FailRun() | CancelRun() if await runner._stop_attempts():
            return None  # what had finished just before is recorded first
        case FailRun() | CancelRun() if is_owed(runner._run):
            undoing = undoing_of(command)
            await cancel_children(store, run_id, undoing.by or THE_PARENT)
            await runner._append([undoing])
            return None
        case FailRun(path, failure):
            if not path:  # its time is up, and so is that of its children
                await cancel_children(store, run_id, THE_PARENT)
            runner.exception = with_notes(runner._errors.get(path) or raised(failure), failure.notes)
            return await runner._settle(Status.FAILED, RunFailed(path, failure), one_line(path, failure))
        case CancelRun(by):
            await cancel_children(store, run_id, by)
            error = cut(f"cancelled by {by}", *notes(runner._run))
            return await runner._settle(Status.CANCELLED, RunCancelled(by), error)
        case CompleteRun():
            return await runner._settle(Status.COMPLETED, RunCompleted(), None)
        case _:
            assert_never(command)


def _is_past(runner: Runner, until: datetime | None) -> bool:
    return until is not None and until <= runner.tools.clock.now()
