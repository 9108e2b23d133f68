"""Flows that are defined as data, alike in every store."""

from __future__ import annotations

import asyncio

from flowbook.ports import Defined
from tests.contract.worlds import World, new, scenario


def _spec(name: str = "invoice", namespace: str = "org-a", **more: object) -> Defined:
    return Defined(namespace, name, {"name": name, "z": 0, "a": 0, "large": 1e16, "nul": "\0", **more}, "f1", "ana")


@scenario
async def test_another_spec_is_another_version_and_the_same_one_again_is_none(world: World) -> None:
    """Versions are counted per namespace and name, never change, and keep the spec as it was given."""
    store = await world.worker()
    first = await store.specs.define(_spec())
    assert (first.version, first.spec, first.by, first.ended_at) == (1, dict(_spec().spec), "ana", None)
    assert list(first.spec) == list(_spec().spec), "the order of steps is part of a flow"
    assert await store.specs.define(_spec()) == first
    assert (await store.specs.define(_spec(more=1))).version == 2
    assert (await store.specs.define(_spec(namespace="org-b"))).version == 1
    assert (await store.specs.define(_spec())).version == 3
    found = await store.specs.versions("org-a", "invoice")
    assert [(v.version, "more" in v.spec) for v in found] == [(3, False), (2, True), (1, False)]


@scenario
async def test_those_who_define_at_one_moment_get_versions_of_their_own(world: World) -> None:
    """Eight at once: eight versions, none lost and none changed; eight times the same: one."""
    stores = [await world.worker() for _ in range(2)]
    found = await asyncio.gather(*(stores[i % 2].specs.define(_spec(n=i)) for i in range(8)))
    assert sorted(v.version for v in found) == list(range(1, 9))
    assert {v.version: v.spec["n"] for v in await stores[0].specs.versions("org-a", "invoice")} == {
        v.version: v.spec["n"] for v in found
    }
    same = await asyncio.gather(*(stores[i % 2].specs.define(_spec("same")) for i in range(8)))
    assert {v.version for v in same} == {1}


@scenario
async def test_what_is_taken_back_is_not_listed_and_can_be_restored_or_defined_anew(world: World) -> None:
    """A name is live or not, as a whole; its history stays."""
    store = await world.worker()
    for each in (_spec(), _spec(n=2), _spec("other"), _spec(namespace="org-b")):
        await store.specs.define(each)
    assert [(d.namespace, d.name, d.version) for d in await store.specs.live(None)] == [
        ("org-a", "invoice", 2), ("org-a", "other", 1), ("org-b", "invoice", 1),
    ]  # fmt: skip
    ended = await store.specs.end("org-a", "invoice")
    assert ended is not None
    assert await store.specs.end("org-a", "invoice") is None
    assert [d.name for d in await store.specs.live("org-a")] == ["other"]
    assert [v.ended_at for v in await store.specs.versions("org-a", "invoice")] == [ended, ended]
    await store.specs.restore("org-a", "invoice", ended)
    assert [d.name for d in await store.specs.live("org-a")] == ["invoice", "other"]
    await store.specs.end("org-a", "invoice")
    assert (await store.specs.define(_spec(n=2))).version == 3
    assert [(d.name, d.version) for d in await store.specs.live("org-a")] == [("invoice", 3), ("other", 1)]


@scenario
async def test_runs_that_are_not_over_are_found_by_flow_and_namespace(world: World) -> None:
    """At most eleven: ten to be named, and one that says that there are more."""
    store = await world.worker()
    run = new(claim=False)
    await store.start(run)
    await store.start(new(claim=False, namespace="other"))
    assert await store.specs.active(run.namespace, run.flow) == [run.id]
    for _ in range(15):
        await store.start(new(claim=False))
    assert len(await store.specs.active(run.namespace, run.flow)) == 11
    assert await store.specs.active(run.namespace, "nothing") == []
