"""Transcripts: what was said in a run of an agent, worked out of its view.

Owns: `transcript`, the messages in their order with what each cost, and the totals. Refuses: drawing, and code: an
agent is known by the state that it declares, so a transcript can be had where nobody has the agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowbook.observe.views import RunView, State

FIELDS = frozenset({"question", "messages", "turns", "answer"})
"""State keys by which an agent is known."""


@dataclass(frozen=True, slots=True)
class Said:
    """One message."""

    path: str
    """The step that made it; empty: it came with the run's input."""
    message: Mapping[str, Any]
    """In the form of chat completions."""
    turn: Mapping[str, Any] | None = None
    """Of an answer of a model: model, in, out, cached (tokens), usd, seconds, thinking."""

    @property
    def role(self) -> str:
        """user, assistant or tool."""
        return str(self.message.get("role", ""))

    @property
    def text(self) -> str:
        """What it says; parts that are no text are named."""
        content = self.message.get("content")
        if isinstance(content, str) or content is None:
            return content or ""
        parts = [p if isinstance(p, Mapping) else {"text": p} for p in content]
        return "\n".join(str(p["text"]) if "text" in p else f"[{p.get('type', 'part')}]" for p in parts)

    @property
    def calls(self) -> tuple[tuple[str, str, str], ...]:
        """(id, tool, arguments as JSON) of what a model wants called."""
        calls = self.message.get("tool_calls") or ()
        return tuple((c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls)


@dataclass(frozen=True, slots=True)
class Transcript:
    """A conversation as far as it has come."""

    said: tuple[Said, ...]
    asking: bool
    """A model is being asked now."""

    @property
    def tokens(self) -> tuple[int, int]:
        """(in, out) of all turns."""
        turns = [s.turn for s in self.said if s.turn]
        return sum(t.get("in", 0) for t in turns), sum(t.get("out", 0) for t in turns)

    @property
    def usd(self) -> float | None:
        """What all turns have cost; None: of some it is not known."""
        costs = [s.turn.get("usd") for s in self.said if s.turn]
        return None if not costs or None in costs else sum(c for c in costs if c is not None)


def is_agent(view: RunView) -> bool:
    """Is it the run of an agent?"""
    fields = (view.spec.get("state") or {}).get("fields") or {}
    return fields.keys() >= FIELDS


def transcript(view: RunView) -> Transcript | None:
    """What was said in a run; None: it is no agent's."""
    if not is_agent(view):
        return None
    said = [Said("", m) for m in view.input.get("messages") or ()]
    nodes = [s for s in view.steps if "/" not in s.path]
    for step in nodes:
        result = step.result if isinstance(step.result, Mapping) else {}
        turns = list(result.get("turns") or ())
        for message in result.get("messages") or ():
            turn = turns.pop(0) if turns and message.get("role") == "assistant" else None
            said.append(Said(step.path, message, turn))
    if not any(s.path for s in said) and "question" in view.input:
        said.append(Said("", {"role": "user", "content": view.input["question"]}))
    asking = any(s.node == "ask_model" and s.state in (State.RUNNING, State.RETRYING) for s in nodes)
    return Transcript(tuple(said), asking and not view.status.over)
