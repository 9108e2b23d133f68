"""Starting, claiming, settling: who owns a run."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from flowbook.errors import RunNotFound, StoreUnavailable
from flowbook.ids import new_id
from flowbook.plan.query import RunQuery
from flowbook.plan.records import Status
from flowbook.ports import Definition, Settlement
from tests.contract.worlds import CODE, World, complete, eventually, journal, new, outcome, own, park, scenario


@scenario
async def test_a_started_run_is_its_starters(world: World) -> None:
    """All that was said of it is in its row."""
    store = await world.worker()
    asked = new(key="k", queue="gpu", priority=3, metadata={"who": "me", "n": [1, None]})
    row = (await store.start(asked)).row
    assert await store.run(asked.id) == row
    assert (row.namespace, row.flow, row.fingerprint, row.version) == ("default", "fit", "f1", 1)
    assert (row.key, row.queue, row.priority, row.metadata) == ("k", "gpu", 3, {"who": "me", "n": [1, None]})
    assert (row.input, row.input_digest) == (b"input", b"d" * 16)
    assert (row.status, row.epoch, row.worker_id, row.claims, row.lost) == (Status.RUNNING, 1, store.worker_id, 1, 0)
    assert row.started_at is not None
    assert row.ended_at is None
    assert abs(await store.now() - row.created_at) < timedelta(seconds=30)


@scenario
async def test_a_run_started_for_others_is_owned_by_nobody(world: World) -> None:
    """It is pending and due, and the first who knows its code gets it."""
    store, other = await world.worker(), await world.worker()
    asked = new(claim=False)
    row = (await store.start(asked)).row
    assert (row.status, row.epoch, row.worker_id, row.started_at) == (Status.PENDING, 0, None, None)
    (claimed,) = await other.claim(CODE)
    assert (claimed.id, claimed.epoch, claimed.claims, claimed.worker_id) == (asked.id, 1, 1, other.worker_id)


@scenario
async def test_four_concurrent_starts_with_one_key_make_one_run(world: World) -> None:
    """Idempotency holds against oneself and against others, at once and later."""
    stores = [await world.worker(), await world.worker()]
    started = await asyncio.gather(*(stores[n % 2].start(new(key="once")) for n in range(4)))
    assert [s.created for s in started].count(True) == 1
    assert len({s.row.id for s in started}) == 1
    later = await stores[0].start(new(key="once", input=b"other", input_digest=b"e" * 16))
    assert not later.created
    assert (later.row.id, later.row.input) == (started[0].row.id, b"input")


@scenario
async def test_a_key_is_of_one_namespace_and_flow(world: World) -> None:
    """The same key elsewhere is another run."""
    store = await world.worker()
    started = [
        await store.start(new(key="k")),
        await store.start(new(key="k", flow="other")),
        await store.start(new(key="k", namespace="other")),
    ]
    assert all(s.created for s in started)


@scenario
async def test_a_completed_keys_run_is_answered_with_its_row(world: World) -> None:
    """Starting it again gives the finished run, not an error."""
    store = await world.worker()
    run = await own(store, key="k")
    await store.settle(complete(run))
    again = await store.start(new(key="k"))
    assert not again.created
    assert (again.row.id, again.row.status) == (run.id, Status.COMPLETED)


@scenario
async def test_the_runs_of_another_namespace_are_left_alone(world: World) -> None:
    """The same code there is another flow: neither a claim of what is due nor one by name takes them."""
    store = await world.worker()
    run = (await store.start(new(namespace="tenant", claim=False))).row
    assert not await store.claim(CODE, limit=10)
    assert not await store.claim(CODE, only=run.id)
    assert [r.id for r in await store.claim(CODE, namespace="tenant", limit=10)] == [run.id]


@scenario
async def test_a_claim_can_be_narrowed_down_to_some_runs(world: World) -> None:
    """A kernel looks after its own runs with one statement, and takes no other's."""
    store = await world.worker()
    ids = [(await store.start(new(claim=False))).row.id for _ in range(4)]
    taken = await store.claim(CODE, limit=10, among=frozenset(ids[1:3]))
    assert {row.id for row in taken} == set(ids[1:3])
    assert not await store.claim(CODE, limit=10, among=frozenset())


@scenario
async def test_one_look_tells_the_mail_of_all_owned_runs(world: World) -> None:
    """How much each has had; runs without mail and runs of others are not in it."""
    store, other = await world.worker(), await world.worker()
    mine, quiet, theirs = await own(store), await own(store), await own(other)
    for run in (mine, mine, theirs):
        await other.send(run.id, "note", "n", b"")
    assert dict(await store.mail()) == {mine.id: 2}
    assert quiet.id not in await store.mail()


