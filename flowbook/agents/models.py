"""Models: one question to an OpenAI-compatible server, streamed, and the answer as data.

Owns: the clients, the two APIs (chat completions and responses), trying the fallbacks, what a turn says of its cost.
Refuses: conversations (`loop.py`): it is given the messages, and gives back one more.

Messages are kept in the form of chat completions, whichever API answers: a conversation may change its model. A key is
read from the environment by the openai package, and is in no value that is stored.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowbook.agents.dialects import for_chat, items
from flowbook.agents.pricing import cost
from flowbook.agents.settings import Model
from flowbook.errors import AnswerCut, AnswerTooLong, ModelFailed
from flowbook.graph.resource import resource
from flowbook.secret import Secret, register

WORTH_ANOTHER = (
    "APIConnectionError",
    "APITimeoutError",
    "RateLimitError",
    "InternalServerError",
    "AnswerCut",
    "ModelFailed",
    "StepTimeout",
)
"""Exceptions after which asking again may help."""
LONGEST = 2_000_000
"""Characters of an answer: a model that goes on and on is stopped."""
NO_KEY = "none"
"""Sent to servers of one's own where no key is set."""

Message = dict[str, Any]
OnText = Callable[[str], Awaitable[None]]
"""Told each piece of the answer's text as it comes."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a model is asked."""

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]]
    output: tuple[str, Mapping[str, Any]] | None = None
    """(name, JSON schema) that the answer is to fit; None: it is text."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    message: Message
    turn: dict[str, Any]
    """Model, tokens (in, out, cached), usd, seconds; thinking where there is some."""


class Clients:
    """The clients of one app, one per endpoint and key: a client belongs to its event loop."""

    def __init__(self) -> None:
        self._made: dict[tuple[str | None, Any], Any] = {}

    async def of(self, model: Model) -> Any:
        """The ``AsyncOpenAI`` for a model. Raises ``openai.OpenAIError`` where no key is set."""
        at = model.base_url, model.api_key
        if at not in self._made:
            openai = await asyncio.to_thread(importlib.import_module, "openai")  # takes a second, the first time
            if at not in self._made:  # nobody else was first meanwhile
                self._made[at] = _client(openai, model)
        return self._made[at]

    async def close(self) -> None:
        """Close all connections."""
        for client in self._made.values():
            await client.close()


def _client(openai: Any, model: Model) -> Any:
    # Trying again is the step's: its attempts are in the journal, and each is asked for.
    options: dict[str, Any] = {"max_retries": 0}
    if model.base_url is not None:
        options["base_url"] = model.base_url
    if isinstance(model.api_key, Secret):
        options["api_key"] = model.api_key.get()
    elif (model.base_url or os.environ.get("OPENAI_BASE_URL")) and not os.environ.get("OPENAI_API_KEY"):
        options["api_key"] = NO_KEY
    client = openai.AsyncOpenAI(**options)
    register("OPENAI_API_KEY" if model.api_key is None else str(model.api_key), client.api_key)
    return client


@resource
async def model_clients() -> AsyncIterator[Clients]:
    """The clients that live as long as the app."""
    clients = Clients()
    yield clients
    await clients.close()


async def answer(clients: Clients, models: Sequence[Model], question: Question, on_text: OnText) -> Answer:
    """Ask the first model, and the next one if it does not answer.

    Raises what the last one raised, with what the others said as notes; `AnswerCut` for a stream that ended too early,
    `AnswerTooLong`, `ModelFailed` for an answer with nothing in it.
    """
    troubles: list[str] = []
    for model in models:
        began = time.perf_counter()
        try:
            client = await clients.of(model)
            ask = _responses if model.api == "responses" else _chat
            message, (given, made, cached), thinking, short = await ask(
                client, model, question, _counted(model, on_text)
            )
        except Exception as error:
            if model is models[-1]:
                for trouble in troubles:
                    error.add_note(trouble)
                raise
            troubles.append(f"before that, {model.name}: {type(error).__name__}: {error}")
            continue
        turn: dict[str, Any] = {
            "model": model.name,
            "in": given,
            "out": made,
            "cached": cached,
            "usd": cost(model, given, made, cached),
            "seconds": round(time.perf_counter() - began, 3),
        }
        if thinking:
            turn["thinking"] = thinking
        if short:
            troubles.append("its answer was cut off at the limit of its tokens")
        if troubles:
            turn["troubles"] = troubles
        return Answer(message, turn)
    raise ModelFailed("an agent has at least one model")


Told = tuple[Message, tuple[int, int, int], str, bool]
"""A message, tokens (in, out, cached), what the model thought before, and whether its limit of tokens cut it off."""


def _counted(model: Model, on_text: OnText) -> OnText:
    """Hands pieces on until there are too many of them."""
    length = 0

    async def counted(text: str) -> None:
        nonlocal length
        length += len(text)
        if length > LONGEST:
            raise AnswerTooLong(
                f"{model.name} has answered with more than {LONGEST:,} characters, and was not listened to any longer: "
                "nothing of it is kept. Give it a limit of tokens, or clearer instructions"
            )
        await on_text(text)

    return counted


_CUT = "{} stopped in the middle of its answer; what had come is not kept as an answer"


async def _chat(client: Any, model: Model, question: Question, on_text: OnText) -> Told:
    from openai.lib.streaming.chat import ChatCompletionStreamState

    options: dict[str, Any] = {}
    if question.tools:
        options["tools"] = list(question.tools)
    if question.output is not None:
        name, schema = question.output
        options["response_format"] = {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}
    stream = await client.chat.completions.create(
        model=model.name, messages=[], stream=True, stream_options={"include_usage": True},
        extra_body=_as_it_is(messages=for_chat(question.messages)), **options,
    )  # fmt: skip
    state: Any = ChatCompletionStreamState()
    thinking: list[str] = []
    reason = usage = None
    async with stream:
        async for chunk in stream:
            state.handle_chunk(chunk)
            usage = chunk.usage or usage
            for choice in chunk.choices:
                reason = choice.finish_reason or reason
                extra = choice.delta.model_extra or {}
                thinking.append(extra.get("reasoning_content") or extra.get("reasoning") or "")
                if choice.delta.content:
                    await on_text(choice.delta.content)
    if reason is None:
        raise AnswerCut(_CUT.format(model.name))
    said = state.current_completion_snapshot.choices[0].message  # the final one refuses what was cut off
    calls = [(c.id, c.function.name, c.function.arguments) for c in said.tool_calls or ()]
    message = _message(model, said.content or said.refusal or "", calls)
    cached = getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", 0) or 0
    tokens = (0, 0, 0) if usage is None else (usage.prompt_tokens, usage.completion_tokens, cached)
    return message, tokens, "".join(thinking), reason == "length"


def _as_it_is(**conversation: Sequence[Message]) -> dict[str, Any]:
    """A conversation on its way around the client's check of each of its parts: of 1,600 messages it takes 0.3 s."""
    return {name: list(messages) for name, messages in conversation.items()}


