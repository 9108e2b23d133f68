"""Templates: what specs may name.

Owns: `Templates`, the steps, flows, functions and state classes that a spec finds by their names, and `steps`, the one
of this process. Refuses: anything that was not put in: a spec is data of a tenant's, and reaches no other code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from flowbook.errors import DeclarationError
from flowbook.graph.step import Step

if TYPE_CHECKING:
    from flowbook.graph.flow import Graph

T = TypeVar("T")


class Templates(Mapping[str, Any]):
    """Steps, flows, functions and state classes by name. Also a decorator: ``@fb.steps``."""

    def __init__(self, *things: Any, beside: Mapping[str, Any] | None = None) -> None:
        self._own: dict[str, Any] = {}
        self._beside: Mapping[str, Any] = {} if beside is None else beside
        """Others that are found as well where there is none of its own."""
        for thing in things:
            self.add(thing)

    def add(self, thing: T, *, name: str | None = None) -> T:
        """Let specs name a step, a flow, a function (a router or condition) or a state class; the thing itself.

        The same definition again takes the place of the one before, as when a cell is run again. Raises
        `DeclarationError` for another one under a name that is taken, and for what has no name.
        """
        called = name or name_of(thing)
        if called is None:
            raise DeclarationError(f"{thing!r} cannot be registered: it is a step, a flow, a function or a class")
        known = self._own.get(called)
        if known is not None and known is not thing and _home(known) != _home(thing):
            raise DeclarationError(
                f"{called!r} is registered already, as {known!r}: give this one another name, add(..., name=...)"
            )
        self._own[called] = thing
        return thing

    def __call__(self, thing: T) -> T:
        """The same as `add`, for a decorator: ``@fb.steps`` above ``@fb.step``."""
        return self.add(thing)

    def add_all(self, flow: Graph) -> None:
        """Let specs name all that a flow is made of."""
        for thing in parts_of(flow):
            self.add(thing)

    def __getitem__(self, name: str) -> Any:
        return self._own[name] if name in self._own else self._beside[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._own, *self._beside]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __repr__(self) -> str:
        return f"<templates {', '.join(self) or 'none'}>"


def name_of(thing: Any) -> str | None:
    """What a spec calls it; None: nothing."""
    if isinstance(thing, Step) or (hasattr(thing, "nodes") and hasattr(thing, "entry")):
        return str(thing.name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        return None if thing.__name__ == "<lambda>" else thing.__name__
    return None


def parts_of(flow: Graph) -> Iterator[Any]:
    """The steps, flows, functions and classes of a flow that have names."""
    from flowbook.graph.mapping import Map  # these build on steps, as this does
    from flowbook.graph.pause import Pause
    from flowbook.graph.subflow import Subflow

    found: list[Any] = [] if flow.schema is None else [flow.schema.source]
    for node in flow:
        step = node.step.step if isinstance(node.step, Map) else node.step
        match step:
            case Pause():
                found += [signal.schema for signal in step.signals]
            case Subflow():
                found += [step.flow, step.input, step.key]
            case Step():
                found += [step.like(name=original(step), guard=None, wiring=None), step.guard]
        found.append(node.router)
    yield from (thing for thing in found if name_of(thing) is not None)


def original(step: Step) -> str:
    """The name that a step was made with, whatever it is called in its place."""
    return step.named


def _home(thing: Any) -> Any:
    inner: Callable[..., Any] = getattr(thing, "fn", thing)
    return (type(thing), getattr(inner, "__module__", None), getattr(inner, "__qualname__", getattr(thing, "name", "")))


steps = Templates()
"""What this process lets specs name: ``@fb.steps`` above ``@fb.step``, or ``fb.steps.add(load)``."""
