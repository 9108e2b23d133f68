"""An agent in memory, against a scripted model: what it asks, what it calls, and what it does when things go wrong."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pydantic
import pytest

from flowbook.agents.loop import agent
from flowbook.agents.settings import Budget, Model
from flowbook.app import App
from flowbook.errors import AlreadyAnswered, BudgetReached, DeclarationError, StateError, TurnsReached
from flowbook.graph.flow import Graph
from flowbook.graph.portable import obstacles
from flowbook.graph.rebuild import rebuild
from flowbook.graph.sign import sign
from flowbook.graph.source import describe
from flowbook.graph.step import step
from flowbook.observe import events
from flowbook.observe.views import RunView
from flowbook.plan import snapshots
from flowbook.testing import ScriptedModel, memory_app


class City(pydantic.BaseModel):
    """A form of answer."""

    name: str
    people: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def fail(why: str) -> str:
    """Fail."""
    raise RuntimeError(why)


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A server with no rules yet."""
    with ScriptedModel() as model:
        yield model


@pytest.fixture
async def app(always_suspend: bool) -> AsyncIterator[App]:
    """An app in memory."""
    async with memory_app(always_suspend=always_suspend) as app:
        yield app


def made(model: ScriptedModel, **options: Any) -> Graph:
    """An agent that asks the scripted model."""
    at = Model("m", base_url=model.base_url, api=options.pop("api", "chat"))
    return agent("helper", "You help.", model=at, **{"tools": [add, fail], **options})


async def asked(app: App, it: Graph, question: str, **more: Any) -> tuple[Any, RunView]:
    """The answer to a question, and the run."""
    run = await app.start(it, {"question": question, **more})
    result = await run.result(timeout=60)
    return result["answer"], await run.view()


def messages(view: RunView) -> list[dict[str, Any]]:
    """The conversation of a run."""
    return [m for s in view.steps if "/" not in s.path and s.result for m in s.result["messages"]]


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_tools_are_called_together_and_each_is_a_step(app: App, model: ScriptedModel, api: str) -> None:
    """Every call has its own path, and its result goes back to the model under its id."""
    model.on("sums", calls=[("add", {"a": 2, "b": 3}), ("add", {"a": 1, "b": 1})]).on("2", "5 and 2.")
    answer, view = await asked(app, made(model, api=api), "two sums")
    assert answer == "5 and 2."
    assert {s.path for s in view.steps} == {
        "ask_model#1", "run_tools#1/answered#1/add#1", "run_tools#1/answered#2/add#1", "run_tools#1", "ask_model#2"
    }  # fmt: skip
    said = messages(view)
    assert [m["role"] for m in said] == ["user", "assistant", "tool", "tool", "assistant"]
    assert [m["content"] for m in said[2:4]] == ["5", "2"]
    assert [m["tool_call_id"] for m in said[2:4]] == [c["id"] for c in said[1]["tool_calls"]]
    assert model.count() == 2
    system = model.requests[0].body.get("messages", model.requests[0].body.get("input"))[0]
    assert system == {"role": "system", "content": "You help."}


async def test_what_goes_wrong_with_a_call_is_told_to_the_model(app: App, model: ScriptedModel) -> None:
    """An exception, arguments that do not fit, broken JSON, a tool that is not there: each call has one answer."""
    model.on("go", calls=[("fail", {"why": "no disk"}), ("add", {"a": "x", "b": 1}), ("add", "{broken"), ("sing", {})])
    model.on("no tool 'sing'", "I see.")
    answer, view = await asked(app, made(model), "go")
    assert answer == "I see."
    told = [m["content"] for m in messages(view) if m["role"] == "tool"]
    assert told[0] == "Error: RuntimeError: no disk"
    assert "a: Input should be a valid integer" in told[1]
    assert "no JSON" in told[2]
    assert told[3] == "Error: there is no tool 'sing'; there are: add, fail"


async def test_an_answer_in_a_form_is_asked_for_until_it_fits(app: App, model: ScriptedModel) -> None:
    """The model is told what is wrong; the result is the value itself."""

    model.on("Where", '{"name": "Bonn"}').on("people: Field required", '```json\n{"name": "Bonn", "people": 3}\n```')
    answer, view = await asked(app, made(model, output=City), "Where?")
    assert answer == City(name="Bonn", people=3)
    assert [m["role"] for m in messages(view)] == ["user", "assistant", "user", "assistant"]
    assert model.requests[0].body["response_format"]["json_schema"]["name"] == "City"


