"""Children: the end of a run reaches its parent, whatever either of them is doing, and is told once."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from flowbook.errors import Fenced
from flowbook.ids import new_id
from flowbook.plan.query import RunQuery
from flowbook.plan.records import Status
from flowbook.ports import CHILD, FOLLOW, RunRow, Settlement, Store, ended_child
from tests.contract.worlds import CODE, COMPLETED, World, complete, eventually, new, outcome, own, park, scenario


async def child_of(store: Store, parent: RunRow, path: str = "sub#1", **fields: object) -> RunRow:
    """A run that a parent has started and that ``store`` owns."""
    return await own(store, parent_id=parent.id, root_id=parent.root_id or parent.id, parent_path=path, **fields)


async def news(store: Store, run_id: UUID) -> list[tuple[int, str, tuple[UUID, Status]]]:
    """Number, path and content of the ends that a run was told of."""
    return [(m.id, m.name, ended_child(m.payload)) for m in await store.mailbox(run_id) if m.kind == CHILD]


@scenario
async def test_a_child_run_can_be_started_and_every_end_of_it_stored(world: World) -> None:
    """No constraint stands in the way of a row with a parent, whichever way it ends."""
    store = await world.worker()
    parent = await own(store)
    for number, status in enumerate((Status.COMPLETED, Status.FAILED, Status.CANCELLED), 1):
        child = await child_of(store, parent, f"sub#{number}")
        assert (child.parent_id, child.root_id, child.parent_path) == (parent.id, parent.id, f"sub#{number}")
        assert await store.settle(Settlement(child.id, child.epoch, status, 0, COMPLETED, due_in=None))
        row = await store.run(child.id)
        assert (row.status, row.parent_id, row.parent_path) == (status, parent.id, f"sub#{number}")
        assert (await news(store, parent.id))[-1] == (number, f"sub#{number}", (child.id, status))


@scenario
async def test_the_items_of_a_map_are_told_apart_by_their_paths(world: World) -> None:
    """Children at `map#1[0]` and `map#1[10]` of one parent: each end says which item it was, whoever carried it."""
    store, other = await world.worker(), await world.worker()
    parent = await own(store)
    items = [await child_of(other if n % 2 else store, parent, f"map#1[{n}]") for n in (0, 1, 10)]
    for row, owner in zip(items, (store, other, store), strict=True):
        assert await owner.settle(complete(row))
    told = [(name, end) for _, name, end in await news(store, parent.id)]
    assert told == [(str(row.parent_path), (row.id, Status.COMPLETED)) for row in items]
    assert {str(row.parent_path) for row in await store.children(parent.id)} == {f"map#1[{n}]" for n in (0, 1, 10)}


@scenario
async def test_who_has_claimed_a_run_is_not_told_again_of_all_that_have_ended_before(world: World) -> None:
    """Ends up to a number may be left out of what is read, other mail never; the children that live are few."""
    store = await world.worker()
    parent = await own(store)
    children = [await child_of(store, parent, f"map#1[{n}]") for n in range(4)]
    for child in children[:2]:
        await store.settle(complete(child))
    await store.send(parent.id, "signal", "go", b"")
    await store.settle(complete(children[2]))
    read = await store.mailbox(parent.id, 0, ends_after=2)
    assert [(m.id, m.kind) for m in read] == [(3, "signal"), (4, CHILD)]
    assert [m.id for m in await store.mailbox(parent.id, 0, ends_after=4)] == [3]
    assert [m.id for m in await store.mailbox(parent.id, 3, ends_after=1)] == [4]
    assert len(await store.mailbox(parent.id)) == 4
    assert [row.id for row in await store.children(parent.id, live=True)] == [children[3].id]
    assert len(await store.children(parent.id)) == 4


@scenario
async def test_the_end_of_a_child_wakes_its_parked_parent(world: World) -> None:
    """It becomes due at once, with the news in its mailbox, and workers are told."""
    store, other = await world.worker(), await world.worker()
    heard: list[UUID | None] = []
    other.on_wake(heard.append)
    parent = await own(store)
    child = await child_of(store, parent)
    await store.settle(park(parent))
    assert list(await other.claim(CODE)) == []
    await store.settle(complete(child))

    async def woken() -> bool:
        return parent.id in heard

    await eventually(woken)
    (claimed,) = await other.claim(CODE)
    assert (claimed.id, claimed.mail) == (parent.id, 1)
    assert await news(other, parent.id) == [(1, "sub#1", (child.id, Status.COMPLETED))]


@scenario
async def test_a_parent_cannot_park_over_the_end_of_its_child(world: World) -> None:
    """The news counts as mail: parking is refused, and so is an end, until it was read."""
    store, other = await world.worker(), await world.worker()
    parent = await own(store)
    child = await child_of(other, parent)
    await other.settle(complete(child))
    assert not await store.settle(park(parent, seen=0))
    assert not await store.settle(complete(parent, seen=0))
    assert (await store.append(parent.id, parent.epoch, [outcome("a#1")])).mail == 1
    assert await store.settle(park(parent, seen=1))


@scenario
async def test_children_that_end_while_their_parent_is_parked_and_claimed_are_all_heard(world: World) -> None:
    """Thirty ends against a parent that is parked and claimed all the time: thirty letters without a gap."""
    owners = [await world.worker() for _ in range(3)]
    store = await world.worker()
    parent = await own(store)
    children = [(owners[n % 3], await child_of(owners[n % 3], parent, f"sub#{n + 1}")) for n in range(30)]

    async def end(number: int, owner: Store, child: RunRow) -> None:
        await asyncio.sleep(number * 0.003)
        assert await owner.settle(complete(child))

    async def turn() -> None:
        row = parent
        while row.mail < 30:
            if not await store.settle(park(row, seen=row.mail)):
                row = await store.run(parent.id)
                continue
            while not (claimed := await store.claim(CODE, only=parent.id)):
                await asyncio.sleep(0)
            (row,) = claimed

    await asyncio.gather(turn(), *(end(n, *child) for n, child in enumerate(children)))
    told = await news(store, parent.id)
    assert [number for number, _, _ in told] == list(range(1, 31))
    assert {end[0] for _, _, end in told} == {child.id for _, child in children}


@scenario
async def test_families_that_end_crosswise_do_not_wait_for_each_other(world: World) -> None:
    """Whole lines of parents end at once, from several workers: nobody waits in a circle, everybody ends."""
    stores = [await world.worker() for _ in range(3)]
    ends = []
    for n in range(8):
        row = await own(stores[n % 3])
        line = [(stores[n % 3], row)]
        for depth in range(4):
            owner = stores[(n + depth + 1) % 3]
            row = await child_of(owner, row, f"sub#{depth + 1}")
            line.append((owner, row))
        ends += line

    async def end(owner: Store, row: RunRow) -> None:
        seen = 0
        while not await owner.settle(complete(row, seen)):
            seen = (await owner.run(row.id)).mail

    await asyncio.gather(*(end(owner, row) for owner, row in ends))
    assert {(await stores[0].run(row.id)).status for _, row in ends} == {Status.COMPLETED}


@scenario
async def test_the_end_of_a_child_whose_parent_is_over_or_gone_is_no_error(world: World) -> None:
    """Nobody is told, and the child ends as any other run."""
    store = await world.worker()
    parent = await own(store)
    late = await child_of(store, parent)
    orphan = await own(store, parent_id=new_id(), root_id=new_id(), parent_path="sub#1")
    await store.settle(complete(parent))
    for child in (late, orphan):
        assert await store.settle(complete(child))
        assert (await store.run(child.id)).status is Status.COMPLETED
    assert (await store.run(parent.id)).mail == 0


@scenario
async def test_a_parent_and_its_child_that_end_at_once_both_end(world: World) -> None:
    """In one flush or in two: the parent is over or has mail, and neither is lost."""
    store = await world.worker()
    for _ in range(10):
        parent = await own(store)
        child = await child_of(store, parent)
        both = await asyncio.gather(store.settle(complete(parent)), store.settle(complete(child)))
        assert both[1]
        if not both[0]:
            assert await store.settle(complete(parent, seen=1))
        assert (await store.run(parent.id)).status is Status.COMPLETED


@scenario
async def test_a_fenced_end_tells_nobody(world: World) -> None:
    """What a worker that was given up for dead says of a child's end is not heard."""
    store, other = await world.worker(), await world.worker()
    parent = await own(other)
    child = await child_of(store, parent)
    await world.kill(store)
    (claimed,) = await other.claim(CODE, only=child.id)
    with pytest.raises(Fenced):
        await store.settle(complete(child))
    assert await news(other, parent.id) == []
    assert await other.settle(complete(claimed))
    assert len(await news(other, parent.id)) == 1


