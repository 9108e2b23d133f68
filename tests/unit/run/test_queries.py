"""Queries as people write them: the builder of an app, awaited and not."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

import flowbook as fb
from flowbook.app import App, Options
from flowbook.errors import NotConnected, UsageError
from flowbook.plan.query import RunQuery
from flowbook.query import said
from flowbook.run.portal import Portal
from flowbook.store.memory import MemoryStore
from flowbook.sync import SyncApp, SyncRun, SyncRuns


@fb.step
def double(n: int) -> dict[str, int]:
    return {"n": 2 * n}


@fb.step
def fall(n: int) -> None:
    raise ValueError(f"no {n}")


twice = fb.graph("twice", double >> double.as_("again"))
broken = fb.graph("broken", double >> fall)
nested = fb.graph("nested", fb.subflow(twice, into=None))


async def next_millisecond() -> None:
    """Ids that are made in one millisecond are in no order."""
    now = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == now:
        await asyncio.sleep(0)


async def filled(app: App) -> list[UUID]:
    """Five runs of `twice`, two of `broken`, one with a child; the ids in the order of their starts."""
    made = []
    for n in range(5):
        run = await app.start(twice, {"n": n}, metadata={"org": "ab"[n % 2]})
        await run
        made.append(run.id)
        await next_millisecond()
    for n in range(2):
        run = await app.start(broken, {"n": n}, key=f"key-{n}")
        with pytest.raises(ValueError, match="no"):
            await run
        made.append(run.id)
        await next_millisecond()
    run = await app.start(nested, {"n": 9})
    await run
    return [*made, run.id]


async def test_a_query_is_narrowed_down_step_by_step() -> None:
    """Each condition is a method; the query before is left as it was."""
    async with App(MemoryStore()) as app:
        ids = await filled(app)
        everything = app.runs()
        failed = everything.flow("broken").status("failed")
        assert [row.id for row in await failed] == ids[6:4:-1]
        assert len(await everything) == 8
        assert [row.id for row in await app.runs(flow="twice", status="completed", limit=2)] == ids[4:2:-1]
        assert await everything.metadata(org="b").count() == 2
        assert await everything.input(n=3).ids() == [ids[3]]
        assert set(await everything.input(n=1).ids()) == {ids[1], ids[6]}
        assert await everything.matching("key-1").ids() == [ids[6]]
        assert await everything.current("fall").count() == 2
        assert await everything.trigger("child").count() == 1
        assert await everything.children().count() == 9
        assert await everything.since("1h").count() == 8
        assert await everything.until("1h").count() == 0
        assert await everything.until(datetime.now(UTC) + timedelta(hours=1)).count() == 8
        assert await everything.among(ids[0], ids[1]).sort("created_at").ids() == ids[:2]
        assert await everything.namespace("default").count() == 8
        assert await failed.sort("started_at").ids() == ids[5:7]


async def test_pages_follow_each_other_by_their_cursors() -> None:
    """The last page has none; `async for` goes through all of them."""
    async with App(MemoryStore()) as app:
        ids = await filled(app)
        query = app.runs(limit=3)
        first = await query.page()
        second = await query.page(first.cursor)
        third = await query.page(second.cursor)
        assert [row.id for page in (first, second, third) for row in page] == ids[::-1]
        assert (len(first), len(second), len(third), third.cursor) == (3, 3, 2, None)
        assert [row.id async for row in query] == ids[::-1]
        assert (await app.runs(limit=8).page()).cursor is None, "a page that is just full is the last one"


async def test_the_first_run_is_a_handle_with_all_verbs() -> None:
    """What is found can be retried, cancelled, looked at."""
    async with App(MemoryStore()) as app:
        await filled(app)
        run = await app.runs().status("failed").first()
        assert run is not None
        assert (await run.view()).failed_path == "fall#1"
        assert await app.runs().flow("none").first() is None


async def test_a_summary_and_a_table_of_all() -> None:
    """By status, with times; a pandas table has a row per run."""
    async with App(MemoryStore()) as app:
        ids = await filled(app)
        summary = await app.runs().summary()
        assert summary.statuses == {fb.Status.COMPLETED: 6, fb.Status.FAILED: 2}
        assert summary.total == summary.ended == 8
        assert summary.p50 is not None
        assert summary.p95 is not None
        assert 0 <= summary.p50 <= summary.p95
        table = await app.runs(limit=3).df()
        assert list(table.index) == [str(id) for id in reversed(ids)]
        assert set(table["status"]) == {"completed", "failed"}
        assert (table["seconds"] >= 0).all()
        assert len(await app.runs().df(rows=2)) == 2
        assert list((await app.runs().flow("none").df()).columns) == list(table.columns)


WRONG: list[tuple[str, tuple[Any, ...], str]] = [
    ("status", ("done",), "pending, running"),
    ("sort", ("age",), "created_at, started_at"),
    ("trigger", ("me",), "manual, child"),
    ("limit", (0,), "1 to 1,000"),
    ("limit", (1001,), "1 to 1,000"),
    ("namespace", ("org-a",), "org-a"),
    ("since", ("yesterday",), "24h"),
    ("since", (timedelta(days=999_999_999),), "24h"),
    ("page", ("x",), "cursor"),
]


@pytest.mark.parametrize(("verb", "arguments", "text"), WRONG)
async def test_a_condition_that_cannot_be_says_what_can(verb: str, arguments: tuple[Any, ...], text: str) -> None:
    """Before anything is asked of a database."""
    async with App(MemoryStore()) as app:
        with pytest.raises(UsageError, match=text):
            await getattr(app.runs(), verb)(*arguments)


@pytest.mark.parametrize("values", [{"x": {1}}, {"x": float("nan")}, {"x": "a\x00"}, {"x": "\ud800"}])
async def test_metadata_that_is_no_json_is_refused(values: dict[str, Any]) -> None:
    """A database would say it in its own words."""
    async with App(MemoryStore()) as app:
        with pytest.raises(UsageError, match="metadata"):
            app.runs().metadata(**values)
        with pytest.raises(UsageError, match="kept for this"):
            app.runs().input(docs=[1, 2])


async def test_a_query_never_leaves_its_namespace() -> None:
    """Another tenant's runs are not there, whatever is asked for."""
    store = MemoryStore()
    async with App(store) as one:
        ids = await filled(one)
        other = App(MemoryStore(store.database), Options(namespace="org-a"))
        async with other:
            assert await other.runs().count() == 0
            assert await other.runs().among(*ids).children().ids() == []
            assert await other.runs().matching(ids[0].hex).first() is None


