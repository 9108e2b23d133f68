"""Timelines, drawn.

Owns: the picture of a `Timeline` as SVG, whole or between two moments. Refuses: script, and any text that has not gone
through `safe.escape`; working out the times (`observe/timeline.py`).

The same drawing is the live one and the still one. Its size does not grow with the run: bars that would be too narrow
to be told apart are one block that says how many they are, and whoever wants to see them looks closer (`window`). What
a bar means is told by its shape as well as by its colour: what was at work is a block, what waited is an outline, what
was queued or between two attempts is a line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from flowbook.ids import short
from flowbook.observe.timeline import Bar, Lane, Part, Span, Timeline
from flowbook.observe.views import State
from flowbook.show.looks import LOOKS
from flowbook.show.safe import clean, duration, escape, width
from flowbook.show.svg import FONT

WIDE = 980.0
NAMES = 168.0
"""Pixels that the names of the lanes have."""
TRACK, GAP, TOP = 15.0, 7.0, 30.0
NARROW = 2.5
"""Pixels under which a bar is not told apart from its neighbours."""
MOST = 1500
"""Bars and blocks in a picture: with more of them a page becomes slow, and blocks become wider."""
LANES = 600
"""Lanes in a picture."""

INK: dict[Part, str] = {
    Part.QUEUED: "#98a2b3",
    Part.RUNNING: LOOKS[State.FINISHED].light.stroke,
    Part.FAILED: LOOKS[State.FAILED].light.stroke,
    Part.LOST: "#7a1414",
    Part.BACKOFF: LOOKS[State.RETRYING].light.stroke,
    Part.WAITING: LOOKS[State.WAITING].light.stroke,
    Part.CHILD: "#0e7c86",
}
WORDS: dict[Part, str] = {
    Part.QUEUED: "queued",
    Part.RUNNING: "at work",
    Part.FAILED: "failed attempt",
    Part.LOST: "lost attempt",
    Part.BACKOFF: "until the next attempt",
    Part.WAITING: "waiting",
    Part.CHILD: "child run",
}
_GOES_ON = LOOKS[State.RUNNING].light.stroke
_QUIET, _LINE, _TEXT, _PAPER = "#667085", "#d9dee7", "#1d2433", "#ffffff"


@dataclass(frozen=True, slots=True)
class Window:
    """What part of a run is drawn, in seconds since its start."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is; never 0."""
        return max(self.end - self.start, 1e-3)


@dataclass(slots=True)
class _Block:
    """Neighbours that are too narrow to be told apart."""

    left: float
    right: float
    first: Bar
    count: int = 1
    states: Counter[State] = field(default_factory=Counter)


def draw_timeline(it: Timeline, window: Window | None = None, lanes: int = LANES) -> str:
    """The picture. Parts of bars are ``<g class="fb-bar" data-path=...>``, blocks have ``data-from`` and ``data-to``
    (seconds since the start of the run) instead.
    """
    window = window or Window(0.0, (it.end - it.start).total_seconds())
    shown = it.lanes[:lanes]
    tracks = sum(len(lane.tracks) for lane in shown)
    scale = (WIDE - NAMES - 12.0) / window.seconds
    narrow = NARROW
    pieces = _pieces(it, shown, window, scale, narrow)
    while sum(map(len, pieces)) > MOST and narrow < 40.0:
        narrow *= 2
        pieces = _pieces(it, shown, window, scale, narrow)
    more = len(it.lanes) - len(shown)
    high = TOP + tracks * TRACK + len(shown) * GAP + (18.0 if more else 4.0)
    title = f"timeline, {duration(window.seconds)}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="fb-timeline" width="{WIDE:g}" height="{high:.0f}" '
        f'viewBox="0 0 {WIDE:g} {high:.0f}" font-family="{FONT}" role="group" aria-label="{escape(title)}" '
        f'data-from="{window.start:.6f}" data-to="{window.end:.6f}" data-left="{NAMES:g}" data-scale="{scale:.9g}">'
        f'<rect class="fb-paper" width="{WIDE:g}" height="{high:.0f}" rx="8" fill="{_PAPER}"/>'
    )
    parts = [head, *_axis(window, scale, high)]
    y, row = TOP, 0
    for lane in shown:
        parts.append(_lane_name(lane, y))
        for _ in lane.tracks:
            # Blocks last: the line of who was queued meanwhile must not lie over them.
            ordered = sorted(pieces[row], key=lambda piece: isinstance(piece, _Block))
            parts += [_drawn(piece, it, window, scale, y) for piece in ordered]
            y, row = y + TRACK, row + 1
        y += GAP
        parts.append(f'<path class="fb-rule" d="M8 {y - GAP / 2:.1f}H{WIDE - 8:g}" stroke="{_LINE}" opacity=".6"/>')
    if more:
        parts.append(_text(NAMES, y + 10, f"{more} more", _QUIET, 11))
    return "".join([*parts, "</svg>"])


