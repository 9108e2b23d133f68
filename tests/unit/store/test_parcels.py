"""Numbering without a database: what a parcel holds, and that it is frozen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from flowbook.plan.journal import Entry, Kind
from flowbook.plan.records import Status
from flowbook.ports import Ack, Settlement
from flowbook.store.ledger import Ledger
from flowbook.store.parcels import FLUSH_BYTES, Tail, compose
from flowbook.store.rows import to_line

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = uuid4()


def outcome(path: str, payload: bytes = b"x") -> Entry:
    return Entry(Kind.FINISHED, path, 1, payload)


def started(path: str) -> Entry:
    return Entry(Kind.STARTED, path, 1, b"")


def on_a_loop(test: Callable[[Ledger], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        ledger = Ledger()
        ledger.adopt(RUN, 1, 0)
        await test(ledger)
        ledger.close()

    asyncio.run(whole())


def offer(ledger: Ledger, *entries: Entry) -> asyncio.Future[Ack]:
    return ledger.append(RUN, 1, entries, [to_line(entry) for entry in entries])


def tail_of(ledger: Ledger) -> Tail:
    return ledger.tails[RUN]


def test_a_parcel_holds_all_that_waits_and_each_append_gets_its_own_number() -> None:
    """Three appends go out together and are told apart when it is acknowledged."""

    async def test(ledger: Ledger) -> None:
        done = [
            offer(ledger, outcome("a#1")),
            offer(ledger, outcome("b#1"), outcome("c#1")),
            offer(ledger, outcome("d#1")),
        ]
        parcel = compose(tail_of(ledger))
        assert [line.path for line in parcel.lines] == ["a#1", "b#1", "c#1", "d#1"]
        parcel.acknowledge(7, NOW)
        assert [d.result() for d in done] == [Ack(1, 7, NOW), Ack(3, 7, NOW), Ack(4, 7, NOW)]
        assert tail_of(ledger).seq == 4

    on_a_loop(test)


def test_advisory_rows_ride_before_the_append_and_are_counted() -> None:
    """Numbers stay without gaps, and the append's own is still right."""

    async def test(ledger: Ledger) -> None:
        ledger.note(RUN, 1, started("slow#1"))
        done = offer(ledger, outcome("a#1"))
        parcel = compose(tail_of(ledger))
        assert [(line.kind, line.path) for line in parcel.lines] == [("started", "slow#1"), ("finished", "a#1")]
        parcel.acknowledge(0, NOW)
        assert done.result().seq == 2

    on_a_loop(test)


def test_an_advisory_row_is_dropped_by_its_outcome() -> None:
    """By the same path and attempt only."""

    async def test(ledger: Ledger) -> None:
        ledger.note(RUN, 1, started("a#1"))
        ledger.note(RUN, 1, started("b#1"))
        offer(ledger, outcome("a#1"))
        assert [line.path for line in compose(tail_of(ledger)).lines] == ["b#1", "a#1"]

    on_a_loop(test)


def test_what_comes_later_waits_for_the_parcel_that_is_on_its_way() -> None:
    """A run has one parcel at a time, so a parcel that is sent again is the same."""

    async def test(ledger: Ledger) -> None:
        offer(ledger, outcome("a#1"))
        tail = ledger.ready.pop(RUN)
        parcel = compose(tail)
        offer(ledger, outcome("b#1"))
        assert RUN not in ledger.ready
        assert [line.path for line in parcel.lines] == ["a#1"]
        parcel.acknowledge(0, NOW)
        assert compose(tail).first == 2

    on_a_loop(test)


def test_a_refused_parcel_frees_its_numbers_and_its_works_go_one_by_one() -> None:
    """The bad one is alone with its statement then."""

    async def test(ledger: Ledger) -> None:
        for path in ("a#1", "b#1"):
            offer(ledger, outcome(path))
        tail = tail_of(ledger)
        compose(tail).unpack()
        tail.suspects = 2
        first = compose(tail)
        assert (first.first, [line.path for line in first.lines]) == (1, ["a#1"])
        first.acknowledge(0, NOW)
        second = compose(tail)
        assert (second.first, [line.path for line in second.lines]) == (2, ["b#1"])
        assert tail.suspects == 0

    on_a_loop(test)


def test_a_parcel_does_not_outgrow_a_flush() -> None:
    """Unless a single append does."""

    async def test(ledger: Ledger) -> None:
        for n in range(6):
            offer(ledger, outcome(f"a#{n}", b"x" * (FLUSH_BYTES // 4)))
        assert len(compose(tail_of(ledger)).works) == 3

    on_a_loop(test)


def test_a_settlement_goes_alone_after_the_appends_before_it() -> None:
    """And takes the advisory rows along."""

    async def test(ledger: Ledger) -> None:
        offer(ledger, outcome("a#1"))
        ledger.settle(Settlement(RUN, 1, Status.COMPLETED, 0), [to_line(Entry(Kind.COMPLETED, "", 0, b""))])
        tail = tail_of(ledger)
        first = compose(tail)
        assert first.settle is None
        first.acknowledge(0, NOW)
        ledger.note(RUN, 1, started("b#1"))
        second = compose(tail)
        assert second.settle is not None
        assert [line.kind for line in second.lines] == ["started", "completed"]

    on_a_loop(test)


def test_a_fenced_run_fails_everything_that_waits_for_it() -> None:
    """What is on its way, what is queued, and what comes later."""

    async def test(ledger: Ledger) -> None:
        done = [offer(ledger, outcome("a#1"))]
        tail = ledger.ready.pop(RUN)
        compose(tail)
        done.append(offer(ledger, outcome("b#1")))
        ledger.fence(tail)
        done.append(offer(ledger, outcome("c#1")))
        assert [type(d.exception()).__name__ for d in done] == ["Fenced"] * 3

    on_a_loop(test)
