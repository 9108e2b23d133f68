"""Conversing: how a run that has stopped goes on, and what agents' runs have spent.

Owns: the retry of a failed run, with an edited state if somebody wants one, the next question of a conversation, the
replay of an agent's run with something else, and what is used of a shared budget.
Refuses: the loop of agents (`agents/`), other code for a failed run (`fixing.py`) and the rules of what a fork keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.errors import ReplayMissed, UsageError
from flowbook.graph.names import END
from flowbook.observe.transcripts import FIELDS
from flowbook.plan.records import Status
from flowbook.ports import RunRow, Spent
from flowbook.run.mail import once, retry_payload
from flowbook.run.undoing import check_retry, has_compensations

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.graph.flow import Graph
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


async def ask(app: App, run_id: UUID, question: Any, *, graph: Graph | None = None, **edits: Any) -> Run:
    """Ask an agent further: a run that begins where the conversation of this one has ended; a verb of `App`.

    Nothing is copied: it is a fork behind the end. ``graph``: the agent that answers, if it was declared anew.
    ``edits``: keys of the state (``budget``, ``model``, ``instructions``). Raises `UsageError` for a run that is no
    agent's, or is not answered yet.
    """
    row = await _conversation(app, run_id)
    if row.status is not Status.COMPLETED:
        how = "wait for its answer" if not row.status.over else "retry it, or fork it where it failed"
        raise UsageError(f"run {run_id} is {row.status}, so nothing can be asked behind its end: {how}")
    given = {"question": question, "turns": [], **edits}
    return await app.fork(run_id, at=END, edits=given, graph=graph)


async def replay(
    app: App,
    run_id: UUID,
    *,
    at: str | None = None,
    model: Any = None,
    instructions: str | None = None,
    live: bool = False,
) -> Run:
    """Run a conversation again with another model or other instructions; a verb of `App`.

    What was said before the first turn that would be asked otherwise is kept, and costs nothing: that turn is ``at``,
    by default the first one of the question. Without ``live=True`` no model is asked: a replay that differs nowhere
    from what was recorded is the run itself, any other raises `ReplayMissed`. Tools that the model calls are called.
    """
    row = await _conversation(app, run_id)
    changes = {k: v for k, v in (("model", model), ("instructions", instructions)) if v is not None}
    view = await app.view(run_id)
    asked = [s.path for s in view.steps if s.node == "ask_model" and "/" not in s.path]
    own = [s.path for s in view.steps if s.path in asked and not s.kept]
    if not changes and at is None:
        if row.status is Status.COMPLETED:
            await app.state(run_id)  # folded from its journal, or it says what is damaged
            return await app.resume(run_id)
        at = asked[-1] if asked else None
    at = at or next(iter(own or asked), None)
    if at is None:
        raise UsageError(f"run {run_id} has asked no model yet, so there is nothing to replay")
    if not live:
        known = asked.index(at) if at in asked else len(asked)
        raise ReplayMissed(
            f"run {run_id} has no answer to what would be asked at {at}"
            f"{' with another ' + ' and '.join(changes) if changes else ''}: {known} turns before it are recorded, "
            f"{len(asked) - known} would be asked anew. Say live=True to have a model asked"
        )
    return await app.fork(run_id, at=at, edits=changes)


async def _conversation(app: App, run_id: UUID) -> RunRow:
    row = app._ours(await app.store.run(run_id))
    fields = ((await app._spec(row)).get("state") or {}).get("fields") or {}
    if not fields.keys() >= FIELDS:
        raise UsageError(f"run {run_id} is of flow {row.flow!r}, which is no agent")
    return row
