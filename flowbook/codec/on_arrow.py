"""pyarrow: tables, record batches, arrays, chunked arrays, scalars, schemas.

Owns: Arrow IPC streams as segments. Refuses: extension types written in Python (reading one would call its class).

A stream is checked against a CRC before it is given to Arrow's reader, and validated afterwards: a native reader
must not be the first to notice a damaged length.
"""

from __future__ import annotations

import zlib
from typing import Any

import pyarrow as pa

from flowbook import secret
from flowbook.codec.registry import COPIES, Parts, Refused, makes, takes
from flowbook.codec.wire import Buffer

_ARRAYS = tuple(
    kind for kind in vars(pa).values() if isinstance(kind, type) and issubclass(kind, pa.Array) and kind is not pa.Array
)
_VALUES = tuple(kind for kind in vars(pa).values() if isinstance(kind, type) and issubclass(kind, pa.Scalar))


def sealed(stream: Buffer) -> list[int]:
    """The meta of a node whose segment a native reader will read."""
    return [zlib.crc32(stream)]


def unsealed(meta: Any, segments: list[memoryview]) -> memoryview:
    """The segment, if it is the one that was written. Raises ValueError."""
    (stream,) = segments
    if meta[0] != zlib.crc32(stream):
        raise ValueError("its checksum does not fit")
    return stream


def _refuse_python_types(kind: Any, at: str) -> None:
    if isinstance(kind, pa.ExtensionType):
        raise Refused(f"its Arrow type {kind} is an extension written in Python; store its .storage", at)
    for index in range(kind.num_fields):
        _refuse_python_types(kind.field(index).type, at)
    if pa.types.is_dictionary(kind):
        _refuse_python_types(kind.value_type, at)


def _written(table: Any) -> Any:
    for field in table.schema:
        _refuse_python_types(field.type, f"[{field.name!r}]" if field.name else "")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(unify_dictionaries=False)) as writer:
        writer.write(table)
    stream = sink.getvalue()
    return memoryview(secret.redact_bytes(stream.to_pybytes()) if secret.known else stream)  # before it is sealed


def _read(meta: Any, segments: list[memoryview]) -> Any:
    with pa.ipc.open_stream(pa.py_buffer(unsealed(meta, segments))) as reader:
        table = reader.read_all()
    table.validate(full=True)
    return table


def _stream(tag: str, table: Any) -> Parts:
    stream = _written(table)
    return Parts(tag, sealed(stream), (), (stream,))


@takes(pa.Table)
def _take_table(value: Any) -> Parts:
    return _stream("pa.table", value)


@makes("pa.table")
def _make_table(meta: Any, _children: list[Any], segments: list[memoryview]) -> Any:
    return _read(meta, segments)


@takes(pa.RecordBatch)
def _take_batch(value: Any) -> Parts:
    return _stream("pa.batch", value)


@makes("pa.batch")
def _make_batch(meta: Any, _children: list[Any], segments: list[memoryview]) -> Any:
    table = _read(meta, segments)
    batches = table.to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


@takes(pa.ChunkedArray)
def _take_chunked(value: Any) -> Parts:
    return _stream("pa.chunked", pa.table([value], names=[""]))


@makes("pa.chunked")
def _make_chunked(meta: Any, _children: list[Any], segments: list[memoryview]) -> Any:
    return _read(meta, segments).column(0)


@takes(*_ARRAYS)
def _take_array(value: Any) -> Parts:
    return _stream("pa.array", pa.record_batch([value], names=[""]))


@makes("pa.array")
def _make_array(meta: Any, _children: list[Any], segments: list[memoryview]) -> Any:
    column = _read(meta, segments).column(0)
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.array([], column.type) if column.num_chunks == 0 else column.combine_chunks()


@takes(*_VALUES)
def _take_scalar(value: Any) -> Parts:
    return _stream("pa.scalar", pa.record_batch([pa.array([value], value.type)], names=[""]))


@makes("pa.scalar")
def _make_scalar(meta: Any, _children: list[Any], segments: list[memoryview]) -> Any:
    return _read(meta, segments).column(0)[0]


@takes(pa.Schema)
def _take_schema(value: Any) -> Parts:
    return _stream("pa.schema", value.empty_table())


@makes("pa.schema")
def _make_schema(meta: Any, _children: list[Any], segments: list[memoryview]) -> Any:
    return _read(meta, segments).schema


for _kind in (pa.Table, pa.RecordBatch, pa.ChunkedArray, pa.Schema, *_ARRAYS, *_VALUES):
    COPIES[_kind] = lambda value: value  # Arrow's values cannot be changed in place
