"""Locating: the syntax tree and the text that a function, a lambda or a class was made from.

Owns: reading source (files and notebook cells alike, through `linecache`), finding the one definition in it, noticing
that a file was edited after its import. Refuses: what names mean (`free.py`), and guessing: what cannot be told apart
is `Nowhere`, with the reason.

A function is found by its code object: the line it begins in, its name, and for lambdas the columns of its
instructions. `inspect.getsource` gives the whole statement around a lambda, and nothing for a notebook's classes.
"""

from __future__ import annotations
import __future__

import ast
import functools
import linecache
import sys
import textwrap
import types
import typing
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowbook.graph.altered import altered, mangled

FUTURE = __future__.annotations.compiler_flag
"""The compiler flags that belong to a definition's meaning: whether its annotations are evaluated. The others are long
since mandatory, and their bits in ``co_flags`` mean other things now."""

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


class Nowhere(Exception):
    """There is no source; the text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a definition stands."""

    node: Definition
    """Its tree; shared, never to be changed."""
    text: str
    """As written, decorators included, dedented."""
    filename: str
    """As in code objects; made up for notebook cells."""
    lineno: int
    flags: int
    """Compiler flags of ``from __future__`` imports in force."""


@dataclass(frozen=True)
class Origin:
    """What is known of a rebuilt class, which Python would look for in another module's file."""

    filename: str
    namespace: dict[str, Any]
    flags: int
    module: str
    """That it was written in, which its name says only where no other class has that name."""


ORIGINS: weakref.WeakKeyDictionary[type, Origin] = weakref.WeakKeyDictionary()
"""Rebuilt classes -> where they really come from (`rebuild.py` writes, this module reads)."""


def place_of(thing: types.FunctionType | type) -> Place:
    """The definition of a function, lambda or class. Raises `Nowhere`."""
    return _class(thing) if isinstance(thing, type) else _function(thing)


def namespace_of(thing: types.FunctionType | type) -> dict[str, Any]:
    """The globals that the names in its definition refer to."""
    if isinstance(thing, types.FunctionType):
        return thing.__globals__
    if thing in ORIGINS:
        return ORIGINS[thing].namespace
    for method in methods(thing):
        return method.__globals__
    return vars(sys.modules[thing.__module__]) if thing.__module__ in sys.modules else {}


def shown_file(filename: str) -> str:
    """A file name for people, without folders: ``notebook cell [4]`` where IPython knows the cell."""
    number = _cells().get(filename)
    return f"notebook cell [{number}]" if number is not None else Path(filename).name


