"""Calling: what a model wanted called, done, and told to it.

Owns: one tool call from its arguments to the message that answers it; asking for leave first, where that is wanted.
Refuses: the loop (`loop.py`). Each call gets exactly one answer, whatever happens: a conversation in which one is
missing is refused by every server. What goes wrong is told to the model as text, because it may know better then.

All durable calls of one tool call are made by one coroutine, so calls that run together number their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from flowbook.agents.tools import Tool, shown, told, tool_of
from flowbook.errors import (
    AttemptLost,
    ChildFailed,
    FlowbookError,
    SecretMissing,
    StepFailed,
    StepTimeout,
    ToolServerFailed,
)
from flowbook.graph.flow import Graph
from flowbook.graph.step import Step

Approve = Collection[str] | Callable[[str, dict[str, Any]], bool]
"""Names of the tools that need leave, or a function of (name, arguments); it must say the same each time."""

TOOLS_FAULT = (StepFailed, StepTimeout, AttemptLost, ChildFailed, ToolServerFailed, SecretMissing)


DECISIONS = ("approved", "rejected", "answered")
"""Signals that decide about a call: it is made, perhaps with other arguments; it is not, and the model is told why;
somebody answers in the tool's place.
"""
_ABOUT = ("by", "why")
"""What a decision says of itself, besides what it decides."""


def needs_leave(approve: Approve, name: str, arguments: dict[str, Any]) -> bool:
    """Must somebody agree to this call?"""
    return bool(approve(name, arguments)) if callable(approve) else name in approve


async def answered(call: Mapping[str, Any], tools: Mapping[str, Step | Graph], approve: Approve, ctx: Any) -> Any:
    """The message that answers one call. Raises nothing that is the tool's or the model's fault."""
    function = call["function"]
    name = function["name"]
    try:
        if name not in tools:
            raise ValueError(f"there is no tool {name!r}; there are: {', '.join(tools) or 'none'}")
        tool = tool_of(tools[name])
        arguments = tool.accept(function["arguments"])
        if not needs_leave(approve, name, arguments):
            content = await _called(tool, arguments, ctx)
        else:
            decision, payload = await ctx.wait_any(*DECISIONS)
            content = await _decided(tool, arguments, decision, payload, ctx)
    except ValueError as error:
        content = f"Error: {error}"
    return {"role": "tool", "tool_call_id": call["id"], "content": content}


async def _decided(tool: Tool, arguments: dict[str, Any], decision: str, payload: Any, ctx: Any) -> Any:
    said = payload if isinstance(payload, dict) else {"": payload}
    if decision == "rejected":
        why = said.get("why") or said.get("reason")
        return f"Refused by a person: {why}" if why else "Refused by a person."
    rest = {k: v for k, v in said.items() if k not in _ABOUT}
    if decision == "answered":
        (first, *more) = rest.values() or [""]
        return told(rest if more else first)
    return await _called(tool, tool.check(rest.get("arguments", rest)) if rest else arguments, ctx)


async def _called(tool: Tool, arguments: dict[str, Any], ctx: Any) -> Any:
    try:
        if isinstance(tool.run, Graph):
            return shown((await ctx.join(ctx.spawn(tool.run, **arguments)))["answer"])
        return shown(await ctx.step(tool.run, **tool.given(arguments)))
    except FlowbookError as error:
        if not isinstance(error, TOOLS_FAULT):
            raise  # of the run, not of the tool
        return f"Error: {error.message}"
    except Exception as error:
        return f"Error: {type(error).__name__}: {error}"
