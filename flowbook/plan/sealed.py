"""Placeholders: what stands in the state for a value that the codec does not carry.

Owns: `Sealed` (``store="pickle"``: signed bytes) and `Absent` (``store="recompute"``: nothing but where it came from).
Refuses: opening them; only the runner does, which has the key and can run steps.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sealed:
    """A pickle with its signature, verified before it is ever loaded."""

    data: bytes
    type: str
    """Name of the value's class, for people."""

    def __repr__(self) -> str:
        return f"<{self.type}, pickled, {len(self.data):,} bytes>"


@dataclass(frozen=True, slots=True)
class Absent:
    """A value that is computed again when somebody needs it after a resume."""

    path: str
    """The firing that computed it."""
    key: str | None
    """Its key in the step's update; None: the step's whole result."""
    type: str

    def __repr__(self) -> str:
        return f"<{self.type} of {self.path}, computed again when needed>"
