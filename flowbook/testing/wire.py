"""The wire of OpenAI-compatible servers: one scripted reply, told in the words of either API.

Owns: the shapes of chat completions and responses, whole and streamed. Refuses: sockets and choosing (`model.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Reply:
    """What the model says."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    """(tool, arguments as JSON)."""
    pace: float = 0.0
    cut_after: int | None = None
    usage: tuple[int, int] | None = None
    thinking: str = ""
    finish: str = ""
    """Why it ended, where it is not the usual reason: ``length``."""

    def tokens(self, body: Mapping[str, Any]) -> tuple[int, int]:
        """(in, out), by the usual rule of thumb of four characters each where nothing else was said."""
        said = self.text + self.thinking + "".join(a for _, a in self.calls)
        return self.usage or (max(1, len(json.dumps(body)) // 4), max(1, len(said) // 4))

    def call_id(self, number: int, body: Mapping[str, Any]) -> str:
        """The same each time the same is asked."""
        seen = json.dumps([body.get("messages") or body.get("input"), number], sort_keys=True)
        return "call_" + hashlib.blake2b(seen.encode(), digest_size=8).hexdigest()


class Dialect(Protocol):
    """One API."""

    named: bool
    """Do its events have names of their own?"""

    def messages(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The conversation in a request."""

    def whole(self, model: str, body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
        """The answer that is not streamed."""

    def pieces(self, model: str, body: Mapping[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
        """The answer as events."""


def words(text: str) -> list[str]:
    """A text in pieces such as models send."""
    return re.findall(r"\S+\s*|\s+", text)


class Chat:
    """``POST /v1/chat/completions``."""

    named = False

    def messages(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The conversation in a request."""
        return list(body.get("messages", ()))

    def whole(self, model: str, body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
        """The answer that is not streamed."""
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        if reply.thinking:
            message["reasoning_content"] = reply.thinking
        if reply.calls:
            message["tool_calls"] = self._calls(reply, body)
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if reply.calls else "stop"}
        return self._frame(model, "chat.completion") | {"choices": [choice], "usage": self._usage(reply, body)}

    def pieces(self, model: str, body: Mapping[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
        """The answer as events."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning_content": word} for word in words(reply.thinking)]
        deltas += [{"content": word} for word in words(reply.text)]
        for number, call in enumerate(self._calls(reply, body)):
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            first, rest = arguments[: len(arguments) // 2], arguments[len(arguments) // 2 :]
            start = {"index": number, "id": call["id"], "type": "function"}
            deltas.append({"tool_calls": [start | {"function": {"name": name, "arguments": first}}]})
            deltas.append({"tool_calls": [{"index": number, "function": {"arguments": rest}}]})
        frame = self._frame(model, "chat.completion.chunk")
        for delta in deltas:
            yield frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        reason = reply.finish or ("tool_calls" if reply.calls else "stop")
        yield frame | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
        if (body.get("stream_options") or {}).get("include_usage"):
            yield frame | {"choices": [], "usage": self._usage(reply, body)}

    @staticmethod
    def _frame(model: str, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-scripted", "object": kind, "created": 0, "model": model}

    @staticmethod
    def _calls(reply: Reply, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [
            {"id": reply.call_id(n, body), "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, (name, arguments) in enumerate(reply.calls)
        ]

    @staticmethod
    def _usage(reply: Reply, body: Mapping[str, Any]) -> dict[str, int]:
        given, made = reply.tokens(body)
        return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


class Responses:
    """``POST /v1/responses``."""

    named = True

    def messages(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The conversation in a request."""
        given = body.get("input", ())
        return [{"role": "user", "content": given}] if isinstance(given, str) else list(given)

    def whole(self, model: str, body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
        """The answer that is not streamed."""
        given, made = reply.tokens(body)
        usage = {
            "input_tokens": given, "output_tokens": made, "total_tokens": given + made,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }  # fmt: skip
        return self._frame(model) | {"status": "completed", "output": self._output(reply, body), "usage": usage}

    def pieces(self, model: str, body: Mapping[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
        """The answer as events."""
        number = 0

        def event(kind: str, **rest: Any) -> dict[str, Any]:
            nonlocal number
            number += 1
            return {"type": kind, "sequence_number": number - 1, **rest}

        frame = self._frame(model) | {"status": "in_progress", "output": []}
        yield event("response.created", response=frame)
        for index, item in enumerate(self._output(reply, body)):
            place = {"output_index": index, "item_id": item["id"]}
            if item["type"] == "message":
                part = {"type": "output_text", "text": "", "annotations": []}
                yield event("response.output_item.added", output_index=index, item=item | {"content": []})
                yield event("response.content_part.added", **place, content_index=0, part=part)
                for word in words(reply.text):
                    yield event("response.output_text.delta", **place, content_index=0, delta=word, logprobs=[])
                yield event("response.output_text.done", **place, content_index=0, text=reply.text, logprobs=[])
            else:
                yield event("response.output_item.added", output_index=index, item=item | {"arguments": ""})
                yield event("response.function_call_arguments.delta", **place, delta=item["arguments"])
                done = {"arguments": item["arguments"], "name": item["name"]}
                yield event("response.function_call_arguments.done", **place, **done)
            yield event("response.output_item.done", output_index=index, item=item)
        yield event("response.completed", response=self.whole(model, body, reply))

    @staticmethod
    def _frame(model: str) -> dict[str, Any]:
        return {
            "id": "resp_scripted", "object": "response", "created_at": 0, "model": model, "error": None,
            "incomplete_details": None, "instructions": None, "metadata": {}, "parallel_tool_calls": True,
            "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        }  # fmt: skip

    @staticmethod
    def _output(reply: Reply, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        if reply.text:
            part = {"type": "output_text", "text": reply.text, "annotations": []}
            found.append({"type": "message", "id": "msg_0", "role": "assistant", "status": "completed",
                          "content": [part]})  # fmt: skip
        for n, (name, arguments) in enumerate(reply.calls):
            call = reply.call_id(n, body)
            found.append({"type": "function_call", "id": f"fc_{n}", "call_id": call, "name": name,
                          "arguments": arguments, "status": "completed"})  # fmt: skip
        return found


DIALECTS: Mapping[str, Dialect] = {"chat/completions": Chat(), "responses": Responses()}
