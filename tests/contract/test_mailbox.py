"""The mailbox: what others want of a run reaches it, whatever it is doing."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from flowbook.errors import PayloadTooLarge, RunNotFound
from flowbook.ids import new_id
from flowbook.plan.records import Status
from flowbook.ports import Settlement
from flowbook.store import blobs
from tests.contract.worlds import CODE, World, complete, eventually, new, outcome, own, park, scenario


@scenario
async def test_mail_is_read_in_order_and_counted(world: World) -> None:
    """Deliveries are numbered from 1; the acknowledgment of an append says how many there are."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    assert (await other.send(run.id, "signal", "go", b"1")).mail == 1
    await other.send(run.id, "signal", "stop", b"\x00")
    ack = await store.append(run.id, run.epoch, [outcome("a#1")])
    assert ack.mail == 2
    mail = await store.mailbox(run.id)
    assert [(m.id, m.kind, m.name, m.payload) for m in mail] == [
        (1, "signal", "go", b"1"),
        (2, "signal", "stop", b"\x00"),
    ]
    assert [m.id for m in await store.mailbox(run.id, after=1)] == [2]


@scenario
async def test_concurrent_deliveries_all_arrive(world: World) -> None:
    """Fifty senders, fifty letters, numbered without a gap."""
    stores = [await world.worker(), await world.worker()]
    run = await own(stores[0])
    await asyncio.gather(*(stores[n % 2].send(run.id, "signal", str(n), b"") for n in range(50)))
    mail = await stores[0].mailbox(run.id)
    assert [m.id for m in mail] == list(range(1, 51))
    assert {m.name for m in mail} == {str(n) for n in range(50)}


@scenario
async def test_who_claims_a_woken_run_has_its_last_letter(world: World) -> None:
    """It is what the mailbox ends with, so one that is alone need not be asked for; without mail there is none."""
    store, other = await world.worker(), await world.worker()
    run, quiet = await own(store), await own(store)
    assert await store.settle(park(run))
    assert await store.settle(park(quiet, due_in=0.0))
    await other.send(run.id, "signal", "go", b"1")
    await other.send(run.id, "signal", "stop", b"2")
    rows = {row.id: row for row in await store.claim(CODE, limit=2, among=frozenset({run.id, quiet.id}))}
    assert rows[run.id].letter == (await store.mailbox(run.id))[-1]
    assert rows[run.id].mail == 2
    assert rows[quiet.id].letter is None


@scenario
async def test_parking_is_refused_when_mail_came_meanwhile(world: World) -> None:
    """A letter that came after the last look keeps the run awake, and its owner keeps the run."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    await other.send(run.id, "signal", "go", b"")
    assert not await store.settle(park(run, seen=0))
    assert (await store.run(run.id)).status is Status.RUNNING
    await store.append(run.id, run.epoch, [outcome("a#1")])
    assert await store.settle(park(run, seen=1))


@scenario
async def test_an_end_is_refused_when_mail_came_meanwhile(world: World) -> None:
    """A cancel that was committed before the end wins: nothing of the end is written."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    await other.send(run.id, "cancel", "", b"")
    assert not await store.settle(complete(run))
    row = await store.run(run.id)
    assert (row.status, row.ended_at) == (Status.RUNNING, None)
    assert (await store.history(run.id)) in ((), [])


@scenario
async def test_mail_wakes_a_parked_run(world: World) -> None:
    """It becomes due at once, and workers are told."""
    store, other = await world.worker(), await world.worker()
    heard: list[UUID | None] = []
    other.on_wake(heard.append)
    run = await own(store)
    await store.settle(park(run, due_in=None))
    row = await store.send(run.id, "signal", "go", b"")
    assert row.status is Status.WAITING
    assert row.due_at <= await store.now()

    async def woken() -> bool:
        return run.id in heard

    await eventually(woken)
    (claimed,) = await other.claim(CODE)
    assert (claimed.id, claimed.mail) == (run.id, 1)


@scenario
async def test_a_sender_wakes_itself(world: World) -> None:
    """The owner may sit in the same process."""
    store = await world.worker()
    heard: list[UUID | None] = []
    store.on_wake(heard.append)
    run = await own(store)
    await store.send(run.id, "cancel", "", b"")

    async def woken() -> bool:
        return run.id in heard

    await eventually(woken)


@scenario
async def test_mail_before_the_timer_brings_it_forward_and_never_back(world: World) -> None:
    """A run that is due stays due since when it was."""
    store = await world.worker()
    run = (await store.start(new(claim=False))).row
    after = await store.send(run.id, "signal", "go", b"")
    assert after.due_at == run.due_at


@scenario
async def test_cancel_of_a_completed_run_is_told_so(world: World) -> None:
    """The answer is the row as it is; its result stays, and no letter is kept."""
    store = await world.worker()
    run = await own(store)
    await store.settle(complete(run))
    row = await store.send(run.id, "cancel", "", b"")
    assert (row.status, row.mail) == (Status.COMPLETED, 0)
    assert list(await store.mailbox(run.id)) == []


@scenario
async def test_retry_is_for_failed_runs_alone(world: World) -> None:
    """A failed run becomes pending and its next owner finds the letter; others are left alone."""
    store = await world.worker()
    failed, fine = await own(store), await own(store)
    await store.settle(Settlement(failed.id, failed.epoch, Status.FAILED, 0, error="boom"))
    assert (await store.send(failed.id, "signal", "go", b"")).mail == 0
    row = await store.send(failed.id, "retry", "", b"")
    assert (row.status, row.mail, row.error, row.ended_at) == (Status.PENDING, 1, None, None)
    (claimed,) = await store.claim(CODE, limit=5)
    assert (claimed.id, claimed.mail) == (failed.id, 1)
    assert (await store.send(fine.id, "retry", "", b"")).mail == 0
    await store.settle(complete(fine))
    assert (await store.send(fine.id, "retry", "", b"")).status is Status.COMPLETED


@scenario
async def test_mail_to_nobody_is_an_error(world: World) -> None:
    """A run that does not exist takes no letters."""
    store = await world.worker()
    with pytest.raises(RunNotFound):
        await store.send(new_id(), "cancel", "", b"")


@scenario
async def test_what_is_too_large_to_be_stored_is_refused_before_it_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An input and a message, by what they are and with what to do; nothing of them is there, and work goes on."""
    monkeypatch.setattr(blobs, "TOO_LARGE", 100)
    store = await world.worker()
    with pytest.raises(PayloadTooLarge, match=r"the input of flow 'fit' has 101 bytes, 100 are possible.*file"):
        await store.start(new(key="large", input=b"x" * 101))
    run = await own(store, key="large", input=b"x" * 100)
    with pytest.raises(PayloadTooLarge, match="'approved' has 101 bytes"):
        await store.send(run.id, "signal", "approved", b"x" * 101)
    assert (await store.send(run.id, "signal", "approved", b"x" * 100)).mail == 1
