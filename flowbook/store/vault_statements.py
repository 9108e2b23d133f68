"""The statements about pieces of checkpoints, named and described.

Owns: what the vault asks of the ``blob`` table beyond what journals ask of it, and the records of durable cells
(`%%step`) among the entries of the cache. Refuses: everything else
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

NOTE: Final = Statement(
    "note",
    """
    insert into flowbook.cache_entry (namespace, key, payload, expires_at)
    values ('%%step', $1, $2, now() + interval '90 days')
    on conflict (namespace, key) do update
    set payload = excluded.payload, created_at = now(), used_at = now(), expires_at = excluded.expires_at
    """,
    "What a cell has given for the code and the inputs that the key is the digest of. gc takes what nobody has asked "
    "for in ninety days.",
)

NOTED: Final = Statement(
    "noted",
    """
    update flowbook.cache_entry set used_at = now(), expires_at = now() + interval '90 days'
    where namespace = '%%step' and key = $1 returning payload
    """,
    "Reading it is using it.",
)
