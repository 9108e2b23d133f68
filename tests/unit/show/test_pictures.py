"""Pictures: they are safe, they come in time, and they say how each step is doing."""

from __future__ import annotations

import base64
import io
import random
import re
import time
from collections.abc import Callable
from datetime import datetime
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from flowbook.observe.views import RunView, State, StepView
from flowbook.plan.records import Failure, Status
from flowbook.show import layout
from flowbook.show.html import flow_html, problems_html, run_html, runs_html
from flowbook.show.layout import arrange
from flowbook.show.live import LiveRun, head
from flowbook.show.looks import LOOKS
from flowbook.show.painted import mark, marks, paint
from flowbook.show.picture import node
from flowbook.show.safe import clean, duration
from flowbook.show.svg import draw
from flowbook.show.text import flow_plain, run_plain, run_table, runs_plain
from flowbook.show.topology import topology_of
from tests.unit.show.samples import HOSTILE, SPEC

SVG_TAGS = {"svg", "title", "g", "rect", "circle", "path", "polygon", "text"}
HTML_TAGS = {
    "div", "b", "code", "span", "img", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "ul",
    "li",
}  # fmt: skip


def check_svg(svg: str) -> None:
    """Well-formed, only elements of ours, nothing that acts or fetches."""
    root = ET.fromstring(svg)
    for element in root.iter():
        assert element.tag.removeprefix("{http://www.w3.org/2000/svg}") in SVG_TAGS
        for name in element.attrib:
            assert not name.lower().startswith("on"), name
            assert "href" not in name.lower()


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in HTML_TAGS, tag
        for name, value in attrs:
            assert name in {"class", "style", "title", "src", "alt", "scope"}, name
            if name == "src":
                assert value is not None
                assert value.startswith("data:image/svg+xml;base64,")
                self.pictures.append(base64.b64decode(value.partition(",")[2]).decode())


def check_html(html: str) -> Page:
    page = Page()
    page.feed(html)
    for svg in page.pictures:
        check_svg(svg)
    return page


@pytest.mark.parametrize("evil", HOSTILE)
def test_no_text_of_a_user_becomes_markup(
    evil: str, make_view: Callable[..., RunView], make_step: Callable[..., StepView], now: datetime
) -> None:
    """Whatever a label, an error, a result or a stored name says, it is shown as text, in every field."""
    failure = Failure(evil, evil, evil)
    spec = {
        "name": evil,
        "nodes": [{"name": evil, "ways": [["ok"], [evil]], "labels": [evil, evil]}, {"name": "ok", "ways": [[]]}],
        "entry": [evil],
    }
    steps = (
        make_step(f"{evil}#1", State.FAILED, failure=failure),
        make_step("ok#1", State.FINISHED, seconds=1.0, result={evil: evil}),
    )
    view = make_view(
        flow=evil, spec=spec, steps=steps, failure=failure, failed_path=evil, key=evil, needs=evil, cancelled_by=evil,
        status=Status.FAILED, metadata={evil: evil},
    )  # fmt: skip
    page = check_html(run_html(view, now, hint=evil))
    assert len(page.pictures) == 1
    check_html(flow_html(spec, [evil], [evil]))
    check_html(problems_html(evil, [evil]))
    check_svg(draw(layout._plain(topology_of(spec)), marks(view, now)))
    Console(file=io.StringIO()).print(run_table(view, now))
    run_plain(view, now)
    flow_plain(spec)
    for value in head(view, now).values():
        assert "\x00" not in str(value)


def test_markup_in_a_label_is_text_in_a_terminal(
    make_view: Callable[..., RunView], make_step: Callable[..., StepView], now: datetime
) -> None:
    """Rich's own markup is no way in either."""
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(run_table(make_view(flow="[bold]x[/bold]", steps=(make_step("a#1", State.RUNNING),)), now))
    assert "[bold]x[/bold]" in console.export_text()


