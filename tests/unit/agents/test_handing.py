"""Hand-overs: another agent goes on with the same conversation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from flowbook.agents.loop import agent
from flowbook.agents.settings import Model
from flowbook.app import App
from flowbook.errors import DeclarationError
from flowbook.graph.flow import Graph
from flowbook.graph.portable import obstacles
from flowbook.graph.source import describe
from flowbook.show.transcript import transcript_html
from flowbook.testing import ScriptedModel, memory_app


def refund(order: int) -> str:
    """Pay it back."""
    return f"order {order} is paid back"


def look_up(order: int) -> str:
    """What was ordered."""
    return f"order {order}: a lamp"


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A desk that hands over to who pays back, and gets the conversation back."""

    def system(text: str, last: str) -> Any:
        return lambda m: m[0]["content"] == text and last in str(m[-1]["content"])

    desk, payer = "You are the desk.", "You pay back."
    with ScriptedModel() as model:
        first = [("look_up", {"order": 7}), ("transfer_to_payer", {}), ("refund", {"order": 7})]
        model.on(system(desk, "my money"), calls=first)
        model.on(system(payer, "no tool"), calls=[("refund", {"order": 7})])
        model.on(system(payer, "paid back"), "Done.", calls=[("transfer_to_desk", {}), ("transfer_to_payer", {})])
        model.on(system(desk, "no tool"), "Anything else?")
        yield model


@pytest.fixture
async def app(always_suspend: bool) -> AsyncIterator[App]:
    """An app in memory."""
    async with memory_app(always_suspend=always_suspend) as app:
        yield app


def made(model: ScriptedModel, **options: Any) -> Graph:
    """The desk, with its colleague."""
    url = model.base_url
    payer = agent("payer", "You pay back.", model=Model("big", base_url=url), tools=[refund])
    return agent(
        "desk", "You are the desk.", model=Model("small", base_url=url), tools=[look_up], handoffs=[payer], **options
    )


async def test_another_agent_goes_on_with_the_conversation_and_gives_it_back(app: App, model: ScriptedModel) -> None:
    """Its instructions, its model and its tools; each call has one answer, and nobody calls another one's tools."""
    run = await app.start(made(model), {"question": "my money back"})
    assert (await run.result(timeout=60))["answer"] == "Anything else?"
    state = await run.state()
    assert [(t["agent"], t["model"]) for t in state["turns"]] == [
        ("desk", "small"), ("payer", "big"), ("payer", "big"), ("desk", "small")
    ]  # fmt: skip
    told = [m["content"] for m in state["messages"] if m["role"] == "tool"]
    assert told[:2] == ["order 7: a lamp", "payer has the conversation now."]
    assert "there is no tool 'refund'" in told[2]
    assert told[3:5] == ["order 7 is paid back", "desk has the conversation now."]
    assert "there is no tool 'transfer_to_payer'" in told[5]
    asked = {tuple(t["function"]["name"] for t in r.body["tools"]) for r in model.requests}
    assert asked == {("look_up", "transfer_to_payer"), ("refund", "transfer_to_desk")}
    assert await run.children() == []
    page = transcript_html(await run.messages())
    assert ">payer</b>" in page
    assert ">desk</b>" in page


def test_a_team_is_portable_and_what_does_not_go_together_is_told(model: ScriptedModel) -> None:
    """All of it is part of the first agent's definition."""
    assert obstacles(describe(made(model))) == ()
    assert made(model, approve=["look_up"]).fingerprint != made(model).fingerprint

    def other(order: int) -> str:
        """Something else."""
        return ""

    other.__name__ = "look_up"
    rival = agent("rival", "You differ.", model="m", tools=[other])
    with pytest.raises(DeclarationError, match="another tool 'look_up'"):
        agent("desk", "You are the desk.", model="m", tools=[look_up], handoffs=[rival])
    picky = agent("picky", "You ask.", model="m", tools=[refund], approve=lambda name, arguments: True)
    with pytest.raises(DeclarationError, match="must be names of tools"):
        agent("desk", "You are the desk.", model="m", handoffs=[picky])
    wrong: Any = refund
    with pytest.raises(DeclarationError, match="it takes agents"):
        agent("desk", "You are the desk.", model="m", handoffs=[wrong])
