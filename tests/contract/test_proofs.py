"""Proofs and promotions, and the namespaces that proofs run in."""

from __future__ import annotations

from flowbook.errors import RunNotFound
from flowbook.ports import Definition
from tests.contract.worlds import World, new, scenario


@scenario
async def test_the_newest_proof_of_a_version_is_kept_and_what_was_promoted_stays_so(world: World) -> None:
    """A version has one proof; a later one takes its place and no promotion away."""
    store = await world.worker()
    await store.proofs.keep("default", "f", "f1", False, {"why": ["no"]})
    await store.proofs.keep("default", "f", "f1", True, {"why": []})
    promoted = await store.proofs.promote("default", "f", "f1", "ana")
    assert promoted.passed
    assert promoted.promoted_by == "ana"
    await store.proofs.keep("default", "f", "f1", False, {"why": ["again"]})
    (kept,) = await store.proofs.of("default", "f")
    assert (kept.passed, kept.report, kept.promoted_at) == (False, {"why": ["again"]}, promoted.promoted_at)


@scenario
async def test_a_version_may_be_promoted_that_was_never_proven(world: World) -> None:
    """It is known that it was not; of another namespace nothing is known."""
    store = await world.worker()
    first = await store.proofs.promote("default", "f", "f1", "")
    second = await store.proofs.promote("default", "f", "f2", "")
    assert first.promoted_at is not None
    assert second.promoted_at is not None
    assert second.promoted_at > first.promoted_at
    assert not second.passed
    assert not second.report
    assert not await store.proofs.of("other", "f")


@scenario
async def test_a_scratch_namespace_is_cleared_and_no_other_one_ever(world: World) -> None:
    """Only what begins with ~ is a proof's; a user's runs stay, whatever is asked."""
    store = await world.worker()
    mine, scratch = new(claim=False), new(claim=False, namespace="~prove-1")
    for it in (mine, scratch):
        await store.start(it)
        await store.define(Definition(it.namespace, it.flow, it.fingerprint, {}, {}, ""))
        await store.send(it.id, "signal", "go", b"")
    await store.proofs.clear("~prove-1")
    await store.proofs.clear("default")
    assert (await store.run(mine.id)).mail == 1
    assert len(await store.mailbox(mine.id)) == 1
    assert await store.definitions("default", mine.flow)
    assert not await store.definitions("~prove-1", scratch.flow)
    try:
        await store.run(scratch.id)
    except RunNotFound:
        return
    raise AssertionError("the run of the proof is still there")
