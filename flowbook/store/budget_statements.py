"""The statements of budgets that runs share.

Owns: their SQL and the reason for its shape. Refuses: runs and journals (`statements.py`). The row of a budget is
locked by one statement at a time and by no transaction that holds another lock, so there is no order to keep.
"""

from __future__ import annotations

from typing import Final

from flowbook.store.driver import Statement

RESERVE: Final = Statement(
    "reserve of a budget",
    """
    with known as (
        select usd from flowbook.reservation
        where namespace = $1 and budget = $2 and run_id = $3 and path = $4 and attempt = $5
    ),
    taken as (
        insert into flowbook.budget as b (namespace, name, usd, tokens, calls)
        select $1, $2, $6, $7, 1 where not exists (select from known)
        on conflict (namespace, name) do update
        set usd = b.usd + excluded.usd, tokens = b.tokens + excluded.tokens, calls = b.calls + 1
        where ($8::float8 is null or b.usd < $8) and ($9::bigint is null or b.tokens < $9)
        returning usd, tokens, calls
    ),
    noted as (
        insert into flowbook.reservation (namespace, budget, run_id, path, attempt, usd, tokens)
        select $1, $2, $3, $4, $5, $6, $7 from taken
    )
    select exists (select from taken) or exists (select from known) as allowed,
           coalesce(t.usd, b.usd, 0) as usd, coalesce(t.tokens, b.tokens, 0) as tokens,
           coalesce(t.calls, b.calls, 0) as calls
    from (select) one
    left join taken t on true
    left join flowbook.budget b on b.namespace = $1 and b.name = $2
    """,
    "One statement decides and counts: the update waits for whoever is at the row, and looks at its limits again "
    "afterwards. What one process has set aside another one sees, so a budget is overrun by no more than the calls "
    "that were allowed before it was reached. Sent twice it finds its own reservation.",
)

SETTLE: Final = Statement(
    "settle with a budget",
    """
    with gone as (
        delete from flowbook.reservation
        where namespace = $1 and budget = $2 and run_id = $3 and path = $4 and attempt <= $5
        returning attempt, usd, tokens
    )
    update flowbook.budget b set usd = b.usd - gone.usd + $6, tokens = b.tokens - gone.tokens + $7
    from gone where b.namespace = $1 and b.name = $2 and gone.attempt = $5 and $8
    """,
    "The reservation goes with the count, so a second sending changes nothing. Those of earlier attempts, which died "
    "with their processes, go as well: what they had set aside stays counted, because their calls may have been paid.",
)

SPENT: Final = Statement(
    "spent of a budget",
    "select usd, tokens, calls from flowbook.budget where namespace = $1 and name = $2",
    "For people.",
)
