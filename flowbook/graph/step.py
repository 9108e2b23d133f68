"""Steps: plain functions with a name and a policy.

Owns: `Step`, its options, `Backoff`, the `step` decorator, `when` and `value`. Refuses: running, retrying, storing.
A step stays a function: calling it calls the function, with nothing in between.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

from flowbook.errors import DeclarationError
from flowbook.graph.durations import Duration, seconds
from flowbook.graph.expression import Composable
from flowbook.graph.names import NAME

Store = Literal["codec", "pickle", "recompute"]
"""How a result is kept: by the codec, as a signed pickle, or not at all (computed again on resume)."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next attempt.

    ``initial * factor ** (failures - 1)`` seconds, at most ``max``; with ``jitter`` a random part of that, never less
    than half (spread without collapse: AWS Architecture Blog, "Exponential Backoff And Jitter", 2015, "equal jitter").
    """

    initial: float = 1.0
    """Seconds before the second attempt."""
    factor: float = 2.0
    max: float = 60.0
    """Seconds, at most."""
    jitter: bool = True
    delays: tuple[float, ...] = ()
    """Explicit seconds per failure, the last one repeated; when given, the rest is not used."""

    def delay(self, failures: int, roll: float) -> float:
        """Seconds to wait after the ``failures``-th failure (from 1); ``roll`` is a random number in [0, 1)."""
        if self.delays:
            return self.delays[min(failures, len(self.delays)) - 1]
        try:
            full = min(self.initial * self.factor ** (failures - 1), self.max)
        except OverflowError:  # after a thousand failures
            full = self.max
        return full * (0.5 + roll / 2) if self.jitter else full


@dataclass(frozen=True, slots=True)
class Policy:
    """What the engine does around the body of a step."""

    retries: int = 0
    """Further attempts after the first that raised."""
    backoff: Backoff = field(default_factory=Backoff)
    timeout: float | None = None
    """Seconds an attempt may take; None: as long as it likes."""
    store: Store = "codec"
    executor: Literal["default", "process"] = "default"
    """default: coroutines on the engine's loop, functions in a thread. process: functions in another process."""


MOST_RETRIES = 30_000
"""Attempts are numbered in two bytes of each journal row."""
LOST_LIMIT = 3
"""A step whose process dies is tried this often at least, however few ``retries`` it has: a crash is not the step's
fault until it has happened again and again."""


class Step(Composable):
    """A function that can stand in a topology. Made by `step`; immutable."""

    def __init__(
        self, fn: Callable[..., Any], name: str, policy: Policy, guard: Callable[[Any], Any] | None = None
    ) -> None:
        if not NAME.match(name):
            raise DeclarationError(
                f"{name!r} cannot be a step's name: letters, digits and _ only, not starting with a digit. "
                'Lambdas have no name of their own: write @step(name="...")'
            )
        self.fn = fn
        self.name = name
        self.policy = policy
        self.guard = guard
        """Asked with the state before the step would run; false: it is skipped. None: it always runs (`when`)."""
        self.signature = inspect.signature(fn)
        self.is_async = inspect.iscoroutinefunction(fn)
        """True for coroutine functions. Looked at once: asking takes longer than starting a step."""
        functools.update_wrapper(self, fn, updated=())

    def as_(self, name: str) -> Step:
        """The same function as another node."""
        return Step(self.fn, name, self.policy, self.guard)

    def with_policy(self, **changes: Any) -> Step:
        """The same node with other options."""
        return Step(self.fn, self.name, replace(self.policy, **changes), self.guard)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<step {self.name}{self.signature}>"


def when(condition: Callable[[Any], Any], step: Step) -> Step:
    """Let a step run only if ``condition`` holds for the state.

    ``a >> when(lambda s: s.n > 3, b) >> c``

    ``condition`` gets a read-only view of the state, as a branch's router does. When it does not hold, the step is
    skipped: it changes nothing, and the run goes on behind it. Raises `DeclarationError` for anything but a step.
    """
    given: tuple[Any, Any] = condition, step  # whatever was typed
    if not callable(given[0]) or isinstance(given[0], Step):
        raise DeclarationError(f"when({condition!r}, ...): the condition is a function of the state")
    if not isinstance(given[1], Step):
        raise DeclarationError(f"when(..., {step!r}): only a step can be skipped; for anything else use branch(...)")
    if step.guard is not None:
        raise DeclarationError(f"step {step.name!r} has a condition already: put both into one")
    return Step(step.fn, step.name, step.policy, condition)


@dataclass(frozen=True, slots=True)
class Value:
    """A dict that is one value, not an update of the state."""

    value: Any


def value(of: Any) -> Value:
    """Wrap a result so that it is stored under the step's name, whatever it is: ``return fb.value({"a": 1})``."""
    return Value(of)


@overload
def step(fn: Callable[..., Any], /) -> Step: ...
@overload
def step(
    *,
    name: str | None = None,
    retries: int = 0,
    backoff: Backoff | Sequence[float] | None = None,
    timeout: Duration | None = None,
    store: Store = "codec",
    executor: Literal["default", "process"] = "default",
) -> Callable[[Callable[..., Any]], Step]: ...


def step(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retries: int = 0,
    backoff: Backoff | Sequence[float] | None = None,
    timeout: Duration | None = None,
    store: Store = "codec",
    executor: Literal["default", "process"] = "default",
) -> Step | Callable[[Callable[..., Any]], Step]:
    """Make a function a step: ``@step`` or ``@step(retries=3, timeout="30s")``.

    ``retries`` counts further attempts after the first; ``backoff`` is a `Backoff` or a list of seconds;
    ``timeout`` is per attempt. Raises `DeclarationError` for options that cannot work.
    """
    if not 0 <= retries <= MOST_RETRIES:
        raise DeclarationError(f"retries={retries!r}: it counts further attempts, so 0 to {MOST_RETRIES:,}")
    if store not in ("codec", "pickle", "recompute"):
        raise DeclarationError(f'store={store!r}: it is "codec", "pickle" or "recompute"')
    if executor not in ("default", "process"):
        raise DeclarationError(f'executor={executor!r}: it is "default" or "process"')
    policy = Policy(
        retries=retries,
        backoff=_backoff(backoff),
        timeout=None if timeout is None else seconds(timeout),
        store=store,
        executor=executor,
    )

    def wrap(function: Callable[..., Any]) -> Step:
        if isinstance(function, Step):
            raise DeclarationError(f"{function.name!r} is a step already: @step stands on it twice")
        if not callable(function):
            raise DeclarationError(f"@step goes on a function, not on {function!r}")
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise DeclarationError(
                f"step {function.__name__!r} is a generator: its result could not be stored; return a list"
            )
        if executor == "process" and inspect.iscoroutinefunction(function):
            raise DeclarationError(f'step {function.__name__!r}: executor="process" takes a plain def, not async def')
        return Step(function, name or str(getattr(function, "__name__", "")), policy)

    return wrap if fn is None else wrap(fn)


def _backoff(backoff: Backoff | Sequence[float] | None) -> Backoff:
    if backoff is None:
        return Backoff()
    if isinstance(backoff, Backoff):
        return backoff
    delays = tuple(seconds(s) for s in backoff)
    if not delays:
        raise DeclarationError("backoff=[]: a list of seconds needs at least one")
    return Backoff(delays=delays)
