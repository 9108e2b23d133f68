"""Asking: the verbs of the context that are durable calls, from what was typed to what is asked for.

Owns: names, digests and texts of calls, their arguments, and the verbs made of several calls (`mapped`, `gathered`).
Refuses: paths and answers (`calls.py`). Each verb is a plain function that makes its call at once, in the order in
which the program comes to it, and gives back a coroutine that waits for the outcome.
"""

from __future__ import annotations

import asyncio
import inspect
import reprlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Literal

from flowbook.codec import digest, encode, fresh
from flowbook.errors import UsageError, ValueRefused
from flowbook.graph.binding import wants_context
from flowbook.graph.durations import Duration, seconds, spoken
from flowbook.graph.flow import Graph
from flowbook.graph.mapping import given_for
from flowbook.graph.names import NAME
from flowbook.graph.pause import LONGEST
from flowbook.graph.resource import found_for
from flowbook.graph.step import Step
from flowbook.graph.step import step as make_step
from flowbook.plan.calls import Asked
from flowbook.plan.records import Call
from flowbook.ports import RunRow
from flowbook.run.calls import Caller, Wanted
from flowbook.run.raised import exception_of

SHOWN = 80
"""Characters of the text that says what was called."""
AT_ONCE = 16
"""Items of a map that are under way together, where nothing else is said."""

Answer = Coroutine[Any, Any, Any]
Ask = Callable[[str, Any], Wanted]
"""Path and item of a map -> what is asked for."""


