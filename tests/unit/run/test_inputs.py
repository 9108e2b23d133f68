"""Inputs: a long list lies in pieces beside its run, and nobody who carries, forks or compares runs notices."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbook.errors import KeyConflict, Undecodable, Unencodable
from flowbook.graph.flow import graph
from flowbook.graph.imperative import flow
from flowbook.graph.mapping import map_
from flowbook.graph.step import step
from flowbook.handle import Run
from flowbook.ids import new_id
from flowbook.observe.records import view_record
from flowbook.plan.pieces import InPieces
from flowbook.run import inputs as inputs_module
from flowbook.run.context import Context
from flowbook.run.inputs import input_of, stored_input, whole_input
from flowbook.store.memory import MemoryStore
from flowbook.store.memory_database import MemoryDatabase
from tests.unit.run.apps import Apps, scenario, until


@step
async def count(items: list[Any]) -> dict[str, int]:
    return {"count": len(items)}


COUNT = graph("count", count)


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of ten items and a hundred bytes are long already."""
    for name, value in (("LONG", 10), ("LARGE", 100), ("PIECE", 100), ("_GLANCE", 4)):
        monkeypatch.setattr(inputs_module, name, value)


def stored(apps: Apps, run: Run) -> Any:
    """What the row of a run has of its items."""
    return input_of(apps.database.runs[run.id].row)["items"]


@scenario
async def test_a_long_list_lies_beside_its_run_and_steps_get_all_of_it(apps: Apps) -> None:
    """2 MB of items: the row has their digests, the state and whoever asks has the list."""
    app = await apps.open()
    items = [{"n": n, "text": "x" * 1000} for n in range(2000)]
    run = await app.start(COUNT, items=items, other="y" * 10)
    state = await run.result()
    assert (state["count"], state["items"] == items, type(state["items"])) == (2000, True, list)
    found = stored(apps, run)
    assert type(found) is InPieces
    assert (found.total, len(found.pieces)) == (2000, len(apps.database.blobs))
    assert len(apps.database.runs[run.id].row.input) < 1000
    assert all(len(piece) < 2 * inputs_module.PIECE for piece in apps.database.blobs.values())


@pytest.mark.usefixtures("_small")
@scenario
async def test_the_same_list_is_stored_once(apps: Apps) -> None:
    """However many runs begin with it."""
    app = await apps.open()
    for _ in range(3):
        await (await app.start(COUNT, items=list(range(100)))).result()
    pieces = len(apps.database.blobs)
    await (await app.start(COUNT, items=list(range(1, 101)))).result()
    assert len(apps.database.blobs) > pieces > 1


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(
    "items",
    [[], list(range(9)), list(range(20)), tuple(range(100)), "x" * 500],
    ids=["none", "few", "small", "tuple", "text"],
)
@scenario
async def test_what_is_short_or_no_list_stays_where_it_is(apps: Apps, items: Any) -> None:
    """In the row."""
    app = await apps.open()
    run = await app.start(COUNT, items=items)
    assert (await run.result())["items"] == items
    assert stored(apps, run) == items
    assert apps.database.blobs == {}


@given(st.lists(st.one_of(st.integers(), st.text(max_size=30), st.dictionaries(st.text(), st.none())), max_size=60))
@settings(max_examples=60, deadline=None)
def test_every_list_comes_back_as_it_was(items: list[Any]) -> None:
    """Whatever is in it and however uneven its items are."""
    uneven = [*items, "y" * 700, *items, *range(30), b"bytes" * 50]

    async def whole() -> None:
        store = MemoryStore(MemoryDatabase())
        await store.open()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (("LONG", 10), ("LARGE", 100), ("PIECE", 100), ("_GLANCE", 4)):
                patch.setattr(inputs_module, name, value)
            data, _, _ = await stored_input(store, COUNT, {"a": 1, "items": uneven, "z": 2}, None)
        row: Any = type("Row", (), {"input": data, "id": new_id()})()
        assert type(input_of(row)["items"]) is InPieces
        back = await whole_input(store, row)
        assert back == {"a": 1, "items": uneven, "z": 2}
        assert list(back) == ["a", "items", "z"]
        await store.close()

    asyncio.run(whole())


