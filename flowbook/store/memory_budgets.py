"""Budgets that runs share, in memory.

Owns: the same answers as `budgets.py`. Refuses: durability.
"""

from __future__ import annotations

from dataclasses import replace

from flowbook.ports import Limit, Spender, Spent, Usage
from flowbook.store.memory_database import MemoryDatabase


class MemoryBudgets:
    """`flowbook.ports.BudgetStore` over dictionaries."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def reserve(self, who: Spender, estimate: Usage, limit: Limit) -> Spent:
        """Set something aside for a call, unless a limit is reached already."""
        it, held = await self.spent(who.namespace, who.budget), self._database.reservations
        if who in held:
            return it
        reached = (limit.usd is not None and it.usd >= limit.usd) or (
            limit.tokens is not None and it.tokens >= limit.tokens
        )
        if reached and it.calls:
            return replace(it, allowed=False)
        held[who] = estimate
        return self._add(who, estimate.usd, estimate.tokens, 1)

    async def settle(self, who: Spender, used: Usage | None) -> None:
        """Count what a call has used in place of what was set aside for it."""
        held = self._database.reservations
        estimate = held.get(who)
        for one in [o for o in held if replace(o, attempt=0) == replace(who, attempt=0) and o.attempt <= who.attempt]:
            del held[one]
        if estimate is not None and used is not None:
            self._add(who, used.usd - estimate.usd, used.tokens - estimate.tokens, 0)

    async def spent(self, namespace: str, budget: str) -> Spent:
        """What is spent and set aside in all."""
        return self._database.budgets.get((namespace, budget), Spent())

    def _add(self, who: Spender, usd: float, tokens: int, calls: int) -> Spent:
        it: Spent = self._database.budgets.get((who.namespace, who.budget), Spent())
        now = Spent(it.usd + usd, it.tokens + tokens, it.calls + calls)
        self._database.budgets[who.namespace, who.budget] = now
        return now