def called(caller: Caller, step: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer:
    """``ctx.step(charge, order)``."""
    caller.check()
    one = as_step(step)
    wanted = _attempted(caller, one, caller.place(one.name), args, kwargs)
    return caller.outcome(wanted.asked.path, caller.ask(wanted))


def slept(caller: Caller, duration: Duration) -> Answer:
    """``ctx.sleep("1h")``."""
    caller.check()
    length = _length(duration)
    shown = f"sleep({spoken(length)})"
    path = caller.place("sleep")
    asked = Asked(path, caller.token, "sleep", identity("sleep", length), shown, None, (), length)
    return caller.outcome(path, caller.ask(Wanted(asked)))


def waited(
    caller: Caller, signals: tuple[str, ...], timeout: Duration | None, schema: type | None, *, named: bool = False
) -> Answer:
    """``ctx.wait("approved", timeout="2d")``, ``ctx.wait_any("approved", "rejected")`` (``named``)."""
    caller.check()
    if not signals:
        raise UsageError('ctx.wait_any() waits for nothing: name the signals, ctx.wait_any("approved", "rejected")')
    for signal in signals:
        if not NAME.match(signal):
            raise UsageError(
                f"{signal!r} cannot be a signal's name: letters, digits and _ only, not starting with a digit"
            )
    length = None if timeout is None else _length(timeout)
    verb, names = "wait_any" if named else "wait", ", ".join(map(repr, signals))
    shown = f"{verb}({names}{'' if length is None else f', timeout={spoken(length)!r}'})"
    path = caller.place(signals[0])
    digest = identity(verb, *signals, length)
    asked = Asked(path, caller.token, signals[0], digest, shown, None, signals, length)
    return caller.outcome(path, caller.ask(Wanted(asked, schema=schema, named=named)))


def emitted(caller: Caller, name: str, payload: Any) -> Answer:
    """``ctx.emit("progress", {"done": 3})``."""
    caller.check()
    if not NAME.match(name):
        raise UsageError(f"{name!r} cannot be an event's name: letters, digits and _ only, not starting with a digit")
    encode(payload, at=f"event {name!r}")  # refused here, where the line is known
    path = caller.place(name)
    asked = Asked(path, caller.token, name, identity("emit", name, payload), f"emit({name!r})")
    answer = caller.ask(Wanted(asked, instant=True), fresh(payload))

    async def nothing() -> None:
        await caller.outcome(path, answer)

    return nothing()


def mapped(
    caller: Caller,
    step: Any,
    items: Iterable[Any],
    concurrency: int | None,
    on_error: Literal["fail", "collect"],
    item: str | None = None,
) -> Answer:
    """``ctx.map(fetch, urls, concurrency=10)``; over a flow each item is a child."""
    caller.check()
    if item is not None and not isinstance(step, Graph):
        raise UsageError(f"item={item!r}: that is for a flow; a step is called with the item")
    one = step if isinstance(step, Graph) else as_step(step)
    if on_error not in ("fail", "collect"):
        raise UsageError(f'on_error={on_error!r}: it is "fail" or "collect"')
    if concurrency is not None and concurrency < 1:
        raise UsageError(f"concurrency={concurrency!r}: at least one item must be under way")

    def ask(path: str, value: Any) -> Wanted:
        if isinstance(one, Step):
            return _attempted(caller, one, path, (value,), {})
        return child(caller, one, given_for(one, value, item, f"ctx.map({one.name})"), path)

    given, base = list(items), f"{caller.place('map')}/{one.name}#"
    return _mapped(caller, ask, base, given, concurrency or AT_ONCE, on_error == "collect")


def gathered(caller: Caller, awaitables: tuple[Awaitable[Any], ...]) -> Answer:
    """``ctx.gather(one(), another())``."""
    caller.check()
    tasks = [asyncio.ensure_future(one) for one in awaitables]
    return _gathered(caller, tasks)


# ----------------------------------------------------------------------------------------------------------- of several


async def _mapped(caller: Caller, ask: Ask, base: str, items: list[Any], limit: int, collect: bool) -> list[Any]:
    results: list[Any] = [None] * len(items)
    under_way: dict[int, asyncio.Future[Call]] = {}
    ended: list[int] = []
    woken: asyncio.Future[None] | None = None

    def note(index: int) -> Callable[[asyncio.Future[Call]], None]:
        def noted(_: asyncio.Future[Call]) -> None:
            ended.append(index)
            if woken is not None and not woken.done():
                woken.set_result(None)

        return noted

    def leave() -> None:
        for index in under_way:
            caller.desk.withdraw(f"{base}{index + 1}")

    begun = 0
    while begun < len(items) or under_way:
        while begun < len(items) and len(under_way) < limit:
            under_way[begun] = future = caller.ask(ask(f"{base}{begun + 1}", items[begun]))
            future.add_done_callback(note(begun))
            begun += 1
        if not ended:
            woken = asyncio.get_running_loop().create_future()
            await caller.held(woken, leave)
        for index in ended:
            future = under_way.pop(index)
            caller.take(future)
            call = future.result()
            path = f"{base}{index + 1}"
            if call.failure is None:
                results[index] = caller.result(path, call)
            elif collect:
                results[index] = exception_of(path, call)
            else:
                leave()
                raise exception_of(path, call)
        ended.clear()
    return results


async def _gathered(caller: Caller, tasks: Sequence[asyncio.Future[Any]]) -> list[Any]:
    everyone = asyncio.gather(*tasks)

    def leave() -> None:
        everyone.cancel()

    try:
        await caller.held(everyone, leave)
        return list(everyone.result())
    except BaseException:
        # Nothing may go on behind the back of who is told of the error.
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if everyone.done() and not everyone.cancelled():
            everyone.exception()
        raise


# --------------------------------------------------------------------------------------------------- what is asked for


def child(
    caller: Caller, flow: Graph, given: Mapping[str, Any], path: str | None = None, key: str | None = None,
    kept: Callable[[RunRow, Any, Mapping[str, Any]], Any] | None = None,
) -> Wanted:  # fmt: skip
    """A child that runs a flow; ``path``: None: the next one of the flow's name. Raises `StateError` for an input that
    does not fit, `Unencodable`. ``key``, ``kept``: see `Wanted`.
    """
    flow.accept(given)  # refused here, where the line is known
    encode(dict(given), at=f"the input of {flow.name!r}")
    path = path or caller.place(flow.name)
    digest = identity("spawn", flow.name, dict(given), *([] if key is None else [key]))
    asked = Asked(path, caller.token, flow.name, digest, f"spawn({flow.name})", child=True)
    # Copied now, because the body may change its own before the child has begun.
    own = {name: fresh(value) for name, value in given.items()}
    return Wanted(asked, flow=flow, input=own, key=key, kept=kept)


def as_step(thing: Any) -> Step:
    """A step as it stands in ``ctx.step(...)``; a plain function is one without options."""
    if isinstance(thing, Step):
        if thing.guard is not None:
            raise UsageError(f"ctx.step({thing.name}) has a condition of the state: in a body, use `if`")
        if thing.policy.transactional:
            raise UsageError(f"step {thing.name!r} is transactional, which a called step cannot be yet: make it a node")
        if thing.policy.store == "recompute":
            raise UsageError(
                f'step {thing.name!r} has store="recompute", and a call\'s result must be there when its body runs '
                f'again: use store="pickle"'
            )
        return thing
    if inspect.isfunction(thing):
        return make_step(thing)
    raise UsageError(f"ctx.step({thing!r}): give a step, then its arguments: `await ctx.step(charge, order)`")


def arguments(step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Parameter -> argument, without the context and the resources. Raises TypeError as a call would."""
    signature = step.signature
    taken = [
        p
        for p in signature.parameters.values()
        if not wants_context(p) and (p.name in kwargs or found_for(step.fn, p.name) is None)
    ]
    try:
        return dict(signature.replace(parameters=taken).bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise TypeError(f"step {step.name}{signature}: {error}") from None


def identity(*what: Any) -> str:
    """A digest of what is called. What the codec refuses counts by its type: it cannot be compared over a crash."""
    try:
        data = encode(list(what))
    except ValueRefused:
        data = encode([_comparable(one) for one in what])
    return digest(data)[:8].hex()


def own(value: Any) -> Any:
    """A copy that may be changed; what the codec refuses is handed on as it is."""
    try:
        return fresh(value)
    except ValueRefused:
        return value


def _comparable(value: Any) -> Any:
    try:
        encode(value)
        return value
    except ValueRefused:
        if type(value) is dict:
            return [[str(k), _comparable(v)] for k, v in value.items()]
        return f"{type(value).__module__}.{type(value).__qualname__}"


def _attempted(caller: Caller, step: Step, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Wanted:
    given = arguments(step, args, kwargs)
    text = ", ".join(_shown(v) for v in args) + ("" if not args or not kwargs else ", ")
    text += ", ".join(f"{k}={_shown(v)}" for k, v in kwargs.items())
    shown = f"{step.name}({text})"
    shown = shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 4]}...)"
    asked = Asked(path, caller.token, step.name, identity("step", step.name, given), shown, step.policy)
    # Copied now, because the body may change its own while the step waits for its turn or its retry.
    return Wanted(asked, step, tuple(map(own, args)), {k: own(v) for k, v in kwargs.items()})


def _shown(value: Any) -> str:
    """A value in short. Only values of plain types show themselves: the repr of a table takes its time."""
    if type(value) in (str, int, float, bool, type(None)):
        return reprlib.repr(value)
    return type(value).__name__


def _length(duration: Duration) -> float:
    length = seconds(duration)
    if length > LONGEST:
        raise UsageError(f"{duration!r} is more than a hundred years")
    return length
