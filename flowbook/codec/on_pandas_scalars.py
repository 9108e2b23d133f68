"""pandas: scalars (NaT, NA, Timestamp, Timedelta, Period, Interval) and the names of frequencies.

Owns: units, zones and folds of single values. Refuses: frequencies that cannot be made from their name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from flowbook.codec.registry import COPIES, Parts, Refused, makes, takes


@takes(type(pd.NaT))
def _take_nat(_value: Any) -> Parts:
    return Parts("pd.nat")


@makes("pd.nat")
def _make_nat(_meta: Any, _children: list[Any], _segments: list[memoryview]) -> Any:
    return pd.NaT


@takes(type(pd.NA))
def _take_na(_value: Any) -> Parts:
    return Parts("pd.na")


@makes("pd.na")
def _make_na(_meta: Any, _children: list[Any], _segments: list[memoryview]) -> Any:
    return pd.NA


@takes(pd.Timestamp)
def _take_timestamp(value: Any) -> Parts:
    # to_numpy gives UTC for an aware one; from UTC the fold follows by itself
    meta = [int(value.to_numpy().view("i8")), value.unit, value.fold]
    return Parts("pd.timestamp", meta, (value.tzinfo,), name=lambda _index: ".tzinfo")


@makes("pd.timestamp")
def _make_timestamp(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    count, unit, fold = meta
    (zone,) = children
    made = pd.Timestamp(np.datetime64(count, unit))
    if zone is not None:
        return made.tz_localize("UTC").tz_convert(zone)
    return made.replace(fold=1) if fold else made


@takes(pd.Timedelta)
def _take_timedelta(value: Any) -> Parts:
    return Parts("pd.timedelta", [int(value.to_numpy().view("i8")), value.unit])


@makes("pd.timedelta")
def _make_timedelta(meta: Any, _children: list[Any], _segments: list[memoryview]) -> Any:
    count, unit = meta
    return pd.Timedelta(np.timedelta64(count, unit))


@takes(pd.Period)
def _take_period(value: Any) -> Parts:
    return Parts("pd.period", [value.ordinal, period_frequency(value)])


@makes("pd.period")
def _make_period(meta: Any, _children: list[Any], _segments: list[memoryview]) -> Any:
    ordinal, freq = meta
    return pd.Period(ordinal=ordinal, freq=freq)


@takes(pd.Interval)
def _take_interval(value: Any) -> Parts:
    return Parts("pd.interval", value.closed, (value.left, value.right), name=(".left", ".right").__getitem__)


@makes("pd.interval")
def _make_interval(meta: Any, children: list[Any], _segments: list[memoryview]) -> Any:
    left, right = children
    return pd.Interval(left, right, meta)


def frequency(freq: Any) -> str | None:
    """An offset as text; raises `Refused` for one that could not be read back from it."""
    if freq is None:
        return None
    try:
        again = pd.tseries.frequencies.to_offset(freq.freqstr)
    except ValueError:
        again = None
    if again != freq:
        raise Refused(f"its frequency {freq!r} cannot be made from its name")
    return str(freq.freqstr)


def period_frequency(value: Any) -> str:
    """The frequency of a period or of an array of them as text; raises `Refused` as `frequency` does."""
    # Periods spell their frequencies in their own way: "M" where an offset is "ME".
    try:
        again = pd.PeriodDtype(value.freqstr).freq
    except ValueError:
        again = None
    if again != value.freq:
        raise Refused(f"its frequency {value.freq!r} cannot be made from its name")
    return str(value.freqstr)


for _kind in (pd.Timestamp, pd.Timedelta, pd.Period, pd.Interval, type(pd.NaT), type(pd.NA)):
    COPIES[_kind] = lambda value: value
