"""Pauses on their way: letters that were read, and how a pause ends.

Owns: `Pauses`: the signals and answers that were read from the mailbox and that nobody has taken, and the outcome of a
pause (its payload validated, its way on chosen); and the same checks for who sends a signal. Refuses: deciding that a
pause ends (`plan/waiting.py`) and recording (`runner.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, assert_never

from flowbook.errors import PayloadRefused, StateError, Undecodable, UsageError, WaitTimedOut
from flowbook.graph.durations import spoken
from flowbook.graph.flow import Graph
from flowbook.graph.names import NAME
from flowbook.graph.pause import Pause, Signal, fitting
from flowbook.graph.results import received
from flowbook.plan.commands import BeginWait, EndHandOut, EndWait, TakeAnswer, TakeSignal, as_step
from flowbook.plan.events import DecisionTaken, SignalRefused, WaitBegan, WaitFinished
from flowbook.plan.journal import to_entry
from flowbook.plan.records import Letter, Phase, Run, View
from flowbook.plan.waiting import untaken
from flowbook.ports import Mail
from flowbook.run.answers import ANSWER, taken, too_late
from flowbook.run.attempts import Bench, Outcome, way_on
from flowbook.run.failures import failure_of
from flowbook.run.saying import DECISION, Said, said_in, taken_decision

ToMind = BeginWait | TakeSignal | EndWait | TakeAnswer | EndHandOut
"""Commands about what waits for others."""


class Pauses:
    """The pauses of one run: what has come for them, and how each of them ends."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        # Which signals a body will ask for is known only once it does.
        self._known = None if bench.graph.has_bodies else bench.graph.signals.keys()
        self._payloads: dict[int, bytes] = {}
        self.letters: Sequence[Letter] = ()
        """Signals and answers that have come and that nobody has taken, in the order of their delivery."""

    def add(self, mail: Mail) -> None:
        """Keep a delivery, unless no pause of the flow will ever ask for it, and it is no answer."""
        wanted = mail.kind in (ANSWER, DECISION) or (mail.kind == "signal" and self._may_hear(mail.name))
        if wanted and mail.id not in self._payloads:
            self._payloads[mail.id] = mail.payload
            self.letters = (*self.letters, Letter(mail.id, mail.name, mail.at))

    def opened(self, letter: Letter, read: int) -> tuple[Said, int]:
        """(what it says, up to where everything is settled once it is taken) of a letter. Raises `Undecodable`."""
        floor = min((x.id - 1 for x in self.letters if x.id != letter.id), default=read)
        return said_in(letter, self._payloads[letter.id]), floor

    def said(
        self, letter: Letter, read: int, names: Sequence[str], signal_of: Callable[[str], Signal]
    ) -> tuple[Said, Any, int]:
        """(what it says, its payload as the signal wants it, as `opened`). Raises ValueError, `Undecodable`."""
        said, floor = self.opened(letter, read)
        if said.signal not in names:
            raise ValueError(f"it waits for {' or '.join(names)}")
        signal = signal_of(said.signal)
        return said, fitting(signal, said.given(signal.schema)), floor

    def decision(self, command: ToMind) -> DecisionTaken | None:
        """Who has decided what a command ends; None: nobody has said who they are."""
        if not isinstance(command, TakeSignal | TakeAnswer):
            return None
        payload = self._payloads[command.letter.id]
        return taken_decision(command.path, command.letter, payload, handed=isinstance(command, TakeAnswer))

    def _may_hear(self, name: str) -> bool:
        return name in self._known if self._known is not None else NAME.match(name) is not None

    def forget(self, run: Run) -> None:
        """Drop what has been taken, and answers to steps that are over."""
        if self.letters:
            standing = {t.path for t in run.tokens.values() if t.phase is Phase.READY} | run.waits.keys()
            left = untaken(self.letters, run.heard)
            self.letters = tuple(x for x in left if self._may_hear(x.name) or x.name.partition(" ")[0] in standing)
            self._payloads = {x.id: self._payloads[x.id] for x in self.letters}

    async def mind(self, command: ToMind, run: Run, read: int, now: datetime) -> WaitBegan | SignalRefused | Outcome:
        """What a command comes to; ``read``: number of the last delivery that was read. Writes nothing."""
        match command:
            case BeginWait(path, node):
                pause = _pause(self._bench.graph, node)
                due = None if pause.seconds is None else now + timedelta(seconds=pause.seconds)
                return WaitBegan(path, pause.names, due, read)
            case EndHandOut():
                return too_late(self._bench, command)
            case TakeAnswer(token=token, letter=letter):
                return await taken(self._bench, command, run.tokens[token].view, self._payloads[letter.id])
            case EndWait(token=token):
                return await _timed_out(self._bench, command, run.tokens[token].view)
            case TakeSignal(token=token):
                return await self._taken(command, run.tokens[token].view, read)
            case _:
                assert_never(command)

    async def _taken(self, command: TakeSignal, view: View, read: int) -> Outcome | SignalRefused:
        """How a pause ends with a letter; a payload that does not fit is refused, and changes nothing."""
        pause, letter = _pause(self._bench.graph, command.node), command.letter
        try:
            said, value, floor = self.said(letter, read, pause.names, pause.signal)
            result, key = received(pause, said.signal, self._bench.graph.schema, value)
        except (ValueError, Undecodable, StateError) as error:
            return refused(command.path, letter, pause.name, error)
        finished = WaitFinished(command.path, result, key, None, said.signal, said.mail, floor)
        return await _ended(self._bench, command, view, finished, said.signal)


