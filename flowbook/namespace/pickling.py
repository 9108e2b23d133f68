"""Pickling a notebook's variables so that they come back as what they were.

Owns: cloudpickle with the notebook's own rules. Refuses: which variables belong together (`groups.py`), and loading
anything that was not verified (`restoring.py`).

What is different from cloudpickle:

- A function of the notebook gets the notebook's own namespace back as its globals, not a copy of what it names, so it
  sees what later cells assign. Cells of closures are carried as objects: two functions that share one go on sharing it.
- A class or function that is a variable of its own is carried once; what refers to it from elsewhere names it. So
  ``isinstance`` holds.
- An array that shares memory with another one is carried as a view of it.
- Markers (``object()``, ``dataclasses.MISSING``) and other things that a module has exactly once are carried by name.
- What pickle would change without a word is refused (`refused.py`).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import cloudpickle

from flowbook.namespace.refused import refuse

IN_BAND: Final = 32 * 1024
"""Bytes up to which a buffer stays in the stream."""

_CACHED: Final = type(functools.lru_cache(len))


@dataclass(slots=True)
class Here:
    """The kernel that a pickle is being loaded into."""

    namespace: dict[str, Any]
    named: Callable[[str], Any]
    """The notebook's class or function of that name, loaded if it is not there yet."""


_here: ContextVar[Here] = ContextVar("flowbook_namespace_here")


@dataclass(frozen=True, slots=True)
class View:
    """How an array lies in the one that owns its memory."""

    root: Any
    offset: int
    """Bytes from the root's first one."""


@dataclass(slots=True)
class Dumped:
    """A pickle that was just made. It holds what it was made of, so that no id is used twice meanwhile."""

    stream: memoryview
    buffers: list[memoryview]
    memo: dict[int, Any]
    """id -> object, of everything that the pickle has once."""
    needs: set[str] = field(default_factory=set)
    """Classes and functions that it names."""


def dump(
    value: Any, namespace: dict[str, Any], known: Mapping[int, str], views: Mapping[int, View] | None = None
) -> Dumped:
    """Pickle a value. ``known``: id of a class or function -> the variable that it is carried by.

    Raises whatever pickle raises; `Unstorable` for what it would change without a word.
    """
    file = io.BytesIO()
    buffers: list[memoryview] = []
    pickler = Pickler(file, buffers, namespace, known, views or {})
    pickler.dump(value)
    memo = {key: thing for key, (_, thing) in pickler.memo.copy().items()}
    return Dumped(file.getbuffer(), buffers, memo, pickler.needs)


def load(stream: Any, buffers: Iterable[Any], here: Here) -> Any:
    """Load what `dump` has made and somebody has verified."""
    token = _here.set(here)
    try:
        return _Unpickler(io.BytesIO(stream), buffers=buffers).load()
    finally:
        _here.reset(token)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """See the module; made by `dump`."""

    def __init__(
        self, file: io.BytesIO, buffers: list[memoryview], namespace: dict[str, Any], known: Mapping[int, str],
        views: Mapping[int, View],
    ) -> None:  # fmt: skip
        def take(buffer: pickle.PickleBuffer) -> bool:  # a method would make a circle, and hold on to everything
            view = memoryview(buffer)
            if view.nbytes <= IN_BAND:
                return True
            buffers.append(view)
            return False

        super().__init__(file, protocol=5, buffer_callback=take)
        self.needs: set[str] = set()
        self.namespace, self._known, self._views = namespace, known, views

    def reducer_override(self, obj: Any) -> Any:
        """How this object is carried; NotImplemented: as pickle has it."""
        kind = type(obj)
        if kind is types.FunctionType or isinstance(obj, type):
            name = self._known.get(id(obj))
            if name is not None:
                self.needs.add(name)
                return _named, (name,)
            if kind is types.FunctionType and obj.__globals__ is self.namespace:
                return _of_function(obj)
            return super().reducer_override(obj)
        view = self._views.get(id(obj))
        if view is not None:
            return _view, (view.root, view.offset, obj.shape, obj.strides, obj.dtype, obj.flags.writeable)
        if kind is types.CellType:
            return _of_cell(obj)
        if kind is _CACHED:
            # functools knows it by its name, and in a notebook nobody else does; what it has cached is computed again.
            return _cached, (obj.__wrapped__, obj.cache_parameters())
        if str(kind.__module__).partition(".")[0] in _SPECIAL and (special := _special(obj)) is not NotImplemented:
            return special
        if kind is object or kind in _MARKERS:
            place = _place(obj)
            return NotImplemented if place is None else (_attribute, place)
        refuse(obj)
        return super().reducer_override(obj)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """As pickle does; what belongs to the notebook is found in its namespace."""
        if module == "__main__" and "." not in name:
            here = _here.get()
            return here.namespace[name] if name in here.namespace else here.named(name)
        return super().find_class(module, name)


