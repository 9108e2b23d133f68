"""Timelines, drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from flowbook.observe.timeline import Part, timeline_of
from flowbook.observe.views import AttemptView, RunView, State, StepView
from flowbook.plan.records import Failure, Status
from flowbook.show.timeline import MOST, Window, draw_timeline, legend
from tests.unit.show.samples import HOSTILE, NOW

SVG = "{http://www.w3.org/2000/svg}"


def many(n: int, seconds: float = 0.01) -> tuple[StepView, ...]:
    """Firings of two nodes in turn."""

    def step(i: int) -> StepView:
        node = ("search", "judge")[i % 2]
        ended = NOW + timedelta(seconds=(i + 1) * seconds)
        failure = Failure("ValueError", "no", "") if i == n // 2 else None
        state = State.FAILED if failure else State.FINISHED
        return StepView(f"{node}#{i // 2 + 1}", node, state, (AttemptView(1, None, ended, failure),), seconds / 2, None)

    return tuple(step(i) for i in range(n))


def bars(svg: str) -> list[ET.Element]:
    """The bars and blocks of a picture."""
    return [g for g in ET.fromstring(svg).iter(f"{SVG}g") if "fb-bar" in (g.get("class") or "")]


def test_every_bar_says_what_it_was(make_view: Callable[..., RunView]) -> None:
    """Under the pointer, and to a screen reader."""
    failed = AttemptView(
        1, NOW + timedelta(seconds=0.1), NOW + timedelta(seconds=2), Failure("TimeoutError", "too slow", "")
    )
    done = AttemptView(2, None, NOW + timedelta(seconds=5), None)
    view = make_view(steps=(StepView("search#1", "search", State.FINISHED, (failed, done), 1.0, None),))
    (bar,) = bars(draw_timeline(timeline_of(view, NOW + timedelta(seconds=6))))
    assert bar.get("data-path") == "search#1"
    said = bar.get("aria-label") or ""
    assert "failed attempt 1 2.0 s (TimeoutError: too slow)" in said
    assert "until the next attempt 2.0 s" in said
    assert "at work 2 1.0 s" in said
    assert (bar.findtext(f"{SVG}title") or "").splitlines() == said.split("; ")


def test_a_run_of_any_length_is_one_picture_that_can_be_looked_into(make_view: Callable[..., RunView]) -> None:
    """20,000 firings are a few blocks; the one that failed is seen among them; a window shows them one by one."""
    view = make_view(steps=many(20_000), status=Status.COMPLETED, created_at=NOW, started_at=NOW)
    it = timeline_of(view, NOW + timedelta(seconds=200))
    whole = draw_timeline(it)
    assert len(whole) < 200_000
    blocks = bars(whole)
    assert len(blocks) <= MOST
    counted = sum(1 if b.get("data-path") else int((b.get("aria-label") or "").split(" times")[0]) for b in blocks)
    assert counted == 20_000
    told = [b.get("aria-label") or "" for b in blocks]
    assert sum("1 failed" in text or "#5001: failed" in text for text in told) == 1
    closer = bars(draw_timeline(it, Window(50.0, 50.4)))
    assert 30 < len(closer) < 60
    assert all(b.get("data-path") for b in closer)


def test_a_picture_with_very_many_bars_makes_blocks_wider(make_view: Callable[..., RunView]) -> None:
    """The page stays fast: 500 nodes with 40 firings each."""

    def step(i: int) -> StepView:
        ended = NOW + timedelta(seconds=i // 500 + 1)
        return StepView(f"n{i % 500}#{i // 500 + 1}", f"n{i % 500}", State.FINISHED,
                        (AttemptView(1, None, ended, None),), 0.5, None)  # fmt: skip

    view = make_view(steps=tuple(step(i) for i in range(20_000)), created_at=NOW, started_at=NOW, spec={})
    assert len(bars(draw_timeline(timeline_of(view, NOW + timedelta(seconds=41))))) <= 2 * MOST


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_users_is_markup(text: str, make_view: Callable[..., RunView]) -> None:
    """Names, paths, errors: all of them are text in the picture."""
    failure = Failure(text, text, text)
    steps: Any = (
        StepView(text, text, State.FAILED, (AttemptView(1, None, NOW, failure),), None, None),
        StepView(f"{text}/x#1", text, State.FINISHED, (AttemptView(1, None, NOW, failure),), None, None),
    )
    svg = draw_timeline(timeline_of(make_view(steps=steps, failure=failure), NOW))
    elements = list(ET.fromstring(svg).iter())
    assert {element.tag.removeprefix(SVG) for element in elements} <= {"svg", "g", "rect", "path", "text", "title"}
    assert not [name for element in elements for name in element.attrib if name.startswith("on") or "href" in name]


def test_every_part_has_a_look() -> None:
    """Nothing a step does for a while is without a colour and a word."""
    assert [part for part, ink, words in legend() if ink and words] == list(Part)
