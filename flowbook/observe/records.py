"""Records as JSON: what ``--json`` prints, and what the inspector copies.

Owns: the keys, which are a promise to scripts (docs/cli.md, a test compares). Refuses: printing. Times are ISO 8601 in
UTC, durations are seconds, ids are UUIDs; what is not known is null and never left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flowbook.codec import decode
from flowbook.ids import short
from flowbook.observe.diffs import Diff
from flowbook.observe.planned import Plan
from flowbook.observe.tallies import ItemsView
from flowbook.observe.views import AttemptView, ForkView, RunView, StepView, WaitView
from flowbook.plan.journal import Entry, from_entry
from flowbook.plan.outputs import Output
from flowbook.plan.records import Failure
from flowbook.plan.schedules import Fire, Schedule
from flowbook.ports import RunRow

TEXT_LIMIT = 2000
"""Characters of the text that stands for a value which JSON has no form for."""


def run_record(row: RunRow) -> dict[str, Any]:
    """A run as lists have it."""
    return {
        "id": str(row.id),
        "short": short(row.id),
        "flow": row.flow,
        "version": row.version,
        "status": row.status.value,
        "key": row.key,
        "current": row.current,
        "error": row.error,
        "lost": row.lost,
        "metadata": plain(row.metadata),
        "created_at": moment(row.created_at),
        "started_at": moment(row.started_at),
        "ended_at": moment(row.ended_at),
    }


def view_record(view: RunView) -> dict[str, Any]:
    """Everything that ``show`` knows of a run."""
    return {
        "id": str(view.id),
        "short": short(view.id),
        "flow": view.flow,
        "version": view.version,
        "status": view.status.value,
        "key": view.key,
        "input": plain(view.input),
        "metadata": plain(view.metadata),
        "created_at": moment(view.created_at),
        "started_at": moment(view.started_at),
        "ended_at": moment(view.ended_at),
        "lost": view.lost,
        "entries": view.seq,
        "needs": view.needs,
        "cancelled_by": view.cancelled_by,
        "failed_path": view.failed_path,
        "failure": _failure(view.failure),
        "forked": _forked(view.forked),
        "steps": [_step(s) for s in view.steps],
    }


def diff_record(diff: Diff) -> dict[str, Any]:
    """How two runs differ."""
    return {
        "a": str(diff.a.id),
        "b": str(diff.b.id),
        "same": diff.same,
        "first": diff.first.path if diff.first else None,
        "alike": diff.alike,
        "code": list(diff.code),
        "steps": [
            {
                "path": s.path,
                "what": list(s.what),
                "inputs": list(s.inputs),
                "a": plain(s.a.result) if s.a else None,
                "b": plain(s.b.result) if s.b else None,
            }
            for s in diff.steps
        ],
        "state": None
        if diff.state is None
        else [{"key": k.key, "in_a": k.in_a, "in_b": k.in_b, "a": plain(k.a), "b": plain(k.b)} for k in diff.state],
    }


def plan_record(plan: Plan) -> dict[str, Any]:
    """What a run would do."""
    return {
        "flow": plan.flow,
        "fingerprint": plan.fingerprint,
        "against": None if plan.against is None else str(plan.against),
        "status": None if plan.against_status is None else plan.against_status.value,
        "changes": list(plan.changes),
        "input_changed": list(plan.input_changed),
        "goes_on_at": list(plan.standing),
        "history": plan.history,
        "seconds": plan.seconds,
        "usd": plan.usd,
        "saved": plan.saved,
        "notes": list(plan.notes),
        "nodes": [
            {"node": n.node, "plan": n.fate.value, "why": n.why, "seconds": n.seconds, "usd": n.usd} for n in plan.nodes
        ],
    }


def entry_record(entry: Entry) -> dict[str, Any]:
    """One row of a journal, with what it says under ``data``."""
    event = from_entry(entry)
    data = {
        f.name: plain(getattr(event, f.name))
        for f in dataclasses.fields(event)
        if f.name not in ("path", "attempt", "update")
    }
    return {
        "seq": entry.seq,
        "at": moment(entry.at),
        "kind": entry.kind.value,
        "path": entry.path,
        "attempt": entry.attempt,
        "bytes": len(entry.payload),
        "data": data,
    }


def output_record(output: Output) -> dict[str, Any]:
    """A piece of what a step printed, or what it displayed."""
    shown = {"bundle": dict(output.bundle), "metadata": dict(output.metadata)} if output.kind == "display" else {}
    about = {"path": output.path, "attempt": output.attempt, "kind": output.kind, "at": moment(output.at)}
    return {**about, "text": output.text, **shown}


def schedule_record(schedule: Schedule) -> dict[str, Any]:
    """A schedule."""
    return {
        "name": schedule.name, "flow": schedule.flow, "cron": schedule.cron, "every": schedule.every,
        "at": moment(schedule.at), "tz": schedule.tz, "queue": schedule.queue,
        "input": _scheduled(decode(schedule.input)),
        "priority": schedule.priority, "fingerprint": schedule.fingerprint, "on_missed": schedule.on_missed,
        "window": schedule.window, "overlap": schedule.overlap, "paused_at": moment(schedule.paused_at),
        "next_at": moment(schedule.next_at), "created_at": moment(schedule.created_at),
    }  # fmt: skip


def _scheduled(input: Any) -> Any:
    """The input of a schedule; of a notebook, where it is from and the digest of its source instead of all of it."""
    if isinstance(input, dict) and isinstance(stored := input.get("flowbook_notebook"), dict):
        input = {**input, "flowbook_notebook": {"notebook": stored.get("notebook"), "kernel": stored.get("kernel")}}
    return plain(input)


def fire_record(fire: Fire) -> dict[str, Any]:
    """What became of a moment of a schedule."""
    return {
        "schedule": fire.schedule, "fire_time": moment(fire.fire_time), "verdict": fire.verdict,
        "run": None if fire.run_id is None else str(fire.run_id), "note": fire.note, "fired_at": moment(fire.fired_at),
    }  # fmt: skip


def plain(value: Any) -> Any:
    """``value`` as far as JSON can say it, the rest as text; nothing of the value's own is called but ``repr``."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # a lone surrogate is text to Python and to nobody else
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, Failure):
        return _failure(value)
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    try:
        text = repr(value)
    except Exception as error:  # a user's __repr__: it must not cost the record
        text = f"<{type(value).__name__}: {type(error).__name__} in its repr>"
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"


