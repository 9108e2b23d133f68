"""Reading what is too much to be read at once: a journal in pages, outcomes by their paths, values beside the runs."""

from __future__ import annotations

import asyncio

import pytest

from flowbook.errors import PayloadTooLarge, StoreUnavailable, Undecodable
from flowbook.plan.journal import Entry, Kind
from flowbook.ports import RunRow, Snapshot, Store
from flowbook.store import blobs
from tests.contract.worlds import World, outcome, own, scenario, started


async def read(store: Store, run: RunRow, after: int = 0) -> list[Entry]:
    """All pages."""
    return [entry async for page in store.pages(run.id, after) for entry in page]


@scenario
@pytest.mark.parametrize("rows", [0, 1, 1999, 2000, 2001, 4000])
async def test_pages_are_the_journal_whatever_its_length(world: World, rows: int) -> None:
    """Also where it ends with a page; and the owner who has read it writes on."""
    store = await world.worker()
    run = await own(store)
    if rows:
        await store.append(run.id, run.epoch, [outcome(f"a#{n}") for n in range(1, rows + 1)])
    assert await read(store, run) == list(await store.history(run.id))
    assert [e.seq for e in await read(store, run, after=rows - 1)] == [rows][:rows]


@scenario
async def test_who_has_read_all_pages_knows_where_to_write_on(world: World) -> None:
    """A claimed run whose journal was read in pages is numbered on without a gap."""
    store = await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome(f"a#{n}") for n in range(1, 2502)])
    await store.close()
    second = await world.worker()
    (claimed,) = await second.claim(frozenset({run.fingerprint}), only=run.id)
    assert len(await read(second, claimed)) == 2501
    assert (await second.append(claimed.id, claimed.epoch, [outcome("b#1")])).seq == 2502


@scenario
async def test_pages_leave_out_what_items_have_returned(world: World) -> None:
    """Everything else comes whole, large values too."""
    store, large = await world.worker(), b"x" * 2_000_000
    run = await own(store)
    entries = [outcome("m#1[0]", b"item"), outcome("m#1[1]", large), outcome("m#1", large), started("m#1[2]")]
    await store.append(run.id, run.epoch, entries)
    found = await read(store, run)
    assert [e.path for e in found] == ["m#1[0]", "m#1[1]", "m#1", "m#1[2]"]
    assert [len(e.payload) for e in found] == [0, 0, 2_000_000, 0]


@scenario
async def test_pages_leave_out_nothing_else_of_an_item(world: World) -> None:
    """The child that an item is, and what an attempt of it failed with, are folded."""
    store = await world.worker()
    run = await own(store)
    kinds = (Kind.CHILD, Kind.ATTEMPT_FAILED, Kind.WAITING)
    await store.append(run.id, run.epoch, [Entry(kind, "m#1[0]", 1, b"needed") for kind in kinds])
    assert [(e.kind, e.payload) for e in await read(store, run)] == [(kind, b"needed") for kind in kinds]


@scenario
async def test_outcomes_come_by_their_paths_in_the_order_of_the_question(world: World) -> None:
    """However they were written; for coroutines and for everybody else; those that are missing are left out."""
    store = await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome(f"m#1[{n}]", b"%d" % n) for n in (3, 1, 0, 2)])
    asked = ["m#1[2]", "m#1[9]", "m#1[0]", "m#1[3]"]
    assert [e.payload for e in await store.outcomes(run.id, asked)] == [b"2", b"0", b"3"]
    in_a_thread = await asyncio.to_thread(store.outcomes_now, run.id, asked)
    assert (
        [e.payload for e in in_a_thread] == [e.payload for e in store.outcomes_now(run.id, asked)] == [b"2", b"0", b"3"]
    )
    assert list(await store.outcomes(run.id, [])) == []


@scenario
async def test_large_outcomes_come_a_few_at_a_time(world: World) -> None:
    """At least one, and from the first one on, so that who asks for the rest gets them all."""
    store = await world.worker()
    run = await own(store)
    sizes = [900_000, 900_000, 3_000_000, 10, 900_000, 5_000_000, 5_000_000, 10]
    for n, size in enumerate(sizes):
        await store.append(run.id, run.epoch, [outcome(f"m#1[{n}]", b"%d" % n * size)])
    paths = [f"m#1[{n}]" for n in range(len(sizes))]
    got: list[int] = []
    while len(got) < len(sizes):
        page = await store.outcomes(run.id, paths[len(got) :])
        assert page
        got += [len(e.payload) for e in page]
    assert got == sizes


@scenario
async def test_the_newest_snapshot_of_a_tag_is_found(world: World) -> None:
    """And no other tag's."""
    store = await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome("a#1"), outcome("b#1"), outcome("c#1")])
    for seq, tag in ((1, "t"), (2, "t"), (3, "other")):
        await store.snapshot(run.id, run.epoch, Snapshot(seq, tag, b"%d" % seq))
    assert await store.newest(run.id, "t") == Snapshot(2, "t", b"2")
    assert await store.newest(run.id, "none") is None


@scenario
async def test_a_closed_store_reads_no_outcomes(world: World) -> None:
    """It says so, and does not hang."""
    store = await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome("m#1[0]")])
    assert store.outcomes_now(run.id, ["m#1[0]"])
    await store.close()
    with pytest.raises(StoreUnavailable, match="read them before"):
        store.outcomes_now(run.id, ["m#1[0]"])


@scenario
async def test_values_are_kept_beside_the_runs_under_the_digest_of_their_bytes(world: World) -> None:
    """Once, for every worker, also empty ones and large ones; one that is not there is said to be gone."""
    store, other = await world.worker(), await world.worker()
    for value in (b"", b"one", b"x" * 3_000_000):
        digest = await store.keep(value)
        assert len(digest) == 32
        assert await other.keep(value) == digest
        assert await other.kept(digest) == value
    assert len({await store.keep(b"one"), await store.keep(b"two")}) == 2
    with pytest.raises(Undecodable, match="not in the database any more"):
        await store.kept(b"0" * 32)


@scenario
async def test_too_large_a_value_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its size, before it is sent."""
    monkeypatch.setattr(blobs, "TOO_LARGE", 10)
    store = await world.worker()
    with pytest.raises(PayloadTooLarge, match="has 11 bytes"):
        await store.keep(b"x" * 11)
