"""The journal: numbered, fenced, all or none."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from flowbook.errors import Fenced, PathClash, StoreError
from flowbook.ports import Snapshot
from tests.contract.worlds import (
    CODE,
    World,
    behind,
    complete,
    failed,
    journal,
    outcome,
    own,
    park,
    scenario,
    started,
)


@scenario
async def test_seqs_are_gapless(world: World) -> None:
    """A journal is numbered 1, 2, 3, ... however its rows come."""
    store = await world.worker()
    run = await own(store)
    first = await store.append(run.id, run.epoch, [outcome("a#1"), outcome("b#1")])
    acks = await asyncio.gather(*(store.append(run.id, run.epoch, [outcome(f"c#{n}")]) for n in range(1, 11)))
    store.note(run.id, run.epoch, started("d#1"))
    last = await store.append(run.id, run.epoch, [outcome("e#1")])
    assert first.seq == 2
    assert [ack.seq for ack in acks] == list(range(3, 13))
    assert last.seq == 14
    rows = await journal(store, run.id)
    assert [seq for seq, _, _ in rows] == list(range(1, 15))
    assert rows[12:] == [(13, "started", "d#1"), (14, "finished", "e#1")]


@scenario
async def test_the_journal_keeps_every_byte_and_the_time(world: World) -> None:
    """Payloads come back as they went, with the time that the acknowledgment said."""
    store = await world.worker()
    run = await own(store)
    payloads = [b"", b"\x00\xff" * 10, b"\\x00", bytes(range(256)) * 40]
    entries = [outcome(f"a#{n}", payload) for n, payload in enumerate(payloads)]
    ack = await store.append(run.id, run.epoch, entries)
    found = await store.history(run.id)
    assert [entry.payload for entry in found] == payloads
    assert {entry.at for entry in found} == {ack.at}
    assert [dataclasses.replace(entry, seq=0, at=None) for entry in found] == entries


@scenario
async def test_a_payload_of_megabytes_comes_back_whole(world: World) -> None:
    """What is too large for a row is kept elsewhere, and nobody notices."""
    store = await world.worker()
    run = await own(store)
    large = b"abcdefgh" * 400_000
    await store.append(run.id, run.epoch, [outcome("a#1", large), outcome("b#1", large), outcome("c#1", b"small")])
    found = await store.history(run.id)
    assert [entry.payload == large for entry in found] == [True, True, False]
    assert found[2].payload == b"small"


@scenario
async def test_a_stale_epoch_cannot_append(world: World) -> None:
    """Who was taken over writes nothing more, and its rows do not stop the new owner's."""
    old, fresh = await world.worker(), await world.worker()
    run = await own(old)
    await old.append(run.id, run.epoch, [outcome("a#1")])
    await world.kill(old)
    (taken,) = await fresh.claim(CODE, only=run.id)
    assert taken.epoch > run.epoch
    assert taken.lost == 1
    with pytest.raises(Fenced):
        await old.append(run.id, run.epoch, [outcome("b#1")])
    assert await journal(fresh, run.id) == [(1, "finished", "a#1")]
    await fresh.append(run.id, taken.epoch, [outcome("b#1")])
    assert await journal(fresh, run.id) == [(1, "finished", "a#1"), (2, "finished", "b#1")]


@scenario
async def test_a_stale_epoch_cannot_settle(world: World) -> None:
    """A stale worker's completion does not overwrite the newer owner."""
    old, fresh = await world.worker(), await world.worker()
    run = await own(old)
    await world.kill(old)
    (taken,) = await fresh.claim(CODE, only=run.id)
    with pytest.raises(Fenced):
        await old.settle(complete(run))
    now = await fresh.run(run.id)
    assert (now.status.value, now.epoch, now.worker_id) == ("running", taken.epoch, fresh.worker_id)


@scenario
async def test_a_settled_run_takes_nothing_more(world: World) -> None:
    """After it has let go, not even the last owner writes."""
    store = await world.worker()
    run = await own(store)
    assert await store.settle(complete(run))
    with pytest.raises(Fenced):
        await store.append(run.id, run.epoch, [outcome("late#1")])
    with pytest.raises(Fenced):
        await store.settle(complete(run))
    assert await journal(store, run.id) == [(1, "completed", "")]


@scenario
async def test_append_is_all_or_none(world: World) -> None:
    """An append with one bad row writes no row, and the numbers go on without a gap."""
    store = await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome("a#1")])
    with pytest.raises(PathClash):
        await store.append(run.id, run.epoch, [outcome("b#1"), outcome("a#1")])
    ack = await store.append(run.id, run.epoch, [outcome("b#1")])
    assert ack.seq == 2
    assert await journal(store, run.id) == [(1, "finished", "a#1"), (2, "finished", "b#1")]


@scenario
async def test_a_path_clash_hurts_only_its_own_append(world: World) -> None:
    """Appends of the same and of other runs that went out together are written."""
    store = await world.worker()
    one, two = await own(store), await own(store)
    await store.append(one.id, one.epoch, [outcome("a#1")])
    results = await asyncio.gather(
        store.append(two.id, two.epoch, [outcome("a#1")]),
        store.append(one.id, one.epoch, [outcome("b#1")]),
        store.append(one.id, one.epoch, [outcome("a#1")]),
        store.append(one.id, one.epoch, [outcome("c#1")]),
        store.append(two.id, two.epoch, [outcome("b#1")]),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results] == ["Ack", "Ack", "PathClash", "Ack", "Ack"]
    assert await journal(store, one.id) == [(1, "finished", "a#1"), (2, "finished", "b#1"), (3, "finished", "c#1")]
    assert await journal(store, two.id) == [(1, "finished", "a#1"), (2, "finished", "b#1")]


