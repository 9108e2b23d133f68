"""Driving a run by hand: what the runner does, without a loop, a store or a clock.

Owns: `Drive`, which starts what `decide` wants and ends attempts in the order that a test says; every event goes
through its bytes. Refuses: asserting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from flowbook.graph.binding import StateView, bind, call
from flowbook.graph.flow import Graph
from flowbook.graph.results import interpret
from flowbook.graph.state import merge
from flowbook.plan.apply import apply, begin, fold
from flowbook.plan.commands import Command, CompleteRun, StartStep
from flowbook.plan.decide import decide, judge
from flowbook.plan.events import AttemptFailed, Event, RunCompleted, StepFinished, StepStarted
from flowbook.plan.journal import Entry, from_entry, to_entry
from flowbook.plan.records import Failure, Phase, Run, Token, Trouble

ID = UUID(int=7)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
BOOM = Failure("ValueError", "boom", "Traceback: boom")


@dataclass
class Drive:
    """A run and its journal."""

    graph: Graph
    run: Run
    journal: list[Entry]
    saw: dict[str, Mapping[str, Any]]
    """Path -> the state that its step saw."""
    input: Mapping[str, Any]

    @classmethod
    def of(cls, graph: Graph, **input: Any) -> Drive:
        return cls(graph, begin(graph, ID, input), [], {}, input)

    # -- looking

    def wanted(self) -> tuple[Command, ...]:
        return decide(self.graph, self.run, NOW)

    def ready(self) -> dict[str, StartStep]:
        """Path -> what ought to be running."""
        return {c.path: c for c in self.wanted() if isinstance(c, StartStep)}

    def token(self, path: str) -> Token:
        return next(t for t in self.run.tokens.values() if t.path == path and t.phase is Phase.READY)

    @property
    def values(self) -> Mapping[str, Any]:
        return self.run.view.values

    @property
    def finished(self) -> list[str]:
        """Paths in the order in which they finished."""
        return [e.path for e in self.journal if e.kind == "finished"]

    # -- acting

    def tell(self, event: Event) -> Drive:
        """An event happens: it becomes a row, and what the row says is applied."""
        entry = replace(to_entry(event), seq=self.run.seq + 1, at=NOW)
        self.run = apply(self.graph, self.run, from_entry(entry), entry.seq)
        self.journal.append(entry)
        return self

    def outcome(self, path: str) -> StepFinished:
        """What the step at a path makes of what it sees; nothing is changed."""
        command = self.ready()[path]
        node = self.graph.nodes[command.node]
        view = self.run.tokens[command.token].view
        self.saw[path] = dict(view.values)
        step = self.graph.step_at(command.node)
        returned = call(step, bind(step, view.values, view.results, None))
        result, update = interpret(step, self.graph.schema, returned)
        route = None
        if node.router is not None:
            route = node.route(node.router(StateView(merge(self.graph.schema, view.values, update))))
            assert route is not None
        return StepFinished(path, command.attempt, result, update, route, 0.0)

    def finish(self, *paths: str) -> Drive:
        for path in paths:
            self.tell(self.outcome(path))
        return self

    def started(self, path: str) -> Drive:
        return self.tell(StepStarted(path, self.ready()[path].attempt))

    def fail(self, path: str, *, lost: bool = False, roll: float = 0.0) -> Drive:
        """The attempt at a path fails, and is judged as the runner judges it."""
        command = self.ready()[path]
        policy = self.graph.nodes[command.node].step.policy
        verdict = judge(policy, self.run.troubles.get(path, Trouble()), lost=lost, now=NOW, roll=roll)
        return self.tell(AttemptFailed(path, command.attempt, BOOM, lost, verdict.final, verdict.retry_at))

    def to_end(self, choose: Callable[[list[str]], str] = lambda paths: paths[0]) -> Drive:
        """Finish what is ready, one by one, until the run is complete. Raises AssertionError where it stands still."""
        for _ in range(2_000):
            if self.wanted() == (CompleteRun(),):
                return self.tell(RunCompleted())
            ready = list(self.ready())
            assert ready, f"nothing is wanted and the run has not ended: {self.run}"
            self.finish(choose(ready))
        raise AssertionError("the run does not end")

    def folded(self, *, started: bool = True) -> Run:
        """The run, folded from its input and the rows of its journal."""
        rows = [e for e in self.journal if started or e.kind != "started"]
        beginning = begin(self.graph, ID, self.input)
        return fold(self.graph, beginning, [(e.seq, from_entry(e)) for e in rows])
