"""Well-formed topologies at random: sequences, forks, choices and loops within each other.

Owns: the Hypothesis strategy `flows`. Every block has one entry and one exit, so that whatever is drawn is a graph
that the checks admit; routers read nothing but the state, so two executions route alike.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypedDict

from hypothesis import strategies as st

from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.pause import Pause, sleep
from flowbook.graph.race import race
from flowbook.graph.step import Step, step


def put(old: dict[str, int], new: dict[str, int]) -> dict[str, int]:
    """The reducer of counters."""
    return {**old, **new}


class Log(TypedDict, total=False):
    """What every step leaves behind."""

    log: Annotated[list[str], operator.add]
    visits: Annotated[dict[str, int], put]
    last: str


class Building:
    """Makes steps and collects topology expressions."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self._numbers: Iterator[int] = itertools.count(1)

    def step(self, word: str) -> Step:
        name = f"{word}{next(self._numbers)}"

        def body(state: dict[str, Any]) -> dict[str, Any]:
            return {"log": [name], "visits": {name: state.get("visits", {}).get(name, 0) + 1}, "last": name}

        return step(name=name, retries=2, backoff=(0,))(body)

    def nap(self) -> Pause:
        return sleep(0.001, name=f"nap{next(self._numbers)}")

    def modulo(self, it: Step, n: int) -> Callable[[Any], int]:
        """A router: how often a step has been visited, modulo n."""
        return lambda s: int(s.visits[it.name]) % n

    def even(self, it: Step) -> Callable[[Any], bool]:
        """A router: True at every second visit of a step."""
        return lambda s: int(s.visits[it.name]) % 2 == 0


def never(_: Any) -> bool:
    """A router."""
    return False


Block = tuple[Any, ...]
"""("step",) | ("nap",) | ("seq", block...) | ("fork", (block, how)...) | ("choice", block...) |
("loop", times, block) | ("race", block...); how is "join", "end" (the branch always ends before the join) or "maybe"
(it ends at every second visit)."""


def blocks_of(*leaves: str, races: bool = False) -> st.SearchStrategy[Block]:
    """Blocks whose smallest parts are these."""
    return st.recursive(
        st.sampled_from([(leaf,) for leaf in leaves]),
        lambda inner: st.one_of(
            st.tuples(st.just("seq"), inner, inner),
            st.lists(st.tuples(inner, st.sampled_from(["join", "join", "maybe", "end"])), min_size=2, max_size=3).map(
                lambda members: ("fork", *members)
            ),
            st.lists(inner, min_size=1, max_size=3).map(lambda cases: ("choice", *cases)),
            st.tuples(st.just("loop"), st.integers(1, 3), inner),
            *([st.lists(inner, min_size=2, max_size=3).map(lambda members: ("race", *members))] if races else []),
        ),
        max_leaves=8,
    )


def build(block: Block, it: Building) -> tuple[Step | Pause, Step | Pause]:
    """(entry, exit) of a block; its edges go to ``it.parts``."""
    match block:
        case ("step",):
            one = it.step("s")
            return one, one
        case ("nap",):
            pause = it.nap()
            return pause, pause
        case ("seq", first, second):
            (a, b), (c, d) = build(first, it), build(second, it)
            it.parts.append(b >> c)
            return a, d
        case ("fork", *members):
            head, meet = it.step("fork"), it.step("join")
            built = [(*build(inner, it), how) for inner, how in members]
            it.parts.append(head >> [entry for entry, _, _ in built])
            # Two branches at least meet, or there would be no join at all.
            hows = ["join", "join", *("join" if how == "join" else how for _, _, how in built[2:])]
            hows[1] = "maybe" if built[1][2] == "maybe" else "join"
            for (_, last, _), how in zip(built, hows, strict=True):
                if how == "join":
                    it.parts.append(last >> meet)
                    continue
                tail = it.step("tail")
                it.parts.append(last >> tail)
                it.parts.append(tail >> branch(it.even(tail) if how == "maybe" else never, {True: meet, False: END}))
            return head, meet
        case ("race", *members):
            head, meet = it.step("race"), it.step("won")
            entries = [build(inner, it) for inner in members]
            it.parts.append(head >> race(*(entry for entry, _ in entries)))
            it.parts += [last >> meet for _, last in entries]
            return head, meet
        case ("choice", *cases):
            head, merge = it.step("choice"), it.step("merge")
            built_cases = [build(inner, it) for inner in cases]
            router = it.modulo(head, len(cases))
            it.parts.append(head >> branch(router, {i: entry for i, (entry, _) in enumerate(built_cases)}))
            it.parts += [last >> merge for _, last in built_cases]
            return head, merge
        case ("loop", times, inner):
            first, last, out = it.step("first"), it.step("last"), it.step("out")
            entry, exit = build(inner, it)
            it.parts += [first >> entry, exit >> last]
            it.parts.append(last >> branch(it.modulo(last, times), {**dict.fromkeys(range(1, times), first), 0: out}))
            return first, out
        case _:
            raise AssertionError(block)


def flow(block: Block) -> Graph:
    """The graph of a block."""
    it = Building()
    entry, last = build(block, it)
    first = it.step("begin")
    return graph("drawn", first >> entry, *it.parts, last >> END, state=Log)


flows: st.SearchStrategy[Graph] = blocks_of("step").map(flow)
racing_flows: st.SearchStrategy[Graph] = blocks_of("step", races=True).map(flow)
"""Flows in which what happens depends on who is faster."""