@scenario
async def test_two_workers_never_claim_the_same_run(world: World) -> None:
    """Three workers share sixty runs out: each to one of them, none is left."""
    stores = [await world.worker() for _ in range(3)]
    ids = {(await stores[0].start(new(claim=False))).row.id for _ in range(60)}

    async def take(n: int) -> list[UUID]:
        got: list[UUID] = []
        while rows := await stores[n].claim(CODE, limit=3):
            got += [row.id for row in rows]
        return got

    shares = await asyncio.gather(*(take(n) for n in range(3)))
    everything = [run_id for share in shares for run_id in share]
    assert len(everything) == 60
    assert set(everything) == ids


@scenario
async def test_a_claim_takes_only_code_that_it_knows(world: World) -> None:
    """A worker that does not know a flow leaves its runs alone, also by name."""
    store = await world.worker()
    run = (await store.start(new(claim=False, fingerprint="unknown"))).row
    assert await store.claim(CODE) == []
    assert await store.claim(CODE, only=run.id) == []
    assert await store.claim(frozenset()) == []
    assert (await store.run(run.id)).status is Status.PENDING


@scenario
async def test_a_claim_takes_the_most_urgent_first(world: World) -> None:
    """Priority, then the time since when it is due; only from the queues asked for."""
    store = await world.worker()
    low = (await store.start(new(claim=False, priority=-1))).row.id
    first = (await store.start(new(claim=False))).row.id
    second = (await store.start(new(claim=False))).row.id
    high = (await store.start(new(claim=False, priority=5))).row.id
    gpu = (await store.start(new(claim=False, queue="gpu", priority=9))).row.id
    order = [(await store.claim(CODE))[0].id for _ in range(4)]
    assert order == [high, first, second, low]
    assert await store.claim(CODE) == []
    assert [row.id for row in await store.claim(CODE, queues=("default", "gpu"), limit=5)] == [gpu]


@scenario
async def test_a_parked_run_is_claimed_when_its_time_has_come(world: World) -> None:
    """Not before, and not by a worker that would have it at once."""
    store = await world.worker()
    run = await own(store)
    assert await store.settle(park(run, due_in=0.3))
    row = await store.run(run.id)
    assert (row.status, row.worker_id) == (Status.WAITING, None)
    assert await store.claim(CODE) == []

    async def claimed() -> bool:
        return len(await store.claim(CODE)) == 1

    await eventually(claimed)
    again = await store.run(run.id)
    assert (again.epoch, again.claims) == (2, 2)
    assert again.due_at <= await store.now()


@scenario
async def test_a_run_parked_for_ever_waits_for_mail_alone(world: World) -> None:
    """No time makes it due; asked for by name it comes at once."""
    store = await world.worker()
    run = await own(store)
    assert await store.settle(park(run, due_in=None))
    assert (await store.run(run.id)).due_at == datetime.max.replace(tzinfo=UTC)
    assert await store.claim(CODE) == []
    (row,) = await store.claim(CODE, only=run.id)
    assert row.epoch == 2


@scenario
async def test_a_run_handed_back_is_anybodys(world: World) -> None:
    """Pending again, due at once, with its journal."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome("a#1")])
    assert await store.settle(Settlement(run.id, run.epoch, Status.PENDING, 0, current="b#1"))
    assert (await store.run(run.id)).current == "b#1"
    (row,) = await other.claim(CODE)
    assert row.id == run.id
    assert await journal(other, run.id) == [(1, "finished", "a#1")]


@scenario
async def test_the_end_is_written_with_its_last_entry(world: World) -> None:
    """Status, error, time and journal row in one go; nobody claims it any more."""
    store = await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome("a#1")])
    assert await store.settle(complete(run))
    row = await store.run(run.id)
    assert (row.status, row.worker_id) == (Status.COMPLETED, None)
    assert row.ended_at is not None
    assert await journal(store, run.id) == [(1, "finished", "a#1"), (2, "completed", "")]
    assert await store.claim(CODE, only=run.id) == []
    bad = await own(store)
    assert await store.settle(Settlement(bad.id, bad.epoch, Status.FAILED, 0, error="it broke"))
    assert (await store.run(bad.id)).error == "it broke"


@scenario
async def test_a_live_workers_run_cannot_be_taken(world: World) -> None:
    """Not even by name."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    assert await other.claim(CODE, only=run.id) == []
    await store.append(run.id, run.epoch, [outcome("a#1")])


