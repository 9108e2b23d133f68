"""Arrays and tables come back with their exact dtypes, order, indexes and names."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from flowbook.codec import decode, encode, fresh
from flowbook.errors import Unencodable

BERLIN = ZoneInfo("Europe/Berlin")


def _round(value: Any) -> Any:
    data = encode(value)
    again = decode(data)
    assert type(again) is type(value)
    assert encode(again) == data
    assert encode(fresh(value)) == data
    return again


def _same_array(again: Any, array: Any) -> None:
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.tobytes() == array.tobytes()
    assert not again.flags.writeable
    if array.flags.forc:
        assert again.flags.fnc == array.flags.fnc


# ----------------------------------------------------------------------------------------------------------- numpy


@settings(max_examples=200)
@given(
    hnp.arrays(
        hnp.scalar_dtypes() | hnp.byte_string_dtypes(max_len=5) | hnp.unicode_string_dtypes(max_len=5),
        hnp.array_shapes(min_dims=0, min_side=0, max_dims=4),
    )
)
def test_any_plain_array_comes_back_bit_by_bit(array: Any) -> None:
    """All dtypes and byte orders, 0-d and empty; also transposed and with strides."""
    for variant in (array, array.T, array[..., ::2] if array.ndim else array, array[::-1] if array.ndim else array):
        _same_array(_round(variant), variant)


@pytest.mark.parametrize(
    "array",
    [
        np.array([(1, 2.5, "x")], dtype=[("a", "i4"), ("b", ">f8"), ("c", "U3")]),
        np.zeros(3, dtype={"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8], "itemsize": 24}),
        np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True)),
        np.zeros(2, dtype=[("p", "i4", (2, 3)), ("q", [("r", ">i2")])]),
        np.zeros(2, dtype=[(("title", "a"), "i4")]),
        np.array(["2020", "NaT"], "M8[ns]"),
        np.array([1, 2], "m8[3h]"),
        np.zeros(3, "S0"),
        np.zeros(3, "V0"),
        np.array([1.5], "g"),
        np.array([1, 2], dtype="q"),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    ],
    ids=lambda array: str(array.dtype)[:40],
)
def test_unusual_arrays_come_back(array: Any) -> None:
    """Structured with gaps, alignment, titles and subarrays; units; no bytes at all."""
    again = _round(array)
    _same_array(again, array)
    assert again.dtype.isalignedstruct == array.dtype.isalignedstruct
    assert again.dtype.char == array.dtype.char


def test_arrays_of_objects_and_strings_come_back_element_by_element() -> None:
    """Lists within stay lists."""
    for array in (
        np.array([1, [2], None, "x", 1.5, (3,)], dtype=object),
        np.array([[1, "a"], [None, (1,)]], dtype=object, order="F"),
        np.array(None, dtype=object),
        np.array(["a", "", "x" * 50], dtype=np.dtypes.StringDType()),
    ):
        again = _round(array)
        assert again.dtype == array.dtype
        assert again.tolist() == array.tolist()


@pytest.mark.parametrize(
    "scalar",
    [
        *(np.float64(1.5), np.float64("nan"), np.float16(1), np.int8(3), np.longlong(4), np.uint64(5), np.bool_(True)),
        *(np.str_("a\0"), np.bytes_(b"a\0"), np.datetime64("2020"), np.datetime64("NaT", "s"), np.timedelta64(3, "h")),
        *(np.void(b"abc"), np.array([(1, 2)], dtype="i4,i4")[0], np.clongdouble(1j)),
    ],
    ids=lambda scalar: type(scalar).__name__,
)
def test_numpy_scalars_keep_their_type(scalar: Any) -> None:
    """float64 is a subclass of float, and str_ of str."""
    again = _round(scalar)
    assert again.dtype == scalar.dtype
    assert repr(again) == repr(scalar)


def test_an_array_is_not_inflated_and_is_viewed_where_it_lies() -> None:
    """8 MB cost 8 MB, and reading them costs nothing."""
    data = encode({"a": np.arange(1_000_000, dtype="f8")})
    assert len(data) < 8_000_200
    again: Any = decode(data)
    assert not again["a"].flags.owndata
    assert again["a"].flags.aligned


def test_objects_within_fields_are_refused() -> None:
    """Their pointers mean nothing elsewhere."""
    with pytest.raises(Unencodable, match=r"r\[0\]: .*Python objects"):
        encode([np.zeros(1, dtype=[("a", object)])], at="r")


# ---------------------------------------------------------------------------------------------------------- pandas

COLUMNS: dict[str, Any] = {
    "int": [1, 2, 3],
    "float": [1.0, np.nan, -0.0],
    "str": ["a", None, "c"],
    "objects": pd.Series([1, "x", [2]], dtype=object),
    "strings as objects": pd.Series(["a", "b", None], dtype=object),
    "bool": [True, False, True],
    "Int8": pd.array([1, None, 3], dtype="Int8"),
    "Float64": pd.array([1, None, 2.5], dtype="Float64"),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "string": pd.array(["a", None, "b"], dtype="string"),
    "string python": pd.array(["a", None, "b"], dtype="string[python]"),
    "ordered": pd.Categorical(["a", "b", None], categories=["b", "a", "unused"], ordered=True),
    "categories of ints": pd.Categorical([1, 2, 1]),
    "dates": pd.to_datetime(["2020", "2021", None]),
    "zoned": pd.to_datetime(["2020", "2021", None]).tz_localize(BERLIN),
    "seconds": np.array(["2020", "2021", "NaT"], "M8[s]"),
    "spans": pd.to_timedelta([1, 2, None], unit="s"),
    "periods": pd.period_range("2020", periods=3, freq="M"),
    "intervals": pd.interval_range(0, 3),
    "arrow": pd.array([1, None, 3], dtype="int64[pyarrow]"),
    "arrow lists": pd.Series([[1], None, [2, 3]], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
    "complex": [1j, 2, 3],
    "u1": np.array([1, 2, 3], "u1"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_any_dtype_comes_back_and_can_be_written_to(name: str) -> None:
    """As a frame's column, as a series, as a bare array."""
    frame = pd.DataFrame({name: COLUMNS[name]})
    again = _round(frame)
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    assert list(again.dtypes) == list(frame.dtypes)
    again.iloc[0, 0] = again.iloc[1, 0] if name != "objects" else 5
    series = _round(frame[name])
    pd.testing.assert_series_equal(series, frame[name], check_exact=True)
    assert series.dtype == frame[name].dtype
    series.iloc[0] = series.iloc[1] if name != "objects" else 5
    assert _round(frame[name].array).dtype == frame[name].array.dtype


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(COLUMNS),
        pd.DataFrame(),
        pd.DataFrame(index=[1, 2]),
        pd.DataFrame(columns=["a"]),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", None])),
        pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False),
        pd.DataFrame(np.zeros((3, 2)), columns=[0, 1]),
        pd.DataFrame({"a": [1, 2]}, index=[0, 0]),
        pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2020", periods=2, freq="ME", name="when")),
    ],
    ids=range(10),
)
def test_frames_of_unusual_shape_come_back(frame: Any) -> None:
    """Empty, without columns, with duplicate or structured names."""
    frame.attrs = {"source": ["x"]}
    again = _round(frame)
    pd.testing.assert_frame_equal(again, frame, check_column_type=True, check_index_type=True, check_exact=True)
    assert again.flags == frame.flags
    assert again.attrs == frame.attrs


