"""Namespaces: the same code in two of them is two flows, and neither sees the other's runs."""

from __future__ import annotations

import asyncio

import pytest

from flowbook.errors import RunNotFound
from flowbook.graph.flow import graph
from flowbook.graph.step import step
from flowbook.plan.records import Status
from tests.unit.run.apps import Apps, scenario

ran: list[str] = []


def work() -> str:
    ran.append("work")
    return "done"


FLOW = graph("shared", step(work))


@scenario
async def test_a_worker_never_carries_another_namespaces_run(apps: Apps) -> None:
    """A tenant's orphan with the platform's very code is left alone by the platform's worker."""
    ran.clear()
    tenant, platform = await apps.open(namespace="tenant"), await apps.open(namespace="platform")
    gate = asyncio.Event()

    async def slow() -> str:
        await gate.wait()
        return "done"

    flow = graph("shared", step(name="work")(slow))
    run = await tenant.start(flow)
    await platform.register(flow)
    worker = asyncio.create_task(platform.work())
    await asyncio.sleep(0)
    await apps.crash(tenant)
    gate.set()
    await asyncio.sleep(0.1)
    row = await platform.store.run(run.id)
    assert row.status is not Status.COMPLETED
    assert row.claims <= 1
    worker.cancel()


@scenario
async def test_another_namespaces_run_is_as_good_as_none(apps: Apps) -> None:
    """By id it is neither found nor shown, cancelled, retried, resumed or read."""
    tenant, platform = await apps.open(namespace="tenant"), await apps.open(namespace="platform")
    run = await tenant.start(FLOW)
    await run.result()
    for ask in (
        platform.run(run.id),
        platform.run(str(run.id)),
        platform.view(run.id),
        platform.cancel(run.id),
        platform.retry(run.id),
        platform.resume(run.id),
        platform.state(run.id),
    ):
        with pytest.raises(RunNotFound, match="platform"):
            await ask
    assert await platform.runs() == []
