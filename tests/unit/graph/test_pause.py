"""Pauses in a topology: what is declared, what is refused, and what comes back from the stored source."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypedDict

import pytest

from flowbook.errors import DeclarationError, TopologyError, UsageError
from flowbook.graph.carried import packed, unpacked
from flowbook.graph.changes import changes
from flowbook.graph.durations import seconds, spoken
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.pause import Pause, sleep, wait, wait_any
from flowbook.graph.source import describe
from flowbook.graph.step import step, when
from tests.unit.graph.test_rebuild import again

Write = Callable[..., ModuleType]


@step
def draft() -> dict[str, Any]:
    return {"text": "..."}


@step
def publish() -> None: ...


@step
def revise() -> None: ...


@step
def escalate() -> None: ...


@pytest.mark.parametrize("text", ["2d", "1h30m", "250ms", "0s", "1d1h1m1s1ms"])
def test_a_duration_is_told_as_it_is_read(text: str) -> None:
    """The label of a time-out is part of the definition, so it must be one text for one length."""
    assert spoken(seconds(text)) == text


def test_every_signal_and_the_time_has_a_way_on() -> None:
    """In the order in which they are written, the time last."""
    flow = graph(
        "f", draft >> wait_any({"approved": publish, "rejected": revise}, timeout="2d", on_timeout=escalate),
        revise >> draft,
    )  # fmt: skip
    node = flow.nodes["approved_or_rejected"]
    assert node.labels == ("approved", "rejected", "after 2d")
    assert node.ways == (("publish",), ("revise",), ("escalate",))
    assert flow.nodes["revise"].ways == (("draft",),)
    assert flow.signals.keys() == {"approved", "rejected"}


def test_a_wait_with_a_time_out_leads_on_to_what_follows() -> None:
    """And so does the open end of the way for the time-out, as behind a branch; END is the end."""
    flow = graph("f", draft >> wait("approved", timeout=60, on_timeout=escalate) >> publish)
    assert flow.nodes["approved"].ways == (("publish",), ("escalate",))
    assert flow.nodes["escalate"].ways == (("publish",),)
    ends = graph("g", draft >> wait("approved", timeout=60, on_timeout=END) >> publish)
    assert ends.nodes["approved"].ways == (("publish",), ())
    last = graph("h", draft >> wait("approved", timeout=60, on_timeout=draft))
    assert last.nodes["approved"].ways == ((), ("draft",))


def test_a_wait_stands_wherever_a_step_may() -> None:
    """First, last, in a fork, in the case of a branch, before a branch."""
    flow = graph(
        "f",
        wait("go") >> [wait("left"), wait("right")] >> draft
        >> branch(lambda s: s.text, {"a": wait("a", timeout=1, on_timeout=END), "b": sleep("1h")})
        >> wait("last"),
    )  # fmt: skip
    assert flow.entry == ("go",)
    assert flow.joins["go", 0] == "draft"
    assert flow.nodes["a"].ways == (("last",), ())
    assert flow.nodes["sleep_1h"].ways == (("last",),)


@pytest.mark.parametrize(
    ("declare", "says"),
    [
        (lambda: wait("not a name"), "cannot be a signal's name"),
        (lambda: wait("go", on_timeout=publish), "no timeout="),
        (lambda: wait_any({}), "wait for nothing"),
        (lambda: wait_any({"a": publish}, schema={"b": int}), "does not wait for"),
        (lambda: wait("go", schema=3), "is no class"),  # type: ignore[arg-type]
        (lambda: wait("go", timeout="9999999w"), "more than a hundred years"),
        (lambda: sleep("soon"), "is not a duration"),
        (lambda: when(lambda s: True, sleep(1)), "only a step can be skipped"),  # type: ignore[arg-type]
        (lambda: when(publish, revise), "the condition is a function"),
        (lambda: when(lambda s: True, when(lambda s: True, publish)), "has a condition already"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(declare: Callable[[], Any], says: str) -> None:
    """With the reason, before anything runs."""
    with pytest.raises((DeclarationError, UsageError), match=says):
        declare()


def test_mistakes_around_pauses_are_reported_with_the_others() -> None:
    """Two pauses of one name, a payload for a key that is not there, an unknown way on."""

    class State(TypedDict, total=False):
        """One key."""

        text: str

    with pytest.raises(TopologyError) as caught:
        graph("f", draft >> wait("go") >> publish >> wait("go"), state=State)
    assert "two different pauses are called go" in str(caught.value)
    with pytest.raises(TopologyError) as caught:
        graph("f", wait("go", into="nowhere") >> wait_any({"a": len}, name="b"), state=State)
    assert "'nowhere', which the state does not declare" in str(caught.value)
    assert "'len' is a plain function" in str(caught.value)


WRITTEN = """
from dataclasses import dataclass
from flowbook.graph.pause import sleep, wait, wait_any
from flowbook.graph.step import when

@dataclass
class Approval:
    by: str

LIMIT = 3

def large(s):
    return s.n > LIMIT

@step
def a(): return {"n": 1}
@step
def b(): ...
@step
def c(): ...
flow = graph("f", a >> when(large, b) >> wait_any({"yes": c, "no": a}, timeout="2d", on_timeout=END, schema=Approval,
             into="answer") >> sleep(1.5))
"""


def test_pauses_and_conditions_come_back_from_the_stored_source(write: Write) -> None:
    """With their schemas, times and ways; and the fingerprint is the same."""
    flow = write(WRITTEN).flow
    made = again(flow)
    assert made.fingerprint == flow.fingerprint
    pause = made.nodes["yes_or_no"].step
    assert isinstance(pause, Pause)
    assert (pause.names, pause.seconds, pause.into) == (("yes", "no"), 172_800.0, "answer")
    assert pause.signals[0].schema is not None
    assert pause.signals[0].schema.__name__ == "Approval"
    assert made.nodes["yes_or_no"].labels == ("yes", "no", "after 2d")
    step_b = made.step_at("b")
    assert step_b.guard is not None
    assert [step_b.guard(type("S", (), {"n": n})) for n in (3, 4)] == [False, True]


def test_a_change_of_a_wait_or_a_condition_is_a_change_of_the_flow(write: Write) -> None:
    """And is told in words."""
    old = write(WRITTEN).flow
    for before, after, says in (
        ('"2d"', '"3d"', "`yes_or_no`: its time is 3d instead of 2d"),
        ("s.n > LIMIT", "s.n >= LIMIT", "the condition of `b` changed"),
        ("sleep(1.5)", "sleep(2.5, name='sleep_1s500ms')", "`sleep_1s500ms`: its time is 2s500ms instead of 1s500ms"),
        ('into="answer"', 'into="said"', "`yes_or_no` puts its payload into said"),
    ):
        new = write(WRITTEN.replace(before, after)).flow
        assert new.fingerprint != old.fingerprint
        assert says in changes(describe(old), describe(new))


def test_a_pickled_flow_carries_its_pauses() -> None:
    """Also conditions, which source may not be able to rebuild."""
    pytest.importorskip("cloudpickle")
    flow = graph("f", when(lambda s: True, draft) >> wait("go", schema=int) >> publish)
    made = unpacked("f", packed(flow))
    assert made.nodes["go"].step == flow.nodes["go"].step
    assert pickle.loads(pickle.dumps(flow.nodes["go"].step)) == flow.nodes["go"].step
    step_draft = made.step_at("draft")
    assert step_draft.guard is not None
