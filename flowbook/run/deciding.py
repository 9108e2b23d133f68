"""Deciding: how a person's answer reaches the one pause, or the one handed-out step, that it is meant for.

Owns: what of a run is open to a decision (`Docket`), which signal a yes and a no are (`chosen`), and delivering a
decision exactly once (`decide`). Refuses: how it is taken (`pauses.py`, `answers.py`) and the lists of many runs.

Exactly once. A decision is named by path and beginning of its pause, and delivered under an id that is made from that
name; the mailbox takes an id once. So of two people who answer at the same moment the second one's letter is never
delivered, however they are connected, and who sent it finds the first one's there and is told. A decision that the run
has refused (its payload did not fit) opens the place for another one.

What a yes is. A pause that listens for one signal is approved by it, unless its name is one of `NO`; of several, the
one whose name is among `YES` is a yes and the one among `NO` is a no. Where this does not say which is meant, nothing
is sent, and the error lists the names. A handed-out step is completed by a yes, with its payload, and failed by a no.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID, uuid4, uuid5

from flowbook.codec import decode, encode
from flowbook.errors import AlreadyAnswered, NothingToDecide, PayloadRefused, RunOver, StateError, Undecodable
from flowbook.graph.flow import Graph
from flowbook.graph.pause import Pause, fitting
from flowbook.graph.results import interpret
from flowbook.plan.events import (
    AttemptFailed,
    CallFinished,
    DecisionTaken,
    RunForked,
    SignalRefused,
    StepDropped,
    StepFinished,
    StepHandedOut,
    WaitBegan,
    WaitFinished,
)
from flowbook.plan.journal import Entry, Kind, from_entry
from flowbook.plan.paths import node_of
from flowbook.plan.waiting import answer_name, decision_name
from flowbook.ports import Mail, RunRow, Store
from flowbook.run.answers import ANSWER
from flowbook.run.saying import DECISION, NOTHING, Said, decision, read_decision

YES = ("approved", "approve", "accepted", "accept", "confirmed", "confirm", "ok", "yes")
NO = ("rejected", "reject", "denied", "deny", "declined", "decline", "refused", "no")
Verb = Literal["approve", "reject", "answer"]

_TOLD = frozenset({
    Kind.WAITING, Kind.HANDED_OUT, Kind.REFUSED, Kind.DECIDED, Kind.FINISHED, Kind.ATTEMPT_FAILED, Kind.DROPPED,
    Kind.FORKED,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Open:
    """A place that waits for somebody."""

    path: str
    signals: tuple[str, ...]
    """What it listens for; none: it is a step that was handed out."""
    name: str
    """What a delivery to it is called."""
    due: datetime | None
    """When its time is up; None: never."""
    refused: frozenset[int] = frozenset()
    """Numbers of deliveries to it that did not fit."""

    @property
    def handed(self) -> bool:
        """True if it is a step that was handed out."""
        return not self.signals

    def id(self, run_id: UUID) -> UUID:
        """Under which the next decision about it is delivered; a second one under it is not."""
        return uuid5(run_id, f"{self.name} {len(self.refused)}")


@dataclass(frozen=True, slots=True)
class Answered:
    """A decision that was delivered, or had been."""

    run_id: UUID
    path: str
    signal: str | None
    """None: a step that was handed out."""
    by: str
    """Who; empty: nobody has said."""
    payload: Any
    at: datetime | None
    """When it was delivered, by the database's clock."""


@dataclass(slots=True)
class Docket:
    """What of a run is open to a decision, and what was decided."""

    open: dict[str, Open] = field(default_factory=dict)
    """Path -> what it waits for."""
    closed: dict[str, Answered] = field(default_factory=dict)
    """Path -> how it ended, the last one at the end; also by a plain signal or by its time."""
    taken: dict[str, int] = field(default_factory=dict)
    """Signal -> number of the last plain delivery of that name that was consumed."""

    def add(self, run_id: UUID, entry: Entry) -> None:
        """Read one more row."""
        if entry.kind not in _TOLD:
            return
        match event := from_entry(entry):
            case RunForked():
                self.open.clear()
                self.closed.clear()
                self.taken.clear()
            case WaitBegan(path, names, due, mark) if names:
                self.open[path] = Open(path, names, decision_name(path, mark), due)
            case StepHandedOut(path, _, proof, due):
                self.open[path] = Open(path, (), answer_name(path, proof), due)
            case SignalRefused(path, name, mail):
                if (it := self.open.get(path)) is not None and name == it.name:
                    self.open[path] = replace(it, refused=it.refused | {mail})
                elif " " not in name:
                    self.taken[name] = mail
            case DecisionTaken(path, by, signal, at=at):
                self.closed.pop(path, None)
                self.closed[path] = Answered(run_id, path, signal, by, None, at)
            case WaitFinished(path, signal=signal, mail=mail) | CallFinished(path, signal=signal, mail=mail):
                if signal and mail:
                    self.taken[signal] = mail
                result = event.result if isinstance(event, WaitFinished) else event.call.result
                self._close(run_id, path, entry, signal, result)
            case StepFinished(path):
                self._close(run_id, path, entry, None, event.result)
            case AttemptFailed(path) | StepDropped(path):
                self.open.pop(path, None)
            case _:
                pass

    def _close(self, run_id: UUID, path: str, entry: Entry, signal: str | None, result: Any) -> None:
        was, known = self.open.pop(path, None), self.closed.pop(path, None)
        if was is not None or known is not None:
            known = known or Answered(run_id, path, signal, "", None, entry.at)
            self.closed[path] = replace(known, payload=result)


