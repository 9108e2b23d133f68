"""Journal entries: events as rows.

Owns: which event is which kind of row, and what its payload holds. Refuses: SQL, and values the codec refuses.
A payload is one encoded list or mapping, short, because one is written per step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Literal, assert_never
from uuid import UUID

from flowbook.codec import decode, encode
from flowbook.codec.wire import PLAIN, SCALARS
from flowbook.errors import Undecodable
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
from flowbook.plan.mapped import ItemError, Mapped
from flowbook.plan.paths import node_of
from flowbook.plan.pieces import InPieces
from flowbook.plan.records import Call, Failure
from flowbook.plan.sealed import Absent, Sealed
from flowbook.plan.spliced import Spliced
from flowbook.quick import quick

PLACEHOLDERS = (Sealed, Absent, Mapped, ItemError, InPieces, Spliced)
"""Part of the journal's vocabulary: the codec decodes a class only if its module is loaded, so it is loaded here."""


class Kind(StrEnum):
    """Kinds of journal rows. An *outcome* is the one result that its path can have."""

    STARTED = "started"
    FINISHED = "finished"
    ATTEMPT_FAILED = "attempt"
    HANDED_OUT = "handed"
    WAITING = "waiting"
    REFUSED = "refused"
    DECIDED = "decided"
    DROPPED = "dropped"
    CHILD = "child"
    MAPPING = "mapping"
    CANCEL_REQUESTED = "cancel"
    UNDOING = "undoing"
    RETRIED = "retried"
    CODE = "code"
    FORKED = "forked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


OUTCOMES = frozenset({Kind.FINISHED})
"""Kinds of which a path has at most one row in its run, by a unique index."""
KEPT = OUTCOMES | {Kind.FORKED, Kind.MAPPING}
"""Kinds of rows that a fork reads from the journals of those before it: results, what they were results of, and what
was edited on the way."""


_UPDATE, _VALUE, _NOWHERE, _SKIPPED, _PAUSE, _CHILD, _HALT, _STOP, _ITEM, _MAP, _CALL = range(11)
"""Where a result goes: into the state key by key, under the step's name, or nowhere; there is none; or it is a pause's
or a child's, whose row says by itself where; or it is the run's, or ends the run without one; or it is an item's of a
map, or a map's, which says where as well; or it is a call's, which only its body gets."""


@quick
@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a journal."""

    kind: Kind
    path: str
    """Empty for what concerns the run as a whole."""
    attempt: int
    """From 1; 0 for what concerns the run as a whole."""
    payload: bytes
    seq: int = 0
    """Place in the journal, from 1; 0: not written yet. Of a row that a fork has read from the journal of another run:
    0, -1, ... counted backwards from the fork."""
    at: datetime | None = None
    """The database's time of writing; None: not written yet."""