# -- functions and closures ------------------------------------------------------------------------------------------


def _of_function(it: types.FunctionType) -> Any:
    state = {
        "defaults": it.__defaults__, "kwdefaults": it.__kwdefaults__, "annotations": dict(it.__annotations__),
        "dict": it.__dict__, "qualname": it.__qualname__, "module": it.__module__, "doc": it.__doc__,
        "params": getattr(it, "__type_params__", ()),
    }  # fmt: skip
    return _function, (it.__code__, it.__name__, it.__closure__), state, None, None, _fill_function


def _function(code: types.CodeType, name: str, closure: tuple[types.CellType, ...] | None) -> types.FunctionType:
    return types.FunctionType(code, _here.get().namespace, name, None, closure)


def _fill_function(it: types.FunctionType, state: dict[str, Any]) -> None:
    it.__defaults__, it.__kwdefaults__ = state["defaults"], state["kwdefaults"]
    it.__annotations__ = state["annotations"]
    it.__dict__.update(state["dict"])
    it.__qualname__, it.__module__, it.__doc__ = state["qualname"], state["module"], state["doc"]
    if state["params"]:
        it.__type_params__ = state["params"]  # type: ignore[attr-defined]


def _of_cell(it: types.CellType) -> Any:
    try:
        content = (it.cell_contents,)
    except ValueError:  # nothing was assigned yet
        return _cell, ()
    return _cell, (), content, None, None, _fill_cell


def _cell() -> types.CellType:
    return types.CellType()


def _fill_cell(it: types.CellType, content: tuple[Any]) -> None:
    it.cell_contents = content[0]


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _named(name: str) -> Any:
    return _here.get().named(name)


# -- what a module has exactly once ----------------------------------------------------------------------------------

_MARKERS: Final = frozenset({type(dataclasses.MISSING), type(dataclasses.KW_ONLY)})
_SPECIAL: Final = frozenset({"numpy", "random", "ipykernel", "_io", "polars", "logging", "io"})
"""Top-level modules whose objects `_special` looks at."""


def _special(obj: Any) -> Any:
    for stream in ("stdout", "stderr", "stdin", "__stdout__", "__stderr__"):
        if obj is getattr(sys, stream, None):
            return _attribute, ("sys", stream)
    random, legacy, polars = (
        sys.modules.get("random"),
        sys.modules.get("numpy.random.mtrand"),
        sys.modules.get("polars"),
    )
    if random is not None and obj is getattr(random, "_inst", None):
        return _attribute, ("random", "_inst")
    if legacy is not None and obj is getattr(legacy, "_rand", None):
        return _attribute, ("numpy.random.mtrand", "_rand")
    if polars is not None and type(obj) is polars.Series:
        return _of_series(obj)
    if polars is not None and type(obj) is polars.DataFrame and obj.width:
        return polars.DataFrame, (obj.get_columns(),)
    return NotImplemented


def _of_series(it: Any) -> Any:
    """A polars column with its bytes beside the stream, so that only columns that changed are written."""
    state = it.__getstate__()
    if isinstance(state, bytes):
        return _series, (type(it), pickle.PickleBuffer(state))
    return NotImplemented


def _series(kind: Any, state: Any) -> Any:
    made = kind.__new__(kind)
    made.__setstate__(bytes(state))
    return made


_places: dict[int, tuple[str, str]] = {}
"""id of a marker -> where it is; made again whenever modules were loaded."""
_modules = 0


def _place(obj: Any) -> tuple[str, str] | None:
    """The module and the name by which a marker is known; None: it is somebody's own."""
    global _modules  # noqa: PLW0603 - looking through all modules takes 30 ms
    if _modules != len(sys.modules):
        _modules = len(sys.modules)
        _places.clear()
        for name, module in list(sys.modules.items()):
            if name != "__main__" and isinstance(module, types.ModuleType):
                for attribute, value in list(vars(module).items()):
                    if type(value) is object or type(value) in _MARKERS:
                        _places.setdefault(id(value), (name, attribute))
    place = _places.get(id(obj))
    if place is not None and getattr(sys.modules.get(place[0]), place[1], None) is obj:
        return place
    return None


def _attribute(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _view(root: Any, offset: int, shape: Any, strides: Any, dtype: Any, writeable: bool) -> Any:
    numpy = sys.modules["numpy"]
    flat = root.ravel(order="K")  # an array that owns its memory is contiguous one way or the other
    if dtype.hasobject:  # objects are no bytes
        as_strided = importlib.import_module("numpy.lib.stride_tricks").as_strided
        return as_strided(flat[offset // flat.itemsize :], shape, strides, writeable=writeable)
    made = numpy.ndarray(shape, dtype, buffer=flat.view("u1"), offset=offset, strides=strides)
    made.flags.writeable = writeable
    return made
