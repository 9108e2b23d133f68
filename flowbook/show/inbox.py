"""The inbox: open decisions as a live table, as still HTML and as plain text.

Owns: the forms, the JSON record of a decision, and the widget. Refuses: looking for decisions and taking them: whoever
shows the widget gives it the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import traitlets
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from flowbook.ids import short
from flowbook.observe.inbox import DecisionView
from flowbook.observe.records import moment, plain
from flowbook.show.html import ago
from flowbook.show.safe import clean, escape
from flowbook.show.widget import Answer, Widget, module, sheet

NOBODY = "nothing waits for a decision"
VALUE_LIMIT = 4000
"""Characters of what a question is about."""


def decision_record(it: DecisionView) -> dict[str, Any]:
    """An open decision as JSON: ``--json`` and the page."""
    return {
        "run": str(it.run_id),
        "short": short(it.run_id),
        "flow": it.flow,
        "version": it.version,
        "key": it.key,
        "metadata": plain(it.metadata),
        "input": plain(it.input),
        "path": it.path,
        "signals": list(it.signals),
        "handed_out": it.handed_out,
        "since": moment(it.since),
        "due_at": moment(it.due_at),
        "yes": it.yes,
        "no": it.no,
        "schemas": {name: plain(schema) for name, schema in it.schemas.items()},
        "about": it.about or None,
        "value": plain(it.value),
        "question": it.question or None,
        "answered_by": it.answered_by or None,
        "answered_at": moment(it.answered_at),
    }


def inbox_html(found: Sequence[DecisionView], now: datetime | None = None) -> str:
    """A still table."""
    now = now or datetime.now(UTC)
    if not found:
        return f'<div style="opacity:.7">{NOBODY}</div>'
    cell = '<td style="text-align:left;padding:3px 12px 3px 0;vertical-align:top">'
    head = "".join(f'<th style="text-align:left;padding:3px 12px 3px 0">{h}</th>' for h in HEADS)
    rows = "".join(
        f"<tr>{cell}<code>{short(it.run_id)}</code></td>{cell}{escape(it.flow, 60)}</td>{cell}<code>"
        f"{escape(it.path, 80)}</code></td>{cell}{escape(asked(it), 400)}</td>{cell}{escape(_since(it, now))}</td>"
        f"{cell}{escape(way(it), 120)}</td></tr>"
        for it in found
    )
    as_of = f"as it was on {now:%Y-%m-%d at %H:%M:%S} UTC; <code>%flow inbox</code> shows it now"
    return (
        f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f'<div style="opacity:.7">{as_of}</div>'
    )


HEADS = ("run", "flow", "at", "question", "since", "answer")


def inbox_plain(found: Sequence[DecisionView], now: datetime | None = None) -> str:
    """Lines whose fields are separated by tabs."""
    now = now or datetime.now(UTC)
    lines = [
        (short(it.run_id), clean(it.flow, 60), clean(it.path, 80), clean(asked(it), 200), _since(it, now), way(it))
        for it in found
    ]
    return "\n".join("\t".join(line) for line in lines) or NOBODY


def inbox_table(found: Sequence[DecisionView], now: datetime | None = None) -> RenderableType:
    """A table for a terminal."""
    now = now or datetime.now(UTC)
    if not found:
        return Text(NOBODY, "dim")
    table = Table(*HEADS, box=None, pad_edge=False, header_style="dim")
    for it in found:
        table.add_row(
            short(it.run_id), Text(clean(it.flow, 60)), Text(clean(it.path, 80)), Text(clean(asked(it), 200)),
            _since(it, now), Text(way(it)),
        )  # fmt: skip
    return table


def asked(it: DecisionView) -> str:
    """The question, in a line."""
    if it.question:
        return it.question
    return f"{it.about}: {plain(it.value)!r}" if it.about else f"input: {plain(it.input)!r}"


def way(it: DecisionView) -> str:
    """How it may be answered, or who has."""
    if it.answered_by:
        return f"answered by {clean(it.answered_by, 60)}"
    names = " or ".join(it.signals) or "complete or fail"
    return names if it.due_at is None else f"{names}, until {it.due_at:%Y-%m-%d %H:%M} UTC"


def _since(it: DecisionView, now: datetime) -> str:
    return ago(it.since, now) if it.since else ""


class Inbox(Widget):
    """A live table of open decisions.

    ``answers``: ``inbox`` gives the rows, ``approve``, ``reject`` and ``answer`` take them. The page asks for the rows
    again by itself.
    """

    _esm = module("dom", "json", "inbox")
    _css = sheet("base", "inbox")

    rows: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)

    def __init__(
        self, found: Sequence[DecisionView], answers: Mapping[str, Answer], control: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(answers, rows=[decision_record(it) for it in found], control=dict(control or {}))

    def __repr__(self) -> str:
        """What a front end without widgets shows."""
        return f"<inbox: {len(self.rows)} waiting>"
