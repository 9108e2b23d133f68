"""Sharing: which variables have to be kept together, and which arrays are views of one memory.

Owns: what counts as shared, the union of variables that share, and how arrays lie in each other. Refuses: pickling
(`pickling.py`). It works on what was just pickled and is still held (`Dumped.memo`), so that no id means two things.

numpy: arrays over the same memory are kept as views of the array that owns it. pandas copies on write, so two frames
over one memory are two values, and are kept as two; a plain array over a frame's memory is a view of it.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import mmap
import pathlib
import re
import sys
import types
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final

from flowbook.namespace.pickling import Dumped, View

_ATOMS: Final = (
    str, bytes, int, float, complex, bool, type(None), tuple, frozenset, range, slice, types.ModuleType,
    types.BuiltinFunctionType, types.CodeType, dt.date, dt.time, dt.timedelta, dt.tzinfo,
    decimal.Decimal, fractions.Fraction, pathlib.PurePath, re.Pattern, uuid.UUID, enum.Enum, types.GenericAlias,
)  # fmt: skip
"""What nobody can change: sharing it is no sharing. (What a tuple holds is looked at by itself.)"""
_OPTIONAL: Final = (
    ("numpy", "dtype"), ("numpy", "generic"), ("pandas.api.extensions", "ExtensionDtype"), ("pyarrow", "DataType"),
    ("pyarrow", "Schema"), ("pyarrow", "Array"), ("pyarrow", "ChunkedArray"), ("pyarrow", "Table"),
    ("pyarrow", "Buffer"), ("polars", "DataType"),
)  # fmt: skip


class Sharing:
    """Who shares with whom, of what was dumped."""

    def __init__(self, dumped: Mapping[str, Dumped], known: Mapping[int, str]) -> None:
        self._dumped = dumped
        self._known = known
        self._parent = {name: name for name in dumped}
        self._frozen: tuple[Any, ...] = (*_ATOMS, *_loaded(_OPTIONAL))
        self.views: dict[int, View] = {}
        """id of an array -> how it lies in its root."""
        self.unstorable: dict[str, str] = {}
        """Variable -> why it cannot be kept beside the others."""

    def find(self, name: str) -> str:
        """The one that stands for all that this one shares with."""
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def unite(self, one: str, other: str) -> None:
        """These two belong together."""
        self._parent[self.find(one)] = self.find(other)

    def groups(self) -> list[list[str]]:
        """The variables, those together that belong together."""
        self._objects()
        self._arrays()
        self._circles()
        together: dict[str, list[str]] = {}
        for name in self._dumped:
            together.setdefault(self.find(name), []).append(name)
        return list(together.values())

    def _objects(self) -> None:
        owner: dict[int, str] = {}
        apart = self._fixed()
        for name, it in self._dumped.items():
            for key, thing in it.memo.items():
                other = owner.get(key)
                if other is None:
                    owner[key] = name
                elif other != name and key not in apart and self._mutable(thing):
                    self.unite(name, other)

    def _mutable(self, thing: Any) -> bool:
        if isinstance(thing, self._frozen) or id(thing) in self._known or _by_name(thing):
            return False
        if isinstance(thing, type | types.FunctionType):
            # What is carried by value is the notebook's own, and is one thing wherever it is used.
            return getattr(thing, "__module__", None) in ("__main__", None)
        return True

    def _circles(self) -> None:
        """Classes and functions that need each other cannot be loaded one after the other."""
        carried = {name: it.needs & self._dumped.keys() for name, it in self._dumped.items()}
        for name, needs in carried.items():
            if needs and name in (seen := _reached(name, carried)):
                for other in seen:
                    if name in _reached(other, carried):
                        self.unite(name, other)

    # -- arrays -------------------------------------------------------------------------------------------------------

    def _arrays(self) -> None:
        numpy = sys.modules.get("numpy")
        if numpy is None:
            return
        found: dict[int, tuple[Any, str]] = {}
        copied, fixed = self._copied(), self._fixed()
        raw = {k for it in self._dumped.values() for k, thing in it.memo.items() if isinstance(thing, bytearray)}
        for name, it in self._dumped.items():
            for key, thing in it.memo.items():
                if isinstance(thing, numpy.ndarray) and thing.nbytes and key not in fixed:
                    found.setdefault(key, (thing, name))
                    if id(_memory(thing)) in raw:
                        self.unstorable[name] = "an array over the memory of a bytearray"
        byte_bounds = numpy.lib.array_utils.byte_bounds
        spans = sorted((*byte_bounds(array), key) for key, (array, _) in found.items())
        cluster: list[int] = []
        end = 0
        for low, high, key in spans:
            if low >= end:
                self._cluster(cluster, found, copied)
                cluster = []
            cluster.append(key)
            end = max(end, high)
        self._cluster(cluster, found, copied)

    def _copied(self) -> set[int]:
        """Ids of arrays that pandas copies on write."""
        pandas = sys.modules.get("pandas")
        return (
            set()
            if pandas is None
            else {
                id(getattr(b.values, "_ndarray", b.values))
                for it in self._dumped.values()
                for thing in it.memo.values()
                if isinstance(thing, pandas.DataFrame | pandas.Series)
                for b in thing._mgr.blocks
            }
        )

    def _fixed(self) -> set[int]:
        """Ids of what pandas has in common between its objects and never changes: the arrays of an index."""
        pandas = sys.modules.get("pandas")
        if pandas is None:
            return set()
        fixed = {id(pandas.DataFrame._metadata), id(pandas.Series._metadata)}
        for it in self._dumped.values():
            for thing in it.memo.values():
                if isinstance(thing, pandas.Index):
                    data = getattr(thing, "_data", None)
                    fixed |= {id(data), id(getattr(data, "_ndarray", data))}
        return fixed

    def _cluster(self, keys: list[int], found: Mapping[int, tuple[Any, str]], copied: set[int]) -> None:
        """Arrays that lie over one memory."""
        values = [k for k in keys if k in copied]
        if len(values) > 1:  # several frames: each has its own, and a read-only look at them is a look at one's own
            for key in keys:
                if key not in copied and found[key][0].flags.writeable:
                    self.unstorable[found[key][1]] = "it shares memory with several pandas objects"
            return
        if len(keys) < 2:
            return
        numpy = sys.modules["numpy"]
        roots = {key: _root(found[key][0]) for key in keys}
        root = next(iter(roots.values()))
        same = all(r is root for r in roots.values())
        if not same or root is None or not (root.flags.c_contiguous or root.flags.f_contiguous):
            for key in keys:
                # What an extension holds in memory of its own (a tree of sklearn's) it hands out as arrays when it is
                # pickled: they are no one's views. Memory that can be seen as bytes as well is another matter.
                array, name = found[key]
                if array.flags.writeable and isinstance(_memory(array), bytearray | mmap.mmap):
                    self.unstorable[name] = f"it shares memory with {found[keys[0]][1]!r} in a way of its own"
                else:
                    self.unite(found[keys[0]][1], name)
            return
        first = found[keys[0]][1]
        start = root.__array_interface__["data"][0]
        for key in keys:
            array, name = found[key]
            if type(array) is not numpy.ndarray:
                self.unstorable[name] = f"a {type(array).__name__} that shares memory with {first!r}"
                continue
            self.unite(first, name)
            if array is not root:
                self.views[key] = View(root, array.__array_interface__["data"][0] - start)


def _reached(name: str, edges: Mapping[str, Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [name]
    while todo:
        for other in edges[todo.pop()]:
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return seen


def _by_name(thing: Any) -> bool:
    """Is it a function of a module's, of whatever kind, which is carried by its name?"""
    try:
        module = sys.modules.get(thing.__module__) if callable(thing) else None
        return module is not None and getattr(module, thing.__name__, None) is thing
    except Exception:  # an object that answers for every attribute
        return False


def _root(array: Any) -> Any:
    """The array that all views of its memory come from; None if it is of a kind of its own."""
    numpy = sys.modules["numpy"]
    while isinstance(base := _beneath(array), numpy.ndarray):
        array = base
    return array if type(array) is numpy.ndarray else None


def _beneath(array: Any) -> Any:
    """What an array is a view of; `as_strided` (and a sliding window) puts an object of its own between."""
    base = array.base
    return base.base if type(base).__name__ == "DummyArray" else base


def _memory(array: Any) -> Any:
    """What owns the memory of an array, if it is none itself: what pickle has loaded lies in a bytearray."""
    base = array
    while isinstance(base, sys.modules["numpy"].ndarray):
        base = _beneath(base)
    return base.obj if isinstance(base, memoryview) else base


def _loaded(places: Iterable[tuple[str, str]]) -> tuple[type, ...]:
    found = (getattr(sys.modules.get(module), name, None) for module, name in places)
    return tuple(kind for kind in found if isinstance(kind, type))
