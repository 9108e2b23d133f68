"""Outputs: what an attempt at a step wrote and displayed.

Owns: `Output`. Refuses: the state of a run. Nothing that is folded or decided depends on what a step printed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

Kind = Literal["stdout", "stderr", "log", "display", "error", "cut"]
TEXTS: Final = frozenset({"stdout", "stderr", "log", "error", "cut"})


@dataclass(frozen=True, slots=True)
class Output:
    """A piece of what an attempt wrote, or one thing that it displayed."""

    run_id: UUID
    path: str
    attempt: int
    n: int
    """Place among the outputs of the attempt, ascending: ``epoch << 32`` and a count. A body that is run again after
    its run was parked, or lost, has another epoch, and what it printed before stays."""
    kind: Kind
    """``log``: records of `logging`, one per line. ``display``: something rich. ``error``: what could not be displayed.
    ``cut``: says what is missing here because there was too much of it."""
    payload: bytes
    """UTF-8; of a display JSON, ``{"data": {mime type: value}, "metadata": {}}``."""
    at: datetime
    """When it began, UTC."""

    @property
    def epoch(self) -> int:
        """The owner of the run that it comes from."""
        return self.n >> 32

    @property
    def text(self) -> str:
        """What was written; of a display its plain form."""
        if self.kind == "display":
            return str(self.bundle.get("text/plain", ""))
        return self.payload.decode("utf-8", "replace")

    @property
    def bundle(self) -> Mapping[str, Any]:
        """A display's forms: mime type -> text, or JSON; images in base64. Empty for text."""
        data: Mapping[str, Any] = self._displayed().get("data", {})
        return data

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What was displayed with it, such as the size of an image."""
        found: Mapping[str, Any] = self._displayed().get("metadata", {})
        return found

    def _displayed(self) -> dict[str, Any]:
        return dict(json.loads(self.payload)) if self.kind == "display" else {}


def displayed(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> bytes:
    """The payload of a display. Raises TypeError or ValueError for what JSON cannot carry."""
    return json.dumps({"data": dict(data), "metadata": dict(metadata)}, allow_nan=False).encode()
