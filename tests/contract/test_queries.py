"""Queries: the same rows, order, counts and times from every store, and pages that neither repeat nor skip a run."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from flowbook.errors import UsageError
from flowbook.plan.journal import Entry, Kind
from flowbook.plan.query import (
    SORTS,
    Count,
    RunQuery,
    RunSummary,
    cursor,
    holds,
    position,
    projection,
    searchable,
    unsearchable,
)
from flowbook.plan.records import Status
from flowbook.ports import NewFork, RunRow, Settlement, Store
from tests.contract.worlds import World, complete, new, own, park, scenario

FAILED = Entry(Kind.FAILED, "", 0, b"")


NUMBERS = itertools.count(1)


def later() -> UUID:
    """An id after all that were made before: those of one millisecond are in no order."""
    return UUID(int=(0x019A << 112) + (next(NUMBERS) << 80) + (7 << 76) + (2 << 62) + (uuid4().int & (1 << 62) - 1))


async def populated(store: Store) -> dict[str, UUID]:
    """Runs of every kind, by a name."""
    made: dict[str, RunRow] = {}

    async def add(name: str, **fields: Any) -> RunRow:
        made[name] = await own(store, id=later(), **fields)
        return made[name]

    await store.settle(complete(await add("done", flow="fit", searchable={"query": "tides", "k": 3}, key="Daily-1")))
    row = await add("failed", flow="fit", searchable={"query": "moon", "k": 3.5}, metadata={"org": "a", "tags": ["x"]})
    await store.settle(
        Settlement(row.id, row.epoch, Status.FAILED, 0, FAILED, current="judge#2", error="ValueError: no such tide")
    )
    waiting = await add("waiting", flow="research", metadata={"org": "b", "tags": ["x", {"deep": 1}]})
    await store.settle(replace(park(waiting), current="approve#1, judge_all#10"))
    await add("going", flow="research", searchable={"query": "tides", "k": True})
    made["pending"] = (await store.start(new(id=later(), flow="research", claim=False, trigger="cron"))).row
    await add(
        "child", flow="fit", parent_id=made["done"].id, root_id=made["done"].id, parent_path="x#1", trigger="child"
    )
    await add("elsewhere", namespace="org-a", searchable={"query": "tides"})
    first = Entry(Kind.FORKED, "judge#1", 0, b"")
    fork = NewFork(uuid4(), made["failed"].id, 1, ("judge#1",), "f1", 1, first)
    made["fork"] = await store.fork(fork)
    return {name: row.id for name, row in made.items()}


DEFAULT = RunQuery("default")
CASES: tuple[tuple[RunQuery, str], ...] = (
    (DEFAULT, "done failed waiting going pending fork"),
    (RunQuery(), "done failed waiting going pending fork elsewhere"),
    (replace(DEFAULT, flow="fit"), "done failed fork"),
    (replace(DEFAULT, status=Status.FAILED), "failed"),
    (replace(DEFAULT, status=(Status.FAILED, Status.WAITING)), "failed waiting"),
    (replace(DEFAULT, children=True), "done failed waiting going pending fork child"),
    (replace(DEFAULT, children=True, trigger="child"), "child"),
    (replace(DEFAULT, trigger="cron"), "pending"),
    (replace(DEFAULT, trigger="fork"), "fork"),
    (replace(DEFAULT, input={"query": "tides"}), "done going"),
    (replace(DEFAULT, input={"k": 3}), "done"),
    (replace(DEFAULT, input={"k": 3.0}), "done"),
    (replace(DEFAULT, input={"k": True}), "going"),
    (replace(DEFAULT, input={"k": 1}), ""),
    (replace(DEFAULT, input={"k": None}), ""),
    (replace(DEFAULT, input={"query": "moon", "k": 3.5}), "failed fork"),
    (replace(DEFAULT, metadata={"org": "a"}), "failed fork"),
    (replace(DEFAULT, metadata={"tags": ["x"]}), "failed fork waiting"),
    (replace(DEFAULT, metadata={"tags": [{"deep": 1}]}), "waiting"),
    (replace(DEFAULT, metadata={"tags": "x"}), ""),
    (replace(DEFAULT, current="judge"), "failed"),
    (replace(DEFAULT, current="judge#2"), "failed"),
    (replace(DEFAULT, current="judge#1"), ""),
    (replace(DEFAULT, current="approve"), "waiting"),
    (replace(DEFAULT, current="judge_all#1"), ""),
    (replace(DEFAULT, current="judge_all#10"), "waiting"),
    (replace(DEFAULT, current="judge%all"), ""),
    (replace(DEFAULT, text="RESEAR"), "waiting going pending"),
    (replace(DEFAULT, text="daily"), "done"),
    (replace(DEFAULT, text="such tide"), "failed"),
    (replace(DEFAULT, text="%"), ""),
    (replace(DEFAULT, text="da"), "done"),
    (replace(DEFAULT, since=datetime(2001, 1, 1, tzinfo=UTC)), "done failed waiting going pending fork"),
    (replace(DEFAULT, since=datetime(2999, 1, 1, tzinfo=UTC)), ""),
    (replace(DEFAULT, until=datetime(2001, 1, 1, tzinfo=UTC)), ""),
    (replace(DEFAULT, ids=()), ""),
)


@scenario
async def test_a_query_gives_the_runs_for_which_all_its_conditions_hold(world: World) -> None:
    """Rows, counts and summaries of each condition; every store understands it alike."""
    store = await world.worker()
    names = {id: name for name, id in (await populated(store)).items()}
    for query, wanted in CASES:
        found = [names[row.id] for row in await store.runs(query)]
        assert sorted(found) == sorted(wanted.split()), query
        assert await store.count(query, 100) == len(found), query
        assert (await store.summary(query)).total == len(found), query
    for id in names:
        assert id in {row.id for row in await store.runs(RunQuery(children=True, text=id.hex[:20]))}
        assert [row.id for row in await store.runs(RunQuery(children=True, text=str(id)[-9:]))] == [id]
        assert [row.id for row in await store.runs(RunQuery(children=True, text=str(id)[-10:]))] == [id]
        assert [row.id for row in await store.runs(RunQuery(children=True, ids=(id, uuid4())))] == [id]


@scenario
async def test_a_count_ends_where_nobody_counts_any_further(world: World) -> None:
    """One more than the most says that there are more."""
    store = await world.worker()
    await populated(store)
    assert [await store.count(DEFAULT, most) for most in (2, 5, 6, 7)] == [3, 6, 6, 6]


@scenario
async def test_a_summary_counts_by_status_and_times_what_has_ended(world: World) -> None:
    """Times of what is over; nothing has ended: no times."""
    store = await world.worker()
    await populated(store)
    summary = await store.summary(DEFAULT)
    assert summary.statuses == {
        Status.COMPLETED: 1,
        Status.FAILED: 1,
        Status.WAITING: 1,
        Status.RUNNING: 1,
        Status.PENDING: 2,
    }
    rows = [row for row in await store.runs(DEFAULT) if row.ended_at and row.started_at]
    took = sorted((row.ended_at - row.started_at).total_seconds() for row in rows if row.ended_at and row.started_at)
    assert summary.ended == len(took) == 2
    assert summary.mean == pytest.approx(sum(took) / 2, abs=1e-6)
    assert summary.p50 == pytest.approx(sum(took) / 2, abs=1e-6)
    assert summary.p95 == pytest.approx(took[0] + 0.95 * (took[1] - took[0]), abs=1e-6)
    assert await store.summary(replace(DEFAULT, flow="none")) == RunSummary({}, 0, None, None, None)


@scenario
async def test_rows_of_a_list_may_come_without_their_inputs(world: World) -> None:
    """An input may be a megabyte, and a table shows a hundred rows."""
    store = await world.worker()
    row = await own(store)
    assert [r.input for r in await store.runs(RunQuery(inputs=False))] == [b""]
    assert [r.input for r in await store.runs(RunQuery())] == [row.input]


@pytest.mark.parametrize("children", [False, True])
@scenario
async def test_pages_have_every_run_once_while_runs_are_added(world: World, children: bool) -> None:
    """By cursor, in every order and both directions, three at a time, with two new runs between any two pages."""
    store = await world.worker()
    await populated(store)
    for n in range(9):
        row = await own(store, flow=f"fit{n % 3}")
        if n % 2:
            await store.settle(complete(row))
    for sort, descending in itertools.product(SORTS, (True, False)):
        query = RunQuery("default", limit=3, sort=sort, descending=descending, children=children)
        whole = [row.id for row in await store.runs(replace(query, limit=1000))]
        seen: list[UUID] = []
        after: str | None = None
        for turn in itertools.count():
            at = position(after, query) if after else None
            page = await store.runs(replace(query, after=at))
            seen += [row.id for row in page]
            if len(page) < 3:
                break
            after = cursor(page[-1], query)
            if turn < 3:
                await own(store, flow="fit9")
                await store.start(new(flow="fit0", claim=False))
        assert len(seen) == len(set(seen)), (sort, descending)
        assert [id for id in seen if id in set(whole)] == whole, (sort, descending)


@scenario
async def test_every_store_puts_rows_in_the_same_order(world: World) -> None:
    """What has not happened yet is later than all; rows that are alike follow their ids; names by their characters."""
    store = await world.worker()
    names = {id: name for name, id in (await populated(store)).items()}

    async def order(sort: str, *, descending: bool = False) -> list[str]:
        return [names[r.id] for r in await store.runs(replace(DEFAULT, sort=sort, descending=descending))]

    made = ["done", "failed", "waiting", "going", "pending"]
    assert [n for n in await order("created_at") if n != "fork"] == made
    assert await order("created_at", descending=True) == (await order("created_at"))[::-1]
    assert (await order("started_at"))[:4] == made[:4]
    assert set((await order("started_at"))[4:]) == {"pending", "fork"}
    assert (await order("ended_at"))[:2] == ["done", "failed"]
    assert set((await order("duration"))[:2]) == {"done", "failed"}
    assert [name in ("done", "failed", "fork") for name in await order("flow")] == [True] * 3 + [False] * 3
    assert (await order("status"))[0] == "done"
    assert (await order("status"))[-1] == "waiting"


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, -0.0]), st.sampled_from("ab")
)
JSON = st.recursive(
    VALUES, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from("xy"), v, max_size=2), max_leaves=6
)
OBJECTS = st.dictionaries(st.sampled_from("xyz"), JSON, max_size=3)


@given(pairs=st.lists(st.tuples(OBJECTS, OBJECTS), min_size=50, max_size=50))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_json_holds_is_what_postgres_says_it_holds(fresh_database: str, pairs: list[tuple[Any, Any]]) -> None:
    """The memory store's ``@>`` against the real one."""
    import json

    import asyncpg

    async def asked() -> list[bool]:
        connection = await asyncpg.connect(fresh_database)
        try:
            rows = await connection.fetch(
                "select a::jsonb @> b::jsonb as it from unnest($1::text[], $2::text[]) with ordinality x (a, b, n) "
                "order by n",
                *([json.dumps(pair[i]) for pair in pairs] for i in (0, 1)),
            )
        finally:
            await connection.close()
        return [row["it"] for row in rows]

    assert [holds(*pair) for pair in pairs] == asyncio.run(asked())


