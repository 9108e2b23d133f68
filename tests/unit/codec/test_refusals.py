"""What cannot come back exactly is refused before the effect, naming the key path."""

from __future__ import annotations

import enum
import io
import os
import random
import socket
import sqlite3
import threading
import types
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

import numpy as np
import pytest

from flowbook.codec import encode, register
from flowbook.errors import Unencodable
from tests.unit.codec.examples import Document, Model, Point


class MyDict(dict):
    pass


class MyStr(str):
    __slots__ = ()


class MyInt(int):
    pass


class MyZone(tzinfo):
    def utcoffset(self, _at: datetime | None) -> None: ...
    def dst(self, _at: datetime | None) -> None: ...
    def tzname(self, _at: datetime | None) -> None: ...


class Plain:
    pass


@dataclass
class ErrorData(ValueError):
    a: int = 0


def _generator() -> Any:
    yield 1


def _local() -> Any:
    @dataclass
    class Local:
        a: int

    return Local(1)


def _cycle() -> Any:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


POISON: list[tuple[str, Any]] = [
    ("lock", threading.Lock()),
    ("generator", _generator()),
    ("file", io.StringIO()),
    ("lambda", lambda: 1),
    ("function", _generator),
    ("builtin", len),
    ("module", os),
    ("class", Plain),
    ("instance", Plain()),
    ("object", object()),
    ("dict subclass", MyDict(a=1)),
    ("str subclass", MyStr("x")),
    ("int subclass", MyInt(1)),
    ("error", ValueError("x")),
    ("dataclass error", ErrorData(1)),
    ("factory", defaultdict(list)),
    ("memoryview", memoryview(b"x")),
    ("zone", datetime(2020, 1, 1, tzinfo=MyZone())),
    ("local class", _local()),
    ("namespace", types.SimpleNamespace(a=1)),
    ("proxy", types.MappingProxyType({})),
    ("random", random.Random()),
    ("matrix", np.ma.masked_array([1], [True])),
    ("memmap", np.rec.array([(1,)], dtype=[("a", int)])),
    ("iterator", iter([1])),
    ("keys", {}.keys()),
    ("stat", os.stat(".")),  # noqa: PTH116
    ("thread", threading.current_thread()),
]


@pytest.mark.parametrize("value", [v for _, v in POISON], ids=[n for n, _ in POISON])
def test_poison_is_refused_with_its_key_path_and_a_way_out(value: Any) -> None:
    """The error names the place, the type, and both ways to go on."""
    with pytest.raises(Unencodable) as caught:
        encode({"docs": [0, {"author": value}]}, at="result")
    assert caught.value.key_path.startswith("result.docs[1].author")
    assert 'store="pickle"' in str(caught.value)
    assert 'store="recompute"' in str(caught.value)
    assert type(value).__name__ in str(caught.value) or "tzinfo" in caught.value.key_path


def test_things_of_the_operating_system_are_refused() -> None:
    """Sockets, connections, coroutines and files."""

    async def later() -> None: ...

    coroutine = later()
    connection = sqlite3.connect(":memory:")
    try:
        with socket.socket() as sock, open(os.devnull) as file:  # noqa: PTH123
            for value in (sock, file, connection, coroutine):
                with pytest.raises(Unencodable, match=r"docs\[0\]"):
                    encode({"docs": [value]})
    finally:
        coroutine.close()
        connection.close()


def test_a_fitted_model_of_sklearn_is_refused_and_pickle_proposed() -> None:
    """Pickle is proposed, never a fallback."""
    linear = pytest.importorskip("sklearn.linear_model")
    with pytest.raises(Unencodable, match=r'result.model: .*LinearRegression.*store="pickle"'):
        encode({"model": linear.LinearRegression()}, at="result")


@pytest.mark.parametrize(
    ("value", "at", "path"),
    [
        ({"docs": [0, 0, 0, {"author": object()}]}, "", "docs[3].author"),
        ({"a b": object()}, "result", "result['a b']"),
        ({"a b": object()}, "", "['a b']"),
        ({1: {(1, 2): object()}}, "r", "r[1][(1, 2)]"),
        ({object(): 1}, "r", "r[object]<key>"),
        (Document("t", tags=[1, object()]), "r", "r.tags[1]"),
        (Model(name="m", number={"x": object()}), "r", "r.number.x"),
        ([Point(1, object())], "r", "r[0].y"),
        ((1, (2, object())), "", "[1][1]"),
        (OrderedDict(a=deque([object()])), "", "a[0]"),
        (np.array([1, object()], dtype=object), "r", "r[1]"),
        ([{1, Point(2, object())}], "r", "r[0]<element>.y"),
        ([{Point(2, object())}], "r", "r[0]<element>.y"),
        (object(), "result", "result"),
        (object(), "", ""),
    ],
)
def test_the_key_path_leads_to_the_value(value: Any, at: str, path: str) -> None:
    """As one would write it in Python."""
    with pytest.raises(Unencodable) as caught:
        encode(value, at=at)
    assert caught.value.key_path == path


def test_a_cycle_is_refused_where_it_closes() -> None:
    """Not by running out of memory."""
    with pytest.raises(Unencodable, match=r"r\[1\]\.again: it contains itself"):
        encode(_cycle(), at="r")
    document = Document("t")
    document.body = [document]
    with pytest.raises(Unencodable, match=r"body\[0\]: it contains itself"):
        encode(document)
    array = np.array([None], dtype=object)
    array[0] = array
    with pytest.raises(Unencodable, match="contains itself"):
        encode(array)


def test_the_same_object_twice_is_no_cycle() -> None:
    """Sharing is not containing."""
    shared = [b"x"]
    encode({"a": shared, "b": [shared, shared]})


@pytest.mark.parametrize("kind", ["list", "tuple", "frozenset"])
def test_endless_nesting_is_refused_and_not_a_crash(kind: str) -> None:
    """100,000 levels give a typed error."""
    value: Any = 1
    for _ in range(5_000 if kind == "frozenset" else 100_000):
        value = [value] if kind == "list" else (value,) if kind == "tuple" else frozenset({value, 2})
    with pytest.raises(Unencodable, match=r"deeper|nests"):
        encode(value, at="r")


def test_a_class_that_was_redefined_is_refused_for_old_instances() -> None:
    """The name means another class now, so the value would come back as something else."""
    old = register(_make_class())(1)
    register(_make_class())
    with pytest.raises(Unencodable, match="another class"):
        encode(old)


def _make_class() -> Any:
    @dataclass
    class Redefined:
        a: int

    return Redefined


def test_a_local_enum_is_refused_until_it_is_registered() -> None:
    """`register` makes it findable."""

    class Local(enum.Enum):
        A = 1

    with pytest.raises(Unencodable, match=r"flowbook\.codec\.register"):
        encode(Local.A)
    register(Local)
    encode(Local.A)
    with pytest.raises(TypeError, match="register takes a class"):
        register(5)  # type: ignore[type-var]


def test_a_zone_of_another_library_is_refused_by_name() -> None:
    """And the offset is not silently kept in its place."""
    with pytest.raises(Unencodable, match=r"at\.tzinfo: .*MyZone"):
        encode({"at": datetime(2020, 1, 1, tzinfo=MyZone())})
    encode({"at": datetime(2020, 1, 1, tzinfo=UTC)})
