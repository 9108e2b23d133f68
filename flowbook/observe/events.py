"""Events: what has happened to a run, for whoever looks on; each a frozen record (``fb.events``).

Owns: the public records, and making them from journal rows and chunks. Refuses: reading these (`streaming.py`), and
what only the engine needs to know of a row (`plan/events.py`).

An event knows its *position*: a short text, to be kept and given to ``run.stream(after=position)``, which goes on
behind it. A reader who writes down the position of what he has dealt with misses nothing and gets nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from flowbook.plan import events as plan
from flowbook.plan.journal import Entry, from_entry
from flowbook.plan.records import Failure
from flowbook.plan.streamed import Chunk

Shown = Callable[[Any], Any]
"""Makes of a stored value what callers get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """What all events have."""

    run_id: UUID
    position: str
    """Where to go on from: ``run.stream(after=event.position)``."""
    at: datetime | None
    """When it was written, by the database's clock."""


@dataclass(frozen=True, slots=True)
class StepStarted(RunEvent):
    """An attempt has been under way for a while. Advisory: of one that was quick there is no such event, and text that
    it streams may come before it.
    """

    path: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Streamed(RunEvent):
    """A step has said something before it is done (``ctx.stream``). No answer: that is the step's result alone."""

    path: str
    attempt: int
    text: str
    channel: str = "text"
    begins: bool = False
    """True: what came from this path before, if anything, is void; its text begins here."""


@dataclass(frozen=True, slots=True)
class StepFinished(RunEvent):
    """A step, an item of a map, or a durable call has its result."""

    path: str
    attempt: int
    """The one that finished; 0: an item of a map failed, and ``result`` is the `ItemError` in its place."""
    result: Any
    """None for items that a fork has from the run before it."""
    seconds: float = 0.0
    """How long the attempt's body ran."""
    skipped: bool = False
    """True: its condition did not hold, so nothing ran."""


@dataclass(frozen=True, slots=True)
class AttemptFailed(RunEvent):
    """An attempt raised, ran out of time, or died with its process."""

    path: str
    attempt: int
    failure: Failure
    final: bool
    """True when no attempt is left."""
    lost: bool
    """True when its process died."""
    retry_at: datetime | None
    """When the next attempt may begin; None: at once, or never."""


@dataclass(frozen=True, slots=True)
class StepHandedOut(RunEvent):
    """A step waits for whoever has its token."""

    path: str
    attempt: int
    due: datetime | None
    """Until when; None: for ever."""


@dataclass(frozen=True, slots=True)
class StepDropped(RunEvent):
    """Nothing comes of a step: another branch has won the race."""

    path: str


@dataclass(frozen=True, slots=True)
class WaitBegan(RunEvent):
    """The run waits."""

    path: str
    signals: tuple[str, ...]
    """For one of these; none: for a time alone."""
    due: datetime | None
    """Until when; None: for ever."""


@dataclass(frozen=True, slots=True)
class WaitFinished(RunEvent):
    """A pause is over."""

    path: str
    result: Any
    """The signal's payload; None when the time was up."""
    signal: str | None
    """What ended it; None: the time."""


@dataclass(frozen=True, slots=True)
class DecisionTaken(RunEvent):
    """Somebody has decided what a path waited for; its outcome follows."""

    path: str
    by: str
    signal: str | None
    """The signal that they chose; None: they answered a step that was handed out."""


@dataclass(frozen=True, slots=True)
class SignalRefused(RunEvent):
    """A signal, or an answer for what was handed out, did not fit; the wait goes on."""

    path: str
    name: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class Emitted(RunEvent):
    """The flow says so itself (``ctx.emit``)."""

    path: str
    name: str
    payload: Any


@dataclass(frozen=True, slots=True)
class ChildStarted(RunEvent):
    """Another run was started."""

    path: str
    child: UUID
    flow: str


@dataclass(frozen=True, slots=True)
class ChildFinished(RunEvent):
    """The run that was started there has completed."""

    path: str
    child: UUID
    result: Any


@dataclass(frozen=True, slots=True)
class MapBegan(RunEvent):
    """The run has come to a map."""

    path: str
    total: int
    """Items."""


@dataclass(frozen=True, slots=True)
class MapFinished(RunEvent):
    """Each item of a map has its outcome, which was told by an event of its own."""

    path: str
    total: int
    failed: int


@dataclass(frozen=True, slots=True)
class CancelRequested(RunEvent):
    """The run has heard that it is to stop."""

    by: str


@dataclass(frozen=True, slots=True)
class UndoingBegan(RunEvent):
    """The run is going to end badly, and undoes first what it has done."""

    path: str
    failure: Failure | None
    """Why it fails; None: it was cancelled."""
    by: str


