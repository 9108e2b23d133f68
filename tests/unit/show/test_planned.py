"""Plans as people see them: painted, tabled and plain, and escaped everywhere."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from uuid import UUID

import pytest
from rich.console import Console

from flowbook.observe.planned import Fate, Plan, PlannedNode
from flowbook.plan.records import Status
from flowbook.show.planned import plan_html, plan_plain, plan_table, planned_flow_html
from tests.unit.show.samples import HOSTILE, NOW, SPEC
from tests.unit.show.test_pictures import check_html, check_svg

RUN = UUID("0190a8b2-0000-7000-8000-00003f2a1b9c")
PLAN = Plan(
    "research", "f" * 32, SPEC,
    (
        PlannedNode("search", Fate.REUSED, "2 results", 1.2, 0.03),
        PlannedNode("judge", Fate.AGAIN, "its code changed", 0.5),
        PlannedNode("write", Fate.AGAIN, "after `judge`", 2.0),
        PlannedNode("left", Fate.NEW, "never ran: that run did not come here"),
    ),
    RUN, 2, Status.COMPLETED, NOW, ("step `judge` changed",), (), ("judge#1",), 3, 2.5, 0.12, 1.2, ("a note",),
)  # fmt: skip


def test_each_form_of_a_plan_says_every_fate_every_reason_and_what_it_may_take() -> None:
    """The picture, the table of a terminal and the plain lines tell the same."""
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(plan_table(PLAN))
    for text in (plan_html(PLAN), plan_plain(PLAN), console.export_text()):
        for said in ("reused", "will run again", "new", "its code changed", "0.12", "2.5 s", "a note", "500 ms"):
            assert said in text, said
        assert "--reuse" in text
        assert "a plain run does everything again" in text


def test_the_topology_is_painted_with_the_fates() -> None:
    """Each card has its fate in words, as its colour, and its reason as a tooltip."""
    svg = base64.b64decode(re.findall(r"base64,([A-Za-z0-9+/=]+)", plan_html(PLAN))[0]).decode()
    assert svg.count("fb-finished") == 1
    assert svg.count("fb-retrying") == 2
    assert svg.count("fb-running") == 1
    assert "runs again · 500 ms" in svg
    assert "judge: will run again — its code changed" in svg


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_plan_can_run_script(text: str) -> None:
    """Names, reasons, notes and changes are text."""
    bad = replace(
        PLAN, flow=text, nodes=(PlannedNode(text, Fate.AGAIN, text),), notes=(text,), changes=(text,),
        input_changed=(text,), spec={"name": text, "nodes": [{"name": text, "ways": [[]]}], "entry": [text]},
    )  # fmt: skip
    html = planned_flow_html(bad, [text], [text])
    check_html(html)
    for picture in re.findall(r"base64,([A-Za-z0-9+/=]+)", html):
        check_svg(base64.b64decode(picture).decode())
    plan_plain(bad)