def legend() -> Iterator[tuple[Part, str, str]]:
    """(part, its colour, its words), for who explains the picture."""
    for part in Part:
        yield part, INK[part], WORDS[part]


def bar_words(bar: Bar) -> str:
    """What a bar says when it is looked at."""
    words = [f"{clean(bar.path, 120)}: {bar.state.value}, {_took(bar.start, bar.end)}"]
    for span in bar.spans:
        number = f" {span.attempt}" if span.attempt else ""
        note = f" ({clean(span.note, 160)})" if span.note else ""
        words.append(f"{WORDS[span.part]}{number} {_took(span.start, span.end)}{note}")
    if bar.items is not None:
        words.append(f"{bar.items.done} of {bar.items.total} items, {bar.items.failed} failed")
    if bar.child is not None:
        words.append(f"run {short(bar.child)}")
    return "\n".join(words)


def _pieces(
    it: Timeline, lanes: Iterable[Lane], window: Window, scale: float, narrow: float
) -> list[list[Bar | _Block]]:
    return [list(_gathered(track, it, window, scale, narrow)) for lane in lanes for track in lane.tracks]


def _gathered(
    track: tuple[Bar, ...], it: Timeline, window: Window, scale: float, narrow: float
) -> Iterator[Bar | _Block]:
    """The bars of a track that are in the window, those that are too narrow put together."""
    block: _Block | None = None
    for bar in track:
        start, end = ((at - it.start).total_seconds() for at in (bar.start, bar.end))
        if end < window.start or start > window.end:
            continue
        left, right = (NAMES + (at - window.start) * scale for at in (start, end))
        near = block is not None and left - block.right < narrow and right - block.left < 8 * narrow
        if block is not None and not (near and right - left < narrow):
            yield block.first if block.count == 1 else block
            block = None
        if right - left >= narrow:
            yield bar
        elif block is None:
            block = _Block(left, right, bar, 1, Counter([bar.state]))
        else:
            block.right, block.count = max(right, block.right), block.count + 1
            block.states[bar.state] += 1
    if block is not None:
        yield block.first if block.count == 1 else block


def _drawn(piece: Bar | _Block, it: Timeline, window: Window, scale: float, y: float) -> str:
    if isinstance(piece, _Block):
        worst = State.FAILED if piece.states[State.FAILED] else State.FINISHED
        ink = LOOKS[worst].light.stroke
        told = ", ".join(f"{n} {state.value}" for state, n in piece.states.most_common())
        words = f"{piece.count} times {clean(piece.first.path.partition('#')[0], 80)}: {told}"
        seconds = [(at - NAMES) / scale + window.start for at in (piece.left, piece.right)]
        return (
            f'<g class="fb-bar fb-block" data-from="{seconds[0]:.6f}" data-to="{seconds[1]:.6f}" '
            f'aria-label="{escape(words, 300)}"><title>{escape(words, 300)}</title>'
            f'<rect x="{piece.left:.1f}" y="{y:.1f}" width="{max(piece.right - piece.left, 2.0):.1f}" '
            f'height="{TRACK - 3:g}" fill="{ink}" opacity=".75"/></g>'
        )
    words = bar_words(piece)
    inside = "".join(_span(span, piece, it, window, scale, y) for span in piece.spans)
    child = f' data-child="{piece.child}"' if piece.child is not None else ""
    said = escape("; ".join(words.splitlines()), 400)
    start, end = ((at - it.start).total_seconds() for at in (piece.start, piece.end))
    left, right = (NAMES + (min(max(at, window.start), window.end) - window.start) * scale for at in (start, end))
    room = f'x="{left:.1f}" y="{y - 1:.1f}" width="{max(right - left, 3.0):.1f}" height="{TRACK - 1:g}"'
    return (
        f'<g class="fb-bar" data-path="{escape(piece.path)}"{child} aria-label="{said}">'
        f'<title>{escape(words, 600)}</title><rect class="fb-room" {room} fill="none" pointer-events="all"/>'
        f"{inside}</g>"
    )


