"""Timelines: when each step of a run was queued, at work, waiting or tried again.

Owns: `timeline_of`, a pure function from a view to lanes of bars. Refuses: drawing (`show/timeline.py`), and reading
the journal: a view has all that is needed.

A lane is a node; its firings are bars, and those that overlap go on tracks below each other. What the journal does not
say is worked out: a short attempt writes no beginning, so it begins its own seconds before its end; a step could have
begun when the last of the steps that lead to it had ended, and until it did it was *queued*.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from flowbook.observe.tallies import ItemsView
from flowbook.observe.views import AttemptView, RunView, State, StepView

TRACKS = 12
"""Tracks of a lane; what overlaps more often than that goes onto the last one."""
_SHORT = timedelta(milliseconds=100)
"""An attempt that is longer has a row that says so: it was under way for this long when the row was made."""
_VAGUE = 2 * _SHORT
"""That row may be late by as much again, so of such an attempt a shorter queue is not told."""
_TICK = timedelta(milliseconds=2)
"""Queues that are shorter are the engine's own time, and no news."""


class Part(StrEnum):
    """What a step did for a while."""

    QUEUED = "queued"
    """It could have begun."""
    RUNNING = "running"
    """An attempt was at work, and ended well or goes on."""
    FAILED = "failed"
    """An attempt was at work, and failed."""
    LOST = "lost"
    """An attempt was at work, and its process died."""
    BACKOFF = "backoff"
    """Between two attempts."""
    WAITING = "waiting"
    """For a signal, a time, or who has its token."""
    CHILD = "child"
    """Another run was going on there."""


@dataclass(frozen=True, slots=True)
class Span:
    """One of these whiles."""

    part: Part
    start: datetime
    end: datetime
    """Of what goes on: the moment of looking."""
    attempt: int = 0
    """From 1; 0: it is no attempt."""
    note: str = ""
    """The error of a failed attempt, what is waited for."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One firing."""

    path: str
    state: State
    spans: tuple[Span, ...]
    """In order; never empty."""
    child: UUID | None = None
    items: ItemsView | None = None

    @property
    def start(self) -> datetime:
        """When it could have begun."""
        return self.spans[0].start

    @property
    def end(self) -> datetime:
        """When it was over."""
        return self.spans[-1].end


@dataclass(frozen=True, slots=True)
class Lane:
    """One node, or one durable call that bodies make."""

    name: str
    depth: int
    """0: a node of the flow; 1: a call of its body, and so on."""
    tracks: tuple[tuple[Bar, ...], ...]
    """Each in order, and without overlap unless there are `TRACKS` of them."""

    @property
    def bars(self) -> int:
        """How many firings there are."""
        return sum(map(len, self.tracks))


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run in time."""

    start: datetime
    end: datetime
    """The end of the run, or the moment of looking."""
    began: datetime | None
    """When somebody first carried it; until then the run itself was queued."""
    lanes: tuple[Lane, ...]
    """In the order in which their nodes were first reached."""
    kept: int
    """Steps that were taken over from the run that this one was forked from; they took no time here."""


def timeline_of(view: RunView, now: datetime) -> Timeline:
    """The timeline of a run as it is at ``now``."""
    end = view.ended_at or max(now, view.created_at)
    ready = _Ready(view)
    lanes: dict[str, _Lane] = {}
    kept = 0
    for step in view.steps:
        if step.kept:
            kept += 1
            continue
        bar = _bar(step, ready, end)
        if bar is None:
            continue
        ready.over(step, bar)
        key = "/".join(part.partition("#")[0] for part in step.path.split("/"))
        lane = lanes.get(key)
        if lane is None:
            lane = lanes[key] = _Lane(_name(step), key.count("/"), bar.start)
        lane.add(bar)
    made = tuple(Lane(it.name, it.depth, tuple(map(tuple, it.tracks))) for _, it in _in_order(lanes))
    latest = max((bar.end for lane in made for track in lane.tracks for bar in track[-1:]), default=end)
    return Timeline(view.created_at, max(end, latest), view.started_at, made, kept)


class _Ready:
    """When steps could have begun: when those before them in the topology had ended."""

    def __init__(self, view: RunView) -> None:
        self._began = view.started_at or view.created_at
        self._entry = frozenset(view.spec.get("entry") or ())
        self._before: dict[str, list[str]] = defaultdict(list)
        for node in view.spec.get("nodes") or ():
            for way in node.get("ways") or ():
                for target in way:
                    self._before[target].append(node["name"])
        self._ends: dict[str, list[datetime]] = defaultdict(list)

    def over(self, step: StepView, bar: Bar) -> None:
        """A firing has ended."""
        if "/" not in step.path and step.state in (State.FINISHED, State.SKIPPED, State.UNDONE):
            ends = self._ends[step.node]
            ends.append(max(bar.end, ends[-1]) if ends else bar.end)

    def of(self, step: StepView, start: datetime | None) -> datetime | None:
        """When a firing could have begun, at the latest ``start``; None: who knows."""
        if "/" in step.path or step.undoes:
            return None
        found = self._began if step.node in self._entry and step.path.endswith("#1") else None
        for node in self._before[step.node]:
            ends = self._ends[node]
            at = len(ends) if start is None else bisect_right(ends, start + _TICK)
            if at:
                found = max(found, ends[at - 1]) if found else ends[at - 1]
        return start if found and start and found > start else found


@dataclass(slots=True)
class _Lane:
    name: str
    depth: int
    since: datetime
    tracks: list[list[Bar]] = field(default_factory=list)

    def add(self, bar: Bar) -> None:
        for track in self.tracks:
            if track[-1].end <= bar.start + _TICK:
                track.append(bar)
                return
        if len(self.tracks) < TRACKS:
            self.tracks.append([bar])
        else:
            self.tracks[-1].append(bar)


def _in_order(lanes: Mapping[str, _Lane]) -> Iterable[tuple[str, _Lane]]:
    """Lanes as they were first reached, those of a body's calls below their body."""
    first = {key: lane.since for key, lane in lanes.items()}

    def place(key: str) -> list[tuple[datetime, str]]:
        parts = key.split("/")
        above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        return [(first.get(one, lanes[key].since), one) for one in above]

    return sorted(lanes.items(), key=lambda it: place(it[0]))


