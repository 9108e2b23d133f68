"""What steps share with all workers: results, places and rates, on a store in memory."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

import flowbook as fb
from tests.unit.run.apps import Apps, scenario

calls: list[Any] = []
under_way = 0
most = 0


@pytest.fixture
def apps() -> Apps:
    """Apps on an empty database."""
    global most, under_way
    calls.clear()
    most = under_way = 0
    return Apps()


@fb.step(cache="1h")
def slow(n: int) -> dict[str, int]:
    calls.append(n)
    return {"tripled": 3 * n}


@fb.step(cache="1h", key="n")
def by_key(n: int, note: str) -> int:
    calls.append(note)
    return n


@fb.step(concurrency=2)
async def narrow(n: int) -> int:
    global most, under_way
    under_way += 1
    most = max(most, under_way)
    await asyncio.sleep(0.02)
    under_way -= 1
    return n


@fb.step(concurrency=1, key="customer")
async def charge(customer: str) -> str:
    calls.append(("begin", customer))
    await asyncio.sleep(0.05)
    calls.append(("end", customer))
    return customer


@fb.step(rate_limit="3/s")
def hit(n: int) -> int:
    calls.append(time.monotonic())
    return n


@scenario
async def test_a_result_serves_other_runs_with_the_same_arguments(apps: Apps) -> None:
    """cache="1h": computed once per input, in whichever process and flow; another input is computed."""
    one, other = await apps.open(), await apps.open()
    flow, second = fb.graph("cached", slow), fb.graph("cached_too", slow)
    for app, graph, n in ((one, flow, 2), (other, flow, 2), (other, second, 2), (one, flow, 5)):
        state = await (await app.start(graph, n=n)).result()
        assert state["tripled"] == 3 * n
    assert calls == [2, 5]


@scenario
async def test_a_cache_counts_by_its_key_and_forgets_in_time(apps: Apps) -> None:
    """key="n": other arguments make no other result; after its time it is computed anew."""
    app = await apps.open()
    flow = fb.graph("keyed", by_key)
    for note in ("a", "b"):
        await (await app.start(flow, n=1, note=note)).result()
    assert calls == ["a"]
    for entry, (payload, until) in list(apps.database.cache.items()):
        apps.database.cache[entry] = payload, until.replace(year=2000)
    await (await app.start(flow, n=1, note="c")).result()
    assert calls == ["a", "c"]


@scenario
async def test_no_more_attempts_are_under_way_than_the_limit_in_all_workers(apps: Apps) -> None:
    """concurrency=2: twelve runs in three apps, two at once, and all of them end."""
    workers = [await apps.open() for _ in range(3)]
    flow = fb.graph("narrowed", narrow)
    runs = [await workers[n % 3].start(flow, n=n) for n in range(12)]
    assert [(await run.result())["narrow"] for run in runs] == list(range(12))
    assert most == 2
    assert apps.database.permits["default", "narrowed/narrow"] == {}


@scenario
async def test_places_are_counted_by_key(apps: Apps) -> None:
    """concurrency=1, key="customer": two customers at once, never one twice."""
    app = await apps.open()
    flow = fb.graph("charging", charge)
    runs = [await app.start(flow, customer=name) for name in ("ana", "ana", "ben")]
    for run in runs:
        await run.result()
    of_ana = [what for what, name in calls if name == "ana"]
    assert of_ana == ["begin", "end", "begin", "end"]
    assert calls.index(("begin", "ben")) < calls.index(("end", "ana")), "another customer does not wait"


@scenario
async def test_a_worker_that_dies_in_its_place_leaves_it_to_others(apps: Apps) -> None:
    """Nobody has to clean up: a place belongs to a run under an epoch."""
    first, second = await apps.open(), await apps.open()

    @fb.step(concurrency=1)
    async def hold(n: int) -> int:
        calls.append(n)
        await asyncio.sleep(60 if len(calls) == 1 else 0)
        return n

    flow = fb.graph("holding", hold)
    await first.start(flow, n=1)
    while not calls:
        await asyncio.sleep(0.005)
    run = await second.start(flow, n=2)
    await apps.crash(first)
    assert (await run.result())["hold"] == 2


@scenario
async def test_a_rate_holds_in_all_workers_together(apps: Apps) -> None:
    """rate_limit="3/s": of seven attempts in two apps, none begins within a second of the third before it."""
    workers = [await apps.open() for _ in range(2)]
    flow = fb.graph("hitting", hit)
    runs = [await workers[n % 2].start(flow, n=n) for n in range(7)]
    for run in runs:
        await run.result()
    begun = sorted(calls)
    assert all(later - earlier > 0.9 for earlier, later in zip(begun, begun[3:], strict=False))
    assert begun[2] - begun[0] < 0.9, "as many as the limit begin at once"
