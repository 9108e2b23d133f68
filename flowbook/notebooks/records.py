"""Records: what a finished cell leaves in the journal.

Owns: `CellRecord`, its stored form, and reading it back. Refuses: the notebook file and the kernel.

Outputs are kept whole, as nbformat has them (compressed JSON), because they are put in place again by whoever goes on,
on any machine. What is shown of a run while it goes on (``flowbook logs``, the inspector) is kept apart, within bounds.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowbook.notebooks.cells import number_of


@dataclass(frozen=True, slots=True)
class CellRecord:
    """What a cell has done."""

    chain: str
    """Of the cell (`cells.Cell.chain`)."""
    execution_count: int | None = None
    """The number in ``In [n]``; None: the kernel gave none."""
    outputs: Sequence[Mapping[str, Any]] = ()
    """As nbformat has them; empty as well where outputs are not kept."""
    seconds: float = 0.0
    times: tuple[str, str] = ("", "")
    """When it began and ended, as papermill writes it."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """What is known of the variables behind it (`memory.py`); empty: they were not kept."""
    kept_from: str = ""
    """The run that had executed it, if this one took it over."""
    exited: bool = False
    """True: it ended the notebook (``sys.exit()``), and what follows was not executed."""
    skipped: bool = False
    """True: it was not executed, because one before it ended the notebook."""

    def stored(self) -> dict[str, Any]:
        """As it goes into the journal."""
        text = json.dumps(list(self.outputs), separators=(",", ":"))
        return {
            "chain": self.chain, "execution_count": self.execution_count,
            "shown": "not executed" if self.skipped else told(self.outputs),
            "outputs": zlib.compress(text.encode("utf-8", "surrogatepass"), 6), "seconds": round(self.seconds, 3),
            "times": list(self.times), "memory": dict(self.memory), "kept_from": self.kept_from,
            "exited": self.exited, "skipped": self.skipped,
        }  # fmt: skip


def from_stored(value: Mapping[str, Any]) -> CellRecord:
    """The record of `CellRecord.stored`."""
    text = zlib.decompress(value["outputs"]).decode("utf-8", "surrogatepass")
    began, ended = value["times"]
    return CellRecord(
        value["chain"], value["execution_count"], json.loads(text), value["seconds"], (began, ended), value["memory"],
        value["kept_from"], value["exited"], value["skipped"],
    )  # fmt: skip


def records_in(state: Mapping[str, Any]) -> dict[int, CellRecord]:
    """The records of all cells that have finished, by their number, from the state of a run."""
    found = {number_of(k): from_stored(v) for k, v in state.items() if k in _nodes(state)}
    return dict(sorted((k, v) for k, v in found.items() if not v.skipped))


def _nodes(state: Mapping[str, Any]) -> set[str]:
    """The keys that cells have; "cell_timeout" is a setting."""
    return {k for k, v in state.items() if k.startswith("cell_") and k[5:].isdecimal() and v is not None}


def told(outputs: Sequence[Mapping[str, Any]]) -> str:
    """Outputs in a few words, for tables."""
    for output in outputs:
        text = output.get("text") or output.get("data", {}).get("text/plain") or output.get("ename") or ""
        first = "".join(text).strip().split("\n")[0]
        if first:
            more = f" (+{len(outputs) - 1})" if len(outputs) > 1 else ""
            return (first if len(first) <= 80 else first[:79] + "…") + more
    return ""
