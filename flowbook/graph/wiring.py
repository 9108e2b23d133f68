"""Wiring: what fills the parameters of a step where a spec says so.

Owns: the expressions ``steps.x.output.y``, ``steps[*].output``, ``input.y`` and ``state.y``, their mistakes, and what
they give for a run. Refuses: parameters that nobody mapped (`binding.py`), and running anything: an expression only
reads data, never an attribute.

A wiring is JSON: a text that begins with ``steps``, ``input`` or ``state`` is an expression, and any other value is
itself, also in lists and dicts. ``{"value": x}`` is x as it stands, ``{"logic": rule}`` what JSON Logic gives, whose
data are the same three: ``{"var": "input.limit"}``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from flowbook.errors import ConditionFailed
from flowbook.graph.logic import evaluate, pointed, problems

ROOTS: Final = ("steps", "input", "state")
_LOOKS = re.compile(r"(steps|input|state)(?=[.\[]|\Z)")
_PART = re.compile(r"\.([^\s.\[\]\"]+)|\[(\d+|\*)\]|\[\"((?:[^\"\\]|\\.)*)\"\]")
ALL: Final = object()
"""``[*]``: each of the items."""

Path = tuple[Any, ...]
"""The root, and what stands behind it: texts, numbers, `ALL`."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What expressions read."""

    steps: Mapping[str, Any]
    """Name of a step that has finished -> what it returned last, in the order of the flow."""
    input: Mapping[str, Any]
    state: Mapping[str, Any]

    @classmethod
    def of(
        cls, nodes: Iterable[str], results: Mapping[str, Any], values: Mapping[str, Any], given: Mapping[str, Any]
    ) -> Self:
        """What a view shows: a result that is a state key of the step's own name is kept in the state alone."""
        steps = {n: results[n] if n in results else values[n] for n in nodes if n in results or n in values}
        return cls(steps, given, values)

    @property
    def all(self) -> Mapping[str, Any]:
        """The three as one, for JSON Logic."""
        return {"steps": {n: {"output": r} for n, r in self.steps.items()}, "input": self.input, "state": self.state}


@functools.lru_cache(maxsize=4096)
def path_of(text: str) -> Path | None:
    """The path that a text is; None: it is no expression. Raises ValueError for one that only looks like it."""
    root = _LOOKS.match(text)
    if root is None:
        return None
    found: list[Any] = [root.group()]
    at = root.end()
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise ValueError(
                f"{text!r} is no expression from its character {at + 1} on: write steps.NAME.output.key, input.key, "
                f'state.key, [0] or [*]; if it is a plain text, {{"value": {text!r}}}'
            )
        name, number, quoted = part.groups()
        found.append(name or (ALL if number == "*" else int(number) if number else re.sub(r"\\(.)", r"\1", quoted)))
        at = part.end()
    if root.group() == "steps":
        if len(found) < 2 or not (found[1] is ALL or isinstance(found[1], str)):
            raise ValueError(f"{text!r} names no step: write steps.NAME.output, or steps[*].output for all of them")
        if len(found) < 3 or found[2] != "output":
            raise ValueError(f"{text!r}: of a step there is its output, so write steps.{_shown(found[1])}.output")
    return tuple(found)


def wired(wiring: Mapping[str, Any], sources: Sources, step: str) -> dict[str, Any]:
    """Parameter -> value. Raises `ConditionFailed` where something is not there."""
    return {name: _value(given, sources, f"input {name!r} of step {step!r}") for name, given in wiring.items()}


def mistakes(wiring: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    """(JSON pointer, what is wrong) for all that can be seen without a run."""
    for name, given in wiring.items():
        yield from _mistakes(given, f"{at}/{pointed(name)}")


def steps_read(given: Any, at: str) -> Iterator[tuple[str, str]]:
    """(JSON pointer, step) for each step that a wiring reads by its name; what is no expression is passed over."""
    if isinstance(given, str):
        try:
            path = path_of(given)
        except ValueError:
            return
        if path is not None and path[0] == "steps" and path[1] is not ALL:
            yield at, str(path[1])
    elif isinstance(given, Mapping) and given.keys() != {"value"} and given.keys() != {"logic"}:
        for key, each in given.items():
            yield from steps_read(each, f"{at}/{pointed(key)}")
    elif isinstance(given, list):
        for number, each in enumerate(given):
            yield from steps_read(each, f"{at}/{number}")


def _mistakes(given: Any, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(given, str):
        try:
            path_of(given)
        except ValueError as error:
            yield at, str(error)
    elif isinstance(given, Mapping):
        if given.keys() == {"logic"}:
            yield from problems(given["logic"], f"{at}/logic")
        elif given.keys() != {"value"}:
            for key, each in given.items():
                yield from _mistakes(each, f"{at}/{pointed(key)}")
    elif isinstance(given, list):
        for number, each in enumerate(given):
            yield from _mistakes(each, f"{at}/{number}")


def _value(given: Any, sources: Sources, who: str) -> Any:
    if isinstance(given, str):
        path = path_of(given)
        return given if path is None else _found(path, sources, f"{who} is {given!r}")
    if isinstance(given, Mapping):
        if given.keys() == {"value"}:
            return given["value"]
        if given.keys() == {"logic"}:
            return evaluate(given["logic"], sources.all)
        return {key: _value(each, sources, who) for key, each in given.items()}
    if isinstance(given, list):
        return [_value(each, sources, who) for each in given]
    return given


def _found(path: Path, sources: Sources, who: str) -> Any:
    match path:
        case ("steps", name, "output", *rest) if name is ALL:
            return [
                _below(result, rest, f"{who}, at step {step!r}")
                for step, result in sources.steps.items()
                if not rest or _has(result, rest[0])
            ]
        case ("steps", name, "output", *rest):
            if name not in sources.steps:
                ended = ", ".join(map(repr, sources.steps)) or "none"
                raise ConditionFailed(
                    f"{who}, and step {name!r} has not finished in this run; those that have: {ended}"
                )
            return _below(sources.steps[name], rest, who)
        case ("input", *rest):
            return _below(sources.input, rest, who)
        case _:
            return _below(sources.state, path[1:], who)


def _has(value: Any, part: Any) -> bool:
    if isinstance(part, str):
        return isinstance(value, Mapping) and part in value
    return _is_list(value) and (part is ALL or part < len(value))


def _below(value: Any, parts: Sequence[Any], who: str) -> Any:
    for number, part in enumerate(parts):
        if part is ALL and _is_list(value):
            return [_below(each, parts[number + 1 :], who) for each in value]
        if not _has(value, part):
            has = f"it has {', '.join(map(repr, value))}" if isinstance(value, Mapping) else type(value).__name__
            raise ConditionFailed(f"{who}, and there is no {_shown(part)!r}: {has}")
        value = value[part]
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)


def _shown(part: Any) -> str:
    return "*" if part is ALL else str(part)
