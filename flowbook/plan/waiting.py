"""Waiting: what is to be done at a pause.

Owns: `at_pause` and `at_hand_out`, pure functions from a pause, its beginning and the letters that are there to a
command. Refuses: payloads (the runner validates them) and time of its own.

A letter ends a pause if it came in time: its moment counts, not the moment when somebody reads it. So a signal that was
sent before the limit wins also when nobody was alive to hear it, and one sent after it does not, whoever slept longer.
Letters of one name are taken in the order in which they came. One that a pause could not take stays for the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from flowbook.graph.pause import Pause
from flowbook.plan.commands import BeginWait, EndHandOut, EndWait, TakeAnswer, TakeSignal, WaitForSignal
from flowbook.plan.records import HandedOut, Letter, Token, Waiting


def at_pause(
    pause: Pause,
    token: Token,
    waiting: Waiting | None,
    letters: Sequence[Letter],
    now: datetime,
) -> TakeSignal | BeginWait | EndWait | WaitForSignal:
    """What a token at a pause wants; ``letters``: those that nobody has taken, in order; ``waiting``: since when."""
    return at_wait((token.path, token.id, token.at), pause.names, waiting, letters, now)


def at_wait(
    place: tuple[str, str, str],
    names: tuple[str, ...],
    waiting: Waiting | None,
    letters: Sequence[Letter],
    now: datetime,
) -> TakeSignal | BeginWait | EndWait | WaitForSignal:
    """The same for a (path, token, name) that listens for ``names``: a node, or a durable call."""
    path, token, node = place
    due = None if waiting is None else waiting.due
    decided = None if waiting is None else decision_name(path, waiting.mark)
    letter = next((x for x in letters if x.name in names or x.name == decided), None)
    if letter is not None and (due is None or letter.at <= due):
        return TakeSignal(path, token, node, letter)
    if waiting is None:
        return BeginWait(path, node)
    if due is not None and due <= now:
        return EndWait(path, token, node)
    return WaitForSignal(path, names, due)


def at_hand_out(
    token: Token, handed: HandedOut, letters: Sequence[Letter], now: datetime
) -> TakeAnswer | EndHandOut | WaitForSignal:
    """What a token at a step that was handed out wants. An answer that came in time counts, as a signal does."""
    name = answer_name(token.path, handed.proof)
    letter = next((x for x in letters if x.name == name), None)
    if letter is not None and (handed.due is None or letter.at <= handed.due):
        return TakeAnswer(token.path, token.id, token.at, handed.attempt, letter)
    if handed.due is not None and handed.due <= now:
        return EndHandOut(token.path, token.id, token.at, handed.attempt)
    return WaitForSignal(token.path, (name,), handed.due)


def answer_name(path: str, proof: str) -> str:
    """Name of the delivery that completes a path; no signal can have it."""
    return f"{path} {proof}"


def decision_name(path: str, mark: int) -> str:
    """Name of the delivery that decides a pause: of this beginning of it, so that no other pause ever takes it."""
    return f"{path} {mark}"


def untaken(letters: Sequence[Letter], heard: Mapping[str, int]) -> list[Letter]:
    """The letters that no pause has taken; each name is taken in order, so its last number tells."""
    return [x for x in letters if x.id > heard.get(x.name, 0)]
