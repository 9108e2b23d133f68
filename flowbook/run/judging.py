"""Judging: what a failed attempt comes to.

Owns: the event of an attempt that failed: whether it was the last one, and when the next may begin. Refuses: recording
it (`runner.py`) and the rule itself (`plan/decide.py`, `Step.retries_on`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowbook.errors import (
    CallsChanged,
    DeclarationError,
    PayloadTooLarge,
    StepFailed,
    TransactionLost,
    Unencodable,
    ValueRefused,
)
from flowbook.graph.flow import Graph
from flowbook.graph.mapping import Map
from flowbook.graph.places import Place
from flowbook.graph.step import Policy, Step
from flowbook.plan.commands import StartStep
from flowbook.plan.decide import judge
from flowbook.plan.events import AttemptFailed
from flowbook.plan.records import Failure, Run, Trouble
from flowbook.plan.undoing import undoer
from flowbook.run.calls import Wanted
from flowbook.run.failures import failure_of, lost, named
from flowbook.run.tools import Tools

HOPELESS = (DeclarationError, ValueRefused, StepFailed, PayloadTooLarge, CallsChanged)
"""Another attempt would have the same end: the effect would be repeated for nothing."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the attempts of one run."""

    graph: Graph
    tools: Tools
    called: Callable[[str], Wanted | None]
    """The durable call at a path; None: there is none."""
    told: Callable[[AttemptFailed, BaseException | None], AttemptFailed]
    """Adds to a failure what has to do with calls."""

    def failed(self, run: Run, command: StartStep, error: BaseException) -> AttemptFailed:
        """An attempt that raised, or ran out of time."""
        place = self._place(command.path)
        step = place.step if isinstance(place, Map) else place
        final = isinstance(error, HOPELESS) or (isinstance(step, Step) and not step.retries_on(error))
        if isinstance(error, TransactionLost):
            return self._judged(run, command.path, command.attempt, failure_of(error), lost=True)
        failure = failure_of(named(error, command.node) if isinstance(error, Unencodable) else error)
        if final:
            event = AttemptFailed(command.path, command.attempt, failure, lost=False, final=True, retry_at=None)
        else:
            event = self._judged(run, command.path, command.attempt, failure, lost=False)
        return self.told(event, error)

    def lost(self, run: Run, path: str, number: int) -> AttemptFailed:
        """An attempt that died with its process."""
        return self.told(self._judged(run, path, number, lost(path, number), lost=True), None)

    def _place(self, path: str) -> Place | None:
        """What is tried at a path; None: it is a pause of a body."""
        undone = undoer(self.graph, path)
        if undone:
            return self.graph.compensations[undone]
        wanted = self.called(path)
        return self.graph.nodes[path.partition("#")[0]].step if wanted is None else wanted.step

    def _judged(self, run: Run, path: str, number: int, failure: Failure, *, lost: bool) -> AttemptFailed:
        place = self._place(path)
        policy = Policy() if place is None else place.policy
        trouble = run.troubles.get(path, Trouble())
        verdict = judge(policy, trouble, lost=lost, now=self.tools.clock.now(), roll=self.tools.roll())
        return AttemptFailed(path, number, failure, lost, verdict.final, verdict.retry_at)
