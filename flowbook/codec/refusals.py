"""What the codec says about a value that it will not carry.

Owns: the texts, by kind of value. Refuses: deciding what is carried (the registry does).
"""

from __future__ import annotations

import types
from typing import Final

_KEEP: Final = 'keep it with @step(store="pickle"), or do not keep it with @step(store="recompute")'

_ADVICE: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    ((types.GeneratorType, types.AsyncGeneratorType), "it can be read only once; return list(...) of it"),
    (types.CoroutineType, "it was not awaited; return its result"),
    (types.ModuleType, "a module is code; import it where it is used"),
    ((types.FunctionType, types.BuiltinFunctionType, types.MethodType), "a function is code, not data"),
    (type, "a class is code, not data"),
    ((dict, list, set, tuple, frozenset), "a subclass may mean more than its base; return a plain copy, e.g. dict(x)"),
    ((str, int, float, bytes, complex), "a subclass may mean more than its base; return a plain copy, e.g. str(x)"),
    (BaseException, "return what is to be known of it, e.g. str(error)"),
    (memoryview, "it is a view of memory; return bytes(...) of it"),
)


def type_name(kind: type) -> str:
    """``module.qualname``, without ``builtins``."""
    module = str(kind.__module__)
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def unknown(kind: type) -> str:
    """Why a value of a type outside the registry is refused, and what to do instead."""
    advice = next((text for types_, text in _ADVICE if issubclass(kind, types_)), "")
    return f"a value of type {type_name(kind)} cannot be stored{': ' + advice if advice else ''}. Otherwise {_KEEP}"


def refused(kind: type, reason: str) -> str:
    """Why a value whose type is known is refused all the same."""
    return f"this {type_name(kind)} cannot be stored: {reason}. Otherwise {_KEEP}"
