"""The statements about proofs and promotions, named and described.

Owns: their SQL and the reason for its shape. Refuses: runs and journals (`statements.py`), but for throwing away those
of a scratch namespace.
"""

from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement

_COLUMNS: Final = "flow, fingerprint, at, passed, report, promoted_at, promoted_by"

KEEP_PROOF: Final = Statement(
    "keep proof",
    """
    insert into flowbook.proof (namespace, flow, fingerprint, at, passed, report) values ($1, $2, $3, now(), $4, $5)
    on conflict (namespace, flow, fingerprint) do update set at = now(), passed = $4, report = $5
    """,
    "The newest proof of a version counts; what was promoted stays so.",
)

PROOFS: Final = Statement(
    "proofs",
    f"select {_COLUMNS} from flowbook.proof where namespace = $1 and flow = $2 order by at desc limit 100",  # noqa: S608
    "What is known of the versions of a flow, newest first.",
)

PROMOTE: Final = Statement(
    "promote",
    f"""
    insert into flowbook.proof (namespace, flow, fingerprint, promoted_at, promoted_by)
    values ($1, $2, $3, clock_timestamp(), $4)
    on conflict (namespace, flow, fingerprint) do update set promoted_at = clock_timestamp(), promoted_by = $4
    returning {_COLUMNS}
    """,  # noqa: S608
    "The version that was promoted last is the one that is pinned, so nothing else has to be changed.",
)

CLEAR_SCRATCH: Final = Statement(
    "clear scratch",
    """
    with gone as (delete from flowbook.run where namespace like '~%'
                  and (namespace = $1 or created_at < now() - interval '1 day') returning id),
         j as (delete from flowbook.journal where run_id in (select id from gone)),
         m as (delete from flowbook.mailbox where run_id in (select id from gone)),
         c as (delete from flowbook.chunk where run_id in (select id from gone)),
         o as (delete from flowbook.output where run_id in (select id from gone)),
         s as (delete from flowbook.snapshot where run_id in (select id from gone))
    delete from flowbook.definition where namespace like '~%'
        and (namespace = $1 or created_at < now() - interval '1 day')
    """,
    "Everything of a namespace that a proof has made, and what proofs have left behind whose own process was killed. "
    "No user's namespace begins with ~, and only such are cleared.",
)
