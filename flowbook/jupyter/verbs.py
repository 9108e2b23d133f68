"""Verbs: what a widget's buttons do to a run.

Owns: the answers to the questions of live views (`show/live.py` lists them). Refuses: deciding what is possible now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowbook.run.saying import NOTHING
from flowbook.show.widget import Answer

if TYPE_CHECKING:
    from flowbook.sync import SyncRun


def answers(run: SyncRun) -> Mapping[str, Answer]:
    """Kind of question -> who answers it, on a thread that may wait. Errors are told on the page."""
    return {
        "cancel": lambda args: run.cancel().value,
        "resume": lambda args: run.resume().status.value,
        "retry": lambda args: run.retry().status.value,
        "approve": lambda args: run.approve(args["path"], edit=_payload(args)).by,
        "reject": lambda args: run.reject(args["path"], str(args.get("why", "")), edit=_payload(args)).by,
        "answer": lambda args: run.answer(args["path"], args["signal"], edit=_payload(args)).by,
    }


def _payload(args: Mapping[str, Any]) -> Any:
    return args.get("payload", NOTHING)
