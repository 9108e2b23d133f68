"""The ward: attempts that may kill their process begin one at a time."""

from __future__ import annotations

import asyncio

import pytest

from flowbook.run import ward
from flowbook.run.latch import Latch
from flowbook.run.ward import Ward


def is_open(latch: Latch) -> bool:
    """Whether a waiter would go through at once."""
    return latch._open


def test_the_ward_has_room_for_one() -> None:
    """Who comes second is told when it is worth asking again, and not before."""

    async def scene() -> None:
        place, first, second = Ward(), Latch(), Latch()
        assert place.admit("first", "a#1", first, alone=True)
        assert not place.admit("second", "a#1", second, alone=True)
        assert not is_open(second)
        place.release("first")
        assert is_open(second)
        assert not is_open(first)
        assert place.admit("second", "a#1", second, alone=True)
        place.release("second")

    asyncio.run(scene())


def test_suspects_with_attempts_left_are_beside_each_other_and_not_beside_one_at_its_last() -> None:
    """Neither before it nor after it has begun; a body is no hindrance to its own call."""

    async def scene() -> None:
        place, last, late = Ward(), Latch(), Latch()
        assert place.admit("one", "a#1", Latch(), alone=False)
        assert place.admit("two", "b#1", Latch(), alone=False)
        assert not place.admit("three", "c#1", last, alone=True)
        place.release("two", "b#1")
        assert is_open(last)
        assert not place.admit("three", "c#1", last, alone=True)
        assert place.admit("one", "a#1/call#1", Latch(), alone=True)
        assert not place.admit("two", "b#1", late, alone=False)
        place.release("one")
        assert is_open(late)
        assert place.admit("three", "c#1", last, alone=True)
        place.release("three")

    asyncio.run(scene())


def test_all_who_wait_are_told_when_the_place_is_free() -> None:
    """The first of them may have ended since: then the next one must not wait for it."""

    async def scene() -> None:
        place, latches = Ward(), [Latch() for _ in range(3)]
        assert place.admit("inside", "a#1", Latch(), alone=True)
        assert not any(place.admit(n, "a#1", latch, alone=True) for n, latch in enumerate(latches))
        place.release("inside")
        assert all(is_open(latch) for latch in latches)
        assert place.admit(2, "a#1", latches[2], alone=True)
        assert not place.admit(0, "a#1", latches[0], alone=True)
        place.release(2)

    asyncio.run(scene())


def test_only_who_is_inside_gives_the_place_back() -> None:
    """Every runner releases at its end, also those that never were in the ward."""

    async def scene() -> None:
        place = Ward()
        place.release("nobody")
        assert place.admit("inside", "a#1", Latch(), alone=True)
        place.release("outside")
        assert not place.admit("outside", "a#1", Latch(), alone=True)
        place.release("inside")
        place.release("inside")
        assert place.admit("outside", "a#1", Latch(), alone=True)
        place.release("outside")

    asyncio.run(scene())


def test_what_takes_long_does_not_stand_in_the_others_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its patience the ward lets the next one in; the end of the first, whenever it comes, changes nothing."""
    monkeypatch.setattr(ward, "PATIENCE", 0.0)

    async def scene() -> None:
        place, second = Ward(), Latch()
        assert place.admit("first", "a#1", Latch(), alone=True)
        assert not place.admit("second", "a#1", second, alone=True)
        await second.wait(10)
        monkeypatch.setattr(ward, "PATIENCE", 60.0)
        assert place.admit("second", "a#1", second, alone=True)
        place.release("first")
        assert not place.admit("third", "a#1", Latch(), alone=True)
        place.release("second")

    asyncio.run(scene())
