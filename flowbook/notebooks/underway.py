"""Underway: what a notebook's client knows of the run that it executes cells for.

Owns: `Underway` and `Finished`. Refuses: executing (`client.py`) and opening (`sessions.py`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flowbook.codec import decode
from flowbook.errors import ResultMissing
from flowbook.ids import short
from flowbook.notebooks.cells import Cell
from flowbook.notebooks.desk import Desk, Job
from flowbook.notebooks.memory import Checkpoint, Memory
from flowbook.notebooks.records import CellRecord


@dataclass(frozen=True, slots=True)
class Finished:
    """How a job was done."""

    record: CellRecord
    results: Mapping[str, Any] = field(default_factory=dict)
    """All that the notebook has given so far."""


@dataclass
class Underway:
    """A notebook on its way."""

    run_id: UUID
    cells: Sequence[Cell]
    desk: Desk
    memory: Memory
    key: str | None = None
    """The run key, as the user typed it."""
    checkpoint: Checkpoint = "namespace"
    wanted: Sequence[str] = ()
    done: dict[int, CellRecord] = field(default_factory=dict)
    """Number -> record of the cells that have finished, in any process."""
    kept: Mapping[str, CellRecord] = field(default_factory=dict)
    """Chain -> record of cells that another run under the same key has finished."""
    results: dict[str, Any] = field(default_factory=dict)
    first: Job | None = None
    """A job that was taken before the kernel was started."""
    patience: float | None = None
    """Seconds to wait for the next job; None: until there is one, or `Desk.no_more`."""
    restored_to: int = 0
    """Index behind the last cell that was put in place before the kernel was started."""

    @property
    def shown_id(self) -> str:
        """The run, for people."""
        return short(self.run_id)

    @property
    def keeps_outputs(self) -> bool:
        """False: of a finished cell nothing is kept but that it has finished."""
        return self.checkpoint != "none"

    def asked_for(self, call: Callable[[str, str], str]) -> dict[str, Any]:
        """The variables that are wanted as results, and that were not glued. Raises `ResultMissing`."""
        names = [name for name in self.wanted if name not in self.results]
        if not names:
            return {}
        try:
            text = call(_FETCH.format(names=names), "_flowbook_results")
        except RuntimeError as error:
            raise ResultMissing(
                f"the results {', '.join(names)} of the notebook cannot be had: {error}. A result is a variable at its "
                f"end, or a value that it names: fb.glue(name, value)"
            ) from None
        found = json.loads(base64.b64decode(text.strip("'")))
        return {name: decode(base64.b64decode(data)) for name, data in found.items()}


_FETCH = """\
import base64 as _b, json as _j
import flowbook.codec as _c
_flowbook_results = _b.b64encode(_j.dumps({{
    _n: _b.b64encode(_c.encode(get_ipython().user_ns[_n], at=_n)).decode() for _n in {names!r}
}}).encode()).decode()
del _b, _j, _c
"""
