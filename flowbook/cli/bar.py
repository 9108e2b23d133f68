"""The bar: a notebook on its way, in two lines.

Owns: how many cells are done, and which is under way, as a picture for a terminal. Refuses: other runs (their steps are
told one by one) and pipes (`progress.py` writes a line per change).
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.text import Text

from flowbook.ids import short
from flowbook.notebooks.cells import Cell, number_of, steps_of
from flowbook.observe.views import RunView, State
from flowbook.show.safe import clean, duration
from flowbook.show.text import status_text


def bar_for(view: RunView) -> Callable[[RunView], RenderableType] | None:
    """What draws this notebook's run from now on; None: it is no notebook's."""
    document = view.input.get("document")
    if not isinstance(document, bytes) or "notebook" not in view.input:
        return None
    cells = steps_of(json.loads(zlib.decompress(document)))
    return lambda now: drawn(now, cells)


def drawn(view: RunView, cells: tuple[Cell, ...], at: datetime | None = None) -> RenderableType:
    """The bar of a run of these cells."""
    steps: Mapping[str, Any] = view.nodes
    done = sum(step.state is State.FINISHED for step in steps.values())
    begun = view.started_at or view.created_at
    seconds = ((view.ended_at or at or datetime.now(UTC)) - begun).total_seconds()
    head = Text.assemble(
        (clean(view.flow, 60), "bold"), "  ", (short(view.id), "cyan"), "  ", status_text(view.status),
        (f"  {done}/{len(cells)} cells  {duration(max(seconds, 0.0))}", "dim"),
    )  # fmt: skip
    lines: list[RenderableType] = [head, ProgressBar(total=max(len(cells), 1), completed=done, width=60)]
    for name, step in steps.items():
        if step.state is State.RUNNING:
            cell = cells[number_of(name) - 1]
            lines.append(Text(f"cell {cell.number}: {clean(cell.shown, 70)}"))
    return Group(*lines)
