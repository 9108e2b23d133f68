"""Damaged or hostile bytes give a value or `Undecodable`; nothing else, and no import."""

from __future__ import annotations

import contextlib
import json
import sys
import zlib
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowbook.codec import VERSION, decode, encode
from flowbook.codec.registry import MAKERS
from flowbook.codec.wire import PLAIN, RICH, pack
from flowbook.errors import Undecodable
from tests.unit.codec.examples import SAMPLES

TABLES: list[Any] = [
    pd.DataFrame({"a": [1, 2], "s": ["x", None], "t": pd.to_datetime(["2020", None]), "c": pd.Categorical(["u", "v"])}),
    pd.MultiIndex.from_product([["a"], [1, 2]]),
    pl.DataFrame({"a": [1, None], "s": ["x", "y"]}),
    pa.table({"a": [1, 2], "s": ["x", None]}),
]
PAYLOADS = [encode(value) for value in [*SAMPLES, *TABLES]]
for _payload in PAYLOADS:
    decode(_payload)  # so that every technology is loaded before the tests look for new modules
decode(pack([["zone", "Mars/Olympus", [], 0]], []))  # and the list of the time zones


def _read(data: bytes) -> None:
    loaded = set(sys.modules)
    with contextlib.suppress(Undecodable):
        decode(data)
    fresh_modules = {name for name in set(sys.modules) - loaded if not name.startswith(("pandas", "polars", "pyarrow"))}
    assert not fresh_modules


@settings(max_examples=600)
@given(st.sampled_from(PAYLOADS), st.data())
def test_any_mutation_gives_a_value_or_undecodable(data: bytes, draw: st.DataObject) -> None:
    """Flipped, cut, doubled or overwritten at any place."""
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, max(0, len(damaged) - 1)))
        match draw.draw(st.sampled_from(["flip", "cut", "insert", "drop", "digit"])):
            case "flip" if damaged:
                damaged[at] ^= 1 << draw.draw(st.integers(0, 7))
            case "cut":
                del damaged[at:]
            case "insert":
                damaged[at:at] = draw.draw(st.binary(max_size=4))
            case "drop":
                del damaged[at : at + 3]
            case _:
                damaged[at : at + 1] = bytes([draw.draw(st.sampled_from(list(b'0123456789[]{},":-')))])
    _read(bytes(damaged))


@pytest.mark.parametrize("data", PAYLOADS, ids=lambda data: f"{len(data)}")
def test_every_truncation_is_noticed(data: bytes) -> None:
    """No prefix of a payload is taken for the whole; only a bare number's prefix is a number again."""
    if data[2:].isdigit():
        return
    for end in range(0, len(data), 1 + len(data) // 200):
        with pytest.raises(Undecodable):
            decode(data[:end])


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["", "class", "fields"]), inner),
    max_leaves=6,
)
_metas = st.one_of(
    _json,
    st.just({"class": ["os", "system"], "fields": []}),
    st.just({"class": ["tests.unit.codec.examples", "Document"], "fields": ["title"], "declared": []}),
    st.just(["<f8", [2], "C"]),
    st.just(["O", [1], "C"]),
    st.lists(st.integers(-(2**70), 2**70), max_size=3),
)
_tags = st.sampled_from(sorted(MAKERS)) | st.text(max_size=5)
_nodes = st.lists(
    st.tuples(_tags, _metas, st.lists(_json | st.lists(st.integers(0, 3), max_size=1), max_size=4), st.integers(0, 2)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=400)
@given(_nodes, st.lists(st.binary(max_size=20), max_size=3))
def test_well_formed_containers_of_nonsense_give_a_value_or_undecodable(nodes: Any, segments: list[bytes]) -> None:
    """Every tag with every kind of wrong part, without a checksum to stop it first."""
    try:
        data = pack([list(node) for node in nodes], list(segments))
    except ValueError:
        return
    _read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes([VERSION]),
        PLAIN,
        RICH,
        PLAIN + b"[" * 1_000_000,
        PLAIN + b'{"":' * 1_000_000,
        PLAIN + b'{"a":1}x',
        PLAIN + b" 1",
        PLAIN + b'"\xff"',
        RICH + b"\xff" * 8,
        RICH + (2).to_bytes(8, "little") + b"[]",
        pack([], []),
        pack([["list", None, [[0]], 0]], []),
        pack([["list", None, [[-1]], 0]], []),
        pack([["tuple", None, [], 0], ["list", None, [[0], [0]], 0]], []),
        pack([["tuple", None, [], 0], ["list", None, [], 0]], []),
        pack([["bytes", None, [], 1]], []),
        pack([["list", None, [], 0]], [b"left over"]),
        pack([["set", None, [{"": []}], 0]], []),
        pack([["np.array", ["O", [1], "C"], [], 1]], [bytes(8)]),
        pack([["np.array", ["<f8", [2**40], "C"], [], 1]], [bytes(8)]),
        pack([["np.array", ["<f8", [-1], "C"], [], 1]], [bytes(8)]),
        pack([["pd.multiindex", 1, [{"": ["a"]}, {"": [99]}, None], 0]], []),
        pack([["pl.frame", [zlib.crc32(b"ARROW1 nonsense"), 3], [], 1]], [b"ARROW1 nonsense"]),
        pack([["pa.table", [zlib.crc32(b"\xff" * 64)], [], 1]], [b"\xff" * 64]),
    ],
    ids=lambda data: repr(bytes(data[:24])),
)
def test_hostile_bytes_are_undecodable(data: bytes) -> None:
    """Neither a crash nor an exception of somebody else's."""
    with pytest.raises(Undecodable):
        decode(data)


def test_hostile_depth_does_not_reach_the_interpreters_stack() -> None:
    """A chain of tuples deep enough to overflow C when hashed is refused before it is hashed."""
    nodes: list[Any] = [["tuple", None, [], 0]]
    nodes += [["tuple", None, [[index]], 0] for index in range(20_000)]
    nodes.append(["set", None, [[len(nodes) - 1]], 0])
    with pytest.raises(Undecodable, match="deeper"):
        decode(pack(nodes, []))


def test_reading_never_imports_the_module_that_a_row_names() -> None:
    """Looked up in what is loaded; `antigravity` would open a browser."""
    for tag in ("dataclass", "enum", "namedtuple", "pydantic.model", "flag"):
        meta = {"class": ["antigravity", "Anything"], "fields": ["a"], "declared": ["a"]}
        decode(pack([[tag, meta, [1], 0]], []))
    assert "antigravity" not in sys.modules


def test_reading_never_calls_what_a_row_names() -> None:
    """A function, a class that is no dataclass, a path through a lazy module: all stay inert."""
    for module, name in [
        ("os", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("json", "decoder.JSONDecoder"),
    ]:
        for tag in ("dataclass", "enum", "namedtuple", "pydantic.model", "flag"):
            meta = {"class": [module, name], "fields": [], "declared": []}
            assert type(decode(pack([[tag, meta, ["x"], 0]], []))).__name__ == "Inert"


def test_a_newer_format_says_that_flowbook_must_be_upgraded() -> None:
    """Not that the value is damaged."""
    with pytest.raises(Undecodable, match="upgrade flowbook"):
        decode(bytes([VERSION + 1]) + b"j1")


def test_the_header_is_json() -> None:
    """So a payload can be looked into without flowbook."""
    data = encode([b"x" * 1000])
    size = int.from_bytes(data[2:10], "little")
    assert json.loads(data[10 : 10 + size]) == [[["bytes", None, [], 1], ["list", None, [[0]], 0]], [1000]]
