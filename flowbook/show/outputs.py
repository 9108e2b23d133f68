"""Outputs of steps: as still HTML, and as text.

Owns: which form of a display is shown, and what a piece of output looks like. Refuses: script; text is escaped, HTML
goes through `sanitised.py`, and a picture is an image of its own, in which nothing runs. What is left when style
attributes are taken out is still a heading, text, tables and pictures.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.text import Text

from flowbook.plan.outputs import Output
from flowbook.show.safe import clean, escape
from flowbook.show.sanitised import safe_html

IMAGES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
SVG: Final = "image/svg+xml"
MOST_LINES: Final = 400
"""Lines of one piece of text that a still page shows: the first and the last ones."""
MOST_SHOWN: Final = 100
"""Pieces of one attempt that a still page shows."""
MOST_ATTEMPTS: Final = 100
MOST_BYTES: Final = 4_000_000
"""Characters of pictures and HTML of one still page: it is saved in the notebook."""

_ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])")
_BASE64 = re.compile(r"[A-Za-z0-9+/=]*\Z")
_PRE = "white-space:pre-wrap;margin:2px 0;font-family:monospace;text-align:left"
_EDGE = {"stderr": "#d63b3b", "error": "#d63b3b", "log": "#b58100"}


def outputs_html(outputs: Sequence[Output], *, path: bool = True) -> str:
    """All of it, attempt by attempt; ``path``: with headings that say whose it is. Empty if there is nothing."""
    parts, room = [], MOST_BYTES
    attempts = list(_attempts(outputs))
    for heading, group in attempts[:MOST_ATTEMPTS]:
        if path:
            parts.append(f'<div style="margin:8px 0 2px 0"><b>{escape(heading, 200)}</b></div>')
        pieces = merged(group)
        for kind, text, output in pieces[:MOST_SHOWN]:
            html = _text_html(kind, text) if output is None else display_html(output.bundle)
            if output is not None and (room := room - len(html)) < 0:
                html = _text_html("cut", f"... a display of {len(output.payload):,} bytes: the inspector shows it ...")
            parts.append(html)
        if len(pieces) > MOST_SHOWN:
            parts.append(
                _text_html("cut", f"... {len(pieces) - MOST_SHOWN:,} more pieces: the inspector shows them ...")
            )
    if (left := len(attempts) - MOST_ATTEMPTS) > 0:
        parts.append(_text_html("cut", f"... {left:,} more attempts: the inspector shows them ..."))
    return f'<div class="fb-outputs">{"".join(parts)}</div>' if parts else ""


def display_html(bundle: Mapping[str, Any]) -> str:
    """One display in its best form that can be shown still."""
    alt = escape(bundle.get("text/plain", "picture"), 200)
    uri = picture_uri(bundle)
    if uri:
        return f'<div style="overflow:auto;margin:4px 0"><img src="{uri}" alt="{alt}" style="max-width:100%"></div>'
    html = bundle.get("text/html")
    if isinstance(html, str) and (safe := safe_html(html)).strip():
        return f'<div style="overflow:auto;margin:4px 0">{safe}</div>'
    return _text_html("display", plain(bundle))


def picture_uri(bundle: Mapping[str, Any]) -> str:
    """A picture as an address that holds all of it; empty if there is none. An SVG in an image runs nothing."""
    for mime in IMAGES:
        data = bundle.get(mime)
        if isinstance(data, str) and _BASE64.match(packed := "".join(data.split())):
            return f"data:{mime};base64,{packed}"
    svg = bundle.get(SVG)
    if isinstance(svg, str):
        return f"data:{SVG};base64,{base64.b64encode(clean(svg).encode()).decode()}"
    return ""


def plain(bundle: Mapping[str, Any]) -> str:
    """The text of a display."""
    for mime in ("text/plain", "text/markdown", "text/latex"):
        if isinstance(bundle.get(mime), str):
            return str(bundle[mime])
    if "application/json" in bundle:
        return json.dumps(bundle["application/json"], indent=2, ensure_ascii=False)
    return f"<{', '.join(bundle) or 'nothing'}>"


def merged(outputs: Sequence[Output]) -> list[tuple[str, str, Output | None]]:
    """(kind, text, None) for texts of one kind behind each other, (kind, "", display) for displays."""
    pieces: list[tuple[str, str, Output | None]] = []
    for is_text, group in itertools.groupby(outputs, lambda o: o.kind if o.kind != "display" else ""):
        if is_text:
            pieces.append((is_text, readable("".join(o.text for o in group)), None))
        else:
            pieces += [("display", "", o) for o in group]
    return pieces


def readable(text: str) -> str:
    """Text as a terminal would have left it, without colours and without what a carriage return took back."""
    text = _ANSI.sub("", text)
    return re.sub(r"[^\n]*\r(?=[^\n\r])", "", text) if "\r" in text else text


def outputs_plain(outputs: Sequence[Output]) -> str:
    """For a pipe: one line per line, each with whose it is."""
    lines = []
    for heading, group in _attempts(outputs):
        for kind, text, output in merged(group):
            text = text if output is None else plain(output.bundle)
            lines += [f"{heading}  {kind:<7} {clean(line)}" for line in text.splitlines()]
    return "\n".join(lines) if lines else "nothing was printed"


def outputs_table(outputs: Sequence[Output]) -> RenderableType:
    """For a terminal: a heading per attempt, and what it wrote below."""
    parts: list[RenderableType] = []
    for heading, group in _attempts(outputs):
        parts.append(Text(clean(heading, 200), "bold"))
        for kind, text, output in merged(group):
            shown = text if output is None else plain(output.bundle)
            style = {"stderr": "red", "error": "red", "log": "yellow", "cut": "dim", "display": "cyan"}.get(kind, "")
            parts.append(Text("\n".join(f"  {clean(line)}" for line in shown.splitlines()), style))
    return Group(*parts) if parts else Text("nothing was printed", "dim")


def _attempts(outputs: Sequence[Output]) -> Iterator[tuple[str, list[Output]]]:
    """By attempt, in the order in which they began; two that ran at once are not mixed."""
    groups: dict[tuple[str, int, int], list[Output]] = {}
    for output in outputs:
        groups.setdefault((output.path, output.attempt, output.epoch), []).append(output)
    turns: dict[tuple[str, int], int] = {}
    for (path, attempt, _), group in groups.items():
        turn = turns[path, attempt] = turns.get((path, attempt), 0) + 1
        more = [f"attempt {attempt}"] * (attempt > 1) + ["once more"] * (turn > 1)
        yield (f"{path} ({', '.join(more)})" if more else path), sorted(group, key=lambda o: o.n)


def _text_html(kind: str, text: str) -> str:
    lines = text.split("\n")
    if len(lines) > MOST_LINES:
        half = MOST_LINES // 2
        more = f"... {len(lines) - 2 * half:,} more lines: the inspector shows them ..."
        text = "\n".join([*lines[:half], more, *lines[-half:]])
    edge = f";border-left:3px solid {_EDGE[kind]};padding-left:8px" if kind in _EDGE else ""
    quiet = ";opacity:.7;font-style:italic" if kind == "cut" else ""
    return f'<pre style="{_PRE}{edge}{quiet}">{escape(text.rstrip())}</pre>'
