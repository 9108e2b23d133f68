"""What workers ask of a store as a fleet."""

from __future__ import annotations

from flowbook.ports import Definition
from tests.contract.worlds import CODE, World, new, scenario


def _definition(flow: str, fingerprint: str, namespace: str = "default") -> Definition:
    return Definition(namespace, flow, fingerprint, {"name": flow}, {"format": 0}, "")


@scenario
async def test_the_flows_of_a_namespace_are_listed_once_each_in_their_newest_version(world: World) -> None:
    """Whoever lists flows sees each name once, and none of another namespace."""
    store = await world.worker()
    for flow, fingerprint in (("b", "b1"), ("a", "a1"), ("a", "a2")):
        await store.define(_definition(flow, fingerprint))
    await store.define(_definition("c", "c1", "other"))
    found = await store.fleet.flows("default")
    assert [(d.flow, d.fingerprint, d.version) for d in found] == [("a", "a2", 2), ("b", "b1", 1)]


@scenario
async def test_code_that_due_runs_wait_for_is_found_and_other_queues_are_left_alone(world: World) -> None:
    """A worker learns of code that it has not got: of its namespace and queues, and of due runs alone."""
    store = await world.worker()
    await store.start(new(claim=False, fingerprint="known"))
    for _ in range(2):
        await store.start(new(claim=False, fingerprint="wanted"))
    await store.start(new(claim=False, fingerprint="elsewhere", queue="gpu"))
    await store.start(new(claim=False, fingerprint="foreign", namespace="other"))
    await store.start(new(fingerprint="carried"))
    found = await store.fleet.strangers("default", ("default",), CODE | {"known"})
    assert [fingerprint for _, fingerprint in found] == ["wanted"]
