"""Progress: a run on its way, on a terminal or in a log.

Owns: `follow`, which shows a run until it is over. Refuses: carrying it (the engine does) and the final picture (the
command prints it).

On a terminal the run's table stays in place and changes; elsewhere each change is one line on standard error, so that
standard output has the answer alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from flowbook.cli.bar import bar_for
from flowbook.cli.output import aside
from flowbook.observe.views import RunView, State, StepView
from flowbook.show.safe import clean, duration
from flowbook.show.text import run_table

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.ports import RunRow


Show = Callable[[RunView], None]
"""Something that is told how the run looks now."""


async def follow(app: App, row: RunRow, *, quiet: bool = False) -> RunView:
    """Show a run until it is over; the last view of it."""
    if row.status.over and not app.engine.carries(row.id):
        return await app.view(row.id)
    with _screen(quiet) as show:
        stop = app.watch(row.id, show)
        try:
            await app.engine.over(row.id)
        finally:
            stop()
        view = await app.view(row.id)
        show(view)
    return view


@contextlib.contextmanager
def _screen(quiet: bool) -> Iterator[Show]:
    if quiet:
        yield lambda view: None
        return
    console = aside()
    if not console.is_terminal:
        yield Lines(lambda text: console.print(Text(text)))
        return
    with Live(console=console, transient=True, refresh_per_second=10) as live:
        draw: list[Callable[[RunView], RenderableType]] = []

        def show(view: RunView) -> None:
            if not draw:
                draw.append(bar_for(view) or run_table)
            live.update(draw[0](view))

        yield show


class Lines:
    """One line per change."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._seen: dict[str, tuple[State, int]] = {}
        self._first = True

    def __call__(self, view: RunView) -> None:
        if self._first:
            self._first = False
            kept = sum(s.state is State.FINISHED for s in view.steps)
            self._write(f"run {view.id}: {kept} finished step{'' if kept == 1 else 's'} kept")
            # What a dead process had begun looks as if it still ran: only news from here on is told.
            self._seen = {s.path: _place(s) for s in view.steps}
        for step in view.steps:
            place = _place(step)
            if self._seen.get(step.path) == place:
                continue
            self._seen[step.path] = place
            number = place[1]
            failure = step.attempts[-1].failure if step.attempts else None
            took = f" in {duration(step.seconds)}" if step.seconds is not None else ""
            why = f": {clean(failure.message, 200)}" if failure and step.state is not State.RUNNING else ""
            again = f" (attempt {number})" if number > 1 else ""
            self._write(f"{clean(step.path, 80)} {step.state}{took}{again}{why}")


def _place(step: StepView) -> tuple[State, int]:
    return step.state, step.attempts[-1].number if step.attempts else 0
