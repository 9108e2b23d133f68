"""Answers: how what was handed out is completed.

Owns: delivering an answer (`deliver`), and what it comes to at the run that waits for it (`taken`, `too_late`).
Refuses: making tokens (`handout.py`), deciding that an answer is taken (`plan/waiting.py`) and recording (`runner.py`).

    step      token = ctx.hand_out(), gives it to somebody, returns: from now on nothing runs, the path waits
    journal   handed     that it waits, the digest of the token's secret, and until when
    mailbox   answer     named by path and digest; valid also before the journal has the row above
    journal   finished or attempt, as if the step itself had returned or raised at that moment

A token is good for the attempt that made it. The first answer counts; who comes second is told what the first one was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4, uuid5

from flowbook.codec import decode, encode
from flowbook.errors import (
    AlreadyAnswered,
    HandOutFailed,
    PayloadRefused,
    RunOver,
    StateError,
    StepTimeout,
    TokenRefused,
    Undecodable,
)
from flowbook.graph.durations import spoken
from flowbook.graph.flow import Graph
from flowbook.graph.results import interpret
from flowbook.plan.commands import EndHandOut, TakeAnswer, as_step
from flowbook.plan.events import (
    AttemptFailed,
    Event,
    RunRetried,
    SignalRefused,
    StepDropped,
    StepFinished,
    StepHandedOut,
)
from flowbook.plan.journal import Entry, from_entry, to_entry
from flowbook.plan.paths import node_of
from flowbook.plan.records import View
from flowbook.plan.waiting import answer_name
from flowbook.ports import Mail, RunRow, Store
from flowbook.run.attempts import Bench, Outcome, way_on
from flowbook.run.failures import failure_of
from flowbook.run.handout import Token
from flowbook.run.loading import entries_of

ANSWER = "answer"
"""Kind of such a delivery."""

# -------------------------------------------------------------------------------------------- where the run is carried


async def taken(bench: Bench, command: TakeAnswer, view: View, payload: bytes) -> Outcome | SignalRefused:
    """How a path ends with an answer; one that the step may not return is refused, and the wait goes on."""
    node, step = bench.graph.nodes[command.node], bench.graph.step_at(command.node)
    try:
        succeeded, value, _ = _opened(payload)
        if not succeeded:
            told = HandOutFailed(f"step {step.name!r} was handed out, and who had it says that it failed: {value}")
            return Outcome(as_step(command, command.attempt), error=told)
        result, update = interpret(step, bench.graph.schema, value)
    except (StateError, Undecodable, TypeError, ValueError) as error:
        refused = PayloadRefused(f"an answer for {command.path} is not taken: {getattr(error, 'message', error)}")
        return SignalRefused(command.path, command.letter.name, command.letter.id, failure_of(refused))
    try:
        route = None if node.router is None else await way_on(bench, node, view, update)
        finished = StepFinished(command.path, command.attempt, result, update, route)
        return Outcome(as_step(command, command.attempt), to_entry(finished))
    except Exception as error:
        return Outcome(as_step(command, command.attempt), error=error)


def too_late(bench: Bench, command: EndHandOut) -> Outcome:
    """The attempt fails when nobody has answered within the step's ``timeout=``."""
    limit = bench.graph.step_at(command.node).policy.timeout or 0.0
    told = StepTimeout(f"step {command.node!r} was handed out, and nobody completed it within {spoken(limit)}")
    return Outcome(as_step(command, command.attempt), error=told)


# ---------------------------------------------------------------------------------------------------- where it is sent


async def deliver(
    store: Store, row: RunRow, token: Token, value: Any, graph: Graph | None, *, succeeded: bool = True
) -> RunRow:
    """Put an answer into the run's mailbox; the row after it.

    ``graph``: the run's code where it is known here, so that a value which the step may not return is told at once.
    Raises `TokenRefused`, `AlreadyAnswered`, `RunOver`, `PayloadRefused`, `Unencodable`.
    """
    mark = uuid4().hex
    payload = encode([succeeded, value, "", mark], at="the answer")
    refused = _check(token, [e async for e in entries_of(store, row.id) if e.path in (token.path, "")])
    name = answer_name(token.path, token.proof)
    _check_first(token, await _sent(store, token, name, refused), "")
    if row.status.over:
        raise RunOver(f"run {row.id} is {row.status} already, so nobody waits for {token.path} to be completed")
    if graph is not None and succeeded and node_of(token.path) in graph.nodes:
        _check_value(token, value, graph)
    # Two at once have both seen nobody before them: the mailbox takes one.
    row = await store.send(row.id, ANSWER, name, payload, token=uuid5(row.id, f"{name} {len(refused)}"))
    if row.status.over:
        raise RunOver(f"run {row.id} is {row.status} already, so nobody waits for {token.path} to be completed")
    _check_first(token, await _sent(store, token, name, refused), mark)
    return row


