"""JSON records, journals and progress: what of a run is printed, and how."""

from __future__ import annotations

import io
import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from flowbook.cli.code import graphs_of, load_module
from flowbook.cli.progress import Lines
from flowbook.cli.psql import without_password
from flowbook.errors import UsageError
from flowbook.ids import new_id
from flowbook.observe.folding import view_of
from flowbook.observe.planned import planned
from flowbook.observe.records import entry_record, moment, plain, plan_record, run_record, view_record
from flowbook.observe.views import RunView
from flowbook.plan.events import (
    AttemptFailed,
    CancelRequested,
    ChildFinished,
    ChildStarted,
    CodeChanged,
    DecisionTaken,
    Event,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunForked,
    RunRetried,
    SignalRefused,
    StepDropped,
    StepFinished,
    StepHandedOut,
    StepStarted,
    UndoingBegan,
    WaitBegan,
    WaitFinished,
)
from flowbook.plan.journal import Entry, to_entry
from flowbook.plan.records import Failure, Status
from flowbook.ports import RunRow
from flowbook.show.journal import journal_plain, journal_table, words

AT = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
OOPS = Failure("ValueError", "no [bold]good[/bold]\nat all", "Traceback ...", "")
EVENTS: list[Event] = [
    StepStarted("load#1", 1),
    AttemptFailed("load#1", 1, OOPS, lost=False, final=False, retry_at=AT),
    AttemptFailed("load#1", 2, OOPS, lost=True, final=False, retry_at=None),
    StepFinished("load#1", 3, {"x": math.nan, "blob": b"\0"}, {}, 0, 0.25),
    StepHandedOut("pay#1", 1, "00", AT),
    WaitBegan("gate#1", ("approved",), AT),
    SignalRefused("gate#1", "approved", 1, OOPS),
    DecisionTaken("gate#1", "ana", "approved", 2, AT),
    WaitFinished("gate#1", {"by": "ana"}, "approved", 0, "approved", 2, 2),
    StepDropped("other#1"),
    ChildStarted("sub#1", UUID(int=1), "inner"),
    ChildFinished("sub#1", UUID(int=1), {"n": 1}, "sub", None),
    CancelRequested("ana"),
    UndoingBegan("load#1", OOPS),
    UndoingBegan("", None, "ana"),
    RunRetried("ana"),
    CodeChanged("f" * 32, 2, ("load",), ("step `load` changed",)),
    RunForked("load#1", {"x": b"\0"}, UUID(int=1), ("step `load` changed",)),
    RunFailed("load#1", OOPS),
    RunCancelled("ana"),
    RunCompleted(),
]
DOCS = Path(__file__).parents[3] / "docs"


def row(**changes: Any) -> RunRow:
    """A run's row."""
    plain_row = RunRow(
        new_id(), "default", "shop", 2, "f" * 32, "default", 0, Status.RUNNING, AT, 1, None, 1, 0, 0, "load#1", "k",
        b"", b"", {"org": "a"}, None, None, AT, AT, None,
    )  # fmt: skip
    return replace(plain_row, **changes)


def entries(events: list[Event]) -> list[Entry]:
    """Events as rows of a journal."""
    return [replace(to_entry(e), seq=n, at=AT + timedelta(seconds=n)) for n, e in enumerate(events, 1)]


def view(events: list[Event], status: Status = Status.RUNNING) -> RunView:
    """How a run looks after events."""
    return view_of(row(status=status), entries(events), spec={}, input={"n": 1})


def documented(command: str) -> set[str]:
    """The keys that docs/cli.md promises."""
    for line in (DOCS / "cli.md").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"| {command} |"):
            return set(re.findall(r"`([a-z_]+)`", line.partition("|")[2].partition("|")[2]))
    raise AssertionError(f"docs/cli.md says nothing of {command}")


def test_the_keys_of_a_plan_are_those_of_the_documents() -> None:
    """The same promise for plans."""
    record = plan_record(planned("shop", "f" * 32, {"nodes": [{"name": "load"}]}, None, history=(), stale={}))
    assert set(record) == documented("`plan`")
    assert set(record["nodes"][0]) == documented("... each of `nodes`")


