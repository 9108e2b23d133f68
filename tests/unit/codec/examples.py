"""Classes, strategies and a comparison that the codec's tests share.

Owns: ``same`` (equality that sees types, signs, NaN, order, folds), recursive strategies over all storable values.
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from fractions import Fraction
from functools import cached_property
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr

T = TypeVar("T")


class Color(Enum):
    RED = "r"
    BLUE = (1, 2)
    CRIMSON = "r"  # noqa: PIE796  # an alias on purpose


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    YES = "yes"


class Right(Flag):
    READ = 1
    WRITE = 2


class Bits(IntFlag):
    ONE = 1
    TWO = 2


class Point(NamedTuple):
    x: Any
    y: Any = 0


Pair = namedtuple("Pair", "left right")  # noqa: PYI024  # both ways of making one are carried


@dataclass
class Document:
    title: Any
    body: Any = None
    tags: list[Any] = field(default_factory=list)

    @cached_property
    def shout(self) -> str:
        return str(self.title).upper()

    class Section(Enum):
        INTRO = 1


@dataclass(frozen=True)
class Key:
    name: Any
    number: Any = 0


@dataclass(slots=True)
class Slotted:
    a: Any
    b: Any = field(default=None, compare=False)


@dataclass
class Loud:
    value: Any

    def __post_init__(self) -> None:
        if self.value == "stored":
            raise AssertionError("__post_init__ ran")


@dataclass
class Box(Generic[T]):
    item: T


class Model(BaseModel):
    name: str
    number: Any = 1
    items: list[Any] = []
    _secret: Any = PrivateAttr(default=None)


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    a: int = 0


class Parent(BaseModel):
    child: Model
    maybe: Model | None = None


def same(a: Any, b: Any) -> bool:
    """Whether two values cannot be told apart: by type, sign of zero, NaN, order, zone, fold, state."""
    if type(a) is not type(b):
        return False
    match a:
        case float():
            return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
        case complex():
            return same(a.real, b.real) and same(a.imag, b.imag)
        case Enum():
            return a is b or (isinstance(a, Flag) and a == b)
        case int():
            return a == b  # without repr, which has a limit on digits
        case dict():
            return len(a) == len(b) and all(
                same(k, m) and same(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True)
            )
        case list() | tuple() | deque():
            return (
                len(a) == len(b) and all(map(same, a, b)) and getattr(a, "maxlen", None) == getattr(b, "maxlen", None)
            )
        case set() | frozenset():
            return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
        case datetime() | time():
            return (
                a.replace(tzinfo=None) == b.replace(tzinfo=None)
                and a.fold == b.fold
                and type(a.tzinfo) is type(b.tzinfo)
                and repr(a.tzinfo) == repr(b.tzinfo)
            )
        case Decimal():
            return a.as_tuple() == b.as_tuple()
        case np.ndarray() if a.dtype == object:
            return a.shape == b.shape and same(a.ravel().tolist(), b.ravel().tolist())
        case np.ndarray() | np.generic():
            return a.dtype == b.dtype and a.shape == b.shape and repr(a) == repr(b) and a.tobytes() == b.tobytes()
        case BaseModel():
            return (
                same(vars(a), vars(b))
                and same(a.model_extra, b.model_extra)
                and same(a.__pydantic_private__, b.__pydantic_private__)
                and a.model_fields_set == b.model_fields_set
            )
        case _ if is_dataclass(a):
            return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
        case _:
            return bool(a == b) and repr(a) == repr(b)


# ------------------------------------------------------------------------------------------------------ strategies

any_text = st.text(st.characters())  # surrogates and NUL included
zones = st.one_of(
    st.none(),
    st.just(UTC),
    st.sampled_from(["Europe/Berlin", "America/New_York", "UTC", "Asia/Kathmandu"]).map(ZoneInfo),
    st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    st.builds(lambda n, name: timezone(timedelta(seconds=n), name), st.integers(-86399, 86399), any_text),
)
huge_ints = st.integers().map(lambda number: number * 10**650)  # no bounds of that size: their repr is everywhere
tame_scalars = st.one_of(st.none(), st.booleans(), st.integers(), huge_ints, st.floats(allow_nan=False), any_text)
json_scalars = tame_scalars | st.just(float("nan"))
hashable_scalars = st.one_of(
    tame_scalars,
    st.binary(max_size=200),
    st.dates(),
    st.builds(lambda d, z, fold: d.replace(tzinfo=z, fold=fold), st.datetimes(), zones, st.integers(0, 1)),
    st.builds(lambda t, z, fold: t.replace(tzinfo=z, fold=fold), st.times(), zones, st.integers(0, 1)),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.complex_numbers(allow_nan=False),
    st.sampled_from([*Color, *Level, *Word, *Document.Section]),
    st.sampled_from([Right(0), Right.READ, Right.READ | Right.WRITE, Bits(9), Bits.ONE]),
    any_text.map(PurePosixPath),
    st.text("ab/\\").map(lambda text: PureWindowsPath("C:" + text)),
    st.builds(range, st.integers(), st.integers(), st.integers(1, 9)),
    st.just(...),
    st.sampled_from([re.compile("a+", re.IGNORECASE), re.compile(b"[x]"), re.compile("(?s:.)", re.VERBOSE)]),
)
scalars = st.one_of(
    hashable_scalars,
    st.just(float("nan")),
    st.just(Decimal("sNaN12")),
    st.complex_numbers(),
    st.binary(max_size=300).map(bytearray),
    st.builds(slice, st.none() | st.integers(), st.none() | st.integers()),
    st.floats().map(np.float64),
    st.integers(-128, 127).map(np.int8),
    st.lists(st.floats(width=32), max_size=4).map(lambda xs: np.array(xs, dtype="f4")),
)
hashables = st.recursive(
    hashable_scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(Key, inner, inner),
    ),
    max_leaves=6,
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    items = st.lists(inner, max_size=4)
    pairs = st.lists(st.tuples(hashables, inner), max_size=4)
    return st.one_of(
        items,
        items.map(tuple),
        st.dictionaries(any_text, inner, max_size=4),
        pairs.map(dict),
        pairs.map(OrderedDict),
        pairs.map(lambda p: defaultdict(None, p)),
        pairs.map(lambda p: Counter(dict(p))),
        st.builds(deque, items, st.none() | st.integers(4, 9)),
        st.sets(hashables, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Document, inner, inner, items),
        st.builds(Slotted, inner, inner),
        st.builds(lambda a, b: Model(name="m", number=a, items=b), inner, items),
        st.builds(lambda a: Extra.model_validate({"a": 1, "more": a}), inner),
    )


values = st.recursive(scalars, _containers, max_leaves=12)
"""Everything that the codec carries, without the tables (which have tests of their own)."""

plain_values = st.recursive(
    json_scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(any_text, inner, max_size=4)),
    max_leaves=20,
)
"""JSON types alone."""

SAMPLES: list[Any] = [
    {"i": 5},
    [1, 2.5, "x", None, True],
    date(2020, 1, 1),
    datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    time(1, 2, 3, 4),
    {1: "a", None: b"b" * 200, (1, 2): {3, "x"}},
    Document("t", Color.RED, [Point(1, 2)]),
    Model(name="x", items=[Right.READ]),
    UUID(int=7),
    "\ud800",
    10**700,
    Decimal("1.50"),
    Fraction(1, 3),
    np.arange(6, dtype="i2").reshape(2, 3),
    np.array([1, "a", [2]], dtype=object),
    PurePath("a/b"),
]
"""One of each kind, small, for tests that damage bytes."""
