"""Changing code: what becomes of a run whose flow was edited since it began.

Owns: `resume` and `attach` with their ``on_change=``, and the exact report of what changed. Refuses: the comparison
(`graph/changes.py`), other code for a failed run (`fixing.py`), a run that reuses (`planning.py`).

A run is pinned to the version that it began with, and several versions are carried side by side: which one a process
has declared last makes no difference to the runs of the others. ``on_change`` says what to do where the run's own
version is not registered here:

    own      it goes on under its own version, built from its stored source if this user's key has signed it
    refuse   it is left as it is, and the error says what changed
    new      a failed run goes on with the version that is here, from the step that failed it
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from flowbook.errors import CodeMissing, NotPortable, SignatureRefused, UsageError
from flowbook.graph.changes import changes
from flowbook.graph.source import describe
from flowbook.handle import Run
from flowbook.naming import rebuilt
from flowbook.plan.records import Status
from flowbook.ports import NewRun, RunRow
from flowbook.run.ending import hand_back
from flowbook.run.starting import code_changed, same_input

if TYPE_CHECKING:
    from flowbook.app import App

OnChange = Literal["own", "refuse", "new"]
WAYS = ("own", "refuse", "new")


async def resume(app: App, run_id: UUID, *, on_change: OnChange = "own") -> Run:
    """Carry on a run that nobody carries. A live worker's run is left with it.

    ``on_change``: what to do if its own version of the code is not registered here: ``own`` builds it from its stored
    source, ``refuse`` does not, ``new`` gives a failed run the version that is here. Raises `CodeMissing` with what
    changed, `UsageError`.
    """
    row = app._ours(await app.store.run(run_id))
    _known(on_change)
    if on_change == "new" and not row.status.over:
        raise UsageError(
            f"run {run_id} is {row.status}, and only a failed run goes on with other code: finish it under its own "
            f'version (on_change="own"), or fork it'
        )
    if row.status is Status.FAILED:
        here = app.engine.newest(row.flow)
        if on_change == "new" and here is not None and here.fingerprint != row.fingerprint:
            from flowbook import fixing  # 15 ms: only who changes code pays for it

            await fixing.proceed(app, run_id, here)
            return Run(app, run_id)
        with contextlib.suppress(CodeMissing):  # it is pending then, and says what it needs
            await _supplied(app, row, on_change)
        return await app.retry(run_id)
    await _supplied(app, row, on_change)
    await app.engine.resume(run_id)
    return Run(app, run_id)


async def attach(app: App, row: RunRow, new: NewRun, on_change: OnChange, *, carry: bool = True) -> None:
    """Attach to the run that has the key of a start; without ``carry`` it is left to others. Raises `KeyConflict`,
    `CodeMissing`.
    """
    same_input(row, new)
    _known(on_change)
    if on_change == "new" and row.status is Status.FAILED and row.fingerprint != new.fingerprint:
        await resume(app, row.id, on_change="new")
        return
    if row.status.over or not carry:
        return
    if row.fingerprint != new.fingerprint and not app.engine.knows(row.fingerprint):
        if not await _is_orphan(app, row):
            return
        if on_change != "own":
            raise CodeMissing(await code_changed(app.store, row, new))
        await _supplied(app, row, on_change)
    await app.engine.resume(row.id)


async def report(app: App, row: RunRow) -> str:
    """What changed in a flow since a run began, beside the version that is here; empty: none is, or nothing."""
    here = app.engine.newest(row.flow)
    if here is None or here.fingerprint == row.fingerprint:
        return ""
    found = changes(await app.definition(row), describe(here)) or ("its code is another one",)
    return f"it began with version {row.version}, and the one that is here is another: {'; '.join(found)}"


async def _supplied(app: App, row: RunRow, on_change: OnChange) -> None:
    """Register a run's own version. Raises `CodeMissing` with what changed and why it cannot be built."""
    if row.status in (Status.COMPLETED, Status.CANCELLED) or app.engine.knows(row.fingerprint):
        return
    why = "it is not to be built from its stored source (on_change='refuse')"
    if on_change != "refuse":
        try:
            await app.register(rebuilt(app, await app.definition(row)))
            return
        except (NotPortable, SignatureRefused) as error:
            why = error.message
    changed = await report(app, row)
    raise CodeMissing(
        f"run {row.id} needs the code of flow {row.flow!r} as it was (version {row.version}, {row.fingerprint[:8]}), "
        f"and it is not registered here{f': {changed}' if changed else ''}. {why}. Run the cell or module that "
        f"declares it, or use `flowbook resume {row.id} --from-source`"
    )


async def _is_orphan(app: App, row: RunRow) -> bool:
    """True if nobody carries a run and nobody will: no live worker has it or serves its code."""
    if row.fingerprint in await app.store.served():
        return False
    taken = await app.store.claim(frozenset({row.fingerprint}), namespace=row.namespace, only=row.id)
    for own in taken:  # it could be had, so nobody has it: back it goes
        await hand_back(app.store, own)
    return bool(taken)


def _known(on_change: str) -> None:
    if on_change not in WAYS:
        raise UsageError(f"on_change={on_change!r} is none of {', '.join(map(repr, WAYS))}")
