"""Differences of two runs, for people.

Owns: a diff as plain lines and as a rich table. Refuses: pages (`compared.py`) and finding them (`observe/diffs.py`).
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
from flowbook.show.html import value_text
from flowbook.show.looks import STATUS
from flowbook.show.safe import clean

MOST = 100
"""Steps, and keys, that are shown."""


def diff_plain(diff: Diff) -> str:
    """A diff in plain text."""
    lines = [*head(diff)]
    lines += [f"  {clean(s.path, 80)}  {what(s)}  {_two(s)}" for s in diff.steps[:MOST]]
    lines += [f"  state {clean(k.key, 60)}: {_side(k.a, k.in_a)} -> {_side(k.b, k.in_b)}" for k in _keys(diff)]
    return "\n".join(line.rstrip() for line in lines)


def diff_table(diff: Diff) -> RenderableType:
    """A diff for a terminal."""
    parts: list[RenderableType] = [Text(line, "bold" if not i else "") for i, line in enumerate(head(diff))]
    if diff.steps:
        table = _table("step", "differs in", short(diff.a.id), short(diff.b.id))
        for s in diff.steps[:MOST]:
            table.add_row(clean(s.path, 80), what(s), Text(outcome(s.a)), Text(outcome(s.b)))
        parts.append(table)
    if keys := list(_keys(diff)):
        table = _table("state at the end", short(diff.a.id), short(diff.b.id))
        for k in keys:
            table.add_row(Text(clean(k.key, 60)), Text(_side(k.a, k.in_a)), Text(_side(k.b, k.in_b)))
        parts.append(table)
    return Group(*parts)


def head(diff: Diff) -> list[str]:
    """What there is to say of both runs as a whole, line by line; the first line names them."""

    def name(side: Side) -> str:
        return f"{clean(side.flow, 60)} {short(side.id)} (v{side.version}, {STATUS[side.status][1]})"

    lines = [f"{name(diff.a)} -> {name(diff.b)}"]
    alike = f"{diff.alike} step{'' if diff.alike == 1 else 's'} alike"
    if diff.same:
        lines.append(f"no difference: {alike}")
    elif diff.first is None:
        lines.append(f"no step differs: {alike}")
    else:
        lines.append(f"first difference at {clean(diff.first.path, 80)}: {what(diff.first)}; {alike}")
    lines += [f"code: {clean(text, 200)}" for text in diff.code]
    if diff.state is None:
        lines.append("the states are not compared: the code of one of the runs is not known here")
    return lines


def what(step: StepDiff) -> str:
    """In what a step differs, in words."""
    words = [f"input {', '.join(step.inputs)}" if w == "input" else w for w in step.what]
    return clean(", ".join(words), 200)


def _two(step: StepDiff) -> str:
    return f"{outcome(step.a)} -> {outcome(step.b)}" if step.a and step.b else outcome(step.a or step.b)


def outcome(firing: Firing | None) -> str:
    """What came of a step, as a short text."""
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
