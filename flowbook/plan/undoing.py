"""Undoing: compensating what a run has done, before it ends as failed or cancelled.

Owns: the paths of compensations, what is to be undone next, and what an event changes while things are undone. Refuses:
running compensations and the state that they see (`run/undoing.py`).

A run that has failed for good, has run out of time or was cancelled stays *running* until what it did is undone: its
finished steps that have a compensation, the last one that finished first, one at a time. Its fate is written down
before the first one (`UndoingBegan`), so nothing that comes later changes it: neither a crash nor a cancel nor a
compensation that fails. That one is told beside the first error and not in its place, and the others are still undone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from flowbook.graph.flow import Graph
from flowbook.plan.commands import CancelRun, Command, FailRun, StartStep, WaitUntil
from flowbook.plan.events import AttemptFailed, StepFinished, StepStarted, UndoingBegan
from flowbook.plan.journal import Entry, Kind
from flowbook.plan.paths import node_of
from flowbook.plan.records import NO_TROUBLE, UNKNOWN, Failure, Run, Undoing

_TAIL = "/compensation#1"
_T = TypeVar("_T")


def undo_path(path: str) -> str:
    """The path of what undoes the step at ``path``."""
    return path + _TAIL


def undone_by(path: str) -> str | None:
    """The path of the step that is undone at ``path``; None: it is no compensation's path."""
    return path.removesuffix(_TAIL) if path.endswith(_TAIL) else None


def is_owed(run: Run) -> bool:
    """True if something has to be undone before the run may end badly, and that has not begun."""
    return bool(run.done) and run.undoing is None


def undoing_of(command: FailRun | CancelRun) -> UndoingBegan:
    """What is written down before the first compensation: how the run is going to end."""
    if isinstance(command, FailRun):
        return UndoingBegan(command.path, command.failure)
    return UndoingBegan("", None, command.by)


def left_to_undo(run: Run) -> tuple[str, ...]:
    """Paths of the steps that are still to be undone, in order; not those whose compensation has failed for good."""
    if run.undoing is None:
        return ()
    undone, troubles = run.undoing.undone, run.troubles
    return tuple(
        path
        for path in reversed(run.done)
        if path not in undone and not troubles.get(undo_path(path), NO_TROUBLE).final
    )


def not_undone(run: Run) -> Mapping[str, Failure]:
    """Path of a step -> why its compensation failed for good."""
    found = {path: run.troubles.get(undo_path(path), NO_TROUBLE) for path in reversed(run.done)}
    return {path: t.failure or UNKNOWN for path, t in found.items() if t.final}


def undo(run: Run, now: datetime) -> tuple[Command, ...]:
    """What a run wants done that is being undone: the next compensation, else its end. It has no time limit."""
    assert run.undoing is not None
    for path in left_to_undo(run)[:1]:
        trouble = run.troubles.get(undo_path(path), NO_TROUBLE)
        if trouble.retry_at is not None and trouble.retry_at > now:
            return (WaitUntil(trouble.retry_at),)  # those before it wait with it: the order is kept
        return (StartStep(undo_path(path), "", node_of(path), trouble.attempts + 1, undoes=path),)
    if run.undoing.failure is None:
        return (CancelRun(run.undoing.by),)
    return (FailRun(run.undoing.path, noted(run.undoing.failure, run)),)


def noted(failure: Failure, run: Run) -> Failure:
    """The first error, with what could not be undone said beside it."""
    return replace(failure, notes=notes(run))


def notes(run: Run) -> tuple[str, ...]:
    """One line per compensation that failed for good."""
    return lines(not_undone(run))


def lines(failed: Mapping[str, Failure]) -> tuple[str, ...]:
    """What is said of compensations that failed for good; path of the step -> why."""
    return tuple(f"{p} was not undone, its compensation failed: {f.type}: {f.message}" for p, f in failed.items())


def undone_in(entries: Iterable[Entry]) -> frozenset[str]:
    """Paths of the steps that a journal says were undone."""
    rest = itertools.dropwhile(lambda entry: entry.kind is not Kind.UNDOING, entries)
    return frozenset(undone_by(entry.path) or "" for entry in rest if entry.kind is Kind.FINISHED)


def applied(run: Run, event: UndoingBegan | StepStarted | StepFinished | AttemptFailed, seq: int) -> Run:
    """The run after an event of its undoing: it moves no token and changes no state."""
    if isinstance(event, UndoingBegan):
        return replace(run, seq=seq, undoing=Undoing(event.path, event.failure, event.by))
    assert run.undoing is not None
    path = event.path
    match event:
        case StepStarted(attempt=attempt):
            return replace(run, seq=seq, started={**run.started, path: attempt})
        case StepFinished():
            undone = run.undoing.undone | {undone_by(path) or path}
            undoing = replace(run.undoing, undone=undone)
            troubles, started = _without(run.troubles, path), _without(run.started, path)
            return replace(run, seq=seq, undoing=undoing, troubles=troubles, started=started)
        case AttemptFailed(failure=failure, lost=lost, final=final, retry_at=retry_at):
            old = run.troubles.get(path, NO_TROUBLE)
            trouble = old.worse(failure, lost=lost, final=final, retry_at=retry_at)
            return replace(run, seq=seq, troubles={**run.troubles, path: trouble}, started=_without(run.started, path))


def undoer(graph: Graph, path: str) -> str | None:
    """The node whose compensation runs at ``path``; None: no compensation does."""
    of = undone_by(path)
    node = node_of(of) if of else ""
    return node if node in graph.compensations else None


def _without(mapping: Mapping[str, _T], key: str) -> Mapping[str, _T]:
    return {k: v for k, v in mapping.items() if k != key}
