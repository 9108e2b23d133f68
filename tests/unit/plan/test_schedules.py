"""Which fires are due, what is missed, and what inputs come to: pure functions of a row and a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flowbook.errors import ScheduleRefused
from flowbook.plan.schedules import BATCH, OnMissed, Schedule, checked, first, turn
from flowbook.plan.templates import render

SIX = datetime(2026, 11, 21, 6, tzinfo=UTC)


def daily(on_missed: OnMissed = "skip", next_at: datetime = SIX, **more: Any) -> Schedule:
    """Each day at six."""
    return Schedule("default", "daily", "fit", cron="0 6 * * *", on_missed=on_missed, next_at=next_at, **more)


def day(n: int) -> datetime:
    """Six o'clock, so many days later."""
    return SIX + timedelta(days=n)


@pytest.mark.parametrize("on_missed", ["skip", "latest", "all"])
def test_a_fire_on_time_is_run_whatever_happens_to_missed_ones(on_missed: OnMissed) -> None:
    """A minute late is on time."""
    found = turn(daily(on_missed), SIX + timedelta(seconds=59))
    assert (found.run, found.missed, found.next_at) == ((SIX,), (), day(1))
    assert turn(daily(on_missed), SIX - timedelta(seconds=1)).run == ()
    assert turn(daily(on_missed, paused_at=SIX), SIX).run == ()


def test_missed_fires_are_skipped_run_once_or_all_run() -> None:
    """Three days without a worker: nothing, the newest one, or each of them, oldest first."""
    back = day(2) + timedelta(hours=2)
    assert turn(daily("skip"), back).run == ()
    assert turn(daily("skip"), back).missed == (day(0), day(1), day(2))
    latest = turn(daily("latest"), back)
    assert (latest.run, latest.missed, latest.next_at) == ((day(2),), (day(0), day(1)), day(3))
    assert turn(daily("all"), back).run == (day(0), day(1), day(2))
    punctual = turn(daily("latest"), day(2) + timedelta(seconds=5))
    assert (punctual.run, punctual.missed) == ((day(2),), (day(0), day(1))), "one on time is the latest"


def test_what_is_older_than_the_window_is_not_run() -> None:
    """A window of 36 hours takes the last two of three, and nothing when all are older."""
    back = day(2) + timedelta(hours=2)
    assert turn(daily("all", window=36 * 3600), back).run == (day(1), day(2))
    assert turn(daily("latest", window=3600), back).run == ()
    assert turn(daily("all", window=3600), back).run == ()


def test_a_schedule_of_seconds_catches_up_in_batches_and_counts_no_week_for_its_newest() -> None:
    """All of 1,000 missed seconds come in turns of 100; with "latest" the newest one comes at once."""
    each = Schedule("default", "s", "fit", cron="* * * * * *", on_missed="all", next_at=SIX)
    now = SIX + timedelta(seconds=999)
    seen: list[datetime] = []
    while (found := turn(each, now)).run:
        assert len(found.run) <= BATCH
        seen += found.run
        each = replace(each, next_at=found.next_at)
    assert seen == [SIX + timedelta(seconds=n) for n in range(1000)]
    week = replace(each, on_missed="latest", next_at=SIX)
    found = turn(week, SIX + timedelta(days=6, milliseconds=200))
    assert found.run[-1] == SIX + timedelta(days=6)
    assert found.next_at == SIX + timedelta(days=6, seconds=1)


def test_a_dense_hour_in_the_past_gives_its_last_moment() -> None:
    """The newest missed moment is the last one of a dense hour, not one of its first two hundred."""
    hour = Schedule("default", "h", "fit", cron="* * 5 * * *", on_missed="latest", next_at=SIX - timedelta(hours=1))
    assert turn(hour, SIX + timedelta(minutes=50)).run == (SIX - timedelta(seconds=1),)


def test_a_moment_fires_once_and_one_that_is_missed_follows_the_policy() -> None:
    """at=: run when it comes; late, only if the policy and the window say so."""
    once = Schedule("default", "once", "fit", at=SIX, next_at=SIX)
    late = SIX + timedelta(hours=1)
    assert (turn(once, SIX).run, turn(once, SIX).next_at) == ((SIX,), None)
    assert turn(once, late).missed == (SIX,)
    assert turn(replace(once, on_missed="latest"), late).run == (SIX,)
    assert turn(replace(once, on_missed="all", window=60.0), late).missed == (SIX,)


def test_where_each_run_cancels_the_one_before_only_the_last_is_begun() -> None:
    """Five to catch up and overlap="cancel-running": one run, four that are noted as skipped."""
    found = turn(daily("all", overlap="cancel-running"), day(4) + timedelta(hours=1))
    assert (found.run, len(found.dropped)) == ((day(4),), 4)


def test_an_interval_does_not_depend_on_when_it_was_made() -> None:
    """every=600 fires at the full ten minutes."""
    each = Schedule("default", "e", "fit", every=600.0)
    assert first(each, SIX + timedelta(seconds=1)) == SIX + timedelta(minutes=10)
    assert first(each, SIX) == SIX + timedelta(minutes=10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cron": None}, "no time"),
        ({"every": 5.0}, "cron and every"),
        ({"on_missed": "some"}, "one of skip, latest, all"),
        ({"overlap": "maybe"}, "cancel-running"),
        ({"tz": "Mars/Base"}, "time zone"),
        ({"name": ""}, "name of a schedule"),
        ({"cron": None, "every": 0.2}, "at least a second"),
    ],
)
def test_options_that_cannot_work_are_refused(changes: dict[str, Any], words: str) -> None:
    """What is wrong is told before it is stored."""
    with pytest.raises(ScheduleRefused, match=words):
        checked(replace(daily(), **changes))


def test_a_moment_without_a_zone_is_in_the_schedules() -> None:
    """18:00 in Berlin is 17:00 UTC in winter."""
    made = checked(Schedule("default", "o", "fit", at=datetime(2026, 12, 24, 18), tz="Europe/Berlin"))  # noqa: DTZ001
    assert made.at == datetime(2026, 12, 24, 17, tzinfo=UTC)


def test_texts_of_an_input_are_filled_with_the_moment() -> None:
    """The zone of the moment counts; what is no template stays as it is, in lists and dicts as well."""
    at = datetime(2026, 11, 21, 0, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    given = {
        "date": "{{ fire_time | date }}", "n": 3, "plain": "50 % {off}", "list": ["{{ fire_time | time }}", None],
        "deep": {"of": "{{ schedule }}", "was": "{{ fire_time | shift(days=-1) | format('%d.%m.%Y') }}"},
    }  # fmt: skip
    assert render(given, at, "nightly") == {
        "date": "2026-11-21", "n": 3, "plain": "50 % {off}", "list": ["00:30:00", None],
        "deep": {"of": "nightly", "was": "20.11.2026"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "{{ nothing }}", "{{ fire_time", "{{ fire_time | upper | date }}", "{{ fire_time.__class__.__mro__ }}",
        "{{ range(10 ** 9) | list }}", "{{ 1 // 0 }}",
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_filled_or_reaches_out_is_refused(text: str) -> None:
    """Templates see the moment and nothing else: no attribute of Python's, no way to fill the memory."""
    with pytest.raises(ScheduleRefused, match="template of 'x'"):
        render({"x": text}, SIX, "s")