@dataclass(frozen=True, slots=True)
class RunRetried(RunEvent):
    """A failed run goes on; attempts are counted from 1 again."""

    by: str


@dataclass(frozen=True, slots=True)
class CodeChanged(RunEvent):
    """A failed run was given other code."""

    version: int
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunForked(RunEvent):
    """The run begins here, inside another one, whose events came before."""

    path: str
    """The step that is about to run."""
    parent: UUID
    edits: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RunCompleted(RunEvent):
    """The end."""


@dataclass(frozen=True, slots=True)
class RunFailed(RunEvent):
    """The end, unless somebody retries it."""

    path: str
    """The step that failed it; empty: no step did."""
    failure: Failure


@dataclass(frozen=True, slots=True)
class RunCancelled(RunEvent):
    """The end."""

    by: str


def of_chunk(chunk: Chunk, position: str) -> Streamed:
    """The event of streamed text."""
    return Streamed(
        chunk.path, chunk.attempt, chunk.data.decode("utf-8", "surrogatepass"), chunk.channel, chunk.n == chunk.stream,
        run_id=chunk.run_id, position=position, at=chunk.at,
    )  # fmt: skip


def of_entry(  # noqa: C901  one case each
    entry: Entry, run_id: UUID, position: str, shown: Shown, read: Callable[[Entry], plan.Event] = from_entry
) -> RunEvent | None:
    """The event of a journal row; None for a row that tells nobody anything. Raises `Undecodable`.

    ``read``: what makes events of rows, `quotes.Reader.event` of one that reads them in order.
    """
    here: dict[str, Any] = {"run_id": run_id, "position": position, "at": entry.at}
    match read(entry):
        case plan.StepStarted(path, attempt):
            return StepStarted(path, attempt, **here) if attempt else None
        case plan.StepFinished(path, attempt, result, _, _, seconds, skipped):
            return StepFinished(path, attempt, shown(result), seconds, skipped, **here)
        case plan.ItemFinished(path, attempt, result, seconds):
            return StepFinished(path, attempt, shown(result), seconds, **here)
        case plan.CallFinished() as event:
            return _of_call(event, here, shown)
        case plan.AttemptFailed(path, attempt, failure, lost, final, retry_at):
            return AttemptFailed(path, attempt, failure, final, lost, retry_at, **here)
        case plan.StepHandedOut(path, attempt, _, due):
            return StepHandedOut(path, attempt, due, **here)
        case plan.StepDropped(path):
            return StepDropped(path, **here)
        case plan.WaitBegan(path, names, due):
            return WaitBegan(path, names, due, **here)
        case plan.WaitFinished(path, result, _, _, signal):
            return WaitFinished(path, shown(result), signal, **here)
        case plan.DecisionTaken(path, by, signal):
            return DecisionTaken(path, by, signal, **here)
        case plan.SignalRefused(path, name, _, failure):
            return SignalRefused(path, name, failure, **here)
        case plan.ChildStarted(path, child, flow):
            return ChildStarted(path, child, flow, **here)
        case plan.ChildFinished(path, child, result):
            return ChildFinished(path, child, shown(result), **here)
        case plan.MapBegan(path, total):
            return MapBegan(path, total, **here)
        case plan.MapFinished(path, total, failed):
            return MapFinished(path, total, failed, **here)
        case plan.CancelRequested(by):
            return CancelRequested(by, **here)
        case plan.UndoingBegan(path, why, by):
            return UndoingBegan(path, why, by, **here)
        case plan.RunRetried(by):
            return RunRetried(by, **here)
        case plan.CodeChanged(_, version, _, changes):
            return CodeChanged(version, changes, **here)
        case plan.RunForked(path, edits, parent):
            return RunForked(path, parent, edits, **here)
        case plan.RunCompleted():
            return RunCompleted(**here)
        case plan.RunFailed(path, failure):
            return RunFailed(path, failure, **here)
        case plan.RunCancelled(by):
            return RunCancelled(by, **here)


def _of_call(event: plan.CallFinished, here: dict[str, Any], shown: Shown) -> RunEvent:
    """A durable call is told by what it was: something that happened, a pause, or a step."""
    call, path = event.call, event.path
    name = path.rpartition("/")[2].partition("#")[0]
    if call.shown == f"emit({name!r})":
        return Emitted(path, name, shown(call.result), **here)
    if event.signal is not None or call.shown.startswith("sleep("):
        return WaitFinished(path, shown(call.result), event.signal, **here)
    return StepFinished(path, event.attempt, shown(call.result), event.seconds, **here)