def test_without_await_a_query_is_a_sequence_of_its_first_page() -> None:
    """For scripts and notebooks: the same verbs, no loop; `fb.runs()` finds the app."""
    portal = Portal()
    portal.start()
    from flowbook.graph import launch

    sync = SyncApp(portal.call(App(MemoryStore()).__aenter__()), portal, "memory")
    launch.push(sync)
    try:
        ids = portal.call(filled(sync.app))
        query = fb.runs(limit=3)
        assert isinstance(query, SyncRuns)
        assert [row.id for row in query] == ids[:-4:-1]
        assert (len(query), query[0].id, query[-1].id) == (3, ids[-1], ids[-3])
        page = query.page()
        assert [row.id for row in query.page(page.cursor)] == ids[-4:-7:-1]
        failed = fb.runs().status("failed")
        assert failed.count() == 2
        assert failed.ids() == ids[6:4:-1]
        assert failed.summary().statuses == {fb.Status.FAILED: 2}
        assert len(failed.df()) == 2
        first = failed.first()
        assert isinstance(first, SyncRun)
        assert first.status == "failed"
        assert repr(failed) == "<runs failed>"
    finally:
        sync.close()
    with pytest.raises(NotConnected, match="load_ext"):
        fb.runs()


def test_a_query_can_be_read() -> None:
    """In the words that it was written with."""
    query = RunQuery("default", "fit", fb.Status.FAILED, input={"k": 1}, current="judge", sort="duration")
    assert said(query) == "of fit, failed, k=1, at judge, by -duration"
    assert said(RunQuery("org-a")) == "of namespace org-a"
