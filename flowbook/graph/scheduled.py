"""Schedules that are declared with a flow: ``@fb.scheduled("0 6 * * *")`` and ``fb.pipeline(..., cron=)``.

Owns: keeping the options beside the graph, where they are no part of its identity. Refuses: checking and storing them
(`flowbook/scheduling.py`); a worker that has the flow does that when it begins to work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from flowbook.errors import DeclarationError
from flowbook.graph.flow import Graph, graph
from flowbook.graph.step import Step, step

OPTIONS: Final = frozenset(
    {"cron", "every", "at", "tz", "input", "on_missed", "window", "overlap", "queue", "priority"}
)


def with_schedule(it: Graph, options: Mapping[str, Any]) -> Graph:
    """The same flow with a schedule, if options of one are given. Raises `DeclarationError` for one without a time."""
    if not options:
        return it
    if not {"cron", "every", "at"} & options.keys():
        raise DeclarationError(
            f"flow {it.name!r} has {', '.join(sorted(options))} for a schedule, and no time: add cron=, every= or at="
        )
    return replace(it, schedule=dict(options))


def scheduled(cron: str | None = None, *, name: str | None = None, **options: Any) -> Callable[[Any], Graph]:
    """Make a function a flow of one step, run at its times: ``@scheduled("0 6 * * *", tz="Europe/Berlin")``.

    ``options`` are those of `App.schedule` (``every``, ``at``, ``on_missed``, ``overlap``, ``input``, ...) and of
    `step`. The schedule exists once a worker that has the flow works (``flowbook worker --module``). Raises
    `DeclarationError`.
    """

    def wrap(fn: Any) -> Graph:
        times = {key: options[key] for key in OPTIONS & options.keys()}
        others = {key: value for key, value in options.items() if key not in OPTIONS}
        if cron is not None:
            times["cron"] = cron
        made = fn if isinstance(fn, Step) and not others else step(fn, **others)
        return with_schedule(graph(name or made.name, made), times)

    return wrap
