"""SVG: a layout, drawn.

Owns: every element of the picture. Refuses: script, links, styles from elsewhere, ids (several pictures share a page),
and any text that has not gone through `safe.escape`.

Colours stand in attributes, so that the picture is complete by itself: in ``<img>``, in a saved file, on a page whose
sanitizer takes styles out. The live widget lays style rules over them, which win.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from flowbook.observe.views import State
from flowbook.show.layout import NAME_LIMIT, Box, Layout, Line, Point
from flowbook.show.looks import LOOKS, PLAIN
from flowbook.show.safe import clean, escape, fitting, width
from flowbook.show.topology import Kind

EDGE = "#8b95a7"
"""Legible on white and on black."""
TAKEN = "#3f8f63"
"""An edge that was gone: as legible as that, and thicker."""
FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
PAD = 10.0
LEAST = 0.6
"""A picture that is too wide for its page shrinks to this part of its size and no further: then it is scrolled."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far what consists of many has come; drawn as a bar on the card."""

    total: int
    done: int
    failed: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True)
class Mark:
    """How one step is doing, as the picture says it."""

    state: State
    text: str
    """The second line of the card."""
    title: str = ""
    """What the tooltip adds."""
    since: datetime | None = None
    """When the attempt under way began: the live view counts on from there."""
    until: datetime | None = None
    """When the next attempt begins."""
    clocked: str = ""
    """``text`` with ``{}`` where the time goes that has passed since ``since``, or is left until ``until``."""
    progress: Progress | None = None
    """Of what consists of many: the items of a map, the cells of a notebook."""
    word: str = ""
    """What the tooltip calls the state; empty: by its own name."""


def draw(layout: Layout, marks: Mapping[str, Mark] | None = None, taken: Collection[int] = ()) -> str:
    """The picture; with ``marks`` (step name -> mark) of a run, without of a flow. ``taken``: the edges that were gone,
    as indices into the topology's ways.
    """
    w, h = layout.w + 2 * PAD, layout.h + 2 * PAD
    title = escape(f"flow {layout.name}" if layout.name else "topology", 200)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fb-svg" width="{w:.0f}" height="{h:.0f}" '
        f'viewBox="0 0 {w:.1f} {h:.1f}" role="img" aria-label="{title}" font-family="{FONT}">'
        f'<title>{title}</title><g transform="translate({PAD:g} {PAD:g})">'
    )
    parts = [head, *(_edge(line, line.way in taken) for line in layout.lines)]
    parts += [_label(line) for line in layout.lines if line.label and line.label_at]
    known = marks or {}
    parts += [_box(box, known.get(box.place.name), marks is not None) for box in layout.boxes]
    return "".join([*parts, "</g></svg>"])


