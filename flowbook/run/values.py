"""Values on their way in and out of steps.

Owns: copies that a step may change, and opening placeholders. Refuses: pickles (`sealing.py`), bytes of plain values
(`codec/`) and deciding when a step runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from flowbook.codec import fresh
from flowbook.plan.mapped import Mapped
from flowbook.plan.sealed import Absent, Sealed
from flowbook.run.items import Items, Read
from flowbook.run.sealing import unsealed

ATOMS = frozenset({int, str, float, bool, bytes, type(None)})
"""What a step cannot change, so that it needs no copy."""
_PLACEHOLDERS = frozenset({Sealed, Absent, Mapped})

Recompute = Callable[[Absent | Mapped], Awaitable[Any]]
"""Runs the step behind a placeholder again and returns the value; of a map the sequence of its results."""


class Copies(Mapping[str, Any]):
    """A state whose values are copied when they are first looked at: to look must not be a way into the record.

    A pickle is opened, a value that would have to be computed again is shown as its placeholder.
    """

    __slots__ = ("_copied", "_kept", "_key", "_read", "_values")

    def __init__(
        self,
        values: Mapping[str, Any],
        key: bytes | None = None,
        kept: Mapping[tuple[str, str | None], Any] | None = None,
        read: Read | None = None,
    ) -> None:
        self._values, self._key, self._kept, self._read = values, key, kept or {}, read
        self._copied: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        if type(value) in ATOMS:
            return value
        if name not in self._copied:
            match value:
                case Sealed():
                    value = unsealed(value, self._key)
                case Absent():
                    value = self._kept.get((value.path, value.key), value)
                case Mapped() if self._read is not None:
                    value = Items(value, self._read, self._key)
                case _:
                    value = fresh(value)
            self._copied[name] = value
        return self._copied[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def has_placeholders(values: Mapping[str, Any]) -> bool:
    """True if some value is not there itself."""
    for value in values.values():  # noqa: SIM110  # any() would cost a generator at each step
        if type(value) in _PLACEHOLDERS:
            return True
    return False


async def opened(value: Any, key: bytes | None, recompute: Recompute) -> Any:
    """What a placeholder stands for; any other value as a copy that a step may change."""
    match value:
        case Sealed():
            return unsealed(value, key)
        case Absent() | Mapped():
            return await recompute(value)
        case dict() if has_placeholders(value):  # a whole result, or the whole state
            return {name: await opened(inner, key, recompute) for name, inner in value.items()}
        case _:
            return fresh(value)


def shown(value: Any, read: Read, key: bytes | None) -> Any:
    """A value of a state as callers get it."""
    match value:
        case Mapped():
            return Items(value, read, key)
        case Sealed():
            return unsealed(value, key)
        case _:
            return value
