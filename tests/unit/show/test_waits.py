"""Waiting nodes in pictures, pages and tables."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from io import StringIO

from rich.console import Console

from flowbook.graph.flow import graph
from flowbook.graph.pause import sleep, wait_any
from flowbook.graph.source import describe
from flowbook.graph.step import step
from flowbook.ids import new_id
from flowbook.observe.views import RunView, State, StepView, WaitView
from flowbook.plan.records import Failure, Status
from flowbook.show.html import run_html
from flowbook.show.looks import LOOKS, STATUS
from flowbook.show.painted import mark, paint
from flowbook.show.picture import node
from flowbook.show.text import flow_plain, run_plain, run_table
from flowbook.show.topology import topology_of
from tests.unit.show.samples import HOSTILE, NOW


@step
def yes() -> None: ...


@step
def no() -> None: ...


FLOW = graph("f", wait_any({"approved": yes, "rejected": no}, timeout="2d", name="gate") >> sleep("90m"))
WAIT = WaitView(("approved", "rejected"), NOW, NOW + timedelta(days=2))
AT_GATE = StepView("gate#1", "gate", State.WAITING, (), None, None, wait=WAIT)


def view(step: StepView) -> RunView:
    """A run that stands at one step."""
    spec = describe(FLOW).spec
    return RunView(
        id=new_id(), flow="f", version=1, status=Status.WAITING, key=None, input={}, spec=spec, steps=(step,),
        failure=None, failed_path=None, created_at=NOW, started_at=NOW, ended_at=None, lost=0, seq=1,
    )  # fmt: skip


def test_a_waiting_node_has_a_look_of_its_own() -> None:
    """The sign is the same for the node and for the run, and no other state has it."""
    signs = [look.sign for look in LOOKS.values()]
    assert LOOKS[State.WAITING].sign == STATUS[Status.WAITING][0].sign == "⏸"
    assert len(set(signs)) == len(signs)


def test_the_card_names_the_signals_and_counts_down() -> None:
    """In a still picture the time that is left then, in a live one a clock."""
    it = mark(AT_GATE, NOW + timedelta(hours=1))
    assert it.text == "for approved or rejected · 1d 23h left"
    told = node(it)
    assert (told["s"], told["c"]) == ("waiting", "for approved or rejected · {} left")
    assert told["at"] == round((NOW + timedelta(days=2)).timestamp() * 1000)
    forever = replace(AT_GATE, wait=WaitView(("go",), NOW, None))
    assert mark(forever, NOW).text == "for go"
    asleep = replace(AT_GATE, wait=WaitView((), NOW, NOW + timedelta(seconds=90)))
    assert mark(asleep, NOW).text == "1m 30s left"


def test_a_refused_payload_is_told_at_its_node() -> None:
    """How many there were, and why the last one did not fit."""
    refused = replace(WAIT, refused=(Failure("PayloadRefused", "by is missing", ""),))
    it = mark(replace(AT_GATE, wait=refused), NOW)
    assert it.text.endswith("· 1 refused")
    assert it.title == "by is missing"


def test_pages_and_tables_say_what_is_waited_for() -> None:
    """The names and the moment, in a table, a page and plain text."""
    said = "for approved or rejected, until 2026-11-23 12:00:00 UTC"
    out = StringIO()
    Console(file=out, width=200).print(run_table(view(AT_GATE), NOW))
    assert said in out.getvalue()
    assert said in run_plain(view(AT_GATE), NOW)
    assert said in run_html(view(AT_GATE), NOW)
    assert "fb-waiting" in paint(view(AT_GATE), NOW)


def test_a_topology_says_how_long_its_pauses_are() -> None:
    """The same from the graph and from its stored spec."""
    for thing in (FLOW, describe(FLOW).spec):
        notes = {p.name: p.note for p in topology_of(thing).places}
        assert notes["gate"] == "⏸ for approved or rejected · ≤ 2d 0h"
        assert notes["sleep_1h30m"] == "⏸ 1h 30m"
    assert "gate -> yes (approved), no (rejected)" in flow_plain(FLOW)


def test_nothing_of_a_signal_is_markup() -> None:
    """Names come from whoever wrote the journal."""
    for text in HOSTILE:
        hostile = replace(AT_GATE, wait=WaitView((text,), NOW, None, (Failure("E", text, ""),)))
        page = run_html(view(hostile), NOW)
        assert "<script>" not in page
        assert "<img src=x" not in page
