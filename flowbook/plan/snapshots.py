"""Snapshots: a run's fold as bytes, so that the next fold is short.

Owns: when one is due, and turning a `Run` into a payload and back. Refuses: storing it. A snapshot is a cache: it is
tagged with all that the fold depends on, and whoever finds another tag folds the journal from its beginning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from flowbook.codec import VERSION, decode, encode
from flowbook.errors import Undecodable
from flowbook.graph.flow import Graph
from flowbook.plan.journal import moment
from flowbook.plan.records import (
    Call,
    Child,
    Delta,
    Failure,
    Fan,
    Halted,
    HandedOut,
    Phase,
    Run,
    Scope,
    Status,
    Token,
    Trouble,
    Undoing,
    View,
    Waiting,
)

RECORD_VERSION = 14
"""Raised whenever a record in `records.py` changes its shape."""

FIRST = 500
"""Entries before the first snapshot: folding fewer costs about as much as reading one."""
GROWTH = 1.5
"""Each next snapshot is due when the journal is this much longer, so that all of them together stay within a constant
factor of the state, and at most a third of a journal is ever folded again."""


def due(last: int, seq: int) -> bool:
    """True if a snapshot at ``seq`` is worth its bytes, the last one being at ``last`` (0: none)."""
    return seq >= FIRST and seq >= last * GROWTH


def tag(graph: Graph) -> str:
    """What the fold depends on besides the journal."""
    schema = graph.schema.fingerprint if graph.schema else ""
    return hashlib.blake2b(
        f"{VERSION}:{RECORD_VERSION}:{schema}:{graph.fingerprint}".encode(), digest_size=8
    ).hexdigest()


def dump(run: Run, given: Mapping[str, Any] | None = None) -> bytes:
    """A run as bytes. Values of the state that it began with (``given``) are left out where they are the very same:
    whoever loads it has them. Raises `Unencodable` only if a reducer made a value that the codec refuses.
    """
    tokens = [
        [t.id, t.scope, t.branch, t.at, t.path, str(t.phase), *_changed(t.view.values, given or {}),
         dict(t.view.results), [[d.node, d.result, dict(d.update)] for d in t.deltas]]
        for t in run.tokens.values()
    ]  # fmt: skip
    troubles = {p: [t.failed, t.lost, t.retry_at, t.final, _text(t.failure)] for p, t in run.troubles.items()}
    return encode(
        {
            "seq": run.seq,
            "status": str(run.status),
            "tokens": tokens,
            "scopes": [[s.path, s.parent, s.join, list(s.members), s.first] for s in run.scopes.values()],
            "counts": dict(run.counts),
            "troubles": troubles,
            "started": dict(run.started),
            "waits": {p: [w.due, w.mark, w.listens] for p, w in run.waits.items()},
            "handed": {p: [h.attempt, h.proof, h.due] for p, h in run.handed.items()},
            "fans": {p: [f.total, f.next, sorted(f.open), f.failed] for p, f in run.fans.items()},
            "calls": {p: _dumped(c) for p, c in run.calls.items()},
            "heard": dict(run.heard),
            "children": {p: [c.id, c.number, c.again] for p, c in run.children.items()},
            "floor": run.floor,
            "since": run.since,
            "mail": run.mail,
            "cancelled_by": run.cancelled_by,
            "failure": _text(run.failure),
            "failed_path": run.failed_path,
            "limit": run.limit,
            **({} if run.halted is None else {"halted": [run.halted.path, run.halted.result, run.halted.given]}),
            "done": run.done,
            "undoing": None if run.undoing is None else _undoing_text(run.undoing),
        }
    )


def load(run: Run, payload: bytes) -> Run:
    """The run that was dumped; ``run``, as it began, gives its id, its flow and what it was given. Raises `Undecodable`
    for a damaged payload.
    """
    body: Any = decode(payload)
    try:
        tokens = {t[0]: _token(t, run) for t in body["tokens"]}
        return replace(
            run,
            seq=body["seq"],
            status=Status(body["status"]),
            tokens=tokens,
            scopes={s[0]: Scope(s[0], s[1], s[2], tuple(s[3]), s[4]) for s in body["scopes"]},
            counts=body["counts"],
            troubles={p: Trouble(t[0], t[1], t[2], t[3], _failure(t[4])) for p, t in body["troubles"].items()},
            started=body["started"],
            waits={p: Waiting(*waiting) for p, waiting in body["waits"].items()},
            handed={p: HandedOut(*h) for p, h in body["handed"].items()},
            fans={p: Fan(f[0], f[1], frozenset(f[2]), f[3]) for p, f in body["fans"].items()},
            calls={p: _call(c) for p, c in body["calls"].items()},
            heard=body["heard"],
            children={p: Child(*c) for p, c in body["children"].items()},
            floor=body["floor"],
            since=body["since"],
            mail=body["mail"],
            cancelled_by=body["cancelled_by"],
            failure=_failure(body["failure"]),
            failed_path=body["failed_path"],
            limit=body["limit"],
            halted=Halted(*body["halted"]) if "halted" in body else None,
            done=body["done"],
            undoing=_undoing(body["undoing"]),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Undecodable(f"a snapshot of run {run.id} is damaged: {error!r}") from error


def _changed(values: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[list[Any]]]:
    """(values that are not given ones, ``[place, key]`` of those that are)."""
    same = [[place, k] for place, (k, v) in enumerate(values.items()) if k in given and given[k] is v]
    left = {key for _, key in same}
    return {k: v for k, v in values.items() if k not in left}, same


def _values(changed: dict[str, Any], same: list[list[Any]], run: Run) -> dict[str, Any]:
    if not same:
        return changed
    values, given = list(changed.items()), run.view.values
    for place, key in same:
        values.insert(place, (key, given[key]))
    return dict(values)


def _token(t: list[Any], run: Run) -> Token:
    deltas = tuple(Delta(node, result, update) for node, result, update in t[9])
    return Token(t[0], t[1], t[2], t[3], t[4], Phase(t[5]), View(_values(t[6], t[7], run), t[8]), deltas)


def _dumped(c: Call) -> list[Any]:
    return [c.shown, c.digest, round(c.at.timestamp() * 1000), c.result, _text(c.failure), c.raised, c.seq]


def _call(c: list[Any]) -> Call:
    return Call(c[0], c[1], moment(c[2]), c[3], _failure(c[4]), c[5], c[6])


def _undoing_text(undoing: Undoing) -> list[Any]:
    return [undoing.path, _text(undoing.failure), undoing.by, sorted(undoing.undone)]


def _undoing(text: list[Any] | None) -> Undoing | None:
    return None if text is None else Undoing(text[0], _failure(text[1]), text[2], frozenset(text[3]))


def _text(failure: Failure | None) -> list[Any] | None:
    return None if failure is None else [getattr(failure, f.name) for f in fields(failure)]


def _failure(text: list[Any] | None) -> Failure | None:
    return None if text is None else Failure(*text)
