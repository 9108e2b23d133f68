"""Changing a fresh copy never changes the original."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from pydantic import BaseModel

from flowbook.codec import encode, fresh
from flowbook.errors import Unencodable
from tests.unit.codec.examples import Document, Key, Model, Point, same, values


def _spoil(value: Any) -> None:
    """Change all that can be changed in place, at every depth."""
    match value:
        case dict():
            for key, item in value.items():
                _spoil(key)
                _spoil(item)
            value.clear()
        case list() | deque():
            for item in value:
                _spoil(item)
            value.clear()
        case set():
            value.clear()
        case bytearray():
            value.extend(b"spoilt")
        case tuple() | frozenset():
            for item in value:
                _spoil(item)
        case np.ndarray():
            assert not value.flags.writeable
        case BaseModel():
            for item in [*vars(value).values(), value.model_extra]:
                _spoil(item)
        case Document():
            for item in vars(value).values():
                _spoil(item)
            value.title = "spoilt"
        case _:
            pass


@settings(max_examples=300)
@given(values)
def test_spoiling_a_copy_at_every_depth_leaves_the_original(value: Any) -> None:
    """The original is stored as the same bytes before and after, and the copy was equal to it."""
    before = encode(value)
    copy = fresh(value)
    assert same(copy, value)
    assert encode(copy) == before
    _spoil(copy)
    assert encode(value) == before


def test_what_cannot_change_is_handed_out_as_it_is() -> None:
    """No copy is made for nothing."""
    for value in (1, "x", b"x" * 10, (1, "x"), frozenset({1}), Point(1).x, pa.table({"a": [1]})):
        assert fresh(value) is value


def test_arrays_are_read_only_views() -> None:
    """100 MB are not copied."""
    array = np.arange(10.0)
    copy: Any = fresh({"a": array})
    assert np.shares_memory(copy["a"], array)
    with pytest.raises(ValueError, match="read-only"):
        copy["a"][0] = 1
    array[0] = 5
    objects = np.array([[1], None], dtype=object)
    copied: Any = fresh(objects)
    copied[0].append(2)
    assert objects[0] == [1]


def test_a_frame_is_a_shallow_copy_that_can_be_written_to() -> None:
    """Copy-on-write keeps the original; names, notes and lists in cells are kept as well."""
    frame = pd.DataFrame({"a": [1, 2], "o": pd.Series([[1], "x"], dtype=object)})
    frame.attrs["n"] = [1]
    before = encode(frame)
    copy: Any = fresh(frame)
    assert encode(copy) == before
    copy.loc[0, "a"] = 9
    copy["o"][0].append(2)
    copy["new"] = 1
    copy.index.name, copy.columns.name = "i", "c"
    copy.attrs["n"].append(2)
    series: Any = fresh(frame["o"])
    series[0].append(3)
    series.name = "other"
    assert encode(frame) == before
    assert np.shares_memory(fresh(frame)["a"].to_numpy(), frame["a"].to_numpy())  # type: ignore[index]


def test_a_polars_frame_can_be_changed_without_being_seen() -> None:
    """polars copies on write."""
    frame = pl.DataFrame({"a": [1, 2]})
    copy: Any = fresh(frame)
    copy[0, "a"] = 9
    copy.columns = ["b"]
    assert frame.to_dict(as_series=False) == {"a": [1, 2]}


def test_models_and_dataclasses_keep_what_they_are() -> None:
    """Fields set, private attributes, frozenness."""
    model = Model(name="m", items=[1])
    model._secret = [1]
    copy: Any = fresh(model)
    copy._secret.append(2)
    copy.items.append(2)
    copy.number = 5
    assert (model._secret, model.items, model.model_fields_set) == ([1], [1], {"name", "items"})
    assert fresh(Key("a")) == Key("a")


def test_what_cannot_be_stored_cannot_be_handed_out() -> None:
    """A step sees what a replay would give it."""
    with pytest.raises(Unencodable):
        fresh({"a": threading.Lock()})
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(Unencodable, match="contains itself"):
        fresh(cycle)


def test_a_deep_value_is_copied_without_the_stack() -> None:
    """5,000 levels."""
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    assert encode(fresh(value)) == encode(value)
