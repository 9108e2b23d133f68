"""Halting: a step that ends its run.

Owns: `Halt`, and `halt` and `complete`, which make one. Refuses: ending the run (`plan/halting.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

STATE: Final = object()
"""Stands for the state as the step saw it."""


@dataclass(frozen=True, slots=True)
class Halt:
    """What a step returns to complete its run."""

    value: Any = STATE
    """The run's result; `STATE`: there is none of its own."""

    @property
    def given(self) -> bool:
        """True if it has a result."""
        return self.value is not STATE


def halt(result: Any = STATE) -> Halt:
    """Complete the run at once: ``return fb.halt({"report": text})`` from a step.

    The run is ``completed``, everything else of it is cancelled, and ``run.result()`` is ``result``, whatever it is;
    without one it is the state as this step saw it. `complete` is the same by another name.
    """
    return Halt(result)


def complete(result: Any = STATE) -> Halt:
    """Complete the run at once with ``result``: the same as `halt`, for flows in which that reads better."""
    return Halt(result)
