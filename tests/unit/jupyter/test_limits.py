"""What the first line of a flow cell says about attempts and time."""

from __future__ import annotations

from typing import Any

import pytest

from flowbook.errors import UsageError
from flowbook.graph.flow import graph
from flowbook.graph.step import Backoff, step
from flowbook.jupyter.cell import COMMAND
from flowbook.jupyter.limits import LIMITS, limits
from flowbook.jupyter.parse import parse


@step
def a() -> None: ...


def said(line: str) -> dict[str, Any]:
    return limits(parse(line, COMMAND).options)


def test_the_options_of_a_cell_are_those_of_a_graph() -> None:
    """As typed behind ``%%flow``, and what the graph is given."""
    typed = said("f --retries 3 --backoff 1,5,30 --timeout 30s --retry-on OSError,httpx.ReadTimeout --run-timeout 2h")
    flow = graph("f", a, **typed)
    assert flow.run_timeout == 7200.0
    policy = flow.step_at("a").policy
    assert (policy.retries, policy.timeout, policy.backoff) == (3, 30.0, Backoff(delays=(1.0, 5.0, 30.0)))
    assert policy.retry_on == ("OSError", "httpx.ReadTimeout")
    assert graph("f", a, **said("f --no-retry-on KeyError")).step_at("a").policy.no_retry_on == ("KeyError",)
    assert said("f") == {}


def test_outputs_and_the_recursion_limit_are_options_of_a_cell() -> None:
    """A list of names, and a number."""
    assert said("f --outputs report,score --recursion-limit 5000") == {
        "outputs": ("report", "score"),
        "recursion_limit": 5000,
    }
    assert said("f --outputs 'report, score'")["outputs"] == ("report", "score")
    flow = graph("f", a, **said("f --outputs a --recursion-limit 7"))
    assert (flow.outputs, flow.recursion_limit) == (("a",), 7)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("fixed:5", Backoff.fixed(5)),
        ("fixed:1m", Backoff.fixed(60)),
        ("linear:1:2:60", Backoff.linear(1, 2, 60)),
        ("exponential:1:3", Backoff.exponential(1, 3)),
        ("10", [10.0]),
        ("[1, 2]", [1.0, 2.0]),
    ],
)
def test_a_back_off_is_a_kind_or_a_list(typed: str, meant: Any) -> None:
    """A kind with its numbers behind colons; anything else is seconds."""
    assert said(f"f --backoff '{typed}'")["backoff"] == meant


@pytest.mark.parametrize(
    "wrong", ["--retries many", "--backoff fixed", "--backoff fixed:1:2:3:4", "--backoff soon", "--recursion-limit 0"]
)
def test_what_cannot_be_meant_is_a_usage_error(wrong: str) -> None:
    """Before anything is declared."""
    with pytest.raises(UsageError):
        said(f"f {wrong}")


def test_the_help_of_a_cell_names_them() -> None:
    """`%%flow --help`."""
    assert all(option in COMMAND.help("%%flow") for option in LIMITS)
