"""A flow's spec and a moment; the texts that try to break out of a page are everybody's (`tests/hostile.py`)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.hostile import HOSTILE

__all__ = ["HOSTILE", "NOW", "SPEC"]

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

SPEC: dict[str, Any] = {
    "name": "research",
    "nodes": [
        {"name": "search", "ways": [["judge"]]},
        {"name": "judge", "ways": [["write"], ["search"]], "labels": ["True", "False"]},
        {"name": "write", "ways": [["left", "right"]]},
        {"name": "left", "ways": [["report"]]},
        {"name": "right", "ways": [["report"]]},
        {"name": "report", "ways": [[]]},
    ],
    "entry": ["search"],
}
