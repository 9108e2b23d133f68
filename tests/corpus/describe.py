"""Describing a namespace, so that two kernels can be compared.

Owns: what two variables must have in common to count as the same: type, content, and which parts are one object. It is
run inside of the kernels. Refuses: pickle: what pickle loses must be seen here.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import io
import json
import pathlib
import re
import sys
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any

from flowbook.namespace.keeper import users_names
from flowbook.namespace.missing import Missing

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type(Ellipsis), range)
_ADDRESS = re.compile(r"0x[0-9a-f]{6,}|/[\w/]*ipykernel_\d+/\d+\.py")


def describe(namespace: Mapping[str, Any], skip: Collection[str] = ()) -> str:
    """JSON: variable -> what it is."""
    walk = _Walk(namespace)
    names = [n for n in sorted(users_names(namespace)) if n not in skip]
    return json.dumps({n: walk.of(namespace[n], n) for n in names})


class _Walk:
    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._seen: dict[int, tuple[str, Any]] = {}
        """id -> where it was met first, and the object, so that the id stays its own."""

    def of(self, it: Any, path: str) -> Any:
        """What an object is; one that was met before is the place where."""
        if isinstance(it, Missing):
            return "missing"
        if type(it) in _PLAIN:
            return f"{type(it).__name__}:{it!r}" if len(repr(it)) < 500 else f"{type(it).__name__}:{_digest(repr(it))}"
        if isinstance(it, types.ModuleType):
            return f"module:{it.__name__}"
        if isinstance(it, type) and it.__module__ != "__main__":
            return f"type:{it.__module__}.{it.__qualname__}"
        if id(it) in self._seen:
            return f"same as {self._seen[id(it)][0]}"
        self._seen[id(it)] = (path, it)
        for kinds, how in _KINDS:
            found = tuple(k for k in map(_class, kinds) if k is not None)
            if found and isinstance(it, found):
                return [_name(it), how(self, it, path)]
        return [_name(it), self._object(it, path)]

    def many(self, items: Any, path: str) -> list[Any]:
        """Each of several."""
        return [self.of(x, f"{path}[{n}]") for n, x in enumerate(items)]

    def mapping(self, it: Mapping[Any, Any], path: str) -> list[Any]:
        """Keys and values, in order."""
        return [[self.of(k, f"{path}.key"), self.of(v, f"{path}[{k!r:.40}]")] for k, v in list(it.items())]

    def function(self, it: Any, path: str) -> Any:
        """Code, what it is closed over, and whether it sees the notebook's variables."""
        if it.__globals__ is not self._namespace:
            return f"{it.__module__}.{it.__qualname__}"
        cells = [self.of(c.cell_contents, f"{path}.cell") for c in it.__closure__ or () if _filled(c)]
        code = it.__code__
        return [
            it.__qualname__, code.co_code.hex(), list(code.co_names), cells,
            self.of(it.__defaults__, f"{path}.defaults"), self.of(it.__dict__, f"{path}.dict"),
        ]  # fmt: skip

    def code(self, it: Any) -> Any:
        """What a method does."""
        return it.__code__.co_code.hex() if isinstance(it, types.FunctionType) else repr(type(it))

    def klass(self, it: Any, path: str) -> Any:
        """A class of the notebook's."""
        held = {
            k: v
            for k, v in vars(it).items()
            if not k.startswith(("__", "_abc_")) and not isinstance(v, types.GetSetDescriptorType)
        }
        # In which order a class has its attributes is no part of what it is.
        return [it.__qualname__, [b.__qualname__ for b in it.__bases__], self.mapping(dict(sorted(held.items())), path)]

    def array(self, it: Any, path: str) -> Any:
        """dtype, shape, content, and whether it may be written to."""
        if it.dtype.hasobject:
            content: Any = self.many(it.ravel().tolist(), path)
        else:
            content = _digest(it.tobytes())
        shared = [where for where, other in self._arrays(it) if _numpy().shares_memory(it, other)]
        return [str(it.dtype), list(it.shape), bool(it.flags.writeable), content, shared]

    def _arrays(self, it: Any) -> list[tuple[str, Any]]:
        kind = _numpy().ndarray
        return [(w, o) for w, o in list(self._seen.values()) if isinstance(o, kind) and o is not it]

    def frame(self, it: Any, path: str) -> Any:
        """A pandas object."""
        pandas = sys.modules["pandas"]
        if isinstance(it, pandas.Index):
            return [str(it.dtype), self.of(list(it.names), path), [repr(x) for x in it[:200]], len(it)]
        columns = [it] if it.ndim == 1 else [it.iloc[:, n] for n in range(it.shape[1])]
        return [
            [[str(c.name), str(c.dtype), _digest(repr(c.tolist()))] for c in columns],
            self.of(it.index, f"{path}.index"), repr(it.attrs),
        ]  # fmt: skip

    def figure(self, it: Any, path: str) -> Any:
        """What it looks like."""
        file = io.BytesIO()
        it.savefig(file, format="rgba", dpi=40)
        return [_digest(file.getvalue()), len(it.axes)]

    def _object(self, it: Any, path: str) -> Any:
        if dataclasses.is_dataclass(it) and not isinstance(it, type):
            return [[f.name, self.of(getattr(it, f.name), f"{path}.{f.name}")] for f in dataclasses.fields(it)]
        state = dict(getattr(it, "__dict__", {}))
        for kind in type(it).__mro__:
            for name in getattr(kind, "__slots__", ()):
                if isinstance(name, str) and hasattr(it, name) and not name.startswith("__"):
                    state[name] = getattr(it, name)
        inner = []
        if isinstance(it, dict):
            inner.append(self.mapping(it, path))
        elif isinstance(it, list | tuple):
            inner.append(self.many(it, path))
        if state:
            inner.append(self.mapping(state, path))
        return inner or _ADDRESS.sub("...", repr(it))


