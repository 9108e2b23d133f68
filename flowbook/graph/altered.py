"""Alterations: what became of a function or class after its definition was executed.

Owns: comparing a living function or class with the tree it came from. Refuses: saying what that means for the user
(`portable.py`).

Source tells how a thing began. ``Model.fit = faster``, ``Config.K = 2`` or ``@parse.register`` in a later cell change
what runs and leave the source as it was; rebuilt from it, the flow would quietly do something else.

Only what is certain is reported: metaclasses, class decorators and ``__init_subclass__`` may rightly make a class
differ from its body, and private data (``_cache``, ``_instance``) is what a class keeps for itself while it runs.
"""

from __future__ import annotations

import abc
import ast
import copy
import dis
import types
from collections.abc import Iterator, Mapping
from typing import Any

_MADE_BY_PYTHON = (types.MemberDescriptorType, types.GetSetDescriptorType)


def altered(thing: Any, node: ast.AST, kept: int) -> tuple[str, ...]:
    """The attributes of a function or class that are not as its definition made them, sorted.

    ``kept``: how many decorators of a function are part of the rebuilt definition.
    """
    if isinstance(thing, type):
        return _of_class(thing, node) if isinstance(node, ast.ClassDef) else ()
    registry = getattr(thing, "registry", None)
    if isinstance(registry, types.MappingProxyType) and hasattr(thing, "dispatch"):  # functools.singledispatch
        return ("registry",) if len(registry) > 1 else ()
    return () if kept else tuple(sorted(vars(thing).keys() - {"__wrapped__"})) if hasattr(thing, "__dict__") else ()


def mangled(name: str, cls: str) -> str:
    """A private name as the compiler writes it: ``__x`` in class C is ``_C__x``."""
    bare = cls.lstrip("_")
    private = name.startswith("__") and not name.endswith("__") and "." not in name
    return f"_{bare}{name}" if private and bare else name


def patches(cls: Any, names: tuple[str, ...]) -> Mapping[str, types.CodeType]:
    """Those of the altered attributes that are code."""
    found = {n: vars(cls).get(n) for n in names} if isinstance(cls, type) else {}
    return {n: f.__code__ for n, v in found.items() if isinstance(f := _function(v), types.FunctionType)}


def _of_class(cls: type, node: ast.ClassDef) -> tuple[str, ...]:
    if not all(_harmless(d) for d in node.decorator_list):
        return ()
    own, stored = vars(cls), _stored(node)
    if stored is None:
        return ()
    plain = type(cls) in (type, abc.ABCMeta) and not (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    found = {n for n, d in _plain_methods(node) if stored.count(n) == 1 and n in own and not _made_here(own[n], d)}
    if plain:
        found |= {n for n, v in _constants(node) if stored.count(n) == 1 and n in own and not _equal(own[n], v)}
        if not any("__init_subclass__" in vars(b) for b in cls.__mro__[1:-1]):
            found |= {n for n, v in own.items() if n not in stored and _added(n, v)}
    return tuple(sorted(found))


def _harmless(decorator: ast.expr) -> bool:
    """``@dataclass`` adds methods, and changes none that the body has."""
    root = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (root.attr if isinstance(root, ast.Attribute) else getattr(root, "id", "")) == "dataclass"


def _plain_methods(node: ast.ClassDef) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for s in node.body:
        if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef) and not s.decorator_list and not _dunder(s.name):
            yield mangled(s.name, node.name), s


def _made_here(value: Any, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    function = _function(value)
    if not isinstance(function, types.FunctionType):
        return False
    code = function.__code__
    return code.co_name == node.name and code.co_firstlineno == node.lineno


def _constants(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """Public names that the body gives a literal of an immutable type."""
    for s in node.body:
        match s:
            case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, ast.expr() as value):
                if not name.startswith("_") and isinstance(value, ast.Constant | ast.UnaryOp | ast.Tuple):
                    try:
                        yield name, ast.literal_eval(value)
                    except (ValueError, TypeError):
                        continue  # an expression: its value then is not known
            case _:
                continue


def _equal(value: Any, written: Any) -> bool:
    return isinstance(value, _MADE_BY_PYTHON) or (type(value) is type(written) and repr(value) == repr(written))


def _added(name: str, value: Any) -> bool:
    if _dunder(name) or isinstance(value, _MADE_BY_PYTHON):
        return False
    return not name.startswith("_") or isinstance(_function(value), types.FunctionType)


def _function(value: Any) -> Any:
    return getattr(value, "__func__", None) or getattr(value, "fget", None) or value


def _dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _stored(node: ast.ClassDef) -> list[str] | None:
    """The names that the class's body binds, as often as it does, as the compiler writes them."""
    bare = copy.copy(node)
    bare.decorator_list = []
    try:
        codes = [compile(ast.Module([bare], []), "<body>", "exec", dont_inherit=True)]
    except SyntaxError:  # `nonlocal`, outside of its function
        return None
    while codes:
        code = codes.pop(0)
        if code.co_name == node.name:
            return [i.argval for i in dis.get_instructions(code) if i.opname == "STORE_NAME"]
        codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return []
