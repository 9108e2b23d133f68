"""Open decisions: what a run waits for that somebody can answer, as the page is told of it.

Owns: the list that `page/decisions.js` draws. Refuses: taking a decision, which is the door's (`kernel.ask`), and
judging what a payload must be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowbook.observe.views import RunView, StepView
from flowbook.show.safe import clean

MOST = 20
"""Decisions of one run that are told of; the inbox has the rest."""

_TONES = {
    "yes": {"approved", "approve", "accepted", "accept", "confirmed", "confirm", "ok", "yes"},
    "no": {"rejected", "reject", "denied", "deny", "declined", "decline", "refused", "no", "cancelled"},
}
"""How a signal's button looks; what a signal means is its flow's own matter."""


def open_decisions(view: RunView, ids: Mapping[str, str]) -> list[dict[str, Any]]:
    """Pauses that listen for signals and steps that were handed out; ``ids``: node -> its id in the picture."""
    if view.status.over:
        return []
    waiting = [s for s in view.overview.waiting.values() if s.wait and (s.wait.signals or s.wait.handed_out)]
    return [_told(step, ids) for step in waiting[:MOST]]


def tone(signal: str) -> str:
    """``yes``, ``no``, or empty: neither."""
    return next((tone for tone, names in _TONES.items() if signal.lower() in names), "")


def _told(step: StepView, ids: Mapping[str, str]) -> dict[str, Any]:
    wait = step.wait
    assert wait is not None
    refused = wait.refused[-1] if wait.refused else None
    return {
        "path": step.path,
        "name": clean(step.path, 200),
        "node": ids.get(step.node, ""),
        "signals": [{"signal": s, "name": clean(s, 60), "tone": tone(s)} for s in wait.signals],
        "handed": wait.handed_out,
        "due": round(wait.due_at.timestamp() * 1000) if wait.due_at else None,
        "since": round(wait.since.timestamp() * 1000) if wait.since else None,
        "refused": clean(f"{refused.type.rpartition('.')[2]}: {refused.message}", 500) if refused else "",
    }
