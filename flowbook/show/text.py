"""Text: runs for terminals and for the text that goes with every picture.

Owns: rich tables (the command line) and plain lines (``text/plain``, what a screen reader or a log gets). Refuses:
writing them anywhere. Users' texts go into `rich.text.Text`, so that ``[bold]`` in a label stays text.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flowbook.ids import short
from flowbook.observe.views import RunView
from flowbook.plan.records import Status
from flowbook.ports import RunRow
from flowbook.show.html import ago, says, state_text, summary, took, waits_text
from flowbook.show.looks import LOOKS, STATUS
from flowbook.show.safe import clean, duration
from flowbook.show.topology import Kind, topology_of


def runs_table(rows: Sequence[RunRow], now: datetime | None = None) -> RenderableType:
    """A list of runs."""
    now = now or datetime.now(UTC)
    if not rows:
        return Text("no runs", "dim")
    table = _table("run", "flow", "status", "at", "started", "took", "key")
    for r in rows:
        table.add_row(
            Text(short(r.id), "bold"), _plain(r.flow, 40), status_text(r.status),
            _plain(r.current or r.error or "", 60),
            _plain(ago(r.created_at, now)), _plain(took(r, now)), _plain(r.key or "", 40),
        )  # fmt: skip
    return table


def run_table(view: RunView, now: datetime | None = None) -> RenderableType:
    """A run: heading, steps, error."""
    now = now or datetime.now(UTC)
    heading = Text.assemble(
        (clean(view.flow, 60), "bold"), "  ", (short(view.id), "cyan"), "  ", status_text(view.status), "  ",
        (clean(" · ".join([f"v{view.version}", *summary(view, now)]), 160), "dim"),
    )  # fmt: skip
    parts: list[RenderableType] = [heading]
    if view.needs:
        parts.append(_plain(f"It stands still: it needs {view.needs}", 300))
    if view.steps:
        table = _table("step", "state", "attempt", "time", "result")
        for step in view.steps:
            look = LOOKS[step.state]
            last = step.attempts[-1] if step.attempts else None
            table.add_row(
                _plain(step.path, 80), Text(f"{look.sign} {state_text(step)}", look.terminal),
                str(last.number if last else ""),
                "" if step.seconds is None else duration(step.seconds),
                _plain(says(step), 120),
            )  # fmt: skip
        parts.append(table)
    if view.failure:
        where = f" at {view.failed_path}" if view.failed_path else ""
        parts.append(Text(clean(f"{view.failure.type}{where}: {view.failure.message}", 400), "bold red"))
        parts.append(_plain(view.failure.traceback.rstrip()))
        parts += [Text(clean(note, 400), "red") for note in view.failure.notes]
    return Group(*parts)


def run_plain(view: RunView, now: datetime | None = None) -> str:
    """A run in a few lines of plain text."""
    now = now or datetime.now(UTC)
    look, word = STATUS[view.status]
    head = f"{clean(view.flow, 80)} {short(view.id)} {look.sign} {word}"
    lines = [" · ".join([head, *(clean(fact, 80) for fact in summary(view, now))])]
    for step in view.steps[-50:]:
        took = "" if step.seconds is None else f"  {duration(step.seconds)}"
        words = says(step) if step.items else waits_text(step)
        waits = f"  {clean(words, 120)}" if words else ""
        lines.append(f"  {LOOKS[step.state].sign} {clean(step.path, 80)}{took}{waits}")
    if view.failure:
        lines.append(f"  {clean(view.failure.type, 80)}: {clean(view.failure.message, 300)}")
        lines += [f"  {clean(note, 300)}" for note in view.failure.notes]
    return "\n".join(lines)


def runs_plain(rows: Sequence[RunRow], now: datetime | None = None) -> str:
    """A list of runs in plain text."""
    now = now or datetime.now(UTC)
    line = "{}  {:<20}  {} {:<10}  {:<12}  {}"
    return "\n".join(
        line.format(
            short(r.id), clean(r.flow, 20), STATUS[r.status][0].sign, r.status, ago(r.created_at, now),
            clean(r.current or r.error or "", 60),
        ).rstrip()
        for r in rows
    ) or "no runs"  # fmt: skip


def flow_plain(thing: Any) -> str:
    """A topology in plain text, one line per place that leads on: ``judge -> write (True), search (False)``."""
    topology = topology_of(thing)
    kinds = {p.id: p for p in topology.places}

    def ends(source: str) -> list[str]:
        found = []
        for way in topology.ways:
            if way.source == source:
                target = kinds[way.target]
                names = ends(target.id) if target.kind in (Kind.BAR, Kind.RACE) else [clean(target.name, 80)]
                found += [f"{n} ({way.label})" if way.label else n for n in names]
        return found

    lines = [f"{clean(p.name, 80)} -> {', '.join(ends(p.id))}" for p in topology.places if p.name and ends(p.id)]
    return "\n".join([*([f"flow {topology.name}"] if topology.name else []), *lines])


def table_of(heads: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> tuple[RenderableType, str]:
    """Rows of texts as a table and as plain lines; ``empty`` is said where there are none."""
    if not rows:
        return Text(empty, "dim"), empty
    table = _table(*heads)
    for row in rows:
        table.add_row(*(_plain(text, 80) for text in row))
    told = [[clean(text, 80) for text in row] for row in rows]
    widths = [max(len(row[n]) for row in told) for n in range(len(heads))]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in told)
    return table, "\n".join(lines)


def status_text(status: Status) -> Text:
    """A run's status with its sign, coloured."""
    look, word = STATUS[status]
    return Text(f"{look.sign} {word}", look.terminal)


def _plain(text: str, limit: int | None = None) -> Text:
    return Text(clean(text, limit))


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(head, overflow="fold")
    return table
