"""Pauses: the nodes at which a run waits, for a signal, for a time, or for whichever comes first.

Owns: `Pause`, and `wait`, `wait_any` and `sleep`, which make one in its place. Refuses: waiting (`plan/waiting.py`
decides, the runner parks) and reading mailboxes.

A pause has no body. It ends by a signal whose payload fits, or when its time is up; where the two are different ways
on, the pause has a case for each signal and one for the time, and no router.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flowbook.errors import DeclarationError
from flowbook.graph.durations import Duration, seconds, spoken
from flowbook.graph.expression import END_NODE, Case, Composable, Edge, Fragment, Routing, fragment
from flowbook.graph.names import NAME, checked
from flowbook.graph.step import Policy

LONGEST = 100 * 365 * 86_400.0
"""Seconds; a later moment may not be a date any more."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that a pause listens for."""

    name: str
    schema: type | None = None
    """What its payload must be; None: anything."""


@dataclass(frozen=True, slots=True)
class Pause(Composable):
    """A node that waits. Made by `wait`, `wait_any` and `sleep`."""

    name: str
    signals: tuple[Signal, ...]
    """All are heard, whichever comes first ends the pause; none: it is a sleep."""
    seconds: float | None
    """From the moment when the run came to it; None: as long as it takes."""
    into: str | None = None
    """State key that gets the payload; None: the one with the signal's name."""

    @property
    def late(self) -> str:
        """Label of the way on when the time is up. No signal can be called so: it has a blank."""
        return f"after {spoken(self.seconds or 0.0)}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its signals."""
        return tuple(s.name for s in self.signals)

    @property
    def policy(self) -> Policy:
        """A pause is tried once; what fails at it (a router, a time-out) fails the run."""
        return Policy()

    def signal(self, name: str) -> Signal:
        """The signal of that name."""
        return next(s for s in self.signals if s.name == name)

    def as_(self, name: str) -> Pause:
        """The same pause as another node."""
        return replace(self, name=checked(name))

    def __repr__(self) -> str:
        limit = "" if self.seconds is None else spoken(self.seconds)
        return f"<pause {self.name}: {' or '.join(self.names) or 'sleep'}{f', {limit}' if limit else ''}>"


def wait(
    signal: str,
    *,
    timeout: Duration | None = None,
    schema: type | None = None,
    on_timeout: Any = None,
    into: str | None = None,
    name: str | None = None,
) -> Any:
    """A node at which the run stands until a signal comes.

    ``draft >> wait("approved", timeout="2d") >> publish``

    The payload goes into the state under the signal's name (or the key ``into``), and a step may also ask for it by
    the node's ``name``, which is the signal's where none is given. ``schema`` (a pydantic model, a dataclass, a plain
    type) says what it must be; one that does not fit is reported, and the wait goes on. A signal that was sent before
    anybody waited is not lost.

    When ``timeout`` has passed, counted from when the run came here and whatever crashed meanwhile, the run goes on at
    ``on_timeout`` (a step, END or a topology, whose open end goes on to what follows); without one the node fails.
    """
    pause = _pause(name or signal, {signal: schema}, timeout, into)
    if on_timeout is None:
        return pause
    if timeout is None:
        raise DeclarationError(f"wait({signal!r}) has on_timeout= and no timeout=: it would never be taken")
    return _divided(pause, (Case(signal, (), open=True),), {pause.late: on_timeout})


def wait_any(
    ways: Mapping[str, Any],
    *,
    timeout: Duration | None = None,
    on_timeout: Any = None,
    schema: type | Mapping[str, type] | None = None,
    into: str | None = None,
    name: str | None = None,
) -> Fragment:
    """A node that waits for several signals at once, each with its own way on, whichever comes first::

        draft >> wait_any({"approved": publish, "rejected": revise}, timeout="2d", on_timeout=escalate)

    ``schema`` is one for all signals or one per name. All else is as in `wait`.
    """
    signals = list(ways)
    if not signals:
        raise DeclarationError("wait_any({}) would wait for nothing: name the signals and where they lead")
    if on_timeout is not None and timeout is None:
        raise DeclarationError(f"wait_any({signals!r}) has on_timeout= and no timeout=: it would never be taken")
    schemas = dict(schema) if isinstance(schema, Mapping) else dict.fromkeys(signals, schema)
    if unknown := schemas.keys() - ways.keys():
        raise DeclarationError(f"wait_any has a schema for {sorted(unknown)!r}, which it does not wait for")
    heard = {signal: schemas.get(signal) for signal in signals}
    pause = _pause(name or "_or_".join(map(str, signals)), heard, timeout, into)
    return _divided(pause, (), {**ways, **({} if on_timeout is None else {pause.late: on_timeout})})


def sleep(duration: Duration, *, name: str | None = None) -> Pause:
    """A node at which time passes; a crash does not start it again from zero.

    ``send >> sleep("1h") >> remind``
    """
    limit = length(duration)
    return Pause(checked(name or f"sleep_{spoken(limit)}"), (), limit)


def fitting(signal: Signal, payload: Any) -> Any:
    """A payload as the signal's schema wants it. Raises ``ValueError`` with what does not fit."""
    if signal.schema is None:
        return payload
    from pydantic import TypeAdapter  # heavy, and only where a schema is declared

    adapter: Any = TypeAdapter(signal.schema)
    return adapter.validate_python(payload)


def _pause(name: str, signals: Mapping[str, type | None], timeout: Duration | None, into: str | None) -> Pause:
    for signal, schema in signals.items():
        if not NAME.match(signal):
            raise DeclarationError(
                f"{signal!r} cannot be a signal's name: letters, digits and _ only, not starting with a digit"
            )
        if schema is not None and not inspect.isclass(schema):
            raise DeclarationError(f"schema={schema!r} of signal {signal!r} is no class")
    limit = None if timeout is None else length(timeout)
    return Pause(checked(name), tuple(Signal(s, schema) for s, schema in signals.items()), limit, into)


def _divided(pause: Pause, cases: tuple[Case, ...], ways: Mapping[str, Any]) -> Fragment:
    """A pause with the ways that lead on from it."""
    targets = {label: fragment(target) for label, target in ways.items()}
    cases = (*cases, *(Case(label, f.heads, race=f.race) for label, f in targets.items()))
    tails = ((pause, False),) if any(c.open for c in cases) else ()
    edges: tuple[Edge, ...] = tuple(e for f in targets.values() for e in f.edges)
    return Fragment(
        heads=(pause,),
        tails=(*tails, *((node, True) for f in targets.values() for node, _ in f.tails if node != END_NODE)),
        edges=edges,
        routings=(Routing(pause, None, cases), *(r for f in targets.values() for r in f.routings)),
        loose=tuple(
            problem
            for label, f in targets.items()
            for problem in (
                *f.loose,
                *([f"{pause.name} leads straight to a branch ({label!r}): put a step between"] if f.opening else []),
            )
        ),
    )


def length(duration: Duration) -> float:
    """A duration in seconds that a moment can be reckoned with. Raises `DeclarationError` beyond a hundred years."""
    found = seconds(duration)
    if found > LONGEST:
        raise DeclarationError(f"{duration!r} is more than a hundred years")
    return found
