"""Fix and continue: the step that failed, in a cell.

Owns: the text of that cell, and which functions of the notebook take the place of a flow's steps. Refuses: what becomes
of the run (`flowbook/fixing.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowbook import fixing
from flowbook.errors import FlowbookError
from flowbook.graph.changes import same_topology
from flowbook.graph.flow import Graph
from flowbook.graph.source import describe
from flowbook.ids import short
from flowbook.jupyter.mistakes import brief, usage
from flowbook.plan.paths import node_of
from flowbook.travel import code_of

if TYPE_CHECKING:
    from flowbook.fixing import Entered
    from flowbook.jupyter.session import Session
    from flowbook.sync import SyncRun


def enter_cell(session: Session, run: SyncRun, path: str | None) -> None:
    """Put a step into a new cell below this one."""
    if session.displays.headless:
        raise usage("%flow enter makes a new cell, and there is no page here to make it on")
    entered = _entered(session, run, path)
    session.ip.set_next_input(text_of(run, entered), replace=False)


def values(session: Session, run: SyncRun, path: str | None) -> Any:
    """What a step was given: the value itself if it is one, else a tuple in the order of its parameters."""
    given = tuple(_entered(session, run, path).inputs.values())
    return given[0] if len(given) == 1 else given


def text_of(run: SyncRun, entered: Entered) -> str:
    """The cell: inputs, source, and what to do next."""
    name = short(run.id)
    lines = [f"# {entered.path} of run {name}: fix it, run this cell, then  %flow continue {name}"]
    if entered.inputs:
        lines.append(f"{', '.join(entered.inputs)} = %flow inputs {name} {entered.path}")
    lines += ["", entered.source.rstrip() or f"# the source of {entered.node} is not stored: define it here"]
    if entered.source and entered.function != entered.node:
        lines.append(f"{entered.node} = {entered.function}")
    return "\n".join(lines) + "\n"


def go_on(session: Session, run: SyncRun) -> str:
    """Carry a failed run on with the step as the notebook has it now, and bind the flow with it; what was changed."""
    app = session.app.app

    async def graph_now() -> tuple[Graph, str | None]:
        row = await app.store.run(run.id)
        pinned = await code_of(app, row)
        here = session.flows.get(row.flow)
        if here is not None and same_topology(describe(pinned).spec, describe(here).spec):
            pinned = here  # its cell may have been edited as well
        return pinned, (await app.view(run.id)).failed_path

    try:
        base, path = session.app.portal.call(graph_now())
        node = node_of(path or "")
        mine = {node: session.namespace[node]} if node in base.nodes and node in session.namespace else {}
        fixed = fixing.refitted(base, mine)
        different = session.app.portal.call(fixing.proceed(app, run.id, fixed))
    except FlowbookError as error:
        raise brief(error) from None
    if session.namespace.get(fixed.name) is base or fixed.name in session.flows:
        session.bind(fixed)
    return f"run {short(run.id)} goes on from {path} with other code: {'; '.join(different)}"


def _entered(session: Session, run: SyncRun, path: str | None) -> Entered:
    try:
        return session.app.portal.call(fixing.enter(session.app.app, run.id, path))
    except FlowbookError as error:
        raise brief(error) from None