def refused(path: str, letter: Letter, waiter: str, error: Exception) -> SignalRefused:
    """A payload did not fit what ``waiter`` waits for at a path."""
    told = PayloadRefused(
        f"signal {letter.name!r} (delivery {letter.id}) does not fit what {waiter} waits for: "
        f"{getattr(error, 'message', error)}"
    )
    return SignalRefused(path, letter.name, letter.id, failure_of(told))


def check_name(name: str, flow: str, spec: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a signal that a flow never waits for; a spec that is not known forbids nothing."""
    nodes = spec.get("nodes")
    if nodes is None:
        return
    if any(n.get("calls") for n in nodes):
        return  # what a body waits for is known only when it does
    known = list(dict.fromkeys(signal for n in nodes for signal, _ in n.get("wait", {}).get("signals", ())))
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        what = f"it waits for {', '.join(map(repr, known))}" if known else "it waits for no signal at all"
        raise UsageError(
            f"flow {flow!r} never waits for a signal {name!r}: {what}{f'; did you mean {near[0]!r}?' if near else ''}"
        )


def check_payload(name: str, payload: Any, graph: Graph) -> None:
    """Raise `PayloadRefused` for a payload that no pause of the flow would take."""
    refused = ""
    for signal in graph.signals.get(name, ()):
        try:
            fitting(signal, payload)
            return
        except ValueError as error:
            refused = str(error)
    if refused:
        raise PayloadRefused(f"signal {name!r} was not sent, because flow {graph.name!r} would not take it: {refused}")


async def _timed_out(bench: Bench, command: EndWait, view: View) -> Outcome:
    """How a pause ends when its time is up: a sleep goes on, a wait has a way on for it or fails."""
    pause = _pause(bench.graph, command.node)
    if pause.signals and bench.graph.nodes[command.node].route(pause.late) is None:
        told = WaitTimedOut(
            f"{pause.name} waited {spoken(pause.seconds or 0.0)} for {' or '.join(map(repr, pause.names))}, and "
            f"nothing came. Give it on_timeout= for a way on, or a longer timeout=; a retry of the run waits anew"
        )
        return Outcome(as_step(command), error=told)
    return await _ended(bench, command, view, WaitFinished(command.path, None, None, None), pause.late)


async def _ended(
    bench: Bench, command: TakeSignal | EndWait, view: View, finished: WaitFinished, label: str
) -> Outcome:
    node = bench.graph.nodes[command.node]
    try:
        route = node.route(label) if node.router is None else await way_on(bench, node, view, finished.update)
        event = WaitFinished(
            finished.path, finished.result, finished.key, route, finished.signal, finished.mail, finished.floor
        )
        return Outcome(as_step(command), to_entry(event))
    except Exception as error:
        return Outcome(as_step(command), error=error)


def _pause(graph: Graph, node: str) -> Pause:
    pause = graph.nodes[node].step
    assert isinstance(pause, Pause)
    return pause
