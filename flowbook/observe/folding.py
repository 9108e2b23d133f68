"""Folding: a journal read into the view of a run.

Owns: `Folding`, which adds entries as they come, and `view_of`. Refuses: the records (`views.py`), reading the
journal, and the graph's code.

Who watches a run folds all of its entries, while the run is at full speed and in the same process. So the most
frequent entry, a step that has finished, is kept as it is until somebody asks for that step (`Folding.follow`), and
what a picture needs is counted on the way (`Counting`) instead of looked for in all steps at each look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from flowbook.observe.steps import Steps
from flowbook.observe.tallies import Tally
from flowbook.observe.views import AttemptView, Counting, ForkView, RunView, State, StepView, WaitView
from flowbook.plan.events import (
    AttemptFailed,
    CallFinished,
    CancelRequested,
    ChildFinished,
    ChildStarted,
    DecisionTaken,
    Event,
    ItemFinished,
    MapBegan,
    MapFinished,
    RunCancelled,
    RunFailed,
    RunForked,
    RunRetried,
    SignalRefused,
    StepDropped,
    StepFinished,
    StepHandedOut,
    StepStarted,
    UndoingBegan,
    WaitBegan,
    WaitFinished,
)
from flowbook.plan.journal import Entry, from_entry, is_plain, route_of
from flowbook.plan.mapped import Mapped
from flowbook.plan.paths import item_of, node_of
from flowbook.plan.quotes import filled
from flowbook.plan.records import Failure, Status
from flowbook.plan.undoing import undone_by
from flowbook.ports import RunRow

REFUSED = 10
"""Refused payloads that a view keeps per pause."""


def view_of(
    row: RunRow,
    entries: Sequence[Entry],
    *,
    spec: Mapping[str, Any],
    input: Mapping[str, Any],
    running: Mapping[str, int] | None = None,
    needs: str | None = None,
) -> RunView:
    """The view of a run from its row and its whole journal; ``running``: path -> attempt under way in this process."""
    fold = Folding(row.id, spec, input)
    fold.follow(entries)
    return fold.view(row, running or {}, needs)


class Folding:
    """The steps of a view while entries are added: who looks again and again adds only what is new."""

    def __init__(self, run_id: UUID, spec: Mapping[str, Any], input: Mapping[str, Any]) -> None:
        self.run_id, self.spec, self.input = run_id, spec, input
        self.seq = 0
        """The last entry that was added."""
        self.steps = Steps(_whole)
        self._counting = Counting()
        self._ways = {str(n["name"]): len(n.get("ways", ())) for n in spec.get("nodes", ())}
        """Node -> how many ways lead out of it."""
        self.tallies: dict[str, Tally] = {}
        """Path of a map -> its items."""
        self.failure: Failure | None = None
        self.failed_path: str | None = None
        self.cancelled_by: str | None = None
        self.forked: ForkView | None = None
        self.undoing = False

    def add_all(self, entries: Iterable[Entry]) -> None:
        """Add entries, in order, and read them all."""
        for entry in entries:
            self.add(entry)

    def follow(self, entries: Iterable[Entry]) -> None:
        """Add entries, in order; a step that has finished and has no other row is not read before somebody asks."""
        for entry in entries:
            if self.undoing or not is_plain(entry) or not self.steps.say(entry.path, entry):
                self.add(entry)
            self.seq = entry.seq

    def add(self, entry: Entry) -> None:  # noqa: C901  one case per event
        event = from_entry(entry)
        self.seq = entry.seq
        if type(event) is StepFinished and event.quotes:
            event = filled(event, lambda path: self.steps[path].result if path in self.steps else None)
        if type(event) is StepFinished and not self.undoing:
            self._finished(event, entry)
            return
        if entry.path.endswith("]"):
            if isinstance(event, ItemFinished | AttemptFailed | ChildStarted):
                self.tallies[item_of(entry.path)[0]].add(event)
            return
        match event:
            case MapBegan(path, total):
                self.tallies[path] = Tally(total, entry.at)
                self.steps[path] = StepView(
                    path, node_of(path), State.RUNNING, (AttemptView(1, entry.at, None, None),), None, None
                )
            case MapFinished(path):
                self.steps[path] = self._mapped(event, entry)
            case StepStarted(path, attempt):
                self._began(path, attempt, entry)
            case StepFinished(path, attempt, result, _, route, seconds):
                step = self._attempt(path, AttemptView(attempt, None, entry.at, None), State.FINISHED)
                self.steps[path] = replace(step, seconds=seconds, route=route, result=result, retry_at=None)
            case CallFinished(path, attempt, call, seconds):
                self._called(path, attempt, entry, call.result, seconds)
            case AttemptFailed(path, attempt, failure, lost, final, retry_at):
                state = State.FAILED if final else State.RETRYING
                step = self._attempt(path, AttemptView(attempt, None, entry.at, failure, lost), state)
                self.steps[path] = replace(step, retry_at=retry_at)
            case StepHandedOut(path, attempt, _, due):
                step = self._attempt(path, AttemptView(attempt, None, None, None), State.WAITING)
                self.steps[path] = replace(step, wait=WaitView((), entry.at, due, handed_out=True))
            case WaitBegan(path, names, due):
                old = self.steps.get(path)
                wait = WaitView(names, entry.at, due)
                attempts = old.attempts if old else ()  # it timed out before, and the run was retried
                self.steps[path] = StepView(path, node_of(path), State.WAITING, attempts, None, None, wait=wait)
            case SignalRefused(path, _, _, failure):
                step = self.steps.get(path) or StepView(path, node_of(path), State.WAITING, (), None, None)
                wait = step.wait or WaitView((event.name,), entry.at, None)
                self.steps[path] = replace(step, wait=replace(wait, refused=(*wait.refused, failure)[-REFUSED:]))
            case DecisionTaken(path, by, signal, at=at):
                step = self.steps.get(path) or StepView(path, node_of(path), State.WAITING, (), None, None)
                wait = step.wait or WaitView((), None, None)
                self.steps[path] = replace(step, wait=replace(wait, answered_by=by, answered_at=at, answer=signal))
            case WaitFinished(path, result, _, route):
                self.steps[path] = self._woken(path, entry, result, route)
            case StepDropped(path):
                step = self.steps.get(path) or StepView(path, node_of(path), State.CANCELLED, (), None, None)
                self.steps[path] = replace(step, state=State.FAILED if step.state is State.FAILED else State.CANCELLED)
            case ChildStarted(path, child, _, number):
                step = self._attempt(path, AttemptView(number, entry.at, None, None), State.RUNNING)
                self.steps[path] = replace(step, child=child)
            case ChildFinished(path, child, result, _, route):
                self.steps[path] = self._ended(path, entry, child, result, route)
            case _:
                self._of_the_run(event)

    def _of_the_run(self, event: Event) -> None:
        match event:
            case RunFailed(path, failure) | UndoingBegan(path, failure):
                self.undoing = self.undoing or isinstance(event, UndoingBegan)
                self.failure, self.failed_path = failure, path
                if path.endswith("]"):
                    it = self.steps[item_of(path)[0]]
                    self.steps[it.path] = replace(it, state=State.FAILED)
            case RunRetried():
                if not self.undoing:
                    self.failure = self.failed_path = None
                    for tally in self.tallies.values():
                        tally.again()
                for path, step in self.steps.read():
                    if step.state is State.FAILED and bool(step.undoes) is self.undoing:
                        again = State.RUNNING if path in self.tallies else State.RETRYING
                        self.steps[path] = replace(step, state=again)
            case RunForked(path, edits, parent, changes):
                self.forked = ForkView(parent, path, edits, changes)
                for known, step in self.steps.all():
                    self.steps[known] = replace(step, kept=True)
            case CancelRequested(by) | RunCancelled(by):
                self.cancelled_by = by
            case _:
                pass  # the end of a run is told by its row

    def view(self, row: RunRow, running: Mapping[str, int], needs: str | None = None) -> RunView:
        """The view now; ``running``: path -> attempt under way in this process."""
        self._count()
        with self.steps.moment():  # what is true of this moment alone is not kept
            self._now(row.status, running)
            return RunView(
                id=row.id, flow=row.flow, version=row.version, status=row.status, key=row.key, input=self.input,
                spec=self.spec, steps=self.steps.firings(), failure=self.failure, failed_path=self.failed_path,
                created_at=row.created_at, started_at=row.started_at, ended_at=row.ended_at, lost=row.lost,
                seq=self.seq, needs=needs, cancelled_by=self.cancelled_by, metadata=row.metadata, forked=self.forked,
                counted=self._counting.overview(s for s in self.steps.news() if isinstance(s, StepView)),
            )  # fmt: skip

    def _count(self) -> None:
        """Count what is new. Of rows that were not read the latest one of each node is, for the picture."""
        counting, ways = self._counting, self._ways
        for step in self.steps.news():
            if type(step) is Entry:
                node = node_of(step.path)
                way = 0 if ways.get(node) == 1 else route_of(step) or 0
                counting.count_row(step, node, way)
            else:
                counting.count(step)  # type: ignore[arg-type]  # it is no row
        for node in counting.unread:
            if isinstance(row := counting.nodes[node], Entry):
                counting.nodes[node] = self.steps[row.path]
        counting.unread.clear()

    def _now(self, status: Status, running: Mapping[str, int]) -> None:
        items = Counter(item_of(path)[0] for path in running if path.endswith("]"))
        for path, number in running.items():
            if path.endswith("]"):
                continue
            step = self.steps.get(path)
            if step is None or step.state is not State.RUNNING or step.attempts[-1].number != number:
                self._attempt(path, AttemptView(number, None, None, None), State.RUNNING)
        if status.over:
            for path, step in self.steps.read():
                if step.state in (State.RUNNING, State.RETRYING, State.WAITING):
                    self.steps[path] = replace(step, state=State.CANCELLED)
        for path, tally in self.tallies.items():
            self.steps[path] = replace(self.steps[path], items=tally.view(items[path], over=status.over))

    def _finished(self, event: StepFinished, entry: Entry) -> None:
        """A step of the run's own way has finished; `_attempt` does the same for all that can happen."""
        self.steps[event.path] = _done(event, entry, self.steps.get(event.path))

    def _woken(self, path: str, entry: Entry, result: Any, route: int | None) -> StepView:
        """A pause that is over; one that was over at once has no beginning."""
        old = self.steps.get(path)
        wait = old.wait if old else None
        seconds = (entry.at - wait.since).total_seconds() if wait and wait.since and entry.at else 0.0
        attempts = old.attempts if old else ()
        return StepView(path, node_of(path), State.FINISHED, attempts, seconds, route, result, wait=wait)

    def _ended(self, path: str, entry: Entry, child: UUID, result: Any, route: int | None) -> StepView:
        """A child that has completed; its time is that from its start to the hearing of its end."""
        old = self.steps.get(path)
        number = old.attempts[-1].number if old and old.attempts else 1
        step = self._attempt(path, AttemptView(number, None, entry.at, None), State.FINISHED)
        since = step.attempts[-1].started_at
        seconds = (entry.at - since).total_seconds() if since and entry.at else None
        return replace(step, seconds=seconds, route=route, result=result, child=child)

    def _mapped(self, event: MapFinished, entry: Entry) -> StepView:
        """A map that is over; one over nothing has no beginning."""
        path = event.path
        tally = self.tallies.setdefault(path, Tally(event.total, entry.at))
        seconds = (entry.at - tally.since).total_seconds() if entry.at and tally.since else 0.0
        result = Mapped(self.run_id, path, event.total) if event.values is None else event.values
        attempts = (AttemptView(1, tally.since, entry.at, None),)
        return StepView(path, node_of(path), State.FINISHED, attempts, seconds, event.route, result)

    def _began(self, path: str, attempt: int, entry: Entry) -> None:
        if attempt:  # else a body was put aside, and stands where it stood
            self._attempt(path, AttemptView(attempt, entry.at, None, None), State.RUNNING)

    def _called(self, path: str, attempt: int, entry: Entry, result: Any, seconds: float) -> None:
        """A durable call of a body that is over: it may have been a step, a pause, or something that took no time."""
        old = self.steps.get(path)
        if old is not None and old.wait is not None:
            self.steps[path] = self._woken(path, entry, result, None)
            return
        step = self._attempt(path, AttemptView(attempt, None, entry.at, None), State.FINISHED)
        self.steps[path] = replace(step, seconds=seconds, result=result)

    def _attempt(self, path: str, new: AttemptView, state: State) -> StepView:
        """The step with an attempt added, or its last one completed."""
        old = self.steps.get(path)
        attempts = _added(old.attempts if old else (), new)
        wait, child = (old.wait, old.child) if old else (None, None)
        undoes = (undone_by(path) or "") if self.undoing else ""
        step = StepView(path, node_of(path), state, attempts, None, None, wait=wait, child=child, undoes=undoes)
        self.steps[path] = step
        if undoes in self.steps and state is State.FINISHED:
            self.steps[undoes] = replace(self.steps[undoes], state=State.UNDONE)
        return step


