"""Runs whose flow was edited: each is pinned to its version, and what to do about that is said, never guessed."""

from __future__ import annotations

from typing import Any

import pytest

from flowbook.errors import CodeMissing, UsageError
from flowbook.graph.flow import Graph, graph
from flowbook.graph.pause import wait
from flowbook.graph.step import Step, step
from flowbook.plan.records import Status
from tests.unit.run.apps import Apps, scenario

GATE = object()
"""What makes a step not portable."""


@step
def load() -> dict[str, Any]:
    return {"n": 1}


@step(name="tell")
def tell_one(n: int) -> dict[str, Any]:
    return {"told": f"one {n}"}


@step(name="tell")
def tell_two(n: int) -> dict[str, Any]:
    return {"told": f"two {n}"}


@step(name="tell")
def tell_hidden(n: int) -> dict[str, Any]:
    return {"told": f"hidden {n} {GATE is None}"}


@step(name="tell")
def tell_wrong(n: int) -> dict[str, Any]:
    raise ValueError("no")


def edited(telling: Step) -> Graph:
    """load, then a wait, then one of the steps that tell."""
    return graph("edited", load >> wait("go") >> telling)


@scenario
async def test_two_versions_are_carried_side_by_side(apps: Apps) -> None:
    """Which one was declared last makes no difference to the runs of the other."""
    app = await apps.open()
    old, new = await app.start(edited(tell_one)), await app.start(edited(tell_two))
    for run in (old, new):
        await run.signal("go")
    assert (await old.result())["told"] == "one 1"
    assert (await new.result())["told"] == "two 1"


@scenario
async def test_a_run_goes_on_under_its_own_version_from_its_stored_source(apps: Apps) -> None:
    """The process has newer code; the run is pinned to the one that it began with, and that is portable."""
    first = await apps.open()
    run = await first.start(edited(tell_one))
    await apps.crash(first)
    second = await apps.open()
    await second.register(edited(tell_two))
    with pytest.raises(CodeMissing, match=r"version 1.*step `tell` changed.*on_change='refuse'"):
        await second.resume(run.id, on_change="refuse")
    assert (await second.store.run(run.id)).status in (Status.PENDING, Status.WAITING)
    again = await second.resume(run.id)
    await again.signal("go")
    assert (await again.result())["told"] == "one 1"


@scenario
async def test_where_its_source_is_not_portable_that_is_told_with_what_changed(apps: Apps) -> None:
    """The name that is in the way is in the error, and so is what is different in the code that is here."""
    first = await apps.open()
    run = await first.start(edited(tell_hidden))
    await apps.crash(first)
    second = await apps.open()
    await second.register(edited(tell_two))
    with pytest.raises(CodeMissing, match=r"step `tell` changed") as raised:
        await second.resume(run.id)
    assert "`GATE`" in raised.value.message


@scenario
async def test_a_key_goes_on_under_its_own_version_where_that_is_asked_for(apps: Apps) -> None:
    """Without a word it is refused, as it is never silent."""
    first = await apps.open()
    run = await first.start(edited(tell_one), key="k")
    await apps.crash(first)
    second = await apps.open()
    with pytest.raises(CodeMissing, match="step `tell` changed"):
        await second.start(edited(tell_two), key="k")
    same = await second.start(edited(tell_two), key="k", on_change="own")
    assert same.id == run.id
    await same.signal("go")
    assert (await same.result())["told"] == "one 1"


@scenario
async def test_a_failed_run_takes_the_new_version_where_that_is_asked_for(apps: Apps) -> None:
    """By its id and under its key; a run that has not failed is told apart."""
    app = await apps.open()
    run = await app.start(edited(tell_wrong), key="k")
    await app.register(edited(tell_two))
    with pytest.raises(UsageError, match="only a failed run goes on with other code"):
        await app.resume(run.id, on_change="new")
    await run.signal("go")
    with pytest.raises(ValueError, match="no"):
        await run.result()
    fixed = await app.start(edited(tell_two), key="k", on_change="new")
    assert fixed.id == run.id
    assert (await fixed.result())["told"] == "two 1"
    with pytest.raises(UsageError, match="'other' is none of"):
        await app.resume(run.id, on_change="other")  # type: ignore[arg-type]
