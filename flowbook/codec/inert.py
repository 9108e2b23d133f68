"""What an unknown or unloaded type decodes to.

Owns: `Inert`. Refuses: finding the type later (read the row again once it is loaded).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from flowbook.codec.registry import Parts, takes


class Inert:
    """A stored value whose type is not loaded here: readable, comparable, and stored again as the same bytes.

    Equality is by content: two inert values are equal when they would be stored as the same bytes.
    """

    __slots__ = ("__weakref__", "_children", "_meta", "_segments", "_tag", "reason")

    reason: str
    """Why the type itself is not here, and what to do."""

    def __init__(
        self, tag: str, meta: Any, children: tuple[object, ...], segments: tuple[bytes, ...], reason: str
    ) -> None:
        self._tag = tag
        self._meta = meta
        self._children = children
        self._segments = segments
        self.reason = reason

    @property
    def type_name(self) -> str:
        """``module.qualname`` of a class, or the codec's tag of another type."""
        match self._meta:
            case {"class": [str() as module, str() as qualname]}:
                return f"{module}.{qualname}"
            case _:
                return self._tag

    @property
    def fields(self) -> MappingProxyType[str, object]:
        """The value's fields by name; its parts by number where they have no names."""
        return MappingProxyType(dict(self._named()))

    def _named(self) -> Iterator[tuple[str, object]]:
        names = self._meta.get("fields") if isinstance(self._meta, dict) else None
        known = names if isinstance(names, list) else []
        for index, child in enumerate(self._children):
            yield (str(known[index]) if index < len(known) else str(index)), child

    def _bytes(self) -> bytes:
        from flowbook.codec.api import encode  # the one upward call: equality is defined by the stored form

        return encode(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Inert):
            return NotImplemented
        return self._bytes() == other._bytes()

    def __hash__(self) -> int:
        return hash(self._bytes())

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._named())
        return f"<Inert {self.type_name}({shown}): {self.reason}>"


@takes(Inert)
def _take_inert(value: Inert) -> Parts:
    names = [name for name, _child in value._named()]
    return Parts(value._tag, value._meta, value._children, value._segments, lambda index: f".{names[index]}")