def test_the_keys_are_those_of_the_documents() -> None:
    """A key is a promise, so adding or losing one is noticed."""
    record = view_record(view(EVENTS[:4]))
    assert set(run_record(row())) == documented("`runs`")
    assert set(record) == documented("`show`, `resume`, `retry`, `cancel`")
    assert set(record["steps"][0]) == documented("... each of `steps`")
    assert set(record["steps"][0]["attempts"][0]) == documented("... each of `attempts`")
    assert set(record["steps"][0]["attempts"][0]["failure"]) == documented("... each `failure`")
    forked = view_record(view([RunForked("load#1", {}, UUID(int=1))]))["forked"]
    assert {*forked, "null"} == documented("... each `forked`")
    assert set(entry_record(entries(EVENTS)[0])) == documented("`journal`")


def test_records_are_strict_json() -> None:
    """No NaN, no bytes, nothing that a strict reader refuses."""
    for thing in ([entry_record(e) for e in entries(EVENTS)], view_record(view(EVENTS[:4])), run_record(row())):
        json.loads(json.dumps(thing, allow_nan=False))


def test_odd_values_become_text() -> None:
    """What JSON has no form for is text, and a broken repr costs nothing but itself."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    assert plain(math.inf) == "inf"
    assert plain({1: (2, {3})}) == {"1": [2, "{3}"]}
    assert plain("a\ud800") == "a?"
    assert "RuntimeError" in plain(Broken())
    assert len(plain(b"x" * 10_000)) <= 2000


def test_times_are_utc() -> None:
    """Whatever zone the database answered in."""
    berlin = datetime(2026, 11, 21, 11, 0, tzinfo=timezone(timedelta(hours=1)))
    assert moment(berlin) == "2026-11-21T10:00:00+00:00"
    assert moment(None) is None


def test_a_plain_journal_has_one_line_per_row() -> None:
    """``cut -f4`` gives the paths, whatever newlines an error has."""
    lines = journal_plain(entries(EVENTS)).split("\n")
    assert len(lines) == len(EVENTS)
    assert [line.split("\t")[3] for line in lines[:4]] == ["load#1"] * 4
    assert all("\n" not in words(e) for e in EVENTS)


def test_a_journal_table_takes_markup_for_text() -> None:
    """An error's ``[bold]`` is shown, not obeyed."""
    from rich.console import Console

    console = Console(width=200, record=True, file=io.StringIO())
    console.print(journal_table(entries(EVENTS)))
    assert "[bold]good[/bold]" in console.export_text()


def test_progress_tells_news_only() -> None:
    """What was finished before is counted, what a dead process had begun is not told as going on, the rest is."""
    told: list[str] = []
    lines = Lines(told.append)
    lines(view([StepFinished("load#1", 1, 1, {}, None, 0.1), StepStarted("fit#1", 1)]))
    assert len(told) == 1
    assert "1 finished step kept" in told[0]
    news: list[Event] = [
        StepFinished("load#1", 1, 1, {}, None, 0.1),
        StepStarted("fit#1", 1),
        AttemptFailed("fit#1", 1, OOPS, lost=True, final=False, retry_at=None),
        StepStarted("fit#1", 2),
    ]
    lines(view(news))
    lines(view([*news, StepFinished("fit#1", 2, 1, {}, None, 0.1)]))
    lines(view([*news, StepFinished("fit#1", 2, 1, {}, None, 0.1)], Status.COMPLETED))
    assert told[1:] == ["fit#1 running (attempt 2)", "fit#1 finished in 100 ms (attempt 2)"]


def test_the_password_is_not_on_the_command_line() -> None:
    """psql gets it through its environment."""
    assert without_password("postgresql://ana:p%2Fw@h:5433/db?sslmode=require") == (
        "postgresql://ana@h:5433/db?sslmode=require",
        "p/w",
    )
    assert without_password("postgresql://h/db") == ("postgresql://h/db", "")


def test_flows_are_found_in_a_file(tmp_path: Path) -> None:
    """Each flow once, however many names it has; steps and other things are none."""
    file = tmp_path / "shop_flows.py"
    file.write_text(
        "import flowbook as fb\n\n@fb.step\ndef pay(order):\n    return {}\n\nshop = other = fb.graph('shop', pay)\n"
    )
    assert [g.name for g in graphs_of(load_module(str(file)))] == ["shop"]


@pytest.mark.parametrize("name", ["no.such.module_at_all", "no_such_file.py"])
def test_a_module_that_is_not_there_is_a_usage_error(name: str) -> None:
    """With the name that was typed."""
    with pytest.raises(UsageError, match=re.escape(repr(name))):
        load_module(name)


def test_a_module_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    """Its own error is in the text."""
    file = tmp_path / "broken_flows.py"
    file.write_text("1 / 0\n")
    with pytest.raises(UsageError, match="ZeroDivisionError"):
        load_module(str(file))
