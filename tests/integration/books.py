"""Books: notebooks that tests write, run and kill.

Owns: writing one, the environment of a job, and reading what came out. Refuses: assertions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat

ROOT = Path(__file__).resolve().parents[2]
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def write(path: Path, *cells: str, tags: dict[int, list[str]] | None = None) -> Path:
    """A notebook file; a cell that begins with ``#md`` is text. ``tags``: index of a cell -> its tags."""
    book: Any = nbformat.v4.new_notebook(metadata={"kernelspec": KERNEL})
    for index, source in enumerate(cells):
        text = source.startswith("#md")
        cell = nbformat.v4.new_markdown_cell(source) if text else nbformat.v4.new_code_cell(source)
        cell["id"] = f"c{index}"
        cell.metadata["tags"] = (tags or {}).get(index, [])
        book.cells.append(cell)
    nbformat.write(book, path)
    return path


def read(path: Path) -> Any:
    """A notebook file."""
    return nbformat.read(path, as_version=4)


def statuses(path: Path) -> list[str]:
    """What papermill's metadata says of each cell, its own marks left out."""
    return [
        cell.metadata.papermill["status"]
        for cell in read(path).cells
        if "papermill-error-cell-tag" not in cell.metadata.get("tags", ())
    ]


def printed(path: Path) -> list[str]:
    """What each code cell has written and shown, as text."""
    return [
        "".join(str(o.get("text") or o.get("data", {}).get("text/plain") or "") for o in cell.outputs)
        for cell in read(path).cells
        if cell.cell_type == "code"
    ]


class Job:
    """A place for papermill jobs: a folder, a database, and a log that cells write to."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.ran = folder / "ran.log"
        self.env = {
            **os.environ, "FLOWBOOK_DATABASE_URL": url, "FLOWBOOK_HOME": str(folder / "home"),
            "PYDEVD_DISABLE_FILE_VALIDATION": "1", "RAN": str(self.ran), "PYTHONWARNINGS": "ignore",
        }  # fmt: skip

    def process(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """A program of this environment: ``papermill ...`` or ``flowbook ...``, on its way."""
        command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.env, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str, **more: str) -> tuple[int, str, str]:
        """The same to its end: exit code, output, errors."""
        process = self.process(*words, **more)
        out, err = process.communicate(timeout=110)
        return process.returncode, out, err

    def lines(self) -> list[str]:
        """What cells have written, in order."""
        return self.ran.read_text().split() if self.ran.exists() else []

    def until(self, line: str, seconds: float = 60.0) -> None:
        """Wait until a cell has written a line."""
        deadline = time.monotonic() + seconds
        while line not in self.lines():
            assert time.monotonic() < deadline, f"no cell has written {line!r}: {self.lines()}"
            time.sleep(0.02)


def notes(line: str) -> str:
    """Source that writes a line into the log, as one statement."""
    return f"open(__import__('os').environ['RAN'], 'a').write({line + chr(10)!r}) and None"
