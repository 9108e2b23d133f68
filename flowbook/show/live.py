"""The live widget: a run's picture that changes in place.

Owns: what is sent to the page and how often. Refuses: watching the run (whoever shows it calls `LiveRun.update`), doing
what its buttons say (the door hands in who answers) and what stays when the run is over (`html.py`): an output with a
widget in it shows nothing once the kernel is gone.

The picture is sent once. After that go *deltas*, only the nodes that changed, as messages: whole pictures at 10 Hz
freeze the page. A page that is loaded again reads the traits and no messages, so the traits catch up at most `LAG`
seconds later. All calls may come from any thread.

What the page asks (`widget.py` says how): ``step {node}``, answered here with the record of `detail.py`, and
``expand {all}``; where the door can make one, ``child {node}`` for the run that was started there, in this one's place,
and ``back {}``; and, if the door has an answer to it, ``cancel {}``, ``resume {}``, ``retry {}``, ``answer {path,
signal, payload?}`` for a pause, ``approve {path, payload?}`` and ``reject {path, payload?, why?}`` for a step that was
handed out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import traitlets

from flowbook.errors import UsageError
from flowbook.ids import short
from flowbook.observe.views import RunView, State, StepView
from flowbook.plan.records import Status
from flowbook.show.decisions import open_decisions
from flowbook.show.detail import detail
from flowbook.show.grouped import group_mark, grouped, spokesman
from flowbook.show.html import summary
from flowbook.show.layout import arrange
from flowbook.show.looks import STATUS, rules
from flowbook.show.painted import layout_of, mark
from flowbook.show.picture import Node, edges, ids, node, traits
from flowbook.show.safe import clean
from flowbook.show.widget import Answer, Widget, module, sheet

LAG = 1.0
"""Seconds that the traits may be behind the messages."""
MANY, MANY_LAG = 100, 5.0
"""The same for a flow with more nodes than so many: all of them go each time."""
CROWD = 60
"""With more places than so many a flow is shown in groups first, where it has chains (`grouped.py`)."""


Opening = Callable[[UUID], tuple[Widget, Callable[[], object]]]
"""From a run to what shows it, and what ends that."""


class LiveRun(Widget):
    """A run on a page.

    ``answers`` are called when a button is pressed; a button whose kind has no answer is not there. ``on_settled`` is
    called with the newest view when the traits have caught up, for whoever keeps a still picture beside the live one.
    ``opening`` makes the view of a run that was started at a step; None: it cannot be opened here.
    """

    _esm = module("dom", "picture", "decisions", "detail", "live")
    _css = sheet("base", "picture", "live") + rules(".fb")

    picture = traitlets.Dict().tag(sync=True)
    """What `picture.traits` says."""
    nodes = traitlets.Dict().tag(sync=True)
    """Node id -> what `picture.node` says of it."""
    edges: traitlets.List[int] = traitlets.List().tag(sync=True)
    """The edges that were taken."""
    head = traitlets.Dict().tag(sync=True)
    opens = traitlets.Bool(default_value=False).tag(sync=True)
    """Whether the run that was started at a step can be opened in this one's place."""
    opened = traitlets.Dict().tag(sync=True)
    """``ref`` of the widget that shows it, ``at``: the step's path; empty: none is opened."""

    def __init__(
        self,
        view: RunView,
        answers: Mapping[str, Answer],
        on_settled: Callable[[RunView], object] = lambda view: None,
        opening: Opening | None = None,
    ) -> None:
        self._opening = opening
        self._end: Callable[[], object] = lambda: None
        """Ends what is opened."""
        self._kinds = frozenset(answers)
        self._on_settled = on_settled
        self._view = view
        self._guard = threading.Lock()
        self._late: threading.Timer | None = None
        self._last_trait = time.monotonic()
        self._drawn: dict[str, tuple[StepView, int]] = {}
        """Node -> the firing that the page has been told of, and which one it is."""
        self._began: dict[str, tuple[tuple[str, int], datetime]] = {}
        """Node -> attempt under way, and since when."""
        now = datetime.now(UTC)
        self._lay(view, now, everything=False)
        self._lag = LAG if len(self._ids) <= MANY else MANY_LAG
        self._head = self._heading(view, now)
        super().__init__(
            {"step": self._step, "expand": self._expand, "child": self._open, "back": self._back, **answers},
            picture=self._once(),
            nodes=dict(self._known),
            edges=self._taken,
            head=self._head,
            opens=opening is not None,
        )

    def __repr__(self) -> str:
        """What a front end without widgets shows."""
        return f"<live view of run {self.head['run']} of {self.head['flow']}>"

    def update(self, view: RunView, now: datetime | None = None) -> None:
        """Show ``view``: what has changed, at once."""
        now = now or datetime.now(UTC)
        with self._guard:
            nodes, more, head = self._delta(view, now), self._more_edges(view), self._heading(view, now)
            told = {"nodes": nodes, "edges": more, "head": head if head != self._head else None}
            told = {what: it for what, it in told.items() if it}
            self._known |= nodes
            self._head, self._view = head, view
            if told:
                self.send({**told, "sent": round(time.time() * 1000)})
                self._catch_up(at_once=view.status.over)

    def close(self) -> None:
        """Take it off the page."""
        if self._late is not None:
            self._late.cancel()
        self._end()
        super().close()

    # -- the picture ---------------------------------------------------------------------------------------------------

    def _lay(self, view: RunView, now: datetime, *, everything: bool) -> None:
        """Lay the picture out, in groups if it is a crowd, and begin with what is true of it now."""
        layout, self._groups, self._crowd = layout_of(view), {}, False
        if len(layout.topology.places) > CROWD:
            topology, groups = grouped(layout.topology)
            self._crowd = bool(groups)
            if groups and not everything:
                layout, self._groups = arrange(topology), dict(groups)
        self._layout, self._ids = layout, dict(ids(layout))
        self._ids |= {name: group for group, names in self._groups.items() for name in names}
        self._drawn.clear()
        self._known: dict[str, Node] = {}
        self._known = self._delta(view, now)
        self._gone = view.overview.gone, len(view.nodes)
        self._taken = edges(view, layout)

    def _once(self) -> dict[str, Any]:
        """What the page is told of the picture; ``groups``: how many there are, None: none can be made."""
        return {**traits(self._layout), "groups": len(self._groups) if self._crowd else None}

    # -- what has changed ----------------------------------------------------------------------------------------------

    def _delta(self, view: RunView, now: datetime) -> dict[str, Node]:
        """Nodes that are not as the page knows them. One that was not reached is left out: all begin as pending."""
        found: dict[str, Node] = {}
        overview = view.overview
        for name, step in overview.nodes.items():
            drawn, firings = self._drawn.get(name), overview.firings.get(name, 1)
            if drawn is not None and drawn[0] is step and drawn[1] == firings and step.state is not State.RETRYING:
                continue
            self._drawn[name] = step, firings
            if (group := self._ids.get(name)) in self._groups:
                told = node(group_mark(self._groups[group], overview))
                if self._known.get(group) != told:
                    found[group] = told
                continue
            it = mark(step, now, firings)
            if it.state is State.RUNNING:
                it = replace(it, since=self._since(name, step, it.since, now))
            known = self._ids.get(name)
            if known is not None and self._known.get(known) != (told := node(it)):
                found[known] = told
        return found

    def _since(self, name: str, step: StepView, since: datetime | None, now: datetime) -> datetime:
        """The journal need not say when an attempt began; then its clock starts when it is first seen."""
        attempt = step.path, len(step.attempts)
        known = self._began.get(name)
        at = since or (known[1] if known and known[0] == attempt else now)
        self._began[name] = attempt, at
        return at

    def _more_edges(self, view: RunView) -> list[int]:
        gone = view.overview.gone, len(view.nodes)
        if gone == self._gone:
            return []
        old, self._taken, self._gone = self._taken, edges(view, self._layout), gone
        return sorted(set(self._taken) - set(old))

    def _heading(self, view: RunView, now: datetime) -> dict[str, Any]:
        decisions = open_decisions(view, self._ids) if {"answer", "approve", "reject"} <= self._kinds else []
        return {
            **head(view, now),
            "can": [kind for kind in possible(view) if kind in self._kinds],
            "decisions": decisions,
        }

    # -- traits --------------------------------------------------------------------------------------------------------

    def _catch_up(self, *, at_once: bool) -> None:
        if at_once:
            self._write_traits()
        elif self._late is None:
            # Never on the thread that watches: it is the engine's, and a still picture of 500 nodes takes its time.
            left = self._last_trait + self._lag - time.monotonic()
            self._late = threading.Timer(max(0.0, left), self._write_later)
            self._late.daemon = True
            self._late.start()

    def _write_later(self) -> None:
        with self._guard:
            self._write_traits()

    def _write_traits(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        self._last_trait = time.monotonic()
        with self.hold_sync():
            self.nodes, self.edges, self.head = dict(self._known), self._taken, self._head
        self._on_settled(self._view)

    # -- questions -----------------------------------------------------------------------------------------------------

    def _expand(self, args: Mapping[str, Any]) -> None:
        """Show all steps of a crowd, or its groups again."""
        with self._guard:
            self._lay(self._view, datetime.now(UTC), everything=bool(args.get("all")))
            with self.hold_sync():
                self.picture, self.nodes, self.edges = self._once(), dict(self._known), self._taken

    def _open(self, args: Mapping[str, Any]) -> None:
        """Show the run that was started at a step in this one's place."""
        node = next((name for name, known in self._ids.items() if known == args.get("node")), "")
        step = self._view.nodes.get(node)
        if step is None or step.child is None or self._opening is None:
            raise UsageError(f"no run was started at {node!r}")
        widget, end = self._opening(step.child)
        before, self._end = self._end, end
        self.opened = {"ref": f"anywidget:{widget.model_id}", "at": clean(step.path, 200)}
        before()

    def _back(self, args: Mapping[str, Any]) -> None:
        before, self._end = self._end, lambda: None
        self.opened = {}
        before()

    def _step(self, args: Mapping[str, Any]) -> dict[str, Any]:
        group = self._groups.get(str(args.get("node")))
        if group:
            return detail(self._view, spokesman(group, self._view.overview), datetime.now(UTC))
        name = next((name for name, known in self._ids.items() if known == args.get("node")), None)
        return {} if name is None else detail(self._view, name, datetime.now(UTC))


def possible(view: RunView) -> tuple[str, ...]:
    """What can be done to a run now, as kinds of questions."""
    if view.status is Status.FAILED:
        return () if view.undone else ("retry",)
    if view.status.over:
        return ()
    cancel = () if view.cancelled_by else ("cancel",)
    return ("resume", *cancel) if view.status is Status.PENDING and not view.needs else cancel


def head(view: RunView, now: datetime) -> dict[str, Any]:
    """What the page is told of the run as a whole."""
    look, word = STATUS[view.status]
    facts = summary(view, now)
    if view.started_at:  # the page has a clock of its own
        del facts[1]
    return {
        "flow": clean(view.flow, 80),
        "run": short(view.id),
        "command": f"%flow show {short(view.id)}",
        "status": view.status.value,
        "word": f"{look.sign} {word}",
        "facts": [f"v{view.version}", *(clean(f, 120) for f in facts)],
        "started": round(view.started_at.timestamp() * 1000) if view.started_at else None,
        "ended": round(view.ended_at.timestamp() * 1000) if view.ended_at else None,
        "over": view.status.over,
        "error": clean(f"{view.failure.type}: {view.failure.message}", 300) if view.failure else "",
        "enter": clean(f"%flow enter {short(view.id)} {view.failed_path}", 200) if _to_enter(view) else "",
        "needs": clean(f"It stands still: it needs {view.needs}", 300) if view.needs else "",
    }


def _to_enter(view: RunView) -> bool:
    return view.status is Status.FAILED and bool(view.failed_path)
