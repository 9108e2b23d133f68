"""Pipelines: flows as lists.

Owns: `pipeline`, the list form and its decorator. Refuses: what the list means (`forms.py`), and what a graph checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

from flowbook.graph.flow import Graph, graph
from flowbook.graph.forms import listed
from flowbook.graph.scheduled import OPTIONS, with_schedule


@overload
def pipeline(name: type, /) -> Graph: ...
@overload
def pipeline(name: str, steps: Sequence[Any], **options: Any) -> Graph: ...
@overload
def pipeline(*, name: str | None = None, **options: Any) -> Callable[[type], Graph]: ...


def pipeline(name: Any = None, steps: Sequence[Any] | None = None, **options: Any) -> Graph | Callable[[type], Graph]:
    """A flow as a list: ``fb.pipeline("daily", [load, step(clean, when=dirty), parallel(stats, plot), report])``.

    Each stands behind the one before; a list or `parallel` within is a fork, which the next step joins. A plain
    function becomes a step. ``options`` are those of `graph`, and those of a schedule: ``cron="0 6 * * *"`` has workers
    that know the flow run it then (`scheduled`). On a class with ``steps = [...]`` it is a decorator,
    ``@pipeline`` or ``@pipeline(name="daily")``, as `graph` is. Raises what `graph` raises, and `DeclarationError` for
    what is no list.
    """
    if isinstance(name, type):
        return graph(name)
    times = {key: options.pop(key) for key in OPTIONS & options.keys()}
    if steps is None:
        decorator: Callable[[type], Graph] = graph(name=name, **options)
        return lambda cls: with_schedule(decorator(cls), times)
    return with_schedule(graph(name, listed(steps), **options), times)
