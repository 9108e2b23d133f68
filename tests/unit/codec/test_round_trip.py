"""Values survive the round trip exactly."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any
from uuid import uuid1

import pytest
from hypothesis import given, settings

from flowbook.codec import VERSION, decode, digest, encode
from flowbook.codec.wire import PLAIN, RICH, is_plain
from tests.unit.codec.examples import (
    SAMPLES,
    Box,
    Color,
    Document,
    Key,
    Loud,
    Point,
    plain_values,
    same,
    values,
)


@settings(max_examples=400)
@given(values)
def test_any_value_comes_back_exactly(value: Any) -> None:
    """decode(encode(v)) cannot be told from v, and is stored as the same bytes again."""
    data = encode(value)
    again = decode(data)
    assert same(again, value)
    assert encode(again) == data


@settings(max_examples=200)
@given(plain_values)
def test_json_comes_back_exactly_whatever_its_text_and_numbers(value: Any) -> None:
    """NaN, infinities, -0.0, huge ints, NUL, lone and paired surrogates are JSON's weak spots; none is ours."""
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        *SAMPLES,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        "\u0000",
        "\ud83d",
        "\ud83d\ude00",  # two surrogates, which JSON's escapes would join into one character
        "\U0001f600",
        {"\ud83d\ude00": "\ud800"},
        2**63,
        -(10**4299),
        10**4300,
        -(10**20_000),
        True,
        {True: 1, None: 2, 2.5: 3, (): 4, "": 5},
        {"": [0]},
        {"": {"": [[0]]}, "tag": ["set", None, [1], 0]},
        [["set", None, [1], 0], [0]],
        [[[0]], {"": 1}, b"x"],
        uuid1(),
        [Point(1), (1, 0)],
        Color.CRIMSON,
        Document.Section.INTRO,
        Loud("x"),
        Box[int](5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_awkward_values_come_back_exactly(value: Any) -> None:
    """Also those that look like the format's own marks."""
    assert same(decode(encode(value)), value)


def test_a_cached_property_survives_with_its_dataclass() -> None:
    """State beyond the fields is part of what the instance holds."""
    document = Document("title")
    assert document.shout == "TITLE"
    again = decode(encode(document))
    assert isinstance(again, Document)
    assert vars(again) == vars(document)


def test_a_missing_field_stays_missing() -> None:
    """A field that was never set comes back unset, not as its default."""
    document = object.__new__(Document)
    document.title = "only"
    again = decode(encode(document))
    assert isinstance(again, Document)
    assert vars(again) == {"title": "only"}


def test_no_code_of_a_dataclass_runs_when_it_is_read() -> None:
    """`__post_init__` would raise."""
    loud = Loud("x")
    loud.value = "stored"
    again = decode(encode(loud))
    assert isinstance(again, Loud)
    assert again.value == "stored"


def test_plain_json_is_stored_as_json() -> None:
    """What psql shows of a payload can be read."""
    assert encode({"i": 5}) == bytes([VERSION]) + b'j{"i":5}'
    assert encode([b"x"])[:2] == RICH


def test_the_short_cut_and_the_walk_give_the_same_bytes() -> None:
    """A digest must not depend on which way a value took."""
    from flowbook.codec.api import _encode_walked

    examples: list[Any] = [{"a": [1, {"b": None}], "c": {}}, [], 5, "x", [[[]]], {"a": list(range(100))}]
    for value in examples:
        assert is_plain(value)
        for strict in (False, True):
            assert _encode_walked(value, "", strict=strict) == encode(value)


def _nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        match kind:
            case "list":
                value = [value]
            case "dict":
                value = {"k": value}
            case "tuple":
                value = (value,)
            case "mixed":
                value = {1: [(value,)]}
            case _:
                value = Document(value)
    return value


def _depth(value: Any) -> int:
    depth = 0
    while value != 1 if isinstance(value, int) else True:
        match value:
            case dict():
                (value,) = value.values()
            case Document():
                value = value.title
            case _:
                (value,) = value
        depth += 1
    return depth


@pytest.mark.parametrize("kind", ["list", "dict", "tuple", "document"])
def test_nesting_of_five_thousand_levels_round_trips(kind: str) -> None:
    """Depth costs memory and not the interpreter's stack."""
    data = encode(_nested(5000, kind))
    again = decode(data)
    assert _depth(again) == 5000
    assert encode(again) == data


def test_a_value_is_stored_near_the_end_of_the_stack() -> None:
    """A caller that is deep in recursion itself still gets a value or a typed error."""
    value = {"a": [1, {"b": [[[[1]]]]}]}

    def dive() -> int:
        try:
            return dive() + 1
        except RecursionError:
            return 0

    room = dive()

    def at_depth(left: int) -> bytes | None:
        if left:
            return at_depth(left - 1)
        return encode(value)

    assert at_depth(room - 60) is not None


@pytest.mark.parametrize("value", [b"x" * 20_000_000, "x" * 20_000_000, bytearray(20_000_000)], ids=["b", "s", "ba"])
def test_large_values_are_not_inflated(value: Any) -> None:
    """Raw segments: 20 MB cost 20 MB."""
    data = encode({"big": value} if not isinstance(value, str) else value)
    assert len(data) < 20_000_200
    assert decode(data) == ({"big": value} if not isinstance(value, str) else value)


def test_sets_within_sets_are_ordered_quickly_and_alike() -> None:
    """Ordering by content does not double at each level."""
    one: frozenset[Any] = frozenset()
    for level in range(40):
        one = frozenset({one, level})
    assert decode(encode(one)) == one


def test_a_set_has_the_same_bytes_in_every_process() -> None:
    """Hash randomisation changes a set's order, not its digest."""
    program = (
        "from flowbook.codec import encode; import datetime\n"
        "s = {'a', 'b', 'c', 1, 2.5, None, (1, 'x'), frozenset({'p', 'q', 3}), datetime.date(2020, 1, 1)}\n"
        "print(encode([s, {'x', 'y', 'z', 'w'}]).hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(seen) == 1


def test_reading_does_not_depend_on_the_readers_limit_on_digits() -> None:
    """The writer's interpreter may have allowed longer ints."""
    data = PLAIN + b"[-" + b"7" * 6000 + b",1]"
    assert decode(data) == [-int("7" * 3000) * 10**3000 - int("7" * 3000), 1]


def test_a_digest_is_sixteen_bytes_of_the_content() -> None:
    """Same bytes, same name."""
    assert len(digest(b"x")) == 16
    assert digest(b"x") == digest(b"x") != digest(b"y")


def test_keys_keep_their_order_and_elements_of_frozen_dataclasses_their_hash() -> None:
    """A frozen dataclass works as a key after the round trip."""
    value = {Key("b"): 1, Key("a"): 2}
    again = decode(encode(value))
    assert isinstance(again, dict)
    assert list(again.items()) == list(value.items())
    assert again[Key("a")] == 2
