"""Free names: what a definition takes from outside itself, and what that is.

Owns: finding the names, telling imports, plain constants and data apart. Refuses: following them (`source.py`).

The names come from compiled code, not from the tree: the compiler knows what is local. What is read when the
definition is executed (defaults, bases, decorators, annotations) is *eager*, what its body reads when it is called is
*lazy*; rebuilding must have the first before, and the second some time after.
"""

from __future__ import annotations

import ast
import copy
import dis
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowbook.graph.locate import FUTURE, Definition, inner_codes, methods

FACTORY = "__flowbook_make__"
PLAIN_LIMIT = 16_384
"""Characters of the repr of a constant; what is larger is data."""

_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_STORES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
_IMPLICIT = frozenset({"__name__", "__qualname__", "__module__", "__build_class__", "__class__", "__annotations__",
                       "__classdict__", "__type_params__", "__conditional_annotations__"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Names:
    """The names that a definition does not define itself."""

    eager: set[str] = field(default_factory=set)
    lazy: set[str] = field(default_factory=set)
    soft: set[str] = field(default_factory=set)
    """Mentioned in annotations that nobody has to evaluate; no harm if they are missing."""
    written: set[str] = field(default_factory=set)
    """Set by a ``global`` statement."""

    @property
    def all(self) -> set[str]:
        return self.eager | self.lazy | self.soft | self.written


def module_for(node: Definition, private: Iterable[str], decorators: int) -> ast.Module:
    """A module that makes the definition: by itself, or in a factory whose parameters are its private names.

    Only the last ``decorators`` decorators are kept. A lambda is made as the value of `FACTORY`.
    """
    node = copy.deepcopy(node)
    if isinstance(node, ast.Lambda):
        made: ast.stmt = ast.Assign([ast.Name(FACTORY, ast.Store())], node)
    else:
        node.decorator_list = node.decorator_list[len(node.decorator_list) - decorators :]
        made = node
    names = sorted(private)
    if names:
        target = FACTORY if isinstance(node, ast.Lambda) else node.name
        arguments = ast.arguments([], [ast.arg(n) for n in names], None, [], [], None, [])
        back = ast.Return(ast.Name(target, ast.Load()))
        made = ast.FunctionDef(FACTORY, arguments, [made, back], [], **_no_type_parameters())
    return ast.fix_missing_locations(ast.Module([ast.copy_location(made, node)], []))


def _no_type_parameters() -> dict[str, Any]:
    return {"type_params": []} if sys.version_info >= (3, 12) else {}


def names_of(node: Definition, private: Iterable[str], decorators: int, flags: int) -> Names:
    """The free names of a definition, builtins included."""
    private = set(private)
    top = compile(module_for(node, private, decorators), "<names>", "exec", flags & FUTURE, dont_inherit=True)
    found = Names()
    if private:
        top = next(c for c in top.co_consts if isinstance(c, types.CodeType) and c.co_name == FACTORY)
    _walk(top, found, eager=True)
    own = {FACTORY, *private, getattr(node, "name", FACTORY)} if private else {FACTORY}
    found.eager.difference_update(own)
    found.soft.update(_noted(node) - found.eager - found.lazy - private)
    return found


def _walk(code: types.CodeType, found: Names, *, eager: bool) -> None:
    loads, stores = set(), set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in _LOADS:
            loads.add(instruction.argval)
        elif instruction.opname == "STORE_NAME":
            stores.add(instruction.argval)
        elif instruction.opname in _STORES:
            found.written.add(instruction.argval)
    (found.eager if eager else found.lazy).update(loads - stores - _IMPLICIT)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            body = eager and not constant.co_flags & 0x2  # CO_NEWLOCALS: a function; without it, a class's body
            comprehension = eager and constant.co_name in ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")
            _walk(constant, found, eager=body or comprehension)


def _noted(node: Definition) -> set[str]:
    """Names in annotations, also in those that are texts."""
    notes: list[ast.expr] = []
    for inner in ast.walk(node):
        for name in ("annotation", "returns"):
            note = getattr(inner, name, None)
            if isinstance(note, ast.expr):
                notes.append(note)
    found: set[str] = set()
    while notes:
        for inner in ast.walk(notes.pop()):
            if isinstance(inner, ast.Name):
                found.add(inner.id)
            elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                try:
                    notes.append(ast.parse(inner.value, mode="eval").body)
                except SyntaxError:
                    continue  # Literal["a b"] or a remark
    return found


# ------------------------------------------------------------------------------------------------- what a value is


def imports(name: str, value: Any, node: Definition) -> tuple[str, ...]:
    """The statements that give ``name`` this value, or none.

    A module needs one more for each submodule that the definition reaches through it (``xml.dom`` through ``xml``).
    """
    if isinstance(value, types.ModuleType):
        module = value.__name__
        if not importable(module):
            return ()
        first = f"import {module}" if module == name else f"import {module} as {name}"
        return (first, *(f"import {m}" for m in _submodules(name, value, node)))
    found = reference(value, name)
    if found is None:
        return ()
    module, attribute = found
    return (f"from {module} import {attribute}" + ("" if attribute == name else f" as {name}"),)


def reference(value: Any, name: str = "") -> tuple[str, str] | None:
    """(module, name) where an import finds this very object, if it does."""
    kind = type(value)
    names = [getattr(value, a, None) for a in ("__qualname__", "__name__", "_name")]
    for module in (getattr(value, "__module__", None), kind.__module__, str(kind.__module__).partition(".")[0]):
        if not isinstance(module, str) or not importable(module):
            continue
        space = vars(sys.modules[module])
        for attribute in (*names, name):
            if isinstance(attribute, str) and attribute.isidentifier() and space.get(attribute, space) is value:
                return module, attribute
    return None


def importable(module: str) -> bool:
    """Can another process import it? Not ``__main__``, and not what was made in memory."""
    loaded = sys.modules.get(module)
    return module != "__main__" and loaded is not None and getattr(loaded, "__spec__", None) is not None


def installed(module: str) -> bool:
    """Does it come with Python or with a package (and not from a file of the user's)?"""
    root = module.partition(".")[0]
    if root == "flowbook" or root in sys.stdlib_module_names or root in sys.builtin_module_names:
        return True
    origin = getattr(getattr(sys.modules.get(module), "__spec__", None), "origin", None)
    if not origin or origin in ("built-in", "frozen"):
        return bool(origin)
    folders = {Path(p) for p in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")) if p}
    return any(f in Path(origin).parents for f in folders) or "site-packages" in Path(origin).parts


def _submodules(name: str, module: types.ModuleType, node: Definition) -> Iterator[str]:
    found: set[str] = set()
    for inner in ast.walk(node):
        chain: list[str] = []
        while isinstance(inner, ast.Attribute):
            chain.insert(0, inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name) or inner.id != name:
            continue
        at: Any = module
        for attribute in chain:
            below = vars(at).get(attribute)
            if not isinstance(below, types.ModuleType) or sys.modules.get(f"{at.__name__}.{attribute}") is not below:
                break
            found.add(below.__name__)
            at = below
    yield from sorted(found)


def is_plain(value: Any) -> bool:
    """An immutable value of a built-in type, not too long: it belongs to the code like a number written in it."""
    return _plain(value) and len(repr(value)) <= PLAIN_LIMIT


def _plain(value: Any) -> bool:
    kind = type(value)
    if kind in (tuple, frozenset):
        return all(_plain(v) for v in value)
    return value is None or kind in (bool, int, float, complex, str, bytes)


def private_names(thing: types.FunctionType | type, node: Definition, space: dict[str, Any]) -> dict[str, Any]:
    """Names that this definition alone has: what it closes over, and defaults that were taken from a variable since
    changed (``lambda s, i=i: ...`` in a loop).
    """
    if isinstance(thing, type):
        found: dict[str, Any] = {}
        for method in methods(thing):
            found |= {k: v for k, v in closure(method).items() if k != "__class__"}
        return found
    found = closure(thing)
    if isinstance(node, ast.ClassDef):
        return found
    positional = [*node.args.posonlyargs, *node.args.args]
    values = thing.__defaults__ or ()
    taken = list(zip(node.args.defaults, values, strict=False)) if len(positional) >= len(values) else []
    keywords = thing.__kwdefaults__ or {}
    taken += [(d, keywords[a.arg]) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
              if d is not None and a.arg in keywords]  # fmt: skip
    read = {n for code in inner_codes(thing.__code__) for n in code.co_names}
    for default, value in taken:
        if isinstance(default, ast.Name):
            same = space.get(default.id, found) is value
            if not same or (is_plain(value) and default.id not in read):
                found.setdefault(default.id, value)
    return found


def closure(fn: types.FunctionType) -> dict[str, Any]:
    """What a function closes over, by name."""
    found = {}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet: a name that its definition would not find either
    return found


def module_in(statement: str) -> str:
    """The module that an import statement names."""
    return statement.split()[1]


def flat(meanings: Iterable[list[Any]]) -> Iterator[list[Any]]:
    """Meanings of names (`source.py`), with those in a dict of steps each by itself."""
    for meaning in meanings:
        if meaning[0] == "steps":
            yield from flat(each for _, each in meaning[1])
        else:
            yield meaning
