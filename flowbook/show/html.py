"""HTML: a run, a list of runs and a flow as still pages of text and one picture.

Owns: the output that stays in a saved notebook. Refuses: script, links, ``<style>``, inline ``<svg>`` (untrusted
notebooks strip or hide all of them) and unescaped text. What is left when even ``style`` attributes are taken out is
still a heading, a picture, a table and folded details.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flowbook.ids import short
from flowbook.observe.transcripts import transcript
from flowbook.observe.views import RunView, State, StepView
from flowbook.plan.query import RunSummary
from flowbook.plan.records import Failure, Status
from flowbook.ports import RunRow
from flowbook.show.layout import Layout, arrange
from flowbook.show.looks import LOOKS, STATUS
from flowbook.show.painted import items_text, layout_of, paint
from flowbook.show.safe import duration, escape
from flowbook.show.svg import LEAST, data_uri, draw
from flowbook.show.topology import topology_of
from flowbook.show.transcript import transcript_html

STEPS_SHOWN = 200
"""Rows of a table of steps; the journal has the rest."""
VALUE_LIMIT = 160
TRACEBACK_LIMIT = 20_000

_CELL = "text-align:left;padding:3px 12px 3px 0"
_MONO = "font-family:monospace"


def run_html(view: RunView, now: datetime | None = None, *, hint: str = "", enter: str = "") -> str:
    """A run: heading, picture, errors, steps. ``hint``: what can be done about it now, as a command; ``enter``: the
    command that opens the step which failed.
    """
    now = now or datetime.now(UTC)
    about = f"topology of {view.flow}, run {short(view.id)}"
    parts = [run_heading(view, now), _picture(paint(view, now), layout_of(view), about)]
    if view.needs:
        parts.append(_note(f"It stands still: it needs {view.needs}"))
    if view.failure:
        parts.append(_failure(view.failure, view.failed_path))
    if enter:
        parts.append(f'<div style="margin:4px 0">Open here: <code>{escape(enter, 200)}</code></div>')
    if hint:
        parts.append(f'<div style="margin:4px 0">next: <code>{escape(hint, 200)}</code></div>')
    said = transcript(view)
    if said is not None:
        parts.append(transcript_html(said))
    if view.steps:
        parts.append(_steps(view, now))
    if not view.status.over:
        parts.append(_note(f"as it was on {now:%Y-%m-%d at %H:%M:%S} UTC"))
    return f'<div class="fb-run">{"".join(parts)}</div>'


def run_heading(view: RunView, now: datetime) -> str:
    """One line: flow, id, status, time."""
    facts = [f"v{view.version}", *summary(view, now)]
    return (
        f'<div style="margin:2px 0 6px"><b>{escape(view.flow, 80)}</b>&ensp;'
        f'<code title="{escape(view.id)}">{short(view.id)}</code>&ensp;{badge(view.status)}&ensp;'
        f'<span style="opacity:.7">{escape(" · ".join(facts), 200)}</span></div>'
    )


def summary(view: RunView, now: datetime) -> list[str]:
    """What the heading says besides names: steps done, time, losses."""
    facts = [f"{view.done} step{'' if view.done == 1 else 's'} done"]
    if view.started_at:
        facts.append(duration(((view.ended_at or now) - view.started_at).total_seconds()))
    if view.forked:
        facts.append(f"forked from {short(view.forked.parent)} at {view.forked.at}")
    if view.undone or view.not_undone:
        facts.append(f"{len(view.undone)} undone")
    if view.not_undone:
        facts.append(f"{len(view.not_undone)} could not be undone")
    if view.lost:
        facts.append(f"{view.lost} process{'' if view.lost == 1 else 'es'} lost")
    if view.key:
        facts.append(f"key {view.key}")
    if view.cancelled_by:
        asked = "cancelled" if view.status.over else "is asked to stop"
        facts.append(f"{asked} by {view.cancelled_by}")
    return facts


def badge(status: Status) -> str:
    """A run's status with its sign and colour."""
    look, word = STATUS[status]
    return (
        f'<span style="display:inline-block;padding:0 8px;border:1px solid {look.light.stroke};border-radius:9px;'
        f'background:{look.light.fill};color:{look.light.text}">{look.sign} {word}</span>'
    )