@scenario
async def test_a_run_that_is_started_twice_is_one_run(world: World) -> None:
    """Who starts an id again gets what is there, and changes nothing of it, whoever owns it by now."""
    store, other = await world.worker(), await world.worker()
    parent = await own(store)
    wanted = new(parent_id=parent.id, root_id=parent.id, parent_path="sub#1")
    first = (await store.start(wanted)).row
    await store.append(first.id, first.epoch, [outcome("a#1")])
    again = (await store.start(wanted)).row
    assert (again.id, again.epoch, again.worker_id) == (first.id, 1, store.worker_id)
    ack = await store.append(first.id, first.epoch, [outcome("b#1")])  # it is still owned, and goes on counting
    assert ack.seq == 2
    elsewhere = (await other.start(wanted)).row
    assert elsewhere.worker_id == store.worker_id
    await store.settle(complete(first))
    over = (await other.start(wanted)).row
    assert over.status is Status.COMPLETED
    assert [row.id for row in await store.children(parent.id)] == [first.id]


@scenario
async def test_a_follower_is_told_of_the_end(world: World) -> None:
    """Who sent a `follow` hears of the end as a parent does, once, however often it has asked."""
    store = await world.worker()
    run, follower = await own(store), await own(store)
    for _ in range(2):
        assert not (await store.send(run.id, FOLLOW, "sub#1", follower.id.bytes)).status.over
    assert not await store.settle(complete(run, seen=1))
    assert await store.settle(complete(run, seen=2))
    assert await news(store, follower.id) == [(1, "sub#1", (run.id, Status.COMPLETED))]
    assert (await store.send(run.id, FOLLOW, "sub#1", follower.id.bytes)).status is Status.COMPLETED