def parse(text: str) -> ast.Module:
    """A file's or a cell's tree, top-level ``await`` allowed."""
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user has seen them when the code itself was compiled
        tree = compile(text, "<source>", "exec", flags, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


def parse_definition(text: str) -> Definition:
    """The definition that a stored text holds. Raises SyntaxError."""
    try:
        (statement,) = parse(text).body
    except (SyntaxError, ValueError):
        (statement,) = parse(f"({text}\n)").body  # a lambda may go over several lines without brackets of its own
    found = statement.value if isinstance(statement, ast.Expr) else statement
    if not isinstance(found, Definition):
        raise SyntaxError("the stored source is not one definition")  # noqa: TRY004 - as if `parse` had said it
    return found


# -------------------------------------------------------------------------------------------------------- functions


def _function(fn: types.FunctionType) -> Place:
    code = fn.__code__
    file = _file(code.co_filename, fn.__globals__)
    nodes: list[Definition] = [
        n for n in file.definitions if not isinstance(n, ast.ClassDef) and code.co_firstlineno in _lines(n)
    ]
    if code.co_name == "<lambda>":
        nodes = _lambdas([n for n in nodes if isinstance(n, ast.Lambda)], code)
    else:
        nodes = [n for n in nodes if getattr(n, "name", None) == code.co_name]
    if not nodes:
        raise Nowhere(_edited(code.co_filename))
    if len(nodes) > 1:
        raise Nowhere("several lambdas stand in one line, and Python does not say which it is: give it a name")
    if not file.fixed and not file.has(code):
        raise Nowhere(_edited(code.co_filename))
    return _place(nodes[0], file, code.co_flags & FUTURE)


def _edited(filename: str) -> str:
    return f"{filename} was changed since this code was loaded from it: restart or reload"


def _lambdas(nodes: list[ast.Lambda], code: types.CodeType) -> list[Definition]:
    """Those that can be it: the smallest one that contains all its instructions."""
    spans = [
        (line, col, end, end_col)
        for line, end, col, end_col in code.co_positions()
        if None not in (line, col, end, end_col) and (col or end_col)  # RESUME stands at column 0, outside
    ]
    if not spans or len(nodes) < 2:
        return list(nodes)
    start, stop = min((s[0], s[1]) for s in spans), max((s[2], s[3]) for s in spans)
    fits: list[tuple[Any, Definition]] = []
    for node in nodes:
        body = node.body
        if (body.lineno, body.col_offset) <= start and stop <= (body.end_lineno, body.end_col_offset):
            # Of nested ones the innermost begins last: an outer one has the inner one's creation, at least, besides.
            fits.append(((body.lineno, body.col_offset), node))
    best = max((at for at, _ in fits), default=None)
    return [node for at, node in fits if at == best]


def _lines(node: Definition) -> list[int]:
    """What ``co_firstlineno`` may be: the first decorator's line, or a later one where `rebuild` left some out."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return [*(d.lineno for d in decorators), node.lineno]


def _first(node: Definition) -> int:
    return min(_lines(node))


def _place(node: Definition, file: _File, flags: int) -> Place:
    first = _first(node)
    if isinstance(node, ast.Lambda):
        text = ast.get_source_segment("".join(file.lines), node) or ""
    else:
        text = textwrap.dedent("".join(file.lines[first - 1 : node.end_lineno]))
    try:
        same = ast.dump(parse_definition(text)) == ast.dump(node)
    except (SyntaxError, ValueError):
        same = False
    if not same:  # dedenting hurt a text of several lines, or a `;` stands in the line
        text = ast.unparse(node)
    return Place(node, text.rstrip() + ("" if isinstance(node, ast.Lambda) else "\n"), file.name, first, flags)


# ---------------------------------------------------------------------------------------------------------- classes


def _class(cls: type) -> Place:
    found: list[tuple[int, ast.ClassDef, _File]] = []
    for name in _files_of(cls):
        try:
            file = _file(name, {})
        except Nowhere:
            continue
        nodes = [n for n in file.definitions if isinstance(n, ast.ClassDef) and _is(n, cls)]
        nodes = [n for n in nodes if _first(n) == getattr(cls, "__firstlineno__", None)] or nodes
        found += [(len(altered(cls, n, 0)), n, file) for n in reversed(nodes)]
        if any(differs == 0 for differs, _, _ in found):
            break
    if not found:
        raise Nowhere(f"the source of class {cls.__qualname__} is not kept")
    _, node, file = min(found, key=lambda f: f[0])
    if not file.fixed and not all(file.has(m.__code__) for m in methods(cls) if m.__code__.co_filename == file.name):
        raise Nowhere(_edited(file.name))
    return _place(node, file, _class_flags(cls, node, file))


def _files_of(cls: type) -> Iterator[str]:
    """Names of files that may hold it, the likeliest first."""
    if cls in ORIGINS:
        yield ORIGINS[cls].filename
        return
    yield from dict.fromkeys(m.__code__.co_filename for m in methods(cls))
    module = sys.modules.get(cls.__module__)
    name = getattr(module, "__file__", None)
    if name:
        yield name
    cells = _cells()
    yield from sorted((n for n in cells if n in linecache.cache), key=lambda n: -cells[n])


def methods(cls: type) -> Iterator[types.FunctionType]:
    """Functions that were written in the class's body, not inherited, borrowed or generated."""
    for value in list(vars(cls).values()):
        function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        if (
            isinstance(function, types.FunctionType)
            and not function.__code__.co_filename.startswith("<string>")
            # the code's own name: wrappers (reprlib's around a dataclass' __repr__) borrow their functions'
            and f".{function.__code__.co_qualname}".endswith(f".{cls.__name__}.{function.__code__.co_name}")
        ):
            yield function


def _is(node: ast.ClassDef, cls: type) -> bool:
    """Has this definition the name, the annotations and the methods of the class? Cells hold older ones, too."""
    if node.name != cls.__name__:
        return False
    noted = {mangled(s.target.id, cls.__name__): s.annotation for s in _annotated(node)}
    own = _annotations(cls)
    if set(noted) != set(own):
        return False
    defined = {
        mangled(s.name, cls.__name__) for s in node.body if isinstance(s, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    if not defined <= set(vars(cls)):
        return False
    return all(_means(note, own[name], cls) for name, note in noted.items())


def _annotated(node: ast.ClassDef) -> Iterator[Any]:
    return (s for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name))


def _annotations(cls: type) -> dict[str, Any]:
    if typing.is_typeddict(cls):
        bases = [b for b in getattr(cls, "__orig_bases__", ()) if typing.is_typeddict(b)]
        inherited = {k: v for b in bases for k, v in b.__annotations__.items()}
        return {k: v for k, v in cls.__annotations__.items() if inherited.get(k) is not v}
    found = vars(cls).get("__annotations__")
    if found is None:
        found = getattr(cls, "__annotations__", {}) if sys.version_info >= (3, 14) else {}
    return dict(found)


def _means(written: ast.expr, actual: Any, cls: type) -> bool:
    """Could this annotation have given that value? In doubt yes."""
    text = ast.unparse(written)
    if isinstance(actual, str | typing.ForwardRef):
        stated = actual if isinstance(actual, str) else actual.__forward_arg__
        return stated in (text, written.value if isinstance(written, ast.Constant) else text)
    if any(isinstance(n, ast.Lambda | ast.Call) for n in ast.walk(written)):
        return True  # made anew each time, so it would never be equal
    try:
        value = eval(text, namespace_of(cls), dict(vars(cls)))  # noqa: S307 - names and subscripts of a live class
    except Exception:
        return True
    return value == actual or repr(value) == repr(actual) or (value is None and actual is type(None))


def _class_flags(cls: type, node: ast.ClassDef, file: _File) -> int:
    if cls in ORIGINS:
        return ORIGINS[cls].flags
    for method in methods(cls):
        return method.__code__.co_flags & FUTURE
    noted = {s.target.id: s.annotation for s in _annotated(node)}
    actual = _annotations(cls)
    postponed = any(
        isinstance(actual.get(k), str | typing.ForwardRef) and not isinstance(v, ast.Constant) for k, v in noted.items()
    )
    return FUTURE if postponed else file.flags


# ------------------------------------------------------------------------------------------------------------ files


@dataclass(frozen=True, eq=False)
class _File:
    name: str
    lines: tuple[str, ...]
    tree: ast.Module
    fixed: bool
    """True: its text cannot have changed since (a notebook cell, rebuilt source)."""

    @functools.cached_property
    def definitions(self) -> tuple[Definition, ...]:
        return tuple(n for n in ast.walk(self.tree) if isinstance(n, Definition))

    @functools.cached_property
    def flags(self) -> int:
        found = 0
        for s in self.tree.body:
            if isinstance(s, ast.ImportFrom) and s.module == "__future__":
                found |= FUTURE if any(a.name == "annotations" for a in s.names) else 0
        return found

    @functools.cached_property
    def _codes(self) -> dict[tuple[str, int], list[types.CodeType]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            top = compile(self.tree, self.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        found: dict[tuple[str, int], list[types.CodeType]] = {}
        for code in inner_codes(top):
            found.setdefault((code.co_name, code.co_firstlineno), []).append(code)
        return found

    def has(self, code: types.CodeType) -> bool:
        """Does this text give that code?"""
        if any(n.startswith("@py") for c in inner_codes(code) for n in (*c.co_names, *c.co_varnames)):
            return True  # pytest has rewritten its asserts
        return any(_same(code, c) for c in self._codes.get((code.co_name, code.co_firstlineno), ()))


def inner_codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all that are made inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from inner_codes(constant)


def _same(a: types.CodeType, b: types.CodeType) -> bool:
    if (a.co_code, a.co_names, a.co_varnames, a.co_freevars) != (b.co_code, b.co_names, b.co_varnames, b.co_freevars):
        return False
    if len(a.co_consts) != len(b.co_consts):
        return False
    return all(
        _same(x, y) if isinstance(x, types.CodeType) and isinstance(y, types.CodeType) else repr(x) == repr(y)
        for x, y in zip(a.co_consts, b.co_consts, strict=True)
        if not isinstance(x, frozenset)  # its repr has no order
    )


def _file(name: str, namespace: dict[str, Any]) -> _File:
    linecache.checkcache(name)
    lines = linecache.getlines(name, namespace)
    if not lines:
        kept = "it was made from a text that is not kept (exec or eval)"
        raise Nowhere(kept if name.startswith("<") else f"there is no file {name} any more")
    entry = linecache.cache.get(name)
    fixed = entry is not None and len(entry) == 4 and entry[1] is None
    return _parsed(name, tuple(lines), fixed)


@functools.lru_cache(maxsize=64)
def _parsed(name: str, lines: tuple[str, ...], fixed: bool) -> _File:
    try:
        return _File(name, lines, parse("".join(lines)), fixed)
    except (SyntaxError, ValueError):
        raise Nowhere(_edited(name)) from None


def _cells() -> dict[str, int]:
    """IPython's names of cells -> their number; empty outside of it. IPython is asked only if it is loaded."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    names = getattr(getattr(shell, "compile", None), "_filename_map", None)
    return dict(names) if isinstance(names, dict) else {}
