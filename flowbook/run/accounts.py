"""Accounts: a step's way to a budget that it shares with other runs.

Owns: `Account`, the budget as one attempt sees it. Refuses: prices and limits, which are its caller's.
"""

from __future__ import annotations

from dataclasses import dataclass

from flowbook.ports import BudgetStore, Limit, Spender, Spent, Usage


@dataclass(frozen=True, slots=True)
class Account:
    """A shared budget, for one attempt."""

    store: BudgetStore
    who: Spender

    async def reserve(self, *, usd: float, tokens: int, limits: tuple[float | None, int | None]) -> Spent:
        """Set aside what a call is expected to use, unless one of ``limits`` (USD, tokens) is reached already.

        The answer says what is spent in all, and whether it is ``allowed``.
        """
        return await self.store.reserve(self.who, Usage(usd, tokens), Limit(*limits))

    async def settle(self, usd: float, tokens: int) -> None:
        """Count what the call has used instead."""
        await self.store.settle(self.who, Usage(usd, tokens))

    async def give_up(self) -> None:
        """Nobody knows what the call has used: what was set aside counts."""
        await self.store.settle(self.who, None)
