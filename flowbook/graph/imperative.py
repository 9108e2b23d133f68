"""Imperative flows: a coroutine function as a flow, written as one writes any program.

Owns: `Imperative`, a graph of one node, and `flow`, which makes one of a function. Refuses: running it; its durable
calls are the context's (`run/context.py`).

    @fb.flow
    async def order(ctx, order: Order) -> Receipt:
        paid = await ctx.step(charge, order)
        await ctx.sleep("1h")
        return await ctx.step(ship, order, paid)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

from flowbook.errors import DeclarationError
from flowbook.graph.body import Body
from flowbook.graph.durations import Duration
from flowbook.graph.flow import Graph, Node
from flowbook.graph.names import checked
from flowbook.graph.pause import length
from flowbook.graph.step import Backoff, Policy, Step, attempt_options


class Imperative(Graph):
    """A flow whose only node is a body. Calling it calls the function: a test gives it a context of its own."""

    @property
    def body(self) -> Body:
        """The function with its signature."""
        found = self.nodes[self.name].step
        assert isinstance(found, Body)
        return found

    def accept(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """See `Body.accept`."""
        return self.body.accept(given)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.body.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<flow {self.name}{self.body.signature}>"


@overload
def flow(fn: Callable[..., Any], /) -> Imperative: ...
@overload
def flow(
    *,
    name: str | None = None,
    retries: int = 0,
    backoff: Backoff | Sequence[float] | None = None,
    version: str | None = None,
    freeze: Mapping[str, Any] | None = None,
    pickled: bool = False,
    run_timeout: Duration | None = None,
) -> Callable[[Callable[..., Any]], Imperative]: ...


def flow(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    backoff: Backoff | Sequence[float] | None = None,
    version: str | None = None,
    freeze: Mapping[str, Any] | None = None,
    pickled: bool = False,
    run_timeout: Duration | None = None,
) -> Imperative | Callable[[Callable[..., Any]], Imperative]:
    """Make ``async def NAME(ctx, ...)`` a flow: ``@flow`` or ``@flow(retries=3)``.

    Its input are its parameters by name, its result is what it returns; annotations are checked, with pydantic where
    they are more than plain types. What it awaits from ``ctx`` is durable: a body that runs again, after a crash or a
    long wait, runs from its start, and each call that had ended gives what it gave before. So between its calls it must
    do the same each time: the time is ``ctx.now()``, chance is ``ctx.uuid()``, effects are steps.

    ``retries`` are further attempts at the body after an exception that it let out; calls that had ended stay ended.
    ``run_timeout`` is how long a run may take as a whole, its waits included (FB313).
    Raises `DeclarationError` for a function that cannot be one.
    """
    policy = Policy(**attempt_options(retries=retries, backoff=backoff).policy)

    def wrap(function: Callable[..., Any]) -> Imperative:
        if isinstance(function, Step | Graph) or not inspect.isroutine(function):
            raise DeclarationError(f"@flow goes on `async def NAME(ctx, ...)`, not on {function!r}")
        return imperative(
            function, name, policy, version=version, freeze=freeze, pickled=pickled, run_timeout=run_timeout
        )

    return wrap if fn is None else wrap(fn)


def imperative(
    function: Callable[..., Any],
    name: str | None = None,
    policy: Policy | None = None,
    *,
    version: str | None = None,
    freeze: Mapping[str, Any] | None = None,
    pickled: bool = False,
    run_timeout: Duration | None = None,
) -> Imperative:
    """The flow of a function; ``run_timeout``: how long a run may take as a whole. Raises `DeclarationError`."""
    called = name or str(getattr(function, "__name__", ""))
    checked(called, "flow")
    node = Node(Body(function, called, policy or Policy()), ((),))
    made = Imperative(called, {called: node}, (called,), {}, None, version, freeze or {}, pickled)
    if run_timeout is not None:
        made = replace(made, run_timeout=length(run_timeout))
    made.__dict__["__doc__"] = function.__doc__
    return made


def kind_of(nodes: Mapping[str, Node]) -> type[Graph]:
    """The class of a graph with these nodes."""
    return Imperative if any(isinstance(node.step, Body) for node in nodes.values()) else Graph
