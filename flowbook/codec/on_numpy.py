"""numpy: arrays and scalars.

Owns: dtypes, raw buffers, memory order. Refuses: subclasses (masked arrays, matrices, records, memory maps), and
structured dtypes that hold Python objects.

An array's buffer is a segment; the decoded array is a read-only view of the payload. An array of Python objects is
carried element by element. dtype ``metadata`` is not part of a value (numpy's own equality ignores it too).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from flowbook.codec.copies import IMMUTABLE, copied
from flowbook.codec.registry import COPIES, Parts, Refused, makes, takes

_LIMIT: Final = 64  # numpy's own number of dimensions

_SCALARS: Final[tuple[type, ...]] = tuple(
    {np.dtype(code).type for code in "?bBhHiIlLqQefdgFDGMmSUV"}  # "q" and "l" may be two types of one size
)


def _spec(dtype: np.dtype[Any]) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": _spec(base), "shape": list(shape)}
    if dtype.names is not None:
        fields: Any = dtype.fields
        members = [fields[name] for name in dtype.names]
        return {
            "names": list(dtype.names),
            "formats": [_spec(member[0]) for member in members],
            "offsets": [member[1] for member in members],
            "titles": [member[2] if len(member) > 2 else None for member in members],
            "itemsize": dtype.itemsize,
            "aligned": dtype.isalignedstruct,
        }
    if dtype.hasobject or dtype.kind == "T":
        raise Refused(f"its dtype {dtype} holds Python objects within fields")
    if np.dtype(dtype.str).char != dtype.char:
        return f"={dtype.char}"  # longlong where long has the same size: its scalars are another type
    return dtype.str


def _dtype(spec: Any) -> np.dtype[Any]:
    if isinstance(spec, str):
        made: np.dtype[Any] = np.dtype(spec)
    elif "base" in spec:
        made = np.dtype((_dtype(spec["base"]), tuple(spec["shape"])))
    else:
        layout: Any = {
            "names": spec["names"],
            "formats": [_dtype(item) for item in spec["formats"]],
            "offsets": spec["offsets"],
            "itemsize": spec["itemsize"],
        }
        if any(title is not None for title in spec["titles"]):
            layout["titles"] = spec["titles"]
        made = np.dtype(layout, align=bool(spec["aligned"]))
    if made.hasobject:
        raise ValueError(f"a stored dtype {made} would hold pointers")
    return made


def _raw(flat: np.ndarray[Any, Any]) -> bytes | memoryview:
    try:
        return flat.reshape(-1).view(np.uint8).data
    except (TypeError, ValueError):
        return flat.tobytes()  # a dtype of no bytes, or one that cannot be viewed as bytes


@takes(np.ndarray)
def _take_array(value: np.ndarray[Any, Any]) -> Parts:
    fortran = bool(value.flags.f_contiguous and not value.flags.c_contiguous)
    order = "F" if fortran else "C"
    shape = list(value.shape)
    if value.dtype.kind == "O" and value.dtype.names is None and value.dtype.subdtype is None:
        # reshape of a 0-d array would keep it 0-d, and tolist of nested sequences must not descend into them
        return Parts("np.objects", [shape, order], (value.ravel(order="K" if fortran else "C").tolist(),), name=_same)
    if value.dtype.kind == "T":
        dtype: Any = value.dtype
        marker = hasattr(dtype, "na_object")
        missing = (dtype.na_object,) if marker else ()
        texts = value.ravel().tolist()
        return Parts("np.strings", [shape, order, bool(dtype.coerce)], (texts, *missing), name=_same)
    spec = _spec(value.dtype)
    flat = value.T if fortran else np.ascontiguousarray(value)
    return Parts("np.array", [spec, shape, order], (), (_raw(flat),))


def _same(_index: int) -> str:
    return ""


def _frozen(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array.flags.writeable = False
    return array


@makes("np.array")
def _make_array(meta: Any, _children: list[Any], segments: list[memoryview]) -> np.ndarray[Any, Any]:
    spec, shape, order = meta
    (raw,) = segments
    dtype = _dtype(spec)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array cannot have the shape {shape!r}")
    array: np.ndarray[Any, Any] = np.ndarray(tuple(shape), dtype, buffer=raw, order=order)
    if array.nbytes != len(raw):
        raise ValueError(f"{len(raw)} bytes for an array of {array.nbytes}")
    return _frozen(array)


@makes("np.objects")
def _make_objects(meta: Any, children: list[Any], _segments: list[memoryview]) -> np.ndarray[Any, Any]:
    shape, order = meta
    (items,) = children
    flat = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):  # not flat[:] = items, which would look into sequences
        flat[index] = item
    return _frozen(flat.reshape(tuple(shape), order=order))


@makes("np.strings")
def _make_strings(meta: Any, children: list[Any], _segments: list[memoryview]) -> np.ndarray[Any, Any]:
    shape, order, coerce = meta
    items, *missing = children
    made: Any = np.dtypes.StringDType
    dtype = made(coerce=coerce, na_object=missing[0]) if missing else made(coerce=coerce)
    array = np.array(items, dtype=dtype).reshape(tuple(shape))
    return _frozen(np.asfortranarray(array) if order == "F" else array)


@takes(*_SCALARS)
def _take_scalar(value: np.generic) -> Parts:
    if isinstance(value, (np.str_, np.bytes_)):
        # as Python's own: an array would drop trailing zeros
        plain: object = str.__str__(value) if isinstance(value, np.str_) else bytes(value)
        return Parts("np.text", None, (plain,), name=_same)
    return Parts("np.scalar", _spec(value.dtype), (value.tobytes(),), name=_same)


@makes("np.text")
def _make_text(_meta: Any, children: list[Any], _segments: list[memoryview]) -> np.generic:
    (plain,) = children
    return np.str_(plain) if isinstance(plain, str) else np.bytes_(plain)


@makes("np.scalar")
def _make_scalar(meta: Any, children: list[Any], _segments: list[memoryview]) -> np.generic:
    (raw,) = children
    dtype = _dtype(meta)
    if dtype.itemsize != len(raw):
        raise ValueError(f"{len(raw)} bytes for a scalar of {dtype.itemsize}")
    made: Any = np.ndarray((), dtype, buffer=raw)[()]
    scalar: np.generic = made.copy() if isinstance(made, np.void) else made
    return scalar


@takes(np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDGMmSUV"})
def _take_dtype(value: np.dtype[Any]) -> Parts:
    return Parts("np.dtype", _spec(value))


@makes("np.dtype")
def _make_dtype(meta: Any, _children: list[Any], _segments: list[memoryview]) -> np.dtype[Any]:
    return _dtype(meta)


# ----------------------------------------------------------------------------------------------------------- fresh


def _copy_array(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if value.dtype.kind != "O" or IMMUTABLE.issuperset(map(type, value.flat)):
        return _frozen(value.view())
    copy = np.empty_like(value)
    for index in np.ndindex(value.shape):
        copy[index] = copied(value[index])
    return _frozen(copy)


COPIES[np.ndarray] = _copy_array
COPIES.update(dict.fromkeys(_SCALARS, lambda value: value))
COPIES[np.void] = lambda value: value.copy()  # the one scalar that can be written to
