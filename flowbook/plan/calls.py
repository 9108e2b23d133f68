"""Calls: the durable calls of bodies, and what is to be done about one that was asked for.

Owns: `Asked`, which calls belong to which step, what their events change (`of_call`) and what they want (`of_calls`),
pure functions. Refuses: running them and knowing bodies (`run/calls.py`).

A step's body may make durable calls: ``order#1/charge#1``, ``order#1/sleep#1``. Their outcomes are rows of their own,
so that a body which runs again from its start gets what it got before. They follow the rules of nodes: retries,
back-off, lost attempts, beginnings of pauses and signals are kept under their paths like those of nodes
(`Run.troubles`, `Run.waits`, `Run.heard`); only what comes out of them goes to `Run.calls`, and the tokens stay where
they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar, assert_never

from flowbook.graph.step import Policy
from flowbook.plan.commands import (
    BeginWait,
    Command,
    EndWait,
    RunChild,
    StartStep,
    TakeSignal,
    WaitForSignal,
    WaitUntil,
)
from flowbook.plan.events import AttemptFailed, CallFinished, Event, SignalRefused, WaitBegan
from flowbook.plan.records import NO_TROUBLE, Call, Letter, Phase, Run, Waiting
from flowbook.plan.waiting import at_wait

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A durable call that a body waits for."""

    path: str
    token: str
    """Id of the token at whose step it was made."""
    name: str
    """Of the step, the signal, the spawned flow or ``sleep``."""
    digest: str
    """See `Call.digest`."""
    shown: str
    """See `Call.shown`."""
    policy: Policy | None = None
    """Of the step; None: it is a pause or a child."""
    names: tuple[str, ...] = ()
    """The signals that a pause listens for."""
    seconds: float | None = None
    """How long a pause may last; None: as long as it takes."""
    child: bool = False
    """True: it is a child, whose end is its outcome."""


def outer_of(run: Run, path: str) -> str | None:
    """The path of the step (or the item of a map) whose body made the call at ``path``; None: ``path`` is no call's."""
    if "/" not in path:
        return None
    found: str | None = None
    for token in run.tokens.values():
        if token.phase is not Phase.READY or not token.path or not path.startswith(token.path):
            continue
        if token.path == path:
            return None  # a node of its own, whatever its path looks like
        rest = path[len(token.path) :]
        item, slash, _ = rest.partition("/")
        if slash and (not item or item[0] == "[") and (found is None or len(token.path) > len(found)):
            found = token.path + item
    return found


def is_call(run: Run, path: str) -> bool:
    """True if ``path`` is a durable call of a body that is under way, and has not come to its end."""
    return path not in run.calls and outer_of(run, path) is not None


OF_CALLS: frozenset[type[Event]] = frozenset({CallFinished, AttemptFailed, WaitBegan, SignalRefused})
"""Events that calls have as well as nodes."""


def of_call(run: Run, event: Event, seq: int) -> Run | None:
    """The run after something has become known of a call; None: the event is no call's."""
    assert isinstance(event, CallFinished | AttemptFailed | WaitBegan | SignalRefused)
    path = event.path
    outer = outer_of(run, path)
    if outer is None:
        return None
    run = _progressed(run, outer, path)
    match event:
        case CallFinished(call=call):
            heard = {**run.heard, event.signal: event.mail} if event.signal and event.mail else run.heard
            floor = max(run.floor, event.floor)
            return replace(run, seq=seq, heard=heard, floor=floor, **_ended(run, path, replace(call, seq=seq)))
        case AttemptFailed(call=Call() as call):
            return replace(run, seq=seq, **_ended(run, path, replace(call, seq=seq)))
        case AttemptFailed(_, _, failure, lost, final, retry_at):
            old = run.troubles.get(path, NO_TROUBLE)
            trouble = old.worse(failure, lost=lost, final=final, retry_at=retry_at)
            return replace(run, seq=seq, troubles={**run.troubles, path: trouble})
        case WaitBegan(_, names, due, mark):
            return replace(run, seq=seq, waits={**run.waits, path: Waiting(due, mark, bool(names))})
        case SignalRefused(name=name, mail=mail):
            return replace(run, seq=seq, heard={**run.heard, name: mail})
        case _:
            assert_never(event)


