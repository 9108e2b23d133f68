"""Dialects: a conversation with images and files in the words of either API.

Owns: what chat completions refuse in a tool's message, and the items of the responses API. Refuses: asking
(`models.py`) and making parts (`parts.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]
FROM_TOOLS = "What the tools have shown:"


def for_chat(messages: Sequence[Message]) -> Sequence[Message]:
    """Messages as chat completions take them: a tool says texts alone, so its images follow as the user's."""
    if not any(m["role"] == "tool" and type(m.get("content")) is list for m in messages):
        return messages
    found: list[Message] = []
    pending: list[Any] = []
    for message in messages:
        if message["role"] != "tool" and pending:
            found.append({"role": "user", "content": [{"type": "text", "text": FROM_TOOLS}, *pending]})
            pending = []
        if message["role"] == "tool" and type(message.get("content")) is list:
            texts = [p["text"] for p in message["content"] if p["type"] == "text"]
            images = [p for p in message["content"] if p["type"] != "text"]
            pending += images
            said = "\n".join([*texts, *(["[see below]"] if images else [])])
            message = {**message, "content": said}
        found.append(message)
    if pending:
        found.append({"role": "user", "content": [{"type": "text", "text": FROM_TOOLS}, *pending]})
    return found


def items(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """A conversation as the responses API wants it."""
    found: list[dict[str, Any]] = []
    for message in messages:
        content = message.get("content")
        if message["role"] == "tool":
            output = [_item(part) for part in content] if type(content) is list else content
            found.append({"type": "function_call_output", "call_id": message["tool_call_id"], "output": output})
            continue
        if content:
            told = [_item(part) for part in content] if type(content) is list else content
            found.append({"role": message["role"], "content": told})
        calls = message.get("tool_calls", ())
        found += [{"type": "function_call", "call_id": call["id"], **call["function"]} for call in calls]
    return found


def _item(part: Mapping[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "text":
            return {"type": "input_text", "text": part["text"]}
        case "image_url":
            return {"type": "input_image", **_image(part["image_url"])}
        case "file":
            return {"type": "input_file", **part["file"]}
        case _:
            return dict(part)  # somebody has written it in the words of this API


def _image(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        return {"image_url": given, "detail": "auto"}
    return {"image_url": given["url"], "detail": given.get("detail", "auto")}
