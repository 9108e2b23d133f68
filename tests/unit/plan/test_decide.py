"""Deciding: what is wanted now, and what a failed attempt means."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flowbook.graph.flow import graph
from flowbook.graph.step import LOST_LIMIT, Backoff, Policy, Step, step
from flowbook.plan.apply import lost_attempts
from flowbook.plan.commands import CancelRun, CompleteRun, FailRun, StartStep, WaitUntil
from flowbook.plan.decide import decide, judge
from flowbook.plan.events import CancelRequested, RunCompleted, RunFailed, RunRetried, StepStarted
from flowbook.plan.records import Status, Trouble
from tests.unit.plan.driving import BOOM, NOW, Drive


def named(name: str, **options: Any) -> Step:
    """A step that returns its name."""
    return step(name=name, **options)(lambda: name)


# ---------------------------------------------------------------------------------------------------------- decide


def test_what_is_wanted_does_not_depend_on_what_was_noted() -> None:
    """`decide` never reads advisory rows: a step that is said to have begun is wanted all the same."""
    drive = Drive.of(graph("line", named("a")))
    before = drive.wanted()
    assert drive.started("a#1").wanted() == before


def test_a_failed_attempt_waits_for_its_time_while_siblings_go_on() -> None:
    """Back-off is a time to wait until, not a sleep; nobody else waits."""
    flow = graph("fork", named("a") >> [named("b", retries=1, backoff=(30,)), named("c")] >> named("d"))
    drive = Drive.of(flow).finish("a#1").fail("b#1")
    at = NOW + timedelta(seconds=30)
    assert drive.wanted() == (StartStep("c#1", "a#1[1]", "c", 1), WaitUntil(at))
    assert decide(flow, drive.run, at) == (StartStep("b#1", "a#1[0]", "b", 2), StartStep("c#1", "a#1[1]", "c", 1))


def test_the_earliest_of_several_waits_is_waited_for() -> None:
    """Two back-offs: the nearer one."""
    flow = graph("fork", named("a") >> [named("b", retries=1, backoff=(30,)), named("c", retries=1, backoff=(7,))])
    drive = Drive.of(flow).finish("a#1").fail("b#1").fail("c#1")
    assert drive.wanted() == (WaitUntil(NOW + timedelta(seconds=7)),)


def test_a_used_up_step_fails_the_run_before_new_steps_start() -> None:
    """Nothing is begun in a run that will fail; its good siblings' results stay."""
    flow = graph("fork", named("a") >> [named("b"), named("c") >> named("e")] >> named("d"))
    drive = Drive.of(flow).finish("a#1").fail("b#1")
    assert drive.wanted() == (FailRun("b#1", BOOM),)
    assert drive.run.tokens["a#1[1]"].path == "c#1"


def test_a_cancel_goes_before_everything() -> None:
    """Also before the end and before a failure: what was committed first wins."""
    flow = graph("line", named("a"))
    for drive in (Drive.of(flow), Drive.of(flow).finish("a#1"), Drive.of(flow).fail("a#1")):
        assert drive.tell(CancelRequested("ana", 1)).wanted() == (CancelRun("ana"),)


def test_a_run_that_is_over_wants_nothing() -> None:
    """Whatever its tokens look like."""
    drive = Drive.of(graph("line", named("a")))
    for status in Status:
        wanted = decide(drive.graph, replace(drive.run, status=status), NOW)
        assert bool(wanted) is (status is Status.RUNNING)


def test_a_retry_gives_new_attempts_and_keeps_what_was_done() -> None:
    """The failed path is wanted again, numbered from 1; its finished sibling is not."""
    flow = graph("fork", named("a") >> [named("b", retries=1, backoff=(0,)), named("c")] >> named("d"))
    drive = Drive.of(flow).finish("a#1", "c#1").fail("b#1").fail("b#1")
    assert drive.wanted() == (FailRun("b#1", BOOM),)
    drive.tell(RunFailed("b#1", BOOM)).tell(RunRetried("ana", 1))
    assert drive.run.status is Status.RUNNING
    assert (drive.run.failure, drive.run.failed_path) == (None, None)
    assert drive.wanted() == (StartStep("b#1", "a#1[0]", "b", 1),)
    drive.fail("b#1")
    assert list(drive.ready()) == ["b#1"], "the budget is a new one"
    drive.finish("b#1", "d#1")
    assert drive.wanted() == (CompleteRun(),)
    drive.tell(RunCompleted())
    assert drive.folded() == drive.run


# ----------------------------------------------------------------------------------------------------------- judge


