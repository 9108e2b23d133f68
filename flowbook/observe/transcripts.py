"""Transcripts: what was said in a run of an agent, worked out of its view.

Owns: `transcript`, the messages in their order with what each cost, and the totals. Refuses: drawing, and code: an
agent is known by the state that it declares, so a transcript can be had where nobody has the agent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowbook.agents.parts import content
from flowbook.errors import UsageError
from flowbook.observe.views import RunView, State

if TYPE_CHECKING:
    import pandas as pd

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

    def __iter__(self) -> Iterator[Said]:
        return iter(self.said)

    def __len__(self) -> int:
        return len(self.said)

    def __getitem__(self, place: int) -> Said:
        return self.said[place]

    def __repr__(self) -> str:
        return f"<{len(self.said)} messages>"

    def running(self) -> list[tuple[int, float | None]]:
        """For each message what all turns up to it came to: (tokens, usd); usd is None where one is not known."""
        found: list[tuple[int, float | None]] = []
        tokens, usd = 0, 0.0
        known = True
        for one in self.said:
            if one.turn:
                tokens += one.turn.get("in", 0) + one.turn.get("out", 0)
                known = known and one.turn.get("usd") is not None
                usd += one.turn.get("usd") or 0.0
            found.append((tokens, usd if known else None))
        return found

    def df(self) -> pd.DataFrame:
        """A table: path, role, text, tool calls, and of each turn its model, tokens, cost, time, and all up to it."""
        import pandas as pd

        rows = []
        for one, (tokens, usd) in zip(self.said, self.running(), strict=True):
            turn = one.turn or {}
            rows.append(
                {
                    "path": one.path or None,
                    "role": one.role,
                    "text": one.text,
                    "calls": ", ".join(f"{name}({arguments})" for _, name, arguments in one.calls) or None,
                    "call_id": one.message.get("tool_call_id"),
                    "thinking": turn.get("thinking"),
                    "model": turn.get("model"),
                    "tokens_in": turn.get("in"),
                    "tokens_out": turn.get("out"),
                    "usd": turn.get("usd"),
                    "seconds": turn.get("seconds"),
                    "tokens_so_far": tokens,
                    "usd_so_far": usd,
                }
            )
        return pd.DataFrame(rows)

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


def messages(view: RunView) -> Transcript:
    """What was said in the run of an agent. Raises `UsageError` for any other run."""
    found = transcript(view)
    if found is None:
        raise UsageError(f"run {view.id} of flow {view.flow!r} is no agent's, so it has no messages; it has .steps")
    return found


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
        said.append(Said("", {"role": "user", "content": content(view.input["question"])}))
    asking = any(s.node == "ask_model" and s.state in (State.RUNNING, State.RETRYING) for s in nodes)
    return Transcript(tuple(said), asking and not view.status.over)
