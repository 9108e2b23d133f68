"""Secrets: carried by their names.

Owns: taking them apart and putting them together. Refuses: their values.
"""

from __future__ import annotations

from typing import Any

from flowbook.codec.registry import Parts, makes, takes
from flowbook.secret import Secret


@takes(Secret)
def _take_secret(value: Secret) -> Parts:
    return Parts("secret", None, (value.name,))


@makes("secret")
def _make_secret(_meta: Any, children: list[Any], _segments: list[memoryview]) -> Secret:
    (name,) = children
    made = Secret.__new__(Secret)  # reading a value reads no environment
    made.name = name
    return made