def runs_html(
    rows: Sequence[RunRow], now: datetime | None = None, *, summary: RunSummary | None = None, picture: str = "",
    more: bool = False,
) -> str:  # fmt: skip
    """A list of runs; ``summary`` and ``picture`` (a sparkline) stand above it, ``more``: there are others."""
    now = now or datetime.now(UTC)
    if not rows and (summary is None or not summary.total):
        return '<div style="opacity:.7">no runs</div>'
    body = [
        [
            f'<code title="{escape(r.id)}">{short(r.id)}</code>', escape(r.flow, 60), badge(r.status),
            escape(r.error if r.status is Status.FAILED and r.error else r.current, VALUE_LIMIT),
            f'<span title="{r.created_at:%Y-%m-%d %H:%M:%S} UTC">{escape(ago(r.created_at, now))}</span>',
            escape(took(r, now)), escape(r.key or "", 60),
        ]
        for r in rows
    ]  # fmt: skip
    parts = [_counted(summary, picture)] if summary else []
    parts.append(_table(["run", "flow", "status", "at", "started", "took", "key"], body))
    if summary:
        others = f"{len(rows)} of {summary.total:,} runs, " if more else ""
        parts.append(_note(f"{others}as it was on {now:%Y-%m-%d at %H:%M:%S} UTC"))
    return f'<div class="fb-runs-still">{"".join(parts)}</div>'


def _counted(summary: RunSummary, picture: str) -> str:
    """How many there are of each status, and how long they take."""
    words = [f"{badge(status)} {n:,}" for status, n in sorted(summary.statuses.items())]
    if summary.mean is not None and summary.p95 is not None:
        words.append(f"mean {duration(summary.mean)}, p95 {duration(summary.p95)}")
    if picture:
        about = f"how long the last {summary.ended} took"
        words.append(f'<img alt="{escape(about)}" style="vertical-align:middle" src="{data_uri(picture)}">')
    return f'<div style="margin:2px 0 6px">{"&ensp;".join(words)}</div>'


def flow_html(thing: Any, notes: Sequence[str] = (), problems: Sequence[str] = ()) -> str:
    """The picture of a flow or of a piece of topology, with what there is to say about it below."""
    topology = topology_of(thing)
    layout, about = arrange(topology), f"topology of {topology.name}" if topology.name else "topology"
    parts = [_picture(draw(layout), layout, about)]
    parts += [_note(n) for n in notes]
    parts += [f'<div style="margin:2px 0;color:#b54708">⚠ {escape(p, 600)}</div>' for p in problems]
    return f'<div class="fb-flow">{"".join(parts)}</div>'


def flow_svg(thing: Any) -> str:
    """The same picture alone."""
    return draw(arrange(topology_of(thing)))


def problems_html(title: str, problems: Sequence[str]) -> str:
    """Mistakes that somebody has to correct, as a list."""
    items = "".join(f"<li>{escape(p, 600)}</li>" for p in problems)
    return (
        f'<div style="border-left:3px solid #d63b3b;padding:2px 12px"><b>✕ {escape(title, 300)}</b>'
        f'<ul style="margin:4px 0">{items}</ul></div>'
    )


def ago(then: datetime, now: datetime) -> str:
    """``3m 12s ago``."""
    return f"{duration(max(0.0, (now - then).total_seconds()))} ago"


def took(row: RunRow, now: datetime) -> str:
    """How long a run has been going, or went."""
    end = row.ended_at or (now if row.status is Status.RUNNING else None)
    return duration((end - row.started_at).total_seconds()) if row.started_at and end else ""


def state_text(step: StepView) -> str:
    """How a step is doing, in words."""
    return f"{LOOKS[step.state].word}{', kept' if step.kept else ''}"


def result_text(step: StepView) -> str:
    """A result as a short text, without calling anything of the value's that could be long or loud."""
    if step.result is None:
        return ""
    if isinstance(step.result, Mapping):
        return ", ".join(f"{k}={value_text(v)}" for k, v in step.result.items())
    return value_text(step.result)