def _check(token: Token, entries: Iterable[Entry]) -> frozenset[int]:
    """Whether the rows of its path, and of the run, let a token pass; the numbers of the answers that were refused."""
    attempts: list[tuple[Event, datetime | None]] = []
    refused: set[int] = set()
    for entry in entries:
        match event := from_entry(entry):
            case RunRetried():
                # From now on attempts are numbered from 1 again.
                attempts = [a for a in attempts if isinstance(a[0], StepHandedOut) and a[0].proof == token.proof]
            case SignalRefused():
                refused.add(event.mail)
            case StepHandedOut() | StepFinished() | AttemptFailed() | StepDropped():
                attempts.append((event, entry.at))
            case _:
                pass
    where = f"{token.path} of run {token.run_id}"
    mine = next(
        (i for i, (e, _) in enumerate(attempts) if isinstance(e, StepHandedOut) and e.proof == token.proof), None
    )
    later = attempts[(-1 if mine is None else mine) + 1 :]
    ours: list[tuple[Event, datetime | None]] = attempts if mine is None else later
    match ours:
        case [(StepFinished(result=result), at), *_] if mine is not None:
            raise AlreadyAnswered(
                f"{where} was completed already{_on(at)}, with {_shown(result)}: this answer is not taken"
            )
        case [(AttemptFailed(failure=failure), at), *_] if mine is not None:
            raise AlreadyAnswered(f"{where} has failed already{_on(at)}: {failure.message}. This answer is not taken")
    if mine is not None and any(isinstance(event, StepDropped) for event, _ in later):
        raise RunOver(f"{where} is not waited for any more: another branch has won the race")
    if mine is None and any(_is_past(event, token) for event, _ in attempts):
        raise TokenRefused(
            f"this token does not complete {where}: it is no token of an attempt that waits. A later attempt may have "
            f"handed out another one, which is the one to use"
        )
    return frozenset(refused)


def _is_past(event: Event, token: Token) -> bool:
    """Does this outcome of its path mean that a token which the journal does not know is good for nothing any more?"""
    match event:
        case AttemptFailed(attempt=attempt):
            return attempt >= token.attempt
        case _:
            return True


def _check_value(token: Token, value: Any, graph: Graph) -> None:
    try:
        interpret(graph.step_at(node_of(token.path)), graph.schema, value)
    except StateError as error:
        raise PayloadRefused(f"{token.path} is not completed: {error.message}") from None


async def _sent(store: Store, token: Token, name: str, refused: frozenset[int]) -> list[Mail]:
    mails = await store.mailbox(token.run_id)
    return [m for m in mails if m.kind == ANSWER and m.name == name and m.id not in refused]


def _check_first(token: Token, sent: Sequence[Mail], mine: str) -> None:
    """Raise `AlreadyAnswered` unless the first answer is ``mine`` (its mark; empty: none of them is)."""
    if not sent:
        return
    what = "another answer"
    with contextlib.suppress(Undecodable, ValueError, TypeError):
        succeeded, value, mark = _opened(sent[0].payload)
        if mine and mark == mine:
            return
        what = f"with {_shown(value)}" if succeeded else f"as failed: {value}"
    raise AlreadyAnswered(
        f"{token.path} of run {token.run_id} was answered already{_on(sent[0].at)}, {what}. This answer is not taken"
    )


def _opened(payload: bytes) -> tuple[bool, Any, str]:
    body: Any = decode(payload)
    succeeded, value, _, mark = (*body, "", "")[:4]
    return bool(succeeded), value, mark


def _on(at: datetime | None) -> str:
    return f" on {at:%Y-%m-%d at %H:%M:%S} UTC" if at else ""


def _shown(value: Any) -> str:
    text = repr(dict(value) if isinstance(value, Mapping) else value)
    return text if len(text) <= 200 else text[:200] + "..."
