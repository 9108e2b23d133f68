"""Previews: a value as text that can be read, compared line by line, and never grows with the value.

Owns: `preview`, and `differences` of two such texts. Refuses: markup, and calling anything of a user's class but its
``repr``.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

from flowbook.show.safe import clean

LINES, ACROSS, DEEP, MANY = 400, 2000, 8, 100
"""Lines of a preview, characters of a line, levels, and pieces of one container."""
CONTEXT = 3
"""Lines that are shown around a difference."""


def preview(value: Any) -> str:
    """A value as text: containers are taken apart line by line, as JSON would be."""
    lines: list[str] = []
    for line in _lines(value, "", 0):
        lines += [clean(piece, ACROSS) for piece in line.splitlines() or [""]]
        if len(lines) > LINES:
            return "\n".join([*lines[:LINES], "… (the rest is left out)"])
    return "\n".join(lines)


def differences(before: str, after: str) -> list[tuple[str, str]]:
    """(sign, line): ``-`` gone, ``+`` new, blank: the same, ``…``: lines between that are the same."""
    one, other = before.splitlines(), after.splitlines()
    found: list[tuple[str, str]] = []
    for tag, a0, a1, b0, b1 in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if tag == "equal":
            found += _same(one[a0:a1], first=not found, last=a1 == len(one) and b1 == len(other))
        else:
            found += [("-", line) for line in one[a0:a1]] + [("+", line) for line in other[b0:b1]]
    return found


def _same(lines: list[str], *, first: bool, last: bool) -> list[tuple[str, str]]:
    head, tail = (0 if first else CONTEXT), (0 if last else CONTEXT)
    if len(lines) <= head + tail + 1:
        return [(" ", line) for line in lines]
    left = len(lines) - head - tail
    shown = [(" ", line) for line in lines[:head]]
    shown.append(("…", f"{left} lines"))
    return [*shown, *((" ", line) for line in lines[len(lines) - tail :])]


def _lines(value: Any, indent: str, depth: int) -> Iterator[str]:
    if value is None or isinstance(value, bool | int | float | str):
        yield indent + _atom(value)
        return
    short = _one_line(value)
    if short is not None:
        yield indent + short
        return
    if depth >= DEEP:
        yield f"{indent}<{type(value).__name__}, deeper than is shown>"
        return
    inner = indent + "  "
    if isinstance(value, Mapping):
        yield indent + "{"
        for key, item in islice(value.items(), MANY):
            yield from _named(f"{_key(key)}: ", item, inner, depth)
        yield from _left_out(len(value), inner)
        yield indent + "}"
    elif _plain_sequence(value):
        begin, end = "()" if isinstance(value, tuple) else "[]"
        yield indent + begin
        for item in islice(value, MANY):
            yield from _named("", item, inner, depth)
        yield from _left_out(len(value), inner)
        yield indent + end
    elif (fields := _fields(value)) is not None:
        yield f"{indent}{type(value).__name__}("
        for name, item in islice(fields.items(), MANY):
            yield from _named(f"{name}=", item, inner, depth)
        yield indent + ")"
    else:
        yield from (indent + line for line in _repr(value).splitlines() or [""])


def _named(name: str, value: Any, indent: str, depth: int) -> Iterator[str]:
    lines = list(_lines(value, indent, depth + 1))
    if name and len(lines) > 1 and not lines[0].endswith(("{", "[", "(")):
        lines = [f"{indent}{name.rstrip()}", *(f"  {line}" for line in lines)]
    else:
        lines[0] = f"{indent}{name}{lines[0][len(indent) :]}"
    yield from lines


def _left_out(length: int, indent: str) -> Iterator[str]:
    if length > MANY:
        yield f"{indent}… {length - MANY:,} more"


def _one_line(value: Any) -> str | None:
    """A small container of atoms on one line."""
    if isinstance(value, Mapping | list | tuple | AbstractSet) and len(value) <= 8:
        pieces = list(value.values()) if isinstance(value, Mapping) else list(value)
        if all(p is None or isinstance(p, bool | int | float) or (isinstance(p, str) and len(p) < 100) for p in pieces):
            text = _repr(value)
            return text if len(text) <= 100 and "\n" not in text else None
    return None


def _plain_sequence(value: Any) -> bool:
    if isinstance(value, str | bytes | bytearray | memoryview | range):
        return False
    return isinstance(value, Sequence | AbstractSet)


def _fields(value: Any) -> Mapping[str, Any] | None:
    """The fields of a dataclass or a pydantic model; None: it is neither."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    named = getattr(type(value), "model_fields", None)
    if isinstance(named, Mapping):
        return {name: value.__dict__.get(name) for name in named}
    return None


def _key(key: Any) -> str:
    return _atom(key) if isinstance(key, str) else _repr(key)


def _atom(value: Any) -> str:
    if isinstance(value, str) and len(value) > ACROSS:
        return f"{value[:ACROSS]!r}… {len(value) - ACROSS:,} more characters"
    return _repr(value)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # a user's __repr__: it must not cost the page
        return f"<{type(value).__name__}: {type(error).__name__} in its repr>"
