"""Tools: plain functions that a model may call.

Owns: `Tool`, its schema from a function's signature and docstring, the check of the arguments that a model made up, and
how a result is told to the model. Refuses: running one (`calling.py`).
"""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowbook.agents.mcp import ToolServer, declared
from flowbook.agents.parts import File, content, parts_in
from flowbook.errors import DeclarationError
from flowbook.graph.binding import wants_context
from flowbook.graph.flow import Graph
from flowbook.graph.step import Step, step
from flowbook.plan.quotes import as_json

LONGEST = 100_000
"""Characters of a result that a model is told: more would fill its window."""


@dataclass(frozen=True, slots=True)
class Tool:
    """What a model may call."""

    name: str
    description: str
    arguments: Any
    """A pydantic model of its arguments; None: ``schema`` says what they are."""
    run: Step | Graph
    schema: Mapping[str, Any] | None = None
    """JSON schema of a tool of somebody else's; who runs it checks the arguments."""

    @property
    def declared(self) -> dict[str, Any]:
        """As chat completions want it."""
        if self.schema is not None:
            about: dict[str, Any] = {"name": self.name, "description": self.description, "parameters": self.schema}
            return {"type": "function", "function": about}
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        schema.pop("description", None)
        for one in schema.get("properties", {}).values():
            one.pop("title", None)
        about = {"name": self.name, "description": self.description, "parameters": schema}
        return {"type": "function", "function": about}

    def accept(self, text: str) -> dict[str, Any]:
        """The arguments in what the model wrote. Raises ValueError, with a text for the model."""
        try:
            given = json.loads(text or "{}")
        except ValueError as error:
            raise ValueError(f"the arguments are no JSON: {error}") from error
        return self.check(given)

    def check(self, given: Any) -> dict[str, Any]:
        """The arguments as the function wants them. Raises ValueError, with a text for the model."""
        import pydantic

        if self.schema is not None:
            if not isinstance(given, dict):
                raise ValueError("the arguments do not fit: they are no JSON object")
            return given
        try:
            made = self.arguments.model_validate(given)
        except pydantic.ValidationError as error:
            raise ValueError(f"the arguments do not fit: {_told(error)}") from error
        return {name: getattr(made, name) for name in type(made).model_fields if name in made.model_fields_set}

    def given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """What its step is called with."""
        return arguments if self.schema is None else {"arguments": arguments}


def runnable(things: Sequence[Any]) -> dict[str, Step | Graph]:
    """Name -> step or flow, of what an agent was given as tools. Raises `DeclarationError`."""
    found: dict[str, Step | Graph] = {}
    for thing in [one for given in things for one in (given.steps() if isinstance(given, ToolServer) else [given])]:
        if not isinstance(thing, Step | Graph):
            if not inspect.isfunction(thing):
                raise DeclarationError(f"tools=[{thing!r}]: a tool is a function, a @step, an agent or fb.mcp(...)")
            thing = step(thing)
        if thing.name in found:
            raise DeclarationError(f"two tools are called {thing.name!r}: give one another name, `@step(name=...)`")
        found[thing.name] = thing
        tool_of(thing)  # mistakes are told where the agent is declared
    return found


def tool_of(thing: Step | Graph) -> Tool:
    """The tool that a step or an agent is. Raises `DeclarationError` for parameters that no schema can describe."""
    import pydantic

    if isinstance(thing, Step):
        if (offered := declared(thing)) is not None:
            return Tool(offered["name"], offered["description"], None, thing, offered["schema"])
        return _of_step(thing)
    about = thing.doc or f"Ask the agent {thing.name!r}; it sees nothing of this conversation."
    return Tool(thing.name, about, pydantic.create_model(thing.name, question=(str, ...)), thing)


@functools.lru_cache(1_000)
def _of_step(thing: Step) -> Tool:
    import pydantic

    fn = inspect.unwrap(thing.fn)
    fields: dict[str, Any] = {}
    hints = _hints(fn)
    for name, parameter in thing.signature.parameters.items():
        if wants_context(parameter):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise DeclarationError(f"tool {thing.name!r}: a model calls by name, so it cannot have `{parameter}`")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    try:
        arguments = pydantic.create_model(thing.name, __config__=pydantic.ConfigDict(extra="forbid"), **fields)
        arguments.model_json_schema()
    except (pydantic.errors.PydanticUserError, NameError, TypeError) as error:
        raise DeclarationError(f"tool {thing.name!r}: its parameters have no schema: {error}") from error
    return Tool(thing.name, inspect.cleandoc(thing.__doc__ or ""), arguments, thing)


def shown(result: Any) -> Any:
    """A result as a message's content: a text, or parts where there are images or files in it."""
    found = parts_in(result)
    return told(result) if found is None else content([one if isinstance(one, File) else told(one) for one in found])


def told(result: Any) -> str:
    """A result as the model reads it: a text as it is, anything else as JSON."""
    text = result if isinstance(result, str) else _json(result)
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}\n[cut: {len(text) - LONGEST:,} more characters]"


def _json(value: Any) -> str:
    if (text := as_json(value)) is not None:
        return text  # what a quote of it is put together from
    import pydantic_core

    return pydantic_core.to_json(value, fallback=repr, inf_nan_mode="constants").decode()


def _hints(fn: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except (NameError, TypeError):  # a name that is not there (yet): what can be read without it
        return {n: a for n, a in getattr(fn, "__annotations__", {}).items() if not isinstance(a, str)}


def _told(error: Any) -> str:
    return "; ".join(
        f"{'.'.join(map(str, one['loc'])) or 'all of it'}: {one['msg']}" for one in error.errors(include_url=False)
    )
