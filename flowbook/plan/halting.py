"""Halting: what is left of a run that a step has ended, and what it may not go on for ever for.

Owns: the record after a halt, and the limit on how often a node may be reached. Refuses: completing and failing
(`decide.py` wants it, the runner does it).
"""

from __future__ import annotations

from dataclasses import replace

from flowbook.errors import RecursionLimitReached
from flowbook.plan.events import StepFinished
from flowbook.plan.paths import parse
from flowbook.plan.racing import without_losers
from flowbook.plan.records import ROOT, Failure, Halted, Phase, Run, Token


def halted(run: Run, token: Token, event: StepFinished, seq: int) -> Run:
    """The run after a step that ended it: one token is left, at the end, with the state as that step saw it."""
    root = replace(run.tokens[ROOT], at=token.at, path="", phase=Phase.ENDED, view=token.view, deltas=())
    end = Halted(event.path, event.result, event.halts == "result")
    return without_losers(replace(run, seq=seq, tokens={ROOT: root}, scopes={}, halted=end))


def too_often(token: Token, limit: int) -> Failure | None:
    """Why the run fails where a token has come to its node more than ``limit`` times; None: it has not."""
    if parse(token.path)[-1].n <= limit:
        return None  # another token has
    kind = RecursionLimitReached
    message = (
        f"the run has come to {token.at} more than {limit:,} times, which is its recursion limit: the condition that "
        f"should end the cycle may never hold. If so many turns are meant, retry it with more, e.g. "
        f"run.retry(recursion_limit={limit * 5}), or declare the flow with recursion_limit={limit * 5}"
    )
    return Failure(f"{kind.__module__}.{kind.__qualname__}", message, "", kind.code)