@scenario
async def test_a_retried_child_tells_of_its_second_end_too(world: World) -> None:
    """Each end is news: a parent that waits again hears again."""
    store = await world.worker()
    parent = await own(store)
    child = await child_of(store, parent)
    await store.settle(Settlement(child.id, child.epoch, Status.FAILED, 0, COMPLETED, due_in=None, error="boom"))
    await store.send(child.id, "retry", "ana", b"")
    (claimed,) = await store.claim(CODE, only=child.id)
    assert await store.settle(complete(claimed, seen=1))
    assert [end[1] for _, _, end in await news(store, parent.id)] == [Status.FAILED, Status.COMPLETED]


@scenario
async def test_lists_leave_children_out_unless_they_are_asked_for(world: World) -> None:
    """People think of the runs that they have started; a parent's own are found with it."""
    store = await world.worker()
    parent = await own(store)
    children = [await child_of(store, parent, f"sub#{n}") for n in (1, 2)]
    assert [row.id for row in await store.runs(RunQuery())] == [parent.id]
    assert {row.id for row in await store.runs(RunQuery(children=True))} == {parent.id, *(c.id for c in children)}
    assert [row.parent_path for row in await store.children(parent.id)] == ["sub#1", "sub#2"]
    assert list(await store.children(children[0].id)) == []