@scenario
async def test_only_outcomes_are_unique_per_path(world: World) -> None:
    """Attempts of one path may fail as often as they like before it finishes."""
    store = await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [failed("a#1", 1), failed("a#1", 2)])
    await store.append(run.id, run.epoch, [outcome("a#1", attempt=3)])
    assert len(await journal(store, run.id)) == 3


@scenario
async def test_an_append_of_nothing_is_refused(world: World) -> None:
    """There is no acknowledgment of nothing."""
    store = await world.worker()
    run = await own(store)
    with pytest.raises(StoreError):
        await store.append(run.id, run.epoch, [])


@scenario
async def test_advisory_rows_are_dropped_when_their_outcome_comes_first(world: World) -> None:
    """A chain of fast steps writes one row per step."""
    store = await world.worker()
    run = await own(store)
    for n in (1, 2, 3):
        store.note(run.id, run.epoch, started(f"a#{n}"))
        await store.append(run.id, run.epoch, [outcome(f"a#{n}")])
    await asyncio.sleep(0.25)
    assert await journal(store, run.id) == [(n, "finished", f"a#{n}") for n in (1, 2, 3)]


@scenario
async def test_an_advisory_row_of_another_attempt_is_kept(world: World) -> None:
    """A failed first attempt does not erase that the second has begun."""
    store = await world.worker()
    run = await own(store)
    store.note(run.id, run.epoch, started("a#1", 2))
    ack = await store.append(run.id, run.epoch, [failed("a#1", 1)])
    assert ack.seq == 2
    assert await journal(store, run.id) == [(1, "started", "a#1"), (2, "attempt", "a#1")]


@scenario
async def test_advisory_rows_are_written_by_a_tick_when_nothing_comes(world: World) -> None:
    """A long step is seen to have started."""
    store = await world.worker()
    run = await own(store)
    store.note(run.id, run.epoch, started("slow#1"))
    assert await journal(store, run.id) == []
    await asyncio.sleep(0.4)
    assert await journal(store, run.id) == [(1, "started", "slow#1")]
    assert (await store.append(run.id, run.epoch, [outcome("slow#1")])).seq == 2


@scenario
async def test_advisory_rows_of_a_stale_epoch_are_dropped_in_silence(world: World) -> None:
    """Nobody waits for them, so nobody is told."""
    old, fresh = await world.worker(), await world.worker()
    run = await own(old)
    await world.kill(old)
    await fresh.claim(CODE, only=run.id)
    old.note(run.id, run.epoch, started("a#1"))
    await asyncio.sleep(0.3)
    assert await journal(fresh, run.id) == []


@scenario
async def test_a_new_owner_goes_on_numbering_without_reading_the_history(world: World) -> None:
    """The store knows where a journal ends, even if its caller did not ask."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome("a#1"), outcome("b#1")])
    assert await store.settle(park(run, due_in=0.0))
    (mine,) = await other.claim(CODE)
    assert (await other.append(run.id, mine.epoch, [outcome("c#1")])).seq == 3


@scenario
async def test_a_snapshot_shortens_what_is_read(world: World) -> None:
    """With its tag, only what came after it is read; with another tag, everything."""
    store = await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome(f"a#{n}") for n in range(1, 6)])
    await store.snapshot(run.id, run.epoch, Snapshot(2, "t", b"two"))
    await store.snapshot(run.id, run.epoch, Snapshot(4, "t", b"four"))
    await store.snapshot(run.id, run.epoch, Snapshot(4, "t", b"four"))
    snapshot, seqs = await behind(store, run.id, "t")
    assert snapshot == Snapshot(4, "t", b"four")
    assert seqs == [5]
    assert await behind(store, run.id, "other") == (None, [1, 2, 3, 4, 5])


@scenario
async def test_a_snapshot_that_ends_the_journal_does_not_hide_where_it_ends(world: World) -> None:
    """A new owner that read nothing but the snapshot goes on after it."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome("a#1"), outcome("b#1")])
    await store.snapshot(run.id, run.epoch, Snapshot(2, "t", b"two"))
    await store.settle(park(run, due_in=0.0))
    (mine,) = await other.claim(CODE)
    assert (await behind(other, run.id, "t"))[1] == []
    assert (await other.append(run.id, mine.epoch, [outcome("c#1")])).seq == 3


@scenario
async def test_a_stale_snapshot_is_refused_in_silence(world: World) -> None:
    """An older epoch's fold is not kept."""
    old, fresh = await world.worker(), await world.worker()
    run = await own(old)
    await old.append(run.id, run.epoch, [outcome("a#1")])
    await world.kill(old)
    await fresh.claim(CODE, only=run.id)
    await old.snapshot(run.id, run.epoch, Snapshot(1, "t", b"stale"))
    assert await fresh.newest(run.id, "t") is None
