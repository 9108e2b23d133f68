"""When cron expressions fire: cronsim's own cases, and a year in six time zones against another way of counting."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbook.errors import ScheduleRefused
from flowbook.plan.crons import moments, read, zone

VECTORS = json.loads((Path(__file__).parent / "vectors" / "cronsim.json").read_text())
"""What the tests of cronsim 2.6 expect (BSD, see the licence beside it), recorded from a run of them."""
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Casablanca", "UTC")
"""Summer time in the north and by half an hour in the south, none any more, and one that is turned back in Ramadan."""
DAILY = {
    "30 2 * * *": [(2, 30)],
    "0 6 * * *": [(6, 0)],
    "15,45 1,2,3 * * *": [(h, m) for h in (1, 2, 3) for m in (15, 45)],
}
YEAR = 2025


def test_the_librarys_own_cases_hold_for_our_moments() -> None:
    """Each expression, start and answer of cronsim's suite, DST cases among them; what it refuses, we refuse."""
    assert len(VECTORS) > 250
    for case in VECTORS:
        if case.get("error"):
            with pytest.raises(ScheduleRefused):
                read(case["expr"])
            continue
        after = datetime.fromisoformat(case["after"])
        wanted = [datetime.fromisoformat(at) for at in case["moments"]]
        found = list(itertools.islice(moments(case["expr"], zone(case["tz"]), after), len(wanted)))
        assert found == wanted, case


def exists(at: datetime) -> bool:
    """True if clocks show this local time on that day."""
    return at.astimezone(UTC).astimezone(at.tzinfo).replace(fold=0) == at.replace(fold=0)


def by_days(where: ZoneInfo, clock: list[tuple[int, int]]) -> list[datetime]:
    """Fires of fixed times, counted from the calendar: what is skipped comes right after the gap, what comes twice
    comes the first time.
    """
    found = set()
    for n in range(366):
        day = date(YEAR, 1, 1) + timedelta(days=n)
        for hour, minute in clock if day.year == YEAR else ():
            at = datetime.combine(day, time(hour, minute), where)
            while not exists(at):
                at += timedelta(minutes=1)
            found.add(at.astimezone(UTC))
    return sorted(found)


def by_minutes(where: ZoneInfo, minutes: set[int]) -> Iterator[datetime]:
    """Fires with a star in the hour, counted through real time, a quarter of an hour each."""
    at = datetime(YEAR, 1, 1, tzinfo=where).astimezone(UTC)
    while at.astimezone(where).year == YEAR:
        if at.astimezone(where).minute in minutes:
            yield at
        at += timedelta(minutes=15)


@pytest.mark.parametrize("name", ZONES)
def test_a_year_of_fires_agrees_with_the_calendar(name: str) -> None:
    """Fixed times of day and wildcards through a year with its changes of the clocks, counted independently."""
    where = ZoneInfo(name)
    begin = datetime(YEAR, 1, 1, tzinfo=where).astimezone(UTC) - timedelta(seconds=1)
    end = datetime(YEAR + 1, 1, 1, tzinfo=where).astimezone(UTC)
    for expression, clock in DAILY.items():
        found = list(itertools.takewhile(lambda t: t < end, moments(expression, zone(name), begin)))
        assert found == by_days(where, clock), expression
    found = list(itertools.takewhile(lambda t: t < end, moments("*/30 * * * *", zone(name), begin)))
    assert found == list(by_minutes(where, {0, 30}))


@given(
    st.sampled_from(ZONES),
    st.sampled_from(["30 2 * * *", "*/7 * * * *", "*/20 0 3 * * *", "0 0 31 * *", "0 12 * * MON#1", "5 1-3 * * *"]),
    st.integers(0, 366 * 86400),
)
def test_wherever_one_begins_the_moments_are_the_same(name: str, expression: str, second: int) -> None:
    """What follows a moment does not depend on where the counting began: workers that look at other times agree."""
    start = datetime(YEAR, 1, 1, tzinfo=UTC)
    after = start + timedelta(seconds=second)
    found = list(itertools.islice(moments(expression, zone(name), after), 3))
    assert all(after < a for a in found)
    assert found == sorted(set(found))
    earlier = moments(expression, zone(name), after - timedelta(days=2))
    assert found == list(itertools.islice((t for t in earlier if t > after), 3))


def test_seconds_stand_in_front_and_are_optional() -> None:
    """Six fields: the first one is seconds. Nicknames are the usual ones."""
    after = datetime(2026, 11, 21, 6, 0, 5, tzinfo=UTC)
    found = list(itertools.islice(moments("*/20 0 6 * * *", UTC, after), 3))
    assert [f"{t:%d %H:%M:%S}" for t in found] == ["21 06:00:20", "21 06:00:40", "22 06:00:00"]
    assert next(moments("@daily", UTC, after)) == datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("0 6 * *", "has 4 fields"),
        ("61 6 * * *", "bad minute"),
        ("61 0 6 * * *", "bad second"),
        ("0 6 * * FUN", "bad day-of-week"),
        ("0 0 30 2 *", "bad day-of-month"),
        ("0 0 30 2 MON#6", "bad"),
        ("", "has 0 fields"),
    ],
)
def test_what_cannot_work_is_refused_with_the_field(typed: str, words: str) -> None:
    """A mistake is told with its field before anything is stored."""
    with pytest.raises(ScheduleRefused, match=words) as told:
        read(typed)
    assert told.value.code == "FB740"


@pytest.mark.parametrize("name", ["Europe/Atlantis", "../etc/passwd", "Europe", ""])
def test_an_unknown_zone_is_refused(name: str) -> None:
    """A zone is a name of the tz database, and nothing else is opened."""
    with pytest.raises(ScheduleRefused, match="no time zone"):
        zone(name)
