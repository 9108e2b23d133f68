"""Functions as tools: their schema, the arguments that a model makes up, and what it is told."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
import pytest

from flowbook.agents.tools import LONGEST, runnable, told, tool_of
from flowbook.errors import DeclarationError
from flowbook.graph.step import step


class Place(pydantic.BaseModel):
    """Where."""

    city: str
    country: str = "DE"


def weather(
    place: Place, day: Annotated[dt.date, pydantic.Field(description="ISO")], ctx: Any, hours: tuple[int, ...] = ()
) -> str:
    """The weather somewhere.

    Only for Europe.
    """
    return f"{place.city} {day} {hours}"


def declared(fn: Any) -> Any:
    """What the model is told of a function."""
    (tool,) = runnable([fn]).values()
    return tool_of(tool).declared["function"]


def test_the_schema_is_read_from_the_signature_and_the_docstring() -> None:
    """Types, defaults and descriptions; the context is nobody's argument."""
    about = declared(weather)
    assert about["name"] == "weather"
    assert about["description"] == "The weather somewhere.\n\nOnly for Europe."
    schema = about["parameters"]
    assert set(schema["properties"]) == {"place", "day", "hours"}
    assert schema["required"] == ["place", "day"]
    assert schema["properties"]["day"] == {"description": "ISO", "format": "date", "type": "string"}
    assert schema["additionalProperties"] is False


def test_arguments_come_as_the_function_wants_them() -> None:
    """Models, dates and lists are made of what the model wrote; what it left out is the function's default."""
    (run,) = runnable([weather]).values()
    given = tool_of(run).accept('{"place": {"city": "Bonn"}, "day": "2026-11-21"}')
    assert given == {"place": Place(city="Bonn"), "day": dt.date(2026, 11, 21)}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{not json", "are no JSON"),
        ('{"place": {"city": "Bonn"}}', "day: Field required"),
        ('{"place": {"city": 3}, "day": "2026-11-21"}', "place.city: Input should be a valid string"),
        ('{"place": {"city": "B"}, "day": "2026-11-21", "x": 1}', "x: Extra inputs are not permitted"),
        ("[1]", "all of it: "),
    ],
)
def test_what_does_not_fit_is_told_in_words_for_the_model(text: str, why: str) -> None:
    """It can do better the next time."""
    (run,) = runnable([weather]).values()
    with pytest.raises(ValueError, match="arguments") as refused:
        tool_of(run).accept(text)
    assert why in str(refused.value)


def test_a_step_keeps_its_options_as_a_tool() -> None:
    """Retries and time limits of its own."""

    @step(name="look_up", retries=2, timeout=3)
    def find(query: str) -> str:
        """Find."""
        return query

    (run,) = runnable([find]).values()
    assert run is find
    assert tool_of(run).name == "look_up"


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        (["search"], "a tool is a function"),
        ([weather, weather], "two tools are called 'weather'"),
        ([lambda x: x], "cannot be a step's name"),
    ],
)
def test_what_cannot_be_a_tool_is_told_where_the_agent_is_declared(tools: list[Any], why: str) -> None:
    """Not when the model first calls it."""
    with pytest.raises(DeclarationError, match=why):
        runnable(tools)


def test_a_tool_without_named_parameters_is_refused() -> None:
    """A model calls by name."""

    def loose(*values: int) -> None:
        """Any number of them."""

    with pytest.raises(DeclarationError, match=r"cannot have `\*values"):
        runnable([loose])


def test_results_are_told_as_text() -> None:
    """A text as it is, anything else as JSON, and never so much that it would fill the window."""

    @dataclass
    class Row:
        day: dt.date
        n: float

    assert told("plain") == "plain"
    assert told([Row(dt.date(2026, 1, 2), 0.5), None]) == '[{"day":"2026-01-02","n":0.5},null]'
    assert told(object()).startswith('"<object object')
    long = told("x" * (LONGEST + 1_500))
    assert long.endswith("[cut: 1,500 more characters]")
    assert len(long) < LONGEST + 100