async def test_an_answer_that_never_fits_fails_the_run(app: App, model: ScriptedModel) -> None:
    """Not for ever: twice it may try again."""
    model.on("", "no idea")
    with pytest.raises(pydantic.ValidationError):
        await asked(app, made(model, output=dict), "Where?")
    assert model.count() == 3


async def test_what_is_worth_another_attempt_is_asked_again(
    app: App, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits, server errors, cut connections and streams; a bad request is not."""
    from flowbook.agents import loop
    from flowbook.graph.step import Backoff

    monkeypatch.setattr(loop, "BACKOFF", Backoff(initial=0.01, factor=1.0, max=0.01))
    model.on("hello", "hello you there", fails=[429, 500, 0], cut_after=2)
    answer, view = await asked(app, made(model), "hello")
    assert answer == "hello you there"
    assert model.count() == 5
    failures = [a.failure.type for s in view.steps for a in s.attempts if a.failure]
    assert failures == ["openai.RateLimitError", "openai.InternalServerError", *["openai.APIConnectionError"] * 2]
    with pytest.raises(Exception, match="no answer to 'unknown'"):
        await asked(app, made(model), "unknown")
    assert model.count("unknown") == 1


async def test_a_fallback_answers_and_the_journal_says_which(app: App, model: ScriptedModel) -> None:
    """The turn names the model, and what the one before it said."""
    model.on("hi", "from the second", model="second")
    it = made(model, fallback=[Model("second", base_url=model.base_url)])
    answer, view = await asked(app, it, "hi")
    assert answer == "from the second"
    (turn,) = view.steps[0].result["turns"]
    assert turn["model"] == "second"
    assert "before that, m: BadRequestError" in turn["troubles"][0]


async def test_turns_are_limited_and_a_fork_goes_on_with_more(app: App, model: ScriptedModel) -> None:
    """It stops before it asks; nothing that was asked is asked again."""
    model.on("", calls=[("add", {"a": 1, "b": 1})])
    run = await app.start(made(model, max_turns=3), {"question": "for ever"})
    with pytest.raises(TurnsReached, match="asked its model 3 times") as reached:
        await run.result(timeout=60)
    assert model.count() == 3
    assert "run.retry(budget={'turns': 40})" in str(reached.value)
    more = await run.fork(at="ask_model#4", budget={"turns": 5})
    with pytest.raises(TurnsReached, match="asked its model 5 times"):
        await more.result(timeout=60)
    assert model.count() == 5
    again = await run.retry(budget={"turns": 4})
    with pytest.raises(TurnsReached, match="asked its model 4 times"):
        await again.result(timeout=60)
    assert again.id == run.id
    assert model.count() == 6
    with pytest.raises(StateError, match="budgets"):
        await run.retry(budgets={"turns": 9})


async def test_a_budget_is_checked_before_each_call(app: App, model: ScriptedModel) -> None:
    """In tokens, and in USD where the price is known."""
    model.on("", calls=[("add", {"a": 1, "b": 1})], usage=(1_000, 100))
    with pytest.raises(BudgetReached, match="used 2,200 of 2,000 tokens"):
        await asked(app, made(model, budget=Budget(tokens=2_000)), "go")
    assert model.count() == 2
    priced = Model("m", base_url=model.base_url, price=(1.0, 10.0))
    it = agent("rich", "", model=priced, tools=[add], budget=Budget(usd=0.003))
    with pytest.raises(BudgetReached, match=r"spent \$0.0040 of \$0.0030"):
        await asked(app, it, "go")
    assert model.count() == 4


async def test_a_run_goes_on_with_a_larger_budget(app: App, model: ScriptedModel) -> None:
    """Where it stopped: nothing that was paid is paid again. The limit is checked against what is left unpriced."""
    model.on(lambda m: len(m) < 7, calls=[("add", {"a": 1, "b": 1})], usage=(1_000, 100)).on("2", "done")
    run = await app.start(made(model, budget=Budget(tokens=2_000)), {"question": "go"})
    with pytest.raises(BudgetReached, match=r"run.retry\(budget="):
        await run.result(timeout=60)
    with pytest.raises(DeclarationError, match="whose price is not known"):
        await (await run.retry(budget={"usd": 1.0})).result(timeout=60)
    await run.retry(budget=Budget(tokens=1_000_000))
    assert (await run.result(timeout=60))["answer"] == "done"
    assert model.count() == 4
    retried = [e async for e in run.stream() if isinstance(e, events.RunRetried)]
    assert len(retried) == 2


async def test_time_is_a_budget(app: App, model: ScriptedModel) -> None:
    """Counted from the start of the run; checked before each call."""

    @step(name="doze")
    async def doze() -> str:
        """Take a while."""
        await asyncio.sleep(0.2)
        return "slept"

    model.on("go", calls=[("doze", {})]).on("slept", "rested")
    run = await app.start(made(model, tools=[doze], budget=Budget(time="150ms")), {"question": "go"})
    with pytest.raises(BudgetReached, match="of 150ms"):
        await run.result(timeout=60)
    assert model.count() == 1
    await run.retry(budget={"time": "1h"})
    assert (await run.result(timeout=60))["answer"] == "rested"


async def test_runs_share_a_budget(app: App, model: ScriptedModel) -> None:
    """It is counted under its name, whichever agent spends; a run that is stopped goes on with a larger one."""
    priced = Model("m", base_url=model.base_url, price=(1.0, 10.0))
    model.on("", "said", usage=(1_000, 100))  # $0.002
    one, other = (agent(name, "", model=priced, budget=Budget(usd=0.005, shared="team")) for name in ("one", "other"))
    for it in (one, other, one):
        await asked(app, it, "go")
    spent = await app.spent("team")
    assert (round(spent.usd, 6), spent.tokens, spent.calls) == (0.006, 3_300, 3)
    run = await app.start(other, {"question": "go"})
    with pytest.raises(BudgetReached, match=r"share the budget 'team' have used \$0.0060 of \$0.0050"):
        await run.result(timeout=60)
    assert model.count() == 3
    await run.retry(budget={"usd": 1.0})
    assert (await run.result(timeout=60))["answer"] == "said"
    assert (await app.spent("team")).calls == 4


async def test_what_a_server_refused_is_not_spent(app: App, model: ScriptedModel) -> None:
    """And what nobody knows of counts as it was expected: a stream that broke may have been paid."""
    priced = Model("m", base_url=model.base_url, price=(1.0, 10.0))
    model.on("bad", "no", fails=[400])
    model.on("cut", "one two three four", cut_after=2, usage=(1_000, 100))
    it = agent("one", "", model=priced, budget=Budget(usd=5, shared="team"), retries=0)
    with pytest.raises(Exception, match="the script says"):
        await asked(app, it, "bad")
    assert (await app.spent("team")).usd == 0
    with pytest.raises(Exception, match=r"(?s).*"):
        await asked(app, it, "cut")
    assert (await app.spent("team")).usd == pytest.approx(0.005)


def test_a_budget_in_usd_is_refused_where_a_price_is_unknown() -> None:
    """It would be no budget."""
    with pytest.raises(DeclarationError, match="whose price is not known"):
        agent("a", "", model="somebodys-own-model", budget=Budget(usd=1))
    agent("a", "", model="gpt-4.1-mini", budget=Budget(usd=1))


async def test_another_agent_is_a_tool(app: App, model: ScriptedModel) -> None:
    """It runs as a child, and its answer is the tool's result."""
    expert = agent("expert", "You know.", model=Model("e", base_url=model.base_url), tools=[])
    model.on("deep", "42", model="e").on("ask", calls=[("expert", {"question": "deep?"})]).on("42", "It is 42.")
    answer, view = await asked(app, made(model, tools=[expert]), "ask the expert")
    assert answer == "It is 42."
    assert next(s for s in view.steps if s.path.endswith("/expert#1")).child is not None


async def test_history_decides_what_a_model_is_shown(app: App, model: ScriptedModel) -> None:
    """The conversation itself is kept whole."""
    model.on("go", calls=[("add", {"a": 1, "b": 1})]).on("2", "done")
    _, view = await asked(app, made(model, history=lambda messages: messages[-3:]), "go", messages=[
        {"role": "user", "content": "earlier"}, {"role": "assistant", "content": "yes"}])  # fmt: skip
    assert [len(r.messages) for r in model.requests] == [4, 4]
    assert len(messages(view)) == 4


async def test_approval_is_asked_for_each_call_by_itself(app: App, model: ScriptedModel) -> None:
    """Approved, with other arguments, refused with a reason, answered in the tool's place: in any order."""
    done: list[tuple[int, int]] = []

    @step(name="pay")
    def pay(a: int, b: int) -> str:
        """Pay."""
        done.append((a, b))
        return f"paid {a}"

    calls = [("pay", {"a": n, "b": 0}) for n in range(1, 5)]
    model.on("go", calls=calls).on("by hand", "all told")
    run = await app.start(made(model, tools=[pay], approve=["pay"]), {"question": "go"})
    view = await run.view()
    while sum(s.wait is not None for s in view.steps) < 4:
        await asyncio.sleep(0.02)
        view = await run.view()
    assert done == []
    first, second, third, fourth = (s.path for s in view.steps if s.wait)
    await run.answer(fourth, "answered", result="by hand")
    await run.reject(third, "too dear")
    await run.approve(second, edit={"a": 20, "b": 0}, by="ana")
    await run.approve(first)
    assert (await run.result(timeout=60))["answer"] == "all told"
    told = [m["content"] for m in messages(await run.view()) if m["role"] == "tool"]
    assert told == ["paid 1", "paid 20", "Refused by a person: too dear", "by hand"]
    assert sorted(done) == [(1, 0), (20, 0)]
    with pytest.raises(AlreadyAnswered, match="ana"):
        await run.reject(second, "too late")


async def test_a_predicate_says_which_calls_need_leave(app: App, model: ScriptedModel) -> None:
    """By the arguments, after they were checked."""
    model.on("go", calls=[("add", {"a": 1, "b": 1})]).on("2", "small sums are free")
    it = made(model, approve=lambda name, arguments: arguments["a"] > 100)
    assert (await asked(app, it, "go"))[0] == "small sums are free"


def test_an_agent_is_portable() -> None:
    """Its tools, its form of answer and its settings are part of the definition, and it is put together from that."""
    it = agent("helper", "You help.", model="m", tools=[add, fail], approve=["fail"])
    described = describe(it)
    assert obstacles(described) == ()
    spec, sources = json.loads(json.dumps([described.spec, described.sources]))
    signature = sign(b"key", "default", it.name, it.fingerprint, spec, sources)
    stored: Any = SimpleNamespace(
        namespace="default", flow=it.name, fingerprint=it.fingerprint, spec=spec, sources=sources, signature=signature
    )
    again = rebuild(stored, key=b"key")
    assert again.fingerprint == it.fingerprint
    assert describe(agent("helper", "You help much.", model="m", tools=[add, fail], approve=["fail"])).fingerprint != (
        it.fingerprint
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"approve": ["sing"]}, "no such tool"),
        ({"max_turns": 0}, "may not ask once"),
        ({"model": ""}, "a model's name"),
        ({"instructions": None}, "they are a text"),
    ],
)
def test_mistakes_are_told_where_the_agent_is_declared(options: dict[str, Any], why: str) -> None:
    """With the name of the option."""
    given = {"instructions": "", "model": "m", "tools": [add], **options}
    with pytest.raises(DeclarationError, match=why):
        agent("helper", given.pop("instructions"), **given)


async def test_each_message_is_stored_once(app: App, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and snapshots together have little more bytes than the messages, however long the conversation is."""
    monkeypatch.setattr(snapshots, "FIRST", 20)
    turns = 25

    @step(name="look")
    def look(n: int) -> str:
        """Look."""
        return f"{n} was looked at. " * 50

    def after(turn: int) -> Any:
        return lambda messages: sum(m["role"] == "assistant" for m in messages) == turn

    for n in range(turns):
        model.on(after(n), f"{n} comes next. " * 60, calls=[("look", {"n": n})] if n < turns - 1 else [])
    it = made(model, tools=[look], max_turns=turns)
    run = await app.start(it, {"question": "go"})
    await run.result(timeout=60)
    said = sum(len(json.dumps(m)) for m in (await run.state())["messages"])
    rows = await app.store.history(run.id)
    assert len(rows) > 3 * turns - 2
    newest = await app.store.newest(run.id, snapshots.tag(it))
    assert sum(len(e.payload) for e in rows) + (len(newest.payload) if newest else 0) <= 1.3 * said
