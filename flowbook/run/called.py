"""Called: how a durable call comes to its outcome.

Owns: trying the step of a call, ending a pause of one, and what is recorded of one that failed. Refuses: deciding when
(`plan/calls.py`), answering bodies (`calls.py`) and recording (`runner.py`).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, assert_never

from flowbook.errors import StepFailed, Undecodable, WaitTimedOut
from flowbook.graph.binding import slots, wants_context
from flowbook.graph.durations import spoken
from flowbook.graph.pause import Signal
from flowbook.graph.step import Step, Value
from flowbook.plan.commands import BeginWait, EndWait, StartStep, TakeSignal
from flowbook.plan.events import AttemptFailed, CallFinished, SignalRefused, WaitBegan
from flowbook.plan.journal import to_entry
from flowbook.plan.records import Call, View
from flowbook.run.asking import arguments, own
from flowbook.run.attempts import Bench, Outcome, performed, resources_for
from flowbook.run.calls import Wanted
from flowbook.run.context import Context
from flowbook.run.pauses import Pauses, refused
from flowbook.run.raised import as_data
from flowbook.run.sealing import carried


async def tried(bench: Bench, wanted: Wanted, command: StartStep, view: View, now: Any) -> Outcome:
    """Try the step of a call once. Raises nothing but `CancelledError`."""
    step: Step = wanted.step
    try:
        ctx: Context | None = None
        bound = {k: own(v) for k, v in arguments(step, wanted.args, wanted.kwargs or {}).items()}
        for parameter in step.signature.parameters.values():
            if wants_context(parameter):
                bound[parameter.name] = ctx = bench.context(command, view)
        given = await resources_for(bench, step, [name for name, _, _ in slots(step).parameters if name not in bound])
        began = time.perf_counter()
        returned = await performed(bench, step, bound | given, given)
        spent = time.perf_counter() - began
        if ctx is not None and ctx.handing.token is not None:
            raise StepFailed(f"{command.path} is handed out, which a called step cannot be: let a node do it")
        result = returned.value if isinstance(returned, Value) else returned
        result, _ = carried(step, command.path, result, {}, bench.key, bench.kept)
        call = Call(wanted.asked.shown, wanted.asked.digest, now(), result)
        return Outcome(command, to_entry(CallFinished(command.path, command.attempt, call, spent)))
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return Outcome(command, error=error)


def at_once(wanted: Wanted, value: Any, now: datetime) -> Outcome:
    """The outcome of a call that is over when it is made."""
    asked = wanted.asked
    entry = to_entry(CallFinished(asked.path, 1, Call(asked.shown, asked.digest, now, value)))
    return Outcome(StartStep(asked.path, asked.token, asked.name, 1), entry)


def minded(
    wanted: Wanted, command: BeginWait | TakeSignal | EndWait, pauses: Pauses, read: int, now: datetime
) -> WaitBegan | SignalRefused | Outcome:
    """What a command about a pause of a body comes to; as `Pauses.mind`, which does it for nodes."""
    asked = wanted.asked
    step = StartStep(asked.path, asked.token, asked.name, 1)
    match command:
        case BeginWait(path):
            due = None if asked.seconds is None else now + timedelta(seconds=asked.seconds)
            return WaitBegan(path, asked.names, due, read)
        case EndWait() if asked.names:
            late = WaitTimedOut(
                f"{asked.path} waited {spoken(asked.seconds or 0.0)} for {' or '.join(map(repr, asked.names))}, and "
                "nothing came"
            )
            return Outcome(step, error=late)
        case EndWait():
            return at_once(wanted, None, now)
        case TakeSignal(path, letter=letter):
            try:
                said, value, floor = pauses.said(letter, read, asked.names, lambda n: Signal(n, wanted.schema))
            except (ValueError, Undecodable) as error:
                return refused(path, letter, path, error)
            call = Call(asked.shown, asked.digest, now, (said.signal, value) if wanted.named else value)
            return Outcome(step, to_entry(CallFinished(path, 1, call, 0.0, said.signal, said.mail, floor)))
        case _:
            assert_never(command)


def failed_for_good(event: AttemptFailed, wanted: Wanted, error: BaseException | None, now: datetime) -> AttemptFailed:
    """The last failure of a call, with what its body needs to catch it."""
    asked = wanted.asked
    raised = None if error is None else as_data(error)
    return replace(event, call=Call(asked.shown, asked.digest, now, None, event.failure, raised))
