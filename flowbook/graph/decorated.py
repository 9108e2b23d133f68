"""Decorators: which definition a wrapped function comes from, and which of its decorators belong to it.

Owns: that choice, between a wrapper and what it wraps. Refuses: guessing; where neither source gives the living
function back, it is `Nowhere`, with the reason.

``@shout`` above ``def say`` and ``loud = shout(say)`` make the same objects, but two sources: the first is the text of
`say`, decorator included; the second is the wrapper's own, closing over `say`.
"""

from __future__ import annotations

import ast
import inspect
import types
from typing import Any

from flowbook.graph.imperative import flow
from flowbook.graph.locate import Definition, Nowhere, namespace_of, place_of
from flowbook.graph.resource import Resource, resource
from flowbook.graph.step import Step, step

_OURS = frozenset(("step", "flow", "scheduled"))


def definition_of(thing: Any) -> Any:
    """The function or class whose definition is the source of a thing. Anything else is itself."""
    if isinstance(thing, type):
        return thing
    inner = inspect.unwrap(thing)
    if inner is thing or not (isinstance(inner, types.FunctionType) and isinstance(thing, types.FunctionType)):
        return inner
    try:
        return inner if _below_step(place_of(inner).node, namespace_of(inner)) else thing
    except Nowhere:
        return inner


def decorators_of(thing: Any, inner: types.FunctionType | type, node: Definition, *, as_step: bool) -> int:
    """How many of the last decorators the rebuilt definition needs: those below ``@step``, if they did anything.

    ``inner`` is the `definition_of` the thing. Raises `Nowhere` for what its source does not make.
    """
    if isinstance(node, ast.Lambda):
        return 0
    space = namespace_of(inner)
    kept = _below_step(node, space)
    named: Any = space.get(node.name)
    if inner is thing:
        if as_step and not hasattr(thing, "__wrapped__") and not vars(thing):
            return 0  # they returned the function as it was
        if (
            kept
            and not isinstance(named, Step | Resource)
            and hasattr(named, "__wrapped__")
            and inspect.unwrap(named) is thing
        ):
            raise Nowhere("it was taken from below its decorators: define it by itself")
    elif _layers(thing) > kept and named is not thing:
        raise Nowhere("it was wrapped after its definition: write that as a decorator")
    return kept


def _below_step(node: Definition, space: dict[str, Any]) -> int:
    kept = 0
    for decorator in reversed(getattr(node, "decorator_list", [])):
        root: ast.expr = decorator.func if isinstance(decorator, ast.Call) else decorator
        last = root.attr if isinstance(root, ast.Attribute) else getattr(root, "id", "")
        ours = last in _OURS or (isinstance(root, ast.Name) and space.get(root.id) in (step, flow))
        if ours or _is_resource(root, space):
            break
        kept += 1
    return kept


def _is_resource(root: ast.expr, space: dict[str, Any]) -> bool:
    """Is it ours? Others have decorators of that name; in a flow cell ours needs no import."""
    match root:
        case ast.Name(id=name):
            return space.get(name, resource if name == "resource" else None) is resource
        case ast.Attribute(value=ast.Name(id=module), attr=attribute):
            return getattr(space.get(module), attribute, None) is resource
        case _:
            return False


def _layers(thing: Any) -> int:
    """How often it was wrapped by what says so, as `functools.wraps` does."""
    count = 0
    while hasattr(thing, "__wrapped__") and count < 100:
        thing, count = thing.__wrapped__, count + 1
    return count
