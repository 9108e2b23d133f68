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
from flowbook.show.looks import STATUS, rules
from flowbook.show.painted import layout_of, marks
from flowbook.show.picture import Node, edges, ids, node, traits
from flowbook.show.safe import clean
from flowbook.show.widget import Widget, module, sheet

LAG = 1.0
"""Seconds that the traits may be behind the messages."""
MANY, MANY_LAG = 100, 5.0
"""The same for a flow with more nodes than so many: all of them go each time."""


class LiveRun(Widget):
    """A run on a page.

    ``on_cancel`` is called when its button is pressed. ``on_settled`` is called with
    the newest view when the traits have caught up, for whoever keeps a still picture beside the live one.
    """

    _esm = module("dom", "picture", "live")
    _css = sheet("base", "picture", "live") + rules(".fb")

    picture = traitlets.Dict().tag(sync=True)
    """What `picture.traits` says."""
    nodes = traitlets.Dict().tag(sync=True)
    """Node id -> what `picture.node` says of it."""
    edges: traitlets.List[int] = traitlets.List().tag(sync=True)
    """The edges that were taken."""
    head = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        view: RunView,
        on_cancel: Callable[[], object],
        on_settled: Callable[[RunView], object] = lambda view: None,
    ) -> None:
        self._layout = layout_of(view)
        self._ids = ids(self._layout)
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
        self._taken = edges(view, self._layout)
        super().__init__(
            {"cancel": lambda args: (on_cancel(), None)[1]},
            picture=traits(self._layout),
            nodes=self._known,
            edges=self._taken,
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
            gone = edges(view, self._layout)
            more = sorted(set(gone) - set(self._taken))
            self._known, self._view, self._taken = new, view, gone
            if delta or more:
                self.send({"nodes": delta, "edges": more})
            status = head(view, now)
            coarse = status != self.head
            if coarse:
                self.head = status
            if delta or more or coarse:
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
        with self.hold_sync():
            self.nodes, self.edges = self._known, self._taken
        self._on_settled(self._view)


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
