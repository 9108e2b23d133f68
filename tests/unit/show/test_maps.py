"""Maps in pictures, pages and tables: one card and one line, however many items there are."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO

from rich.console import Console

from flowbook.graph.flow import graph
from flowbook.graph.mapping import map_
from flowbook.graph.source import describe
from flowbook.graph.step import step
from flowbook.ids import new_id
from flowbook.observe.records import view_record
from flowbook.observe.tallies import ItemsView
from flowbook.observe.views import AttemptView, RunView, State, StepView
from flowbook.plan.mapped import Mapped
from flowbook.plan.records import Failure, Status
from flowbook.show.html import run_html
from flowbook.show.painted import mark, paint
from flowbook.show.text import run_plain, run_table
from tests.unit.show.samples import HOSTILE, NOW


@step
def fetch(url: str) -> str:
    return url


FLOW = graph("f", map_(fetch, over="urls", into="pages"))
WHY = Failure("ValueError", HOSTILE[0], "")
HALF = StepView(
    "fetch#1", "fetch", State.RUNNING, (AttemptView(1, NOW, None, None),), None, None,
    items=ItemsView(100_000, done=37, failed=1, running=10, troubles=((12, WHY),)),
)  # fmt: skip


def view(it: StepView) -> RunView:
    """A run that stands at the map."""
    return RunView(
        id=new_id(), flow="f", version=1, status=Status.RUNNING, key=None, input={}, spec=describe(FLOW).spec,
        steps=(it,), failure=None, failed_path=None, created_at=NOW, started_at=NOW, ended_at=None, lost=0, seq=1,
    )  # fmt: skip


def test_the_card_counts_the_items_and_goes_on_counting_the_time() -> None:
    """Done of all, what failed, and for how long; the tooltip names the item that failed."""
    it = mark(HALF, NOW + timedelta(seconds=5))
    assert it.text.startswith("37/100000 · 1 failed · 5")
    assert it.clocked == "37/100000 · 1 failed · {}"
    assert it.title.startswith("item 12: ValueError")
    svg = paint(view(HALF), NOW)
    assert svg.count('class="fb-pile"') == 2


def test_pages_and_tables_have_one_line() -> None:
    """With what is done and the last failure, escaped."""
    out = StringIO()
    Console(file=out, width=220).print(run_table(view(HALF), NOW))
    for text in (out.getvalue(), run_plain(view(HALF), NOW), run_html(view(HALF), NOW)):
        assert text.count("37/100000") >= 1
        assert "item 12: ValueError" in text
    assert HOSTILE[0] not in run_html(view(HALF), NOW)


def test_the_record_has_the_numbers_and_no_results() -> None:
    """What a large map has returned is named, not printed."""
    done = StepView("fetch#1", "fetch", State.FINISHED, (), 2.0, None, Mapped(new_id(), "fetch#1", 5000),
                    items=ItemsView(5000, 5000))  # fmt: skip
    record = view_record(view(done))["steps"][0]
    assert record["result"] == "<5,000 results of fetch#1>"
    assert record["items"] == {
        "total": 5000, "done": 5000, "failed": 0, "running": 0, "retrying": 0, "troubles": []}  # fmt: skip
