"""The scripted model speaks as OpenAI's own client expects, and counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState

from flowbook.testing import ScriptedModel


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A server with no rules yet."""
    with ScriptedModel() as model:
        yield model


@pytest.fixture
async def client(model: ScriptedModel) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client, which does not ask twice."""
    async with openai.AsyncOpenAI(base_url=model.base_url, api_key="none", max_retries=0) as client:
        yield client


def user(text: str) -> list[Any]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def called(answer: Any) -> list[tuple[str, str]]:
    """(id, arguments) of the tool calls in an answer."""
    return [(c.id, c.function.arguments) for c in answer.choices[0].message.tool_calls]


async def streamed(client: openai.AsyncOpenAI, text: str) -> Any:
    """What a stream adds up to."""
    state: Any = ChatCompletionStreamState()
    options: Any = {"stream_options": {"include_usage": True}}
    async for chunk in await client.chat.completions.create(model="m", messages=user(text), stream=True, **options):
        state.handle_chunk(chunk)
    return state.get_final_completion()


async def test_an_answer_is_the_same_whole_and_streamed(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """Text, tool calls and usage; both APIs."""
    model.on("sum", "Let me add.", calls=[("add", {"a": 2, "b": 3}), ("add", {"a": 1, "b": 1})], usage=(11, 7))
    whole = await client.chat.completions.create(model="m", messages=user("the sum?"))
    again = await streamed(client, "the sum?")
    assert called(whole) == called(again)
    assert whole.choices[0].message.content == again.choices[0].message.content == "Let me add."
    assert (again.usage.prompt_tokens, again.usage.completion_tokens) == (11, 7)
    answered = await client.responses.create(model="m", input="the sum?")
    async with client.responses.stream(model="m", input="the sum?") as stream:
        final = await stream.get_final_response()
    calls = [i for i in final.output if i.type == "function_call"]
    assert [(c.name, c.arguments) for c in calls] == [("add", '{"a": 2, "b": 3}'), ("add", '{"a": 1, "b": 1}')]
    assert answered.output_text == final.output_text == "Let me add."
    assert model.count("sum") == model.count() == 4


async def test_rules_go_by_what_is_said_and_not_by_how_often(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """The first rule that fits answers, also the second time; a function sees the whole conversation."""
    model.on(lambda messages: len(messages) > 1, "long").on("hello", "hi").on("", "other", model="n")
    for _ in range(2):
        said = await client.chat.completions.create(model="m", messages=user("hello"))
        assert said.choices[0].message.content == "hi"
    longer = await client.chat.completions.create(model="m", messages=[*user("hello"), *user("hello")])
    assert longer.choices[0].message.content == "long"
    with pytest.raises(openai.BadRequestError, match="no answer to 'unknown'"):
        await client.chat.completions.create(model="m", messages=user("unknown"))
    assert model.count("hello") == 3


async def test_it_fails_as_it_was_told_and_then_answers(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """Statuses, cut connections and cut streams, each once."""
    model.on("x", "a longer answer", fails=[429, 500, 0], cut_after=2)
    for error in (openai.RateLimitError, openai.InternalServerError, openai.APIConnectionError):
        with pytest.raises(error):
            await client.chat.completions.create(model="m", messages=user("x"), stream=True)
    with pytest.raises(Exception, match=r"peer closed|incomplete|disconnect|Connection"):
        await streamed(client, "x")
    assert (await streamed(client, "x")).choices[0].message.content == "a longer answer"
    assert model.count() == 5
