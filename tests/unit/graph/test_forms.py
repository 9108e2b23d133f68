"""State machines, lists and classes: other ways to write the same graphs."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, TypedDict

import pytest

import flowbook as fb
from flowbook.errors import DeclarationError, TopologyError
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import START_NODE as START
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.forms import snake_case
from flowbook.graph.pipeline import pipeline
from flowbook.graph.race import parallel, race
from flowbook.graph.rebuild import rebuild
from flowbook.graph.source import describe
from flowbook.graph.step import Step, step
from tests.unit.graph.test_race import _stored, shape

Write = Callable[..., ModuleType]


def _step(name: str) -> Step:
    def body() -> None: ...

    return step(name=name)(body)


a, b, c, d, e, f = map(_step, "abcdef")


def pick(s: Any) -> Any:
    """A router."""
    return s.x


def problems(make: Callable[[], Any]) -> tuple[str, ...]:
    """What is wrong with a flow."""
    with pytest.raises(TopologyError) as caught:
        make()
    return caught.value.problems


# ------------------------------------------------------------------------------------------------------ state machines


def test_entry_and_terminal_say_where_a_machine_begins_and_ends() -> None:
    """By the nodes or by their names; the same graph as with START and END."""
    cycle = b >> branch(pick, {"again": a, "ok": c, "no": d})
    plain = graph("m", START >> a >> b, cycle, c >> END, d >> END)
    assert shape(graph("m", a >> b, cycle, entry=a, terminal=[c, d])) == shape(plain)
    assert shape(graph("m", a >> b, cycle, entry="a", terminal=("c", "d"))) == shape(plain)


def test_an_entry_may_stand_in_a_cycle() -> None:
    """Where no node has nothing before it, it says which comes first."""
    cycle = a >> b >> branch(pick, {True: a, False: c})
    assert graph("m", cycle, entry=b, terminal=c).entry == ("b",)


def test_mistakes_of_a_machine_are_told_at_once_with_names() -> None:
    """A terminal that leads on, a dead end that is not terminal, a name that nothing has, what cannot be reached."""
    said = problems(lambda: graph("m", a >> branch(pick, {1: b, 2: c}), d >> e, entry="x", terminal=[a, "c"]))
    text = "\n".join(said)
    assert "entry or terminal names 'x', which the topology does not" in text
    assert "b leads nowhere and is not terminal" in text
    assert "e leads nowhere and is not terminal" in text
    assert "a has a branch behind it and also leads to END" in text
    assert "no way leads from START to d and e" in "\n".join(problems(lambda: graph("m", a >> b, d >> e, entry=a)))
    assert "leads to END and to" in text or "forks to END" in "\n".join(
        problems(lambda: graph("m", a >> b >> c, entry=a, terminal=[b, c]))
    )


# --------------------------------------------------------------------------------------------------------------- lists


def test_a_list_is_a_chain() -> None:
    """Steps, plain functions, conditions, forks and races; options are those of a graph."""

    def plain() -> None: ...

    made = pipeline("p", [a, step(b, when=pick), parallel(c, plain_step := step(plain)), e, race(d, f)], outputs=["x"])
    assert shape(made) == shape(graph("p", a >> step(b, when=pick) >> [c, plain_step] >> e >> race(d, f)))
    assert made.step_at("b").guard is pick
    assert made.outputs == ("x",)
    assert set(pipeline("p", [plain, a, [b, c], d]).nodes) == {"plain", "a", "b", "c", "d"}
    assert fb.pipeline is pipeline


@pytest.mark.parametrize("steps", [[], "abc", None.__class__, 7, a >> b], ids=repr)
def test_what_is_no_list_is_no_pipeline(steps: Any) -> None:
    """Said before anything runs."""
    with pytest.raises(DeclarationError, match="a list of steps"):
        pipeline("p", steps)


def test_a_mistake_in_a_list_is_told_with_all_others() -> None:
    """Each with its node."""
    said = problems(lambda: pipeline("p", [a, "b", parallel(c, lambda: 1), [race(d, e), a]]))
    assert len(said) >= 3
    assert "'b' is a text" in "\n".join(said)


# ------------------------------------------------------------------------------------------------------------- classes


def test_a_class_is_a_flow() -> None:
    """Its name in snake_case, its docstring, its attributes as options."""

    class State(TypedDict, total=False):
        report: str

    class DailyReport:
        """Loads and reports."""

        state = State
        outputs = ("report",)
        recursion_limit = 7
        steps = (a, parallel(b, c), d)

    made = fb.pipeline(DailyReport)
    assert shape(made) == shape(graph("x", a >> [b, c] >> d))
    assert (made.name, made.doc) == ("daily_report", "Loads and reports.")
    assert (made.outputs, made.recursion_limit) == (("report",), 7)
    assert made.schema is not None
    assert made.schema.source is State
    assert describe(made).spec["doc"] == "Loads and reports."


def test_a_class_may_be_a_state_machine() -> None:
    """Its steps may be written in it; the decorator's options count before the class's."""

    class Machine:
        recursion_limit = 5

        @step
        def draft(topic: str) -> dict[str, Any]:  # noqa: N805 - a step, not a method
            return {"text": topic}

        @step
        def check(text: str) -> bool:  # noqa: N805 - likewise
            return bool(text)

        done = _step("done")
        nodes = (draft, check, done)
        topology = (draft >> check, check >> branch(lambda s: s.check, {True: done, False: draft}))
        entry = draft
        terminal = done

    made = fb.graph(name="review", recursion_limit=9)(Machine)
    assert (made.name, made.recursion_limit, made.entry) == ("review", 9, ("draft",))
    assert set(made.nodes) == {"draft", "check", "done"}
    assert made.step_at("draft")("x") == {"text": "x"}


def test_nodes_and_topology_of_a_class_must_agree() -> None:
    """What one has and the other has not is told."""

    def declare() -> None:
        @fb.graph
        class Odd:
            nodes = (a, b, e)
            topology = a >> b >> c

    assert problems(declare) == (
        "nodes names e, and no way leads to it or from it",
        "the topology names c, which nodes does not",
    )


@pytest.mark.parametrize("body", [{}, {"steps": [a], "topology": a}], ids=["neither", "both"])
def test_a_class_has_steps_or_a_topology(body: dict[str, Any]) -> None:
    """And not both, and not neither; what is no class is refused."""
    with pytest.raises(DeclarationError, match="either steps"):
        fb.graph(type("Odd", (), body))
    with pytest.raises(DeclarationError, match="stand on a class"):
        fb.graph(name="x")(a)  # type: ignore[arg-type]


def test_names_become_snake_case() -> None:
    """As the flows' names are written."""
    names = {"DailyReport": "daily_report", "HTTPFetch": "http_fetch", "ETL2Load": "etl2_load", "x": "x"}
    assert {name: snake_case(name) for name in names} == names


def test_a_class_comes_back_from_its_source(write: Write) -> None:
    """Its steps too, where they were written in it: the rebuilt flow is the same definition."""
    made = write(
        """
        import flowbook as fb
        @fb.graph
        class Review:
            '''Checks.'''
            outputs = ["text"]
            recursion_limit = 50
            @step(when=lambda s: s.topic)
            def draft(topic): return {"text": topic}
            @step
            def stop(): return fb.halt("x")
            topology = draft >> fb.race(stop, fb.sleep("1h"))
        """
    ).Review
    again = rebuild(_stored(made), key=b"k" * 32)
    assert again.fingerprint == made.fingerprint
    assert shape(again) == shape(made)
    assert (again.doc, again.outputs, again.recursion_limit) == ("Checks.", ("text",), 50)
    assert again.step_at("draft").guard is not None
    assert again.step_at("draft").guard is not made.step_at("draft").guard
