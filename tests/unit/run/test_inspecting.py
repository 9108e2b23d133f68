"""Looking into runs: pages of journals, states through time, code beside today's, states as somebody types them."""

from __future__ import annotations

import json
import operator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import pydantic
import pytest

from flowbook import editing, inspecting
from flowbook.app import App
from flowbook.errors import PointUnknown
from flowbook.graph.expression import END_NODE, branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.mapping import map_
from flowbook.graph.step import step
from flowbook.handle import Run
from flowbook.inspecting import Scrub, Wanted, journal_page
from tests.unit.run.apps import Apps, scenario


def counting(upto: int, *, sign: str = "+") -> Graph:
    """count adds to n until it is there; note says so."""
    count = step(name="count")(lambda n: {"n": n + 1})

    @step
    def note(n: int) -> dict[str, Any]:
        return {"said": f"{sign}{n}"}

    return graph("counting", count >> note >> branch(lambda s: s.n < upto, {True: count, False: END_NODE}))


async def scrubbed(app: App, run: Run) -> Scrub:
    it, entries = await inspecting.scrub(app, run.id)
    it.extend(entries)
    return it


@scenario
async def test_a_journal_is_read_page_by_page(apps: Apps) -> None:
    """Any page at once; with a filter, those rows and how many there are."""
    app = await apps.open()
    run = await app.start(counting(60), n=0)
    await run.result()
    last = (await run.view()).seq
    page = await journal_page(app, run.id, Wanted(), 100, 15, last)
    assert [e.seq for e in page.rows] == list(range(101, 116))
    assert page.found == last
    notes = await journal_page(app, run.id, Wanted(frozenset({"finished"}), "note#"), 50, 20)
    assert notes.found == 60
    assert [e.path for e in notes.rows] == [f"note#{n}" for n in range(51, 61)]
    said = await journal_page(app, run.id, Wanted(text='SAID": "+42"'), 0, 20)
    assert [e.path for e in said.rows] == ["note#42"]
    nothing = await journal_page(app, run.id, Wanted(path="nowhere"), 0, 20)
    assert (nothing.rows, nothing.found) == ((), 0)


@scenario
async def test_of_a_fork_its_own_rows_are_shown(apps: Apps) -> None:
    """What it has kept stands in the journal of the other run."""
    app = await apps.open()
    run = await app.start(counting(3), n=0)
    await run.result()
    fork = await run.fork(at="note#2")
    await fork.result()
    page = await journal_page(app, fork.id, Wanted(), 0, 100, 0)
    assert page.rows[0].kind == "forked"
    assert page.rows[0].seq == 1
    kept = await journal_page(app, fork.id, Wanted(path="count#1"), 0, 100)
    assert kept.found == 0


@scenario
async def test_the_state_can_be_had_at_every_point_in_any_order(apps: Apps) -> None:
    """As `run.at` gives it: forwards, backwards, at once at the end, and of what came later."""
    app = await apps.open()
    run = await app.start(counting(200), n=0)
    await run.result()
    it = await scrubbed(app, run)
    assert len(it.points) == 401
    assert (it.at(0).before, it.at(0).after) == ({}, {"n": 0})
    for index in (400, 1, 399, 2, 257, 33, 32, 31):
        seen, whole = it.at(index), await run.at(it.points[index].path)
        assert (seen.before, seen.after) == (whole.before, whole.state)
        assert seen.point.at == whole.at
    assert it.index("note#200") == 400
    assert it.index("note#201") is None
    with pytest.raises(PointUnknown, match="401 points"):
        it.at(401)


