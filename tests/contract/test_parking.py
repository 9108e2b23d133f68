"""Parked runs: who looks after them, and how little that costs."""

from __future__ import annotations

import asyncio
from uuid import UUID

from flowbook.plan.records import Status
from flowbook.ports import Settlement
from flowbook.store.postgres import PostgresStore
from tests.contract.worlds import CODE, PostgresWorld, World, new, own, park, scenario

NONE: frozenset[UUID] = frozenset()


@scenario
async def test_a_worker_finds_what_it_has_parked_without_naming_it(world: World) -> None:
    """Nobody else's, nothing that is not due, nothing that was handed back; by name it may ask for more."""
    mine, other = await world.worker(), await world.worker()
    due, later, back = await own(mine), await own(mine), await own(mine)
    theirs = await own(other)
    assert await mine.settle(park(due, due_in=0.0))
    assert await mine.settle(park(later, due_in=60.0))
    assert await mine.settle(Settlement(back.id, back.epoch, Status.PENDING, 0))
    assert await other.settle(park(theirs, due_in=0.0))
    assert await mine.claim(CODE, limit=9, among=NONE) == []
    (row,) = await mine.claim(CODE, limit=9, among=NONE, home=True)
    assert (row.id, row.epoch) == (due.id, 2)
    assert [row.id for row in await mine.claim(CODE, limit=9, among=frozenset({back.id}), home=True)] == [back.id]
    assert [row.id for row in await other.claim(CODE, limit=9, among=NONE, home=True)] == [theirs.id]


@scenario
async def test_a_runs_home_is_who_parked_it_last(world: World) -> None:
    """Whoever claims it takes it along; the one before has no part in it any more."""
    first, second = await world.worker(), await world.worker()
    run = await own(first)
    assert await first.settle(park(run, due_in=60.0))
    (taken,) = await second.claim(CODE, only=run.id)
    assert await second.settle(park(taken, due_in=0.0))
    assert await first.claim(CODE, among=NONE, home=True) == []
    (row,) = await second.claim(CODE, among=NONE, home=True)
    assert (row.id, row.epoch) == (run.id, 3)


@scenario
async def test_mail_makes_a_parked_run_due_at_home(world: World) -> None:
    """A run that waits for ever is found at the next look, should the hint be lost."""
    store = await world.worker()
    run = await own(store)
    assert await store.settle(park(run))
    assert await store.claim(CODE, among=NONE, home=True) == []
    await store.send(run.id, "signal", "go", b"")
    assert [row.id for row in await store.claim(CODE, among=NONE, home=True)] == [run.id]


@scenario
async def test_timers_end_in_their_order_and_each_once(world: World) -> None:
    """Sixty parked runs whose times are spread: two owners, no run twice, none too early."""
    stores = [await world.worker(), await world.worker()]
    runs = [await own(stores[n % 2]) for n in range(60)]
    for n, run in enumerate(runs):
        assert await stores[n % 2].settle(park(run, due_in=(n * 7 % 60) / 100))
    seen: list[UUID] = []
    while len(seen) < len(runs):
        for store in stores:
            for row in await store.claim(CODE, limit=20, among=NONE, home=True):
                assert row.due_at <= await store.now()
                seen.append(row.id)
        await asyncio.sleep(0.01)
    assert sorted(seen) == sorted(run.id for run in runs)


@scenario
async def test_a_look_says_when_the_next_run_is_due(postgres: PostgresWorld) -> None:
    """Between two looks far apart a timer ends in time: who looked is woken for it."""
    store = PostgresStore(postgres.url, poll=30.0)
    await store.open()
    try:
        woken = asyncio.Event()
        run = await own(store)
        assert await store.settle(park(run, due_in=0.7))
        store.on_wake(lambda run_id: woken.set() if run_id is None else None)
        woken.clear()
        assert await store.claim(CODE, among=NONE, home=True) == []
        async with asyncio.timeout(10):
            await woken.wait()
        assert [row.id for row in await store.claim(CODE, among=NONE, home=True)] == [run.id]
    finally:
        await store.close()


@scenario
async def test_a_look_at_others_timers_wakes_nobody(postgres: PostgresWorld) -> None:
    """What becomes due elsewhere, or of code that is not known here, is no reason to look again."""
    store = PostgresStore(postgres.url, poll=30.0)
    await store.open()
    try:
        other = await postgres.worker()
        theirs = await own(other)
        unknown = (await store.start(new(fingerprint="f9"))).row
        await asyncio.sleep(0.2)  # until the hint of a new connection is past
        assert await other.settle(park(theirs, due_in=0.2))
        assert await store.settle(park(unknown, due_in=0.2))
        woken: list[UUID | None] = []
        store.on_wake(woken.append)
        assert await store.claim(CODE, among=NONE, home=True) == []
        await asyncio.sleep(0.4)
        assert woken == []
    finally:
        await store.close()
