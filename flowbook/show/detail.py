"""Details: what is told of one step when somebody chooses it in a picture.

Owns: the record behind the panel below a live picture. Refuses: reading anything: a view knows it all, except what is
in the journal alone (the inspector's matter).
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flowbook.ids import short
from flowbook.observe.views import AttemptView, RunView, State, StepView
from flowbook.plan.records import Failure
from flowbook.show.html import state_text, waits_text
from flowbook.show.looks import LOOKS
from flowbook.show.safe import clean, duration

ATTEMPTS = 10
TRACE, RESULT = 6000, 2000
"""Characters at most; the tail of a traceback is the part that says what happened."""

_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxdict, _repr.maxlist, _repr.maxtuple, _repr.maxset = 4, 20, 20, 20, 20
_repr.maxstring, _repr.maxother, _repr.maxlong = 400, 600, 80


def detail(view: RunView, node: str, now: datetime) -> dict[str, Any]:
    """The latest firing of a node: path, state, attempts, error, result, what it waits for, its child, its items."""
    step = view.nodes.get(node)
    if step is None:
        return {"path": "", "name": clean(node, 200), "state": "pending", "word": LOOKS[State.PENDING].word}
    look, last = LOOKS[step.state], step.attempts[-1] if step.attempts else None
    failure = last.failure if last else None
    if failure is None and step.state is State.FAILED and view.failed_path == step.path:
        failure = view.failure
    return {
        "path": clean(step.path, 200),
        "name": clean(node, 200),
        "state": step.state.value,
        "word": f"{look.sign} {state_text(step)}",
        "firings": view.overview.firings.get(node, 1),
        "took": "" if step.seconds is None else duration(step.seconds),
        "attempts": [_attempt(a, now) for a in step.attempts[-ATTEMPTS:]],
        "error": _error(failure) if failure else None,
        "result": _result(step),
        "waits": clean(waits_text(step), 500),
        "answered": clean(_answered(step), 200),
        "child": _child(step),
        "items": _items(step),
    }


def preview(value: Any) -> str:
    """A value as text of bounded length; of a dict, a line per key."""
    try:
        if type(value) is dict:
            text = "\n".join(f"{k} = {_repr.repr(v)}" for k, v in list(value.items())[:40])
        else:
            text = _repr.repr(value)
    except Exception as error:  # a user's __repr__ or __str__: it must not cost the panel
        text = f"<{type(value).__name__}: {type(error).__name__} in its repr>"
    return clean(text, RESULT)


def _attempt(attempt: AttemptView, now: datetime) -> dict[str, Any]:
    end = attempt.ended_at or now
    took = duration((end - attempt.started_at).total_seconds()) if attempt.started_at else ""
    says = "its process was lost" if attempt.lost else ""
    if attempt.failure:
        says = f"{attempt.failure.type.rpartition('.')[2]}: {attempt.failure.message}"
    return {
        "number": attempt.number,
        "began": f"{attempt.started_at:%H:%M:%S} UTC" if attempt.started_at else "",
        "took": took,
        "says": clean(says, 300),
        "over": attempt.ended_at is not None,
    }


def _error(failure: Failure) -> Mapping[str, str]:
    trace = "\n".join([failure.traceback.rstrip(), *failure.notes]).strip()
    text = f"{failure.type}: {failure.message}"
    return {"text": clean(text, 1000), "trace": clean(trace[-TRACE:]) if trace else ""}


def _result(step: StepView) -> str:
    return preview(step.result) if step.state in (State.FINISHED, State.UNDONE) and step.result is not None else ""


def _answered(step: StepView) -> str:
    if not step.answered_by or step.wait is None:
        return ""
    what = step.wait.answer or "answered"
    when = f" at {step.wait.answered_at:%H:%M:%S} UTC" if step.wait.answered_at else ""
    return f"{what} by {step.answered_by}{when}"


def _child(step: StepView) -> dict[str, str] | None:
    return None if step.child is None else {"id": short(step.child), "command": f"%flow show {short(step.child)}"}


def _items(step: StepView) -> dict[str, Any] | None:
    it = step.items
    if it is None:
        return None
    parts = [f"{it.done} of {it.total} done"]
    parts += [
        f"{n} {word}" for n, word in ((it.failed, "failed"), (it.running, "running"), (it.retrying, "retrying")) if n
    ]
    troubles = [f"[{i}] {f.type.rpartition('.')[2]}: {f.message}" for i, f in it.troubles]
    return {"text": ", ".join(parts), "troubles": [clean(t, 300) for t in troubles]}
