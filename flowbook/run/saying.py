"""Saying: what a delivery that ends a pause, or a step that was handed out, says.

Owns: the form of decisions (`decision`, `Said`), and who stands in them. Refuses: delivering them (`deciding.py`) and
deciding that they are taken (`plan/waiting.py`).

A *decision* is a delivery to one pause: it is named by the pause's path and beginning, so no other pause ever takes it,
and one pause takes one at most. It says which signal is meant, by whom, and why. A plain signal says none of this.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from flowbook.codec import decode, encode
from flowbook.errors import Undecodable
from flowbook.plan.events import DecisionTaken
from flowbook.plan.records import Letter

DECISION = "decision"
"""Kind of such a delivery."""


NOTHING: Any = type("Nothing", (), {"__repr__": lambda self: "..."})()
"""A payload that was not given, where None is one."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a letter says to a pause."""

    signal: str
    payload: Any
    by: str = ""
    """Who; empty: a plain signal, which says nothing about it."""
    why: str = ""
    mail: int = 0
    """Number of the delivery, of a plain signal; 0: a decision, which counts for no other pause."""
    mark: str = ""
    """Tells this decision from an equal one that somebody else has sent."""

    def given(self, schema: type | None) -> Any:
        """The payload for a pause: `by` and `why` are in it where nobody has put others there and the schema has a
        place for them (no schema has all places).
        """
        if type(self.payload) is not dict or not self.by:
            return self.payload
        more = {"by": self.by, **({"why": self.why} if self.why else {})}
        places = _fields(schema)
        return {k: v for k, v in more.items() if places is None or k in places} | self.payload


def decision(said: Said) -> bytes:
    """As it is delivered. Raises `Unencodable`."""
    return encode([said.signal, said.by, said.why, said.payload, said.mark], at="the payload")


def said_in(letter: Letter, payload: bytes) -> Said:
    """What a letter says. Raises `Undecodable`."""
    body: Any = decode(payload)
    if " " not in letter.name:  # no signal's name has one
        return Said(letter.name, body, mail=letter.id)
    return read_decision(body)


def read_decision(body: Any) -> Said:
    """A decision from its decoded payload. Raises `Undecodable`."""
    try:
        signal, by, why, payload, mark = body
        return Said(str(signal), payload, str(by), str(why), 0, str(mark))
    except (TypeError, ValueError) as error:
        raise Undecodable(f"a decision in the mailbox is damaged: {error}") from error


def taken_decision(path: str, letter: Letter, payload: bytes, *, handed: bool) -> DecisionTaken | None:
    """The event that says who was heard at a path; None: they have not said who they are."""
    try:
        if handed:
            body: Any = decode(payload)
            by, signal = str(body[2]) if len(body) > 2 else "", None
        else:
            said = said_in(letter, payload)
            by, signal = said.by, said.signal
    except (Undecodable, TypeError, LookupError):
        return None
    return DecisionTaken(path, by, signal, letter.id, letter.at) if by else None


def _fields(schema: type | None) -> frozenset[str] | None:
    """Names of the places that a schema has; None: any name will do."""
    if schema is None or schema is dict:
        return None
    if dataclasses.is_dataclass(schema):
        return frozenset(f.name for f in dataclasses.fields(schema))
    known = getattr(schema, "model_fields", None)  # of pydantic
    return frozenset(known if known is not None else getattr(schema, "__annotations__", ()))
