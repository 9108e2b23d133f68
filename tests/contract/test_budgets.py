"""Budgets that runs share: counted in one place, reserved before they are spent, settled once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from flowbook.ids import new_id
from flowbook.ports import Limit, Spender, Usage
from tests.contract.worlds import World, scenario

WHO = Spender("default", "team", new_id(), "ask_model#1", 1)
DOLLAR = Limit(usd=1.0)


@scenario
async def test_what_is_set_aside_is_counted_until_it_is_settled(world: World) -> None:
    """Asking or settling twice changes nothing; another namespace has a budget of its own."""
    store, other = await world.worker(), await world.worker()
    for _ in range(2):
        reserved = await store.budgets.reserve(WHO, Usage(0.4, 100), DOLLAR)
        assert (reserved.usd, reserved.tokens, reserved.calls, reserved.allowed) == (0.4, 100, 1, True)
        assert await other.budgets.spent("default", "team") == reserved
    for _ in range(2):
        await other.budgets.settle(WHO, Usage(0.25, 70))
    spent = await store.budgets.spent("default", "team")
    assert (spent.usd, spent.tokens, spent.calls) == (0.25, 70, 1)
    assert (await store.budgets.spent("elsewhere", "team")).calls == 0


@scenario
async def test_a_limit_that_is_reached_lets_nothing_through(world: World) -> None:
    """By USD or by tokens; what was refused is not counted."""
    store = await world.worker()
    await store.budgets.reserve(WHO, Usage(1.0, 100), DOLLAR)
    second = replace(WHO, path="ask_model#2")
    refused = await store.budgets.reserve(second, Usage(0.1, 10), DOLLAR)
    assert (refused.usd, refused.calls, refused.allowed) == (1.0, 1, False)
    assert not (await store.budgets.reserve(second, Usage(0.1, 10), Limit(tokens=100))).allowed
    assert (await store.budgets.reserve(second, Usage(0.1, 10), Limit(usd=2.0, tokens=101))).allowed


@scenario
async def test_many_at_once_pass_a_limit_by_one_call_at_most(world: World) -> None:
    """Each sees what the others have set aside."""
    stores = [await world.worker() for _ in range(4)]
    asked = [
        stores[n % 4].budgets.reserve(replace(WHO, run_id=new_id()), Usage(0.3, 1), DOLLAR) for n in range(40)
    ]  # fmt: skip
    allowed = [spent for spent in await asyncio.gather(*asked) if spent.allowed]
    assert len(allowed) == 4
    assert round((await stores[0].budgets.spent("default", "team")).usd, 6) == 1.2


@scenario
async def test_what_a_dead_attempt_had_set_aside_stays_counted(world: World) -> None:
    """Its call may have been paid; the next attempt has a reservation of its own."""
    store = await world.worker()
    await store.budgets.reserve(WHO, Usage(0.4, 1), DOLLAR)
    second = replace(WHO, attempt=2)
    await store.budgets.reserve(second, Usage(0.4, 1), DOLLAR)
    await store.budgets.settle(second, Usage(0.1, 1))
    await store.budgets.settle(WHO, Usage(0.0, 0))
    assert round((await store.budgets.spent("default", "team")).usd, 6) == 0.5
    await store.budgets.reserve(replace(WHO, attempt=3), Usage(0.2, 1), DOLLAR)
    await store.budgets.settle(replace(WHO, attempt=3), None)
    assert round((await store.budgets.spent("default", "team")).usd, 6) == 0.7
