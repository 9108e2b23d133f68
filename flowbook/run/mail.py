"""Requests: what a delivery asks of the run itself.

Owns: turning cancels and retries into events. Refuses: signals, which are kept for whoever waits (`pauses.py`).
"""

from __future__ import annotations

from datetime import datetime

from flowbook.plan.events import CancelRequested, Event, RunRetried
from flowbook.plan.records import Status
from flowbook.ports import Mail


def requested(mail: Mail, status: Status, now: datetime) -> Event | None:
    """The event of a request that is read ``now``, or None for what a run of this status does not take."""
    match mail.kind:
        case "cancel":
            return CancelRequested(mail.name, mail.id) if status is Status.RUNNING else None
        case "retry":
            return RunRetried(mail.name, mail.id, now) if status is Status.FAILED else None
        case _:
            return None
