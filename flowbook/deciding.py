"""Deciding: approve, reject and answer, and the inbox of what waits for that.

Owns: what the verbs take, and who answers where nobody says. Refuses: delivering (`run/deciding.py`) and the records
that are shown (`observe/inbox.py`).
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.errors import UsageError
from flowbook.run.deciding import Answered, Verb, decide
from flowbook.run.saying import NOTHING, Said

if TYPE_CHECKING:
    from flowbook.app import App

LONGEST = 200
"""Characters of who answers, and of why."""


def me() -> str:
    """This operating system's user and machine, ``ana@desk``: who answers where nobody else is named."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a process without an entry among the users
        user = "user"
    return f"{user}@{socket.gethostname()}"


async def answer(
    app: App,
    run_id: UUID,
    verb: Verb,
    path: str | None = None,
    signal: str | None = None,
    *,
    edit: Any = NOTHING,
    payload: Mapping[str, Any] | None = None,
    by: str | None = None,
    why: str = "",
) -> Answered:
    """Decide what a run waits for (`App.approve`, `App.reject`, `App.answer`)."""
    if edit is not NOTHING and payload:
        raise UsageError("edit= is the whole payload, so it goes without others")
    row = app._ours(await app.store.run(run_id))
    whole: Any = edit if edit is not NOTHING else dict(payload) if payload else NOTHING
    said = Said("", whole, (by or me())[:LONGEST], why[:LONGEST])
    return await decide(app.store, row, verb, path, signal, said, app.engine.graph(row.fingerprint))