def test_a_repr_that_raises_costs_nothing(
    make_view: Callable[..., RunView], make_step: Callable[..., StepView], now: datetime
) -> None:
    """A user's object may be broken; the run is shown all the same."""

    class Broken:
        def __repr__(self) -> str:
            raise ValueError("no")

    view = make_view(steps=(make_step("search#1", State.FINISHED, seconds=1.0, result=Broken()),))
    assert "Broken: ValueError in its repr" in run_html(view, now)


def test_there_is_no_script_in_what_is_saved(make_view: Callable[..., RunView], now: datetime) -> None:
    """The static page needs no script, no style sheet and nothing from elsewhere."""
    html = run_html(make_view(), now)
    assert not re.search(r"<script|<style|<svg|http", html)
    assert 'src="data:image/svg+xml;base64,' in html


CASES: list[tuple[dict[str, Any], str]] = [
    ({"state": State.RUNNING, "since": 3.0}, "3.0 s"),
    ({"state": State.RUNNING}, "running"),
    ({"state": State.RUNNING, "attempt": 2, "since": 3.0}, "attempt 2 · 3.0 s"),
    ({"state": State.RETRYING, "retry_in": 4.0}, "attempt 2 in 4.0 s"),
    ({"state": State.RETRYING}, "attempt 2 next"),
    ({"state": State.FINISHED, "seconds": 1.23}, "1.2 s"),
    ({"state": State.FINISHED, "seconds": 75.0, "attempt": 3}, "1m 15s · attempt 3"),
    ({"state": State.FAILED, "failure": Failure("my.BadThing", "no", "")}, "BadThing: no"),
    ({"state": State.CANCELLED}, "cancelled"),
]


@pytest.mark.parametrize(("given", "text"), CASES)
def test_a_card_says_how_its_step_is_doing(
    given: dict[str, Any], text: str, make_step: Callable[..., StepView], now: datetime
) -> None:
    """Time, attempt and error, in a few words."""
    assert mark(make_step("a#1", **given), now).text == text


def test_states_are_told_by_shape_word_and_colour(
    make_view: Callable[..., RunView], make_step: Callable[..., StepView], now: datetime
) -> None:
    """The still picture needs no colour vision and no style sheet."""
    for state, look in LOOKS.items():
        svg = paint(make_view(steps=(make_step("search#1", state),)), now)
        assert look.icon in svg
        assert look.light.stroke in svg
        assert f"search: {state}" in svg
    assert len({look.icon for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.sign for look in LOOKS.values()}) == len(LOOKS)


def test_a_node_that_fired_often_says_so(
    make_view: Callable[..., RunView], make_step: Callable[..., StepView], now: datetime
) -> None:
    """A loop's card has the latest firing and their number."""
    steps = tuple(make_step(f"search#{n}", State.FINISHED, seconds=float(n)) for n in (1, 2, 3))
    assert marks(make_view(steps=steps), now)["search"].text == "3.0 s · 3 times"


def test_a_run_of_unknown_code_has_a_picture_too(
    make_view: Callable[..., RunView], make_step: Callable[..., StepView], now: datetime
) -> None:
    """Without a spec the steps are drawn in the order of their firing."""
    view = make_view(spec={}, steps=(make_step("a#1", State.FINISHED), make_step("b#1", State.RUNNING)))
    assert "a: finished" in paint(view, now)
    check_svg(paint(make_view(spec={}), now))


def big(n: int, seed: int = 1) -> dict[str, Any]:
    pick = random.Random(seed)
    ways: dict[int, list[str]] = {i: [] for i in range(n)}
    for i in range(1, n):
        for p in {pick.randrange(max(0, i - 14), i) for _ in range(pick.choice([1, 1, 2]))}:
            ways[p].append(f"step_{i}")
    nodes = [{"name": f"step_{i}", "ways": [[t] for t in w] or [[]]} for i, w in ways.items()]
    return {"name": "big", "nodes": nodes, "entry": ["step_0"]}


