"""Handing over: one conversation, and several agents who have it one after the other.

Owns: who is in a team, the tools by which a model hands over, and who speaks. Refuses: the loop (`loop.py`).

The others' instructions, models and tools are part of the first one's definition, so a hand-over is no run of its own:
the same messages go on, under the same budget and limits, which are the first one's, and the journal has it all. Who
has got the conversation may also give it back to the first one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowbook.agents.settings import Settings
from flowbook.errors import DeclarationError
from flowbook.graph.flow import Graph
from flowbook.graph.step import Step

TRANSFER = "transfer_to_"
"""Names of the tools begin so."""
_KEPT = "_agent"

Team = Mapping[str, Mapping[str, Any]]
"""Agent -> settings, names of its tools, to whom it may hand over, and what it is for; empty: the agent is alone."""


@dataclass(frozen=True, slots=True)
class Member:
    """What another agent needs to know of one."""

    settings: Mapping[str, Any]
    tools: Mapping[str, Step | Graph]
    approve: Any
    output: type | None
    to: tuple[Graph, ...]


def keep(agent: Graph, member: Member) -> Graph:
    """The same agent, to which others may hand over."""
    agent.__dict__[_KEPT] = member
    return agent


def member_of(agent: Any) -> Member:
    """What an agent was made of. Raises `DeclarationError` for anything else."""
    found: Member | None = getattr(agent, "__dict__", {}).get(_KEPT)
    if found is None:
        raise DeclarationError(f"handoffs=[{agent!r}]: it takes agents, as fb.agent makes them")
    return found


def team_of(first: Member) -> tuple[Team, dict[str, Step | Graph], tuple[str, ...]]:
    """(team, tools of all, names of tools that need leave) of an agent and those whom it may hand over to.

    Raises `DeclarationError` where two of them do not go together.
    """
    if not first.to:
        return {}, dict(first.tools), ()
    name = first.settings["name"]
    team: dict[str, dict[str, Any]] = {}
    tools: dict[str, Step | Graph] = {}
    leave: dict[str, None] = {}
    waiting = [first]
    while waiting:
        one = waiting.pop(0)
        own = one.settings["name"]
        if own in team:
            if team[own]["settings"] != one.settings:
                raise DeclarationError(f"handoffs: two different agents are called {own!r}")
            continue
        if one is not first and (callable(one.approve) or one.output not in (None, first.output)):
            raise DeclarationError(
                f"handoffs=[{own}]: its approve= must be names of tools, and its output= that of {name!r}, the first"
            )
        for tool, thing in one.tools.items():
            if tools.setdefault(tool, thing) is not thing:
                raise DeclarationError(f"handoffs: {own!r} has another tool {tool!r} than the agents before it")
        if not callable(one.approve):
            leave |= dict.fromkeys(one.approve)
        others = [member_of(it) for it in one.to]
        to = [it.settings["name"] for it in others]
        back = [name] if one is not first and name not in to else []
        team[own] = {"settings": dict(one.settings), "tools": list(one.tools), "to": [*to, *back]}
        waiting += others
    return team, tools, tuple(leave)


def speaker(team: Team, settings: Settings, state: Mapping[str, Any]) -> Settings:
    """The settings of the agent that has the conversation."""
    active = str(state.get("active") or "")
    return Settings.of(team[active]["settings"]) if active in team and active != settings.name else settings


def tools_of(team: Team, speaks: str, called: Mapping[str, Step | Graph]) -> dict[str, Step | Graph]:
    """What an agent may call itself."""
    return {name: called[name] for name in team[speaks]["tools"]} if team else dict(called)


def offered(team: Team, speaks: str) -> list[dict[str, Any]]:
    """The tools by which it hands over, as chat completions want them."""
    return [
        {
            "type": "function",
            "function": {
                "name": f"{TRANSFER}{other}",
                "description": f"Hand the conversation over to {other}: {_about(team[other]['settings'])}",
                "parameters": {"type": "object", "properties": {}},
            },
        }
        for other in (team[speaks]["to"] if team else ())
    ]


def handed(team: Team, speaks: str, calls: Sequence[Mapping[str, Any]]) -> tuple[str | None, dict[str, str]]:
    """(who has the conversation next, id of a call -> what answers it): the first one counts. None: nobody new."""
    found: str | None = None
    answers: dict[str, str] = {}
    for call in calls:
        name = call["function"]["name"]
        to = name.removeprefix(TRANSFER)
        if not team or to == name or to not in team[speaks]["to"]:
            continue
        answers[call["id"]] = f"Error: {found} has it already." if found else f"{to} has the conversation now."
        found = found or to
    return found, answers


def _about(settings: Mapping[str, Any]) -> str:
    return str(settings["instructions"]).strip().partition("\n")[0][:200]
