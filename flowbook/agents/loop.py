"""The loop: an agent as an ordinary graph, ``ask_model >> run_tools >> ask_model``.

Owns: `agent`, the state of a conversation, and when it goes on, begins again or ends. Refuses: asking (`models.py`)
and calling tools (`calling.py`).

It is a graph like any other: what is journalled is never asked again, tool calls are steps of their own, and whatever
works on runs (resume, fork, compare, widgets, workers) works on it. Each message is stored once, as what the step that
made it adds to the state.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

from flowbook.agents.calling import Approve, answered
from flowbook.agents.handing import Member, Team, handed, keep, offered, speaker, team_of, tools_of
from flowbook.agents.limits import Limits
from flowbook.agents.mcp import Sessions, mcp_sessions
from flowbook.agents.models import WORTH_ANOTHER, Answer, Clients, Message, Question, answer, model_clients
from flowbook.agents.parts import content
from flowbook.agents.pricing import check_priced
from flowbook.agents.settings import Budget, Model, Settings, asked_instead, models_of
from flowbook.agents.tools import runnable, tool_of
from flowbook.codec import fresh
from flowbook.errors import DeclarationError
from flowbook.graph.binding import Uncopied, uncopied
from flowbook.graph.durations import Duration
from flowbook.graph.expression import END_NODE, START_NODE, branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.step import Backoff, step

MAX_TURNS = 20
RECURSION = 1_000_000
"""Turns are limited per question; a conversation may have many."""
AGAIN = 2
"""How often a model may try again to answer in the form that is wanted."""
BACKOFF = Backoff(initial=1.0, factor=2.0, max=30.0, jitter=True)

Trim = Callable[[list[Message]], list[Message]]


class Conversation(TypedDict, total=False):
    """The state of an agent's run."""

    question: Any
    """What is asked: a text, or content parts (images, files) as chat completions take them."""
    messages: Annotated[list[Message], operator.add]
    """In the form of chat completions, without the instructions."""
    turns: Annotated[list[dict[str, Any]], operator.add]
    """One record for each answer of a model: model, tokens, cost, seconds."""
    answer: Any
    """The last answer's text, or what it says as ``output=`` wants it."""
    active: str
    """The agent that has got the conversation; left out: the one whose run it is."""
    budget: Any
    """Limits of this run in place of the agent's: an `fb.Budget`, or ``{"usd": 1.0, "turns": 40}``."""
    model: Any
    """Who is asked in this run in place of the agent's models: a name, or an `fb.Model`."""
    instructions: str
    """What it is told in this run in place of the agent's instructions."""


def agent(
    name: str,
    instructions: str,
    *,
    model: str | Model,
    tools: Sequence[Any] = (),
    output: type | None = None,
    approve: Approve = (),
    max_turns: int = MAX_TURNS,
    budget: Budget | None = None,
    fallback: Sequence[str | Model] = (),
    timeout: Duration | None = "10m",
    retries: int = 4,
    history: Trim | None = None,
    handoffs: Sequence[Graph] = (),
) -> Graph:
    """An agent: a model, its instructions and its tools, as a flow.

        researcher = fb.agent("researcher", "You are careful.", model="gpt-4.1-mini", tools=[search, add])
        researcher.run(question="What changed?")["answer"]

    ``tools``: functions with type hints and docstrings, steps (for retries and time limits of their own), other agents.
    ``output``: a pydantic model that the answer is to fit; an answer that does not is asked for again. ``approve``:
    names of tools, or a function of (name, arguments), whose calls wait until somebody has agreed. ``max_turns`` and
    ``budget`` are checked before each call of a model. ``fallback``: models for when the one before does not answer.
    ``timeout`` and ``retries`` are of one call of a model. ``history``: what of the messages a model is shown.
    ``handoffs``: agents to whom the model may hand the conversation over, which then goes on with their instructions,
    models and tools; limits stay those of this agent.

    Raises `DeclarationError` for tools without a schema, and for a budget in USD with a model that has no known price.
    """
    if not isinstance(instructions, str):
        raise DeclarationError(f"instructions={instructions!r}: they are a text")
    if max_turns < 1:
        raise DeclarationError(f"max_turns={max_turns!r}: an agent that may not ask once cannot answer")
    called = runnable(tools)
    if not callable(approve) and (unknown := set(approve) - called.keys()):
        raise DeclarationError(f"approve={sorted(unknown)!r}: no such tool; there are {sorted(called)!r}")
    models = models_of(model, fallback)
    settings = Settings(name, instructions, models, max_turns, budget or Budget()).stored
    member = Member(settings, called, approve if callable(approve) else tuple(approve), output, tuple(handoffs))
    team, called, leaves = team_of(member)
    leave = member.approve if callable(approve) or not team else leaves
    if budget is not None and budget.usd is not None:
        for one in (settings, *(it["settings"] for it in team.values())):
            check_priced(Settings.of(one).models)

    @step(retries=retries, timeout=timeout, backoff=BACKOFF, retry_on=WORTH_ANOTHER)
    async def ask_model(state: Uncopied, ctx: Any, model_clients: Clients) -> Any:
        return await turn(settings, team, called, output, history, state, ctx, model_clients)

    @step
    async def run_tools(state: Uncopied, ctx: Any, mcp_sessions: Sessions) -> Any:  # for the tools that need them
        return await tools_run(settings, team, called, leave, state, ctx)

    ways = {"tools": run_tools, "again": ask_model, "end": END_NODE}
    made = graph(
        name,
        START_NODE >> ask_model >> branch(goes_on, ways),
        run_tools >> ask_model,
        state=Conversation,
        outputs=("answer",),
        freeze={"settings": settings, "team": team} | ({} if called else {"called": {}}),
        resources=[model_clients, mcp_sessions],
        recursion_limit=RECURSION,
    )
    return keep(made, member)


