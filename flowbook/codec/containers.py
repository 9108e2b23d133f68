"""The standard library's containers, and the order in which a set is written.

Owns: list, dict, tuple, set, frozenset, deque, OrderedDict, Counter, defaultdict without a factory.
Refuses: subclasses of theirs, and a defaultdict's factory (it is code).
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any, Final

from flowbook.codec.registry import Parts, Refused, makes, takes


def _key_piece(key: object) -> str:
    if type(key) is str and key.isidentifier():
        return f".{key}"
    text = repr(key) if type(key) in (str, int, float, bool, type(None), bytes, tuple) else type(key).__name__
    return f"[{text if len(text) <= 80 else text[:77] + '...'}]"


def _pairs(tag: str, value: dict[Any, Any], meta: Any = None) -> Parts:
    # A copy: a thread that adds a key meanwhile must not tear keys from values.
    flat: list[object] = [part for pair in list(value.items()) for part in pair]

    def name(index: int) -> str:
        piece = _key_piece(flat[index - index % 2])
        return piece if index % 2 else f"{piece}<key>"

    return Parts(tag, meta, flat, name=name)


def _paired(children: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(children[::2], children[1::2], strict=True))


@takes(list)
def _take_list(value: list[Any]) -> Parts:
    return Parts("list", None, list(value))


@makes("list")
def _make_list(_meta: Any, children: list[Any], _segments: list[memoryview]) -> list[Any]:
    return children


@takes(tuple)
def _take_tuple(value: tuple[Any, ...]) -> Parts:
    return Parts("tuple", None, value)


@makes("tuple")
def _make_tuple(_meta: Any, children: list[Any], _segments: list[memoryview]) -> tuple[Any, ...]:
    return tuple(children)


@takes(dict)
def _take_dict(value: dict[Any, Any]) -> Parts:
    return _pairs("dict", value)


@makes("dict")
def _make_dict(_meta: Any, children: list[Any], _segments: list[memoryview]) -> dict[Any, Any]:
    return dict(_paired(children))


@takes(OrderedDict)
def _take_ordered(value: OrderedDict[Any, Any]) -> Parts:
    return _pairs("ordereddict", value)


@makes("ordereddict")
def _make_ordered(_meta: Any, children: list[Any], _segments: list[memoryview]) -> OrderedDict[Any, Any]:
    return OrderedDict(_paired(children))


@takes(Counter)
def _take_counter(value: Counter[Any]) -> Parts:
    return _pairs("counter", value)


@makes("counter")
def _make_counter(_meta: Any, children: list[Any], _segments: list[memoryview]) -> Counter[Any]:
    return Counter(dict(_paired(children)))


@takes(defaultdict)
def _take_defaultdict(value: defaultdict[Any, Any]) -> Parts:
    if value.default_factory is not None:
        raise Refused("its default_factory is code; return dict(...) of it")
    return _pairs("defaultdict", value)


@makes("defaultdict")
def _make_defaultdict(_meta: Any, children: list[Any], _segments: list[memoryview]) -> defaultdict[Any, Any]:
    return defaultdict(None, _paired(children))


@takes(deque)
def _take_deque(value: deque[Any]) -> Parts:
    return Parts("deque", value.maxlen, list(value))


@makes("deque")
def _make_deque(meta: Any, children: list[Any], _segments: list[memoryview]) -> deque[Any]:
    return deque(children, meta)


@takes(set, frozenset)
def _take_set(value: set[Any] | frozenset[Any]) -> Parts:
    return Parts(type(value).__name__, None, _ordered(value), name=lambda _index: "<element>")


_memo = threading.local()
_SET_DEPTH: Final = 64  # sets within sets; each level is ordered by encoding what is in it, which recurses


def _ordered(value: set[Any] | frozenset[Any]) -> list[Any]:
    # The order of a set differs from process to process; its bytes and so its digest must not.
    elements = list(value)
    if len(elements) < 2:
        return elements
    kinds = set(map(type, elements))
    if kinds in ({str}, {int}):
        elements.sort()
        return elements
    from flowbook.codec.api import encode  # upward: the one order that every storable value has is that of its bytes

    # Encoding an element orders the sets within it, and so on: without a memory that would double at each level.
    outermost = not hasattr(_memo, "orders")
    if outermost:
        _memo.orders, _memo.depth = {}, 0
    _memo.depth += 1
    try:
        if _memo.depth > _SET_DEPTH:
            raise Refused(f"sets nest deeper than {_SET_DEPTH} levels here")
        known = _memo.orders.get(id(value))
        if known is None:
            known = _memo.orders[id(value)] = (value, sorted(elements, key=encode))
        ordered: list[Any] = known[1]
        return ordered
    finally:
        _memo.depth -= 1
        if outermost:
            del _memo.orders


@makes("set")
def _make_set(_meta: Any, children: list[Any], _segments: list[memoryview]) -> set[Any]:
    return set(children)


@makes("frozenset")
def _make_frozenset(_meta: Any, children: list[Any], _segments: list[memoryview]) -> frozenset[Any]:
    return frozenset(children)
