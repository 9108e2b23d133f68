"""Memory: what a kernel knows after each cell, kept so that another kernel can go on.

Owns: the port `Memory`, and `Outputs`, which keeps no variables. Refuses: how variables are kept (the package
`flowbook.namespace`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from flowbook.errors import UsageError
from flowbook.notebooks.cells import RERUN, Cell
from flowbook.notebooks.records import CellRecord

Checkpoint = Literal["namespace", "outputs", "none"]
"""What is kept of a cell that has finished: its variables and outputs, its outputs, or only that it has finished."""


def known_checkpoint(said: str) -> Checkpoint:
    """What was typed. Raises `UsageError`."""
    for known in get_args(Checkpoint):
        if said == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"checkpoint={said!r}: it is namespace, outputs or none")


Call = Callable[[str, str], str]
"""Run code in the kernel, unseen, and give the text that an expression then has: ``call(code, expression)``."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a new kernel has got of the one before."""

    rerun: Sequence[int] = ()
    """Numbers of the cells that are to be run again, before or instead of laying variables into the kernel."""
    lost: Mapping[str, str] = field(default_factory=dict)
    """Variable -> why it is not there."""


class Memory(Protocol):
    """Keeps what one kernel knows. All calls come from the thread that has the kernel."""

    def begin(self, call: Call) -> None:
        """A kernel is there."""
        ...

    def needed(self, cells: Sequence[Cell], done: Mapping[int, CellRecord]) -> Restored:
        """Which of the finished cells a new kernel has to run again, all that are tagged for it among them."""
        ...

    def restore(self, done: Mapping[int, CellRecord]) -> Mapping[str, str]:
        """Lay the variables behind the last finished cell into the kernel; variable -> why it is lost."""
        ...

    def before(self, cell: Cell) -> None:
        """A cell is about to be executed."""
        ...

    def after(self, cell: Cell) -> Mapping[str, Any]:
        """It has finished: what its record is to say of the variables."""
        ...

    def end(self) -> None:
        """All that was kept is durable when this returns."""
        ...


class Outputs:
    """Keeps no variables: a new kernel runs every finished cell again."""

    def begin(self, call: Call) -> None: ...

    def needed(self, cells: Sequence[Cell], done: Mapping[int, CellRecord]) -> Restored:
        return Restored(rerun=[cell.number for cell in cells if cell.number in done])

    def restore(self, done: Mapping[int, CellRecord]) -> Mapping[str, str]:
        return {}

    def before(self, cell: Cell) -> None: ...

    def after(self, cell: Cell) -> Mapping[str, Any]:
        return {}

    def end(self) -> None: ...


def tagged(cells: Sequence[Cell], done: Mapping[int, CellRecord]) -> list[int]:
    """The numbers of the finished cells that are tagged to be run again."""
    return [cell.number for cell in cells if cell.number in done and RERUN in cell.tags]
