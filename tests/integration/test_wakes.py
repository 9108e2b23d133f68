"""Wakes between workers: heard at once, coalesced, never needed.

Owns: the promises of `flowbook/store/wakes.py`, and what an idle worker costs. Refuses: deaths (`test_liveness.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest

from flowbook.ids import new_id
from flowbook.store import driver, migrate
from flowbook.store.liveness import Liveness
from flowbook.store.wakes import INTERVAL, MOST, PER_PAYLOAD, Wakes

pytestmark = pytest.mark.timeout(60)

FOREVER = 1_000.0
"""A poll that does not come in a test."""


class Ear:
    """What one worker has heard, and when."""

    def __init__(self) -> None:
        self.heard: list[UUID | None] = []
        self.at: list[float] = []

    def __call__(self, run_id: UUID | None) -> None:
        self.heard.append(run_id)
        self.at.append(time.monotonic())

    async def until(self, true: Callable[[list[UUID | None]], object], within: float = 5.0) -> None:
        async with asyncio.timeout(within):
            while not true(self.heard):
                await asyncio.sleep(0.002)

    def clear(self) -> None:
        self.heard.clear()
        self.at.clear()


def hears(run: UUID) -> Callable[[list[UUID | None]], object]:
    return lambda heard: run in heard


@asynccontextmanager
async def pair(url: str) -> AsyncIterator[tuple[Wakes, Ear, Wakes, Ear]]:
    """Two workers that listen; the first look at everything is over."""
    ears = Ear(), Ear()
    first, second = (Wakes(url, new_id(), FOREVER, ear) for ear in ears)
    await first.start()
    await second.start()
    for ear in ears:
        await ear.until(lambda heard: heard == [None])
        ear.clear()
    try:
        yield first, ears[0], second, ears[1]
    finally:
        await first.stop()
        await second.stop()


async def ask(url: str, statement: str, *args: object) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement, *args)
    await connection.close()


@pytest.fixture
def counted() -> Iterator[Counter[str]]:
    """How often each statement has been sent by this process."""
    sent: Counter[str] = Counter()
    driver.set_tap(lambda name, phase: sent.update([name] if phase == "before" else []))
    yield sent
    driver.set_tap(None)


def test_a_wake_is_heard_by_the_others_and_not_by_its_sender(fresh_database: str) -> None:
    """The leading edge goes at once: twenty wakes, each alone, within 50 ms at the median."""

    async def body() -> None:
        async with pair(fresh_database) as (_, ear, second, own):
            delays = []
            for _ in range(20):
                run = uuid4()
                began = time.monotonic()
                second.announce(run)
                await ear.until(hears(run))
                delays.append(ear.at[-1] - began)
                await asyncio.sleep(0.11)
            print(f"wakes heard: p50 {sorted(delays)[10] * 1000:.1f} ms, max {max(delays) * 1000:.1f} ms")
            assert sorted(delays)[10] < 0.05
            assert own.heard == []

    asyncio.run(body())


def test_announcements_are_coalesced_to_ten_a_second(fresh_database: str, counted: Counter[str]) -> None:
    """Four hundred announcements in a second or so: a notification per `INTERVAL` at most, and none is lost."""
    took = 0.0

    async def body() -> None:
        nonlocal took
        async with pair(fresh_database) as (_, ear, second, _own):
            runs = [uuid4() for _ in range(200)]
            began = time.monotonic()
            for run in runs:
                second.announce(run)
                second.announce(run)
                await asyncio.sleep(0.005)
            await ear.until(lambda heard: len(heard) >= len(runs))
            took = time.monotonic() - began
            assert ear.heard == runs

    asyncio.run(body())
    assert counted["notify"] <= took / INTERVAL + 2


def test_many_ids_go_in_several_payloads_and_too_many_in_one(fresh_database: str) -> None:
    """No payload reaches the 8,000 bytes that Postgres allows."""

    async def body() -> None:
        async with pair(fresh_database) as (_, ear, second, _own):
            runs = [uuid4() for _ in range(2 * PER_PAYLOAD + 1)]
            for run in runs:
                second.announce(run)
            await ear.until(lambda heard: len(heard) == len(runs))
            assert set(ear.heard) == set(runs)
            ear.clear()
            for _ in range(MOST + 1):
                second.announce(uuid4())
            await ear.until(lambda heard: heard == [None])

    asyncio.run(body())


def test_after_a_lost_connection_everything_is_looked_at_and_nothing_is_forgotten(fresh_database: str) -> None:
    """``pg_terminate_backend``: both hear None when they are back, and what was announced meanwhile still goes out."""

    async def body() -> None:
        async with pair(fresh_database) as (_, ear, second, own):
            for _ in range(3):
                await ask(
                    fresh_database,
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where application_name = 'flowbook wakes' and datname = current_database()",
                )
                run = uuid4()
                second.announce(run)
                await ear.until(lambda heard: None in heard)
                await own.until(lambda heard: None in heard)
                later = uuid4()
                second.announce(later)
                await ear.until(hears(later))
                await asyncio.sleep(0.12)
                ear.clear()
                own.clear()

    asyncio.run(body())


def test_the_poll_needs_no_database() -> None:
    """The correctness path: jittered, and undisturbed by a server that is not there."""

    async def body() -> None:
        ear = Ear()
        wakes = Wakes("postgresql://nobody@127.0.0.1:1/nothing", new_id(), 0.1, ear)
        await wakes.start()
        wakes.announce(uuid4())
        await asyncio.sleep(1.05)
        await wakes.stop()
        assert 7 <= len(ear.heard) <= 14
        gaps = [b - a for a, b in zip(ear.at, ear.at[1:], strict=False)]
        assert max(gaps) - min(gaps) > 0.005

    asyncio.run(body())


def test_without_listening_only_the_poll_is_left(fresh_database: str, counted: Counter[str]) -> None:
    """The seam for PgBouncer in transaction mode: no statement at all."""

    async def body() -> None:
        ear = Ear()
        wakes = Wakes(fresh_database, new_id(), 0.05, ear, listen=False)
        await wakes.start()
        wakes.announce(uuid4())
        await ear.until(lambda heard: len(heard) > 2)
        began = time.monotonic()
        await wakes.stop()
        assert time.monotonic() - began < 0.2

    asyncio.run(body())
    assert not counted


def test_strangers_on_the_channel_do_no_harm(fresh_database: str) -> None:
    """Whatever is notified by hand, the next real wake is heard."""

    async def body() -> None:
        async with pair(fresh_database) as (_, ear, second, _own):
            for nonsense in ("", ":", "x:y,z", "no colon", ":" + "0" * 31, "é:☃"):
                await ask(fresh_database, "select pg_notify('flowbook_wake', $1)", nonsense)
            run = uuid4()
            second.announce(run)
            await ear.until(hears(run))
            assert ear.heard == [run]

    asyncio.run(body())


def test_what_is_announced_last_still_goes_out(fresh_database: str) -> None:
    """Stopping right after an announcement does not lose it."""

    async def body() -> None:
        async with pair(fresh_database) as (_, ear, second, _own):
            runs = [uuid4(), uuid4()]
            second.announce(runs[0])
            await ear.until(hears(runs[0]))
            second.announce(runs[1])
            await second.stop()
            await ear.until(hears(runs[1]), 0.5)

    asyncio.run(body())


@pytest.mark.slow
def test_an_idle_worker_costs_less_than_a_statement_a_second(fresh_database: str, counted: Counter[str]) -> None:
    """Two workers that watch each other and listen; the poll's own claim is not counted here."""
    seconds = 10.5  # longer than a heartbeat and than one wait on the neighbour

    async def body() -> None:
        await migrate.ensure(fresh_database)
        alive = [Liveness(fresh_database, new_id(), on_dead=lambda _: None) for _ in range(2)]
        heard = [Wakes(fresh_database, one.worker_id, 1.0, lambda _: None) for one in alive]
        parts: list[Liveness | Wakes] = [*alive, *heard]
        for part in parts:
            await part.start()
        await asyncio.sleep(0.5)
        counted.clear()
        await asyncio.sleep(seconds)
        rate = counted.total() / len(alive) / seconds
        print(f"idle: {rate:.2f} statements per second and worker: {dict(counted)}")
        assert counted["heartbeat"] == len(alive)
        assert 0 < rate < 1.0
        for part in reversed(parts):
            await part.stop()

    asyncio.run(body())
