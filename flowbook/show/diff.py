"""Differences of two runs, for people.

Owns: a diff as plain lines, as a rich table and as HTML without script. Refuses: finding them (`observe/diffs.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flowbook.ids import short
from flowbook.observe.diffs import Diff, KeyDiff, Side, StepDiff
from flowbook.plan.traces import Firing
from flowbook.show.html import badge, value_text
from flowbook.show.looks import STATUS
from flowbook.show.safe import clean, escape

MOST = 100
"""Steps, and keys, that are shown."""
_CELL = "text-align:left;vertical-align:top;padding:3px 12px 3px 0"


def diff_plain(diff: Diff) -> str:
    """A diff in plain text."""
    lines = [*_head(diff)]
    lines += [f"  {clean(s.path, 80)}  {_what(s)}  {_two(s)}" for s in diff.steps[:MOST]]
    lines += [f"  state {clean(k.key, 60)}: {_side(k.a, k.in_a)} -> {_side(k.b, k.in_b)}" for k in _keys(diff)]
    return "\n".join(line.rstrip() for line in lines)


def diff_table(diff: Diff) -> RenderableType:
    """A diff for a terminal."""
    parts: list[RenderableType] = [Text(line, "bold" if not i else "") for i, line in enumerate(_head(diff))]
    if diff.steps:
        table = _table("step", "differs in", short(diff.a.id), short(diff.b.id))
        for s in diff.steps[:MOST]:
            table.add_row(clean(s.path, 80), _what(s), Text(_outcome(s.a)), Text(_outcome(s.b)))
        parts.append(table)
    if keys := list(_keys(diff)):
        table = _table("state at the end", short(diff.a.id), short(diff.b.id))
        for k in keys:
            table.add_row(Text(clean(k.key, 60)), Text(_side(k.a, k.in_a)), Text(_side(k.b, k.in_b)))
        parts.append(table)
    return Group(*parts)


def diff_html(diff: Diff) -> str:
    """A diff as tables; everything of the runs' own is escaped."""
    a, b = (f"<code>{short(s.id)}</code> {escape(s.flow, 60)} v{s.version} {badge(s.status)}" for s in (diff.a, diff.b))
    parts = [f"<div><b>{a}</b> &rarr; <b>{b}</b></div>"]
    parts += [f"<div>{escape(line, 600)}</div>" for line in _head(diff)[1:]]
    if diff.steps:
        rows = [[escape(s.path, 120), escape(_what(s), 200), escape(_outcome(s.a)), escape(_outcome(s.b))]
                for s in diff.steps[:MOST]]  # fmt: skip
        parts.append(_html(["step", "differs in", short(diff.a.id), short(diff.b.id)], rows))
    if keys := list(_keys(diff)):
        rows = [[escape(k.key, 120), escape(_side(k.a, k.in_a)), escape(_side(k.b, k.in_b))] for k in keys]
        parts.append(_html(["state at the end", short(diff.a.id), short(diff.b.id)], rows))
    return f'<div class="fb-diff">{"".join(parts)}</div>'


def _head(diff: Diff) -> list[str]:
    def name(side: Side) -> str:
        return f"{clean(side.flow, 60)} {short(side.id)} (v{side.version}, {STATUS[side.status][1]})"

    lines = [f"{name(diff.a)} -> {name(diff.b)}"]
    alike = f"{diff.alike} step{'' if diff.alike == 1 else 's'} alike"
    if diff.same:
        lines.append(f"no difference: {alike}")
    elif diff.first is None:
        lines.append(f"no step differs: {alike}")
    else:
        lines.append(f"first difference at {clean(diff.first.path, 80)}: {_what(diff.first)}; {alike}")
    lines += [f"code: {clean(text, 200)}" for text in diff.code]
    if diff.state is None:
        lines.append("the states are not compared: the code of one of the runs is not known here")
    return lines


def _what(step: StepDiff) -> str:
    words = [f"input {', '.join(step.inputs)}" if w == "input" else w for w in step.what]
    return clean(", ".join(words), 200)


def _two(step: StepDiff) -> str:
    return f"{_outcome(step.a)} -> {_outcome(step.b)}" if step.a and step.b else _outcome(step.a or step.b)


def _outcome(firing: Firing | None) -> str:
    if firing is None:
        return ""
    if firing.failure is not None:
        return clean(f"{firing.failure.type}: {firing.failure.message}", 120)
    way = "" if firing.route is None else f", way {firing.route + 1}"
    return clean(f"{value_text(firing.result)}{way}", 160)


def _side(value: Any, there: bool) -> str:
    return clean(value_text(value), 160) if there else "(none)"


def _keys(diff: Diff) -> Iterator[KeyDiff]:
    yield from (diff.state or ())[:MOST]


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def _html(heads: list[str], body: list[list[str]]) -> str:
    head = "".join(f'<th scope="col" style="{_CELL}">{escape(h, 80)}</th>' for h in heads)
    rows = "".join("<tr>" + "".join(f'<td style="{_CELL}">{c}</td>' for c in row) + "</tr>" for row in body)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