def test_the_projection_of_an_input_is_small_and_fits_jsonb() -> None:
    """Scalars, by their plain form; what is long, deep or strange is left out, and so is the seventeenth key."""
    day = datetime(2026, 11, 21, 6, tzinfo=UTC)
    given = {
        "text": "tides", "long": "x" * 201, "nul": "a\x00", "half": "\ud800", "n": 3, "huge": 10**40, "f": 0.5,
        "nan": float("nan"), "flag": True, "none": None, "day": day.date(), "at": day, "id": UUID(int=7), "list": [1],
        "gone": timedelta(1), "status": Status.FAILED, "\x00": 1,
    }  # fmt: skip
    assert projection(given) == {
        "text": "tides", "n": 3, "f": 0.5, "flag": True, "none": None, "day": "2026-11-21",
        "at": "2026-11-21T06:00:00+00:00", "id": str(UUID(int=7)), "status": "failed",
    }  # fmt: skip
    assert len(projection({f"k{n}": n for n in range(40)})) == 16
    assert unsearchable(searchable([1]))
    assert not unsearchable(searchable(None))


def test_a_cursor_is_taken_by_its_own_query_alone() -> None:
    """A cursor of other filters, another order or another hand is refused before it is a question to a database."""
    query = RunQuery("default", sort="started_at")
    row: Any = type("Row", (), {"id": UUID(int=5), "started_at": None, "flow": "fit"})()
    text = cursor(row, query)
    assert position(text, query)[1] == UUID(int=5)
    assert position(text, replace(query, limit=7)) == position(text, query), "the size of a page is no condition"
    others: list[Callable[[RunQuery], RunQuery]] = [
        lambda q: replace(q, descending=False), lambda q: replace(q, sort="flow"), lambda q: replace(q, flow="fit"),
        lambda q: replace(q, namespace="org-a"), lambda q: replace(q, input={"k": 1}),
    ]  # fmt: skip
    for other in others:
        with pytest.raises(UsageError, match="another query"):
            position(text, other(query))
    for wrong in ("", "x", "é", text[:-3], text + "AAAA", "W10", "bnVsbA", "a" * 10_000, "[" * 3000):
        with pytest.raises(UsageError, match="cursor"):
            position(wrong, query)


def test_a_cursor_whose_rank_is_of_another_kind_is_refused() -> None:
    """A text where a number belongs would be an error of the database's, a list anybody's guess."""
    import base64
    import json

    query = RunQuery("default", sort="duration")
    for value in ("x", None, [1], True, 2.5, 2**63):
        text = base64.urlsafe_b64encode(json.dumps([query.identity, value, UUID(int=1).hex]).encode()).decode()
        with pytest.raises(UsageError, match="cursor"):
            position(text, query)


def test_a_count_says_when_it_has_not_counted_to_the_end() -> None:
    """``10,000+``: a number for people; an int for whoever compares."""
    assert [str(Count(n)) for n in (0, 9_999, 10_000, 10_001)] == ["0", "9,999", "10,000", "10,000+"]
    assert Count(10_001).exact is False
    assert Count(3) == 3
