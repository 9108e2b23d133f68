"""pandas: frames and series; scalars, arrays and indexes stand in the modules beside this one.

Owns: taking columns apart by dtype, so that dtypes, names and missing values come back exactly; Arrow IPC keeps
neither object columns nor frequencies nor duplicate names, so this is a form of its own, and needs no pyarrow.
Refuses: subclasses (geopandas), sparse columns, dtypes of other packages.

A decoded frame can be written to: pandas would otherwise fail at the first assignment to a read-only block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from flowbook.codec import on_pandas_index  # noqa: F401  # declares the indexes
from flowbook.codec.copies import IMMUTABLE, copied
from flowbook.codec.on_pandas_arrays import held
from flowbook.codec.registry import COPIES, Parts, makes, takes


def _flags(value: Any) -> list[bool]:
    return [bool(value.flags.allows_duplicate_labels)]


def _series(array: Any, index: Any, copy: bool = True) -> Any:
    # dtype said again: pandas would take an object array of strings for strings
    return pd.Series(array, index=index, dtype=array.dtype, copy=copy)


@takes(pd.Series)
def _take_series(value: Any) -> Parts:
    children = (held(value), value.index, value.name, dict(value.attrs))
    return Parts("pd.series", _flags(value), children, name=("", ".index", ".name", ".attrs").__getitem__)


@makes("pd.series")
def _make_series(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    array, index, name, attrs = children
    made = _series(array, index)
    made.name = name
    return _noted(made, meta, attrs)


def _noted(made: Any, meta: Any, attrs: dict[Any, Any]) -> Any:
    if attrs:
        made.attrs = attrs
    (duplicates,) = meta
    return made if duplicates else made.set_flags(allows_duplicate_labels=False)


@takes(pd.DataFrame)
def _take_frame(value: Any) -> Parts:
    arrays = [held(value.iloc[:, place]) for place in range(value.shape[1])]
    pieces = [".index", ".columns", ".attrs", *(f"[{label!r}]" for label in value.columns)]
    children = (value.index, value.columns, dict(value.attrs), *arrays)
    return Parts("pd.frame", _flags(value), children, name=pieces.__getitem__)


@makes("pd.frame")
def _make_frame(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    index, columns, attrs, *arrays = children
    data = {place: _series(array, index, copy=False) for place, array in enumerate(arrays)}
    made = pd.DataFrame(data, index=index, copy=True)
    made.columns = columns
    return _noted(made, meta, attrs)


# ----------------------------------------------------------------------------------------------------------- fresh


def _settled(array: Any) -> bool:
    """Whether no element of a column can be changed in place."""
    return array.dtype.kind != "O" or type(array) is not np.ndarray or IMMUTABLE.issuperset(map(type, array))


def _copy_series(value: Any) -> Any:
    array = held(value)
    copy = value.copy(deep=False) if _settled(array) else _series(copied(array), value.index)
    return _finished(value, copy)


def _copy_frame(value: Any) -> Any:
    copy = value.copy(deep=False)
    for place in np.flatnonzero([dtype.kind == "O" for dtype in value.dtypes]):
        array = held(value.iloc[:, place])
        if not _settled(array):
            copy.isetitem(place, _series(copied(array), copy.index))
    copy.columns = value.columns.view()
    return _finished(value, copy)


def _finished(value: Any, copy: Any) -> Any:
    copy.index = value.index.view()  # so that renaming it is not seen outside
    copy.attrs = copied(dict(value.attrs))
    if type(value) is pd.Series:
        copy.name = value.name
    return copy


COPIES[pd.Series] = _copy_series
COPIES[pd.DataFrame] = _copy_frame
