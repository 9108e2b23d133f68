"""Snapshots: when one is due, and what it is tagged with."""

from __future__ import annotations

import operator
from typing import Annotated, TypedDict

import pytest

from flowbook.codec import encode
from flowbook.errors import Undecodable
from flowbook.graph.flow import graph
from flowbook.graph.step import step
from flowbook.plan import snapshots
from flowbook.plan.apply import apply, begin
from flowbook.plan.events import StepFinished
from tests.unit.plan.driving import ID


@step
def a() -> int:
    return 1


class One(TypedDict, total=False):
    """A schema."""

    a: int


class Two(TypedDict, total=False):
    """The same key with a reducer."""

    a: Annotated[int, operator.add]


def test_all_snapshots_together_stay_within_a_factor_of_the_journal() -> None:
    """State grows linearly: a history that is stored again at every turn would be quadratic."""
    last, sizes = 0, []
    for seq in range(1, 100_001):
        if snapshots.due(last, seq):
            last = seq
            sizes.append(seq)
    assert sizes[0] == snapshots.FIRST
    assert sum(sizes) < 6 * 100_000
    assert 100_000 - sizes[-1] <= 100_000 / 3, "at most a third is ever folded again"


def test_another_schema_or_code_is_another_tag() -> None:
    """What the fold depends on is in the tag, so that a stale snapshot is never used."""

    @step(name="a")
    def other() -> int:
        return 2

    tags = [
        snapshots.tag(graph("f", a)),
        snapshots.tag(graph("f", a, state=One)),
        snapshots.tag(graph("f", a, state=Two)),
        snapshots.tag(graph("f", other)),
    ]
    assert len(set(tags)) == 4
    assert tags[0] == snapshots.tag(graph("f", a))


@pytest.mark.parametrize("forked", [False, True])
def test_what_a_run_was_given_and_nobody_changed_is_in_no_snapshot(forked: bool) -> None:
    """Whoever loads it has the input; what was changed since is in it, also if it is equal; the order of keys stays."""
    change = step(name="change")(lambda: {"late": 5, "touched": [1]})
    flow = graph("f", change >> ([a.as_("b"), a.as_("c")] if forked else a.as_("b")))
    given = {"first": "x" * 1000, "touched": [1], "items": ["y" * 1000] * 10}
    beginning = begin(flow, ID, given)
    update = {"late": 5, "touched": [1]}
    run = apply(flow, beginning, StepFinished("change#1", 1, update, update, None))
    assert len(run.tokens) == (3 if forked else 1)
    payload = snapshots.dump(run, beginning.view.values)
    assert len(payload) < 1000 < len(snapshots.dump(run))
    again = snapshots.load(begin(flow, ID, dict(given)), payload)
    assert again == run
    for token in again.tokens.values():
        assert list(token.view.values) == ["first", "touched", "items", "late"]
        assert token.view.values["items"] is given["items"], "and there is one of it"


@pytest.mark.parametrize("body", [{}, {"seq": 1}, [], 5, {"tokens": 1}], ids=repr)
def test_a_damaged_snapshot_is_refused(body: object) -> None:
    """With the one error that makes the loader fold from the beginning instead."""
    run = begin(graph("f", a), ID, {})
    with pytest.raises(Undecodable):
        snapshots.load(run, encode(body))
