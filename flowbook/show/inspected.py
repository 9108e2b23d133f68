"""What the inspector's page is told: records as small JSON, every text cleaned and cut.

Owns: the shape of each answer, which `page/inspector.js` and its parts read. Refuses: finding anything out; the door
(`jupyter/inspector.py`) has asked the app before it comes here. Times are milliseconds since 1970, UTC.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

from flowbook.ids import short
from flowbook.observe.records import entry_record
from flowbook.observe.transcripts import is_agent
from flowbook.observe.views import RunView, State, StepView
from flowbook.plan.journal import Entry, Kind, from_entry
from flowbook.plan.outputs import Output
from flowbook.plan.records import Failure
from flowbook.show.decisions import open_decisions
from flowbook.show.html import says, state_text
from flowbook.show.journal import words
from flowbook.show.layout import Layout
from flowbook.show.live import head, possible
from flowbook.show.looks import LOOKS
from flowbook.show.outputs import plain, readable
from flowbook.show.painted import layout_of
from flowbook.show.picture import Node, edges, ids, nodes, traits
from flowbook.show.preview import differences, preview
from flowbook.show.safe import clean, duration
from flowbook.show.sanitised import safe_html

STEPS, KEYS, ROWS = 50, 300, 100
"""Rows of a list of steps, keys of a state, rows of a journal, that are sent at once."""
TRACEBACK = 20_000

Told = dict[str, Any]


class Followed:
    """What a page knows of one run, so that only what is new is sent."""

    def __init__(self, view: RunView, now: datetime) -> None:
        self._layout: Layout = layout_of(view)
        self.ids = ids(self._layout)
        self.nodes: dict[str, Node] = {}
        self.edges: list[int] = []
        self.head: Told = {}
        self.news(view, now)

    def whole(self, view: RunView) -> Told:
        """Everything, for a page that knows nothing."""
        return {
            "run": str(view.id), "picture": traits(self._layout), "nodes": self.nodes, "edges": self.edges,
            "head": self.head, "agent": is_agent(view), "seq": view.seq, "kinds": [kind.value for kind in Kind],
            "ids": {clean(name, 200): i for name, i in self.ids.items()},
        }  # fmt: skip

    def news(self, view: RunView, now: datetime) -> Told:
        """What is different now; empty: nothing."""
        found: Told = {}
        new = nodes(view, self._layout, now)
        if changed := {i: node for i, node in new.items() if self.nodes.get(i) != node}:
            found["nodes"] = changed
        taken = edges(view, self._layout)
        if taken != self.edges:
            found["edges"] = taken
        status = heading(view, self.ids, now)
        if status != self.head:
            found["head"] = status
        self.nodes, self.edges, self.head = new, taken, status
        return {"run": str(view.id), "seq": view.seq, **found} if found else {}


def heading(view: RunView, ids: Mapping[str, str], now: datetime) -> Told:
    """The run as a whole, what can be done with it, and what it asks for."""
    return head(view, now) | {
        "failed": clean(view.failed_path or "", 200),
        "can": list(possible(view)),
        "decisions": open_decisions(view, ids),
        "parent": str(view.forked.parent) if view.forked else "",
    }


def steps_told(view: RunView, text: str, offset: int) -> Told:
    """Steps whose path contains a text, newest last."""
    fitting = [s for s in view.steps if text.lower() in s.path.lower()]
    return {"found": len(fitting), "rows": [step_told(s) for s in fitting[offset : offset + STEPS]]}


def step_told(step: StepView) -> Told:
    """One firing in a line."""
    last = step.attempts[-1] if step.attempts else None
    return {
        "path": step.path, "node": step.node, "state": step.state.value,
        "words": f"{LOOKS[step.state].sign} {state_text(step)}", "attempt": last.number if last else 0,
        "took": "" if step.seconds is None else duration(step.seconds), "says": clean(says(step), 200),
        "child": str(step.child) if step.child else "", "kept": step.kept,
        "inner": "/" in step.path or step.path.endswith("]"),
    }  # fmt: skip


def journal_told(rows: Sequence[Entry], found: int, offset: int) -> Told:
    """A page of a journal."""
    return {"found": found, "offset": offset, "rows": [_row(e) for e in rows]}


def journal_text(rows: Iterable[Entry]) -> str:
    """Rows as JSON, for the clipboard."""
    return json.dumps([entry_record(e) for e in rows], indent=2, ensure_ascii=False)


def row_text(entry: Entry) -> str:
    """One row as JSON."""
    return json.dumps(entry_record(entry), indent=2, ensure_ascii=False)


def state_told(
    before: Mapping[str, Any], after: Mapping[str, Any], same: Callable[[Any, Any], bool], shown: Callable[[Any], Any]
) -> list[Told]:
    """Both sides of a point, key by key: what changed first. ``shown`` opens what the journal keeps closed."""
    keys = [*after, *(key for key in before if key not in after)]
    changed = {key: _how(key, before, after, same) for key in keys}
    keys.sort(key=lambda key: changed[key] == "same")
    return [_key(key, changed[key], before, after, shown) for key in keys[:KEYS]]


def outcome_told(step: StepView, shown: Callable[[Any], Any]) -> Told:
    """What came of a step: its result, and what went wrong on the way."""
    done = step.state in (State.FINISHED, State.UNDONE)
    return {
        **step_told(step),
        "result": preview(shown(step.result)) if done else "",
        "failures": [
            {"attempt": a.number, "lost": a.lost, **_failure(a.failure)} for a in step.attempts if a.failure is not None
        ],
    }


def output_told(output: Output) -> Told:
    """One thing that a step has printed, logged or displayed."""
    bundle = {clean(mime, 80): data for mime, data in output.bundle.items() if isinstance(data, str)}
    if "text/html" in bundle:  # the page puts it into a frame that runs nothing; there is nothing in it either
        bundle["text/html"] = safe_html(bundle["text/html"])
    if output.kind == "display" and "text/plain" not in bundle:
        bundle["text/plain"] = plain(output.bundle)
    return {
        "kind": output.kind, "attempt": output.attempt, "text": clean(readable(output.text)), "at": ms(output.at),
        "bundle": bundle,
    }  # fmt: skip


def code_told(then: str, now: str | None) -> list[Told]:
    """Two sources side by side; without a second one, the first alone."""
    one = then.splitlines()
    if now is None:
        return [{"k": "same", "a": i, "l": clean(line, 400)} for i, line in enumerate(one, 1)]
    other = now.splitlines()
    rows: list[Told] = []
    for tag, a0, a1, b0, b1 in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        for a, b in zip_longest(range(a0, a1), range(b0, b1)):
            kind = "same" if tag == "equal" else "new" if a is None else "gone" if b is None else "changed"
            row: Told = {"k": kind}
            if a is not None:
                row |= {"a": a + 1, "l": clean(one[a], 400)}
            if b is not None:
                row |= {"b": b + 1, "r": clean(other[b], 400)}
            rows.append(row)
    return rows


def ms(at: datetime | None) -> int | None:
    """A moment as the page reckons."""
    return None if at is None else round(at.timestamp() * 1000)


def _row(entry: Entry) -> Told:
    try:
        text = words(from_entry(entry))
    except Exception as error:  # a damaged row is worth seeing, and so are those around it
        text = f"{type(error).__name__}: {error}"
    return {
        "seq": entry.seq, "at": ms(entry.at), "kind": entry.kind.value, "path": clean(entry.path, 200),
        "attempt": entry.attempt, "words": clean(text, 300),
    }  # fmt: skip


def _how(key: str, before: Mapping[str, Any], after: Mapping[str, Any], same: Callable[[Any, Any], bool]) -> str:
    if key not in before:
        return "new"
    if key not in after:
        return "gone"
    return "same" if same(before[key], after[key]) else "changed"


def _key(key: str, how: str, before: Mapping[str, Any], after: Mapping[str, Any], shown: Callable[[Any], Any]) -> Told:
    was = preview(shown(before[key])) if key in before else ""
    now = was if how == "same" else preview(shown(after[key])) if key in after else ""
    told: Told = {"key": clean(key, 200), "how": how}
    if how == "changed":
        return told | {"lines": differences(was, now)}
    return told | {"text": was if how == "gone" else now}


def _failure(failure: Failure) -> Told:
    text = "\n".join([failure.traceback.rstrip(), *failure.notes]).strip()
    return {
        "type": clean(failure.type, 200),
        "message": clean(failure.message, 2000),
        "traceback": clean(text[-TRACEBACK:]),
    }


def crumb(view: RunView) -> str:
    """A run in a few characters."""
    return f"{clean(view.flow, 60)} {short(view.id)}"
