"""Steps: plain functions with a name and a policy.

Owns: `Step`, its options, `Backoff`, the `step` decorator, `when` and `value`. Refuses: running, retrying, storing, and
knowing exceptions (`retrying.py`).
A step stays a function: calling it calls the function, with nothing in between.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, overload

from flowbook.errors import DeclarationError
from flowbook.graph.durations import Duration, seconds
from flowbook.graph.expression import Composable
from flowbook.graph.names import NAME
from flowbook.graph.retrying import Predicate, RetryOn, is_one_of, sorted_out
from flowbook.graph.sharing import shared_options

Store = Literal["codec", "pickle", "recompute"]
"""How a result is kept: by the codec, as a signed pickle, or not at all (computed again on resume)."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next attempt.

    ``initial * factor ** (failures - 1)`` seconds, at most ``max``; with ``jitter`` a random part of that, never less
    than half (spread without collapse: AWS Architecture Blog, "Exponential Backoff And Jitter", 2015, "equal jitter").
    `fixed` and `linear` make the other usual kinds; where a step takes a back-off it also takes a list of seconds.
    """

    initial: float = 1.0
    """Seconds before the second attempt."""
    factor: float = 2.0
    max: float = 60.0
    """Seconds, at most."""
    jitter: bool = True
    delays: tuple[float, ...] = ()
    """Explicit seconds per failure, the last one repeated; when given, the rest is not used."""
    step: float = 0.0
    """Seconds that come on top with each further failure."""

    def __post_init__(self) -> None:
        for name in ("initial", "factor", "max", "step"):
            if not getattr(self, name) >= 0:
                raise DeclarationError(f"Backoff({name}={getattr(self, name)!r}): it is a number and not negative")
        if not all(s >= 0 for s in self.delays):
            raise DeclarationError(f"Backoff(delays={self.delays!r}): seconds are not negative")

    @classmethod
    def fixed(cls, every: Duration, *, jitter: bool = False) -> Backoff:
        """Always as long: ``Backoff.fixed(5)``, ``Backoff.fixed("1m")``."""
        length = seconds(every)
        return cls(length, 1.0, length, jitter)

    @classmethod
    def linear(
        cls, initial: Duration = 1.0, step: Duration = 1.0, max: Duration = 60.0, *, jitter: bool = False
    ) -> Backoff:
        """``step`` longer each time: 1 s, 2 s, 3 s, ... at most ``max``."""
        return cls(seconds(initial), 1.0, seconds(max), jitter, step=seconds(step))

    @classmethod
    def exponential(
        cls, initial: Duration = 1.0, factor: float = 2.0, max: Duration = 60.0, *, jitter: bool = True
    ) -> Backoff:
        """``factor`` times as long each time, the same as ``Backoff(initial, factor, max)``: 1 s, 2 s, 4 s, ..."""
        return cls(seconds(initial), factor, seconds(max), jitter)

    def delay(self, failures: int, roll: float) -> float:
        """Seconds to wait after the ``failures``-th failure (from 1); ``roll`` is a random number in [0, 1)."""
        if self.delays:
            return self.delays[min(failures, len(self.delays)) - 1]
        try:
            full = min(self.initial * self.factor ** (failures - 1) + self.step * (failures - 1), self.max)
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
    retry_on: tuple[str, ...] = ()
    """Names of exception classes that are worth another attempt; none: all are."""
    no_retry_on: tuple[str, ...] = ()
    """Names of exception classes that are not, whatever ``retry_on`` says."""
    transactional: bool = False
    """True: its effects through ``ctx.session`` and its checkpoint are committed together."""
    cache: float | None = None
    """Seconds that a result serves other runs that call the step with the same arguments; None: it serves none."""
    rate_limit: tuple[int, float] | None = None
    """(number, seconds): so many attempts may begin in any so many seconds, in all workers together."""
    concurrency: int | None = None
    """Attempts under way at once, in all workers together."""
    key: tuple[str, ...] = ()
    """Parameters whose values these three count by; none: for the limits all together, for the cache all arguments."""

    @property
    def shared(self) -> bool:
        """True if others have to be asked before an attempt."""
        return self.cache is not None or self.rate_limit is not None or self.concurrency is not None


MOST_RETRIES = 30_000
"""Attempts are numbered in two bytes of each journal row."""
LOST_LIMIT = 3
"""A step whose process dies is tried this often at least, however few ``retries`` it has: a crash is not the step's
fault until it has happened again and again."""


class Step(Composable):
    """A function that can stand in a topology. Made by `step`; immutable."""

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str,
        policy: Policy,
        guard: Callable[[Any], Any] | None = None,
        *,
        retry_if: Predicate | None = None,
        compensation: Step | None = None,
        said: frozenset[str] = frozenset(),
        wiring: Mapping[str, Any] | None = None,
        named: str | None = None,
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
        self.retry_if = retry_if
        """Asked with the exception of a failed attempt, besides ``policy.retry_on``; None: only that counts."""
        self.compensation = compensation
        """Undoes what the step has done, if the run fails or is cancelled after it; None: nothing does."""
        self.said = said
        """Options that were given, which the defaults of a flow do not change."""
        self.wiring = wiring
        """What fills its parameters, as a spec says it (`wiring.py`); None: their names do."""
        self.named = named or name
        """The name that it was declared with; ``name`` is that of its place."""
        self.signature = inspect.signature(fn)
        self.is_async = inspect.iscoroutinefunction(fn)
        """True for coroutine functions. Looked at once: asking takes longer than starting a step."""
        functools.update_wrapper(self, fn, updated=())

    def as_(self, name: str) -> Step:
        """The same function as another node."""
        return self.like(name=name)

    def with_policy(self, **changes: Any) -> Step:
        """The same node with other options."""
        return self.like(policy=replace(self.policy, **changes), said=self.said | changes.keys())

    def with_defaults(self, defaults: Defaults) -> Step:
        """The same node with a flow's options where it has none of its own; itself where that changes nothing."""
        policy = replace(self.policy, **{k: v for k, v in defaults.policy.items() if k not in self.said})
        retry_if = self.retry_if if "retry_on" in self.said else defaults.retry_if
        same = policy == self.policy and retry_if is self.retry_if
        return self if same else self.like(policy=policy, retry_if=retry_if)

    def retries_on(self, error: BaseException) -> bool:
        """Is this exception worth another attempt? One that the predicate raises is noted on it, and means no."""
        policy = self.policy
        if is_one_of(error, policy.no_retry_on):
            return False
        if not policy.retry_on and self.retry_if is None:
            return True
        if is_one_of(error, policy.retry_on):
            return True
        try:
            return self.retry_if is not None and bool(self.retry_if(error))
        except Exception as broken:
            error.add_note(f"not tried again: retry_on of step {self.name!r} raised {type(broken).__name__}: {broken}")
            return False

    def like(self, **changes: Any) -> Step:
        """This step with other parts."""
        return Step(**{**{name: getattr(self, name) for name in _PARTS}, **changes})

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.fn(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<step {self.name}{self.signature}>"


_PARTS = ("fn", "name", "policy", "guard", "retry_if", "compensation", "said", "wiring", "named")
"""What a step is made of."""


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
    return step.like(guard=condition)


@dataclass(frozen=True, slots=True)
class Value:
    """A dict that is one value, not an update of the state."""

    value: Any


def value(of: Any) -> Value:
    """Wrap a result so that it is stored under the step's name, whatever it is: ``return fb.value({"a": 1})``."""
    return Value(of)


class _Unsaid:
    """What an option is where nobody gave it: the flow's default, else flowbook's."""

    def __repr__(self) -> str:
        return "<default>"


UNSAID: Any = _Unsaid()


@dataclass(frozen=True, slots=True)
class Defaults:
    """Options about attempts that were given, checked: of one step, or of a flow for the steps that have none."""

    policy: Mapping[str, Any]
    """Field of `Policy` -> value."""
    retry_if: Predicate | None = None


def attempt_options(
    *,
    retries: int = UNSAID,
    backoff: Backoff | Sequence[float] | None = UNSAID,
    timeout: Duration | None = UNSAID,
    retry_on: RetryOn | None = UNSAID,
    no_retry_on: RetryOn | None = UNSAID,
) -> Defaults:
    """The options that were given. Raises `DeclarationError` for one that cannot work."""
    policy: dict[str, Any] = {}
    retry_if: Predicate | None = None
    if retries is not UNSAID:
        if not 0 <= retries <= MOST_RETRIES:
            raise DeclarationError(f"retries={retries!r}: it counts further attempts, so 0 to {MOST_RETRIES:,}")
        policy["retries"] = retries
    if backoff is not UNSAID:
        policy["backoff"] = _backoff(backoff)
    if timeout is not UNSAID:
        policy["timeout"] = None if timeout is None else seconds(timeout)
    if retry_on is not UNSAID:
        policy["retry_on"], retry_if = ((), None) if retry_on is None else sorted_out("retry_on", retry_on)
    if no_retry_on is not UNSAID:
        names, predicate = ((), None) if no_retry_on is None else sorted_out("no_retry_on", no_retry_on)
        if predicate is not None:
            raise DeclarationError("no_retry_on takes exception classes: put a function into retry_on=")
        policy["no_retry_on"] = names
    return Defaults(policy, retry_if)


@overload
def step(
    fn: Callable[..., Any],
    /,
    *,
    when: Callable[[Any], Any] | None = None,
    name: str | None = None,
    retries: int = ...,
    backoff: Backoff | Sequence[float] | None = ...,
    timeout: Duration | None = ...,
    retry_on: RetryOn | None = ...,
    no_retry_on: RetryOn | None = ...,
    compensate: Callable[..., Any] | None = None,
    store: Store = "codec",
    executor: Literal["default", "process"] = "default",
    cache: Duration | None = ...,
    rate_limit: str | None = ...,
    concurrency: int | None = ...,
    key: str | Sequence[str] | None = ...,
) -> Step: ...
@overload
def step(
    *,
    when: Callable[[Any], Any] | None = None,
    name: str | None = None,
    retries: int = ...,
    backoff: Backoff | Sequence[float] | None = ...,
    timeout: Duration | None = ...,
    retry_on: RetryOn | None = ...,
    no_retry_on: RetryOn | None = ...,
    compensate: Callable[..., Any] | None = None,
    store: Store = "codec",
    executor: Literal["default", "process"] = "default",
    transactional: bool = False,
    cache: Duration | None = ...,
    rate_limit: str | None = ...,
    concurrency: int | None = ...,
    key: str | Sequence[str] | None = ...,
) -> Callable[[Callable[..., Any]], Step]: ...


def step(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    when: Callable[[Any], Any] | None = None,
    name: str | None = None,
    retries: int = UNSAID,
    backoff: Backoff | Sequence[float] | None = UNSAID,
    timeout: Duration | None = UNSAID,
    retry_on: RetryOn | None = UNSAID,
    no_retry_on: RetryOn | None = UNSAID,
    compensate: Callable[..., Any] | None = None,
    store: Store = "codec",
    executor: Literal["default", "process"] = "default",
    transactional: bool = False,
    cache: Duration | None = None,
    rate_limit: str | None = None,
    concurrency: int | None = None,
    key: str | Sequence[str] | None = None,
) -> Step | Callable[[Callable[..., Any]], Step]:
    """Make a function a step: ``@step`` or ``@step(retries=3, timeout="30s")``.

    ``retries`` counts further attempts after the first (default 0); ``backoff`` is a `Backoff` or a list of seconds;
    ``timeout`` is per attempt. ``retry_on`` and ``no_retry_on`` say which exceptions are worth another attempt
    (default: all): classes, their names as texts, or for ``retry_on`` a function of the exception; where both fit,
    ``no_retry_on`` counts. What is not given is the flow's default (`flowbook.graph`). ``when`` is a condition on the
    state; where it does not hold the step is skipped, as with `when`. ``transactional`` gives a coroutine function
    ``ctx.session``, whose transaction is committed together with the step's checkpoint: what it did there is done
    exactly once.

    ``compensate`` undoes what the step has done, if the run fails for good or is cancelled after it has finished: a
    function or a step, filled by name as a step is, with the state as it was behind this step, and with this step's own
    result under its name. What is finished is undone in reverse order, one at a time, each tried again by its own
    policy (a plain function: 5 retries).

    Three options hold for all workers of a namespace together: ``cache="1h"`` (a result serves other runs with the same
    code and arguments), ``rate_limit="60/min"`` and ``concurrency=4`` (attempts of this step of this flow; who has to
    wait does so before ``timeout`` begins). ``key="customer"`` counts each by a parameter.

    ``step(b, when=...)`` gives the step ``b``, or a plain function, these options in its place in a topology or list.
    Raises `DeclarationError` for options that cannot work.
    """
    given = attempt_options(
        retries=retries, backoff=backoff, timeout=timeout, retry_on=retry_on, no_retry_on=no_retry_on
    )
    if store not in ("codec", "pickle", "recompute"):
        raise DeclarationError(f'store={store!r}: it is "codec", "pickle" or "recompute"')
    if executor not in ("default", "process"):
        raise DeclarationError(f'executor={executor!r}: it is "default" or "process"')
    if transactional and store == "recompute":
        raise DeclarationError('store="recompute" runs the step again, and a transactional step is to be done once')
    shared = shared_options(cache, rate_limit, concurrency, key)
    if cache is not None and (store != "codec" or transactional):
        raise DeclarationError(
            "cache= keeps what the codec keeps, of a step without effects: no store=, no transaction"
        )
    policy = Policy(**given.policy, **shared, store=store, executor=executor, transactional=transactional)
    undo = None if compensate is None else _compensation(compensate)

    if isinstance(fn, Step):
        return _with_options(fn, name, given, policy, when, undo)

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
        if transactional and not inspect.iscoroutinefunction(function):
            raise DeclarationError(_SYNCHRONOUS.format(function.__name__))
        called = name or str(getattr(function, "__name__", ""))
        said = frozenset(given.policy)
        made = Step(function, called, policy, retry_if=given.retry_if, compensation=undo, said=said)
        return made if when is None else _conditional(when, made)

    return wrap if fn is None else wrap(fn)


_SYNCHRONOUS = "step {!r} is transactional, and ctx.session is asynchronous: make it `async def`"


def _with_options(
    it: Step,
    name: str | None,
    given: Defaults,
    policy: Policy,
    condition: Callable[[Any], Any] | None,
    undo: Step | None,
) -> Step:
    """A step with those of these options that were given."""
    changes = dict(given.policy)
    changes |= {
        k: getattr(policy, k)
        for k in ("store", "executor", "transactional", "cache", "rate_limit", "concurrency", "key")
        if getattr(policy, k) != getattr(Policy(), k)
    }
    if not changes and name is None and condition is None and given.retry_if is None and undo is None:
        raise DeclarationError(f"{it.name!r} is a step already: @step stands on it twice")
    if policy.transactional and not it.is_async:
        raise DeclarationError(_SYNCHRONOUS.format(it.name))
    made = it.with_policy(**changes).like(
        name=name or it.name, retry_if=given.retry_if or it.retry_if, compensation=undo or it.compensation
    )
    return made if condition is None else _conditional(condition, made)


def _conditional(condition: Callable[[Any], Any], it: Step) -> Step:
    """`when`, for those in whose scope that name means an option."""
    return when(condition, it)


def _backoff(backoff: Backoff | Sequence[float] | None) -> Backoff:
    if backoff is None:
        return Backoff()
    if isinstance(backoff, Backoff):
        return backoff
    delays = tuple(seconds(s) for s in backoff)
    if not delays:
        raise DeclarationError("backoff=[]: a list of seconds needs at least one")
    return Backoff(delays=delays)


UNDO_RETRIES = 5
"""Of a compensation that is a plain function: with the usual back-off, about half a minute."""


def _compensation(given: Callable[..., Any]) -> Step:
    """What undoes a step, as a step."""
    if not isinstance(given, Step):
        name = getattr(given, "__name__", "")
        return step(name=name if NAME.match(name) else "compensation", retries=UNDO_RETRIES)(given)
    if given.guard is not None:
        raise DeclarationError(f"compensate={given.name}: what undoes a step has no condition; look at the state in it")
    if given.policy.transactional:
        raise DeclarationError(f"compensate={given.name}: what undoes a step cannot be transactional yet")
    if given.compensation is not None:
        raise DeclarationError(f"compensate={given.name}: what undoes a step is not undone, so it has no compensate=")
    return given
