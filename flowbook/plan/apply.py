"""Applying: a run and an event make the next run.

Owns: `begin`, `apply` and `fold`, pure functions over frozen records. Refuses: deciding what comes next (`decide.py`).
State is the fold of the journal; nothing else is ever a source of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar, assert_never
from uuid import UUID

from flowbook.errors import IllegalTransition
from flowbook.graph.flow import Graph
from flowbook.plan import undoing
from flowbook.plan.calls import OF_CALLS, is_call, laid_aside, of_call, to_repeat, without_calls
from flowbook.plan.events import (
    AttemptFailed,
    CallFinished,
    CancelRequested,
    ChildFinished,
    ChildStarted,
    CodeChanged,
    DecisionTaken,
    Event,
    ItemFinished,
    MapBegan,
    MapFinished,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunForked,
    RunRetried,
    SignalRefused,
    StepDropped,
    StepFinished,
    StepHandedOut,
    StepStarted,
    UndoingBegan,
    WaitBegan,
    WaitFinished,
)
from flowbook.plan.halting import halted
from flowbook.plan.mapping import begun, finished, is_open, map_token, results
from flowbook.plan.paths import node_of
from flowbook.plan.quotes import filled
from flowbook.plan.racing import standing, without_losers
from flowbook.plan.records import NO_TROUBLE, ROOT, Child, Delta, HandedOut, Phase, Run, Status, Token, View, Waiting
from flowbook.plan.spliced import whole
from flowbook.plan.tokens import Movement
from flowbook.plan.transitions import after

_T = TypeVar("_T")


def begin(graph: Graph, run_id: UUID, input: Mapping[str, Any], since: datetime | None = None) -> Run:
    """A run before its first event, which began at ``since``. Raises `StateError` if the input does not fit the state
    schema.
    """
    values = dict(input) if graph.schema is None else graph.schema.initial(input)
    root = Token(ROOT, None, 0, "", "", Phase.READY, View(values, {}), ())
    movement = Movement(graph, {ROOT: root}, {}, {})
    movement.enter(root)
    return Run(run_id, graph.name, Status.RUNNING, 0, movement.tokens, movement.scopes, movement.counts, since=since)


def apply(graph: Graph, run: Run, event: Event, seq: int | None = None) -> Run:  # noqa: C901  one case per event
    """The run after an event; ``seq`` is the event's place in the journal (default: the next).

    Raises `IllegalTransition` for an event that cannot happen here, `StateError` if a reducer refuses.
    """
    status = after(run.status, event)
    seq = run.seq + 1 if seq is None else seq
    if isinstance(event, UndoingBegan) or (
        run.undoing is not None and isinstance(event, StepStarted | StepFinished | AttemptFailed)
    ):
        return undoing.applied(run, event, seq)
    if type(event) in OF_CALLS and (moved := of_call(run, event, seq)) is not None:
        return moved
    match event:
        case StepStarted(path, attempt):
            return replace(run, seq=seq, started=laid_aside(run.started, path, attempt))
        case StepFinished(quotes=quotes) if quotes:
            calls = run.calls
            return apply(graph, run, filled(event, lambda p: calls[p].result), seq)
        case StepFinished(path, _, result, update, route):
            token = _standing_at(run, path)
            if event.halts:
                return halted(run, token, event, seq)
            movement = Movement(graph, run.tokens, run.scopes, run.counts)
            movement.finish(token, None if event.skipped else Delta(token.at, result, update), route)
            # Written out: `dataclasses.replace` costs five times as much, and this is done once per step.
            run = without_calls(run, path)
            moved = Run(
                run.id, run.flow, status, seq, movement.tokens, movement.scopes, movement.counts,
                _without(run.troubles, path), waits=run.waits, fans=run.fans, handed=_without(run.handed, path),
                calls=run.calls, heard=run.heard, floor=run.floor, since=run.since,
                children=run.children,
                mail=run.mail, cancelled_by=run.cancelled_by,
                started=_without(run.started, path), failure=run.failure, failed_path=run.failed_path,
                limit=run.limit,
                done=run.done if event.skipped or token.at not in graph.compensations else (*run.done, path),
            )  # fmt: skip
            return without_losers(moved) if movement.won else moved
        case CallFinished(path):
            raise IllegalTransition(f"{path} had an outcome, but no body that could have called it is under way")
        case AttemptFailed(path, _, failure, lost, final, retry_at):
            _expected_at(run, path)
            old = run.troubles.get(path, NO_TROUBLE)
            trouble = old.worse(failure, lost=lost, final=final, retry_at=retry_at)
            troubles = {**run.troubles, path: trouble}
            started, handed = _without(run.started, path), _without(run.handed, path)
            run = to_repeat(run, event.because)
            return replace(run, seq=seq, troubles=troubles, started=started, handed=handed)
        case StepHandedOut(path, attempt, proof, due):
            _standing_at(run, path)
            handed = {**run.handed, path: HandedOut(attempt, proof, due)}
            return replace(run, seq=seq, handed=handed, started=_without(run.started, path))
        case WaitBegan(path, names, due, mark):
            _standing_at(run, path)
            return replace(run, seq=seq, waits={**run.waits, path: Waiting(due, mark, bool(names))})
        case SignalRefused(path, name, mail):
            _standing_at(run, path)
            return replace(run, seq=seq, heard={**run.heard, name: mail})
        case WaitFinished():
            return _woken(graph, run, event, seq)
        case StepDropped() | DecisionTaken():
            return replace(run, seq=seq)
        case ChildStarted(path, child, _, number):
            return replace(run, seq=seq, children={**run.children, path: Child(child, number)})
        case ChildFinished(path, _, result):
            left = _without(run.children, path)
            return _passed(graph, run, path, result, event.update, event.route, seq=seq, children=left)
        case MapBegan() | ItemFinished() | MapFinished():
            return _map_moved(graph, run, event, seq)
        case CancelRequested(by, mail):
            return replace(run, seq=seq, cancelled_by=by, mail=mail)
        case RunRetried():
            return _retried(replace(run, seq=seq, status=status), event)
        case CodeChanged():
            return replace(run, seq=seq)
        case RunForked(path, edits):
            # What is kept is the other run's, and so is undoing it.
            run = onward(graph, run)
            return replace(_forked(run, _standing_at(run, path), edits), seq=seq, done=())
        case RunCompleted():
            return replace(run, seq=seq, status=status)
        case RunFailed(path, failure):
            return replace(run, seq=seq, status=status, failure=failure, failed_path=path)
        case RunCancelled(by):
            return replace(run, seq=seq, status=status, cancelled_by=by)
        case _:
            assert_never(event)


def _map_moved(graph: Graph, run: Run, event: MapBegan | ItemFinished | MapFinished, seq: int) -> Run:
    match event:
        case MapBegan(path, total):
            _standing_at(run, path)
            return replace(begun(run, path, total), seq=seq)
        case ItemFinished(path, attempt):
            run = without_calls(run, path)
            token, fan, index = map_token(run, path)
            fans = {**run.fans, token.path: finished(fan, index, failed=attempt == 0)}
            troubles, started = _without(run.troubles, path), _without(run.started, path)
            children = _without(run.children, path)  # where a flow is mapped, the item was one
            return replace(run, seq=seq, fans=fans, troubles=troubles, started=started, children=children)
        case MapFinished(path, key=key):
            result = results(run, event)
            left = _without(run.fans, path)
            return _passed(graph, run, path, result, {key: result}, event.route, seq=seq, fans=left)
        case _:
            assert_never(event)


def fold(graph: Graph, run: Run, events: Iterable[tuple[int, Event]]) -> Run:
    """The run after all of these (seq, event)."""
    for seq, event in events:
        run = apply(graph, run, event, seq)
    return run


def lost_attempts(run: Run) -> tuple[tuple[str, int], ...]:
    """(path, attempt) of what had begun when the process that ran it died: started, and neither finished nor failed."""
    return tuple(
        (path, attempt)
        for path, attempt in run.started.items()
        if attempt > run.troubles.get(path, NO_TROUBLE).attempts and _is_expected(run, path)
    )


def onward(graph: Graph, run: Run) -> Run:
    """A run that has come to its end, at its beginning again with the state that it has; any other as it is."""
    root = run.tokens[ROOT]
    if root.phase is not Phase.ENDED:
        return run
    movement = Movement(graph, {ROOT: replace(root, at="", path="", phase=Phase.READY)}, {}, run.counts)
    movement.enter(movement.tokens[ROOT])
    return replace(run, tokens=movement.tokens, scopes=movement.scopes, counts=movement.counts)


def _forked(run: Run, token: Token, edits: Mapping[str, Any]) -> Run:
    """A run of its own: what was kept of the other one are results. Troubles, pauses and mail are its own affair."""
    tokens = {**run.tokens, token.id: _edited(token, edits)}
    return Run(run.id, run.flow, run.status, run.seq, tokens, run.scopes, run.counts, fans=run.fans, since=run.since)


def _edited(token: Token, edits: Mapping[str, Any]) -> Token:
    if not edits:
        return token
    edits = {key: whole(token.view.values.get(key), value) for key, value in edits.items()}
    # An edit sets a key, whatever its reducer; inside a branch it goes through the join as a step's update does.
    view = View({**token.view.values, **edits}, token.view.results)
    deltas = token.deltas if token.scope is None else (*token.deltas, Delta("", None, edits))
    return replace(token, view=view, deltas=deltas)


def _is_expected(run: Run, path: str) -> bool:
    if run.undoing is not None:
        return path in standing(run)
    if is_call(run, path):
        return True
    try:
        _expected_at(run, path)
    except IllegalTransition:
        return False
    return True


def _expected_at(run: Run, path: str) -> None:
    """Raise `IllegalTransition` unless something may be under way at a path."""
    if not path.endswith("]"):
        _standing_at(run, path)
        return
    _, fan, index = map_token(run, path)
    if not is_open(fan, index):
        raise IllegalTransition(f"{path} had an outcome already: the journal is damaged")


def _woken(graph: Graph, run: Run, event: WaitFinished, seq: int) -> Run:
    heard = {**run.heard, event.signal: event.mail} if event.signal and event.mail else run.heard
    return _passed(
        graph, run, event.path, event.result, event.update, event.route,
        seq=seq, waits=_without(run.waits, event.path), heard=heard, floor=max(run.floor, event.floor),
    )  # fmt: skip


def _passed(
    graph: Graph, run: Run, path: str, result: Any, update: Mapping[str, Any], route: int | None, **rest: Any
) -> Run:
    """The run when the token at a path, which no body of a step had, has its outcome and goes on."""
    token = _standing_at(run, path)
    movement = Movement(graph, run.tokens, run.scopes, run.counts)
    movement.finish(token, Delta(token.at, result, update), route)
    moved = replace(
        run, tokens=movement.tokens, scopes=movement.scopes, counts=movement.counts,
        troubles=_without(run.troubles, path), **rest,
    )  # fmt: skip
    return without_losers(moved) if movement.won else moved


def _retried(run: Run, event: RunRetried) -> Run:
    troubles = {p: t for p, t in run.troubles.items() if not t.final}
    # A pause whose time was up begins anew, or it would fail again at once.
    waits = {p: w for p, w in run.waits.items() if p not in run.troubles}
    failed = run.troubles.keys() - troubles.keys()
    tokens = run.tokens
    if event.edits:
        token = next(t for t in tokens.values() if t.path == run.failed_path and t.phase is Phase.READY)
        tokens = {**tokens, token.id: _edited(token, event.edits)}
    children = {p: replace(c, again=c.again or p in failed) for p, c in run.children.items()}
    return replace(
        run, tokens=tokens, troubles=troubles, waits=waits, children=children, failure=None, failed_path=None,
        mail=event.mail,
        since=event.at or run.since, limit=event.limit or run.limit,
    )  # fmt: skip


def _standing_at(run: Run, path: str) -> Token:
    if (token := run.at(path)) is not None:
        return token
    raise IllegalTransition(
        f"{path} ({node_of(path)}) had an outcome, but no token stands there: the journal is damaged, or the flow's "
        f"topology is not the one that this run was started with"
    )


def _without(mapping: Mapping[str, _T], key: str) -> Mapping[str, _T]:
    return {k: v for k, v in mapping.items() if k != key} if key in mapping else mapping
