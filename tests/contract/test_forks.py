"""Forks in a store: what is read of others, and from whom."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import asyncpg
import pytest

from flowbook.errors import RunNotFound
from flowbook.ids import new_id
from flowbook.plan.journal import Entry, Kind
from flowbook.plan.records import Status
from flowbook.ports import NewFork, RunRow, Settlement, Snapshot, Store
from tests.contract.worlds import (
    COMPLETED,
    PostgresWorld,
    World,
    behind,
    complete,
    failed,
    journal,
    outcome,
    own,
    scenario,
    started,
)

CODE = frozenset({"f1", "f2"})


def edited(path: str, payload: bytes = b"edits") -> Entry:
    """The first row of a fork."""
    return Entry(Kind.FORKED, path, 0, payload)


async def fork(store: Store, parent: UUID, seq: int, *without: str, at: str = "x#1", **fields: Any) -> RunRow:
    usual: dict[str, Any] = {"fingerprint": "f2", "version": 2, "entry": edited(at)}
    return await store.fork(NewFork(new_id(), parent, seq, without, **(usual | fields)))


async def finished(store: Store) -> RunRow:
    """a, b, c, d, with all that may stand between them."""
    run = await own(store, priority=3, metadata={"org": "a"}, key="mine")
    rows = [outcome("a#1"), started("b#1"), failed("b#1"), outcome("b#1", attempt=2), outcome("c#1"), outcome("d#1")]
    await store.append(run.id, run.epoch, rows)
    await store.settle(complete(run))
    return run


@scenario
async def test_a_fork_reads_its_parents_results_up_to_a_row_and_without_some(world: World) -> None:
    """Results alone, numbered backwards; its own journal begins with 1, and the parent's is as it was."""
    store = await world.worker()
    parent = await finished(store)
    before = await journal(store, parent.id)
    child = await fork(store, parent.id, 5, "b#1")
    assert await journal(store, child.id) == [(-1, "finished", "a#1"), (0, "finished", "c#1"), (1, "forked", "x#1")]
    assert await journal(store, parent.id) == before
    rows = await store.history(child.id)
    assert [r.payload for r in rows] == [b"result", b"result", b"edits"]
    assert all(r.at is not None for r in rows)


@scenario
async def test_a_fork_is_a_pending_run_with_the_input_and_the_metadata_of_its_parent(world: World) -> None:
    """Whoever knows its code may claim it; the key stays with the parent."""
    store = await world.worker()
    parent = await finished(store)
    child = await fork(store, parent.id, 1)
    assert (child.status, child.epoch, child.mail, child.key) == (Status.PENDING, 0, 0, None)
    assert (child.forked_from, child.fingerprint, child.version) == (parent.id, "f2", 2)
    assert (child.input, child.input_digest, child.metadata) == (parent.input, parent.input_digest, {"org": "a"})
    assert (child.flow, child.priority, child.started_at, child.ended_at) == ("fit", 3, None, None)
    (claimed,) = await store.claim(CODE)
    assert claimed.id == child.id


@scenario
async def test_a_fork_writes_its_own_journal_behind_its_first_row(world: World) -> None:
    """The prefix counts for nothing in it."""
    store = await world.worker()
    parent = await finished(store)
    child = await fork(store, parent.id, 5)
    (row,) = await store.claim(CODE, only=child.id)
    await store.history(row.id)
    ack = await store.append(row.id, row.epoch, [outcome("c#1", b"again")])
    assert ack.seq == 2
    assert await store.settle(complete(row))
    assert [seq for seq, _, _ in await journal(store, child.id)] == [-2, -1, 0, 1, 2, 3]
    assert (await store.history(child.id))[-1].kind == COMPLETED.kind


@scenario
async def test_a_fork_that_is_claimed_without_reading_its_history_goes_on_with_two(world: World) -> None:
    """Its first row was not written by its owner."""
    store = await world.worker()
    parent = await finished(store)
    child = await fork(store, parent.id, 5)
    (row,) = await store.claim(CODE, only=child.id)
    assert (await store.append(row.id, row.epoch, [outcome("c#1")])).seq == 2