async def _responses(client: Any, model: Model, question: Question, on_text: OnText) -> Told:
    options: dict[str, Any] = {}
    if question.tools:
        options["tools"] = [{"type": "function", "strict": False, **t["function"]} for t in question.tools]
    if question.output is not None:
        name, schema = question.output
        options["text"] = {"format": {"type": "json_schema", "name": name, "schema": schema, "strict": False}}
    whole: Any = None
    stream = await client.responses.create(
        model=model.name, input=[], stream=True, store=False,
        extra_body=_as_it_is(input=items(question.messages)), **options,
    )  # fmt: skip
    async with stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                await on_text(event.delta)
            elif event.type in ("response.failed", "error"):
                error = getattr(getattr(event, "response", event), "error", None)
                raise ModelFailed(f"{model.name}: {getattr(error, 'message', error) or event}")
            elif event.type in ("response.completed", "response.incomplete"):
                whole = event.response
    if whole is None:
        raise AnswerCut(_CUT.format(model.name))
    calls = [(i.call_id, i.name, i.arguments) for i in whole.output if i.type == "function_call"]
    message = _message(model, whole.output_text, calls)
    summaries = [s.text for i in whole.output if i.type == "reasoning" for s in i.summary]
    usage = whole.usage
    cached = getattr(getattr(usage, "input_tokens_details", None), "cached_tokens", 0) or 0
    tokens = (0, 0, 0) if usage is None else (usage.input_tokens, usage.output_tokens, cached)
    return message, tokens, "\n".join(summaries), whole.status == "incomplete"


def _message(model: Model, text: str, calls: Sequence[tuple[str, str, str]]) -> Message:
    if not text and not calls:
        raise ModelFailed(f"{model.name} answered with nothing: no text and no tool call")
    message: Message = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": i, "type": "function", "function": {"name": name, "arguments": arguments}}
            for i, name, arguments in calls
        ]
    return message
