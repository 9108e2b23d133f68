"""Conversing: how a run that has stopped goes on, and what agents' runs have spent.

Owns: the retry of a failed run, with an edited state if somebody wants one, and what is used of a shared budget.
Refuses: the loop of agents (`agents/`), other code for a failed run (`fixing.py`) and the rules of what a fork keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.errors import UsageError
from flowbook.plan.records import Status
from flowbook.ports import Spent
from flowbook.run.mail import once, retry_payload
from flowbook.run.undoing import check_retry, has_compensations

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.handle import Run


async def retry(
    app: App,
    run_id: UUID,
    *,
    by: str = "user",
    recursion_limit: int | None = None,
    edits: Mapping[str, Any] | None = None,
    mark: str = "",
) -> Run:
    """Carry a failed run on from the step that failed it; one whose compensations failed, with those. A verb of `App`.

    ``recursion_limit``: how often a node may be reached from now on; None: as often as before. ``edits``: keys of the
    state that are set before, as by `fork`. Raises `UsageError` if it has not failed, `RunUndone` if all that it had
    done was undone.
    """
    from flowbook import handle  # it knows apps

    before = app._ours(await app.store.run(run_id))
    if before.status is Status.FAILED and has_compensations(await app._spec(before)):
        view = await app.view(run_id)
        check_retry(run_id, view.failed_path, view.undone, view.not_undone)
    if edits:
        from flowbook import travel  # 15 ms: only who travels pays for it

        edits = await travel.retry_edits(app, before, edits)
    payload = retry_payload(recursion_limit, edits or {})
    row = await app.store.send(run_id, "retry", by, payload, token=once(run_id, mark))
    if row.status.over:
        raise UsageError(f"run {run_id} is {row.status}, and only a failed run is retried")
    if app.engine.knows(row.fingerprint):
        await app.engine.resume(run_id)
    return handle.Run(app, run_id)


async def spent(app: App, budget: str) -> Spent:
    """What the runs of this namespace have used of a budget that they share; a verb of `App`."""
    return await app.store.budgets.spent(app.options.namespace, budget)
