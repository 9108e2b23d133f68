"""Limits: whether a model may be asked once more.

Owns: turns, tokens, USD and time of a run, counted from what its own turns have stored, and budgets that runs share,
counted in the database. Refuses: asking. All of it is checked before a call; none stops one that is under way.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from flowbook.agents.models import Answer
from flowbook.agents.pricing import check_priced, cost
from flowbook.agents.settings import Budget, Settings
from flowbook.errors import BudgetReached, TurnsReached, UsageError
from flowbook.graph.durations import seconds, spoken

Turn = Mapping[str, Any]
FIRST_ANSWER = 500
"""Tokens that the first answer of a run is taken to have."""
_CHARACTERS = 4
"""Of a token, by the usual rule of thumb."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use: its agent's limits, and those that it was given itself in their place."""

    settings: Settings
    budget: Budget
    turns: int

    @classmethod
    def of(cls, settings: Settings, given: Mapping[str, Any] | Budget | None) -> Limits:
        """``given``: the run's own, `Budget` or ``{"usd": 1.0, "turns": 40}``. Raises `UsageError`."""
        own = given.stored if isinstance(given, Budget) else dict(given or {})
        turns = own.pop("turns", None) or settings.max_turns
        if unknown := own.keys() - {f.name for f in fields(Budget)}:
            raise UsageError(f"budget={given!r}: there is no {sorted(unknown)!r}; there are usd, tokens, time, turns")
        budget = Budget(**{**settings.budget.stored, **{k: v for k, v in own.items() if v is not None}})
        if budget.usd is not None:
            check_priced(settings.models)
        return cls(settings, budget, turns)

    def check(self, turns: Sequence[Turn], ctx: Any) -> None:
        """Raise `TurnsReached` or `BudgetReached` if no further call is allowed."""
        name, budget = self.settings.name, self.budget
        if len(turns) >= self.turns:
            raise TurnsReached(
                f"{name} has asked its model {len(turns)} times, and may {self.turns} times; {on('turns')}"
            )
        if budget.time is not None and (passed := ctx.elapsed) >= (most := seconds(budget.time)):
            raise BudgetReached(f"{name} has taken {spoken(round(passed, 1))} of {spoken(most)}; {on('time')}")
        if budget.shared is not None:
            return
        if budget.usd is not None and (spent := sum(t["usd"] or 0.0 for t in turns)) >= budget.usd:
            raise BudgetReached(f"{name} has spent ${spent:.4f} of ${budget.usd:.4f}; {on('usd')}")
        if budget.tokens is not None and (used := sum(t["in"] + t["out"] for t in turns)) >= budget.tokens:
            raise BudgetReached(f"{name} has used {used:,} of {budget.tokens:,} tokens; {on('tokens')}")

    @contextlib.asynccontextmanager
    async def within(self, turns: Sequence[Turn], messages: Sequence[Any], ctx: Any) -> AsyncIterator[list[Answer]]:
        """While a model is asked: of a shared budget, what the call may use is set aside, and what it has used counted.

        The answer is put into the list. Raises `BudgetReached` before anything is asked.
        """
        answers: list[Answer] = []
        if self.budget.shared is None:
            yield answers
            return
        account = ctx.account(self.budget.shared)
        usd, tokens = self._expected(turns, messages)
        limits = (self.budget.usd, self.budget.tokens)
        spent = await account.reserve(usd=usd, tokens=tokens, limits=limits)
        if not spent.allowed:
            amount = f"${spent.usd:.4f} of ${limits[0]:.4f}" if limits[0] is not None else ""
            counted = f"{spent.tokens:,} of {limits[1]:,} tokens" if limits[1] is not None else ""
            told = " and ".join(t for t in (amount, counted) if t)
            kind = "usd" if limits[0] is not None else "tokens"
            raise BudgetReached(
                f"the runs that share the budget {self.budget.shared!r} have used {told}, with what is set aside for "
                f"calls under way; {on(kind)}"
            )
        try:
            yield answers
        except Exception as error:
            if hasattr(error, "status_code"):  # the server refused: it has cost nothing
                await account.settle(0.0, 0)
            else:
                await account.give_up()
            raise
        turn = answers[-1].turn
        await account.settle(turn["usd"] or 0.0, turn["in"] + turn["out"])

    def _expected(self, turns: Sequence[Turn], messages: Sequence[Any]) -> tuple[float, int]:
        """(USD, tokens) of the next call: as much as the last one, which had nearly the same to read."""
        if turns:
            return turns[-1]["usd"] or 0.0, turns[-1]["in"] + turns[-1]["out"]
        given = sum(len(str(m.get("content") or "")) for m in messages) // _CHARACTERS
        return cost(self.settings.models[0], given, FIRST_ANSWER) or 0.0, given + FIRST_ANSWER


def on(kind: str) -> str:
    """How a run that has reached a limit goes on."""
    more = {"usd": "1.0", "tokens": "100_000", "time": "'1h'", "turns": "40"}[kind]
    return f"`run.retry(budget={{{kind!r}: {more}}})` goes on from here with more, at no cost for what is done"