@given(retries=st.integers(0, 6))
def test_a_step_that_raises_has_retries_further_attempts(retries: int) -> None:
    """`retries=3` is four attempts, no more and no fewer."""
    policy, trouble, attempts = Policy(retries=retries), Trouble(), 0
    while True:
        attempts += 1
        verdict = judge(policy, trouble, lost=False, now=NOW, roll=0.0)
        trouble = replace(trouble, failed=trouble.failed + 1)
        if verdict.final:
            break
    assert attempts == retries + 1
    assert verdict.retry_at is None


@given(retries=st.integers(0, 6), deaths=st.lists(st.booleans(), max_size=30))
def test_a_step_that_kills_its_process_is_capped(retries: int, deaths: list[bool]) -> None:
    """Deaths alone: max(retries + 1, LOST_LIMIT) attempts; with exceptions between them at most `retries` more."""
    policy, trouble = Policy(retries=retries), Trouble()
    for lost in [*deaths, *[True] * 20]:
        verdict = judge(policy, trouble, lost=lost, now=NOW, roll=0.5)
        trouble = replace(trouble, failed=trouble.failed + (not lost), lost=trouble.lost + lost)
        if verdict.final:
            break
    cap = max(retries + 1, LOST_LIMIT)
    assert trouble.lost <= cap
    assert trouble.attempts <= cap + retries
    if not trouble.failed:
        assert trouble.lost == cap


def test_a_step_without_retries_outlives_two_deaths() -> None:
    """A crash is not the step's fault until it has happened again and again."""
    policy = Policy(retries=0)
    verdicts = [judge(policy, Trouble(lost=n), lost=True, now=NOW, roll=0.0) for n in range(3)]
    assert [v.final for v in verdicts] == [False, False, True]
    assert all(v.retry_at is None for v in verdicts), "a lost attempt is tried again at once"


def test_a_death_does_not_use_up_the_retries() -> None:
    """One that died and then raised has all of its retries left but one."""
    assert not judge(Policy(retries=1), Trouble(lost=2), lost=False, now=NOW, roll=0.0).final
    assert judge(Policy(retries=1), Trouble(failed=1, lost=2), lost=False, now=NOW, roll=0.0).final


def test_a_list_of_delays_is_used_in_order_and_its_last_is_repeated() -> None:
    """`backoff=(10, 60, 300)`."""
    policy = Policy(retries=9, backoff=Backoff(delays=(10.0, 60.0, 300.0)))
    waits = [judge(policy, Trouble(failed=n), lost=False, now=NOW, roll=0.9).retry_at for n in range(5)]
    assert waits == [NOW + timedelta(seconds=s) for s in (10, 60, 300, 300, 300)]


@given(failures=st.integers(1, 40), roll=st.floats(0, 1, exclude_max=True))
def test_jitter_spreads_without_collapse(failures: int, roll: float) -> None:
    """Between half of the delay and all of it, and never above the maximum."""
    backoff = Backoff(initial=1, factor=2, max=60)
    full = replace(backoff, jitter=False).delay(failures, roll)
    assert full == min(2.0 ** (failures - 1), 60.0)
    assert full / 2 <= backoff.delay(failures, roll) <= full


# ------------------------------------------------------------------------------------------------------------ lost


def test_what_had_begun_and_has_no_outcome_was_lost() -> None:
    """A `started` row without an outcome counts as an attempt of its own path, and of no other."""
    flow = graph("fork", named("a") >> [named("b"), named("c", retries=1, backoff=(0,))] >> named("d"))
    drive = Drive.of(flow).finish("a#1").started("b#1").started("c#1")
    assert set(lost_attempts(drive.run)) == {("b#1", 1), ("c#1", 1)}
    drive.fail("c#1")
    assert lost_attempts(drive.run) == (("b#1", 1),)
    drive.started("c#1")
    assert set(lost_attempts(drive.run)) == {("b#1", 1), ("c#1", 2)}
    drive.finish("b#1")
    assert lost_attempts(drive.run) == (("c#1", 2),)


def test_a_beginning_that_is_noted_after_its_end_was_not_lost() -> None:
    """Advisory rows may come late: what has failed already did not die."""
    drive = Drive.of(graph("line", named("a", retries=1, backoff=(0,)))).fail("a#1")
    drive.tell(StepStarted("a#1", 1))
    assert lost_attempts(drive.run) == ()


def test_a_siblings_progress_does_not_reset_the_cap() -> None:
    """Deaths are counted per path, so a run that gets on elsewhere still gives up on its killer."""
    line = [named(f"s{n}") for n in range(6)]
    chain: Any = line[0]
    for it in line[1:]:
        chain = chain >> it
    drive = Drive.of(graph("fork", named("a") >> [named("killer"), chain])).finish("a#1")
    for n in range(LOST_LIMIT):
        assert "killer#1" in drive.ready()
        drive.finish(f"s{n}#1").started("killer#1").fail("killer#1", lost=True)
    assert drive.wanted() == (FailRun("killer#1", BOOM),)
