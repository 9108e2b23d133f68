"""The demo's second half: a papermill job whose kernel is killed at a cell, and which is resumed.

Owns: the job's notebook, and the proof of what is said of it, from its run and from a ledger that its cells write to.
Refuses: the story's other half (`demo.py`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.padding import Padding

if TYPE_CHECKING:
    from notebooks.demo import Story

NOTE = "\nimport os; print('{name}', os.getpid(), file=open('job-ledger.txt', 'a'), flush=True)"
LOAD = """\
from sklearn.datasets import load_digits
X, y = load_digits(return_X_y=True, as_frame=True)
X.shape"""
MODEL = """\
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(X[:1200], y[:1200])"""
WAIT = """\
import time
from pathlib import Path
while not Path("job-go").exists():  # the kernel is killed here
    time.sleep(0.05)"""
SCORE = """\
import flowbook as fb
fb.glue("accuracy", model.score(X[1200:], y[1200:]))"""
CELLS = (("parameters", "folds = 3"), ("load", LOAD), ("model", MODEL), ("wait", WAIT), ("score", SCORE))
KILLED_AT = 4
"""The number of the cell."""


def job(story: Story, app: Any, place: Path, home: Path, patience: float) -> None:
    """The job, its death, its end, and what proves it."""
    import nbformat

    write(place / "job.ipynb")
    story.begin("A papermill job: papermill job.ipynb out.ipynb --engine flowbook -p folds 5")
    process = started(place, home, "papermill", "job.ipynb", "out.ipynb", "--engine", "flowbook", "-p", "folds", "5")
    began = time.monotonic()
    while (kernel := ledger(place).get("wait", [0])[0]) == 0:
        if process.poll() is not None or time.monotonic() > began + patience:
            raise SystemExit(f"the job ended too early:\n{(place / 'job.log').read_text()[-3000:]}")
        time.sleep(0.02)
    story.begin(f"kill -9 {kernel}, the job's kernel, in its cell {KILLED_AT + 1} of {len(CELLS) + 1}")
    os.kill(kernel, signal.SIGKILL)
    code = process.wait(patience)
    said = (place / "job.log").read_text()
    story.say(next((line for line in said.splitlines() if "FB702" in line), said[-200:]).partition(": ")[2], "dim")
    story.claim(
        code == 138, "papermill ended with 138, its code for a dead kernel, and the error names cell and way on"
    )
    (row,) = app.runs(flow="job", limit=1)

    story.begin(f"flowbook resume {row.id.hex[-8:]}")
    (place / "job-go").touch()
    code = started(place, home, "flowbook", "resume", str(row.id)).wait(patience)
    story.claim(code == 0, "another process went on in a new kernel, to the last cell")
    from flowbook.show.text import run_table

    view = app.find(row.id).view()
    story.console.print(Padding(run_table(view), (0, 0, 1, 3)))
    ran = ledger(place)
    before, after = [name for name, _ in CELLS[1 : KILLED_AT - 1]], CELLS[-1][0]
    story.claim(
        all(len(ran[name]) == 1 for name in before), f"{' and '.join(before)} ran once: their variables came back"
    )
    story.claim(
        len(ran["wait"]) == 2 and len(ran[after]) == 1, "the cell that was killed ran again, and the one behind it"
    )
    out = nbformat.read(place / "out.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    story.claim(
        all(cell.metadata.papermill.status == "completed" for cell in out.cells) and bool(out.cells[2].outputs),
        "the output notebook has all cells, completed, with the outputs from before the kill",
    )
    score = view.steps[-1].result["results"]["accuracy"]
    story.claim(score > 0.9, f"the model that was fitted before the kill scored after it: {score:.3f}")


def write(path: Path) -> None:
    """The job's notebook; its cells say where they are."""
    import nbformat.v4 as v4

    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book: Any = v4.new_notebook(metadata={"kernelspec": kernel})  # type: ignore[no-untyped-call]
    for name, source in CELLS:
        first, _, rest = source.partition(
            "\n"
        )  # said at the beginning, behind the first line, which is the cell's name
        noted = source if name == "parameters" else f"{first}{NOTE.format(name=name)}\n{rest}"
        cell: Any = v4.new_code_cell(noted, metadata={"tags": [name]})  # type: ignore[no-untyped-call]
        book.cells.append(cell)
    import nbformat

    nbformat.write(book, path)  # type: ignore[no-untyped-call]


def started(place: Path, home: Path, program: str, *words: str) -> subprocess.Popen[bytes]:
    """A program of this environment, on its way."""
    env = {k: v for k, v in os.environ.items() if k not in ("FLOWBOOK_DATABASE_URL", "DATABASE_URL")}
    env |= {"FLOWBOOK_HOME": str(home), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    with (place / "job.log").open("w") as log:
        command = [str(Path(sys.executable).with_name(program)), *words]
        return subprocess.Popen(command, cwd=place, env=env, stdout=log, stderr=subprocess.STDOUT)


def ledger(place: Path) -> dict[str, list[int]]:
    """Cell -> the kernels that it has begun in."""
    found: dict[str, list[int]] = {}
    path = place / "job-ledger.txt"
    for line in path.read_text().splitlines() if path.exists() else ():
        name, pid = line.split()
        found.setdefault(name, []).append(int(pid))
    return found
