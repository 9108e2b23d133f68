"""The transcript as a page: what each turn took, what was sent, pictures, and nothing that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from flowbook.agents.loop import agent
from flowbook.agents.parts import Image
from flowbook.agents.settings import Model
from flowbook.app import App
from flowbook.errors import UsageError
from flowbook.graph.imperative import flow
from flowbook.observe.transcripts import Said, Transcript
from flowbook.show.transcript import pictures, transcript_html
from flowbook.testing import ScriptedModel, memory_app

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360f8cfc0f01f00050001ff"
    "a5f45d8f0000000049454e44ae426082"
)


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A server with no rules yet."""
    with ScriptedModel() as model:
        yield model


@pytest.fixture
async def app() -> AsyncIterator[App]:
    """An app in memory."""
    async with memory_app() as app:
        yield app


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def test_the_messages_of_a_run_are_a_table_and_a_page(app: App, model: ScriptedModel) -> None:
    """Tokens, cost and time per turn with running totals, thinking, tool calls with results, request and response."""
    model.on("sum", calls=[("add", {"a": 2, "b": 3})], usage=(10, 5), thinking="I should add.")
    model.on("5", "It is <b>5</b>, **five**.", usage=(20, 5))
    at = Model("m", base_url=model.base_url, price=(1000.0, 2000.0), api_key="sk-not-on-the-page-1")
    run = await app.start(agent("adder", "You add.", model=at, tools=[add]), {"question": ["sum?", Image(PIXEL)]})
    await run.result()
    said = await run.messages()
    assert [one.role for one in said] == ["user", "assistant", "tool", "assistant"]
    frame = said.df()
    assert list(frame["tokens_so_far"]) == [0, 15, 15, 40]
    assert list(frame["usd_so_far"]) == pytest.approx([0, 0.02, 0.02, 0.05])
    assert frame["calls"][1] == 'add({"a": 2, "b": 3})'
    assert frame["thinking"][1] == "I should add."
    page = transcript_html(said)
    for seen in (
        "I should add.", "so far 40 tokens $0.0500", "<strong>five</strong>", "&lt;b&gt;5", "<summary>raw</summary>",
        f'<img src="{Image(PIXEL).url}"', 'title="ask_model#2"', "&quot;role&quot;: &quot;tool&quot;",
        "... 1 earlier message, as above",
    ):  # fmt: skip
        assert seen in page, seen
    assert "sk-not-on-the-page" not in page

    @flow
    async def other(ctx: Any) -> int:
        return 1

    with pytest.raises(UsageError, match="no agent's"):
        await (await app.start(other)).messages()


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/x.png",
        "data:text/html;base64,PGI+",
        'data:image/png;base64,AA" onerror="x',
        "data:image/svg+xml;base64,AAAA",
    ],
)
def test_only_images_that_a_message_holds_are_shown(url: str) -> None:
    """Nothing is fetched, nothing runs."""
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    assert pictures(Said("", message)) == ""


def test_a_page_grows_with_a_conversation_and_not_with_its_square() -> None:
    """A request is told as what is new in it."""

    def page(turns: int) -> int:
        said: list[Said] = []
        for n in range(turns):
            said.append(Said(f"ask_model#{n}", {"role": "user", "content": "x" * 500}))
            turn = {"model": "m", "in": 1, "out": 1, "usd": 0.1, "seconds": 1.0}
            said.append(Said(f"ask_model#{n}", {"role": "assistant", "content": "y" * 500}, turn))
        return len(transcript_html(Transcript(tuple(said), asking=False)))

    assert page(80) < 3 * page(40)
