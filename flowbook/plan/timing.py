"""Timing: when a run has had its time.

Owns: the moment that ``run_timeout`` comes to, and what the run fails with then. Refuses: clocks.

The moment is reckoned from the database's time of the run's first claim, which is on its row, or from that of its last
retry, which is in its journal. So neither a crash nor a parked night moves it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from flowbook.errors import RunTimedOut
from flowbook.graph.durations import spoken
from flowbook.graph.flow import Graph
from flowbook.plan.records import Failure, Run


def time_limit(graph: Graph, run: Run) -> datetime | None:
    """When the run's time is up; None: never."""
    if graph.run_timeout is None or run.since is None:
        return None
    return run.since + timedelta(seconds=graph.run_timeout)


def timed_out(graph: Graph) -> Failure:
    """What is said of a run whose time is up."""
    return Failure(
        "flowbook.errors.RunTimedOut",
        f"the run took longer than the {spoken(graph.run_timeout or 0.0)} of its flow's run_timeout, and what was "
        f"under way was stopped. A retry goes on where it was, and has as long again",
        "",
        RunTimedOut.code,
    )
