"""Two runs beside each other, as a still page of text and pictures.

Owns: the HTML of a diff: both topologies and both timelines, where the runs part in each of them, steps and state line
by line. Refuses: script, links and unescaped text, as `html.py` does; finding the differences (`observe/diffs.py`).

A page without script cannot scroll to anything. So what comes first is where the runs part: a topology that is too
large to be read is cut out around that step, with the whole picture folded below, both timelines have one scale and a
line at that moment, and of the steps those that are alike are only counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime

from flowbook.ids import short
from flowbook.observe.diffs import Diff, KeyDiff, Side, StepDiff
from flowbook.observe.timeline import Bar, Timeline, timeline_of
from flowbook.plan.paths import node_of
from flowbook.plan.traces import Firing
from flowbook.show.diff import MOST, head, outcome, what
from flowbook.show.html import badge, value_text
from flowbook.show.layout import Box, Layout
from flowbook.show.painted import layout_of, paint
from flowbook.show.preview import differences, preview
from flowbook.show.safe import clean, duration, escape
from flowbook.show.svg import LEAST, PAD, data_uri
from flowbook.show.timeline import NAMES, WIDE, Window, draw_timeline

LARGE = 900.0
"""Pixels of a topology from which on only the place where the runs part is shown at first."""
CUT = (760.0, 420.0)
LANES = 40
OPEN = 12
"""Steps that are not folded."""
LINES = 60
"""Lines of a difference of two values."""
_MARK, _OTHER = "#d9480f", "#e8a05c"
_CELL = "text-align:left;vertical-align:top;padding:3px 12px 3px 0"
_SIGNS = {"-": "color:#d9534a", "+": "color:#2f9e5f", "…": "opacity:.6"}


def diff_html(diff: Diff, now: datetime | None = None) -> str:
    """A diff as two columns and tables; narrow pages have one column. Everything of the runs' own is escaped."""
    now = now or datetime.now(UTC)
    lines = [f'<div style="margin:2px 0">{escape(line, 600)}</div>' for line in head(diff)[1:]]
    ends = [(s.view.ended_at or now) - s.view.created_at for s in (diff.a, diff.b) if s.view is not None]
    longest = max((end.total_seconds() for end in ends), default=0.0)
    first = diff.first.path if diff.first else None
    pictures = [_titled(side, _topology(side, diff, first, now) if side.view else "") for side in (diff.a, diff.b)]
    timelines = [_titled(s, _timeline(s, first, longest, now)) for s in (diff.a, diff.b) if s.view and s.view.steps]
    parts = [*lines, _beside(pictures, 420), _beside(timelines, 640), *_steps(diff), *_state(diff)]
    return f'<div class="fb-diff">{"".join(parts)}</div>'


def _beside(pieces: Sequence[str], least: int) -> str:
    """Pieces in columns that have at least so many pixels; a page that is too narrow has one column."""
    columns = "".join(f'<div style="flex:1 1 {least}px;min-width:0">{piece}</div>' for piece in pieces)
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px 24px">{columns}</div>'


def _titled(side: Side, picture: str) -> str:
    title = f"<code>{short(side.id)}</code> <b>{escape(side.flow, 60)}</b> v{side.version} {badge(side.status)}"
    return f'<div style="margin:6px 0">{title}</div>{picture}'


# -- pictures ----------------------------------------------------------------------------------------------------------


def _topology(side: Side, diff: Diff, first: str | None, now: datetime) -> str:
    assert side.view is not None
    layout = layout_of(side.view)
    differ = {node_of(step.path) for step in diff.steps}
    svg = _ringed(paint(side.view, now), layout, differ, first and node_of(first))
    about = f"topology of {side.flow}, run {short(side.id)}"
    place = next((b for b in layout.boxes if first and b.place.name == node_of(first)), None)
    whole = _image(svg, about, LEAST * layout.w)
    if place is None or (layout.w < LARGE and layout.h < LARGE):
        return whole
    near = _image(_cut(svg, layout, place), f"{about}, where they part", CUT[0] / 2)
    return f"{near}<details><summary>the whole topology</summary>{whole}</details>"


def _ringed(svg: str, layout: Layout, differ: Collection[str], first: str | None) -> str:
    """The picture with a ring around each step that differs; that of the first one is whole and has its words."""
    rings = []
    for box in layout.boxes:
        if box.place.name not in differ or not box.place.name:
            continue
        x, y = box.x - box.w / 2 + PAD - 5, box.y - box.h / 2 + PAD - 5
        here = box.place.name == first
        dashes = "" if here else ' stroke-dasharray="5 4"'
        words = "first difference" if here else "differs"
        rings.append(
            f'<g class="fb-ring"><title>{words}</title><rect x="{x:.1f}" y="{y:.1f}" width="{box.w + 10:.1f}" '
            f'height="{box.h + 10:.1f}" rx="12" fill="none" stroke="{_MARK if here else _OTHER}" '
            f'stroke-width="{3 if here else 2}"{dashes}/></g>'
        )
    return svg.removesuffix("</svg>") + "".join(rings) + "</svg>"