@pytest.mark.parametrize(
    "index",
    [
        *(pd.RangeIndex(3, name="x"), pd.Index([1, 2]), pd.Index(["a", None]), pd.Index(["a", 1], name=("t", 1))),
        *(pd.date_range("2020", periods=3, freq="D"), pd.date_range("2020", periods=3, freq="ME", tz=BERLIN)),
        *(pd.DatetimeIndex(["2020", None]), pd.timedelta_range("1D", periods=3)),
        *(pd.period_range("2020", periods=3, freq="M"), pd.period_range("2020", periods=3, freq="Q-JAN")),
        *(pd.CategoricalIndex(["a", "b", "a"]), pd.interval_range(0, 3), pd.Index([], dtype=object)),
        *(pd.Index([1, 2], dtype="Int64"), pd.Index(["a"], dtype=object), pd.Index([1.5, None])),
        pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["l", None])[:1],
        pd.MultiIndex.from_arrays([[1, None], ["x", "y"]]),
        pd.Index([(1, 2), (3, 4)], tupleize_cols=False),
    ],
    ids=lambda index: f"{type(index).__name__}-{index.dtype}",
)
def test_indexes_come_back_with_names_and_frequencies(index: Any) -> None:
    """And of their own kind."""
    again = _round(index)
    pd.testing.assert_index_equal(again, index, exact=True)
    assert again.names == index.names
    assert again.dtype == index.dtype
    assert getattr(again, "freq", None) == getattr(index, "freq", None)