@scenario
async def test_a_fork_of_a_fork_reads_through_both(world: World) -> None:
    """What one of them leaves out is left out of all before it; its own rows are read up to where it was left."""
    store = await world.worker()
    parent = await finished(store)
    child = await fork(store, parent.id, 5, "b#1", at="b#1")
    (row,) = await store.claim(CODE, only=child.id)
    await store.append(row.id, row.epoch, [outcome("b#1", b"new"), failed("d#1"), outcome("d#1"), outcome("e#1")])
    grandchild = await fork(store, child.id, 4, "c#1", at="e#1")
    assert [path for _, _, path in await journal(store, grandchild.id)] == ["a#1", "b#1", "b#1", "d#1", "e#1"]
    rows = await store.history(grandchild.id)
    assert [(r.seq, r.kind, r.payload) for r in rows] == [
        (-3, "finished", b"result"), (-2, "forked", b"edits"), (-1, "finished", b"new"), (0, "finished", b"result"),
        (1, "forked", b"edits"),
    ]  # fmt: skip
    without_all = await fork(store, grandchild.id, 0, "b#1", "d#1", at="b#1")
    assert [path for _, _, path in await journal(store, without_all.id)] == ["a#1", "b#1"]


@scenario
async def test_a_snapshot_of_a_fork_holds_its_prefix(world: World) -> None:
    """And one of its parent is not taken for it."""
    store = await world.worker()
    parent = await own(store)
    await store.append(parent.id, parent.epoch, [outcome("a#1"), outcome("b#1")])
    await store.snapshot(parent.id, parent.epoch, Snapshot(2, "tag", b"of the parent"))
    child = await fork(store, parent.id, 1)
    assert await behind(store, child.id, "tag") == (None, [0, 1])
    (row,) = await store.claim(CODE, only=child.id)
    await store.append(row.id, row.epoch, [outcome("b#1")])
    await store.snapshot(row.id, row.epoch, Snapshot(1, "tag", b"of the fork"))
    assert await behind(store, child.id, "tag") == (Snapshot(1, "tag", b"of the fork"), [2])


@scenario
async def test_a_fork_of_megabytes_keeps_its_edits_and_its_prefix(world: World) -> None:
    """Large values are read from where the parent stored them."""
    store = await world.worker()
    large = b"abcdefgh" * 400_000
    parent = await own(store)
    await store.append(parent.id, parent.epoch, [outcome("a#1", large)])
    child = await fork(store, parent.id, 1, entry=edited("b#1", large))
    assert [e.payload == large for e in (await store.history(child.id))] == [True, True]


@scenario
async def test_nothing_is_forked_from_a_run_that_there_is_not(world: World) -> None:
    """And nothing is left of the attempt."""
    store = await world.worker()
    with pytest.raises(RunNotFound):
        await fork(store, new_id(), 0)
    assert await store.claim(CODE, limit=5) == []


@scenario
async def test_a_fork_that_is_sent_twice_is_made_once(world: World) -> None:
    """After a lost answer the same fork is sent again."""
    store = await world.worker()
    parent = await finished(store)
    new = NewFork(new_id(), parent.id, 1, (), "f2", 2, edited("b#1"))
    first = await store.fork(new)
    (row,) = await store.claim(CODE, only=first.id)
    await store.append(row.id, row.epoch, [outcome("b#1")])
    assert (await store.fork(new)).epoch == row.epoch
    assert [seq for seq, _, _ in await journal(store, new.id)] == [0, 1, 2]


@scenario
async def test_a_run_with_forks_cannot_be_deleted(postgres: PostgresWorld) -> None:
    """They read its journal."""
    store = await postgres.worker()
    parent = await finished(store)
    await fork(store, parent.id, 1)
    sql = await postgres.sql()
    try:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await sql.execute("delete from flowbook.run where id = $1", parent.id)
    finally:
        await sql.close()


@scenario
async def test_a_failed_run_is_given_other_code_once(world: World) -> None:
    """With the row that says so; nobody else's epoch writes any more, and a second change finds nothing to change."""
    store = await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome("a#1")])
    code = Entry(Kind.CODE, "", 0, b"changes")
    assert not await store.change_code(run.id, "f1", "f2", 2, code), "it has not failed"
    await store.settle(Settlement(run.id, run.epoch, Status.FAILED, 0, Entry(Kind.FAILED, "", 0, b"why")))
    assert not await store.change_code(run.id, "f9", "f2", 2, code), "it is not of that code"
    assert await store.change_code(run.id, "f1", "f2", 2, code)
    row = await store.run(run.id)
    assert (row.fingerprint, row.version, row.status, row.epoch) == ("f2", 2, Status.FAILED, run.epoch + 1)
    assert [kind for _, kind, _ in await journal(store, run.id)] == ["finished", "failed", "code"]
    await store.send(run.id, "retry", "ana", b"")
    assert not await store.change_code(run.id, "f1", "f3", 3, code)
    assert await store.claim(frozenset({"f1"}), only=run.id) == []
    (claimed,) = await store.claim(frozenset({"f2"}), only=run.id)
    await store.history(claimed.id)
    assert (await store.append(claimed.id, claimed.epoch, [outcome("b#1")])).seq == 4