def _cut(svg: str, layout: Layout, box: Box) -> str:
    """The part of the picture around a box."""
    w, h = min(CUT[0], layout.w + 2 * PAD), min(CUT[1], layout.h + 2 * PAD)
    x = min(max(box.x + PAD - w / 2, 0.0), layout.w + 2 * PAD - w)
    y = min(max(box.y + PAD - h / 2, 0.0), layout.h + 2 * PAD - h)
    seen = f'width="{w:.0f}" height="{h:.0f}" viewBox="{x:.1f} {y:.1f} {w:.1f} {h:.1f}"'
    return re.sub(r'width="[^"]*" height="[^"]*" viewBox="[^"]*"', seen, svg, count=1)


def _timeline(side: Side, first: str | None, longest: float, now: datetime) -> str:
    """The timeline on the scale of the longer run, with a line where the first difference began."""
    assert side.view is not None
    it = timeline_of(side.view, now)
    window = Window(0.0, max(longest, 1e-3))
    svg = draw_timeline(it, window, LANES)
    bar = _bar(it, first)
    words = ""
    if bar is not None:
        at = (bar.start - it.start).total_seconds()
        x = NAMES + at * (WIDE - NAMES - 12.0) / window.seconds
        line = (
            f'<g class="fb-ring"><title>first difference, after {duration(at)}</title>'
            f'<path d="M{x:.1f} 4V10000" stroke="{_MARK}" stroke-width="2" stroke-dasharray="6 3"/></g>'
        )
        svg = svg.removesuffix("</svg>") + line + "</svg>"
        words = f"; it begins to differ after {duration(at)}"
    about = f"timeline of {side.flow}, run {short(side.id)}{words}"
    return f'<div style="max-height:420px;overflow:auto">{_image(svg, about, 560.0)}</div>'


def _bar(it: Timeline, path: str | None) -> Bar | None:
    bars = (bar for lane in it.lanes for track in lane.tracks for bar in track)
    return next((bar for bar in bars if bar.path == path), None)


def _image(svg: str, about: str, least: float) -> str:
    style = f"max-width:100%;min-width:{least:.0f}px;height:auto"
    image = f'<img src="{data_uri(svg)}" alt="{escape(about, 200)}" title="{escape(about, 200)}" style="{style}">'
    return f'<div style="overflow:auto;margin:4px 0">{image}</div>'


# -- tables ------------------------------------------------------------------------------------------------------------


def _steps(diff: Diff) -> Iterator[str]:
    rows = []
    for n, step in enumerate(diff.steps[:MOST]):
        mark = f'<b style="color:{_MARK}">▶ </b>' if n == 0 else ""
        rows.append([f"{mark}<code>{escape(step.path, 120)}</code>", escape(what(step), 200), *_both(step)])
    heads = ["step", "differs in", short(diff.a.id), short(diff.b.id)]
    if rows:
        yield _table(heads, rows[:OPEN])
    if rows[OPEN:]:
        more = f", of which {MOST} are shown" if len(diff.steps) > MOST else ""
        words = f"{len(diff.steps) - OPEN} more steps differ{more}"
        yield f"<details><summary>{words}</summary>{_table(heads, rows[OPEN:])}</details>"


def _both(step: StepDiff) -> list[str]:
    """What came of a step in either run; line by line where both have a result that is no short text."""
    a, b = step.a, step.b
    cells = [escape(outcome(a)), escape(outcome(b))]
    if a is None or b is None or "result" not in step.what or (_short(a) and _short(b)):
        return cells
    return [cells[0], cells[1] + _lines(a.result, b.result)]


def _short(firing: Firing) -> bool:
    text = preview(firing.result)
    return firing.failure is not None or ("\n" not in text and len(text) <= 80)


def _lines(a: object, b: object) -> str:
    """A difference of two values, folded."""
    found = differences(preview(a), preview(b))
    body = "".join(
        f'<span style="{_SIGNS.get(sign, "")}">{escape(f"{sign} {line}", 300)}</span>\n' for sign, line in found[:LINES]
    )
    more = f"… and {len(found) - LINES} more lines" if len(found) > LINES else ""
    text = f'<pre style="white-space:pre-wrap;margin:0">{body}{more}</pre>'
    return f"<details><summary>line by line</summary>{text}</details>"


def _state(diff: Diff) -> Iterator[str]:
    if diff.state:
        rows = [[f"<code>{escape(k.key, 120)}</code>", *_sides(k)] for k in diff.state[:MOST]]
        yield _table(["state at the end", short(diff.a.id), short(diff.b.id)], rows)


def _sides(key: KeyDiff) -> list[str]:
    a = escape(clean(value_text(key.a), 160)) if key.in_a else "<i>none</i>"
    b = escape(clean(value_text(key.b), 160)) if key.in_b else "<i>none</i>"
    one, other = preview(key.a), preview(key.b)
    if key.in_a and key.in_b and ("\n" in one or "\n" in other or len(one) + len(other) > 160):
        b += _lines(key.a, key.b)
    return [a, b]


def _table(heads: list[str], body: list[list[str]]) -> str:
    top = "".join(f'<th scope="col" style="{_CELL}">{escape(h, 80)}</th>' for h in heads)
    rows = "".join("<tr>" + "".join(f'<td style="{_CELL}">{c}</td>' for c in row) + "</tr>" for row in body)
    return f'<div style="overflow:auto"><table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></div>'
