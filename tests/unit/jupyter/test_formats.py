"""Objects at the end of a cell: each shows itself once the extension is loaded, and has a readable repr without it."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from IPython.core.formatters import DisplayFormatter

import flowbook as fb
from flowbook.app import App
from flowbook.jupyter.formats import register
from flowbook.observe.inbox import Decisions
from flowbook.store.memory import MemoryStore


@fb.step
def search(query: str) -> dict[str, Any]:
    return {"docs": [query]}


@fb.step
def judge(docs: list[str]) -> bool:
    return True


@fb.step
def write(docs: list[str]) -> dict[str, Any]:
    return {"report": ""}


loop = search >> judge >> fb.branch(lambda s: s.judge, {True: write, False: search})
research = fb.graph("research", loop)
asks = fb.graph("asks", search >> fb.wait("approved") >> write)
inner = fb.subflow(research)

TOPOLOGIES: dict[str, tuple[Any, list[str], str]] = {
    "step": (search, ["search"], "<step search(query: 'str') -> 'dict[str, Any]'>"),
    "expression": (search >> judge, ["search", "judge"], "<topology search >> judge>"),
    "fork": (search >> [judge, write], ["search", "judge", "write"], "<topology search >> judge, search >> write>"),
    "routed": (
        loop, ["search", "judge", "write"],
        "<topology search >> judge, judge >> write (True), judge >> search (False)>",
    ),
    "graph": (research, ["search", "judge", "write"], "<flow research: search write judge>"),
    "pause": (fb.wait("approved"), ["approved"], "<pause approved: approved>"),
    "map": (fb.map_(write, over="docs"), ["write"], "<map write: write over 'docs' into 'write', 10 at once>"),
    "subflow": (inner, ["research"], "<subflow research: research>"),
    "race": (fb.race(search, judge), ["search", "judge"], "<topology search, judge>"),
}  # fmt: skip


@pytest.fixture
def display() -> Iterator[DisplayFormatter]:
    """IPython's own display, with what ``%load_ext`` registers."""
    formatter = DisplayFormatter()
    undo = register(formatter.formatters)
    yield formatter
    for take_out in undo:
        take_out()


def shown(display: DisplayFormatter, thing: Any) -> dict[str, str]:
    """Mime type -> text."""
    data: dict[str, str] = display.format(thing)[0]
    return data


def drawn(html: str) -> str:
    """The picture in a page."""
    found = re.search(r"data:image/svg\+xml;base64,([^\"]+)", html)
    assert found is not None
    return base64.b64decode(found[1]).decode()


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_a_piece_of_topology_shows_its_picture(display: DisplayFormatter, name: str) -> None:
    """As HTML with an image, as SVG, and as text; the names of its steps are in each of them."""
    thing, names, _ = TOPOLOGIES[name]
    forms = shown(display, thing)
    assert set(forms) == {"text/html", "image/svg+xml", "text/plain"}
    for svg in (forms["image/svg+xml"], drawn(forms["text/html"])):
        ET.fromstring(svg)
        assert all(f">{step}<" in svg for step in names)
    assert all(step in forms["text/plain"] for step in names)
    assert "<script" not in forms["text/html"]


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_without_the_extension_there_is_a_readable_repr(name: str) -> None:
    """The objects know nothing of display."""
    thing, _, text = TOPOLOGIES[name]
    forms = shown(DisplayFormatter(), thing)
    assert set(forms) == {"text/plain"}
    assert repr(thing) == text


async def _records() -> dict[str, Any]:
    async with App(MemoryStore()) as app:
        one, other = await app.start(research, query="tides"), await app.start(research, query="moons")
        await one
        await other
        waiting = await app.start(asks, query="tides")
        while (await waiting.status()) != "waiting":
            await asyncio.sleep(0.01)
        return {
            "diff": await one.diff(other), "view": await one.view(), "page": await app.runs().page(),
            "inbox": Decisions(await app.inbox()),
        }  # fmt: skip


@pytest.fixture(scope="module")
def records() -> dict[str, Any]:
    """A diff, a run's view, a page of a query and an inbox, of real runs."""
    return asyncio.run(_records())


@pytest.mark.parametrize(
    ("name", "html", "plain"),
    [
        ("diff", "first difference at search#1", "first difference at search#1"),
        ("view", "completed", "research"),
        ("page", "asks", "waiting"),
        ("inbox", "approved", "approved"),
    ],
)
def test_what_is_known_of_runs_shows_itself(
    display: DisplayFormatter, records: dict[str, Any], name: str, html: str, plain: str
) -> None:
    """As a page without script, and as text."""
    forms = shown(display, records[name])
    assert set(forms) == {"text/html", "text/plain"}
    assert html in forms["text/html"]
    assert plain in forms["text/plain"]
    assert "<script" not in forms["text/html"]


def test_a_diff_has_a_short_repr(records: dict[str, Any]) -> None:
    """Where the runs part; not both of them with all their values."""
    assert re.fullmatch(
        r"<diff [0-9a-f-]{36} [0-9a-f-]{36}: first difference at search#1, \d steps differ, \d are alike>",
        repr(records["diff"]),
    )


def test_what_was_registered_is_taken_out_again() -> None:
    """``%unload_ext`` leaves IPython as it was."""
    formatter = DisplayFormatter()
    for take_out in register(formatter.formatters):
        take_out()
    assert set(shown(formatter, research)) == {"text/plain"}