@scenario
async def test_a_long_run_keeps_a_bounded_number_of_folds(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is right between them."""
    monkeypatch.setattr(inspecting, "KEPT", 4)
    app = await apps.open()
    run = await app.start(counting(300), n=0)
    await run.result()
    it = await scrubbed(app, run)
    assert len(it._kept) <= 9
    for index in (1, 77, 300, 599, 600):
        assert it.at(index).after["n"] == (index + 1) // 2


@scenario
async def test_what_comes_later_is_folded_on_and_a_failed_step_shows_what_it_saw(apps: Apps) -> None:
    """The same `Scrub`, after the run was retried; rows that it knows are not folded twice."""
    broken = True

    @step
    def first() -> dict[str, Any]:
        return {"n": 1}

    @step
    def second(n: int) -> dict[str, Any]:
        if broken:
            raise LookupError("no")
        return {"n": n + 1}

    app = await apps.open()
    run = await app.start(graph("two", first >> second))
    with pytest.raises(LookupError):
        await run.result()
    it = await scrubbed(app, run)
    seen = it.standing("second#1")
    assert (seen.before, seen.after, seen.finished) == ({"n": 1}, {"n": 1}, False)
    assert it.index("second#1") is None
    broken = False
    await run.retry()
    await run.result()
    it.extend(await inspecting.later(app, run.id, 0))
    assert it.at(len(it.points) - 1).after == {"n": 2}
    with pytest.raises(PointUnknown, match="nowhere"):
        it.standing("nowhere#1")


@scenario
async def test_items_of_a_map_and_calls_of_bodies_are_no_points(apps: Apps) -> None:
    """The state changes when the map has ended, all at once."""
    double = step(name="double")(lambda item: item * 2)
    app = await apps.open()
    run = await app.start(graph("maps", map_(double, over="xs", into="ys")), xs=[1, 2, 3])
    await run.result()
    it = await scrubbed(app, run)
    assert [p.path for p in it.points] == ["", "double#1"]
    assert list(it.at(1).after["ys"]) == [2, 4, 6]


@scenario
async def test_the_code_of_a_step_stands_beside_todays(apps: Apps) -> None:
    """With the versions, and what is different in the flow; without code here, the stored one alone."""
    app = await apps.open()
    run = await app.start(counting(2), n=0)
    await run.result()
    same = await inspecting.code(app, run.id, "note")
    assert same.now is not None
    assert same.then["step"].text == same.now["step"].text
    assert "def note(n: int)" in same.then["step"].text
    assert same.changes == ()
    await app.register(counting(3, sign="-"))
    other = await inspecting.code(app, run.id, "note")
    assert other.now is not None
    assert (other.then["step"].version, other.now["step"].version) == (1, 2)
    assert other.changes
    assert "s.n < upto" in other.then["router"].text
    stranger = await apps.open()
    assert (await inspecting.code(stranger, run.id, "note")).now is None


class Typed(TypedDict, total=False):
    docs: Annotated[list[str], operator.add]
    limit: int


@dataclass
class Data:
    docs: Annotated[list[str], operator.add]
    limit: int = 3


class Model(pydantic.BaseModel):
    docs: Annotated[list[str], operator.add] = []
    limit: Annotated[int, pydantic.Field(gt=0)] = 3


@pytest.mark.parametrize("source", [Typed, Data, Model])
@scenario
async def test_what_is_typed_is_read_as_the_schema_wants_it(apps: Apps, source: type) -> None:
    """Whatever kind of class it is; each key says what is wrong with it."""
    app = await apps.open()
    look = step(name="look")(lambda docs: {"limit": len(docs)})
    run = await app.start(graph("one", look, state=source), docs=["a"])
    await run.result()
    before = (await scrubbed(app, run)).at(1).before
    form = await editing.form(app, run.id, "look#1", before)
    fields = {f.key: f for f in form.fields}
    assert form.closed
    assert json.loads(fields["docs"].text) == ["a"]
    assert (fields["docs"].type, fields["limit"].type) == ("list[str]", "int")
    values, wrong = await editing.read(app, run.id, {"docs": '["b", "c"]', "limit": "5"})
    assert (values, wrong) == ({"docs": ["b", "c"], "limit": 5}, {})
    texts = {"docs": '["b", 7]', "limit": "many", "other": "1", "": "1"}
    values, wrong = await editing.read(app, run.id, texts)
    assert values == {}
    assert "[1]" in wrong["docs"]
    assert "valid string" in wrong["docs"]
    assert "no JSON" in wrong["limit"]
    assert "does not declare" in wrong["other"]
    assert "name" in wrong[""]


@scenario
async def test_without_a_schema_any_json_is_a_value_and_what_json_cannot_say_is_kept(apps: Apps) -> None:
    """NaN is no JSON; a set is shown, not edited; a large value neither."""
    app = await apps.open()
    run = await app.start(graph("free", step(name="look")(lambda: 1)), tags={1, 2}, text="x", long="y" * 30_000)
    await run.result()
    form = await editing.form(app, run.id, "look#1", (await scrubbed(app, run)).at(1).before)
    fields = {f.key: f for f in form.fields}
    assert not form.closed
    assert (fields["text"].text, fields["text"].refusal) == ('"x"', "")
    assert "set has no form in JSON" in fields["tags"].refusal
    assert "too long" in fields["long"].refusal
    values, wrong = await editing.read(app, run.id, {"a": '{"b": [1, null]}', "c": "NaN", "d": ""})
    assert values == {"a": {"b": [1, None]}}
    assert sorted(wrong) == ["c", "d"]
