"""Cells: which of a notebook's cells are steps, and what identifies each of them.

Owns: numbering, and the chain hash. Refuses: files (`documents.py`) and kernels (`client.py`). Pure.

A cell that is executed is a step; text, an empty cell and one with a skip tag are not. The *chain* of a step is a hash
of its source and of all that was executed before it, parameters included (papermill writes them into a cell). What a
finished cell left is good for a notebook exactly if the chain is the same: an edit makes what follows it anew, and
nothing that stands before it. Text may be edited freely.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

SKIP: Final = "skip-execution"
"""nbclient's tag for cells that are left out."""
RERUN: Final = "flow-rerun"
"""Tag of cells that are run again in a new kernel before its variables are laid into it."""
_MEANING: Final = frozenset({"raises-exception", RERUN})
"""Tags that change what executing a cell means."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell that is a step."""

    number: int
    """From 1, counted over steps."""
    index: int
    """Its place among all cells of the notebook, from 0."""
    source: str
    chain: str
    tags: frozenset[str]

    @property
    def node(self) -> str:
        """The name of its node."""
        return node_of(self.number)

    @property
    def shown(self) -> str:
        """Its first telling line, for people: no comment and no import."""
        lines = [line.strip() for line in self.source.splitlines()]
        telling = [line for line in lines if line and not line.startswith(("#", "%%", "import ", "from "))]
        first = (telling or [line for line in lines if line] or [""])[0]
        return first if len(first) <= 60 else first[:59] + "…"


def node_of(number: int) -> str:
    """The name of the node of a step."""
    return f"cell_{number}"


def number_of(node: str) -> int:
    """The number of the step with that node."""
    return int(node.removeprefix("cell_"))


def steps_of(document: Mapping[str, Any]) -> tuple[Cell, ...]:
    """The steps of a notebook, as nbformat 4 has it."""
    found: list[Cell] = []
    chain = blake2b(b"flowbook notebook 1", digest_size=16).digest()
    for index, cell in enumerate(document.get("cells", ())):
        source = "".join(cell.get("source", ""))
        tags = frozenset(cell.get("metadata", {}).get("tags", ()))
        if cell.get("cell_type") != "code" or not source.strip() or SKIP in tags:
            continue
        said = "\0".join(sorted(tags & _MEANING))
        chain = blake2b(chain + source.encode() + b"\0" + said.encode(), digest_size=16).digest()
        found.append(Cell(len(found) + 1, index, source, chain.hex(), tags))
    return tuple(found)


def last_chain(cells: Sequence[Cell]) -> str:
    """What identifies all that a notebook executes; empty for one that executes nothing."""
    return cells[-1].chain if cells else ""


def flow_name(path: str) -> str:
    """The name of the flow of a notebook file: its stem, as names of flows are written."""
    stem = re.split(r"[/\\]", path.rstrip("/\\"))[-1].removesuffix(".ipynb")
    name = re.sub(r"[^A-Za-z0-9_]+", "_", stem).strip("_") or "notebook"
    return name if not name[0].isdigit() else f"nb_{name}"
