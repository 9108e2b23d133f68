"""Compensations as a part of the definition: declared, described, rebuilt, carried."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from flowbook.errors import DeclarationError, TopologyError
from flowbook.graph.carried import packed, unpacked
from flowbook.graph.changes import changes
from flowbook.graph.flow import Graph, graph
from flowbook.graph.mapping import map_
from flowbook.graph.portable import obstacles
from flowbook.graph.rebuild import rebuild
from flowbook.graph.resource import resource
from flowbook.graph.source import describe
from flowbook.graph.step import step, when
from tests.unit.graph.test_rebuild import KEY, stored

Write = Callable[..., ModuleType]

FLOW = """
    FEE = 2

    def less_fee(amount):
        return amount - FEE

    def refund(charge):
        return less_fee(charge)

    @step(retries=7, backoff=[1, 2], retry_on=OSError)
    def release(reserve): return reserve

    @step(compensate=release)
    def reserve(): return 1

    @step(compensate=refund)
    def charge(reserve): return 10

    flow = graph("f", reserve >> charge)
"""


def test_a_rebuilt_flow_undoes_what_the_first_one_would(write: Write) -> None:
    """With its helpers and its policy; a flow whose undoing got lost on the way would be worse than none."""
    flow: Graph = write(FLOW).flow
    back = rebuild(stored(flow), key=KEY)
    assert back.fingerprint == flow.fingerprint
    assert set(back.compensations) == {"reserve", "charge"}
    assert back.compensations["charge"](charge=10) == 8
    for name in ("reserve", "charge"):
        assert back.compensations[name].policy == flow.compensations[name].policy
        assert back.compensations[name].name == flow.compensations[name].name


def test_a_pickled_flow_carries_its_compensations(write: Write) -> None:
    """`%%flow --pickle` as well."""
    pytest.importorskip("cloudpickle")
    flow: Graph = write(FLOW).flow
    back = unpacked("f", packed(flow))
    assert back.compensations["charge"](charge=10) == 8
    assert back.compensations["reserve"].policy == flow.compensations["reserve"].policy


def test_an_edit_of_what_undoes_a_step_is_another_version(write: Write) -> None:
    """Its source, its helpers, its options, and whether there is one."""
    old = describe(write(FLOW, "was").flow)

    def edited(before: str, after: str) -> list[str]:
        assert before in FLOW
        new = describe(write(FLOW.replace(before, after), "was").flow)
        assert new.fingerprint != old.fingerprint
        return list(changes(old, new))

    assert edited("return less_fee(charge)", "return charge") == [
        "the compensation of `charge` changed",
        "helper `less_fee` removed",
    ]
    assert edited("FEE = 2", "FEE = 3") == ["constant `FEE` is 3 instead of 2"]
    assert edited("retries=7", "retries=8") == ["step `reserve, compensation`: retries is 8 instead of 7"]
    assert "`charge` has no compensation any more" in edited("@step(compensate=refund)", "@step")
    assert "the compensation of `charge` is release instead of refund" in edited(
        "compensate=refund", "compensate=release"
    )


def test_a_flow_without_compensations_has_the_fingerprint_it_had() -> None:
    """What is not declared is not stored."""
    assert "undo" not in describe(graph("f", step(name="a")(lambda: 1))).spec["nodes"][0]


def test_what_stands_in_the_way_of_rebuilding_a_compensation_is_told() -> None:
    """A run that could be resumed and not undone is no portable run."""
    table = {"a": 1}

    def look() -> object:
        return table

    flow = graph("f", step(name="a", compensate=look)(lambda: 1))
    assert any("look" in obstacle and "table" in obstacle for obstacle in obstacles(describe(flow)))


@pytest.mark.parametrize(
    ("undo", "said"),
    [
        (when(lambda s: True, step(name="u")(lambda: None)), "has no condition"),
        (step(name="u", compensate=lambda: None)(lambda: None), "is not undone"),
        ("refund", "goes on a function"),
    ],
    ids=["condition", "compensation", "text"],
)
def test_what_cannot_undo_a_step_is_refused(undo: object, said: str) -> None:
    """Where it is declared."""
    with pytest.raises(DeclarationError, match=said):
        step(name="a", compensate=undo)(lambda: 1)  # type: ignore[call-overload]


def test_a_step_keeps_its_compensation_under_another_name_and_with_a_condition() -> None:
    """`as_`, `when` and `with_policy` lose nothing; two steps that differ in it are two."""
    undo = step(name="u")(lambda: None)
    one = step(name="a", compensate=undo)(lambda: 1)
    for other in (one.as_("b"), when(lambda s: True, one), one.with_policy(retries=3)):
        assert other.compensation is undo
    bare_one = step(name="a")(lambda: 1)
    assert step(bare_one, compensate=undo).compensation is undo
    assert step(one, retries=2).compensation is undo
    bare = step(name="a")(one.fn)
    with pytest.raises(TopologyError, match="two different steps are called a"):
        graph("f", one >> bare)


@resource
def bank() -> str:
    return "the bank"


def test_a_compensation_may_ask_for_a_resource() -> None:
    """As any step; the flow knows it from the declaration on."""

    def refund(bank: str) -> str:
        return bank

    assert set(graph("f", step(name="a", compensate=refund)(lambda: 1)).resources) == {"bank"}


def test_a_map_takes_no_step_that_can_be_undone() -> None:
    """Nothing would undo its items, and that must not be found out when a run fails."""
    with pytest.raises(DeclarationError, match="not undone one by one"):
        map_(step(name="a", compensate=lambda: None)(lambda x: x), over="xs")
