"""Questions of a page and their answers."""

from __future__ import annotations

import queue
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from flowbook.show.inbox import Inbox
from flowbook.show.inspector import Inspector
from flowbook.show.live import LiveRun
from flowbook.show.runs_table import RunsTable
from flowbook.show.talk import LiveTalk
from flowbook.show.widget import Widget, module, sheet


class Asked(Widget):
    """A widget without a picture."""

    _esm = module("dom", "live")
    _css = sheet("live")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> queue.SimpleQueue[Any]:
    """What goes to the page."""
    sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
    monkeypatch.setattr(Widget, "send", lambda self, content: sent.put(content))
    return sent


@pytest.fixture
def widget() -> Iterator[Asked]:
    """One that can double a number, and cancels nothing."""

    def refuse(args: Mapping[str, Any]) -> None:
        raise ValueError("too late <b>")

    widget = Asked({"double": lambda args: 2 * args["n"], "cancel": refuse})
    yield widget
    widget.close()


def test_a_question_is_heard_at_once_and_answered_later(widget: Asked, sent: queue.SimpleQueue[Any]) -> None:
    """The page knows that somebody listens before the answer is there."""
    widget._heard(widget, {"ask": "p-1", "kind": "double", "args": {"n": 21}}, [])
    assert [sent.get(timeout=10) for _ in range(2)] == [{"heard": "p-1"}, {"answer": "p-1", "value": 42}]


def test_a_refusal_is_told_on_the_page(widget: Asked, sent: queue.SimpleQueue[Any]) -> None:
    """It is not lost in a log."""
    widget._heard(widget, {"ask": "p-2", "kind": "cancel"}, [])
    assert [sent.get(timeout=10) for _ in range(2)] == [{"heard": "p-2"}, {"answer": "p-2", "trouble": "too late <b>"}]


@pytest.mark.parametrize("content", [{}, {"ask": 1, "kind": "double"}, {"ask": "p-1", "kind": "__class__"}, {"x": 1}])
def test_what_is_no_question_is_left_alone(
    widget: Asked, sent: queue.SimpleQueue[Any], content: dict[str, Any]
) -> None:
    """A page may send anything."""
    widget._heard(widget, content, [])
    assert sent.empty()


WIDGETS = (Inbox, Inspector, LiveRun, LiveTalk, RunsTable)


def test_every_widget_is_looked_at_here() -> None:
    """A new one is added above."""
    import flowbook.show

    folder = Path(flowbook.show.__file__).parent
    found = [re.findall(r"^class (\w+)\(Widget\)", path.read_text(), re.MULTILINE) for path in folder.glob("*.py")]
    declared = {name for names in found for name in names}
    assert declared == {widget.__name__ for widget in WIDGETS}


@pytest.mark.parametrize("widget", WIDGETS)
def test_the_parts_of_a_page_are_one_module(widget: type[Widget]) -> None:
    """One export, at the end, nothing that is loaded from elsewhere, and no name that two parts declare."""
    text = str(widget._esm)
    assert len(re.findall(r"^export ", text, re.MULTILINE)) == 1
    assert not re.search(r"https?://|^import\s|import\(|eval\(", text, re.MULTILINE)
    names = re.findall(r"^(?:async )?(?:const|let|function|class) (\w+)", text, re.MULTILINE)
    assert sorted(names) == sorted(set(names))
