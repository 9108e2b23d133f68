"""Fingerprints: whether a value is the one that it was, in another kernel too.

Owns: digests that depend on what a value is and not on the process: functions and classes by the syntax of their
source, sets in an order of their own, local modules by their file. Refuses: the way back; nothing is loaded from one.
"""

from __future__ import annotations

import ast
import inspect
import io
import sys
import textwrap
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowbook.namespace.groups import definitions
from flowbook.namespace.missing import Missing
from flowbook.namespace.pickling import Pickler
from flowbook.namespace.refused import Unstorable
from flowbook.namespace.vault import digest


def fingerprint(value: Any, namespace: dict[str, Any]) -> str:
    """The digest of a value, in hex. Raises whatever pickle raises, `Unstorable` for what cannot be compared."""
    if isinstance(value, Missing):
        raise Unstorable("it is missing")
    if isinstance(value, types.ModuleType):
        return _module(value)
    if isinstance(value, types.FunctionType) and value.__globals__ is namespace:
        return _hex(["function", code_of(value), _all(_around(value), namespace)])
    if isinstance(value, type) and value.__module__ == "__main__":
        return _class(value, namespace)
    return _pickled(value, namespace)


def names_in(value: Any, namespace: Mapping[str, Any]) -> set[str]:
    """Variables of the notebook that the code of a function or class of it names."""
    found: set[str] = set()
    held: list[Any] = [value] if isinstance(value, types.FunctionType) else []
    if isinstance(value, type) and value.__module__ == "__main__":
        held = [getattr(x, "__func__", getattr(x, "fget", x)) for x in vars(value).values()]
        found |= {base.__name__ for base in value.__bases__}
    for function in held:
        if isinstance(function, types.FunctionType) and function.__globals__ is namespace:
            todo = [function.__code__]
            while todo:
                code = todo.pop()
                found |= set(code.co_names)
                todo += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return found & namespace.keys()


def syntax(source: str) -> str:
    """A text of Python without its comments and layout."""
    try:
        return ast.dump(ast.parse(textwrap.dedent(source)))
    except SyntaxError:
        return source


def code_of(function: types.FunctionType) -> str:
    """What a function does: its source where it is known, else its byte code."""
    try:
        return syntax(inspect.getsource(function))
    except (OSError, TypeError):
        code = function.__code__
        return repr((code.co_code, code.co_names, [c for c in code.co_consts if not isinstance(c, types.CodeType)]))


def _around(function: types.FunctionType) -> list[Any]:
    cells = [c.cell_contents for c in function.__closure__ or () if _filled(c)]
    return [function.__defaults__, function.__kwdefaults__, cells]


def _filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _class(value: type, namespace: dict[str, Any]) -> str:
    parts: list[Any] = [value.__qualname__, [b.__qualname__ for b in value.__bases__]]
    for name, held in sorted(vars(value).items()):
        function = getattr(held, "__func__", getattr(held, "fget", held))
        if isinstance(function, types.FunctionType):
            parts.append([name, code_of(function)])
        elif not name.startswith("__") and not inspect.isdatadescriptor(held):
            parts.append([name, _all([held], namespace)])
    return _hex(parts)


def _module(value: types.ModuleType) -> str:
    """A module's name, and its text where it lies beside the notebook."""
    file = getattr(value, "__file__", None)
    installed = tuple({sys.prefix, sys.base_prefix})
    if file is None or str(file).startswith(installed) or "site-packages" in str(file):
        return _hex(["module", value.__name__])
    try:
        return _hex(["module", value.__name__, digest(Path(file).read_bytes()).hex()])
    except OSError:
        return _hex(["module", value.__name__])


def _all(values: list[Any], namespace: dict[str, Any]) -> list[str]:
    return [_pickled(v, namespace) for v in values if v is not None]


def _pickled(value: Any, namespace: dict[str, Any]) -> str:
    file = io.BytesIO()
    buffers: list[memoryview] = []
    _Ordered(file, buffers, namespace, definitions(namespace), {}).dump(value)
    parts = [digest(file.getbuffer())]
    for buffer in buffers:
        flat = buffer if buffer.ndim == 1 and buffer.format == "B" else _raw(buffer)
        parts.append(digest(flat))
    return digest(b"".join(parts)).hex()


def _raw(buffer: memoryview) -> memoryview:
    import pickle

    return pickle.PickleBuffer(buffer).raw()


class _Ordered(Pickler):
    """Sets in an order that does not depend on the process."""

    def persistent_id(self, obj: Any) -> Any:
        """Called for every object: sets are told by the digests of what is in them."""
        if type(obj) is set or type(obj) is frozenset:
            return type(obj).__name__, sorted(_pickled(x, self.namespace) for x in obj)
        return None


def _hex(parts: Any) -> str:
    return digest(repr(parts).encode()).hex()