def moment(at: datetime | None) -> str | None:
    """A time as text."""
    return None if at is None else at.astimezone(UTC).isoformat()


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    return None if failure is None else {f.name: plain(getattr(failure, f.name)) for f in dataclasses.fields(failure)}


def _forked(forked: ForkView | None) -> dict[str, Any] | None:
    return None if forked is None else {
        "from": str(forked.parent),
        "at": forked.at,
        "edits": plain(forked.edits),
        "changes": list(forked.changes),
    }  # fmt: skip


def _step(step: StepView) -> dict[str, Any]:
    return {
        "path": step.path,
        "node": step.node,
        "state": step.state.value,
        "seconds": step.seconds,
        "route": step.route,
        "result": plain(step.result),
        "retry_at": moment(step.retry_at),
        "wait": _wait(step.wait),
        "items": _items(step.items),
        "kept": step.kept,
        "child": None if step.child is None else str(step.child),
        "undoes": step.undoes or None,
        "attempts": [_attempt(a) for a in step.attempts],
    }


def answered_record(path: str, signal: str | None, by: str, payload: Any, at: datetime | None) -> dict[str, Any]:
    """A decision that was delivered."""
    return {"path": path, "signal": signal, "by": by, "at": moment(at), "payload": plain(payload)}


def _wait(wait: WaitView | None) -> dict[str, Any] | None:
    return None if wait is None else {
        "signals": list(wait.signals),
        "handed_out": wait.handed_out,
        "since": moment(wait.since),
        "due_at": moment(wait.due_at),
        "refused": [_failure(f) for f in wait.refused],
        "answered_by": wait.answered_by or None,
        "answered_at": moment(wait.answered_at),
        "answer": wait.answer,
    }  # fmt: skip


def _items(items: ItemsView | None) -> dict[str, Any] | None:
    return None if items is None else {
        "total": items.total,
        "done": items.done,
        "failed": items.failed,
        "running": items.running,
        "retrying": items.retrying,
        "troubles": [{"index": i, "failure": _failure(f)} for i, f in items.troubles],
    }  # fmt: skip


def _attempt(attempt: AttemptView) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "started_at": moment(attempt.started_at),
        "ended_at": moment(attempt.ended_at),
        "lost": attempt.lost,
        "failure": _failure(attempt.failure),
    }
