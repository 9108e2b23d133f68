"""Transcripts: from a view to what was said, and to a page on which nothing runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from flowbook.observe.transcripts import transcript
from flowbook.observe.views import RunView, State, StepView
from flowbook.show.html import run_html
from flowbook.show.transcript import transcript_html, transcript_plain

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
TURN = {"model": "m", "in": 1_200, "out": 30, "cached": 0, "usd": 0.0021, "seconds": 1.5, "thinking": "hm"}
SPEC = {"name": "a", "nodes": [], "state": {"fields": {"question": "", "messages": "", "turns": "", "answer": ""}}}


def html_of(view: RunView) -> str:
    """The page of what was said in a run."""
    it = transcript(view)
    assert it is not None
    return transcript_html(it)


def user(text: str) -> dict[str, Any]:
    """What somebody asked."""
    return {"role": "user", "content": text}


@pytest.fixture
def talk(make_view: Callable[..., RunView], make_step: Callable[..., StepView]) -> RunView:
    """A question, a tool call with its result, an answer."""
    asked = {"messages": [user("2?"), {"role": "assistant", "content": "", "tool_calls": [CALL]}], "turns": [TURN]}
    called = {"messages": [{"role": "tool", "tool_call_id": "c1", "content": "5"}]}
    said = {"messages": [{"role": "assistant", "content": "It is **5**."}], "turns": [TURN], "answer": "5"}
    steps = [("ask_model#1", asked), ("run_tools#1/answered#1/add#1", 5), ("run_tools#1", called)]
    steps.append(("ask_model#2", said))
    made = tuple(replace(make_step(path, State.FINISHED), result=result) for path, result in steps)
    return replace(make_view(), spec=SPEC, steps=made, input={"question": "2?"})


def test_what_was_said_is_told_in_order_with_what_it_cost(talk: RunView) -> None:
    """Each message once, with the step that made it; costs stand with the answers of the model."""
    it = transcript(talk)
    assert it is not None
    assert [(s.path, s.role, s.turn is not None) for s in it.said] == [
        ("ask_model#1", "user", False), ("ask_model#1", "assistant", True), ("run_tools#1", "tool", False),
        ("ask_model#2", "assistant", True),
    ]  # fmt: skip
    assert it.tokens == (2_400, 60)
    assert it.usd == pytest.approx(0.0042)
    plain = transcript_plain(it)
    assert plain.splitlines()[1:3] == ['agent calls add({"a": 2})', "tool: 5"]
    assert plain.endswith("2 turns · 2,400 tokens in, 60 out · $0.0042")


def test_a_run_that_is_no_agents_has_no_transcript(make_view: Callable[..., RunView]) -> None:
    """An ordinary state with messages in it is not taken for one."""
    assert transcript(make_view()) is None


def test_the_page_of_a_run_has_its_transcript(talk: RunView, now: datetime) -> None:
    """Markdown is rendered; a call stands with its result; a cost that is not known is left out, not zero."""
    page = run_html(talk, now)
    assert "It is <strong>5</strong>." in page
    assert re.search(r"<summary><code>add\(.*a.*2.*\)</code> <span[^>]*>→ 5</span>", page)
    assert "1,200 → 30 tokens · $0.0021 · 1.5 s" in page
    unknown = dict(TURN, usd=None)
    models = [s for s in talk.steps if s.node == "ask_model"]
    steps = tuple(replace(s, result={**s.result, "turns": [unknown]}) for s in models)
    assert "$" not in html_of(replace(talk, steps=steps))


def test_a_question_is_shown_before_there_is_an_answer(talk: RunView, make_step: Callable[..., StepView]) -> None:
    """And that the model is being asked."""
    it = transcript(replace(talk, steps=(make_step("ask_model#1", State.RUNNING),)))
    assert it is not None
    assert it.asking
    assert [s.text for s in it.said] == ["2?"]


class Tags(HTMLParser):
    """Every element of a page as a browser reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One more."""
        self.all.append((tag, dict(attrs)))


HOSTILE = [
    "<script>fetch('//evil')</script>",
    "<img src=x onerror=alert(1)>",
    "![x](https://evil.example/x.png)",
    "[x](javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "<a href='vbscript:x'>x</a>",
    "```html\n<svg onload=alert(1)>\n```",
    '[x](https://e.example "&quot; onmouseover=alert(1) x=&quot;")',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_model_says_runs_or_is_fetched(talk: RunView, text: str) -> None:
    """In every field of the page."""
    hostile = {"id": text, "type": "function", "function": {"name": text, "arguments": text}}
    said = {"role": "assistant", "content": text, "tool_calls": [hostile]}
    turn = dict(TURN, model=text, thinking=text, troubles=[text])
    step = replace(talk.steps[0], result={"messages": [user(text), said], "turns": [turn]})
    found = Tags()
    found.feed(html_of(replace(talk, steps=(step,))))
    tags = {"div", "b", "span", "p", "a", "em", "strong", "pre", "code", "details", "summary"}
    assert {tag for tag, _ in found.all} <= tags
    for _, attributes in found.all:
        assert attributes.keys() <= {"class", "style", "href", "title"}
        assert re.match(r"https?:", attributes.get("href") or "https:")
