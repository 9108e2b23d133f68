"""Memory: what a kernel knows after each cell, kept so that another kernel can go on.

Owns: the port `Memory`, `Checkpoints`, which has the kernel keep its own variables, and `Outputs`, which keeps none.
Refuses: how variables are kept (`flowbook.namespace`, in the kernel).

A checkpoint is written while the next cell runs, so the last finished cell need not have one that is whole. Then a new
kernel gets the newest that is, and the cells behind it are run again.
"""

from __future__ import annotations

import ast
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol, get_args

from flowbook.errors import UsageError
from flowbook.notebooks.cells import RERUN, Cell
from flowbook.notebooks.records import CellRecord

log = logging.getLogger("papermill")

Checkpoint = Literal["namespace", "outputs", "none"]
"""What is kept of a cell that has finished: its variables and outputs, its outputs, or only that it has finished."""

Call = Callable[[str, str], str]
"""Run code in the kernel, unseen, and give the text that an expression then has: ``call(code, expression)``."""

SMALL: Final = 1024 * 1024
"""Bytes of a checkpoint that the next cell waits for: then what has finished is never run twice."""
SOON: Final = 0.02
"""Seconds that it waits for a larger one, which is written while it runs."""


def known_checkpoint(said: str) -> Checkpoint:
    """What was typed. Raises `UsageError`."""
    for known in get_args(Checkpoint):
        if said == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"checkpoint={said!r}: it is namespace, outputs or none")


class Memory(Protocol):
    """Keeps what one kernel knows. All calls come from the thread that has the kernel."""

    def begin(self, call: Call) -> None:
        """A kernel is there."""
        ...

    def go_on(
        self, cells: Sequence[Cell], done: Mapping[int, CellRecord], again: Callable[[Cell], None]
    ) -> Mapping[str, str]:
        """Make a new kernel what the one before was behind the last finished cell; variable -> why it is lost.

        ``again``: runs a finished cell once more, for what it leaves.
        """
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

    def go_on(
        self, cells: Sequence[Cell], done: Mapping[int, CellRecord], again: Callable[[Cell], None]
    ) -> Mapping[str, str]:
        for cell in cells:
            if cell.number in done:
                again(cell)
        return {}

    def before(self, cell: Cell) -> None: ...

    def after(self, cell: Cell) -> Mapping[str, Any]:
        return {}

    def end(self) -> None: ...


class Checkpoints:
    """Has the kernel keep its variables, in the database of the run, signed with this user's key."""

    def __init__(self, url: str, key: bytes) -> None:
        self._url, self._key = url, key
        self._call: Call | None = None
        self._lost: dict[str, str] = {}

    def begin(self, call: Call) -> None:
        self._call = None
        try:
            call(_BEGIN.format(url=self._url, key=self._key), "True")
            self._call = call
        except RuntimeError as error:
            log.warning(
                "flowbook: variables are not kept, so a resume runs finished cells again: the kernel: %s", error
            )

    def go_on(
        self, cells: Sequence[Cell], done: Mapping[int, CellRecord], again: Callable[[Cell], None]
    ) -> Mapping[str, str]:
        if self._call is None:
            return Outputs().go_on(cells, done, again)
        newest, identity = 0, ""
        for number in sorted(done, reverse=True):
            known = str(done[number].memory.get("checkpoint", ""))
            if known and self._ask(f"_fb.durable({known!r})") == "True":
                newest, identity = number, known
                break
        for cell in cells:
            if cell.number in done and cell.number <= newest and RERUN in cell.tags:
                again(cell)
        lost: dict[str, str] = {}
        if identity:
            report = json.loads(ast.literal_eval(self._ask(f"_fb.restore({identity!r})")))
            lost = {it["name"]: f"{it['type']}: {it['reason']} (cell {it['cell']})" for it in report["lost"]}
            self._lost |= lost
        for cell in cells:
            if cell.number in done and cell.number > newest:
                self.before(cell)
                again(cell)
                self.after(cell)
        return lost

    def before(self, cell: Cell) -> None:
        if self._call is not None:
            self._ask(f"_fb.before({cell.source!r}, {str(cell.number)!r})")

    def after(self, cell: Cell) -> Mapping[str, Any]:
        if self._call is None:
            return {}
        try:
            said = json.loads(ast.literal_eval(self._ask(_AFTER.format(soon=SOON, small=SMALL))))
        except RuntimeError as error:
            # The cell has done its work: that it is not kept is no reason to call it failed.
            log.warning("flowbook: the variables behind cell %s are not kept: %s", cell.number, error)
            return {}
        fresh = {it["name"]: f"{it['type']}: {it['reason']}" for it in said["lost"] if it["name"] not in self._lost}
        self._lost |= fresh
        if fresh:
            told = "; ".join(f"{name} ({why})" for name, why in fresh.items())
            log.warning("flowbook: cell %s makes what cannot be kept: %s", cell.number, told)
        return {"checkpoint": said["identity"], "lost": {it["name"]: it["type"] for it in said["lost"]}}

    def end(self) -> None:
        if self._call is not None:
            self._ask("_fb.begin().wait()")

    def _ask(self, expression: str) -> str:
        assert self._call is not None
        return self._call(f"import flowbook.jupyter.keeping as _fb\n_fb_said = {expression}\ndel _fb", "_fb_said")


_BEGIN: Final = "import flowbook.jupyter.keeping as _fb\n_fb.begin({url!r}, key={key!r})\ndel _fb"
_AFTER: Final = "(lambda said: (_fb.begin().settle({soon}, {small}), said)[1])(_fb.after())"