def test_a_picture_of_500_nodes_comes_in_time() -> None:
    """A large flow does not make the cell wait."""
    started = time.perf_counter()
    found = arrange(topology_of(big(500)))
    svg = draw(found, {})
    assert time.perf_counter() - started < layout.LIMIT + 2
    assert svg.count("data-node=") == 500
    check_svg(svg)


def test_without_an_answer_in_time_there_is_a_plain_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pathological graph, or a machine without graphviz, still gets all its nodes and edges."""
    topology = topology_of(SPEC)
    assert not arrange(topology).plain
    in_no_time = arrange(topology, 1e-9)
    monkeypatch.setattr(layout, "engine", lambda: None)
    without = arrange(topology, 4.0)
    for found in (in_no_time, without):
        assert found.plain
        assert len(found.boxes) == len(topology.places)
        assert len(found.lines) == len(topology.ways)
        check_svg(draw(found))


def test_lists_of_runs_are_shown() -> None:
    """No runs is an answer too."""
    assert "no runs" in runs_html([])
    assert runs_plain([]) == "no runs"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0042, "4 ms"), (0.9999, "1.0 s"), (9.96, "10 s"), (59.6, "1m 00s"), (3720, "1h 02m"), (90000, "1d 1h")],
)
def test_times_are_told_as_people_tell_them(seconds: float, text: str) -> None:
    """Two digits that matter, never 60 s."""
    assert duration(seconds) == text


def test_long_texts_are_cut() -> None:
    """A value of a megabyte does not make a page of a megabyte."""
    assert clean("x" * 100, 10) == "xxxxxxxxx…"


def test_the_live_view_sends_what_changed_and_nothing_else(
    make_view: Callable[..., RunView],
    make_step: Callable[..., StepView],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Deltas only; a clock that goes on is no news; the traits catch up at the end."""
    sent: list[Any] = []
    running = make_view(steps=(make_step("search#1", State.RUNNING, since=1.0),))
    live = LiveRun(running, {})
    monkeypatch.setattr(live, "send", sent.append)
    live.update(running, now)
    assert sent == []
    steps = (make_step("search#1", State.FINISHED, seconds=1.5), make_step("judge#1", State.RUNNING, since=0.0))
    live.update(make_view(steps=steps), now)
    ids = topology_of(SPEC).steps
    assert [set(s["nodes"]) for s in sent] == [{ids["search"], ids["judge"]}]
    assert sent[0]["edges"], "the edge between them was taken"
    assert sent[0]["nodes"][ids["search"]] == {"s": "finished", "t": "1.5 s", "b": ""}
    live.update(make_view(steps=steps, status=Status.COMPLETED, ended_at=now), now)
    assert set(live.nodes) == {ids["search"], ids["judge"]}
    assert live.head["over"] is True
    live.close()


def test_a_running_node_is_sent_with_its_clock(make_step: Callable[..., StepView], now: datetime) -> None:
    """The page counts by itself."""
    told = node(mark(make_step("a#1", State.RUNNING, attempt=2, since=2.0), now))
    assert told["c"] == "attempt 2 · {}"
    assert told["at"] == round(now.timestamp() * 1000) - 2000


def test_nothing_is_fetched_from_elsewhere() -> None:
    """The widget's module and style come with the package."""
    for text in (LiveRun._esm, LiveRun._css):
        assert not re.search(r"https?://|import\s|@import|eval\(", str(text))


def test_a_large_picture_is_scrolled_and_stays_legible() -> None:
    """It shrinks to the page's width, but not until nothing can be read."""
    small, large = flow_html(SPEC), flow_html(big(120))
    wide = re.compile(r"min-width:(\d+)px")
    assert int(wide.findall(small)[0]) < 800
    assert int(wide.findall(large)[0]) > 1000