def _whole(entry: Entry) -> StepView:
    """The step that a row says all of. Raises `Undecodable` if the row is damaged."""
    event = from_entry(entry)
    if not isinstance(event, StepFinished):
        raise TypeError(f"journal row {entry.seq} is kept for a step that has finished, and is {event!r}")
    return _done(event, entry, None)


def _done(event: StepFinished, entry: Entry, old: StepView | None) -> StepView:
    """A step that has finished; ``old``: what was known of it."""
    path, new = event.path, AttemptView(event.attempt, None, entry.at, None)
    state = State.SKIPPED if event.skipped else State.FINISHED
    if old is None:
        attempts, wait, child = _added((), new), None, None
    else:
        attempts, wait, child = _added(old.attempts, new), old.wait, old.child
    return StepView(
        path, node_of(path), state, attempts, event.seconds, event.route, event.result, wait=wait, child=child
    )


def _added(attempts: tuple[AttemptView, ...], new: AttemptView) -> tuple[AttemptView, ...]:
    """Attempts with one added, or the last one completed."""
    # A retry of the run numbers them from 1 again, so the same number may be another attempt.
    if attempts and attempts[-1].number == new.number and attempts[-1].ended_at is None:
        return (*attempts[:-1], replace(new, started_at=attempts[-1].started_at or new.started_at))
    return (*attempts, new)
