"""Back-off and which exceptions are worth another attempt: what is declared, kept, and rebuilt."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from flowbook.errors import DeclarationError, StepTimeout, UsageError
from flowbook.graph.canonical import policy_from, policy_json
from flowbook.graph.changes import changes
from flowbook.graph.flow import Graph, graph
from flowbook.graph.free import closure
from flowbook.graph.pause import wait
from flowbook.graph.rebuild import rebuild
from flowbook.graph.retrying import is_one_of
from flowbook.graph.source import describe
from flowbook.graph.step import Backoff, Policy, Step, step
from tests.unit.graph.test_rebuild import KEY, stored

Write = Callable[..., ModuleType]


def named(name: str, **options: Any) -> Step:
    return step(name=name, **options)(lambda: None)


def delays(backoff: Backoff, *failures: int) -> list[float]:
    return [backoff.delay(n, 0.0) for n in failures]


# ----------------------------------------------------------------------------------------------------------- back-off


def test_each_kind_of_back_off_grows_as_its_name_says() -> None:
    """Fixed, linear, exponential, a list; never more than the most."""
    assert delays(Backoff.fixed(5), 1, 2, 50) == [5, 5, 5]
    assert delays(Backoff.fixed("1m30s"), 1) == [90]
    assert delays(Backoff.linear(initial=1, step=2, max=6), 1, 2, 3, 4) == [1, 3, 5, 6]
    assert delays(Backoff.exponential(initial=1, factor=3, max=20, jitter=False), 1, 2, 3, 4) == [1, 3, 9, 20]
    assert delays(Backoff(delays=(10, 60)), 1, 2, 3) == [10, 60, 60]
    assert delays(Backoff(initial=1, factor=2, max=60, jitter=False), 1, 2, 10_000) == [1, 2, 60]


def test_jitter_takes_half_at_most_and_only_where_it_is_asked_for() -> None:
    """A fixed back-off is fixed unless it is told otherwise; the exponential one spreads."""
    assert Backoff.exponential() == Backoff()
    assert (Backoff().delay(3, 0.0), Backoff().delay(3, 1.0)) == (2.0, 4.0)
    assert Backoff.fixed(8).delay(1, 0.3) == 8
    assert Backoff.fixed(8, jitter=True).delay(1, 0.5) == 6.0


@pytest.mark.parametrize(
    "wrong", [{"initial": -1}, {"factor": -0.5}, {"max": float("nan")}, {"delays": (1, -1)}, {"step": -1}], ids=str
)
def test_a_back_off_that_cannot_be_waited_for_is_refused(wrong: dict[str, Any]) -> None:
    """At its declaration and not at the first failure."""
    with pytest.raises(DeclarationError, match=next(iter(wrong))):
        Backoff(**wrong)
    with pytest.raises(UsageError):
        Backoff.fixed("soon")


# ---------------------------------------------------------------------------------------------------- which exceptions


class Refused(ConnectionError):
    """One of the user's own."""


def test_a_class_is_kept_as_its_name_and_matches_what_is_derived_from_it() -> None:
    """So a policy is plain data: equal, stored and rebuilt without the class."""
    one = named("a", retry_on=(ConnectionError, Refused), no_retry_on=KeyError)
    assert one.policy.retry_on == ("builtins.ConnectionError", f"{__name__}.Refused")
    assert one.policy == named("b", retry_on=[ConnectionError, Refused], no_retry_on=(KeyError,)).policy
    assert policy_from(json.loads(json.dumps(policy_json(one.policy))), "f") == one.policy
    assert one.retries_on(Refused())
    assert one.retries_on(ConnectionResetError())
    assert not one.retries_on(KeyError())
    assert not one.retries_on(ValueError())
    assert named("c").policy == Policy()
    assert named("c").retries_on(ValueError())
    assert named("c").retries_on(SystemExit())


def test_a_name_as_text_needs_no_import() -> None:
    """With its module, by the module's own alias of it, or alone."""
    assert is_one_of(Refused(), ["Refused"])
    assert is_one_of(Refused(), [f"{__name__}.Refused"])
    assert is_one_of(json.JSONDecodeError("", "", 0), ["json.JSONDecodeError"])  # defined in json.decoder
    assert not is_one_of(Refused(), ["json.Refused", "not_loaded.Refused", "Refuse"])
    foreign = type("ConnectionError", (Exception,), {"__module__": "vendor.errors"})
    assert is_one_of(foreign(), ["ConnectionError"])
    assert not is_one_of(foreign(), named("a", retry_on=ConnectionError).policy.retry_on), "a class is that very class"


