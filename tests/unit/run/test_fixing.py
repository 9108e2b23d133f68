"""Fix and continue: a failed run goes on with other code from the step that failed."""

from __future__ import annotations

from typing import Any

import pytest

from flowbook import fixing
from flowbook.errors import CodeMissing, PointUnknown, UsageError
from flowbook.graph.flow import Graph, graph
from flowbook.graph.pause import wait
from flowbook.graph.step import step
from flowbook.plan.events import CodeChanged
from flowbook.plan.records import Status
from tests.unit.run.apps import Apps, scenario

CALLS: list[str] = []


@step
def load(n: int) -> dict[str, Any]:
    CALLS.append("load")
    return {"docs": ["a"] * n}


@step(retries=1, backoff=(0,))
def fit(docs: list[str], k: int = 2) -> int:
    # divides by what there is not
    return len(docs) // (k - 2)


@step
def tell(fit: int) -> str:
    return f"fitted {fit}"


def fit_right(docs: list[str], k: int = 2) -> int:
    """The same, without the mistake."""
    return len(docs) // k


def flow() -> Graph:
    return graph("fits", load >> fit >> tell)


async def failed(apps: Apps) -> tuple[Any, Any]:
    CALLS.clear()
    app = await apps.open()
    run = await app.start(flow(), n=4, k=2)
    with pytest.raises(ZeroDivisionError):
        await run.result()
    return app, run


@scenario
async def test_a_failed_run_goes_on_with_the_fixed_step(apps: Apps) -> None:
    """What came before is untouched; the journal says what was changed; the run is of the new version."""
    app, run = await failed(apps)
    fixed = fixing.refitted(flow(), {"fit": fit_right})
    assert fixed.step_at("fit").policy.retries == 1, "its options stay"
    different = await fixing.proceed(app, run.id, fixed)
    assert (await run.result())["tell"] == "fitted 2"
    assert different == ("step `fit` changed",)
    assert CALLS == ["load"]
    (changed,) = [e for e in apps.events(run.id) if isinstance(e, CodeChanged)]
    row = await app.store.run(run.id)
    assert (changed.nodes, changed.changes) == (("fit",), different)
    assert (row.fingerprint, row.version) == (fixed.fingerprint, 2) == (changed.fingerprint, changed.version)
    assert apps.kinds(run)[-5:] == ["code", "retried", "fit#1 finished", "tell#1 finished", "completed"]
    assert (await run.at("fit#1")).result == 2


@scenario
async def test_a_continued_run_is_carried_on_by_who_knows_the_new_code_alone(apps: Apps) -> None:
    """After a crash in the middle, a process with the old code leaves it alone."""
    app, run = await failed(apps)
    gated = graph("fits", load >> fit >> tell)
    await fixing.proceed(app, run.id, fixing.refitted(gated, {"fit": slow}))
    await apps.crash(app)
    old = await apps.open()
    await old.register(flow())
    with pytest.raises(CodeMissing):
        await old.resume(run.id)
    new = await apps.open()
    await new.register(fixing.refitted(flow(), {"fit": slow}))
    await new.resume(run.id)
    assert (await new.result(run.id))["tell"] == "fitted 5"


async def slow(docs: list[str]) -> int:
    """Takes its time."""
    import asyncio

    await asyncio.sleep(0.2)
    return len(docs) + 1


@scenario
async def test_only_a_failed_run_with_other_code_of_the_same_topology_goes_on(apps: Apps) -> None:
    """Each refusal says what to do instead, and leaves the run as it was."""
    app, run = await failed(apps)
    with pytest.raises(UsageError, match="`%flow retry` to try once more"):
        await fixing.proceed(app, run.id, flow())
    with pytest.raises(CodeMissing, match="whose steps lead elsewhere: step `tell` removed"):
        await fixing.proceed(app, run.id, graph("fits", load >> fit))
    assert await run.status() is Status.FAILED
    fixed = fixing.refitted(flow(), {"fit": fit_right})
    await fixing.proceed(app, run.id, fixed)
    await run.result()
    with pytest.raises(UsageError, match=r"is completed, and only a failed run.*fork it instead"):
        await fixing.proceed(app, run.id, flow())


@scenario
async def test_a_step_is_entered_with_what_it_was_given_and_its_source(apps: Apps) -> None:
    """By default the step that failed; without its decorator, with its comments."""
    app, run = await failed(apps)
    it = await fixing.enter(app, run.id)
    assert (it.path, it.node, it.function) == ("fit#1", "fit", "fit")
    assert it.inputs == {"docs": ["a"] * 4, "k": 2}
    assert it.source.startswith("def fit(docs: list[str], k: int = 2) -> int:\n    # divides by what there is not\n")
    assert (await fixing.enter(app, run.id, "load#1")).inputs == {"n": 4}
    with pytest.raises(PointUnknown, match=r"It came to: load#1, fit#1"):
        await fixing.enter(app, run.id, "tell#1")
    waiting = await app.start(graph("waits", wait("go")))
    with pytest.raises(UsageError, match="name the step to enter"):
        await fixing.enter(app, waiting.id)
    with pytest.raises(PointUnknown, match="no step with a function"):
        await fixing.enter(app, waiting.id, "go#1")


def test_a_flow_is_refitted_only_where_something_is_another_one() -> None:
    """A step keeps its node's name and condition; a function its node's options."""
    base = flow()
    assert fixing.refitted(base, {"fit": fit, "load": load.fn}) is base
    other = fixing.refitted(base, {"fit": step(name="other", retries=7)(fit_right)})
    assert (other.step_at("fit").name, other.step_at("fit").policy.retries) == ("fit", 7)
    assert list(other.nodes) == list(base.nodes)
