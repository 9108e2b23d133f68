"""Resources: what steps are given besides the state: clients, pools, models.

Owns: `Resource`, the `resource` decorator, and finding the resources that a flow's steps ask for by name. Refuses:
making one (`run/resources.py`).

A resource is found as a name is found in Python: in the module or notebook in which the step (or the resource that asks
for it) was written. What stands elsewhere is imported there, or handed to the flow: ``fb.graph(..., resources=[db])``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from flowbook.errors import DeclarationError

Kind = Literal["function", "coroutine", "generator", "async generator"]


class Resource:
    """A function that makes something which lives as long as the app. Made by `resource`; immutable."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.name = str(getattr(fn, "__name__", ""))
        self.kind: Kind = _kind(fn)
        self.signature = inspect.signature(fn)
        loose = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self.parameters: tuple[tuple[str, bool], ...] = tuple(
            (p.name, p.default is not inspect.Parameter.empty)
            for p in self.signature.parameters.values()
            if p.kind not in loose
        )
        """(name, has a default) of what it asks for; only other resources fill it."""
        functools.update_wrapper(self, fn, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<resource {self.name}{self.signature}>"


def resource(fn: Callable[..., Any], /) -> Resource:
    """Make a function a resource: steps that have a parameter of its name get what it returns.

        @fb.resource
        async def client():
            async with httpx.AsyncClient() as made:
                yield made

    It is called once per app, when a step first asks for it, on the engine's event loop (a plain function in a thread);
    what stands behind its ``yield`` runs when the app is closed. A state key of that name, or the result of a step of
    that name, goes before it. It may ask for other resources by name. Raises `DeclarationError` for no function.
    """
    given: Any = fn
    if isinstance(given, Resource):
        raise DeclarationError(f"{given.name!r} is a resource already: @resource stands on it twice")
    if not callable(given) or isinstance(given, type) or not getattr(given, "__name__", "").isidentifier():
        raise DeclarationError(f"@resource goes on a function with a name, not on {given!r}")
    return Resource(given)


def found_for(fn: Callable[..., Any], name: str) -> Resource | None:
    """The resource that ``name`` means where a function was written."""
    found = getattr(inspect.unwrap(fn), "__globals__", {}).get(name)
    return found if isinstance(found, Resource) else None


def collected(
    steps: Iterable[tuple[Callable[..., Any], Iterable[str]]], given: Iterable[Resource] = ()
) -> tuple[Mapping[str, Resource], list[str]]:
    """Name -> resource, of all that these (function, parameters) may be filled with; and what is wrong with them.

    Those that are ``given`` go before those that are found.
    """
    explicit = {r.name: r for r in given}
    found: dict[str, Resource] = {}
    problems: list[str] = []
    todo = [(fn, name) for fn, names in steps for name in names]
    while todo:
        fn, name = todo.pop(0)
        wanted = explicit.get(name) or found_for(fn, name)
        if wanted is None:
            continue
        if name in found:
            if found[name] is not wanted:
                problems.append(
                    f"two different resources are called {name} ({_place(found[name])} and {_place(wanted)}): rename "
                    f"one, or say which with resources=[...]"
                )
            continue
        found[name] = wanted
        todo += [(wanted.fn, inner) for inner, _ in wanted.parameters]
        for inner, has_default in wanted.parameters:
            if not has_default and inner not in explicit and found_for(wanted.fn, inner) is None:
                problems.append(f"resource {name} wants {inner!r}, which is no resource: only resources fill it")
    problems += _circles(found)
    return found, problems


def _circles(found: Mapping[str, Resource]) -> list[str]:
    def walk(name: str, path: tuple[str, ...]) -> list[str]:
        if name in path:
            return [f"resource {name} needs itself: {' -> '.join((*path[path.index(name) :], name))}"]
        inner = [n for n, _ in found[name].parameters if n in found]
        return [p for n in inner for p in walk(n, (*path, name))]

    return [p for n in found for p in walk(n, ())][:1]


def _place(thing: Resource) -> str:
    code = getattr(inspect.unwrap(thing.fn), "__code__", None)
    return f"{thing.__module__}:{code.co_firstlineno}" if code else str(thing.__module__)


def _kind(fn: Callable[..., Any]) -> Kind:
    if inspect.isasyncgenfunction(fn):
        return "async generator"
    if inspect.isgeneratorfunction(fn):
        return "generator"
    return "coroutine" if inspect.iscoroutinefunction(fn) else "function"
