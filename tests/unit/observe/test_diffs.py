"""Differences of two runs: where they part, and in what."""

from __future__ import annotations

import io
from typing import Any
from uuid import UUID

from rich.console import Console

from flowbook.graph.flow import Graph, graph
from flowbook.graph.step import step
from flowbook.observe.diffs import Diff, Side, alike, compare
from flowbook.plan.apply import begin
from flowbook.plan.records import Status
from flowbook.plan.traces import trace
from flowbook.show.compared import diff_html
from flowbook.show.diff import diff_plain, diff_table
from tests.unit.plan.driving import ID, Drive


def flow(sign: str = "+") -> Graph:
    """a gives x, b makes y of it, c stands beside it."""
    a = step(name="a")(lambda n: {"x": n})
    b = step(name="b")(lambda x: {"y": f"{sign}{x}"})
    c = step(name="c")(lambda m=0: {"z": m})
    d = step(name="d")(lambda y, z: f"{y} {z}")
    return graph("two", a >> [b, c] >> d)


def side(drive: Drive, number: int = 1, status: Status = Status.COMPLETED, *, code: bool = True) -> Side:
    beginning = begin(drive.graph, ID, drive.input)
    told = trace(drive.graph, beginning, drive.journal) if code else trace(None, None, drive.journal)
    return Side(UUID(int=number), "two", number, status, told)


def differ(a: Drive, b: Drive, **more: Any) -> Diff:
    return compare(side(a), side(b, 2), **more)


def test_equal_runs_have_no_difference_whatever_the_order_in_which_things_finished() -> None:
    """Steps are told apart by their paths."""
    one = Drive.of(flow(), n=1).finish("a#1", "b#1", "c#1").to_end()
    other = Drive.of(flow(), n=1).finish("a#1", "c#1", "b#1").to_end()
    found = differ(one, other)
    assert found.same
    assert (found.first, found.steps, found.alike, found.state) == (None, (), 4, ())
    assert "no difference: 4 steps alike" in diff_plain(found)


def test_the_first_difference_is_where_they_part() -> None:
    """With what differs there; what follows from it comes behind."""
    found = differ(Drive.of(flow(), n=1, m=7).to_end(), Drive.of(flow("-"), n=1, m=7).to_end())
    assert found.first is not None
    assert (found.first.path, found.first.what) == ("b#1", ("result",))
    assert [(s.path, s.what, s.inputs) for s in found.steps[1:]] == [("d#1", ("input", "result"), ("y",))]
    assert found.state is not None
    assert [(k.key, k.a, k.b) for k in found.state] == [("y", "+1", "-1"), ("d", "+1 7", "-1 7")]


def test_another_input_is_told_at_the_step_that_was_given_it() -> None:
    """And not at the one beside it."""
    found = differ(Drive.of(flow(), n=1).to_end(), Drive.of(flow(), n=2).to_end())
    assert [(s.path, s.inputs) for s in found.steps] == [("a#1", ("n",)), ("b#1", ("x",)), ("d#1", ("y",))]
    assert found.alike == 1


def test_steps_that_only_one_has_and_failures_are_told() -> None:
    """The end of the shorter one is a difference as well."""
    failed = Drive.of(flow(), n=1).finish("a#1", "c#1").fail("b#1")
    found = compare(side(Drive.of(flow(), n=1).to_end()), side(failed, 2, Status.FAILED))
    assert [(s.path, s.what) for s in found.steps] == [("b#1", ("result", "failure")), ("d#1", ("only in a",))]
    assert found.state is not None
    assert [(k.key, k.in_a, k.in_b) for k in found.state] == [
        ("y", True, False),
        ("z", True, False),
        ("d", True, False),
    ]
    assert "ValueError: boom" in diff_plain(found)


def test_changed_code_is_a_difference_even_where_it_made_none() -> None:
    """With what is different in it."""
    one = Drive.of(flow(), n=1).to_end()
    found = differ(one, one, code=("step `b` changed",), changed=frozenset({"b"}))
    assert not found.same
    assert [(s.path, s.what) for s in found.steps] == [("b#1", ("code",))]
    assert "code: step `b` changed" in diff_plain(found)


def test_without_the_code_results_are_compared_alone() -> None:
    """And it is said."""
    one, other = Drive.of(flow(), n=1).to_end(), Drive.of(flow(), n=2).to_end()
    found = compare(side(one, code=False), side(other, 2))
    assert found.state is None
    assert [s.what for s in found.steps] == [("result",), ("result",), ("result",)]
    assert "the states are not compared" in diff_plain(found)


def test_values_are_alike_if_they_are_stored_alike() -> None:
    """Tables and arrays as a whole; NaN is itself; 1 and True are two."""
    import numpy as np

    assert alike(np.arange(3), np.arange(3))
    assert not alike(np.arange(3), np.arange(4))
    assert alike(float("nan"), float("nan"))
    assert not alike(1, True)
    assert not alike({"a": 1}, {"a": 1.0})


def test_everything_shown_is_escaped() -> None:
    """A value can never run script, nor style a terminal."""
    bad = "<script>alert(1)</script>[bold]"
    found = differ(Drive.of(flow(), n=bad).to_end(), Drive.of(flow(), n="x").to_end())
    html = diff_html(found)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(diff_table(found))
    assert "[bold]" in console.export_text()