def _numpy() -> Any:
    return sys.modules["numpy"]


def _class(place: str | type) -> type | None:
    if isinstance(place, type):
        return place
    module, _, name = place.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def _filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _name(it: Any) -> str:
    return f"{type(it).__module__}.{type(it).__qualname__}"


def _digest(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:24]


How = Callable[[_Walk, Any, str], Any]
_KINDS: list[tuple[tuple[Any, ...], How]] = [
    ((types.FunctionType,), _Walk.function),
    ((classmethod, staticmethod), lambda w, x, p: w.code(x.__func__)),
    ((type,), _Walk.klass),
    ((enum.Enum,), lambda w, x, p: [x.name, w.of(type(x), p)]),
    (("sklearn.utils._bunch.Bunch",), _Walk.mapping),  # its own __setstate__ lets go of its attributes
    (("numpy.ndarray",), _Walk.array),
    (("numpy.generic", "numpy.dtype"), lambda w, x, p: repr(x)),
    (("numpy.random.Generator",), lambda w, x, p: repr(x.bit_generator.state)),
    (("numpy.random.RandomState",), lambda w, x, p: _digest(repr(x.get_state()))),
    (("pandas.DataFrame", "pandas.Series", "pandas.Index"), _Walk.frame),
    (("polars.DataFrame",), lambda w, x, p: [repr(x.schema), _digest(repr(x.rows()))]),
    (("polars.Series",), lambda w, x, p: [x.name, repr(x.dtype), _digest(repr(x.to_list()))]),
    (("polars.LazyFrame",), lambda w, x, p: _digest(repr(x.collect().rows()))),
    (("pyarrow.Table",), lambda w, x, p: [repr(x.schema), _digest(repr(x.to_pydict()))]),
    (("matplotlib.figure.Figure",), _Walk.figure),
    (("matplotlib.artist.Artist",), lambda w, x, p: w.of(x.figure, f"{p}.figure") if x.figure is not x else ""),
    (("scipy.sparse.spmatrix", "scipy.sparse.sparray"), lambda w, x, p: [x.shape, _digest(x.toarray().tobytes())]),
    (("sympy.Basic",), lambda w, x, p: sys.modules["sympy"].srepr(x)),
    (("networkx.Graph",), lambda w, x, p: [repr(list(x.nodes(data=True))), repr(list(x.edges(data=True)))]),
    (("sklearn.tree._tree.Tree",), lambda w, x, p: [x.node_count, _digest(x.value.tobytes() + x.threshold.tobytes())]),
    ((functools.partial,), lambda w, x, p: w.many([x.func, x.args, x.keywords], p)),
    ((pathlib.PurePath,), lambda w, x, p: str(x)),
    ((set, frozenset), lambda w, x, p: sorted(repr(i) for i in x)),
    ((io.StringIO, io.BytesIO), lambda w, x, p: [repr(x.getvalue()), x.tell()]),
]
