"""Reach: which variables a cell could touch, read from its code before it runs.

Owns: the names in a cell, the names that code defined in it may touch later, and the signs that anything may be
touched. Refuses: cleverness: whatever is not plainly out of reach is within it. A name inside a string counts
(``df.query("@x > 3")``, ``duckdb.sql("select * from df")``), and so does every name in the body of a function that was
ever defined: anybody may have kept it and call it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

_ANYTHING: Final = frozenset({
    "eval", "exec", "globals", "locals", "vars", "dir", "get_ipython", "compile", "In", "Out", "_", "__", "___",
    "_getframe", "currentframe", "get_objects", "get_referrers", "get_referents", "user_ns", "__globals__", "f_globals",
    "f_locals", "f_back", "tb_frame", "__main__", "_oh", "modules", "ctypes", "settrace", "setprofile", "interact",
    "set_trace", "breakpoint", "_current_frames", "run_cell",
})  # fmt: skip
"""Names of variables and attributes through which code comes to variables that it does not name."""
_OUTPUT: Final = re.compile(r"_i?\d+\Z|_i+\Z")
_WORD: Final = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Reach:
    """What a cell could touch."""

    names: frozenset[str] = frozenset()
    """Variables that it names, wherever."""
    stored: frozenset[str] = frozenset()
    """Of these, those that it binds or deletes at its top level."""
    captured: frozenset[str] = frozenset()
    """Of these, those that stand in code which may run later: bodies of functions, lambdas, generators."""
    imports: tuple[str, ...] = ()
    """Modules that it imports, with their full names."""
    anything: bool = False
    """It could touch what it does not name."""
    patched: tuple[str, ...] = field(default=())
    """Attributes that it assigns on a plain name (``np.foo``): a module's among them are lost."""


ALL: Final = Reach(anything=True)
"""The reach of a cell about which nothing is known."""


def reach(source: str) -> Reach:
    """The reach of a cell's Python (after IPython's transformations). What does not parse may do anything."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ALL
    names: set[str] = set()
    stored: set[str] = set()
    captured: set[str] = set()
    imports: list[str] = []
    patched: list[str] = []
    anything = False
    for node, later in _walk(tree):
        found = _named(node)
        names.update(found)
        if later:
            captured.update(found)
        match node:
            case ast.Constant(value=text):
                anything = anything or text == "__main__"
            case _:
                anything = anything or any(name in _ANYTHING or _OUTPUT.match(name) for name in found)
        if not later:
            stored |= set(_bound(node))
        match node:
            case ast.Import(names=aliases):
                imports += [a.name for a in aliases]
            case ast.ImportFrom(module=str(module), level=0, names=aliases):
                imports.append(module)
                anything = anything or any(a.name == "*" for a in aliases)
            case ast.Attribute(value=ast.Name(id=base), attr=attr, ctx=ast.Store() | ast.Del()):
                patched.append(f"{base}.{attr}")
            case ast.Call(
                func=ast.Name(id="setattr" | "delattr"), args=[ast.Name(id=base), ast.Constant(value=str(attr)), *_]
            ):
                patched.append(f"{base}.{attr}")
            case _:
                pass
    return Reach(
        frozenset(names), frozenset(stored), frozenset(captured), tuple(dict.fromkeys(imports)), anything,
        tuple(dict.fromkeys(patched)),
    )  # fmt: skip


def _walk(node: ast.AST, later: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes, each with whether it stands in code that may run after the cell has ended."""
    todo = [(node, later)]
    while todo:
        node, later = todo.pop()
        yield node, later
        inner = later or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.GeneratorExp)
        todo += [(child, inner) for child in ast.iter_child_nodes(node)]


def _named(node: ast.AST) -> Sequence[str]:
    match node:
        case ast.Constant(value=str(text)):
            return _WORD.findall(text)  # a docstring names things as well; that costs a hash and no more
        case ast.Attribute(attr=attr):
            return (attr,) if attr in _ANYTHING else ()
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            modules = ("__main__",) if any(a.name == "__main__" for a in aliases) else ()
            return (*modules, *_bound(node))
        case ast.Name(id=name):
            return (name,)
        case _:
            return _bound(node)


def _bound(node: ast.AST) -> Sequence[str]:
    """Names that a node binds or deletes."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            return (name,)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return (name,)
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return tuple(a.asname or a.name.partition(".")[0] for a in aliases)
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return tuple(names)
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            return (name,)
        case ast.MatchMapping(rest=str(name)):
            return (name,)
        case _:
            return ()
