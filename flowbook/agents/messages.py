"""Messages: a conversation as a list that somebody edits.

Owns: putting another result in the place of one that a tool gave. Refuses: asking and forking.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowbook.agents.tools import told
from flowbook.errors import UsageError

Message = Mapping[str, Any]


def is_conversation(values: Mapping[str, Any]) -> bool:
    """Is it the state of an agent's run?"""
    return isinstance(values.get("messages"), list) and "question" in values


def with_results(values: Mapping[str, Any], edits: Mapping[str, Any]) -> dict[str, Any]:
    """Edits with ``results`` (id of a call, or name of a tool -> another result) made into an edit of ``messages``.

    A name means the tool's last call. Raises `UsageError` for what was not called.
    """
    rest = {key: value for key, value in edits.items() if key != "results"}
    messages = list(rest.get("messages", values["messages"]))
    if not isinstance(edits["results"], Mapping):
        raise UsageError(
            'results= says what a tool gave instead: fork(at="ask_model#3", results={"search": "nothing"})'
        )
    calls = {c["id"]: c["function"]["name"] for m in messages for c in m.get("tool_calls") or ()}
    for which, result in edits["results"].items():
        places = [i for i, m in enumerate(messages) if m["role"] == "tool" and _is(m["tool_call_id"], which, calls)]
        if not places:
            known = ", ".join(sorted({*calls.values()})) or "nothing"
            raise UsageError(
                f"results={{{which!r}: ...}}: no call of that id or tool has a result here; called were {known}"
            )
        messages[places[-1]] = {**messages[places[-1]], "content": told(result)}
    return rest | {"messages": messages}


def _is(call: str, which: str, calls: Mapping[str, str]) -> bool:
    return which in (call, calls.get(call))
