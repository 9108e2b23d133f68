"""``fresh``: a copy of a value that may be handed to a step, because changing it changes nothing else.

Owns: copying the standard library's values and the user's dataclasses. Refuses: values that cannot be stored
(what a step sees must be what a replay would give it).

Much cheaper than a round trip: what cannot change is handed out as it is, arrays as read-only views.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from flowbook.codec.api import decode, encode
from flowbook.codec.classes import is_dataclass, is_enum, is_namedtuple, state_of, with_state
from flowbook.codec.registry import COPIES, KIND_COPIES, load_for, taker
from flowbook.codec.wire import SCALARS

IMMUTABLE: Final[frozenset[type]] = SCALARS | {
    *(bytes, complex, range, type(Ellipsis), re.Pattern, Decimal, Fraction, UUID),
    *(date, time, datetime, timedelta, timezone, ZoneInfo),
    *(PosixPath, PurePosixPath, PureWindowsPath, WindowsPath),
}
"""Exact types whose values are handed out as they are."""


def fresh(value: object) -> object:
    """A copy of a value, equal to it and independent of it.

    numpy arrays become read-only views, pandas objects shallow copies under copy-on-write, polars and Arrow objects
    share their buffers. Raises `Unencodable` for what cannot be stored.
    """
    try:
        return copied(value)
    except RecursionError:
        return decode(encode(value))  # deep or cyclic: the walk needs no stack, and names a cycle


def copied(value: Any) -> Any:
    """As `fresh`, but recursive: RecursionError for what is too deep."""
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    if kind is list:
        return [item if type(item) in IMMUTABLE else copied(item) for item in value]
    if kind is dict:
        return {_key(key): item if type(item) in IMMUTABLE else copied(item) for key, item in value.items()}
    copy = COPIES.get(kind)
    if copy is None:
        load_for(kind)
        copy = COPIES.get(kind)
    if copy is not None:
        return copy(value)
    return _of_a_class(value, kind)


def _key(key: Any) -> Any:
    return key if type(key) in IMMUTABLE else copied(key)


def _of_a_class(value: Any, kind: type) -> Any:
    copy = next((copy for fits, copy in KIND_COPIES if fits(kind)), None)
    if copy is None or taker(kind) is None:
        return decode(encode(value))  # exact, or raises and says why
    return copy(value)


def _namedtuple(value: Any) -> Any:
    plain: Any = tuple  # its __new__ and not the class's own, which may do anything
    return plain.__new__(type(value), [copied(item) for item in value])


def _dataclass(value: Any) -> Any:
    return with_state(type(value), {name: copied(item) for name, item in state_of(value).items()})


def _tuple(value: tuple[Any, ...]) -> tuple[Any, ...]:
    items = tuple(copied(item) for item in value)
    return value if all(a is b for a, b in zip(items, value, strict=True)) else items


def _frozenset(value: frozenset[Any]) -> frozenset[Any]:
    return value if IMMUTABLE.issuperset(map(type, value)) else frozenset(map(copied, value))


def _pairs(value: dict[Any, Any]) -> list[tuple[Any, Any]]:
    return [(_key(key), copied(item)) for key, item in value.items()]


def _defaultdict(value: defaultdict[Any, Any]) -> object:
    if value.default_factory is not None:
        return decode(encode(value))  # raises, saying why
    return defaultdict(None, _pairs(value))


KIND_COPIES.append((is_enum, lambda value: value))
KIND_COPIES.append((is_namedtuple, _namedtuple))
KIND_COPIES.append((is_dataclass, _dataclass))
COPIES[bytearray] = bytearray
COPIES[tuple] = _tuple
COPIES[frozenset] = _frozenset
COPIES[set] = lambda value: set(map(copied, value))
COPIES[deque] = lambda value: deque(map(copied, value), value.maxlen)
COPIES[OrderedDict] = lambda value: OrderedDict(_pairs(value))
COPIES[Counter] = lambda value: Counter(dict(_pairs(value)))
COPIES[defaultdict] = _defaultdict
COPIES[slice] = lambda value: slice(copied(value.start), copied(value.stop), copied(value.step))
