"""The statements of a fleet of workers: which flows there are, which code is wanted.

Owns: their SQL and the reason for its shape. Refuses: runs and journals (`statements.py`, whose lock order holds here
as well) and schedules (`schedule_statements.py`).
"""

from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement

FLOWS: Final = Statement(
    "flows",
    """
    select distinct on (flow) namespace, flow, fingerprint, version, spec, sources, signature
    from flowbook.definition where namespace = $1 order by flow, version desc
    """,
    "The newest definition of each flow, for people who list them.",
)

STRANGERS: Final = Statement(
    "strangers",
    """
    select distinct flow, fingerprint from (
        select flow, fingerprint from flowbook.run r
        where r.queue = any ($2::text[]) and r.status in ('pending', 'waiting') and r.due_at <= now()
          and r.namespace = $1 and r.fingerprint <> all ($3::text[])
          and not exists (select from flowbook.worker w where w.id = r.home_id and w.alive_until > now())
        limit 1000
    ) r
    limit 50
    """,
    "Code that due runs wait for and that this worker has not got. What a live process has parked is left to it: a "
    "kernel whose timer has just ended is about to claim its run.",
    fresh=True,
)
