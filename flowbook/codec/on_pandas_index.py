"""pandas: the indexes.

Owns: Index and its kinds, with names, frequencies and levels. Refuses: subclasses made elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from flowbook.codec.on_pandas_arrays import held
from flowbook.codec.on_pandas_scalars import frequency
from flowbook.codec.registry import COPIES, Parts, makes, takes


@takes(pd.RangeIndex)
def _take_range(value: Any) -> Parts:
    return Parts("pd.rangeindex", [value.start, value.stop, value.step], (value.name,), name=lambda _index: ".name")


@makes("pd.rangeindex")
def _make_range(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    start, stop, step = meta
    return pd.RangeIndex(start, stop, step, name=children[0])


@takes(pd.MultiIndex)
def _take_multi(value: Any) -> Parts:
    levels = list(value.levels)
    codes = [np.asarray(code) for code in value.codes]
    pieces = [*(f".levels[{place}]" for place in range(len(levels))), *("" for _ in codes), *(".names" for _ in codes)]
    return Parts("pd.multiindex", len(levels), (*levels, *codes, *value.names), name=pieces.__getitem__)


@makes("pd.multiindex")
def _make_multi(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    levels, codes, names = children[:meta], children[meta : 2 * meta], children[2 * meta :]
    # verify_integrity stays on: codes beyond their level would be read past its end
    return pd.MultiIndex(levels=levels, codes=codes, names=names)


@takes(pd.Index, pd.CategoricalIndex, pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex, pd.IntervalIndex)
def _take_index(value: Any) -> Parts:
    freq = frequency(value.freq) if isinstance(value, (pd.DatetimeIndex, pd.TimedeltaIndex)) else None
    return Parts("pd.index", freq, (held(value), value.name), name=("", ".name").__getitem__)


@makes("pd.index")
def _make_index(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    array, name = children
    made = pd.Index(array, dtype=array.dtype, copy=True)
    if meta is not None:
        made.freq = meta  # checked by pandas against the dates
    made.name = name
    return made


for _kind in (
    *(pd.RangeIndex, pd.MultiIndex, pd.Index, pd.CategoricalIndex),
    *(pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex, pd.IntervalIndex),
):
    COPIES[_kind] = lambda value: value.view()  # an index cannot be changed but for its name
