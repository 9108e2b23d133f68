"""Streamed text: written by the owner alone, once, in its order, and seen together with the journal by all."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from flowbook.errors import RunNotFound
from flowbook.ids import new_id
from flowbook.plan.records import Status
from flowbook.plan.streamed import Chunk
from flowbook.ports import RunRow, Store
from flowbook.store import reads
from tests.contract.worlds import World, complete, eventually, failed, outcome, own, scenario


def said(run: RunRow, n: int, text: str, path: str = "a#1", *, stream: int = 0, channel: str = "text") -> Chunk:
    """The n-th chunk that this owner writes; of the stream that began with its chunk ``stream``, or 0."""
    first = run.epoch << 32
    return Chunk(run.id, first + n, first + stream, path, 1, channel, text.encode())


async def text(store: Store, run_id: UUID, after: int = 0) -> list[str]:
    """What has been streamed."""
    return [chunk.data.decode() for chunk in (await store.news(run_id, n=after)).chunks]


@scenario
async def test_what_is_written_is_read_in_its_order_by_every_worker(world: World) -> None:
    """With path, attempt and channel; a second sending changes nothing; who has seen some of it gets the rest."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    chunks = [said(run, 0, "Hel"), said(run, 1, "lo"), said(run, 2, "\x00 \u20ac", channel="log")]
    await store.write_chunks(chunks)
    await store.write_chunks(chunks)
    news = await other.news(run.id)
    assert [(c.n, c.stream, c.path, c.attempt, c.channel, c.data) for c in news.chunks] == [
        (c.n, c.stream, c.path, c.attempt, c.channel, c.data) for c in chunks
    ]
    assert all(c.at is not None for c in news.chunks)
    assert await text(other, run.id, chunks[0].n) == [c.data.decode() for c in chunks[1:]]
    assert (news.status, list(news.entries)) == (Status.RUNNING, [])
    assert not news.more_entries
    assert not news.more_chunks


@scenario
async def test_a_stream_takes_the_place_of_the_one_before_at_its_path_alone(world: World) -> None:
    """A further attempt says it anew; another step's text stays."""
    store = await world.worker()
    run = await own(store)
    await store.write_chunks([said(run, 0, "half"), said(run, 1, "other", "b#1", stream=1)])
    await store.write_chunks([said(run, 2, "wh", stream=2), said(run, 3, "ole", stream=2)])
    assert await text(store, run.id) == ["other", "wh", "ole"]


@scenario
async def test_who_does_not_own_a_run_any_more_streams_nothing(world: World) -> None:
    """Neither an older owner nor one whose run has ended; nobody is told of an error."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    await store.write_chunks([said(run, 0, "one")])
    await world.kill(store)
    claimed: list[RunRow] = []

    async def taken() -> bool:
        claimed.extend(await other.claim(frozenset({run.fingerprint}), only=run.id))
        return bool(claimed)

    await eventually(taken)
    await store.write_chunks([said(run, 1, "zombie")])
    await other.write_chunks([said(claimed[0], 0, "two", "b#1")])
    assert await text(other, run.id) == ["one", "two"]
    assert await other.settle(complete(claimed[0]))
    await other.write_chunks([said(claimed[0], 1, "late")])
    assert await text(other, run.id) == ["one", "two"]


@scenario
async def test_text_is_dropped_by_its_stream(world: World) -> None:
    """And no other text with it."""
    store = await world.worker()
    run = await own(store)
    await store.write_chunks([said(run, 0, "a"), said(run, 1, "b", "b#1", stream=1), said(run, 2, "c")])
    await store.drop_chunks([(run.id, run.epoch << 32)])
    assert await text(store, run.id) == ["b"]


@scenario
async def test_text_of_an_outcome_that_is_known_is_over(world: World) -> None:
    """Who comes to the outcome with this look gets what came before it; who had it before, nothing."""
    store = await world.worker()
    run = await own(store)
    await store.write_chunks([said(run, 0, "a")])
    await store.append(run.id, run.epoch, [failed("a#1"), outcome("a#1", b"x" * 2_000_000)])
    news = await store.news(run.id)
    assert [len(e.payload) for e in news.entries] == [4, 2_000_000]
    assert [c.data for c in news.chunks] == [b"a"]
    assert news.chunks[0].at is not None
    assert news.entries[1].at is not None
    assert news.chunks[0].at <= news.entries[1].at
    assert len((await store.news(run.id, 1)).chunks) == 1
    assert not (await store.news(run.id, 2)).chunks


@scenario
async def test_readers_are_told_of_text_in_every_process(world: World) -> None:
    """A hint, within moments; and of a run that is not there, the truth."""
    store, other = await world.worker(), await world.worker()
    heard: dict[str, list[UUID]] = {"here": [], "there": []}
    store.on_news(heard["here"].append)
    other.on_news(heard["there"].append)
    run = await own(store)
    count = 0

    async def told() -> bool:
        nonlocal count
        await store.write_chunks([said(run, count, "a")])
        count += 1
        await asyncio.sleep(0.02)
        return {*heard["here"]} == {*heard["there"]} == {run.id}

    await eventually(told)
    with pytest.raises(RunNotFound):
        await store.news(new_id())


@scenario
async def test_much_news_comes_in_pieces(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out and nothing comes twice, whichever of the two there is more of."""
    monkeypatch.setattr(reads, "MOST_NEWS", 3)
    store = await world.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome(f"s#{i}") for i in range(7)])
    await store.write_chunks([said(run, i, str(i)) for i in range(5)])
    seq, n, entries, chunks = 0, 0, [], []
    while True:
        news = await store.news(run.id, seq, n)
        entries += [e.path for e in news.entries]
        chunks += [c.data for c in news.chunks]
        if not (news.entries or news.chunks):
            break
        seq = news.entries[-1].seq if news.entries else seq
        n = news.chunks[-1].n if news.chunks else n
        if not (news.more_entries or news.more_chunks):
            break
    assert entries == [f"s#{i}" for i in range(7)]
    assert chunks == [str(i).encode() for i in range(5)]