@pytest.mark.usefixtures("_small")
@scenario
async def test_a_key_belongs_to_its_long_input(apps: Apps) -> None:
    """The same list is the same input, also with the keys of its dicts in another order; one other item is another."""
    app = await apps.open()
    items = [{"a": n, "b": n} for n in range(50)]
    run = await app.start(COUNT, key="k", items=items)
    again = await app.start(COUNT, key="k", items=[{"b": n, "a": n} for n in range(50)])
    assert again.id == run.id
    with pytest.raises(KeyConflict, match=r"another input.*list of 50 items"):
        await app.start(COUNT, key="k", items=[*items[:49], {"a": 0, "b": 0}])


class Declared(TypedDict, total=False):
    """A state."""

    items: list[Any]
    count: int


@pytest.mark.usefixtures("_small")
@scenario
async def test_schemas_and_bodies_get_the_whole_list(apps: Apps) -> None:
    """A declared state, an imperative flow, and a child."""
    app = await apps.open()

    @flow
    async def body(ctx: Context, items: list[int]) -> int:
        return int((await ctx.join(ctx.spawn(COUNT, items=items)))["count"]) + sum(items)

    assert (await (await app.start(graph("f", count, state=Declared), items=list(range(50)))).result())["count"] == 50
    assert await (await app.start(body, items=list(range(50)))).result() == 50 + sum(range(50))


@pytest.mark.usefixtures("_small")
@scenario
async def test_what_cannot_be_stored_is_refused_with_its_place_before_anything_is_written(apps: Apps) -> None:
    """Also at the end of the list."""
    app = await apps.open()
    with pytest.raises(Unencodable, match=r"input\.items\[79\]"):
        await app.start(COUNT, items=[*range(79), object()])
    with pytest.raises(Unencodable, match=r"input\.other"):
        await app.start(COUNT, items=list(range(80)), other=object())
    assert apps.database.blobs == {}
    assert apps.database.runs == {}


@pytest.mark.usefixtures("_small")
@scenario
async def test_a_run_with_a_long_input_is_resumed_forked_and_looked_at(apps: Apps) -> None:
    """After a crash in the middle of its map; a view says what lies elsewhere; a fork begins with the same list."""
    app, gate = await apps.open(), asyncio.Event()

    @step
    async def slow(n: int) -> int:
        if n == 30:
            await gate.wait()
        return n

    mapped = graph("f", map_(slow, over="items", into="out", concurrency=4) >> count)
    run = await app.start(mapped, items=list(range(60)))
    await until(lambda: len(apps.kinds(run)) > 30)
    assert view_record(await run.view())["input"]["items"].startswith("<list of 60 items, ")
    await apps.crash(app)
    gate.set()
    second = await apps.open()
    await second.register(mapped)
    state = await (await second.resume(run.id)).result()
    assert (state["out"], state["items"]) == (list(range(60)), list(range(60)))
    fork = await second.fork(run.id, at="count#1", edits={"items": [1]})
    assert (await fork.result())["count"] == 1
    assert (await (await second.fork(run.id, at="count#1")).result())["items"] == list(range(60))
    assert (await Run(second, run.id).at("slow#1")).state["items"] == list(range(60))


@pytest.mark.usefixtures("_small")
@scenario
async def test_a_piece_that_is_gone_fails_its_run_and_says_so(apps: Apps) -> None:
    """Somebody has deleted it."""
    app = await apps.open()
    run = await app.start(COUNT, items=list(range(60)))
    await run.result()
    row = apps.database.runs[run.id].row
    apps.database.blobs.popitem()
    with pytest.raises(Undecodable, match="a piece of an input is not in the database any more"):
        await whole_input(app.store, row)
