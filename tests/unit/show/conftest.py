"""Views made by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from flowbook.observe.views import AttemptView, RunView, State, StepView
from flowbook.plan.records import Failure, Status
from tests.unit.show.samples import NOW, SPEC


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def make_view() -> Callable[..., RunView]:
    """A view of a run of `SPEC`; keywords replace fields."""

    def make(**changes: Any) -> RunView:
        fields: dict[str, Any] = {
            "id": UUID("01939f2a-0000-7000-8000-00003f2a1b9c"), "flow": "research", "version": 3,
            "status": Status.RUNNING, "key": None, "input": {}, "spec": SPEC, "steps": (), "failure": None,
            "failed_path": None, "created_at": NOW - timedelta(seconds=70), "started_at": NOW - timedelta(seconds=65),
            "ended_at": None, "lost": 0, "seq": 4,
        }  # fmt: skip
        return RunView(**(fields | changes))

    return make


@pytest.fixture
def make_step() -> Callable[..., StepView]:
    """One firing."""

    def make(
        path: str, state: State, *, attempt: int = 1, seconds: float | None = None, failure: Failure | None = None,
        since: float | None = None, retry_in: float | None = None, result: Any = None,
    ) -> StepView:  # fmt: skip
        started = None if since is None else NOW - timedelta(seconds=since)
        attempts = tuple(AttemptView(n, started, None, failure) for n in range(1, attempt + 1))
        retry_at = None if retry_in is None else NOW + timedelta(seconds=retry_in)
        return StepView(path, path.partition("#")[0], state, attempts, seconds, None, result, retry_at)

    return make
