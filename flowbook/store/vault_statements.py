"""The statements about pieces of checkpoints, named and described.

Owns: what the vault asks of the ``blob`` table beyond what journals ask of it. Refuses: everything else
(`statements.py`).
"""

from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement

BLOBS_TOUCH: Final = Statement(
    "blobs touch",
    "update flowbook.blob set used_at = now() where digest = any ($1) returning digest",
    "Which of a checkpoint's pieces are there; those are not sent again, and gc leaves them alone for a day.",
)
