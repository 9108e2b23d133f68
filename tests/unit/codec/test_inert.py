"""A type that is not loaded here decodes to something that can be read, compared and stored again."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, make_dataclass
from enum import Enum
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from pydantic import create_model

from flowbook.codec import Inert, decode, encode, fresh, register
from flowbook.codec.wire import pack


@pytest.fixture
def gone() -> Any:
    """Payloads of values whose module has been unloaded."""
    module = types.ModuleType("flowbook_test_gone")
    sys.modules[module.__name__] = module

    class Color(Enum):
        RED = 1

    class Point(NamedTuple):
        x: int
        y: Any

    classes: dict[str, Any] = {
        "Color": Color,
        "Point": Point,
        "Record": make_dataclass("Record", [("name", str), ("tags", list)]),
        "Model": create_model("Model", a=(int, 1)),
    }
    for name, cls in classes.items():
        cls.__module__, cls.__qualname__ = module.__name__, name
        setattr(module, name, cls)
    values = {
        "enum": Color.RED,
        "namedtuple": Point(1, [2]),
        "dataclass": classes["Record"]("n", [b"x" * 500]),
        "pydantic": classes["Model"](a=5),
        "nested": {"k": [classes["Record"](Color.RED, {Color.RED: 1, "s": {Color.RED, 2}})]},
    }
    payloads = {kind: encode(value) for kind, value in values.items()}
    del sys.modules[module.__name__]
    return types.SimpleNamespace(payloads=payloads, values=values, module=module)


@pytest.mark.parametrize("kind", ["enum", "namedtuple", "dataclass", "pydantic", "nested"])
def test_an_unloaded_class_is_stored_again_as_the_same_bytes(gone: Any, kind: str) -> None:
    """So a process without the class passes values on unharmed."""
    data = gone.payloads[kind]
    assert encode(decode(data)) == data
    assert encode(fresh(decode(data))) == data


@pytest.mark.parametrize("kind", ["enum", "namedtuple", "dataclass", "pydantic", "nested"])
def test_the_class_comes_back_when_it_is_loaded_again(gone: Any, kind: str) -> None:
    """Nothing was lost while it was away."""
    data = encode(decode(gone.payloads[kind]))
    sys.modules[gone.module.__name__] = gone.module
    try:
        assert decode(data) == gone.values[kind]
    finally:
        del sys.modules[gone.module.__name__]


def test_an_inert_value_shows_its_type_and_fields_and_says_why(gone: Any) -> None:
    """A reader sees what it is and what to do."""
    inert = decode(gone.payloads["dataclass"])
    assert isinstance(inert, Inert)
    assert inert.type_name == "flowbook_test_gone.Record"
    assert dict(inert.fields) == {"name": "n", "tags": [b"x" * 500]}
    assert "Inert flowbook_test_gone.Record(name='n'" in repr(inert)
    assert "import it" in repr(inert)
    with pytest.raises(TypeError):
        inert.fields["name"] = 1  # type: ignore[index]


def test_inert_values_are_equal_by_content_and_can_be_keys(gone: Any) -> None:
    """Also as elements of sets."""
    one, two = decode(gone.payloads["enum"]), decode(gone.payloads["enum"])
    assert one == two
    assert hash(one) == hash(two)
    assert len({one, two}) == 1
    assert one != decode(gone.payloads["namedtuple"])
    assert one != 1


def test_a_class_whose_fields_changed_gives_an_inert_value() -> None:
    """Old rows are not forced into a new shape."""
    module = types.ModuleType("flowbook_test_changing")
    sys.modules[module.__name__] = module
    try:
        data = b""
        for names in (["a", "b"], ["a", "c"]):
            cls: Any = make_dataclass("Thing", names)
            cls.__module__, module.Thing = module.__name__, cls  # type: ignore[attr-defined]
            if names == ["a", "b"]:
                data = encode(cls(1, 2))
        inert = decode(data)
        assert isinstance(inert, Inert)
        assert "other fields now" in inert.reason
        assert dict(inert.fields) == {"a": 1, "b": 2}
        module.Thing = len  # type: ignore[attr-defined]
        assert isinstance(decode(data), Inert)
    finally:
        del sys.modules[module.__name__]


def test_a_type_of_a_newer_flowbook_is_inert() -> None:
    """An unknown tag is no damage."""
    data = pack([["hologram", {"size": 3}, [1, "x"], 1]], [b"raw"])
    inert = decode(data)
    assert isinstance(inert, Inert)
    assert inert.type_name == "hologram"
    assert dict(inert.fields) == {"0": 1, "1": "x"}
    assert encode(inert) == data


def test_a_date_in_an_unknown_zone_is_inert_and_not_moved() -> None:
    """What cannot be exact here is not approximated."""
    zone = pack([["zone", "Mars/Olympus", [], 0], ["datetime", ["2020-01-01T00:00:00", 0], [[0]], 0]], [])
    inert = decode(zone)
    assert isinstance(inert, Inert)
    assert "Mars/Olympus" in repr(inert)
    assert encode(inert) == zone
    assert ZoneInfo("UTC") == decode(encode(ZoneInfo("UTC")))


def test_a_registered_local_class_is_found() -> None:
    """`register` adds what no module holds."""

    @register
    @dataclass
    class Local:
        a: int

    assert decode(encode(Local(3))) == Local(3)