@uncopied
def goes_on(state: Any) -> str:
    """Where a conversation goes after an answer."""
    last = state["messages"][-1]
    if last["role"] == "user":
        return "again"
    return "tools" if last.get("tool_calls") else "end"


async def tools_run(stored: Any, team: Team, called: Any, leave: Approve, state: Any, ctx: Any) -> dict[str, Any]:
    """Call what a model wants called: what it adds to the conversation, and who has that next."""
    speaks = speaker(team, Settings.of(stored), state).name
    calls = state["messages"][-1]["tool_calls"]
    to, answers = handed(team, speaks, calls)
    own = tools_of(team, speaks, called)
    rest = await ctx.gather(*(answered(c, own, leave, ctx) for c in calls if c["id"] not in answers))
    others = iter(rest)
    messages = [
        {"role": "tool", "tool_call_id": c["id"], "content": answers[c["id"]]} if c["id"] in answers else next(others)
        for c in calls
    ]
    return {"messages": messages} | ({} if to is None else {"active": to})


async def turn(
    stored: Any,
    team: Team,
    called: Any,
    output: type | None,
    history: Trim | None,
    state: Any,
    ctx: Any,
    clients: Clients,
) -> dict[str, Any]:
    """Ask a model once: what it adds to the conversation. Raises `BudgetReached` and `TurnsReached` before it asks."""
    own = asked_instead(Settings.of(stored), state.get("model"), state.get("instructions"))
    settings = speaker(team, own, state)
    turns, messages = state.get("turns") or [], list(state.get("messages") or [])
    limits = Limits.of(own, state.get("budget"))
    limits.check(turns, ctx)
    new: list[Message] = []
    if not turns:
        new.append({"role": "user", "content": content(state["question"])})
    shown: Any = [*messages, *new]
    if history is not None:
        copies: Any = fresh(shown)
        shown = history(copies)
    system = [{"role": "system", "content": settings.instructions}] if settings.instructions else []
    question = Question(
        [*system, *shown],
        [
            *(tool_of(tool).declared for tool in tools_of(team, settings.name, called).values()),
            *offered(team, settings.name),
        ],
        None if output is None else (output.__name__, _schema(output)),
    )
    async with limits.within(turns, question.messages, ctx) as answers:
        said = await answer(clients, settings.models, question, _streaming(ctx))
        answers.append(said)
    new.append(said.message)
    update: dict[str, Any] = {"messages": new, "turns": [said.turn | ({"agent": settings.name} if team else {})]}
    if said.message.get("tool_calls"):
        return update
    if output is None:
        return update | {"answer": said.message["content"]}
    return update | _fitted(output, said, new, [*messages, *new])


def _fitted(output: type, said: Answer, new: list[Message], messages: Sequence[Message]) -> dict[str, Any]:
    """The answer in the form that is wanted, or one more message that says what is wrong with it."""
    import pydantic

    text = said.message["content"]
    try:
        return {"answer": pydantic.TypeAdapter(output).validate_json(_bare(text))}
    except pydantic.ValidationError as error:
        tries = sum(m["role"] == "user" and str(m["content"]).startswith(_UNFIT) for m in messages)
        if tries >= AGAIN:
            raise
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        return {"messages": [*new, {"role": "user", "content": f"{_UNFIT} {wrong}. Answer again, with JSON alone."}]}


_UNFIT = "The answer does not fit the schema:"


def _bare(text: str) -> str:
    """JSON out of the fence that many models put around it."""
    text = text.strip()
    if text.startswith("```") and text.endswith("```"):
        text = text[3:-3].removeprefix("json")
    return text


def _schema(output: type) -> dict[str, Any]:
    import pydantic

    return pydantic.TypeAdapter(output).json_schema()


def _streaming(ctx: Any) -> Callable[[str], Any]:
    async def on_text(text: str) -> None:
        await ctx.stream(text)

    return on_text
