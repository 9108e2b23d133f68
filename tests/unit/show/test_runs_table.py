"""The table of runs as its page sees it: what is asked, what is answered, and what may go wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from flowbook.app import App
from flowbook.plan.query import RunQuery, RunSummary
from flowbook.plan.records import Status
from flowbook.run.portal import Portal
from flowbook.show.html import runs_html
from flowbook.show.runs_table import MOST_AT_ONCE, RunsTable
from flowbook.show.spark import spark
from flowbook.show.widget import Widget
from flowbook.store.memory import MemoryStore
from flowbook.sync import SyncApp, SyncRuns
from tests.unit.run.test_queries import filled
from tests.unit.show.samples import HOSTILE


class Detail(Widget):
    """What stands for an inspector."""

    _esm = "export default {render() {}}"


class Acts:
    """Remembers what it was asked to do; one run cannot be cancelled."""

    def __init__(self) -> None:
        self.done: list[tuple[str, UUID]] = []
        self.ended: list[UUID] = []
        self.refuses: UUID | None = None

    def open(self, run: UUID) -> tuple[Widget, Callable[[], object]]:
        return Detail({}), lambda: self.ended.append(run)

    def cancel(self, run: UUID, mark: str) -> str:
        if run == self.refuses:
            raise ValueError("no <b>")
        self.done.append(("cancel", run))
        return "is asked to stop"

    def retry(self, run: UUID, mark: str) -> str:
        self.done.append(("retry", run))
        return "goes on"

    def compare(self, older: UUID, newer: UUID) -> str:
        return f"<p>{older} {newer}</p>"


@pytest.fixture(scope="module")
def app() -> Iterator[tuple[SyncApp, list[UUID]]]:
    """Eight runs that are over, two of them failed."""
    portal = Portal()
    portal.start()
    app = SyncApp(portal.call(App(MemoryStore()).__aenter__()), portal, "memory")
    yield app, portal.call(filled(app.app))
    app.close()


@pytest.fixture
def acts() -> Acts:
    return Acts()


@pytest.fixture
def table(app: tuple[SyncApp, list[UUID]], acts: Acts) -> Iterator[RunsTable]:
    """A table of three rows a page."""
    table = RunsTable(app[0].runs(limit=3), acts, lambda: ["twice", "<b>"])
    yield table
    table.close()


def ask(table: RunsTable, kind: str, **args: Any) -> Any:
    return table._answers[kind](args)


def test_a_page_has_rows_counts_times_and_a_way_on(table: RunsTable, app: tuple[SyncApp, list[UUID]]) -> None:
    """The first answer comes with the widget; a cursor gives the next one."""
    _, ids = app
    assert [row["id"] for row in table.first["rows"]] == [str(i) for i in ids[:-4:-1]]
    assert table.first["counts"] == {"completed": 6, "failed": 2}
    assert "p95" in table.first["times"]
    assert table.first["spark"].startswith("<svg")
    assert table.first["flows"] == ["<b>", "broken", "nested", "twice"]
    second = ask(table, "page", cursor=table.first["next"])
    assert [row["id"] for row in second["rows"]] == [str(i) for i in ids[-4:-7:-1]]
    failed = ask(table, "page", status=["failed"], sort="created_at")
    assert [row["id"] for row in failed["rows"]] == [str(i) for i in ids[5:7]]
    assert failed["counts"] == {"completed": 6, "failed": 2}, "the chips say what there is besides"
    assert [row["id"] for row in ask(table, "page", text="key-1", since="1h")["rows"]] == [str(ids[6])]


def test_rows_that_are_shown_are_told_as_they_are_whatever_the_filters_say(
    table: RunsTable, app: tuple[SyncApp, list[UUID]]
) -> None:
    """And how many there are before the first of them."""
    _, ids = app
    shown = [str(i) for i in ids[:-4:-1]]
    fresh = ask(table, "fresh", ids=shown, status=["running"])
    assert [row["id"] for row in fresh["rows"]] == shown
    assert ask(table, "fresh", ids=shown[1:], sort="-created_at")["new"] == 1
    assert ask(table, "fresh", ids=shown[1:], sort="-duration")["new"] == 0
    assert ask(table, "fresh", ids=[str(uuid4())])["rows"] == []


def test_nothing_is_done_before_it_is_said_what(table: RunsTable, acts: Acts, app: tuple[SyncApp, list[UUID]]) -> None:
    """The question which runs a button concerns changes nothing; those that are over are left alone."""
    _, ids = app
    which = ask(table, "which", verb="retry", ids=[str(i) for i in ids])
    assert which["ids"] == [str(i) for i in ids[5:7]]
    assert len(which["others"]) == 6
    assert ask(table, "which", verb="cancel", ids=[str(i) for i in ids])["ids"] == []
    assert acts.done == []


def test_each_run_is_told_of_by_itself(table: RunsTable, acts: Acts, app: tuple[SyncApp, list[UUID]]) -> None:
    """One that cannot be done keeps no other from it."""
    _, ids = app
    acts.refuses = ids[1]
    told = ask(table, "cancel", ids=[str(i) for i in ids[:3]])
    assert [(it["well"], it["text"]) for it in told] == [
        (True, "is asked to stop"), (False, "no <b>"), (True, "is asked to stop"),
    ]  # fmt: skip
    assert acts.done == [("cancel", ids[0]), ("cancel", ids[2])]


def test_one_run_is_open_at_a_time(table: RunsTable, acts: Acts, app: tuple[SyncApp, list[UUID]]) -> None:
    """The one before is ended, so that nobody watches for it."""
    _, ids = app
    assert ask(table, "open", id=str(ids[0]))["ref"].startswith("anywidget:")
    ask(table, "open", id=str(ids[1]))
    assert acts.ended == [ids[0]]
    assert table.opened["id"] == str(ids[1])
    ask(table, "close")
    assert acts.ended == [ids[0], ids[1]]
    assert table.opened == {}


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("cancel", {"ids": ["x"]}), ("cancel", {"ids": "x"}), ("cancel", {}), ("open", {"id": None}),
        ("compare", {"ids": [str(uuid4())]}),
        ("cancel", {"ids": [str(uuid4())] * (MOST_AT_ONCE + 1)}), ("page", {"cursor": "x"}), ("page", {"sort": "age"}),
        ("page", {"status": ["done"]}), ("page", {"since": "yesterday"}),
    ],
)  # fmt: skip
def test_a_page_may_ask_anything(table: RunsTable, kind: str, args: dict[str, Any]) -> None:
    """What makes no sense is refused with a reason, and is no question to a database."""
    from flowbook.errors import UsageError

    with pytest.raises(UsageError):
        ask(table, kind, **args)


def test_a_query_keeps_its_own_conditions(app: tuple[SyncApp, list[UUID]], acts: Acts) -> None:
    """`fb.runs().flow("broken")` is a table of that flow's runs, whatever is typed into it."""
    table = RunsTable(app[0].runs(flow="broken"), acts)
    assert table.frame["flow"] == "broken"
    assert {row["flow"] for row in ask(table, "page", text="", status=[])["rows"]} == {"broken"}
    table.close()


def test_a_sparkline_has_a_bar_for_each_run() -> None:
    """The longest is the highest; a failed one has a foot besides its colour; nothing has no picture."""
    assert spark([]) == ""
    picture = spark([(1.0, Status.COMPLETED), (2.0, Status.FAILED), (0.0, Status.COMPLETED)])
    assert picture.count("<g>") == 3
    assert "3 runs, the longest 2.0 s, the last 0 ms" in picture
    assert picture.count('height="2"') == 1
    assert spark([(1.0, Status.COMPLETED)] * 100).count("<g>") == 40


@pytest.mark.parametrize("evil", HOSTILE)
def test_the_still_form_escapes_every_text(app: tuple[SyncApp, list[UUID]], evil: str) -> None:
    """Keys, flows, errors and places."""
    from dataclasses import replace

    row = SyncRuns(app[0], RunQuery("default", "broken"))[0]
    rows = [replace(row, flow=evil, key=evil, error=evil), replace(row, status=Status.WAITING, current=evil)]
    html = runs_html(rows, summary=RunSummary({Status.FAILED: 2}, 1, 1.0, 1.0, 1.0), more=True)
    assert "<script" not in html.lower()
    assert "<img src=x" not in html
    assert "<iframe" not in html