def test_no_retry_on_goes_before_retry_on() -> None:
    """``retry_on=OSError, no_retry_on=FileNotFoundError`` leaves one out of many."""
    one = named("a", retry_on=OSError, no_retry_on=FileNotFoundError)
    assert one.retries_on(ConnectionError())
    assert not one.retries_on(FileNotFoundError())


def test_the_time_limit_of_a_step_is_a_timeout_error() -> None:
    """Who names `TimeoutError` means it, whoever noticed."""
    assert named("a", retry_on=TimeoutError).retries_on(StepTimeout("slow"))
    assert not named("a", retry_on=ConnectionError).retries_on(StepTimeout("slow"))


def test_a_function_of_the_exception_decides_what_names_cannot() -> None:
    """Beside classes: either is enough. One that raises means no, and says so on the exception."""
    one = named("a", retry_on=(ConnectionError, lambda e: e.args == (503,)))
    assert one.retries_on(ValueError(503))
    assert one.retries_on(ConnectionError(404))
    assert not one.retries_on(ValueError(404))
    error = ValueError("no status")
    assert not named("b", retry_on=lambda e: e.status == 503).retries_on(error)
    assert "retry_on of step 'b' raised AttributeError" in error.__notes__[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retry_on": ()}, "names no exception"),
        ({"retry_on": 503}, "retry_on=503"),
        ({"retry_on": int}, "retry_on=<class 'int'>"),
        ({"retry_on": "not a name"}, "retry_on='not a name'"),
        ({"retry_on": (print, repr)}, "2 functions"),
        ({"no_retry_on": print}, "put a function into retry_on"),
    ],
    ids=str,
)
def test_what_names_no_exception_is_refused(options: dict[str, Any], said: str) -> None:
    """With the option that it was given to."""
    with pytest.raises(DeclarationError, match=said):
        named("a", **options)
    with pytest.raises(DeclarationError, match=said):
        graph("f", named("a"), **options)


# ------------------------------------------------------------------------------------------------- defaults of a flow


def test_defaults_of_a_flow_hold_for_steps_that_do_not_say_otherwise() -> None:
    """Also where what a step says is what flowbook would have done by itself; a pause has no attempts."""
    plain, own = named("plain"), named("own", retries=0, timeout=None, backoff=None, retry_on=None)
    some = named("some", retries=1)
    flow = graph("f", plain >> own >> wait("go") >> some, retries=4, backoff=Backoff.fixed(1), timeout="1m",
                 retry_on=(OSError, lambda e: True), no_retry_on=KeyError)  # fmt: skip
    policy = Policy(4, Backoff.fixed(1), 60.0, retry_on=("builtins.OSError",), no_retry_on=("builtins.KeyError",))
    assert flow.step_at("plain").policy == policy
    assert flow.step_at("plain").retry_if is not None
    assert flow.step_at("some").policy == Policy(1, *_rest(policy))
    assert flow.step_at("own").policy == Policy(no_retry_on=("builtins.KeyError",))
    assert flow.step_at("own").retry_if is None
    assert plain.policy == Policy(), "the step itself may stand in another flow"
    assert graph("g", plain).step_at("plain") is plain


def _rest(policy: Policy) -> tuple[Any, ...]:
    return (policy.backoff, policy.timeout, policy.store, policy.executor, policy.retry_on, policy.no_retry_on)


def test_a_node_under_another_name_keeps_what_its_step_said() -> None:
    """`as_` and `with_policy` lose nothing."""
    one = named("a", retries=0, retry_on=lambda e: False)
    other = graph("f", one.as_("b") >> one.with_policy(timeout=3.0), retries=9, timeout=7)
    assert (other.step_at("b").policy.retries, other.step_at("b").policy.timeout) == (0, 7.0)
    assert other.step_at("a").policy.timeout == 3.0
    assert other.step_at("b").retry_if is one.retry_if


# ----------------------------------------------------------------------------------------------------- the definition


FLOW = """
    class Busy(Exception): ...

    LIMIT = 503

    def worth_it(error):
        return error.args == (LIMIT,)

    @step(retries=2, retry_on=(Busy, worth_it), no_retry_on="KeyError", backoff=[1])
    def a(): raise Busy("503")

    @step
    def b(a): return 1

    flow = graph("f", a >> b, retries=1, run_timeout="2h")
"""


