"""Parked records: which are remembered, and when they count.

Owns: the promises of `flowbook/run/parked.py`. Refuses: databases (`tests/integration/test_parked.py`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from flowbook.graph.flow import graph
from flowbook.graph.step import step
from flowbook.ids import new_id
from flowbook.plan.apply import begin
from flowbook.plan.records import Status
from flowbook.ports import RunRow
from flowbook.run.loading import Loaded
from flowbook.run.parked import MOST, SMALL, Parked
from flowbook.run.shots import Shots

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@step
def only() -> None:
    """Never run here."""


def row(**changes: Any) -> RunRow:
    """A run as it was claimed for the first time."""
    known: dict[str, Any] = {
        "id": new_id(), "namespace": "default", "flow": "f", "version": 1, "fingerprint": "ff", "queue": "default",
        "priority": 0, "status": Status.RUNNING, "due_at": NOW, "epoch": 1, "worker_id": None, "claims": 1, "lost": 0,
        "mail": 0, "current": "", "key": None, "input": b"", "input_digest": b"", "metadata": {}, "error": None,
        "forked_from": None, "created_at": NOW, "started_at": NOW, "ended_at": None,
    }  # fmt: skip
    return RunRow(**(known | changes))


def loaded(of: RunRow, **state: Any) -> Loaded:
    """What is known of it, with a state."""
    return Loaded(begin(graph("f", only), of.id, state), Shots(), (), frozenset(), {})


def test_the_next_claim_finds_what_was_known_and_only_once() -> None:
    """Under the very next epoch, nobody else can have written."""
    parked, mine = Parked(), row()
    parked.keep(mine, known := loaded(mine))
    assert parked.row(mine.id) is mine
    assert parked.take(replace(mine, epoch=2)) is known
    assert parked.take(replace(mine, epoch=2)) is None
    assert parked.row(mine.id) is None


@pytest.mark.parametrize("changed", [{"epoch": 3}, {"epoch": 2, "lost": 1}, {"epoch": 2, "fingerprint": "other"}])
def test_what_somebody_else_may_have_changed_is_forgotten(changed: dict[str, Any]) -> None:
    """Another owner, one that died, other code."""
    parked, mine = Parked(), row()
    parked.keep(mine, loaded(mine))
    assert parked.take(replace(mine, **changed)) is None
    assert parked.take(replace(mine, epoch=2)) is None


@pytest.mark.parametrize(
    "state",
    [{"text": "x" * SMALL}, {"list": [[0] * 100] * 200}, {"parts": {str(i): b"x" * 100 for i in range(200)}},
     {"odd": NOW}],
)  # fmt: skip
def test_a_state_that_is_large_or_does_not_tell_its_size_is_not_remembered(state: dict[str, Any]) -> None:
    """A run that waits costs no memory to speak of."""
    parked, mine = Parked(), row()
    parked.keep(mine, loaded(mine, **state))
    assert parked.take(replace(mine, epoch=2)) is None


def test_the_newest_are_remembered() -> None:
    """However many are parked."""
    parked, rows = Parked(), [row() for _ in range(MOST + 10)]
    for one in rows:
        parked.keep(one, loaded(one, n=1, text="small", list=[1.5, None, True]))
    found = [parked.take(replace(one, epoch=2)) is not None for one in rows]
    assert found == [False] * 10 + [True] * MOST
