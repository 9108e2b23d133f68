"""polars: data frames and series.

Owns: Arrow IPC files as segments, written and read by polars itself. Refuses: columns of Python objects, lazy frames
(a query is not a value), and a schema that IPC would change.

A panic of polars' native code is no Exception; here it is turned into one. The file is checked against a CRC first.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import polars as pl

from flowbook import secret
from flowbook.codec.registry import COPIES, Parts, Refused, makes, takes

R = TypeVar("R")


def _calm(call: Callable[[], R]) -> R:
    try:
        return call()
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise ValueError(f"polars panicked: {error}") from None
        raise


def _written(frame: pl.DataFrame, tag: str) -> Parts:
    for name, kind in frame.schema.items():
        if "Object" in str(kind):
            raise Refused(f"its column {name!r} holds Python objects ({kind})", f"[{name!r}]")
    sink = io.BytesIO()
    _calm(lambda: frame.write_ipc(sink, compat_level=pl.CompatLevel.newest()))
    if secret.known and secret.redact_bytes(sink.getvalue()) != sink.getvalue():
        return _written(_without_secrets(frame), tag)
    stored = pl.read_ipc_schema(io.BytesIO(sink.getbuffer()))
    for name, kind in frame.schema.items():
        if stored.get(name) != kind:
            raise Refused(f"its column {name!r} of {kind} would come back as {stored.get(name)}", f"[{name!r}]")
    stream = sink.getbuffer()
    return Parts(tag, [zlib.crc32(stream), frame.height], (), (stream,))


def _without_secrets(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame without them. Its texts begin in another place than where they lie, so bytes cannot be replaced."""
    clean = frame
    for form, stars, *_ in secret.known:
        clean = clean.with_columns(pl.col(pl.String).str.replace_all(form, stars, literal=True))
    if clean.equals(frame):
        raise Refused("it holds the value of a secret in a column that is not of plain text")
    return clean


def _read(meta: Any, segments: list[memoryview]) -> pl.DataFrame:
    (stream,) = segments
    checksum, height = meta
    if checksum != zlib.crc32(stream):
        raise ValueError("its checksum does not fit")
    frame = _calm(lambda: pl.read_ipc(io.BytesIO(stream)))
    if frame.height != height:
        if frame.width or type(height) is not int or height < 0:
            raise ValueError(f"it has {frame.height} rows and should have {height}")
        frame = pl.DataFrame(height=height)
    return frame


@takes(pl.DataFrame)
def _take_frame(value: pl.DataFrame) -> Parts:
    return _written(value, "pl.frame")


@makes("pl.frame")
def _make_frame(meta: Any, _children: list[Any], segments: list[memoryview]) -> pl.DataFrame:
    return _read(meta, segments)


@takes(pl.Series)
def _take_series(value: pl.Series) -> Parts:
    return _written(value.to_frame(), "pl.series")


@makes("pl.series")
def _make_series(meta: Any, _children: list[Any], segments: list[memoryview]) -> pl.Series:
    return _read(meta, segments).to_series()


COPIES[pl.DataFrame] = lambda value: value.clone()  # shares the columns; polars copies them on write
COPIES[pl.Series] = lambda value: value.clone()
