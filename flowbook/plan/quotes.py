"""Quotes: what a body returns of what its own calls gave it is stored once.

Owns: finding such texts in an outcome before it is written (`quoted`), and putting them back when it is read (`filled`,
`Reader`). Refuses: encoding (`journal.py`), and values other than long texts.

A tool that an agent calls is a durable call with a row of its own, and the message which tells the model of its result
is in the outcome of the step that called it: the same text, twice. The later row names the earlier one instead. Rows
of calls stand before the row of their body in every journal that has it, a fork's prefix included, so whoever reads in
order has what is quoted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flowbook.plan.events import CallFinished, Event, StepFinished
from flowbook.plan.journal import Entry, from_entry
from flowbook.plan.records import Call

LEAST = 100
"""Characters of a text that is worth a quote, which has some 50 bytes."""

Quote = tuple[tuple[str | int, ...], str, str]
"""(where in the result, path of the call below the body's, form): form is empty for the result itself, ``json`` for its
JSON, ``.answer`` for what the result has under that key."""


def as_json(value: Any) -> str | None:
    """A value as compact JSON; None: it is none of JSON's. Quotes rest on it: the same value is the same text."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return None


def quoted(event: StepFinished, calls: Mapping[str, Call]) -> StepFinished:
    """The outcome of a body with its long texts taken out that one of its calls has given; the same, if there are none.

    ``calls``: those of the run that are over.
    """
    if event.skipped or event.halts or not (places := list(_texts(event.result, ()))):
        return event
    known = _known(event.path, calls)
    quotes = [(where, *known[text]) for where, text in places if text in known]
    if not quotes:
        return event
    result = event.result
    for where, _, _ in quotes:
        result = _put(result, where, None)
    return _with(event, result, tuple(quotes))


def filled(event: StepFinished, result_of: Callable[[str], Any]) -> StepFinished:
    """An outcome as its body returned it; ``result_of``: path of a call -> its result."""
    if not event.quotes:
        return event
    result = event.result
    for where, below, form in event.quotes:
        result = _put(result, where, _formed(result_of(f"{event.path}/{below}"), form))
    return _with(event, result, ())


class Reader:
    """Reads the rows of one journal in order, and puts back what is quoted."""

    __slots__ = ("_results",)

    def __init__(self) -> None:
        self._results: dict[str, Any] = {}

    def event(self, entry: Entry) -> Event:
        """The event of the next row. What stands before the first row that was read stays empty."""
        event = from_entry(entry)
        if type(event) is CallFinished:
            self._results[event.path] = event.call.result
        elif type(event) is StepFinished and self._results:
            event = filled(event, self._results.get)
            below = f"{event.path}/"
            self._results = {p: r for p, r in self._results.items() if not p.startswith(below)}
        return event


def _known(path: str, calls: Mapping[str, Call]) -> dict[str, tuple[str, str]]:
    """Text -> (path of the call below ``path``, form)."""
    found: dict[str, tuple[str, str]] = {}
    for at, call in calls.items():
        if not at.startswith(f"{path}/") or call.failure is not None:
            continue
        below, result = at[len(path) + 1 :], call.result
        if type(result) is str:
            found.setdefault(result, (below, ""))
        elif (text := as_json(result)) is not None and len(text) >= LEAST:
            found.setdefault(text, (below, "json"))
        if type(result) is dict:
            for key, value in result.items():
                if type(value) is str and type(key) is str and len(value) >= LEAST:
                    found.setdefault(value, (below, f".{key}"))
    return found


def _texts(value: Any, where: tuple[str | int, ...]) -> Any:
    kind = type(value)
    if kind is str:
        if len(value) >= LEAST and where:
            yield where, value
    elif kind is list:
        for index, item in enumerate(value):
            yield from _texts(item, (*where, index))
    elif kind is dict:
        for key, item in value.items():
            if type(key) is str:
                yield from _texts(item, (*where, key))


def _put(value: Any, where: tuple[str | int, ...], new: Any) -> Any:
    """A copy of a value with something else at one place; what is not on the way there is shared."""
    if not where:
        return new
    first, rest = where[0], where[1:]
    copy = value.copy()
    copy[first] = _put(value[first], rest, new)
    return copy


def _formed(result: Any, form: str) -> Any:
    if form == "json":
        return as_json(result)
    return result[form[1:]] if form and result is not None else result


def _with(event: StepFinished, result: Any, quotes: tuple[Quote, ...]) -> StepFinished:
    whole = event.update is event.result
    update = result if whole else dict.fromkeys(event.update, result)
    return replace(event, result=result, update=update, quotes=quotes)
