"""Deciding: what a run wants done now.

Owns: `decide` and `judge`, pure functions. Refuses: doing it, and knowing what is under way: `decide` names every step
that ought to be running, and the runner starts those that are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from flowbook.graph.flow import Graph
from flowbook.graph.mapping import Map
from flowbook.graph.pause import Pause
from flowbook.graph.step import LOST_LIMIT, Policy, Step
from flowbook.graph.subflow import Subflow
from flowbook.plan.calls import Asked, of_calls, soonest
from flowbook.plan.commands import (
    CancelRun,
    Command,
    CompleteRun,
    FailRun,
    RunChild,
    StartStep,
    TakeAnswer,
    TakeSignal,
    WaitForSignal,
    WaitUntil,
)
from flowbook.plan.halting import too_often
from flowbook.plan.mapping import at_map, is_forgiven
from flowbook.plan.racing import out_of_race
from flowbook.plan.records import NO_TROUBLE, ROOT, UNKNOWN, Letter, Phase, Run, Status, Token, Trouble
from flowbook.plan.timing import time_limit, timed_out
from flowbook.plan.undoing import undo
from flowbook.plan.waiting import at_hand_out, at_pause, untaken


def decide(
    graph: Graph, run: Run, now: datetime, letters: Sequence[Letter] = (), asked: Sequence[Asked] = ()
) -> tuple[Command, ...]:
    """What ought to be done about a run, in order; nothing for a run that is over.

    ``letters``: signals that were read from the mailbox, in order; those already consumed do no harm. ``asked``: the
    durable calls that bodies wait for.

    A cancel goes before the end, the end before a failure (what failed after END was reached by all cannot exist), a
    failure before the time limit of the run, and that before new steps. A branch that has failed in a race which others
    may still win is left alone. A run with a limit is never without a moment to wait until, so it is woken for it
    wherever it is parked. Once what was done is being undone, nothing else counts.
    """
    said = _settled(run, now)
    if said is not None:
        return said
    limit = time_limit(graph, run)
    lost: AbstractSet[str] = frozenset()
    finals = [p for p, t in run.troubles.items() if t.final and not is_forgiven(graph, p)] if run.troubles else []
    if finals:
        lost = out_of_race(run, finals)
        if ROOT in lost:
            return (FailRun(finals[0], run.troubles[finals[0]].failure or UNKNOWN, limit),)
    if limit is not None and limit <= now:
        return (FailRun("", timed_out(graph), limit),)
    turns = run.limit or graph.recursion_limit
    commands: list[Command] = []
    earliest = limit
    left = untaken(letters, run.heard) if letters else []
    for token in run.tokens.values():
        if token.phase is not Phase.READY or token.id in lost:
            continue
        if run.counts.get(token.at, 0) > turns and (beyond := too_often(token, turns)) is not None:
            return (FailRun(token.path, beyond, limit),)
        wants: tuple[Command, ...]
        place = graph.nodes[token.at].step
        if type(place) is Step and not (run.troubles or run.handed):  # the common case: nothing has gone wrong
            commands.append(StartStep(token.path, token.id, token.at, 1))
            continue
        if (waits := _waits(graph, run, token, left, now)) is not None:
            wants = waits
        elif type(place) is Map:
            wants = at_map(place, token, run.fans.get(token.path), run.troubles, now)
        else:
            wants = (_at_step(token, run.troubles.get(token.path, NO_TROUBLE), now),)
        for want in wants:
            if type(want) is WaitUntil:
                earliest = _sooner(earliest, want.at)
            else:
                commands.append(want)
    if asked:
        commands += (of_bodies := of_calls(asked, run, left, now))
        earliest = soonest(of_bodies, earliest)
    if earliest is not None:
        commands.append(WaitUntil(earliest))
    return tuple(commands)


def _settled(run: Run, now: datetime) -> tuple[Command, ...] | None:
    """What is wanted of a run whose steps do not count any more; None: they do."""
    if run.status is not Status.RUNNING:
        return ()
    if run.undoing is not None:
        return undo(run, now)
    if run.cancelled_by is not None:
        return (CancelRun(run.cancelled_by),)
    return (CompleteRun(),) if run.tokens[ROOT].phase is Phase.ENDED else None


def _waits(graph: Graph, run: Run, token: Token, left: list[Letter], now: datetime) -> tuple[Command, ...] | None:
    """What a token wants that waits for others; None: it stands at a step whose body is to run.

    A letter that it takes is taken out of those that are ``left`` for others.
    """
    place = graph.nodes[token.at].step
    wanted: Command
    if type(place) is Pause:
        wanted = at_pause(place, token, run.waits.get(token.path), left, now)
    elif type(place) is Subflow:
        wanted = RunChild(token.path, token.id, token.at)
    elif run.handed and (handed := run.handed.get(token.path)) is not None:
        wanted = at_hand_out(token, handed, left, now)
    else:
        return None
    if isinstance(wanted, TakeSignal | TakeAnswer):
        left.remove(wanted.letter)
    elif isinstance(wanted, WaitForSignal) and wanted.due is not None:
        return wanted, WaitUntil(wanted.due)
    return (wanted,)


def _at_step(token: Token, trouble: Trouble, now: datetime) -> StartStep | WaitUntil:
    if trouble.retry_at is not None and trouble.retry_at > now:
        return WaitUntil(trouble.retry_at)
    return StartStep(token.path, token.id, token.at, trouble.attempts + 1)


def _sooner(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else min(one, other)


def has_ended(run: Run) -> bool:
    """True if `decide` would want the run completed and nothing else."""
    return run.tokens[ROOT].phase is Phase.ENDED and run.cancelled_by is None and run.status is Status.RUNNING


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed attempt means."""

    final: bool
    retry_at: datetime | None


def judge(policy: Policy, trouble: Trouble, *, lost: bool, now: datetime, roll: float) -> Verdict:
    """Whether an attempt that has just failed was the last one, and when the next may begin.

    ``trouble`` is what was known before it; ``roll`` is a random number in [0, 1) for the jitter. An attempt that died
    with its process is no failure of the step, but a step may only die so often: ``max(retries + 1, LOST_LIMIT)``
    attempts of all kinds. It is tried again at once; one that raised, after its back-off.
    """
    failed, dead = trouble.failed + (not lost), trouble.lost + lost
    final = failed > policy.retries or (lost and failed + dead >= max(policy.retries + 1, LOST_LIMIT))
    if final or lost:
        return Verdict(final, None)
    return Verdict(False, now + timedelta(seconds=policy.backoff.delay(failed, roll)))
