"""Differences between two runs.

Owns: `Diff`, and `compare`, a pure function over two traces. Refuses: drawing (`show/diff.py`) and reading runs.

Steps are told apart by their paths, never by the order in which they finished. Values are the same if the codec stores
them as the same bytes, so a table or an array is compared as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from flowbook.codec import encode
from flowbook.errors import Unencodable
from flowbook.observe.views import RunView
from flowbook.plan.mapped import Mapped
from flowbook.plan.records import Status
from flowbook.plan.traces import Firing, Trace


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs."""

    id: UUID
    flow: str
    version: int
    status: Status
    trace: Trace
    view: RunView | None = None
    """As it looks now, for pictures; None: nobody draws it."""


@dataclass(frozen=True, slots=True)
class StepDiff:
    """A path that is not alike in both runs."""

    path: str
    what: tuple[str, ...]
    """Of "code", "input", "result", "route", "failure"; or "only in a", "only in b" alone."""
    inputs: tuple[str, ...] = ()
    """Which parameters were given something else."""
    a: Firing | None = None
    b: Firing | None = None


@dataclass(frozen=True, slots=True)
class KeyDiff:
    """A key of the state at the end that is not alike in both runs."""

    key: str
    a: Any
    b: Any
    in_a: bool = True
    """False: the first run has no such key."""
    in_b: bool = True


@dataclass(frozen=True, slots=True)
class Diff:
    """How two runs differ."""

    a: Side
    b: Side
    first: StepDiff | None
    """Where they part: the first path of the first run's order that is not alike, all before it being the same."""
    steps: tuple[StepDiff, ...]
    """All paths that are not alike."""
    alike: int
    """How many paths are."""
    state: tuple[KeyDiff, ...] | None
    """Keys of the state at the end that are not alike; None: the code of one of them is not known here."""
    code: tuple[str, ...]
    """What is different in the code."""

    def __repr__(self) -> str:
        parted = "no difference" if self.first is None else f"first difference at {self.first.path}"
        return f"<diff {self.a.id} {self.b.id}: {parted}, {len(self.steps)} steps differ, {self.alike} are alike>"

    @property
    def same(self) -> bool:
        """True if nothing is different but the ids."""
        return not self.steps and not self.state and not self.code and self.a.status is self.b.status


def compare(a: Side, b: Side, code: Sequence[str] = (), changed: frozenset[str] = frozenset()) -> Diff:
    """Compare two runs; ``code``: what is different in their code, ``changed``: the nodes that it concerns."""
    one, other = a.trace.firings, b.trace.firings
    paths = [*one, *(path for path in other if path not in one)]
    steps = [d for path in paths if (d := _step(path, one.get(path), other.get(path), changed)) is not None]
    state = None
    if a.trace.values is not None and b.trace.values is not None:
        state = _keys(a.trace.values, b.trace.values)
    return Diff(a, b, steps[0] if steps else None, tuple(steps), len(paths) - len(steps), state, tuple(code))


def alike(one: Any, other: Any) -> bool:
    """True if two values are stored as the same bytes."""
    if one is other:
        return True
    if isinstance(one, Mapped) and isinstance(other, Mapped):  # each names its run; the items are compared as steps
        return (one.path, one.total) == (other.path, other.total)
    try:
        return encode(one) == encode(other)
    except Unencodable:  # a reducer made something that only memory can hold
        return bool(type(one) is type(other) and repr(one) == repr(other))


def _step(path: str, a: Firing | None, b: Firing | None, changed: frozenset[str]) -> StepDiff | None:
    if a is None or b is None:
        return StepDiff(path, ("only in b" if a is None else "only in a",), a=a, b=b)
    inputs: tuple[str, ...] = ()
    if a.inputs is not None and b.inputs is not None:
        # A step that was edited may ask for other things: that is told as its code.
        given = [k for k in _keys(a.inputs, b.inputs) if a.node not in changed or (k.in_a and k.in_b)]
        inputs = tuple(k.key for k in given)
    found = {
        "code": a.node in changed,
        "input": bool(inputs),
        "result": a.finished is not b.finished or not alike(a.result, b.result),
        "route": a.route != b.route,
        "failure": _said(a) != _said(b),
    }
    what = tuple(word for word, differs in found.items() if differs)
    return StepDiff(path, what, inputs, a, b) if what else None


def _said(firing: Firing) -> tuple[str, str] | None:
    return None if firing.failure is None else (firing.failure.type, firing.failure.message)


def _keys(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[KeyDiff, ...]:
    keys = [*a, *(key for key in b if key not in a)]
    return tuple(
        KeyDiff(key, a.get(key), b.get(key), key in a, key in b)
        for key in keys
        if (key in a) is not (key in b) or not alike(a.get(key), b.get(key))
    )
