"""Two runs beside each other: pictures, marks and differences, as a page without script."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any

import pytest

import flowbook as fb
from flowbook.app import App
from flowbook.graph.flow import Graph
from flowbook.observe.diffs import Diff
from flowbook.show.compared import diff_html
from flowbook.show.diff import diff_plain
from flowbook.store.memory import MemoryStore
from tests.unit.show.samples import HOSTILE


@fb.step
def search(query: str) -> dict[str, Any]:
    return {"docs": [f"{query} {n}" for n in range(12)]}


@fb.step
def judge(docs: list[str]) -> dict[str, Any]:
    return {"good": [d for d in docs if not d.endswith("3")]}


@fb.step
def write(good: list[str]) -> dict[str, Any]:
    return {"report": "\n".join(good)}


research = fb.graph("research", search >> judge >> write)
long = fb.graph("long", search >> judge >> [write.as_(f"write{n}") for n in range(40)] >> fb.END)


async def diff(graph: Graph, one: dict[str, Any], other: dict[str, Any]) -> Diff:
    async with App(MemoryStore()) as app:
        a, b = await app.start(graph, one), await app.start(graph, other)
        await a
        await b
        return await a.diff(b)


def compared(graph: Graph = research, one: str = "tides", other: str = "moons") -> tuple[Diff, str]:
    found = asyncio.run(diff(graph, {"query": one}, {"query": other}))
    return found, diff_html(found)


def pictures(html: str) -> list[str]:
    """The SVGs of a page."""
    return [base64.b64decode(code).decode() for code in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html)]


def test_both_topologies_and_both_timelines_stand_side_by_side() -> None:
    """With a ring around each step that differs, whole around the first one, and a line at its moment."""
    found, html = compared()
    assert found.first is not None
    assert found.first.path == "search#1"
    drawn = pictures(html)
    assert [("fb-timeline" in svg) for svg in drawn] == [False, False, True, True]
    for svg in drawn[:2]:
        assert svg.count("<title>first difference</title>") == 1
        assert svg.count("<title>differs</title>") == 2
    for svg in drawn[2:]:
        assert svg.count("first difference, after") == 1
    assert "flex-wrap:wrap" in html, "a narrow page has them below each other"
    assert html.index("▶ ") < html.index("judge#1")


def test_the_timelines_have_one_scale() -> None:
    """A run that took twice as long is twice as long in the picture."""
    _, html = compared()
    scales = [re.search(r'data-scale="([^"]+)"', svg) for svg in pictures(html)[2:]]
    assert len({scale[1] for scale in scales if scale}) == 1


def test_long_values_are_compared_line_by_line() -> None:
    """Lists and texts of several lines; what is the same in between is left out."""
    _, html = compared(other="tides")
    assert "line by line" not in html
    assert "no difference" in html
    _, html = compared()
    assert html.count("line by line") >= 3
    assert "moons 11" in html


def test_of_a_large_topology_the_place_where_they_part_is_cut_out() -> None:
    """The whole one is folded below; a page without script cannot scroll to anything."""
    _, html = compared(long)
    near, whole = pictures(html)[:2]
    assert "the whole topology" in html
    sizes = [re.search(r'<svg[^>]*? height="(\d+)"', svg) for svg in (near, whole)]
    assert [int(size[1]) <= 420 for size in sizes if size] == [True, False]
    assert "first difference" in near


@pytest.mark.parametrize("evil", HOSTILE)
def test_no_text_of_a_run_is_markup(evil: str) -> None:
    """Inputs, results, state and errors go through `escape`, in tables and in pictures."""
    text = evil.encode("utf-8", "replace").decode().replace("\x00", "?")
    found, html = compared(one=text, other="moons")
    for page in (html, *pictures(html)):
        assert "<script" not in page.lower()
        assert "<img src=x" not in page
        assert "<iframe" not in page
    if any(c in text for c in "<>"):
        assert text not in html
    assert diff_plain(found).startswith("research ")