def data_uri(svg: str) -> str:
    """The picture as the address of an ``<img>``: the one form that untrusted notebooks show."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def note_room(w: float) -> float:
    """How wide a second line may be, in pixels, on a card that is ``w`` wide."""
    return w - 42.0


def _edge(line: Line, taken: bool) -> str:
    (x0, y0), rest = line.points[0], line.points[1:]
    tip = line.points[-1]
    angle = _angle(line.points)
    # The line ends inside its own arrow head, else its blunt end would show at the tip.
    back = (tip[0] - 5.0 * math.cos(angle), tip[1] - 5.0 * math.sin(angle))
    curve = " ".join(f"{x:.1f} {y:.1f}" for x, y in (*rest[:-1], back))
    wings = " ".join(
        f"{tip[0] - 8.5 * math.cos(angle + turn):.1f},{tip[1] - 8.5 * math.sin(angle + turn):.1f}"
        for turn in (-0.42, 0.42)
    )
    ink, thick = (TAKEN, "2.4") if taken else (EDGE, "1.4")
    return (
        f'<g class="fb-way{" fb-taken" if taken else ""}" data-way="{line.way}">'
        f'<path class="fb-edge" d="M{x0:.1f} {y0:.1f} C{curve}" fill="none" stroke="{ink}" stroke-width="{thick}"/>'
        f'<polygon class="fb-tip" points="{tip[0]:.1f},{tip[1]:.1f} {wings}" fill="{ink}"/></g>'
    )


def _angle(points: tuple[Point, ...]) -> float:
    (x2, y2) = points[-1]
    for x1, y1 in reversed(points[:-1]):
        if math.hypot(x2 - x1, y2 - y1) > 0.5:
            return math.atan2(y2 - y1, x2 - x1)
    return 0.0


def _label(line: Line) -> str:
    assert line.label_at is not None
    x, y = line.label_at
    w = width(line.label, 11) + 12
    return (
        f'<g class="fb-label"><rect x="{x - w / 2:.1f}" y="{y - 8.5:.1f}" width="{w:.1f}" height="17" rx="8.5" '
        f'fill="#eef1f6" stroke="#d3dae5"/><text x="{x:.1f}" y="{y + 3.8:.1f}" font-size="11" text-anchor="middle" '
        f'fill="#475467">{escape(line.label)}</text></g>'
    )


def _box(box: Box, mark: Mark | None, running: bool) -> str:
    if box.place.kind is Kind.STEP:
        return _card(box, mark, running)
    if box.place.kind in (Kind.BAR, Kind.RACE):
        ink = f'fill="{EDGE}"' if box.place.kind is Kind.BAR else f'fill="none" stroke="{EDGE}" stroke-width="1.6"'
        return (
            f'<rect class="fb-bar" x="{box.x - box.w / 2:.1f}" y="{box.y - box.h / 2:.1f}" width="{box.w:g}" '
            f'height="{box.h:g}" rx="2.5" {ink}/>'
        )
    name, r = box.place.kind.upper(), box.w / 2
    ring = f'<circle class="fb-ring" cx="{box.x:.1f}" cy="{box.y:.1f}" r="{r - 0.8:g}"'
    if box.place.kind is Kind.START:
        return f'<g><title>{name}</title>{ring} fill="{EDGE}"/></g>'
    inner = f'<circle class="fb-core" cx="{box.x:.1f}" cy="{box.y:.1f}" r="{r - 4:g}" fill="{EDGE}"/>'
    return f'<g><title>{name}</title>{ring} fill="none" stroke="{EDGE}" stroke-width="1.6"/>{inner}</g>'


def _card(box: Box, mark: Mark | None, running: bool) -> str:
    if running and mark is None:
        mark = Mark(State.PENDING, LOOKS[State.PENDING].word)
    ink = LOOKS[mark.state].light if mark else PLAIN
    note = mark.text if mark else box.place.note
    left, top = box.x - box.w / 2, box.y - box.h / 2
    dashed = ' stroke-dasharray="4 3"' if mark and mark.state is State.CANCELLED else ""
    classes = f"fb-node fb-{mark.state}" if mark else "fb-node"
    title = f"{clean(box.place.name, 200)}: {mark.word or mark.state}" if mark else clean(box.place.name, 200)
    extra = (mark.title or mark.text) if mark else note
    card = (
        f'<g class="{classes}" data-node="{box.place.id}"><title>{escape(title)}{" — " if extra else ""}'
        f'{escape(extra, 400)}</title><rect class="fb-card" x="{left:.1f}" y="{top:.1f}" width="{box.w:.1f}" '
        f'height="{box.h:g}" rx="9" fill="{ink.fill}" stroke="{ink.stroke}" stroke-width="1.4"{dashed}/>'
    )
    parts = [card]
    if box.place.nested:  # a double border: another flow runs there
        parts.append(
            f'<rect x="{left + 3:.1f}" y="{top + 3:.1f}" width="{box.w - 6:.1f}" height="{box.h - 6:g}" rx="6.5" '
            f'fill="none" stroke="{ink.stroke}" stroke-width="1"/>'
        )
    if box.place.many:  # a pile: the edges of two more cards look out below
        piled = "".join(
            f'<path class="fb-pile" d="M{left + shift + 4:.1f} {top + box.h + shift:.1f} h{box.w - 8:.1f} '
            f'q4 0 4 -4 v{-(box.h - 12):.1f}" fill="none" stroke="{ink.stroke}" stroke-width="1.2" opacity=".75"/>'
            for shift in (3.0, 6.0)
        )
        parts.append(piled)
    if mark:
        parts.append(
            f'<g transform="translate({left + 10:.1f} {box.y - 8:.1f})">'
            f'<path class="fb-icon" d="{LOOKS[mark.state].icon}" fill="none" stroke="{ink.text}" '
            f'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/></g>'
        )
    x, anchor = (left + 34, "start") if mark else (box.x, "middle")
    lines = bool(note) or running
    parts.append(
        f'<text class="fb-name" x="{x:.1f}" y="{box.y + (-3 if lines else 4.5):.1f}" font-size="13" font-weight="600" '
        f'text-anchor="{anchor}" fill="{ink.name}">{escape(box.place.name, NAME_LIMIT)}</text>'
    )
    if lines:
        parts.append(
            f'<text class="fb-note" x="{x:.1f}" y="{box.y + 13:.1f}" font-size="11" text-anchor="{anchor}" '
            f'fill="{ink.text}" data-room="{note_room(box.w):.0f}">{escape(fitting(note, note_room(box.w), 11))}</text>'
        )
    if mark and mark.progress:
        parts.append(_bar(mark.progress, left, top + box.h, box.w))
    return "".join([*parts, "</g>"])


def _bar(progress: Progress, left: float, bottom: float, w: float) -> str:
    """A bar along the lower edge: done, then failed. The page draws the same one (picture.js)."""
    whole, unit = w - 20.0, (w - 20.0) / max(1, progress.total)
    done, failed = (min(whole, unit * n) for n in (progress.done, progress.failed))
    at = f'y="{bottom - 6.5:.1f}" height="3"'
    return (
        f'<g class="fb-progress"><rect class="fb-track" x="{left + 10:.1f}" {at} width="{whole:.1f}" rx="1.5" '
        f'fill="{EDGE}" opacity=".35"/><rect class="fb-done" x="{left + 10:.1f}" {at} width="{done:.1f}" rx="1.5" '
        f'fill="{LOOKS[State.FINISHED].light.stroke}"/><rect class="fb-lost" x="{left + 10 + done:.1f}" {at} '
        f'width="{min(failed, whole - done):.1f}" rx="1.5" fill="{LOOKS[State.FAILED].light.stroke}"/></g>'
    )
