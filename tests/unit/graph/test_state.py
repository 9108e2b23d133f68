"""States: which keys there are, how updates are merged, what a step's result means."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, NotRequired, Required, TypedDict

import pytest
from pydantic import BaseModel

from flowbook.errors import StateError
from flowbook.graph.results import interpret
from flowbook.graph.state import StateSchema, merge, schema_of
from flowbook.graph.step import step, value


class Typed(TypedDict, total=False):
    docs: Annotated[list[str], operator.add]
    best: NotRequired[Annotated[int, max]]
    name: Required[str]


@dataclass
class Data:
    name: str
    docs: Annotated[list[str], operator.add] = field(default_factory=list)
    limit: int = 3
    shared: ClassVar[int] = 1


class Model(BaseModel):
    name: str
    docs: Annotated[list[str], operator.add] = []
    limit: int = 3


def schema(source: type) -> StateSchema:
    made = schema_of(source)
    assert made is not None
    return made


@pytest.mark.parametrize("source,keys", [(Typed, "docs best name"), (Data, "name docs limit"),
                                         (Model, "name docs limit")])  # fmt: skip
def test_a_class_declares_keys_and_reducers(source: type, keys: str) -> None:
    """TypedDicts, dataclasses and pydantic models alike; ClassVars are no keys."""
    it = schema(source)
    assert list(it.annotations) == keys.split()
    assert it.reducers["docs"] is operator.add


def test_defaults_begin_the_state() -> None:
    """Made anew each time; the input wins."""
    for source in (Data, Model):
        one, two = schema(source).initial({"name": "x"}), schema(source).initial({"name": "x", "limit": 9})
        assert one == {"docs": [], "limit": 3, "name": "x"}
        assert two["limit"] == 9
        assert one["docs"] is not two["docs"]
    assert schema(Typed).initial({}) == {}


def test_updates_go_through_reducers() -> None:
    """A key without a value begins with the empty one of its type; nothing is changed in place."""
    it = schema(Typed)
    before: dict[str, Any] = {"name": "x"}
    once = merge(it, before, {"docs": ["a"], "best": 3})
    twice = merge(it, once, {"docs": ["b"], "best": 2, "name": "y"})
    assert once == {"name": "x", "docs": ["a"], "best": 3}
    assert twice == {"name": "y", "docs": ["a", "b"], "best": 3}
    assert before == {"name": "x"}


def test_without_a_schema_the_last_write_wins() -> None:
    """And every key is welcome."""
    assert merge(None, {"a": 1}, {"a": 2, "b": 3}) == {"a": 2, "b": 3}
    assert schema_of(None) is None


def test_a_reducer_that_fails_names_its_key() -> None:
    """The error is the flow's, not a TypeError from nowhere."""
    with pytest.raises(StateError, match=r"add of state key 'docs' refused list and int"):
        merge(schema(Typed), {"docs": []}, {"docs": 1})


def test_unknown_keys_are_refused() -> None:
    """A misspelt key must not be lost in silence."""
    with pytest.raises(StateError, match=r"has 'dosc', which Typed does not declare; its keys are 'docs'"):
        schema(Typed).initial({"dosc": []})


def test_pydantic_validates_what_is_not_reduced() -> None:
    """Values become what the model says."""
    it = schema(Model)
    assert it.validate("step 'a'", {"limit": "4", "docs": "x"}) == {"limit": 4, "docs": "x"}
    with pytest.raises(StateError, match="step 'a': 'limit' does not fit Model"):
        it.validate("step 'a'", {"limit": "many"})


@pytest.mark.parametrize("bad,said", [(3, "not a class"), (int, "declares no fields")])
def test_other_things_are_no_schemas(bad: Any, said: str) -> None:
    """The error says what is."""
    with pytest.raises(StateError, match=said):
        schema_of(bad)


def test_two_reducers_are_one_too_many() -> None:
    """And an annotation that means nothing is said."""

    class Two(TypedDict):
        a: Annotated[int, max, min]

    with pytest.raises(StateError, match="2 reducers"):
        schema_of(Two)
    with pytest.raises(StateError, match="cannot be resolved"):
        schema_of(TypedDict("Odd", {"a": "Nowhere"}))  # type: ignore[operator]  # noqa: F821


def test_the_fingerprint_follows_types_and_reducers() -> None:
    """Snapshots of another schema are not used."""

    class One(TypedDict):
        a: int

    class Two(TypedDict):
        a: Annotated[int, max]

    assert schema(One).fingerprint == schema(One).fingerprint != schema(Two).fingerprint


def test_a_state_is_built_as_it_was_declared() -> None:
    """A dict, or an instance; what cannot be built stays a dict."""
    assert schema(Typed).build({"name": "x"}) == {"name": "x"}
    assert schema(Data).build({"name": "x"}) == Data("x")
    assert schema(Model).build({"name": "x"}) == Model(name="x")
    assert schema(Model).build({}) == {}


# -------------------------------------------------------------------------------------------------------- results


@step
def judge() -> None: ...


def test_a_dict_is_an_update_and_anything_else_a_value() -> None:
    """`value` makes a dict a value."""
    assert interpret(judge, None, {"a": 1}) == ({"a": 1}, {"a": 1})
    assert interpret(judge, None, True) == (True, {"judge": True})
    assert interpret(judge, None, None) == (None, {"judge": None})
    assert interpret(judge, None, value({"a": 1})) == ({"a": 1}, {"judge": {"a": 1}})


def test_a_schema_must_have_a_place_for_a_value() -> None:
    """Only None may go nowhere."""

    class Judged(TypedDict):
        judge: bool

    assert interpret(judge, schema(Judged), True) == (True, {"judge": True})
    assert interpret(judge, schema(Typed), None) == (None, {})
    with pytest.raises(StateError, match="Typed does not declare 'judge'"):
        interpret(judge, schema(Typed), True)
    with pytest.raises(StateError, match="step 'judge' has 'nope'"):
        interpret(judge, schema(Typed), {"nope": 1})
    with pytest.raises(StateError, match="the key 1"):
        interpret(judge, None, {1: 2})
