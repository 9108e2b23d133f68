"""Judging: what a failed attempt comes to.

Owns: the event of an attempt that failed: whether it was the last one, and when the next may begin. Refuses: recording
it (`runner.py`) and the rule itself (`plan/decide.py`, `Step.retries_on`).
"""

from __future__ import annotations

from dataclasses import dataclass

from flowbook.errors import DeclarationError, PayloadTooLarge, StepFailed, TransactionLost, Unencodable, ValueRefused
from flowbook.graph.flow import Graph
from flowbook.graph.mapping import Map
from flowbook.graph.step import Step
from flowbook.plan.commands import StartStep
from flowbook.plan.decide import judge
from flowbook.plan.events import AttemptFailed
from flowbook.plan.records import Failure, Run, Trouble
from flowbook.run.failures import failure_of, lost, named
from flowbook.run.tools import Tools

HOPELESS = (DeclarationError, ValueRefused, StepFailed, PayloadTooLarge)
"""Another attempt would have the same end: the effect would be repeated for nothing."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the attempts of one run."""

    graph: Graph
    tools: Tools

    def failed(self, run: Run, command: StartStep, error: BaseException) -> AttemptFailed:
        """An attempt that raised, or ran out of time."""
        place = self.graph.nodes[command.node].step
        step = place.step if isinstance(place, Map) else place
        final = isinstance(error, HOPELESS) or (isinstance(step, Step) and not step.retries_on(error))
        if isinstance(error, TransactionLost):
            return self._judged(run, command.path, command.attempt, failure_of(error), lost=True)
        failure = failure_of(named(error, command.node) if isinstance(error, Unencodable) else error)
        if final:
            return AttemptFailed(command.path, command.attempt, failure, lost=False, final=True, retry_at=None)
        return self._judged(run, command.path, command.attempt, failure, lost=False)

    def lost(self, run: Run, path: str, number: int) -> AttemptFailed:
        """An attempt that died with its process."""
        return self._judged(run, path, number, lost(path, number), lost=True)

    def _judged(self, run: Run, path: str, number: int, failure: Failure, *, lost: bool) -> AttemptFailed:
        policy = self.graph.nodes[path.partition("#")[0]].step.policy
        trouble = run.troubles.get(path, Trouble())
        verdict = judge(policy, trouble, lost=lost, now=self.tools.clock.now(), roll=self.tools.roll())
        return AttemptFailed(path, number, failure, lost, verdict.final, verdict.retry_at)