def test_a_rebuilt_flow_retries_on_the_same_exceptions(write: Write) -> None:
    """Options, the function with its helpers, and the limit of the run come back from source."""
    flow: Graph = write(FLOW).flow
    back = rebuild(stored(flow), key=KEY)
    assert back.fingerprint == flow.fingerprint
    assert back.run_timeout == 7200.0
    one = back.step_at("a")
    assert one.policy == flow.step_at("a").policy
    assert one.retries_on(ValueError(503))
    assert not one.retries_on(ValueError(404))
    assert not one.retries_on(KeyError())
    assert back.step_at("b").policy.retries == 1
    with pytest.raises(Exception, match="503") as raised:
        one()
    assert raised.type.__name__ == "Busy"
    assert one.retries_on(raised.value), "the class was defined anew, and is meant all the same"


CALLS = """
    from flowbook.graph.imperative import flow as fl

    LIMIT = 503

    def worth_it(error):
        return error.args == (LIMIT,)

    @step(retries=2, retry_on=(OSError, worth_it))
    async def charge(order): return order

    @step(retries=1)
    async def plain(order): return order

    def made():
        inner = step(name="inner", retries=1, retry_on=lambda error: error.args == ("again",))(lambda n: n)

        @fl
        async def hidden(ctx, n: int) -> int:
            return await ctx.step(inner, n)

        return hidden

    @fl
    async def order(ctx, id: int) -> int:
        return await ctx.step(charge, await ctx.step(plain, id))

    hidden = made()
"""


def test_a_step_that_a_body_names_retries_on_the_same_exceptions(write: Write) -> None:
    """A function that says which is part of the definition and comes back, as a node's does; a closure's too."""
    module = write(CALLS)
    back = rebuild(stored(module.order), key=KEY)
    assert back.fingerprint == module.order.fingerprint
    names = inspect.unwrap(back.step_at("order").fn).__globals__
    assert names["charge"].policy == module.charge.policy
    assert names["charge"].retries_on(ValueError(503))
    assert names["charge"].retries_on(OSError())
    assert not names["charge"].retries_on(ValueError(404))
    assert names["plain"].retries_on(ValueError(404))
    closed = rebuild(stored(module.hidden), key=KEY)
    inner = closure(inspect.unwrap(closed.step_at("hidden").fn))["inner"]
    assert (inner.retries_on(ValueError("again")), inner.retries_on(ValueError("no"))) == (True, False)
    for before, after in (("== (LIMIT,)", "!= (LIMIT,)"), ("LIMIT = 503", "LIMIT = 429"), (", worth_it", "")):
        assert describe(write(CALLS.replace(before, after)).order).fingerprint != back.fingerprint, before


def test_what_is_asked_about_a_compensation_is_kept_as_source_wherever_it_was_written(write: Write) -> None:
    """As what is asked about a step is: where the definition is rebuilt, the module of neither need be there."""
    write("def worth_it(error): return error.args == (503,)\n", "asked_elsewhere")
    flow: Graph = write("""
        from asked_elsewhere import worth_it
        @step(retries=2, retry_on=worth_it)
        def undo(): return 1
        @step(compensate=undo)
        def a(): return 2
        flow = graph("f", a)
    """).flow  # fmt: skip
    definition = stored(flow)
    assert definition.sources["callables"]["worth_it"]["kind"] == "function"
    del sys.modules["asked_elsewhere"]
    undo = rebuild(definition, key=KEY).compensations["a"]
    assert (undo.retries_on(ValueError(503)), undo.retries_on(ValueError(404))) == (True, False)


def test_options_of_attempts_and_of_the_run_are_part_of_the_code(write: Write) -> None:
    """Each changes the fingerprint, and the report says what is different."""
    old = describe(write(FLOW, "was").flow)

    def edited(before: str, after: str) -> list[str]:
        assert before in FLOW
        new = describe(write(FLOW.replace(before, after), "was").flow)
        assert new.fingerprint != old.fingerprint
        return list(changes(old, new))

    assert edited('run_timeout="2h"', "run_timeout=60") == ["its run_timeout is 1m instead of 2h"]
    assert edited(', run_timeout="2h"', "") == ["its run_timeout is no limit instead of 2h"]
    assert edited('"KeyError"', '"ValueError"') == ["step `a`: no_retry_on is ['ValueError'] instead of ['KeyError']"]
    assert edited("LIMIT = 503", "LIMIT = 429") == ["constant `LIMIT` is 429 instead of 503"]
    assert edited("return error.args", "return not error.args") == ["the retry_on of `a` changed"]
    assert edited("a >> b, retries=1", "a >> b") == ["step `b`: retries is its default instead of 1"]


def test_a_flow_without_such_options_has_the_fingerprint_it_had() -> None:
    """Options of a new release are left out of what was declared without them."""
    it = describe(graph("f", named("a")))
    assert "run_timeout" not in it.spec
    assert it.spec["nodes"][0]["policy"] == {}
