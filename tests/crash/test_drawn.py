"""Random topologies, random kills: whatever is drawn, the run ends in the state that it has without a kill.

A topology is forks, branches, loops, joins and naps within each other. Each is carried out in memory, in memory with
every run folded anew after each step, on Postgres, and on Postgres by processes that are killed at random points of
the wire; all four end alike, with the same paths.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flowbook.plan.journal import OUTCOMES
from flowbook.testing import memory_app
from tests.crash.zygotes import zygotes
from tests.unit.plan.topologies import Block, blocks_of, flow

MOST_POINTS = 120
"""A victim passes about three per step, and fifty when it opens and closes its store."""


def end_of(answer: dict[str, Any]) -> Any:
    """How a victim's run has ended; None: it was killed before."""
    return json.loads(answer["told"][0]) if answer["told"] else None


async def in_memory(block: Block, suspend: bool) -> dict[str, Any]:
    """How a topology ends where nothing goes wrong."""
    async with memory_app(always_suspend=suspend) as app:
        run = await app.start(flow(block))
        values = await run.result(timeout=60)
        rows = await app.store.history(run.id)
        return {"values": values, "paths": sorted(e.path for e in rows if e.kind in OUTCOMES)}


def check(url: str, examples: int) -> None:
    """The property, for so many topologies."""
    killed = 0

    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        blocks_of("step", "step", "nap"), st.lists(st.integers(1, MOST_POINTS), min_size=1, max_size=2), st.booleans()
    )
    def holds(block: Block, kills: list[int], suspend: bool) -> None:
        nonlocal killed
        expected = asyncio.run(in_memory(block, suspend=False))
        assert asyncio.run(in_memory(block, suspend=True)) == expected
        request = {"url": url, "block": block, "suspend": suspend}
        assert end_of(victim.ask({**request, "key": uuid4().hex, "kill_at": 0})) == expected
        key = uuid4().hex
        for point in kills:
            killed += victim.ask({**request, "key": key, "kill_at": point})["killed"]
        assert end_of(victim.ask({**request, "key": key, "kill_at": 0})) == expected

    with zygotes("tests.crash.drawn") as [victim]:
        victim.ask({"url": url, "block": ["step"], "suspend": False, "key": "migrate", "kill_at": 0})
        holds()
    assert killed >= examples / 2, f"{killed} kills in {examples} examples prove nothing"


def test_a_few_topologies_end_alike_whatever_is_killed(fresh_database: str) -> None:
    """The quick form: six topologies."""
    check(fresh_database, 6)


@pytest.mark.crash
def test_many_topologies_end_alike_whatever_is_killed(fresh_database: str) -> None:
    """A hundred and twenty topologies."""
    check(fresh_database, 120)