def to_entry(event: Event) -> Entry:  # noqa: C901  one case per event
    """The row of an event. Raises `Unencodable` if it carries a value that the codec refuses."""
    match event:
        case StepStarted(path, attempt):
            return Entry(Kind.STARTED, path, attempt, b"")
        case StepFinished(path, attempt):
            return Entry(Kind.FINISHED, path, attempt, encode(_finished_body(event)))
        case AttemptFailed(path, attempt, failure, lost, final, retry_at):
            body: dict[str, Any] = {"e": _failure(failure), "l": lost, "f": final, "n": retry_at}
            if event.call is not None:
                body["c"] = [*_call(event.call), event.call.raised]
            if event.because:
                body["b"] = list(event.because)
            return Entry(Kind.ATTEMPT_FAILED, path, attempt, encode(body))
        case StepHandedOut(path, attempt, proof, due):
            return Entry(Kind.HANDED_OUT, path, attempt, encode({"p": proof, "d": due}))
        case CallFinished(path, attempt, call, seconds, signal, mail, floor):
            told = [_CALL, call.result, *_call(call), round(seconds * 1000), signal, mail, floor]
            return Entry(Kind.FINISHED, path, attempt, encode(told if signal is not None else told[:-3]))
        case WaitBegan(path, names, due, mark):
            began = {"s": list(names), "d": due} | ({"m": mark} if mark else {})
            return Entry(Kind.WAITING, path, 1 if names else 0, encode(began))
        case DecisionTaken(path, by, signal, mail, at):
            return Entry(Kind.DECIDED, path, 0, encode({"by": by, "s": signal, "m": mail, "t": at}))
        case SignalRefused(path, name, mail, failure):
            return Entry(Kind.REFUSED, path, 1, encode({"s": name, "m": mail, "e": _failure(failure)}))
        case WaitFinished(path, result, key, route, signal, mail, floor):
            return Entry(Kind.FINISHED, path, 1, encode([_PAUSE, result, route, key, signal, mail, floor]))
        case StepDropped(path):
            return Entry(Kind.DROPPED, path, 0, b"")
        case ChildStarted(path, child, flow, number):
            return Entry(Kind.CHILD, path, number, encode([child, flow]))
        case ChildFinished(path, child, result, key, route, merged):
            return Entry(Kind.FINISHED, path, 1, encode([_CHILD, result, route, key, child, merged]))
        case MapBegan(path, total):
            return Entry(Kind.MAPPING, path, 1, encode({"n": total}))
        case ItemFinished(path, attempt, result, seconds):
            milliseconds = round(seconds * 1000)
            whole = [_ITEM, result, milliseconds] if milliseconds else [_ITEM, result]
            return Entry(Kind.FINISHED, path, attempt, encode(whole))
        case MapFinished(path, total, failed, key, route, values):
            return Entry(Kind.FINISHED, path, 1, encode([_MAP, values, route, key, total, failed]))
        case CancelRequested(by, mail):
            return Entry(Kind.CANCEL_REQUESTED, "", 0, encode({"by": by, "m": mail}))
        case UndoingBegan(path, why, by):
            body = {"p": path, "e": None if why is None else _failure(why), "by": by}
            return Entry(Kind.UNDOING, "", 0, encode(body))
        case RunRetried(by, mail, at, limit, edits):
            body = (
                {"by": by, "m": mail, "t": at} | ({"l": limit} if limit else {}) | ({"s": dict(edits)} if edits else {})
            )
            return Entry(Kind.RETRIED, "", 0, encode(body))
        case CodeChanged(fingerprint, version, nodes, changes):
            new = {"f": fingerprint, "v": version, "n": list(nodes), "c": list(changes)}
            return Entry(Kind.CODE, "", 0, encode(new))
        case RunForked(path, edits, parent, changes):
            body = {"s": dict(edits), "p": str(parent), "c": list(changes)}
            return Entry(Kind.FORKED, path, 0, encode(body, at="edits"))
        case RunCompleted():
            return Entry(Kind.COMPLETED, "", 0, b"")
        case RunFailed(path, failure):
            return Entry(Kind.FAILED, "", 0, encode({"p": path, "e": _failure(failure)}))
        case RunCancelled(by):
            return Entry(Kind.CANCELLED, "", 0, encode({"by": by}))
        case _:
            assert_never(event)


def from_entry(entry: Entry) -> Event:  # noqa: C901  one case per kind
    """The event of a row. Raises `Undecodable` if the row is damaged."""
    body: Any = decode(entry.payload) if entry.payload else {}
    try:
        match entry.kind:
            case Kind.STARTED:
                return StepStarted(entry.path, entry.attempt)
            case Kind.FINISHED:
                return _finished(entry, body)
            case Kind.ATTEMPT_FAILED:
                return _attempt_failed(entry, body)
            case Kind.HANDED_OUT:
                return StepHandedOut(entry.path, entry.attempt, body["p"], body["d"])
            case Kind.WAITING:
                return WaitBegan(entry.path, tuple(body["s"]), body["d"], body.get("m", 0))
            case Kind.DECIDED:
                return DecisionTaken(entry.path, body["by"], body["s"], body["m"], body["t"])
            case Kind.REFUSED:
                return SignalRefused(entry.path, body["s"], body["m"], Failure(*body["e"]))
            case Kind.DROPPED:
                return StepDropped(entry.path)
            case Kind.CHILD:
                return ChildStarted(entry.path, body[0], body[1], entry.attempt)
            case Kind.MAPPING:
                return MapBegan(entry.path, body["n"])
            case Kind.CANCEL_REQUESTED:
                return CancelRequested(body["by"], body["m"])
            case Kind.UNDOING:
                return UndoingBegan(body["p"], None if body["e"] is None else _failure_of(body["e"]), body["by"])
            case Kind.RETRIED:
                return RunRetried(body["by"], body["m"], body.get("t"), body.get("l"), body.get("s") or {})
            case Kind.CODE:
                return CodeChanged(body["f"], body["v"], tuple(body["n"]), tuple(body["c"]))
            case Kind.FORKED:
                return RunForked(entry.path, body["s"], UUID(body["p"]), tuple(body["c"]))
            case Kind.COMPLETED:
                return RunCompleted()
            case Kind.FAILED:
                return RunFailed(body["p"], _failure_of(body["e"]))
            case Kind.CANCELLED:
                return RunCancelled(body["by"])
            case _:
                assert_never(entry.kind)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise Undecodable(f"journal row {entry.seq} of kind {entry.kind!r} is damaged: {error!r}") from error


_PLAIN_HEADS: Final = {PLAIN + b"[%d," % shape for shape in (_UPDATE, _VALUE, _NOWHERE)}
_HEAD: Final = len(PLAIN) + 3
_QUOTING: Final = b"]]]"
"""How a row ends that has quotes: the last one, all of them, the row."""