def docket_of_one(run_id: UUID, entry: Entry) -> Docket:
    """What is open by one row."""
    docket = Docket()
    docket.add(run_id, entry)
    return docket


async def docket_of(pages: AsyncIterator[Sequence[Entry]], run_id: UUID) -> Docket:
    """What of a run is open, from its journal."""
    docket = Docket()
    async for page in pages:
        for entry in page:
            docket.add(run_id, entry)
    return docket


def chosen(it: Open, verb: Verb, signal: str | None) -> str | None:
    """The signal that is meant; None: it is a step that was handed out. Raises `NothingToDecide`."""
    if it.handed:
        if verb == "answer" and signal:
            raise NothingToDecide(f"{it.path} is a step that was handed out, and hears no signal {signal!r}")
        return None
    if verb == "answer":
        if signal in it.signals:
            return signal
        raise NothingToDecide(f"{it.path} listens for {_listed(it.signals)}, and not for {signal!r}")
    mine, others = (YES, NO) if verb == "approve" else (NO, YES)
    if len(it.signals) == 1 and verb == "approve" and it.signals[0].lower() not in others:
        return it.signals[0]
    fitting_names = [s for s in it.signals if s.lower() in mine]
    if len(fitting_names) == 1:
        return fitting_names[0]
    word = "yes" if verb == "approve" else "no"
    way = "cancel the run, or answer" if verb == "reject" and len(it.signals) == 1 else "answer"
    raise NothingToDecide(
        f"{it.path} listens for {_listed(it.signals)}, none of which is plainly a {word}: {way} with the signal that "
        f"you mean, `run.answer({it.path!r}, {it.signals[0]!r}, ...)`"
    )


async def decide(
    store: Store, row: RunRow, verb: Verb, path: str | None, signal: str | None, said: Said, graph: Graph | None
) -> Answered:
    """Deliver a decision, once; ``path`` None: the only one that is open.

    ``said.mark``: of the question; one that comes by two ways is taken once, and both are told the same. Raises
    `AlreadyAnswered`, `NothingToDecide`, `RunOver`, `PayloadRefused`, `Unencodable`.
    """
    if said.mark and (sent := await _sent_before(store, row.id, said.mark)) is not None:
        return sent  # the same question, by another way
    said = replace(said, mark=said.mark or uuid4().hex)
    docket = await docket_of(store.pages(row.id), row.id)
    it = _found(row, docket, path)
    meant = chosen(it, verb, signal)
    said = replace(said, signal=meant or "")
    if said.payload is NOTHING:
        said = replace(said, payload=None if it.handed else {})
    if graph is not None:
        _check(it, said, graph, verb)
    if it.due is not None and it.due <= await store.now():
        raise NothingToDecide(f"{it.path} of run {row.id} waited until {_on(it.due)}: its time is up")
    if row.status.over:
        raise RunOver(f"run {row.id} is {row.status} already, so nobody waits at {it.path}")
    if it.signals and (other := _signalled(docket, it, await store.mailbox(row.id))) is not None:
        raise _told(Answered(row.id, it.path, other.name, "", decode(other.payload), other.at))
    kind, data = (DECISION, decision(said)) if it.signals else (ANSWER, _answer(said, verb))
    row = await store.send(row.id, kind, it.name, data, token=it.id(row.id))
    if row.status.over:
        raise RunOver(f"run {row.id} is {row.status} already, so nobody waits at {it.path}")
    return await _sent(store, row.id, it, said)