def waits_text(step: StepView) -> str:
    """What a pause waits for, and until when; which run goes on at a sub-flow; empty for anything else."""
    if step.child is not None and step.state is not State.FINISHED:
        return f"run {short(step.child)}"
    wait = step.wait
    if wait is None or step.state is not State.WAITING:
        return ""
    names = f"for {wait.wanted}" if wait.wanted else ""
    until = f"until {wait.due_at:%Y-%m-%d %H:%M:%S} UTC" if wait.due_at else ""
    refused = f"refused: {wait.refused[-1].message}" if wait.refused else ""
    return ", ".join(t for t in (names, until, refused) if t)


def says(step: StepView) -> str:
    """What a row about a step says at its end: its error, what it waits for, how its items do, or its result."""
    last = step.attempts[-1] if step.attempts else None
    error = f"{last.failure.type}: {last.failure.message}" if last and last.failure else ""
    if step.items is not None:
        index, failure = step.items.troubles[-1] if step.items.troubles else (0, None)
        trouble = f", item {index}: {failure.type}: {failure.message}" if failure else ""
        return f"{items_text(step)} items{trouble}"
    return error or waits_text(step) or result_text(step)


def value_text(value: Any) -> str:
    """A value as a short text."""
    if isinstance(value, str | int | float | bool | None):
        return repr(value)
    if isinstance(value, dict) and isinstance(value.get("shown"), str) and "chain" in value:
        return value["shown"] or "no output"  # what a notebook's cell has left (`notebooks/records.py`)
    if isinstance(value, list | tuple | set | frozenset | dict) and len(value) > 6:
        return f"{type(value).__name__} of {len(value)}"
    try:
        text = repr(value)
    except Exception as error:  # a user's __repr__: it must not cost the picture
        return f"<{type(value).__name__}: {type(error).__name__} in its repr>"
    return text if len(text) <= VALUE_LIMIT and "\n" not in text else f"<{type(value).__name__}>"


def _steps(view: RunView, now: datetime) -> str:
    body = []
    for step in view.steps[-STEPS_SHOWN:]:
        last = step.attempts[-1] if step.attempts else None
        seconds = step.seconds
        if seconds is None and last and last.started_at and step.state.value == "running":
            seconds = (now - last.started_at).total_seconds()
        look = LOOKS[step.state]
        body.append(
            [
                f'<span style="{_MONO}">{escape(step.path, 120)}</span>', f"{look.sign} {state_text(step)}",
                str(last.number if last else ""), "" if seconds is None else duration(seconds),
                escape(says(step), VALUE_LIMIT),
            ]
        )  # fmt: skip
    hidden = len(view.steps) - len(body)
    more = _note(f"{hidden} earlier steps are not shown") if hidden > 0 else ""
    table = _table(["step", "state", "attempt", "time", "result"], body)
    count = "1 step" if len(view.steps) == 1 else f"{len(view.steps)} steps"
    return f"<details><summary>{count}</summary>{more}{table}</details>"


def _failure(failure: Failure, path: str | None) -> str:
    where = f" at {path}" if path else ""
    text = f"{failure.type}{where}: {failure.message}"
    trace = "\n".join([failure.traceback.rstrip(), *failure.notes]).lstrip()
    return (
        f'<details style="border-left:3px solid #d63b3b;padding-left:10px;margin:6px 0">'
        f"<summary><b>{escape(text, 300)}</b></summary>"
        f'<pre style="white-space:pre-wrap">{escape(trace[-TRACEBACK_LIMIT:])}</pre></details>'
    )


def _picture(svg: str, layout: Layout, alt: str) -> str:
    style = f"max-width:100%;min-width:{LEAST * layout.w:.0f}px;height:auto"
    return f'<div style="overflow:auto"><img src="{data_uri(svg)}" alt="{escape(alt, 200)}" style="{style}"></div>'


def _note(text: str) -> str:
    return f'<div style="margin:2px 0;opacity:.8">{escape(text, 600)}</div>'


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """``head`` is text of ours, ``body`` is ready HTML."""
    heads = "".join(f'<th scope="col" style="{_CELL}">{h}</th>' for h in head)
    rows = "".join("<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in row) + "</tr>" for row in body)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