@pytest.mark.parametrize(
    "scalar",
    [
        *(pd.Timestamp("2020-01-01 12:00:00.123456789"), pd.Timestamp("2020", tz="UTC"), pd.Timestamp.max),
        pd.Timestamp("2024-10-27 00:30", tz="UTC").tz_convert(BERLIN),
        pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert(BERLIN),
        *(pd.Timestamp("2020").as_unit("s"), pd.Timedelta("1D"), pd.Timedelta(5, "s").as_unit("ms")),
        *(pd.NaT, pd.NA, pd.Period("2020-01", "M"), pd.Period("2020Q1"), pd.Interval(1, 2.5, "both")),
    ],
    ids=repr,
)
def test_pandas_scalars_come_back(scalar: Any) -> None:
    """With unit, zone and fold."""
    again = _round(scalar)
    assert repr(again) == repr(scalar)
    assert getattr(again, "unit", None) == getattr(scalar, "unit", None)
    assert getattr(again, "fold", None) == getattr(scalar, "fold", None)


def test_a_bad_cell_is_named_by_column_and_row() -> None:
    """As one would look at it."""
    frame = pd.DataFrame({"a b": pd.Series([1, object()], dtype=object)})
    with pytest.raises(Unencodable) as caught:
        encode({"table": frame}, at="result")
    assert caught.value.key_path == "result.table['a b'][1]"


# -------------------------------------------------------------------------------------------------- polars, Arrow


def test_polars_frames_come_back_with_their_schema() -> None:
    """Nested, categorical, decimal, zoned, null and empty."""
    frame = pl.DataFrame(
        {
            "i": [1, None],
            "s": ["a", None],
            "l": [[1], [2, 3]],
            "st": [{"a": 1}, {"a": None}],
            "dt": [dt.datetime(2020, 1, 1, tzinfo=BERLIN), None],
            "dec": [decimal.Decimal("1.5"), None],
            "n": [None, None],
            "b": [b"a", b""],
            "t": [dt.time(1), None],
            "td": [dt.timedelta(1), None],
        }
    ).with_columns(
        cat=pl.Series(["x", "y"], dtype=pl.Categorical),
        en=pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"])),
        ar=pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int8, 2)),
        i128=pl.Series([1, 2], dtype=pl.Int128),
    )
    again = _round(frame)
    polars.testing.assert_frame_equal(again, frame)
    assert again.schema == frame.schema
    for other in (pl.DataFrame(), pl.DataFrame({"a": []})):
        assert _round(other).schema == other.schema
    polars.testing.assert_series_equal(_round(pl.Series("x", [1, None])), pl.Series("x", [1, None]))


def test_polars_objects_are_refused_by_column() -> None:
    """A lazy frame as well: a query is not a value."""
    with pytest.raises(Unencodable, match=r"r\['a'\]"):
        encode(pl.DataFrame({"a": [object()]}), at="r")
    with pytest.raises(Unencodable, match="LazyFrame"):
        encode(pl.DataFrame({"a": [1]}).lazy())


@pytest.mark.parametrize(
    "value",
    [
        pa.table({"a": [1, None], "s": ["x", "y"]}).replace_schema_metadata({"k": "v"}),
        pa.table({"d": pa.chunked_array([pa.array(["a", "b"]).dictionary_encode()])}),
        pa.table({}),
        pa.record_batch({"a": pa.array([], pa.int8())}),
        pa.chunked_array([[1], [2, 3]]),
        pa.array([1, 2, None])[1:],
        pa.array([{"a": [1]}]),
        pa.array(["a"], pa.string_view()),
        pa.nulls(3),
        pa.schema([("a", pa.decimal128(5, 2))]),
        pa.scalar(5, pa.int8()),
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_arrow_values_come_back(value: Any) -> None:
    """With types, nulls and metadata."""
    again = _round(value)
    assert again.equals(value)
    if isinstance(value, pa.Table):
        assert again.schema.equals(value.schema, check_metadata=True)
