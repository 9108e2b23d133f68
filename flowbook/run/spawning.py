"""Spawning: what is done for the children that bodies have asked for.

Owns: `cared_for`, which begins a child, has it retried, and makes its end the outcome of the call. Refuses: the call
itself (`spawned.py`), what holds a run and its children together (`children.py`) and recording (`runner.py`).
"""

from __future__ import annotations

from datetime import datetime

from flowbook.errors import StoreError
from flowbook.plan.commands import RunChild, StartStep
from flowbook.plan.events import ChildStarted
from flowbook.plan.records import Run
from flowbook.run.attempts import Outcome
from flowbook.run.called import at_once
from flowbook.run.calls import Wanted
from flowbook.run.children import Children


async def cared_for(
    children: Children, wanted: Wanted, command: RunChild, run: Run, now: datetime
) -> ChildStarted | Outcome | None:
    """What a spawned child wants now; None: nothing before there is news of it. Writes nothing to the journal."""
    path, flow, child = command.path, wanted.flow, run.children.get(command.path)
    assert flow is not None
    given = wanted.input or {}
    if child is not None and not child.again and children.alive(path, run):
        return None
    try:
        if child is None:
            if wanted.key is not None:
                return await children.attach(path, flow, given, wanted.key)
            return await children.begin(path, flow, given)
        await children.know(flow)
        if child.again:
            return await children.again(path, child, flow, given)
        end = await children.end(path, child)
        if end is None:
            return None
        if end.error is not None:
            raise end.error
        result = end.result if wanted.kept is None else wanted.kept(end.row, end.result, end.state)
        return at_once(wanted, result, now)
    except StoreError:
        raise  # not the child's fault
    except Exception as error:
        return Outcome(StartStep(path, command.token, command.node, 1), error=error)
