"""Settled: of which variables nobody but the namespace has hold, so that only code that names them can change them.

Owns: counting references to large plain data: arrays, frames, Arrow tables, texts. Refuses: guessing: what it does not
know, or cannot account for to the last reference, is not settled, and is hashed after every cell.

A library may keep what it was given and change it later, in a cell that does not name it. It would hold a reference,
to the frame, to one of its arrays, or to the array that owns the memory: so all three are counted.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

_FIXED: Final = (str, bytes, int, float, complex, bool, type(None))


class Holders:
    """Who holds what, counted over all variables and all outputs of cells."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        numpy = sys.modules.get("numpy")
        self._namespace = namespace
        self._array: Any = numpy.ndarray if numpy is not None else ()
        outputs = namespace.get("_oh")
        values = [*namespace.values(), *(outputs.values() if isinstance(outputs, dict) else ())]
        self._known = Counter(map(id, values))
        arrays: dict[int, Any] = {}
        for value in {id(v): v for v in values}.values():
            for part, array in _parts(value):
                self._known[id(part)] += 1
                if array is not None:
                    if array is not part:
                        self._known[id(array)] += 1
                    arrays[id(array)] = array
            if isinstance(value, self._array):
                arrays[id(value)] = value
        for array in arrays.values():
            if array.base is not None:
                self._known[id(array.base)] += 1

    def settled(self, name: str) -> bool:
        """Is every reference to this variable's value, and to its memory, accounted for?"""
        kind = type(self._namespace[name])
        if kind in _FIXED:
            return True
        package = str(kind.__module__).partition(".")[0]
        if package in ("polars", "pyarrow"):
            plain = kind.__name__ in ("DataFrame", "Series", "LazyFrame", "Table", "ChunkedArray", "RecordBatch")
        elif package == "pandas":
            plain = bool(_parts(self._namespace[name]))
        else:
            plain = kind is self._array
        return plain and all(count <= _usual(place) for place, count in self.excess(name))

    def excess(self, name: str) -> list[tuple[str, int]]:
        """Place -> references to what is there that are nobody's known. Some are this function's own: `_usual`."""
        value = self._namespace[name]
        found = [("value", sys.getrefcount(value) - self._known[id(value)])]
        if isinstance(value, self._array):
            found += self._of_base(value)
        for part, array in _parts(value):
            if part is array:
                found.append(("array", sys.getrefcount(part) - self._known[id(part)]))
            else:
                found.append(("holder", sys.getrefcount(part) - self._known[id(part)]))
                if array is not None:
                    found.append(("held", sys.getrefcount(array) - self._known[id(array)]))
            if array is not None:
                found += self._of_base(array)
        return found

    def _of_base(self, array: Any) -> list[tuple[str, int]]:
        if array.dtype.hasobject:
            return [("objects", 1)]
        base = array.base
        found = []
        if isinstance(base, self._array):
            found.append(("base", sys.getrefcount(base) - self._known[id(base)]))
            base = base.base
        if isinstance(base, memoryview) and isinstance(base.obj, bytearray):
            found.append(("memory", sys.getrefcount(base.obj)))  # pickle has loaded it there
        elif base is not None and not isinstance(base, bytes):
            found.append(("foreign", 1))
        return found


@functools.cache
def _usual(place: str) -> int:
    """The excess that there is where nobody else holds anything, measured on something that was just made."""
    probe: dict[str, Any] = {}
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if place == "value":
        probe["x"] = object()
    elif place == "base" and numpy is not None:
        probe["x"] = numpy.zeros(2)[:1]
    elif place == "memory" and numpy is not None:
        probe["x"] = numpy.frombuffer(bytearray(1), dtype="u1")
    elif place == "array" and pandas is not None:
        probe["x"] = pandas.Series([0.5])
    elif place in ("holder", "held") and pandas is not None:
        probe["x"] = pandas.Series(["a"], dtype="category")
    else:
        return 0
    return max((count for where, count in Holders(probe).excess("x") if where == place), default=0)


def _parts(value: Any) -> list[tuple[Any, Any]]:
    """What a pandas object has its data in: (what a block holds, the array in that; None: Arrow's, which is fixed)."""
    if str(type(value).__module__).partition(".")[0] != "pandas":
        return []
    manager = getattr(value, "_mgr", None)
    if manager is None:
        return []
    found: list[tuple[Any, Any]] = []
    numpy = sys.modules["numpy"]
    for block in manager.blocks:
        held = block.values
        if isinstance(held, numpy.ndarray):
            found.append((held, held))
        elif hasattr(held, "_pa_array"):
            found.append((held, None))
        elif hasattr(held, "_ndarray"):
            found.append((held, held._ndarray))
        elif hasattr(held, "_data") and hasattr(held, "_mask"):
            found += [(held, held._data), (held._mask, held._mask)]
        else:
            return []
    return found