def _span(span: Span, bar: Bar, it: Timeline, window: Window, scale: float, y: float) -> str:
    start, end = ((at - it.start).total_seconds() for at in (span.start, span.end))
    if end < window.start or start > window.end:
        return ""
    left = NAMES + (max(start, window.start) - window.start) * scale
    w = max((min(end, window.end) - max(start, window.start)) * scale, 1.5)
    high, middle = TRACK - 3, y + (TRACK - 3) / 2
    ink = INK[span.part]
    if span.part is Part.RUNNING and bar.state is State.RUNNING and span is bar.spans[-1]:
        ink = _GOES_ON
    named = f'class="fb-part fb-part-{span.part.value}"'
    match span.part:
        case Part.QUEUED:
            return f'<path {named} d="M{left:.1f} {middle:.1f}h{w:.1f}" stroke="{ink}" stroke-width="2"/>'
        case Part.BACKOFF:
            dashes = 'stroke-width="2.5" stroke-dasharray="3 3"'
            return f'<path {named} d="M{left:.1f} {middle:.1f}h{w:.1f}" stroke="{ink}" {dashes}/>'
        case Part.WAITING:
            return (
                f'<rect {named} x="{left:.1f}" y="{y + 1:.1f}" width="{w:.1f}" height="{high - 2:g}" rx="3" '
                f'fill="{ink}" fill-opacity=".14" stroke="{ink}" stroke-width="1.4"/>'
            )
        case Part.CHILD:
            return (
                f'<rect {named} x="{left:.1f}" y="{y:.1f}" width="{w:.1f}" height="{high:g}" rx="3" fill="{ink}"/>'
                f'<path d="M{left:.1f} {middle:.1f}h{w:.1f}" stroke="#fff" stroke-width="1.4"/>'
            )
        case Part.FAILED | Part.LOST:
            cross = (
                f'<path d="M{left + w / 2 - 3:.1f} {middle - 3:.1f}l6 6m0 -6l-6 6" stroke="#fff" stroke-width="1.5"/>'
            )
            block = f'<rect {named} x="{left:.1f}" y="{y:.1f}" width="{w:.1f}" height="{high:g}" rx="2" fill="{ink}"/>'
            return block + (cross if w > 9 else "")
        case Part.RUNNING:
            return f'<rect {named} x="{left:.1f}" y="{y:.1f}" width="{w:.1f}" height="{high:g}" rx="3" fill="{ink}"/>'


def _axis(window: Window, scale: float, high: float) -> Iterator[str]:
    step = _tick(window.seconds / 7)
    at = -(-window.start // step) * step
    while at <= window.end + step * 1e-6:
        x = NAMES + (at - window.start) * scale
        yield f'<path class="fb-rule" d="M{x:.1f} {TOP - 6:g}V{high - 4:.0f}" stroke="{_LINE}"/>'
        text = "0" if at < step / 2 else duration(at)
        anchor = "end" if x > WIDE - 30 else "middle"
        yield _text(x, 16, text, _QUIET, 10.5, anchor)
        at += step


def _tick(about: float) -> float:
    """A round number of seconds near ``about``."""
    for step in (60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400, 7 * 86400):
        if about <= step and about > 30:
            return float(step)
    if about > 30:
        return 30 * 86400.0
    power = 1e-6
    while power * 10 < about:
        power *= 10
    return next((power * m for m in (1, 2, 5, 10) if about <= power * m), power * 10)


def _lane_name(lane: Lane, y: float) -> str:
    room = NAMES - 22 - 12 * lane.depth
    count = f" \N{MULTIPLICATION SIGN}{lane.bars}" if lane.bars > 1 else ""
    name = clean(lane.name, 80)
    while name and width(name + count, 12) > room:
        name = name[:-2].rstrip("…") + "…" if len(name) > 2 else ""
    return (
        f'<g class="fb-lane"><title>{escape(lane.name, 200)}{count}</title>'
        f"{_text(12 + 12 * lane.depth, y + 10, name + count, _TEXT, 12)}</g>"
    )


def _text(x: float, y: float, text: str, ink: str, size: float, anchor: str = "start") -> str:
    return (
        f'<text class="fb-{"quiet" if ink == _QUIET else "text"}" x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" '
        f'text-anchor="{anchor}" fill="{ink}">{escape(text)}</text>'
    )


def _took(start: datetime, end: datetime) -> str:
    return duration((end - start).total_seconds())
