"""Operators of JSON Logic that read all of their arguments, and what values mean to them.

Owns: `EAGER`, comparing, and values as numbers, texts and truths. Refuses: operators that choose what they read, and
the working out of a rule (`logic.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

INVALID: Final = "Invalid Arguments"
NOT_A_NUMBER: Final = "NaN"

Scopes = tuple[Any, ...]
"""The data, and per loop around it what stands at each level; the last is what ``var`` reads."""


class Thrown(Exception):
    """What a rule raised: caught by ``try``, else told as `ConditionFailed`."""

    def __init__(self, said: Any) -> None:
        super().__init__(said)
        self.said: Mapping[str, Any] = said if isinstance(said, Mapping) else {"type": said}


def truthy(value: Any) -> bool:
    """Does JSON Logic take a value for true?"""
    return True if isinstance(value, Mapping) else bool(value)


def same(one: Any, other: Any) -> bool:
    if _is_number(one) and _is_number(other):
        return bool(one == other)
    return type(one) is type(other) and bool(one == other)


def alike(one: Any, other: Any) -> bool:
    if one is None and other is None:
        return True
    if (one is None and isinstance(other, str)) or (other is None and isinstance(one, str)):
        return False
    left, right = _comparable(one, other)
    return bool(left == right)


def _comparable(one: Any, other: Any) -> tuple[Any, Any]:
    """Two values in a form in which they can be compared: texts as texts, times as times, all else as numbers."""
    if type(one) is type(other) and not isinstance(one, list | tuple | Mapping | bool | None):
        return one, other
    return _number(one), _number(other)


def ordered(one: Any, other: Any) -> int:
    left, right = _comparable(one, other)
    if left != left or right != right:
        raise Thrown(NOT_A_NUMBER)
    return -1 if left < right else int(left > right)


# ----------------------------------------------------------------------------------- operators that read all arguments


def _var(given: list[Any], scopes: Scopes) -> Any:
    key = given[0] if given else ""
    default = given[1] if len(given) > 1 else None
    if key in ("", None):
        return scopes[-1]
    found = scopes[-1]
    for part in str(_plain(key)).split("."):
        found = _below(found, part)
        if found is _NOTHING:
            return default
    return default if found is None else found


def _val(given: list[Any], scopes: Scopes) -> Any:
    found = _path(given, scopes)
    return None if found is _NOTHING else found


def _exists(given: list[Any], scopes: Scopes) -> Any:
    return _path(given, scopes) is not _NOTHING


def _path(given: list[Any], scopes: Scopes) -> Any:
    keys, at = given, scopes[-1]
    if keys and is_list(keys[0]):
        up = abs(int(_number(keys[0][0]))) if keys[0] else 0
        if up >= len(scopes):
            return _NOTHING
        keys, at = keys[1:], scopes[-1 - up]
    for key in keys:
        at = _below(at, key)
        if at is _NOTHING:
            return _NOTHING
    return at


def _missing(given: list[Any], scopes: Scopes) -> Any:
    keys = given[0] if given and is_list(given[0]) else given
    return [key for key in keys if _var([key], scopes) in (None, "")]


def _missing_some(given: list[Any], scopes: Scopes) -> Any:
    if len(given) < 2 or not is_list(given[1]):
        raise Thrown(INVALID)
    gone = _missing([given[1]], scopes)
    return [] if len(given[1]) - len(gone) >= _number(given[0]) else gone


def _throw(given: list[Any], _: Scopes) -> Any:
    raise Thrown(given[0] if given else None)


def _plus(given: list[Any], _: Scopes) -> Any:
    return _finite(sum(map(_number, given)))


def _minus(given: list[Any], _: Scopes) -> Any:
    if not given:
        raise Thrown(INVALID)
    first, *rest = map(_number, given)
    return _finite(first - sum(rest) if rest else -first)


def _times(given: list[Any], _: Scopes) -> Any:
    return _finite(math.prod(map(_number, given)))


def _divide(given: list[Any], _: Scopes) -> Any:
    if not given:
        raise Thrown(INVALID)
    first, *rest = [1, *map(_number, given)] if len(given) == 1 else map(_number, given)
    for each in rest:
        if not each:
            raise Thrown(NOT_A_NUMBER)
        first = first / each
    return _finite(first)


def _modulo(given: list[Any], _: Scopes) -> Any:
    if len(given) < 2:
        raise Thrown(INVALID)
    first, *rest = map(_number, given)
    for each in rest:
        if not each:
            raise Thrown(NOT_A_NUMBER)
        first = math.fmod(first, each)
    return _finite(first)


def _most(choose: Callable[[list[Any]], Any]) -> Callable[[list[Any], Scopes], Any]:
    def chosen(given: list[Any], _: Scopes) -> Any:
        if not given or not all(map(_is_number, given)):
            raise Thrown(INVALID)
        return choose(given)

    return chosen


def _in(given: list[Any], _: Scopes) -> Any:
    what, where = (*given, None, None)[:2]
    if isinstance(where, str):
        return _text(what) in where
    return is_list(where) and any(same(what, each) for each in where)


def _cat(given: list[Any], _: Scopes) -> Any:
    return "".join(map(_text, given))


def _substr(given: list[Any], _: Scopes) -> Any:
    if not given:
        raise Thrown(INVALID)
    text, start = _text(given[0]), int(_number(given[1])) if len(given) > 1 else 0
    start = max(0, len(text) + start) if start < 0 else start
    if len(given) < 3:
        return text[start:]
    length = int(_number(given[2]))
    return text[start:length] if length < 0 else text[start : start + length]


def _merge(given: list[Any], _: Scopes) -> Any:
    return [item for each in given for item in (each if is_list(each) else [each])]


# ------------------------------------------------------------------------------------------------- values

_NOTHING: Final = object()


def _below(at: Any, key: Any) -> Any:
    """What a key, or the number of an item, leads to; only data is read, never an attribute."""
    key = _plain(key)
    if isinstance(at, Mapping):
        return at.get(key, at.get(str(key), _NOTHING) if not isinstance(key, str) else _NOTHING)
    if is_list(at):
        try:
            number = int(key)
        except (TypeError, ValueError):
            return _NOTHING
        return at[number] if 0 <= number < len(at) else _NOTHING
    return _NOTHING


def _plain(key: Any) -> Any:
    return int(key) if isinstance(key, float) and key.is_integer() else key


def is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _number(value: Any) -> Any:
    match value:
        case None:
            return 0
        case bool():
            return int(value)
        case int() | float() | Decimal():
            return value
        case str():
            text = value.strip()
            try:
                return _whole(float(text)) if text else 0
            except ValueError:
                raise Thrown(NOT_A_NUMBER) from None
        case _:
            raise Thrown(NOT_A_NUMBER)


def _finite(number: Any) -> Any:
    if not math.isfinite(number):
        raise Thrown(NOT_A_NUMBER)
    return _whole(number)


def _whole(number: Any) -> Any:
    return int(number) if isinstance(number, float) and math.isfinite(number) and number.is_integer() else number


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return str(_whole(value))
        case _ if is_list(value):
            return ",".join(map(_text, value))
        case _:
            return str(value)


EAGER: Final[Mapping[str, Callable[[list[Any], Scopes], Any]]] = {
    "var": _var, "val": _val, "exists": _exists, "missing": _missing, "missing_some": _missing_some, "throw": _throw,
    "+": _plus, "-": _minus, "*": _times, "/": _divide, "%": _modulo, "max": _most(max), "min": _most(min),
    "in": _in, "cat": _cat, "substr": _substr, "merge": _merge,
    "!": lambda given, _: not (given and truthy(given[0])), "!!": lambda given, _: bool(given and truthy(given[0])),
    "length": lambda given, _: _length(given[0] if len(given) == 1 else given),
}  # fmt: skip


def _length(value: Any) -> int:
    if not isinstance(value, str | Mapping | Sequence):
        raise Thrown(INVALID)
    return len(value)
