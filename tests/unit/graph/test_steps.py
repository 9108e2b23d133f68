"""Steps: functions with options, and what they are called with."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flowbook.errors import BindingError, DeclarationError, UsageError
from flowbook.graph.binding import StateView, bind, call, slots
from flowbook.graph.durations import seconds
from flowbook.graph.step import Backoff, Policy, Step, step


class Context: ...


CTX = Context()


def bound(fn: Any, values: dict[str, Any], results: dict[str, Any] | None = None) -> dict[str, Any]:
    return bind(step(fn), values, results or {}, CTX)


# ------------------------------------------------------------------------------------------------------------- steps


def test_a_step_stays_a_function() -> None:
    """Callable and testable by itself, with its name and docstring."""

    @step
    def double(x: int) -> int:
        """Twice."""
        return x * 2

    assert isinstance(double, Step)
    assert double(4) == 8
    assert (double.name, double.__doc__) == ("double", "Twice.")
    assert repr(double).startswith("<step double(x")
    assert double.policy == Policy()
    assert not double.is_async


def test_options_make_the_policy() -> None:
    """Durations may be texts, a backoff may be a list."""

    @step(name="other", retries=3, timeout="1m", backoff=[1, 2], store="recompute")
    async def a() -> None: ...

    assert (a.name, a.is_async) == ("other", True)
    assert a.policy == Policy(retries=3, timeout=60.0, backoff=Backoff(delays=(1.0, 2.0)), store="recompute")
    assert a.with_policy(retries=0).policy.retries == 0
    assert a.as_("b").policy is a.policy


def _generator() -> Any:
    yield 1


async def _async_generator() -> Any:
    yield 1


async def _coroutine() -> None: ...


@pytest.mark.parametrize(
    "options,fn,said",
    [
        ({"retries": -1}, None, "retries=-1"),
        ({"store": "disk"}, None, "store='disk'"),
        ({"executor": "gpu"}, None, "executor='gpu'"),
        ({"executor": "process"}, _coroutine, "plain def"),
        ({"backoff": []}, None, "at least one"),
        ({}, _generator, "is a generator"),
        ({}, _async_generator, "is a generator"),
        ({}, lambda: 1, "Lambdas have no name"),
        ({"name": "a-b"}, _coroutine, "'a-b' cannot be a step's name"),
        ({}, step(_coroutine), "a step already"),
        ({}, 3, "not on 3"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], fn: Any, said: str) -> None:
    """When the step is declared, not when it runs."""
    with pytest.raises(DeclarationError, match=said):
        step(**options)(fn)


def test_backoff_grows_to_its_limit() -> None:
    """initial * factor ** n, at most max; jitter takes up to half of it away."""
    plain = Backoff(initial=1, factor=2, max=5, jitter=False)
    assert [plain.delay(n, 0.9) for n in (1, 2, 3, 4)] == [1, 2, 4, 5]
    jittered = Backoff(initial=4)
    assert (jittered.delay(1, 0.0), jittered.delay(1, 0.5)) == (2, 3)
    assert [Backoff(delays=(10, 60)).delay(n, 0.5) for n in (1, 2, 3)] == [10, 60, 60]


def test_a_backoff_never_overflows() -> None:
    """However often a step has failed."""
    assert Backoff(jitter=False).delay(5000, 0.0) == 60


@pytest.mark.parametrize(
    "text,expected",
    [(30, 30), (0.5, 0.5), ("250ms", 0.25), ("30s", 30), ("1h30m", 5400), ("1h 30m", 5400), ("2d", 172800),
     ("1w", 604800), ("1.5h", 5400), (timedelta(minutes=2), 120), (0, 0)],
)  # fmt: skip
def test_a_duration_is(text: Any, expected: float) -> None:
    """Seconds, however it is written."""
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "3", "3 x", "-1s", "1h!", -1, float("nan"), timedelta(-1)])
def test_a_duration_is_not(text: Any) -> None:
    """What cannot be read, and what is negative."""
    with pytest.raises(UsageError):
        seconds(text)


# ------------------------------------------------------------------------------------------------------------ binding


def test_parameters_are_filled_by_name() -> None:
    """A state key, else the last result of the step of that name, else the default."""

    def fn(query, search, k=5, limit=3): ...

    values, results = {"query": "q", "k": 1}, {"search": {"docs": []}, "query": "not this"}
    assert bound(fn, values, results) == {"query": "q", "search": {"docs": []}, "k": 1}


def test_state_and_context_have_their_names() -> None:
    """`ctx`, or an annotation; `state` is a copy of all."""
    values = {"x": 1}

    def fn(state, ctx, other: Context, third: fb.Context): ...  # type: ignore[name-defined]  # noqa: F821

    got = bound(fn, values)
    assert got == {"state": {"x": 1}, "ctx": CTX, "other": CTX, "third": CTX}
    assert got["state"] is not values


def test_who_asks_for_the_context_is_known() -> None:
    """So that none is made for the others."""

    @step
    def plain(x=1): ...

    @step
    def asking(x, c: Context): ...

    assert (slots(plain).context, slots(asking).context) == (False, True)
    assert slots(asking) is slots(asking)
    assert slots(plain).parameters == (("x", False, True),)


def test_nothing_to_fill_a_parameter_is_said() -> None:
    """With what there is instead."""

    def fn(dosc): ...

    with pytest.raises(BindingError, match=r"wants 'dosc'.*the state has 'docs', finished steps are 'search'"):
        bound(fn, {"docs": 1}, {"search": 2})
    with pytest.raises(BindingError, match="the state has nothing"):
        bound(fn, {})


def test_loose_parameters_get_nothing() -> None:
    """`*args` and `**kwargs` have no names to fill."""

    def fn(x, *args, **kwargs): ...

    assert bound(fn, {"x": 1, "args": 2, "kwargs": 3, "y": 4}) == {"x": 1}


def test_a_call_respects_the_kinds_of_parameters() -> None:
    """Positional-only and keyword-only ones."""

    @step
    def fn(a, b=2, /, c=3, *, d):
        return a, b, c, d

    assert call(fn, bind(fn, {"a": 1, "d": 4}, {}, CTX)) == (1, 2, 3, 4)
    assert call(fn, bind(fn, {"a": 1, "c": 0, "d": 4}, {}, CTX)) == (1, 2, 0, 4)
    assert call(fn, bind(fn, {"a": 1, "b": 9, "c": 0, "d": 4}, {}, CTX)) == (1, 9, 0, 4)


def test_routers_see_a_state_they_cannot_write() -> None:
    """As attributes and as keys."""
    view = StateView({"x": 1})
    assert (view.x, view["x"], dict(view), len(view), "x" in view) == (1, 1, {"x": 1}, 1, True)
    assert repr(view) == "StateView({'x': 1})"
    with pytest.raises(AttributeError, match="has no 'y'; it has 'x'"):
        view.y
    with pytest.raises(AttributeError, match="read-only"):
        view.x = 2
    with pytest.raises(TypeError):
        view["x"] = 2