@scenario
async def test_the_runs_of_a_dead_worker_become_claimable(world: World) -> None:
    """One by name at once, which frees the others; each is counted as a loss."""
    old, fresh = await world.worker(), await world.worker()
    runs = [await own(old) for _ in range(3)]
    await world.kill(old)
    (first,) = await fresh.claim(CODE, only=runs[1].id)
    rest = await fresh.claim(CODE, limit=9)
    assert first.id == runs[1].id
    assert {row.id for row in rest} == {runs[0].id, runs[2].id}
    assert {row.lost for row in (first, *rest)} == {1}


@scenario
async def test_a_closed_worker_hands_back_what_it_held(world: World) -> None:
    """An orderly end is no loss."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome("a#1")])
    await store.close()
    (row,) = await other.claim(CODE)
    assert (row.id, row.lost) == (run.id, 0)


@scenario
async def test_a_closed_store_says_so(world: World) -> None:
    """Nothing waits for ever for a store that has been closed."""
    store = await world.worker()
    run = await own(store)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.append(run.id, run.epoch, [outcome("a#1")])
    with pytest.raises(StoreUnavailable):
        await store.start(new())
    with pytest.raises(StoreUnavailable):
        await store.run(run.id)


@scenario
async def test_a_definition_is_immutable_and_numbered(world: World) -> None:
    """The first text of a fingerprint stays; each new fingerprint of a flow is a version."""
    store, other = await world.worker(), await world.worker()
    one = Definition("test", "fit", "f1", {"nodes": ["a"]}, {"a": "def a(): ..."}, "sig")
    two = Definition("test", "fit", "f2", {"nodes": []}, {}, "")
    elsewhere = Definition("other", "fit", "f1", {}, {}, "")
    first = await store.define(one)
    again = await other.define(Definition("test", "fit", "f1", {"nodes": ["changed"]}, {}, ""))
    assert (first.version, again.version) == (1, 1)
    assert again.spec == {"nodes": ["a"]}
    assert (await store.define(two)).version == 2
    assert (await store.define(elsewhere)).version == 1
    assert await other.definition("test", "fit", "f1") == first
    assert await other.definition("test", "fit", "nope") is None
    assert [d.fingerprint for d in await store.definitions("test", "fit")] == ["f2", "f1"]


@scenario
async def test_concurrent_definitions_get_distinct_versions(world: World) -> None:
    """Two notebooks that register at once do not share a number."""
    stores = [await world.worker(), await world.worker()]
    made = await asyncio.gather(
        *(stores[n % 2].define(Definition("test", "fit", f"f{n}", {}, {}, "")) for n in range(10))
    )
    assert sorted(d.version for d in made) == list(range(1, 11))


@scenario
async def test_what_a_live_worker_serves_is_known(world: World) -> None:
    """And forgotten when it has left."""
    store, other = await world.worker(), await world.worker()
    await store.serve(frozenset({"f1", "f2"}))
    assert await other.served() == frozenset({"f1", "f2"})
    await store.close()
    assert await other.served() == frozenset()


@scenario
async def test_a_run_is_found_by_what_people_type(world: World) -> None:
    """The whole id, a unique beginning, a unique ending; otherwise it is said what fits."""
    store = await world.worker()
    asked = UUID("01900000-0000-7000-8000-0000000000aa"), UUID("01900000-0000-7000-8000-0000000000ab")
    for run_id in asked:
        await store.start(new(id=run_id))
    assert (await store.find(str(asked[0]))).id == asked[0]
    assert (await store.find("00AA")).id == asked[0]
    assert (await store.find(asked[1].hex[:32])).id == asked[1]
    with pytest.raises(RunNotFound, match="more than one"):
        await store.find("0190")
    for nothing in ("ffff", "", "xyz", "%"):
        with pytest.raises(RunNotFound):
            await store.find(nothing)
    with pytest.raises(RunNotFound):
        await store.run(new_id())


@scenario
async def test_runs_are_listed_newest_first(world: World) -> None:
    """And narrowed down by namespace, flow and status."""
    store = await world.worker()
    one = await own(store)
    two = await own(store, flow="other")
    three = await own(store, namespace="elsewhere")
    await store.settle(complete(two))
    ids = {one.id: 1, two.id: 2, three.id: 3}

    async def listed(**fields: object) -> set[int]:
        return {ids[row.id] for row in await store.runs(RunQuery(**fields))}  # type: ignore[arg-type]

    everything = [row.id for row in await store.runs(RunQuery())]
    assert everything == sorted(ids, reverse=True)
    assert await listed(namespace="default") == {1, 2}
    assert await listed(flow="fit") == {1, 3}
    assert await listed(status=Status.COMPLETED) == {2}
    assert len(await store.runs(RunQuery(limit=2))) == 2
