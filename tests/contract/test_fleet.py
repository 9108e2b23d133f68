"""What workers ask of a store as a fleet."""

from __future__ import annotations

import asyncio

from flowbook.ports import Definition
from tests.contract.worlds import CODE, World, complete, new, own, scenario


def _definition(flow: str, fingerprint: str, namespace: str = "default") -> Definition:
    return Definition(namespace, flow, fingerprint, {"name": flow}, {"format": 0}, "")


@scenario
async def test_the_flows_of_a_namespace_are_listed_once_each_in_their_newest_version(world: World) -> None:
    """Whoever lists flows sees each name once, and none of another namespace."""
    store = await world.worker()
    for flow, fingerprint in (("b", "b1"), ("a", "a1"), ("a", "a2")):
        await store.define(_definition(flow, fingerprint))
    await store.define(_definition("c", "c1", "other"))
    found = await store.fleet.flows("default")
    assert [(d.flow, d.fingerprint, d.version) for d in found] == [("a", "a2", 2), ("b", "b1", 1)]


@scenario
async def test_code_that_due_runs_wait_for_is_found_and_other_queues_are_left_alone(world: World) -> None:
    """A worker learns of code that it has not got: of its namespace and queues, and of due runs alone."""
    store = await world.worker()
    await store.start(new(claim=False, fingerprint="known"))
    for _ in range(2):
        await store.start(new(claim=False, fingerprint="wanted"))
    await store.start(new(claim=False, fingerprint="elsewhere", queue="gpu"))
    await store.start(new(claim=False, fingerprint="foreign", namespace="other"))
    await store.start(new(fingerprint="carried"))
    found = await store.fleet.strangers("default", ("default",), CODE | {"known"})
    assert [fingerprint for _, fingerprint in found] == ["wanted"]


@scenario
async def test_places_under_a_limit_are_taken_given_back_and_left_by_runs_that_end(world: World) -> None:
    """As many places as the limit, each taken once whoever races; a run that is over holds none."""
    store, other = await world.worker(), await world.worker()
    runs = [await own(w) for w in (store, other, store, other, store)]
    taken = await asyncio.gather(
        *(w.fleet.acquire("default", "api", 2, r.id, r.epoch) for r, w in zip(runs, [store, other] * 3, strict=False))
    )
    while sum(place is not None for place in taken) < 2:  # two that race for one place may both find the other taken
        taken.append(await store.fleet.acquire("default", "api", 2, runs[0].id, runs[0].epoch))
    assert sorted(place for place in taken if place is not None) == [0, 1]
    assert await store.fleet.acquire("default", "api", 2, runs[0].id, runs[0].epoch) is None
    assert await store.fleet.acquire("other", "api", 1, runs[0].id, runs[0].epoch) == 0
    holder = runs[taken.index(1)] if taken.index(1) < len(runs) else runs[0]
    await store.fleet.free("default", "api", 1, holder.id, holder.epoch + 1)
    assert await store.fleet.acquire("default", "api", 2, runs[4].id, runs[4].epoch) is None, "not his to give"
    assert await (store if holder.worker_id == store.worker_id else other).settle(complete(holder))
    assert await store.fleet.acquire("default", "api", 2, runs[4].id, runs[4].epoch) == 1


@scenario
async def test_a_rate_tells_everybody_when_it_is_his_turn(world: World) -> None:
    """Three in ten seconds: three at once, the fourth waits for the first, the seventh twice as long."""
    store, other = await world.worker(), await world.worker()
    waits = [await (store, other)[n % 2].fleet.reserve("default", "api", 3, 10.0) for n in range(7)]
    assert waits[:3] == [0.0] * 3
    assert all(8.0 < wait <= 10.0 for wait in waits[3:6])
    assert 18.0 < waits[6] <= 20.0
    assert await store.fleet.reserve("default", "mail", 3, 10.0) == 0.0


@scenario
async def test_what_was_kept_under_a_key_is_there_until_it_runs_out(world: World) -> None:
    """Kept, written over, of one namespace, and gone in time."""
    store = await world.worker()
    run = (await own(store)).id
    await store.fleet.cache("default", b"k", b"one", run, 60.0)
    await store.fleet.cache("default", b"k", b"two", run, 60.0)
    assert await store.fleet.cached("default", b"k") == b"two"
    assert await store.fleet.cached("other", b"k") is None
    await store.fleet.cache("default", b"short", b"x", run, 0.0)
    assert await store.fleet.cached("default", b"short") is None
    await store.fleet.cache("default", b"k", b"", run, 60.0)
    assert await store.fleet.cached("default", b"k") == b""


@scenario
async def test_workers_carry_no_more_runs_of_a_queue_than_its_limit(world: World) -> None:
    """A limit holds for all workers together, whoever races; other queues are as before."""
    workers = [await world.worker() for _ in range(4)]
    store = workers[0]
    await store.fleet.limit("default", "gpu", 3)
    for _ in range(8):
        await store.start(new(claim=False, queue="gpu"))
    await store.start(new(claim=False))
    found = await asyncio.gather(*(w.claim(CODE, queues=("default", "gpu"), limit=5) for w in workers))
    rows = [row for claimed in found for row in claimed]
    assert sorted(row.queue for row in rows) == ["default", "gpu", "gpu", "gpu"]
    shown = {q.name: (q.waiting, q.running, q.limit) for q in await store.fleet.queues("default")}
    assert shown == {"default": (0, 1, None), "gpu": (5, 3, 3)}
    gpu = next(row for row in rows if row.queue == "gpu")
    owner = next(w for w in workers if w.worker_id == gpu.worker_id)
    assert await owner.settle(complete(gpu))
    (more,) = await store.claim(CODE, queues=("gpu",), limit=5)
    assert more.queue == "gpu"
    await store.fleet.limit("default", "gpu", None)
    assert {q.limit for q in await store.fleet.queues("default")} == {None}
