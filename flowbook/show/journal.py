"""A journal for people: one line per row.

Owns: what each kind of event says in a line. Refuses: JSON (`records.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from flowbook.ids import short
from flowbook.plan.events import (
    AttemptFailed,
    CallFinished,
    CancelRequested,
    ChildFinished,
    ChildStarted,
    CodeChanged,
    DecisionTaken,
    Event,
    ItemFinished,
    MapBegan,
    MapFinished,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunForked,
    RunRetried,
    SignalRefused,
    StepDropped,
    StepFinished,
    StepHandedOut,
    StepStarted,
    UndoingBegan,
    WaitBegan,
    WaitFinished,
)
from flowbook.plan.journal import Entry, from_entry
from flowbook.show.safe import clean, duration

_STYLES = {
    "finished": "green",
    "completed": "bold green",
    "attempt": "yellow",
    "failed": "bold red",
    "cancelled": "magenta",
}
LIMIT = 100
"""Characters of a line that are an event's own words."""


def journal_table(entries: Sequence[Entry]) -> RenderableType:
    """A journal as a table."""
    if not entries:
        return Text("the journal is empty", "dim")
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("seq", justify="right")
    for head in ("at (UTC)", "kind", "path", "attempt"):
        table.add_column(head, no_wrap=True)
    table.add_column("what", overflow="fold")
    for e in entries:
        table.add_row(
            str(e.seq), Text(_time(e), "dim"), Text(e.kind, _STYLES.get(e.kind, "")), Text(clean(e.path, 60)),
            str(e.attempt or ""), Text(clean(words(from_entry(e)), LIMIT)),
        )  # fmt: skip
    return table


def journal_plain(entries: Sequence[Entry]) -> str:
    """A journal as lines that ``cut`` and ``awk`` can take apart: fields are separated by tabs."""
    return "\n".join(
        "\t".join([str(e.seq), _time(e), e.kind, clean(e.path), str(e.attempt), clean(words(from_entry(e)), LIMIT)])
        for e in entries
    )


def words(event: Event) -> str:  # noqa: C901  one case per event
    """What an event says, on one line."""
    match event:
        case StepStarted(attempt=attempt):
            text = "" if attempt else "put aside"
        case CallFinished(call=call, seconds=seconds, signal=signal, mail=mail):
            text = call.shown + (f"  {duration(seconds)}" if seconds else "")
            text += "" if signal is None else f"  delivery {mail}"
        case StepFinished(skipped=True):
            text = "skipped"
        case StepFinished(result=result, seconds=seconds):
            keys = f"  {', '.join(map(str, result))}" if isinstance(result, dict) else ""
            text = f"{duration(seconds)}{keys}"
        case AttemptFailed(failure=failure, lost=lost, final=final):
            what = failure.message if lost else f"{failure.type}: {failure.message}"
            text = f"{what} ({'no attempt is left' if final else 'it is tried again'})"
        case StepHandedOut(due=due):
            text = "waits for who has its token" + ("" if due is None else f" until {due:%Y-%m-%d %H:%M:%S}")
        case WaitBegan(_, names, due):
            until = "" if due is None else f" until {due:%Y-%m-%d %H:%M:%S}"
            text = (f"for {' or '.join(names)}" if names else "sleeps") + until
        case SignalRefused(name=name, mail=mail, failure=failure):
            text = f"{name}, delivery {mail}: {failure.message}"
        case WaitFinished(signal=signal, mail=mail):
            text = "its time was up" if signal is None else f"{signal}, delivery {mail}" if mail else signal
        case DecisionTaken(by=by, signal=signal, mail=mail):
            text = f"{signal or 'answered'} by {by}, delivery {mail}"
        case ChildStarted(child=child, flow=flow):
            text = f"{flow} {short(child)}"
        case ChildFinished(child=child, result=result):
            text = f"child {short(child)}  {', '.join(map(str, result)) if isinstance(result, dict) else ''}"
        case MapBegan(total=total):
            text = f"over {total:,} items"
        case ItemFinished(seconds=seconds):
            text = duration(seconds) if event.attempt else "failed for good, and the map goes on without it"
        case MapFinished(total=total, failed=failed):
            text = f"{total:,} items" + (f", {failed:,} failed" if failed else "")
        case RunRetried(by, edits=edits) if edits:
            text = f"by {by}, with another {', '.join(edits)}"
        case CancelRequested(by) | RunRetried(by) | RunCancelled(by):
            text = f"by {by}"
        case UndoingBegan(_, None, by):
            text = f"cancelled by {by}; what was done is undone"
        case UndoingBegan(path, failure):
            text = f"{f'failed at {path}' if path else failure.type if failure else ''}; what was done is undone"
        case RunFailed(path, failure):
            text = f"{f'at {path}: ' if path else ''}{failure.type}: {failure.message}"
            text = "; ".join([text, *failure.notes])
        case StepDropped():
            text = "another branch won the race"
        case CodeChanged(fingerprint, version, _, changes):
            text = f"version {version} ({fingerprint[:8]}): {'; '.join(changes)}"
        case RunForked(_, edits, parent, changes):
            what = f", with {', '.join(edits)}" if edits else ""
            code = f"; {'; '.join(changes)}" if changes else ""
            text = f"from {parent}{what}{code}"
        case RunCompleted():
            text = ""
        case _:
            assert_never(event)
    return " ".join(text.split("\n"))


def _time(entry: Entry) -> str:
    return entry.at.strftime("%H:%M:%S.%f")[:-3] if entry.at else ""
