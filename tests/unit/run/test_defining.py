"""Flows that are defined while programs run: by namespace, for all workers at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import flowbook as fb
from flowbook.errors import CodeMissing, DefinitionInUse, NotDefined, RunCancelled, SpecRefused
from flowbook.testing import MemoryDatabase, memory_app

LIMIT = 20.0


@fb.step
def double(n: int) -> dict[str, Any]:
    return {"n": n * 2}


@fb.step
def add(n: int, by: int = 1) -> dict[str, Any]:
    return {"n": n + by}


TWICE = {"name": "x", "steps": {"double": {"step": "double"}}}
MORE = {"name": "x", "steps": {"add": {"step": "add", "input": {"by": "input.by"}}}}
WAITS = {"name": "x", "steps": {"ask": {"wait": "approved"}}}


async def test_a_flow_is_defined_started_by_name_and_carried_by_a_worker_that_runs_already() -> None:
    """No worker is started again: it makes the flow from its own templates when it meets the first run."""
    database = MemoryDatabase()
    async with memory_app(database) as server, memory_app(database) as worker:
        await server.register(double)
        await worker.register(double)
        work = asyncio.create_task(worker.work(concurrency=2))
        await asyncio.sleep(0)
        stored = await server.define("invoice", TWICE, by="ana")
        assert (stored.version, stored.by, stored.namespace) == (1, "ana", "default")
        run = await server.start("invoice", {"n": 4}, carry=False)
        assert await run.result(timeout=LIMIT) == {"n": 8}
        assert (await worker.store.run(run.id)).worker_id is None
        work.cancel()


async def test_a_new_version_is_for_new_runs_and_a_run_keeps_the_one_it_began_with() -> None:
    """Versions are immutable: a waiting run ends as it began, and who starts now gets the newest."""
    async with memory_app() as app:
        await app.register(double)
        first = await app.define("flow", WAITS)
        old = await app.start("flow", {"n": 1})
        second = await app.define("flow", TWICE)
        assert (first.version, second.version) == (1, 2)
        assert await (await app.start("flow", {"n": 1})).result(timeout=LIMIT) == {"n": 2}
        await old.signal("approved")
        assert await old.result(timeout=LIMIT) == {"n": 1, "approved": {}}


async def test_the_same_name_in_two_namespaces_is_two_flows_and_neither_runs_the_others() -> None:
    """A tenant's flow is his own: what a namespace has defined, or has in its code, is never run in another one."""
    database = MemoryDatabase()
    platform = fb.graph("invoice", double)
    async with (
        memory_app(database, namespace="platform") as operator,
        memory_app(database, namespace="org-a") as a,
        memory_app(database, namespace="org-b") as b,
    ):
        for app in (operator, a, b):
            await app.register(double)
            await app.register(add)
        await operator.register(platform)
        await operator.define("invoice", MORE, namespace="org-a")
        work = [asyncio.create_task(app.work()) for app in (operator, b)]
        assert await (await a.start("invoice", n=1, by=10)).result(timeout=LIMIT) == {"n": 11, "by": 10}
        with pytest.raises(CodeMissing):
            await b.start("invoice", n=1)
        waiting = await a.start("invoice", n=1, by=1, carry=False)
        foreign = await operator.start(platform, n=1)
        assert await foreign.result(timeout=LIMIT) == {"n": 2}
        assert await waiting.status() == "pending"
        for task in work:
            task.cancel()


async def test_a_flow_in_use_is_not_taken_back_and_one_that_was_is_not_started() -> None:
    """Refused while runs are active, with their ids; what is gone is told with what there is."""
    async with memory_app() as app:
        await app.define("flow", WAITS)
        run = await app.start("flow")
        with pytest.raises(DefinitionInUse, match=str(run.id)):
            await app.undefine("flow")
        assert [d.name for d in await app.defined()] == ["flow"]
        await run.cancel()
        with pytest.raises(RunCancelled):
            await run.result(timeout=LIMIT)
        assert (await app.undefine("flow")).ended_at is not None
        with pytest.raises(NotDefined, match="none is"):
            await app.undefine("flow")
        assert await app.defined() == []
        with pytest.raises(NotDefined, match="taken back"):
            await app.start("flow")


async def test_a_start_that_meets_an_undefine_is_cancelled_or_keeps_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes first: no run is left under way of a flow that was taken back."""
    async with memory_app() as app:
        await app.define("flow", WAITS)
        start = app.engine.start

        async def late(new: Any) -> Any:
            await app.undefine("flow")
            return await start(new)

        monkeypatch.setattr(app.engine, "start", late)
        with pytest.raises(NotDefined, match="while it was started"):
            await app.start("flow")
        (row,) = await app.runs(flow="flow")
        with pytest.raises(RunCancelled):
            await (await app.run(row.id)).result(timeout=LIMIT)

        monkeypatch.setattr(app.engine, "start", start)
        await app.define("flow", WAITS)
        end = app.store.specs.end

        async def slow(namespace: str, name: str) -> Any:
            ended = await end(namespace, name)
            await app.start(fb.Flow.from_spec({**WAITS, "name": "flow"}))
            return ended

        monkeypatch.setattr(app.store.specs, "end", slow)
        with pytest.raises(DefinitionInUse):
            await app.undefine("flow")
        assert [d.name for d in await app.defined()] == ["flow"]


async def test_a_spec_with_mistakes_defines_nothing() -> None:
    """The topology is checked before anything is stored, and templates are those that were registered."""
    async with memory_app() as app:
        with pytest.raises(SpecRefused, match="/steps/double/step"):
            await app.define("flow", TWICE)
        await app.register(double)
        looped = {"name": "x", "start": "a", "steps": {"a": {"step": "double", "next": "a"}}}
        with pytest.raises(SpecRefused, match="/steps"):
            await app.define("flow", looped)
        assert await app.defined() == []


async def test_definitions_are_audited_against_the_code_that_is_here() -> None:
    """ok, changed, or refused with what is missing."""
    database = MemoryDatabase()
    async with memory_app(database) as app:
        await app.register(double)
        await app.register(add)
        await app.define("a", TWICE)
        await app.define("b", MORE, namespace="org-a")
        assert [(x.defined.name, x.state) for x in await app.audit()] == [("a", "ok"), ("b", "ok")]

    async with memory_app(database) as other:

        def changed(n: int) -> dict[str, Any]:
            return {"n": n * 3}

        await other.register(fb.step(changed, name="double"))
        found = {x.defined.name: x for x in await other.audit()}
        assert (found["a"].state, found["b"].state) == ("changed", "refused")
        assert "/steps/add/step" in found["b"].about
        assert [x.defined.name for x in await other.audit(namespace="org-a")] == ["b"]
