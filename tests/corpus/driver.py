"""The corpus: notebooks in the style of tutorials, on data that packages ship, killed wherever they can be.

Owns: running a notebook unbroken, and again with a new kernel for each cell, and comparing what came of both. Refuses:
the kernels (`kernels.py`) and what counts as the same (`describe.py`).

`unbroken`   all cells in one kernel: a checkpoint after each, what each printed, what the variables are at the end
`broken`     a kernel per cell, each killed (SIGKILL) at the end of its cell, or in the middle of the next one
`resumed`    from the checkpoint after one cell to the end
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat

from tests.corpus.kernels import KeptKernel

NOTEBOOKS = sorted((Path(__file__).parent / "notebooks").glob("*.ipynb"))
Start = Callable[[Path], KeptKernel]
DESCRIBE = "__import__('tests.corpus.describe', fromlist=['x']).describe(globals(), {skip!r})"


@dataclass(frozen=True)
class Cell:
    """A code cell."""

    source: str
    rerun: bool


@dataclass
class Played:
    """What came of a notebook."""

    said: list[str] = field(default_factory=list)
    manifests: list[dict[str, Any]] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)
    variables: dict[str, Any] = field(default_factory=dict)


def cells_of(notebook: Path) -> list[Cell]:
    """Its code cells."""
    found = nbformat.read(notebook, as_version=4).cells
    return [Cell(c.source, "flow-rerun" in c.metadata.get("tags", ())) for c in found if c.cell_type == "code"]


def unbroken(notebook: Path, start: Start, folder: Path) -> Played:
    """All cells in one kernel."""
    cells, it = cells_of(notebook), Played()
    with kernel(start, folder) as running:
        for n, cell in enumerate(cells):
            take(it, running.run(cell.source, str(n + 1)))
        it.variables = look(running, it.lost)
    return it


def broken(notebook: Path, start: Start, folder: Path, *, middle: bool) -> Played:
    """A new kernel for each cell; with ``middle`` the one before it died inside of that cell."""
    cells, it = cells_of(notebook), Played()
    for n, cell in enumerate(cells):
        if middle:
            with kernel(start, folder) as dying:
                resume(dying, cells, it, n)
                dying.dies(cell.source, str(n + 1))
        with kernel(start, folder) as running:
            resume(running, cells, it, n)
            take(it, running.run(cell.source, str(n + 1)))
            if n + 1 == len(cells):
                it.variables = look(running, it.lost)
            running.kill()
    return it


def resumed(notebook: Path, start: Start, folder: Path, before: Played, at: int) -> Played:
    """From the checkpoint that another kernel has made after ``at`` cells to the end, in one kernel."""
    cells = cells_of(notebook)
    it = Played(before.said[:at], before.manifests[:at], set(before.lost))
    with kernel(start, folder) as running:
        resume(running, cells, it, at)
        for n in range(at, len(cells)):
            take(it, running.run(cells[n].source, str(n + 1)))
        it.variables = look(running, it.lost)
    return it


@contextmanager
def kernel(start: Start, folder: Path) -> Iterator[KeptKernel]:
    """A kernel that is gone in the end."""
    made = start(folder)
    try:
        yield made
    finally:
        made.close()


def resume(running: KeptKernel, cells: list[Cell], it: Played, done: int) -> None:
    """What an engine does: cells that are tagged run again, then the checkpoint is laid over them."""
    if not done:
        return
    for cell in cells[:done]:
        if cell.rerun:
            running.plain(cell.source)
    report = running.restore(it.manifests[done - 1])
    it.lost |= {x["name"] for x in report["lost"]}


def take(it: Played, answer: dict[str, Any]) -> None:
    """What a cell has given."""
    it.said.append(answer["said"])
    it.manifests.append(answer["manifest"])


def look(running: KeptKernel, lost: set[str]) -> dict[str, Any]:
    """What the variables are; those that were lost are left out."""
    found: dict[str, Any] = json.loads(running.ask(DESCRIBE.format(skip=sorted(lost))))
    return found


def differences(one: Played, other: Played) -> list[str]:
    """What is not the same, for people; what was lost by name is none."""
    found = [
        f"cell {n + 1} said {a!r} unbroken and {b!r} resumed"
        for n, (a, b) in enumerate(zip(one.said, other.said, strict=True))
        if a != b
    ]
    skip = one.lost | other.lost
    for name in sorted((one.variables.keys() | other.variables.keys()) - skip):
        a, b = one.variables.get(name, "absent"), other.variables.get(name, "absent")
        if a != b and not _of_lost(b, skip):
            found.append(f"{name}: {json.dumps(a)[:600]} unbroken, {json.dumps(b)[:600]} resumed")
    return found


def _of_lost(described: Any, lost: set[str]) -> bool:
    """Was it first met in a variable that is left out of one of them?"""
    text = json.dumps(described)
    return any(f"same as {name}" in text for name in lost)


def fresh(folder: Path) -> Path:
    """The working directory of a run, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
