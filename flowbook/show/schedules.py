"""Schedules for people: tables in a terminal and in a notebook.

Owns: the words and columns. Refuses: asking for anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flowbook.graph.durations import spoken
from flowbook.ids import short
from flowbook.plan.crons import zone
from flowbook.plan.schedules import Fire, Schedule
from flowbook.show.safe import escape
from flowbook.show.text import table_of

Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]


def schedules_rows(found: Sequence[Schedule]) -> Rows:
    """Heads and rows of a list of schedules."""
    heads = ("schedule", "flow", "when", "zone", "next", "missed", "overlap", "code")
    rows: list[tuple[str, ...]] = [
        (s.name, s.flow, when(s), s.tz, next_text(s), s.on_missed, s.overlap, (s.fingerprint or "newest")[:8])
        for s in found
    ]  # fmt: skip
    return heads, rows


def fires_rows(found: Sequence[Fire]) -> Rows:
    """Heads and rows of a history."""
    rows: list[tuple[str, ...]] = [
        (f"{f.fire_time:%Y-%m-%d %H:%M:%S %Z}", f.verdict, short(f.run_id) if f.run_id else "", f.note) for f in found
    ]
    return ("moment", "became", "run", "note"), rows


def when(schedule: Schedule) -> str:
    """The times of a schedule in a few words."""
    if schedule.cron is not None:
        return schedule.cron
    if schedule.every is not None:
        return f"every {spoken(schedule.every)}"
    return "once" if schedule.at is None else f"once, {_local(schedule, schedule.at)}"


def next_text(schedule: Schedule) -> str:
    """When it fires next, in its own time zone."""
    if schedule.paused_at is not None:
        return "paused"
    return "done" if schedule.next_at is None else _local(schedule, schedule.next_at)


def schedules_html(found: Sequence[Schedule]) -> str:
    """A list of schedules for a notebook."""
    return _table(*schedules_rows(found), "no schedules")


def schedules_plain(found: Sequence[Schedule]) -> str:
    """The same in plain text."""
    return table_of(*schedules_rows(found), "no schedules")[1]


def fires_html(found: Sequence[Fire]) -> str:
    """A history for a notebook."""
    return _table(*fires_rows(found), "nothing has fired yet")


def fires_plain(found: Sequence[Fire]) -> str:
    """The same in plain text."""
    return table_of(*fires_rows(found), "nothing has fired yet")[1]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> str:
    if not rows:
        return f"<p>{escape(empty)}</p>"
    head = "".join(f'<th scope="col" style="text-align:left">{escape(h)}</th>' for h in heads)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{escape(text, 80)}</td>' for text in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _local(schedule: Schedule, at: datetime) -> str:
    return f"{at.astimezone(zone(schedule.tz)):%a %Y-%m-%d %H:%M:%S}"
