"""The live widget: a run's picture that changes in place.

Owns: what is sent to the page and how often. Refuses: watching the run (whoever shows it calls `LiveRun.update`) and
what stays when the run is over (`html.py`): an output with a widget in it shows nothing once the kernel is gone.

The picture is sent once. After that go *deltas*, only the nodes that changed, as messages: whole pictures at 10 Hz
freeze the page. A page that is loaded again reads the traits and no messages, so the trait ``nodes`` catches up at
most `LAG` seconds later. All calls may come from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import traitlets

from flowbook.ids import short
from flowbook.observe.views import RunView, State
from flowbook.show.html import summary
from flowbook.show.looks import LOOKS, STATUS, rules
from flowbook.show.painted import layout_of, marks
from flowbook.show.safe import clean
from flowbook.show.svg import LEAST, Mark, draw
from flowbook.show.topology import Kind
from flowbook.show.widget import Widget, module, sheet

LAG = 1.0
"""Seconds that the traits may be behind the messages."""
MANY, MANY_LAG = 100, 5.0
"""The same for a flow with more nodes than so many: all of them go each time."""

Node = dict[str, Any]


class LiveRun(Widget):
    """A run on a page.

    ``on_cancel`` is called when its button is pressed. ``on_settled`` is called with
    the newest view when the traits have caught up, for whoever keeps a still picture beside the live one.
    """

    _esm = module("dom", "live")
    _css = sheet("live") + rules(".fb-live")

    svg = traitlets.Unicode().tag(sync=True)
    least = traitlets.Float(LEAST).tag(sync=True)
    icons = traitlets.Dict().tag(sync=True)
    nodes = traitlets.Dict().tag(sync=True)
    """Node id -> what `node` says of it."""
    head = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        view: RunView,
        on_cancel: Callable[[], object],
        on_settled: Callable[[RunView], object] = lambda view: None,
    ) -> None:
        layout = layout_of(view)
        self._ids = {b.place.name: b.place.id for b in layout.boxes if b.place.kind is Kind.STEP}
        self._on_settled = on_settled
        self._view = view
        self._lag = LAG if len(self._ids) <= MANY else MANY_LAG
        self._guard = threading.Lock()
        self._late: threading.Timer | None = None
        self._last_trait = time.monotonic()
        self._seen: dict[tuple[str, int], datetime] = {}
        """Attempt under way -> since when."""
        now = datetime.now(UTC)
        self._known = self._nodes(view, now)
        super().__init__(
            {"cancel": lambda args: (on_cancel(), None)[1]},
            svg=draw(layout, {}),
            icons={str(state): look.icon for state, look in LOOKS.items()},
            nodes=self._known,
            head=head(view, now),
        )

    def __repr__(self) -> str:
        """What a front end without widgets shows."""
        return f"<live view of run {self.head['run']} of {self.head['flow']}>"

    def update(self, view: RunView, now: datetime | None = None) -> None:
        """Show ``view``: the nodes that changed at once."""
        now = now or datetime.now(UTC)
        with self._guard:
            new = self._nodes(view, now)
            delta = {i: n for i, n in new.items() if self._known.get(i) != n}
            self._known, self._view = new, view
            if delta:
                self.send({"nodes": delta})
            status = head(view, now)
            coarse = status != self.head
            if coarse:
                self.head = status
            if delta or coarse:
                self._catch_up(at_once=view.status.over)

    def close(self) -> None:
        """Take it off the page."""
        if self._late is not None:
            self._late.cancel()
        super().close()

    def _nodes(self, view: RunView, now: datetime) -> dict[str, Node]:
        """A node that has not been reached is left out: the picture begins with all of them pending."""
        told = {}
        seen: dict[tuple[str, int], datetime] = {}
        for name, mark in marks(view, now).items():
            if mark.state is State.RUNNING:
                step = view.nodes[name]
                attempt = (step.path, len(step.attempts))
                # The journal need not say when an attempt began; then its clock starts when it is first seen.
                seen[attempt] = mark.since or self._seen.get(attempt, now)
                mark = replace(mark, since=seen[attempt])
            if name in self._ids:
                told[self._ids[name]] = node(mark)
        self._seen = seen
        return told

    def _catch_up(self, *, at_once: bool) -> None:
        left = self._last_trait + self._lag - time.monotonic()
        if at_once or left <= 0:
            self._write_trait()
        elif self._late is None:
            self._late = threading.Timer(left, self._write_later)
            self._late.daemon = True
            self._late.start()

    def _write_later(self) -> None:
        with self._guard:
            self._write_trait()

    def _write_trait(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self._last_trait = time.monotonic()
        self.nodes = self._known
        self._on_settled(self._view)


def node(mark: Mark) -> Node:
    """What the page is told of a node. A clock's text goes as a pattern, so that a second that passes is no news."""
    start = mark.since if mark.state is State.RUNNING else mark.until
    if mark.clocked and start:
        return {"s": mark.state.value, "c": mark.clocked, "at": round(start.timestamp() * 1000), "b": mark.title}
    return {"s": mark.state.value, "t": clean(mark.text, 200), "b": mark.title}


def head(view: RunView, now: datetime) -> dict[str, Any]:
    """What the page is told of the run as a whole."""
    look, word = STATUS[view.status]
    facts = summary(view, now)
    if view.started_at:  # the page has a clock of its own
        del facts[1]
    return {
        "flow": clean(view.flow, 80),
        "run": short(view.id),
        "status": view.status.value,
        "word": f"{look.sign} {word}",
        "facts": [f"v{view.version}", *(clean(f, 120) for f in facts)],
        "started": round(view.started_at.timestamp() * 1000) if view.started_at else None,
        "ended": round(view.ended_at.timestamp() * 1000) if view.ended_at else None,
        "over": view.status.over,
        "error": clean(f"{view.failure.type}: {view.failure.message}", 300) if view.failure else "",
        "needs": clean(f"It stands still: it needs {view.needs}", 300) if view.needs else "",
    }
