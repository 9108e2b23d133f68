"""The inbox: what waits for somebody's decision, across runs, as people look at it.

Owns: `DecisionView`, and what of a run's last outcome the question is. Refuses: finding them (the store) and saying
which signal a yes is (`run/deciding.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from flowbook.codec import decode
from flowbook.errors import Undecodable
from flowbook.plan.events import CallFinished, ChildFinished, StepFinished, WaitFinished
from flowbook.plan.journal import Entry, from_entry
from flowbook.ports import RunRow

QUESTION = "question"
"""State key whose text is shown as the question, where the step before the pause has set it."""


@dataclass(frozen=True, slots=True)
class DecisionView:
    """A place of a run that waits for somebody."""

    run_id: UUID
    flow: str
    version: int
    key: str | None
    metadata: Mapping[str, Any]
    input: Any
    """What the run was started with; None where that cannot be read here."""
    path: str
    signals: tuple[str, ...]
    """What it listens for; none: a step that was handed out."""
    since: datetime | None
    due_at: datetime | None
    """When its time is up; None: never."""
    yes: str | None
    """The signal that an approval sends, ``complete`` for a handed-out step; None: none is plainly a yes."""
    no: str | None
    """The same of a rejection (``fail``)."""
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Signal -> JSON Schema of its payload, where it has one and the code is known."""
    about: str = ""
    """Path of the last outcome before it, empty: there is none."""
    value: Any = None
    """What that was."""
    question: str = ""
    """Its `QUESTION`, where it has one."""
    answered_by: str = ""
    """Who has decided it already, where the run has not read that yet."""
    answered_at: datetime | None = None
    """When it was decided; None: it was not."""

    @property
    def handed_out(self) -> bool:
        """True if it is a step, whose result somebody gives."""
        return not self.signals


def about(entry: Entry | None) -> tuple[str, Any, str]:
    """(path, value, question) of the last outcome before a pause."""
    if entry is None:
        return "", None, ""
    try:
        event = from_entry(entry)
    except Undecodable:
        return entry.path, None, ""
    match event:
        case StepFinished(result=value) | WaitFinished(result=value) | ChildFinished(result=value):
            pass
        case CallFinished(call=call):
            value = call.result
        case _:
            return entry.path, None, ""
    asked = value.get(QUESTION) if isinstance(value, Mapping) else None
    return entry.path, value, asked if isinstance(asked, str) else ""


def input_of(row: RunRow) -> Any:
    """What a run was started with; None where that cannot be read."""
    try:
        return decode(row.input)
    except Undecodable:
        return None


class Decisions(list[DecisionView]):
    """What waits for somebody; a list that doors can show as a table."""
