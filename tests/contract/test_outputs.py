"""Outputs of steps: kept beside the journal, seen by every worker, never mixed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flowbook.ids import new_id
from flowbook.plan.outputs import Kind, Output, displayed
from flowbook.ports import RunRow
from tests.contract.worlds import World, own, scenario

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def printed(
    run: RunRow, n: int, text: str | bytes, path: str = "a#1", *, attempt: int = 1, kind: Kind = "stdout", at: float = 0
) -> Output:
    """The n-th output of an attempt."""
    payload = text.encode() if isinstance(text, str) else text
    return Output(run.id, path, attempt, (run.epoch << 32) + n, kind, payload, NOON + timedelta(seconds=at))


@scenario
async def test_what_is_kept_is_read_by_every_worker_in_the_order_of_time(world: World) -> None:
    """With path, attempt, kind and moment; of one path alone where that is asked for."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    outputs = [
        printed(run, 0, "one\n"),
        printed(run, 0, "elsewhere\x00\n", "b#1", at=1),
        printed(run, 1, "two\n", kind="stderr", at=2),
        printed(run, 0, displayed({"text/plain": "1", "application/json": {"a": [1]}}, {"w": 1}), attempt=2,
                kind="display", at=3),
    ]  # fmt: skip
    await store.keep_outputs(outputs)
    assert list(await other.outputs(run.id)) == outputs
    assert list(await other.outputs(run.id, "a#1")) == [outputs[0], *outputs[2:]]
    assert list(await other.outputs(run.id, "c#1")) == []
    assert outputs[3].bundle == {"text/plain": "1", "application/json": {"a": [1]}}
    assert (outputs[3].metadata, outputs[3].text, outputs[1].text) == ({"w": 1}, "1", "elsewhere\x00\n")


@scenario
async def test_a_piece_that_grows_is_written_over_and_keeps_its_moment(world: World) -> None:
    """The same number means the same piece."""
    store = await world.worker()
    run = await own(store)
    await store.keep_outputs([printed(run, 0, "half")])
    await store.keep_outputs([printed(run, 0, "half and half", at=9)])
    assert list(await store.outputs(run.id)) == [printed(run, 0, "half and half")]


@scenario
async def test_a_large_display_comes_back_as_it_was(world: World) -> None:
    """3 MB of an image."""
    store, other = await world.worker(), await world.worker()
    run = await own(store)
    large = printed(run, 0, displayed({"image/png": "A" * 3_000_000}, {}), kind="display")
    await store.keep_outputs([large, printed(run, 1, "small", at=1)])
    assert list(await other.outputs(run.id)) == [large, printed(run, 1, "small", at=1)]


@scenario
async def test_what_belongs_to_no_run_is_dropped_in_silence(world: World) -> None:
    """The run was deleted while its step went on printing."""
    store = await world.worker()
    run = await own(store)
    lost = Output(new_id(), "a#1", 1, 0, "stdout", b"lost", NOON)
    await store.keep_outputs([lost, printed(run, 0, "kept")])
    assert [o.text for o in await store.outputs(run.id)] == ["kept"]
    assert list(await store.outputs(lost.run_id)) == []
