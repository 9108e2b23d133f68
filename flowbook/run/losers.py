"""Losers: what becomes of attempts whose branch has lost a race.

Owns: telling the journal who lost, and stopping what is still under way. Refuses: deciding who wins (`plan/tokens.py`).

An attempt is stopped only after the winner's row is durable, and nobody waits for its end: a thread cannot be stopped
at all. Whatever still comes of it finds no token at its path, and is dropped (`standing_at`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from typing import Any

from flowbook.graph.flow import Graph
from flowbook.plan.apply import apply
from flowbook.plan.calls import is_call
from flowbook.plan.events import StepDropped
from flowbook.plan.journal import Entry, to_entry
from flowbook.plan.paths import home
from flowbook.plan.racing import dropped, standing
from flowbook.plan.records import ROOT, Phase, Run

_stopped: set[asyncio.Task[Any]] = set()
"""A loop keeps no strong reference to its tasks."""


def standing_at(run: Run, path: str) -> bool:
    """Does a token wait for the outcome of this path, or for that of the body that made this call?

    Once things are undone: is it the compensation that is due?
    """
    if run.undoing is not None:
        return path in standing(run)
    if run.tokens[ROOT].path == path:  # the common case: nothing is forked
        return run.tokens[ROOT].phase is Phase.READY
    if is_call(run, path):
        return True
    return run.at(home(path)) is not None


def with_losers(graph: Graph, before: Run, after: Run, entry: Entry) -> tuple[Run, list[Entry]]:
    """The run after an outcome, and the outcome's entry with one more for each path that lost by it."""
    entries = [entry]
    for path in dropped(before, after, entry.path) if graph.races else ():
        event = StepDropped(path)
        after = apply(graph, after, event)
        entries.append(to_entry(event))
    return after, entries


def stop_losers(run: Run, tasks: MutableMapping[str, asyncio.Task[None]]) -> Iterator[str]:
    """Cancel the attempts at whose paths no token stands any more, and forget them; yields the paths."""
    left = standing(run)
    for path in [p for p in tasks if home(p) not in left and not is_call(run, p)]:
        task = tasks.pop(path)
        task.cancel()
        _stopped.add(task)
        task.add_done_callback(_stopped.discard)
        yield path
