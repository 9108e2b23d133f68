"""pandas: its own arrays, which columns and indexes hold: strings, nullable numbers, categories, dates, periods, Arrow.

Owns: data, masks and dtypes of arrays. Refuses: sparse arrays, and arrays of other packages.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from flowbook.codec import on_numpy  # noqa: F401  # arrays of numpy are what these are made of
from flowbook.codec.on_pandas_scalars import frequency, period_frequency
from flowbook.codec.registry import Parts, makes, takes

_MASKED: Final[dict[str, Any]] = {
    "boolean": pd.arrays.BooleanArray,
    "integer": pd.arrays.IntegerArray,
    "floating": pd.arrays.FloatingArray,
}


def _same(_index: int) -> str:
    return ""


def _take_strings(value: Any) -> Parts:
    dtype = value.dtype
    missing = "NA" if dtype.na_value is pd.NA else "nan"
    mask = value.isna()
    texts = value.to_numpy(dtype=object, na_value=None) if mask.any() else value.to_numpy(dtype=object)
    return Parts("pd.strings", [dtype.storage, missing], (texts.tolist(),), name=_same)


@makes("pd.strings")
def _make_strings(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    storage, missing = meta
    (texts,) = children
    dtype = pd.StringDtype(storage, na_value=pd.NA if missing == "NA" else np.nan)
    return pd.array(texts, dtype=dtype)


def _take_masked(value: Any, family: str) -> Parts:
    dtype = value.dtype.numpy_dtype
    data = value.to_numpy(dtype=dtype, na_value=dtype.type(0))
    return Parts("pd.masked", family, (data, np.asarray(value.isna())), name=_same)


@makes("pd.masked")
def _make_masked(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    data, mask = children
    return _MASKED[meta](data.copy(), mask.copy())


def _take_categorical(value: Any) -> Parts:
    names = (".codes", ".categories").__getitem__
    return Parts("pd.categorical", bool(value.ordered), (np.asarray(value.codes), value.categories), name=names)


@makes("pd.categorical")
def _make_categorical(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    codes, categories = children
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(categories, ordered=meta))


def _take_dates(value: Any) -> Parts:
    # Until pandas 3.0 the array had a frequency of its own; later only its index has.
    zone = getattr(value.dtype, "tz", None)
    plain = value.tz_convert(None) if zone is not None else value
    return Parts(
        "pd.dates", frequency(getattr(value, "freq", None)), (plain.to_numpy(), zone), name=lambda i: ".tz" if i else ""
    )


@makes("pd.dates")
def _make_dates(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    data, zone = children
    index = pd.DatetimeIndex(data.copy())
    if zone is not None:
        index = index.tz_localize("UTC").tz_convert(zone)
    index.freq = meta
    return index.array


def _take_spans(value: Any) -> Parts:
    return Parts("pd.spans", frequency(getattr(value, "freq", None)), (value.to_numpy(),), name=_same)


@makes("pd.spans")
def _make_spans(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    index = pd.TimedeltaIndex(children[0].copy())
    index.freq = meta
    return index.array


def _take_periods(value: Any) -> Parts:
    return Parts("pd.periods", period_frequency(value), (np.asarray(value.asi8),), name=_same)


@makes("pd.periods")
def _make_periods(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    return pd.PeriodIndex.from_ordinals(children[0].copy(), freq=meta).array


def _take_intervals(value: Any) -> Parts:
    return Parts("pd.intervals", value.closed, (value.left, value.right), name=(".left", ".right").__getitem__)


@makes("pd.intervals")
def _make_intervals(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    left, right = children
    return pd.arrays.IntervalArray.from_arrays(left, right, closed=meta)


def _take_arrow(value: Any) -> Parts:
    return Parts("pd.arrow", None, (value.__arrow_array__(),), name=_same)


@makes("pd.arrow")
def _make_arrow(_meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    return pd.arrays.ArrowExtensionArray(children[0])


@takes(pd.arrays.NumpyExtensionArray)
def _take_wrapped(value: Any) -> Parts:
    return Parts("pd.wrapped", None, (value.to_numpy(),), name=_same)


@makes("pd.wrapped")
def _make_wrapped(_meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    return pd.arrays.NumpyExtensionArray(children[0].copy())


takes(pd.Categorical)(_take_categorical)
takes(pd.arrays.DatetimeArray)(_take_dates)
takes(pd.arrays.TimedeltaArray)(_take_spans)
takes(pd.arrays.PeriodArray)(_take_periods)
takes(pd.arrays.IntervalArray)(_take_intervals)
takes(pd.arrays.ArrowExtensionArray)(_take_arrow)
takes(pd.arrays.BooleanArray)(lambda value: _take_masked(value, "boolean"))
takes(pd.arrays.IntegerArray)(lambda value: _take_masked(value, "integer"))
takes(pd.arrays.FloatingArray)(lambda value: _take_masked(value, "floating"))
for _storage in ("python", "pyarrow"):
    for _missing in (pd.NA, np.nan):
        try:
            takes(type(pd.array([], dtype=pd.StringDtype(_storage, na_value=_missing))))(_take_strings)
        except ImportError:
            continue  # without pyarrow there are no such arrays


def held(values: Any) -> Any:
    """The array behind a series or an index: numpy's own where that is what it is, else pandas'."""
    array = values.array
    return array.to_numpy() if type(array) is pd.arrays.NumpyExtensionArray else array