def without_calls(run: Run, path: str) -> Run:
    """A run without what is kept of the calls of a step that has its outcome, the children that it has spawned among
    them: what has become of those that it has not joined is no matter of the run's.
    """
    if not (run.calls or run.waits or run.troubles or run.started or run.children):
        return run  # the common case
    calls, waits = _but_below(path, run.calls), _but_below(path, run.waits)
    troubles, started = _but_below(path, run.troubles), _but_below(path, run.started)
    children = _but_below(path, run.children)
    same = calls is run.calls and waits is run.waits and troubles is run.troubles
    if same and started is run.started and children is run.children:
        return run
    return replace(run, calls=calls, waits=waits, troubles=troubles, started=started, children=children)


def to_repeat(run: Run, because: Sequence[str]) -> Run:
    """A run whose body has failed of these calls: it makes them anew, and children among them are retried."""
    if not because:
        return run
    calls = {p: c for p, c in run.calls.items() if p not in because}
    children = {p: replace(c, again=c.again or p in because) for p, c in run.children.items()}
    return replace(run, calls=calls, children=children)


def laid_aside(started: Mapping[str, int], path: str, attempt: int) -> Mapping[str, int]:
    """What has begun, once an attempt has begun, or a body was put aside (attempt 0)."""
    return {**started, path: attempt} if attempt else {p: n for p, n in started.items() if p != path}


def _ended(run: Run, path: str, call: Call) -> dict[str, Any]:
    """What changes when a call has come to its end."""
    return {
        "calls": {**run.calls, path: call},
        "troubles": {p: t for p, t in run.troubles.items() if p != path} if path in run.troubles else run.troubles,
        "waits": {p: w for p, w in run.waits.items() if p != path} if path in run.waits else run.waits,
    }


def _progressed(run: Run, outer: str, path: str) -> Run:
    """What the body of a call has lost so far is forgiven once something has become known of the call.

    A body that comes on is no body that kills its process, however often others do in the course of its months.
    """
    trouble = run.troubles.get(outer)
    if trouble is not None and trouble.lost:
        run = replace(run, troubles={**run.troubles, outer: replace(trouble, lost=0)})
    if outer not in run.started and path not in run.started:
        return run
    return replace(run, started={p: n for p, n in run.started.items() if p not in (path, outer)})


def _but_below(path: str, mapping: Mapping[str, _T]) -> Mapping[str, _T]:
    for known in mapping:
        if known.startswith(path) and known[len(path) : len(path) + 1] == "/":
            return {p: v for p, v in mapping.items() if not p.startswith(f"{path}/")}
    return mapping


def of_calls(asked: Sequence[Asked], run: Run, letters: list[Letter], now: datetime) -> list[Command]:
    """What ought to be done about the calls that were asked for, in their order; ``letters`` that are taken go."""
    commands: list[Command] = []
    for call in asked:
        if call.path in run.calls:
            continue
        command = _at_call(call, run, letters, now)
        commands.append(command)
        if isinstance(command, TakeSignal):
            letters.remove(command.letter)
    return commands


def soonest(commands: Sequence[Command], at: datetime | None) -> datetime | None:
    """``at``, or the first moment before it that one of these waits for."""
    if not commands:
        return at
    ends = [c.at if isinstance(c, WaitUntil) else c.due for c in commands if isinstance(c, WaitUntil | WaitForSignal)]
    return min((end for end in (at, *ends) if end is not None), default=None)


def _at_call(
    call: Asked, run: Run, letters: Sequence[Letter], now: datetime
) -> StartStep | WaitUntil | TakeSignal | BeginWait | EndWait | WaitForSignal | RunChild:
    if call.child:
        return RunChild(call.path, call.token, call.name)
    if call.policy is None:
        place = (call.path, call.token, call.name)
        return at_wait(place, call.names, run.waits.get(call.path), letters, now)
    trouble = run.troubles.get(call.path, NO_TROUBLE)
    if trouble.retry_at is not None and trouble.retry_at > now:
        return WaitUntil(trouble.retry_at)
    return StartStep(call.path, call.token, call.name, trouble.attempts + 1)