def _name(step: StepView) -> str:
    return f"{step.node} (undo)" if step.undoes else step.node


def _bar(step: StepView, ready: _Ready, end: datetime) -> Bar | None:
    if step.wait is not None and not step.attempts:
        spans: Sequence[Span] = _wait(step, end)
    else:
        spans = _attempts(step, ready, end)
    if not spans:
        return None
    return Bar(step.path, step.state, tuple(spans), step.child, step.items)


def _wait(step: StepView, end: datetime) -> list[Span]:
    wait = step.wait
    if wait is None or wait.since is None:
        return []
    over = end if step.seconds is None else wait.since + timedelta(seconds=step.seconds)
    return [Span(Part.WAITING, wait.since, over, note=wait.wanted)]


def _attempts(step: StepView, ready: _Ready, end: datetime) -> list[Span]:
    spans: list[Span] = []
    count = len(step.attempts)
    for i, attempt in enumerate(step.attempts):
        last = i == count - 1
        over = attempt.ended_at
        start, latest, before = *_begin(step, attempt, last), spans[-1].end if spans else None
        if before is None:
            before = ready.of(step, latest)
        if not i and latest != start and start and before and start - before < _VAGUE:
            start = before
        if start is None:
            start = before or end
        if before is not None and start < before:
            start = before
        if before is not None and start - before > _TICK:
            spans.append(Span(Part.BACKOFF if i else Part.QUEUED, before, start))
        goes_on = over is None and last and step.state not in (State.FINISHED, State.FAILED)
        over = max(start, over or (end if goes_on else start))
        note = f"{attempt.failure.type}: {attempt.failure.message}" if attempt.failure else ""
        spans.append(Span(_part(step, attempt.failure is not None, attempt.lost), start, over, attempt.number, note))
    return _behind(step, spans, end)


def _begin(step: StepView, attempt: AttemptView, last: bool) -> tuple[datetime | None, datetime | None]:
    """When an attempt began, and when at the latest: not the same where it is only known by how much."""
    row, over = attempt.started_at, attempt.ended_at
    if step.child is not None or step.items is not None:
        return row, row  # made when they began
    if last and over is not None and step.seconds is not None:
        start = over - timedelta(seconds=step.seconds)
        return start, start
    if row is not None:
        return row - _SHORT, row
    return (over - _SHORT, over) if over is not None else (None, None)


def _behind(step: StepView, spans: list[Span], end: datetime) -> list[Span]:
    """What follows the last attempt: a wait for another one, or for who has the token."""
    if not spans:
        return spans
    after = spans[-1].end
    if step.state is State.RETRYING and end > after:
        until = min(end, step.retry_at) if step.retry_at else end
        if until > after:
            spans.append(Span(Part.BACKOFF, after, until))
        if end - max(after, until) > _TICK:
            spans.append(Span(Part.QUEUED, max(after, until), end))
    elif step.wait is not None and step.wait.handed_out and step.wait.since is not None:
        over = end if step.state is State.WAITING else after
        spans[-1] = _until(spans[-1], step.wait.since)
        spans.append(Span(Part.WAITING, spans[-1].end, max(over, spans[-1].end), note=step.wait.wanted))
    return spans


def _until(span: Span, end: datetime) -> Span:
    return Span(span.part, span.start, max(span.start, end), span.attempt, span.note)


def _part(step: StepView, failed: bool, lost: bool) -> Part:
    if lost:
        return Part.LOST
    if failed:
        return Part.FAILED
    return Part.CHILD if step.child is not None else Part.RUNNING


def facts(bar: Bar) -> dict[str, Any]:
    """Seconds per part, and how many attempts there were."""
    spent: dict[str, float] = defaultdict(float)
    for span in bar.spans:
        spent[span.part.value] += (span.end - span.start).total_seconds()
    return {"spent": dict(spent), "attempts": sum(1 for s in bar.spans if s.attempt)}
