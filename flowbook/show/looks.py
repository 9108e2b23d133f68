"""Looks: how each state of a step and each status of a run appears.

Owns: the colours, signs and words, in one table each; the live widget's style rules are made from them too. Refuses:
deciding what state a step is in (`observe/views.py`).

A state is told by its sign and its word as much as by its colour. Cards are opaque, with dark text on a pale ground, so
that a picture that was saved in a light notebook can be read in a dark one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flowbook.observe.views import State
from flowbook.plan.records import Status


@dataclass(frozen=True, slots=True)
class Ink:
    """Colours of a card."""

    fill: str
    stroke: str
    text: str
    """The second line and the sign."""
    name: str
    """The first line."""


@dataclass(frozen=True, slots=True)
class Look:
    """One state."""

    word: str
    sign: str
    """For plain text."""
    icon: str
    """The same sign as an SVG path in a square of 16 by 16: fonts differ, paths do not."""
    light: Ink
    dark: Ink
    terminal: str
    """A rich style."""


_CHECK = "M3.2 8.4 L6.6 11.8 L12.8 4.6"
_PLAY = "M5.2 3.6 L12.4 8 L5.2 12.4 Z"
_AGAIN = "M12.6 8 A4.6 4.6 0 1 1 10.9 4.4 M11.2 1.8 L11.2 4.8 L8.2 4.8"
_CROSS = "M4.2 4.2 L11.8 11.8 M11.8 4.2 L4.2 11.8"
_DOT = "M8 4.4 A3.6 3.6 0 1 1 7.99 4.4"
_BAN = "M8 2.8 A5.2 5.2 0 1 1 7.99 2.8 M4.4 4.4 L11.6 11.6"
_SKIP = "M3.6 4.4 L8 8 L3.6 11.6 M8.4 4.4 L12.8 8 L8.4 11.6"
_BACK = "M6.4 3.4 L3 6.8 L6.4 10.2 M3 6.8 L9.4 6.8 A3.2 3.2 0 1 1 9.4 13.2 L7 13.2"
_PAUSE = "M5.6 3.8 L5.6 12.2 M10.4 3.8 L10.4 12.2"

_QUIET = Ink("#f7f8fa", "#c9d0da", "#667085", "#344054")
_QUIET_DARK = Ink("#262b33", "#475060", "#98a2b3", "#d5dae2")

PLAIN = Ink("#f5f8ff", "#8fb0e8", "#5a6b8c", "#1d2b4f")
"""A step in a picture of a flow that is not running."""

LOOKS: Mapping[State, Look] = {
    State.PENDING: Look("pending", "·", _DOT, _QUIET, _QUIET_DARK, "dim"),
    State.RUNNING: Look(
        "running", "▶", _PLAY,
        Ink("#e8f1ff", "#2f6feb", "#1b57c4", "#0f2f6b"), Ink("#15294d", "#5b93ff", "#9dc0ff", "#e3edff"), "bold blue",
    ),
    State.RETRYING: Look(
        "retrying", "↻", _AGAIN,
        Ink("#fff5e0", "#dd8b0b", "#8f5600", "#583500"), Ink("#3b2a0c", "#e6a23c", "#f3c57a", "#fdeed3"), "yellow",
    ),
    State.WAITING: Look(
        "waiting", "⏸", _PAUSE,
        Ink("#f1edff", "#7c5cd6", "#5537ab", "#35216e"), Ink("#281f47", "#a085f0", "#c6b4ff", "#ece5ff"), "yellow",
    ),
    State.FINISHED: Look(
        "finished", "✓", _CHECK,
        Ink("#e9f8ef", "#2f9e5f", "#1b6e3e", "#0d4424"), Ink("#12321f", "#3fb873", "#84d9a8", "#def7e8"), "green",
    ),
    State.FAILED: Look(
        "failed", "✕", _CROSS,
        Ink("#fdecec", "#d63b3b", "#a11f1f", "#6d1212"), Ink("#431717", "#f06a6a", "#ffa6a6", "#ffe5e5"), "bold red",
    ),
    State.SKIPPED: Look("skipped", "»", _SKIP, _QUIET, _QUIET_DARK, "dim"),
    State.UNDONE: Look("undone", "↩", _BACK, _QUIET, _QUIET_DARK, "magenta"),
    State.CANCELLED: Look(
        "cancelled", "⊘", _BAN,
        Ink("#f3f1f7", "#a39bb5", "#665d79", "#453d57"), Ink("#2d2937", "#7d7491", "#b3abc4", "#e4dff0"), "magenta",
    ),
}  # fmt: skip

STATUS: Mapping[Status, tuple[Look, str]] = {
    Status.PENDING: (LOOKS[State.PENDING], "pending"),
    Status.RUNNING: (LOOKS[State.RUNNING], "running"),
    Status.WAITING: (LOOKS[State.WAITING], "waiting"),
    Status.COMPLETED: (LOOKS[State.FINISHED], "completed"),
    Status.FAILED: (LOOKS[State.FAILED], "failed"),
    Status.CANCELLED: (LOOKS[State.CANCELLED], "cancelled"),
    Status.SUPERSEDED: (LOOKS[State.CANCELLED], "superseded"),
}
"""Status of a run -> the look of its badge, and its word."""


def rules(scope: str) -> str:
    """Style rules below ``scope``: nodes with the class ``fb-<state>``, badges with ``fb-<state>``, ``fb-<status>``."""
    return "\n".join(
        [
            *_set(f"{scope} ", dark=False),
            *_set(f'[data-jp-theme-light="false"] {scope} ', dark=True),
            "@media (prefers-color-scheme: dark) {",
            # Where the page says nothing of a theme (VS Code says it by a class) the system's decides.
            *_set(f"body:not([data-jp-theme-light], .vscode-light) {scope} ", dark=True),
            "}",
        ]
    )


def _set(prefix: str, *, dark: bool) -> list[str]:
    found = []
    for state, look in LOOKS.items():
        ink, node = look.dark if dark else look.light, f"{prefix}.fb-node.fb-{state}"
        found += [
            f"{node} .fb-card {{ fill: {ink.fill}; stroke: {ink.stroke}; }}",
            f"{node} .fb-icon {{ stroke: {ink.text}; }}",
            f"{node} .fb-note {{ fill: {ink.text}; }}",
            f"{node} .fb-name {{ fill: {ink.name}; }}",
        ]
    badges = [(str(state), look) for state, look in LOOKS.items()]
    badges += [(str(status), look) for status, (look, _) in STATUS.items()]
    for status, look in dict(badges).items():
        ink = look.dark if dark else look.light
        colours = f"background: {ink.fill}; color: {ink.text}; border-color: {ink.stroke}"
        found.append(f"{prefix}.fb-badge.fb-{status} {{ {colours}; }}")
    if dark:
        found += [
            f"{prefix}.fb-label rect {{ fill: #2b3240; stroke: #4a5568; }}",
            f"{prefix}.fb-label text {{ fill: #cbd3e1; }}",
        ]
    return found
