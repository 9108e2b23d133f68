"""The statements of transactional steps, named and described.

Owns: writing journal rows inside of a step's own transaction, and finding out what became of it. Refuses: the other
appends (`statements.py`).
"""

from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement
from flowbook.store.statements import APPEND

APPEND_WITHIN: Final = Statement(
    "append within",
    APPEND.sql.replace(" skip locked", ""),
    "The rows of a transactional step, on the connection and in the transaction of its session, after everything that "
    "the step did there: the run's row is locked only from here to the COMMIT. It waits for the lock, as nobody else "
    "waits with it.",
)

LOCKED: Final = Statement(
    "locked",
    "select mail from flowbook.run where id = $1 for no key update",
    "After a COMMIT whose answer was lost: whoever gets this lock knows that the transaction that had it is over. The "
    "journal is asked in a statement after it, because one that waited for the lock still sees what was before.",
)
