"""Starts inside of a user's transaction.

Owns: the insertion of a run on a session of the user's, and telling the store when that is committed. Refuses: starts
of the engine's own (`writer.py`), and ending the user's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import event, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, SessionTransaction

from flowbook.errors import StoreError
from flowbook.ports import NewRun, Started
from flowbook.store.rows import to_run
from flowbook.store.tables import run as runs

_WAITING: Final = "flowbook starts"
"""Key in the ``info`` of a session: whom to call once it is committed."""


def start_within(session: Session, new: NewRun, committed: Callable[[], None]) -> Started:
    """Insert a run that nobody owns, unless its key is taken, and without committing.

    A key that somebody else is about to take is waited for. ``committed`` is called once the transaction of the
    session is, in its thread.
    """
    values = {
        "id": new.id, "namespace": new.namespace, "flow": new.flow, "version": new.version,
        "fingerprint": new.fingerprint, "queue": new.queue, "priority": new.priority, "key": new.key,
        "input": new.input, "input_digest": new.input_digest, "metadata": dict(new.metadata),
        "searchable": dict(new.searchable), "trigger": new.trigger,
    }  # fmt: skip
    session.execute(insert(runs).values(values).on_conflict_do_nothing())
    same_key = (runs.c.namespace == new.namespace) & (runs.c.flow == new.flow) & (runs.c.key == new.key)
    record = session.execute(select(runs).where(or_(runs.c.id == new.id, same_key))).mappings().one_or_none()
    if record is None:
        raise StoreError(f"run {new.id} was not inserted: the session's database does not take it")
    row = to_run({**record, "metadata": json.dumps(record["metadata"])})
    if row.id == new.id:
        _follow(session, committed)
    return Started(row, row.id == new.id)


def _follow(session: Session, committed: Callable[[], None]) -> None:
    """Call back once the transaction of a session is committed. The listeners stay: none can take itself off."""
    waiting: list[Callable[[], None]] | None = session.info.get(_WAITING)
    if waiting is not None:
        waiting.append(committed)
        return
    waiting = session.info[_WAITING] = [committed]
    done: list[bool] = []

    def after_commit(session: Session) -> None:
        if not session.in_nested_transaction():
            done.append(True)

    def after_end(_: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is not None:
            return  # a savepoint
        told = waiting.copy() if done else []
        waiting.clear()
        done.clear()
        for tell in told:
            tell()

    event.listen(session, "after_commit", after_commit)
    event.listen(session, "after_transaction_end", after_end)


def is_asynchronous(session: Any) -> bool:
    """True for an asynchronous session, False for a plain one. Raises `TypeError` for anything else."""
    if isinstance(session, Session):
        return False
    if isinstance(getattr(session, "sync_session", None), Session):
        return True
    raise TypeError(f"session={session!r} is no Session and no AsyncSession of SQLAlchemy's")
