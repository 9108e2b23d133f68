"""Budgets that runs share, in Postgres.

Owns: reserving, settling and telling. Refuses: knowing what a call costs (`agents/`). Every statement may be sent
twice.
"""

from __future__ import annotations

from flowbook.ports import Limit, Spender, Spent, Usage
from flowbook.store import budget_statements as sql
from flowbook.store.retrying import Line


class Budgets:
    """`flowbook.ports.BudgetStore` over one connection."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def reserve(self, who: Spender, estimate: Usage, limit: Limit) -> Spent:
        """Set something aside for a call, unless a limit is reached already."""
        values = (*_key(who), estimate.usd, estimate.tokens, limit.usd, limit.tokens)
        (found,) = await self._line.fetch(sql.RESERVE, *values)
        return Spent(found["usd"], found["tokens"], found["calls"], found["allowed"])

    async def settle(self, who: Spender, used: Usage | None) -> None:
        """Count what a call has used in place of what was set aside for it."""
        it = used or Usage()
        await self._line.fetch(sql.SETTLE, *_key(who), it.usd, it.tokens, used is not None)

    async def spent(self, namespace: str, budget: str) -> Spent:
        """What is spent and set aside in all."""
        found = await self._line.fetch(sql.SPENT, namespace, budget)
        return Spent(found[0]["usd"], found[0]["tokens"], found[0]["calls"]) if found else Spent()


def _key(who: Spender) -> tuple[object, ...]:
    return who.namespace, who.budget, who.run_id, who.path, who.attempt
