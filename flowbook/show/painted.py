"""Painted pictures: a run's states baked into the picture of its flow.

Owns: what the card of a step says (`marks`) and the still picture of a run. Refuses: changing a picture in place, which
is the live widget's way (`live.py`); both get their words from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flowbook.observe.views import RunView, State, StepView
from flowbook.show.layout import Layout, arrange
from flowbook.show.safe import clean, duration
from flowbook.show.svg import Mark, Progress, draw
from flowbook.show.taken import taken
from flowbook.show.topology import topology_of


def paint(view: RunView, now: datetime | None = None) -> str:
    """The picture of a run as it is at ``now``."""
    layout = layout_of(view)
    return draw(layout, marks(view, now or datetime.now(UTC)), taken(view, layout.topology))


def layout_of(view: RunView) -> Layout:
    """The layout of a run's flow; of a run whose definition is not known, its steps in the order of their firing."""
    if view.spec.get("nodes"):
        return _layout(view.spec)
    names = list(dict.fromkeys(s.node for s in view.steps if not s.undoes))
    nodes = [{"name": n, "ways": [names[i + 1 : i + 2]]} for i, n in enumerate(names)]
    return arrange(topology_of({"name": view.flow, "nodes": nodes, "entry": names[:1]}))


def _layout(spec: Mapping[str, Any]) -> Layout:
    """All views of a run have the same spec, and its topology takes 0.1 s of 500 nodes."""
    known = _layouts.get(id(spec))
    if known is None or known[0] is not spec:
        known = _layouts[id(spec)] = spec, arrange(topology_of(spec))
        for old in list(_layouts)[:-KEPT]:
            _layouts.pop(old, None)
    return known[1]


KEPT = 32
_layouts: dict[int, tuple[Mapping[str, Any], Layout]] = {}
"""Id of a spec -> the spec, which is kept so that no other has its id, and its layout. Specs are never changed."""


def marks(view: RunView, now: datetime) -> Mapping[str, Mark]:
    """Step name -> how it is doing: its latest firing."""
    it = view.overview
    return {node: mark(step, now, it.firings[node]) for node, step in it.nodes.items()}


def items_text(step: StepView) -> str:
    """How many items of a map are done: ``37/100``, ``98/100 · 2 failed``; empty for anything else."""
    if step.items is None:
        return ""
    failed = f" · {step.items.failed} failed" if step.items.failed else ""
    return f"{step.items.done}/{step.items.total}{failed}"


def mark(step: StepView, now: datetime, firings: int = 1) -> Mark:
    """How one firing is doing; ``firings``: how often its node has fired."""
    last = step.attempts[-1] if step.attempts else None
    number = last.number if last else 1
    error = f"{last.failure.type.rsplit('.', 1)[-1]}: {last.failure.message}" if last and last.failure else ""
    parts: list[str] = []
    clocked: list[str] = []
    since = until = None
    match step.state:
        case State.RUNNING:
            since = last.started_at if last else None
            parts += [f"attempt {number}"] if number > 1 else []
            clocked = [*parts, "{}"]
            parts += [duration((now - since).total_seconds())] if since else [] if parts else ["running"]
        case State.RETRYING:
            until = step.retry_at
            wait = max(0.0, (until - now).total_seconds()) if until else 0.0
            clocked = [f"attempt {number + 1} in {{}}"] if wait else []
            parts.append(f"attempt {number + 1} in {duration(wait)}" if wait else f"attempt {number + 1} next")
        case State.WAITING:
            until = step.wait.due_at if step.wait else None
            names = step.wait.wanted if step.wait else ""
            left = duration(max(0.0, (until - now).total_seconds())) if until else ""
            refused = [f"{len(step.wait.refused)} refused"] if step.wait and step.wait.refused else []
            parts += [clean(f"for {names}", 60)] if names else []
            clocked = [*parts, "{} left", *refused] if until else []
            parts += [f"{left} left"] if left else []
            parts += refused or ([] if parts else ["waiting"])
            error = step.wait.refused[-1].message if step.wait and step.wait.refused else error
        case State.FINISHED:
            parts.append(duration(step.seconds) if step.seconds is not None else "done")
            parts += [f"attempt {number}"] if number > 1 else []
            if step.answered_by and step.wait:
                parts.insert(0, clean(f"{step.wait.answer or 'answered'} by {step.answered_by}", 60))
        case State.FAILED:
            kind = last.failure.type.rsplit(".", 1)[-1] if last and last.failure else "failed"
            first = last.failure.message.strip().partition("\n")[0] if last and last.failure else ""
            parts += [f"attempt {number}"] if number > 1 else []
            parts += [clean(f"{kind}: {first}" if first else kind, 100)]
        case State.PENDING | State.CANCELLED | State.SKIPPED | State.UNDONE:
            parts.append(step.state.value)
    if step.items is not None:
        parts, clocked = [[items_text(step), *p] if p else p for p in (parts, clocked)]
        error = error or "; ".join(f"item {i}: {f.type}: {f.message}" for i, f in step.items.troubles[-3:])
    of = step.items
    progress = Progress(of.total, of.done, of.failed, of.running) if of else None
    times = [f"{firings} times"] if firings > 1 else []
    text = " · ".join([*parts, *times])
    clock = " · ".join([*clocked, *times]) if clocked else ""
    return Mark(step.state, text, clean(error, 300), since, until, clock, progress)