def is_plain(entry: Entry) -> bool:
    """Is it the outcome of a step of the run's own graph, and no other kind of outcome? False where only reading all of
    it would tell: what ends as a row does that quotes its calls says nothing by itself.
    """
    path, payload = entry.path, entry.payload
    plain = entry.kind is Kind.FINISHED and payload[:_HEAD] in _PLAIN_HEADS and not payload.endswith(_QUOTING)
    return plain and path[-1] != "]" and "/" not in path


def route_of(entry: Entry) -> int | None:
    """Which way a step went that `is_plain`; None: there is only one."""
    body: Any = decode(entry.payload)
    return body[2] if len(body) > 2 else None


def read_back(event: StepFinished) -> StepFinished | None:
    """The event as `from_entry` would give it, where nothing has to be decoded to know that; else None.

    Nothing can differ in a flat update of JSON's own scalars. The update is a copy: the step may still hold its own.
    """
    result = event.result
    if event.skipped or event.update is not result or type(result) is not dict:
        return None
    for key, value in result.items():
        if type(value) not in SCALARS or type(key) is not str:
            return None
    same = dict(result)
    return StepFinished(event.path, event.attempt, same, same, event.route, round(event.seconds * 1000) / 1000)


def _finished_body(event: StepFinished) -> list[Any]:
    """The payload of an outcome before encoding: ``[shape, result, route, milliseconds]``, without what is not needed
    at its end. One is written per step, so its bytes count; keys, and times under a millisecond, are not worth theirs.
    """
    if event.skipped:
        return [_SKIPPED, None, event.route]
    if event.halts:
        return [_HALT if event.halts == "result" else _STOP, event.result, None, round(event.seconds * 1000)]
    shape = _UPDATE if event.update is event.result else _VALUE if event.update else _NOWHERE
    milliseconds = round(event.seconds * 1000)
    if event.quotes:
        quotes = [[list(where), path, form] for where, path, form in event.quotes]
        return [shape, event.result, event.route, milliseconds, quotes]
    if milliseconds:
        return [shape, event.result, event.route, milliseconds]
    return [shape, event.result] if event.route is None else [shape, event.result, event.route]


def _attempt_failed(entry: Entry, body: dict[str, Any]) -> AttemptFailed:
    failure, call = Failure(*body["e"]), None
    if "c" in body:
        shown, digest, at, raised = body["c"]
        call = Call(shown, digest, moment(at), None, failure, raised)
    because = tuple(body.get("b", ()))
    return AttemptFailed(entry.path, entry.attempt, failure, body["l"], body["f"], body["n"], call, because)


def moment(milliseconds: int) -> datetime:
    """A moment that was kept as milliseconds since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _call(call: Call) -> list[Any]:
    return [call.shown, call.digest, round(call.at.timestamp() * 1000)]


def _finished(
    entry: Entry, body: list[Any]
) -> StepFinished | WaitFinished | ChildFinished | ItemFinished | MapFinished | CallFinished:
    if not body:
        return ItemFinished(entry.path, entry.attempt, None)  # read without its payload
    if body[0] == _CHILD:
        _, result, route, key, child, merged = body
        return ChildFinished(entry.path, child, result, key, route, merged)
    if body[0] == _PAUSE:
        _, result, route, key, signal, mail, floor = body
        return WaitFinished(entry.path, result, key, route, signal, mail, floor)
    if body[0] == _ITEM:
        return ItemFinished(entry.path, entry.attempt, body[1], (body[2] if len(body) > 2 else 0) / 1000)
    if body[0] == _MAP:
        _, values, route, key, total, failed = body
        return MapFinished(entry.path, total, failed, key, route, values)
    if body[0] == _CALL:
        _, result, shown, digest, at, spent, *rest = body
        call = Call(shown, digest, moment(at), result)
        return CallFinished(entry.path, entry.attempt, call, spent / 1000, *rest)
    shape, result, route, milliseconds, quotes = (*body, None, None, None)[:5]
    match shape:
        case 0:
            update = result
        case 1:
            update = {node_of(entry.path): result}
        case 2 | 3:
            update = {}
        case 6 | 7:
            halts: Literal["result", "state"] = "result" if shape == _HALT else "state"
            seconds = (milliseconds or 0) / 1000
            return StepFinished(entry.path, entry.attempt, result, {}, None, seconds, halts=halts)
        case _:
            raise Undecodable(f"journal row {entry.seq} is of shape {shape!r}, which this version does not know")
    seconds = (milliseconds or 0) / 1000
    finished = StepFinished(entry.path, entry.attempt, result, update, route, seconds, shape == _SKIPPED)
    if not quotes:
        return finished
    return replace(finished, quotes=tuple((tuple(where), path, form) for where, path, form in quotes))


def _failure(failure: Failure) -> list[Any]:
    text = [failure.type, failure.message, failure.traceback, failure.code]
    return [*text, list(failure.notes)] if failure.notes else text


def _failure_of(text: list[Any]) -> Failure:
    return Failure(*text[:4], *map(tuple, text[4:]))
