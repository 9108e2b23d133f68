"""Forks by name, through the engine: what went wrong in comparable systems (reducers, retries, conditions)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from flowbook.graph.flow import graph
from flowbook.graph.pipeline import pipeline
from flowbook.graph.race import parallel
from flowbook.graph.step import step
from flowbook.plan.records import Status
from tests.unit.run.apps import Apps, scenario
from tests.unit.run.test_pauses import Log, logs


@scenario
async def test_reducers_are_applied_inside_a_parallel_block(apps: Apps) -> None:
    """The last member's list does not win: each adds its own, in the order in which they are declared."""
    app = await apps.open()
    flow = pipeline("p", [logs("a"), parallel(logs("b"), logs("c"), logs("d")), logs("e")], state=Log)
    assert await (await app.start(flow)).result(5) == {"log": ["a", "b", "c", "d", "e"]}


@scenario
async def test_one_failing_member_does_not_run_the_good_ones_again(apps: Apps) -> None:
    """What its siblings have done is kept for the retry of the run."""
    app, calls, well = await apps.open(), Counter[str](), list[int]()

    def member(name: str, *, fails: bool = False) -> Any:
        async def body() -> dict[str, Any]:
            calls[name] += 1
            if fails and not well:
                raise ValueError(name)
            return {"log": [name]}

        return step(name=name)(body)

    flow = graph("f", parallel(member("b"), member("c", fails=True), member("d")) >> logs("e"), state=Log)
    run = await app.start(flow)
    with pytest.raises(ValueError, match="c"):
        await run.result(5)
    well.append(1)
    await run.retry()
    assert await run.result(5) == {"log": ["b", "c", "d", "e"]}
    assert calls == {"b": 1, "c": 2, "d": 1}


@scenario
async def test_a_false_condition_neither_hangs_the_run_nor_ends_it(apps: Apps) -> None:
    """The step is skipped, in a list and in a branch of a fork, and what follows runs."""
    app = await apps.open()
    never = [step(logs(name), when=lambda s: False) for name in "xyz"]
    flow = pipeline("p", [logs("a"), never[0], [never[1], logs("b")], logs("c"), never[2]], state=Log)
    run = await app.start(flow)
    assert await run.result(5) == {"log": ["a", "b", "c"]}
    assert await run.status() is Status.COMPLETED