async def _sent(store: Store, run_id: UUID, it: Open, said: Said) -> Answered:
    """What the mailbox has for a place now: mine, or another one's, which is raised."""
    mails = await store.mailbox(run_id)
    first = next((m for m in mails if m.name == it.name and m.id not in it.refused), None)
    if first is None:
        raise NothingToDecide(f"nothing was delivered to {it.path} of run {run_id}: look at it, and answer again")
    other, signal, mark = read(first)
    there = Answered(run_id, it.path, signal, other.by, other.payload, first.at)
    if mark != said.mark:
        raise _told(there)
    if it.due is not None and first.at > it.due:
        raise NothingToDecide(f"{it.path} of run {run_id} waited until {_on(it.due)}: its time is up")
    return there


async def _sent_before(store: Store, run_id: UUID, mark: str) -> Answered | None:
    """The decision that was delivered under a mark."""
    for mail in await store.mailbox(run_id):
        if mail.kind in (DECISION, ANSWER):
            with contextlib.suppress(Undecodable):
                said, signal, other = read(mail)
                if other == mark:
                    return Answered(run_id, mail.name.partition(" ")[0], signal, said.by, said.payload, mail.at)
    return None


def read(mail: Mail) -> tuple[Said, str | None, str]:
    """(what is said, signal, mark) of a delivery that is named by a path. Raises `Undecodable`."""
    body: Any = decode(mail.payload)
    if mail.kind == DECISION:
        said = read_decision(body)
        return said, said.signal, said.mark
    try:
        value, by, mark = (*body[1:], "", "")[:3]
    except (TypeError, LookupError) as error:
        raise Undecodable(f"an answer in the mailbox is damaged: {error}") from error
    return Said("", value, str(by)), None, str(mark)


def _answer(said: Said, verb: Verb) -> bytes:
    value = said.why or "rejected" if verb == "reject" else said.payload
    return encode([verb != "reject", value, said.by, said.mark], at="the answer")


def _found(row: RunRow, docket: Docket, path: str | None) -> Open:
    if path is None:
        if len(docket.open) == 1 and not row.status.over:
            return next(iter(docket.open.values()))
        if docket.open and not row.status.over:
            raise NothingToDecide(
                f"run {row.id} waits at {len(docket.open)} places, {_listed(tuple(docket.open))}: say which"
            )
        if docket.closed:
            raise _told(list(docket.closed.values())[-1])
        if row.status.over:
            raise RunOver(f"run {row.id} is {row.status} already: nothing of it waits for a decision")
        raise NothingToDecide(f"run {row.id} waits for nobody's decision now; it is {row.status}")
    path = _whole(path, docket)
    if path in docket.open:
        return docket.open[path]
    if path in docket.closed:
        raise _told(docket.closed[path])
    places = f"; what waits is {_listed(tuple(docket.open))}" if docket.open else ""
    raise NothingToDecide(f"nothing waits for a decision at {path!r} of run {row.id}{places}")


def _whole(path: str, docket: Docket) -> str:
    """A path from what was typed: the name of a node means its open firing, else its last one."""
    if "#" in path:
        return path
    places = [p for p in (*docket.closed, *docket.open) if node_of(p) == path]
    return places[-1] if places else path


def _check(it: Open, said: Said, graph: Graph, verb: Verb) -> None:
    """Raise `PayloadRefused` for what the run would refuse, where the code tells."""
    node = graph.nodes.get(node_of(it.path)) if "/" not in it.path else None
    if node is None or (it.handed and verb == "reject"):
        return
    try:
        if it.handed:
            interpret(graph.step_at(node_of(it.path)), graph.schema, said.payload)
        elif isinstance(node.step, Pause):
            signal = node.step.signal(said.signal)
            fitting(signal, said.given(signal.schema))
    except (ValueError, StateError) as error:
        raise PayloadRefused(f"{it.path} is not decided: {getattr(error, 'message', error)}") from None


def _signalled(docket: Docket, it: Open, mails: Sequence[Mail]) -> Mail | None:
    """A plain signal that lies unread and will end this pause before a decision could."""
    unread = [
        m for m in mails if m.kind == "signal" and m.name in it.signals and m.id > docket.taken.get(m.name, 0)
    ]  # fmt: skip
    listening = sum(bool(set(o.signals) & set(it.signals)) for o in docket.open.values())
    return unread[0] if len(unread) >= listening else None


def _told(there: Answered) -> AlreadyAnswered:
    who = f" by {there.by}" if there.by else ""
    what = f" with {there.signal!r}" if there.signal else ""
    when = f" on {_on(there.at)}" if there.at else ""
    shown = repr(there.payload)
    payload = f", {shown if len(shown) <= 200 else shown[:200] + '...'}" if there.payload not in (None, {}) else ""
    return AlreadyAnswered(
        f"{there.path} of run {there.run_id} was answered already{who}{when}{what}{payload}: this answer is not taken",
        there,
    )


def _on(at: datetime) -> str:
    return f"{at:%Y-%m-%d at %H:%M:%S} UTC"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names)) or "nothing"
