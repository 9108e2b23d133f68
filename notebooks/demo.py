"""The demo: the quickstart notebook, killed half-way and carried on, then a papermill job. `make demo` runs this.

Owns: the story, told in plain words, and the proof of each of its claims from the database and from a ledger that
flowbook knows nothing of. Ends with 1 if a claim does not hold. Refuses: leaving anything running, or touching a
database of yours: it has a Postgres of its own in ``build/demo``.

    python notebooks/demo.py                   the story
    python notebooks/demo.py --execute FILE    what it starts twice: runs the notebook, headless, and writes FILE
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "notebooks" / "01_quickstart.ipynb"
BUILD = ROOT / "build"
PLACE = BUILD / "demo"
HOME = PLACE / "home"
LEDGER = PLACE / "quickstart-ledger.txt"
PAGE = BUILD / "demo.html"

ENOUGH = 5
"""Finished steps after which the kernel is killed: load, validate, split and two of the four models."""
PATIENCE = 120.0
"""Seconds that anything may take before the demo gives up."""
DIED = 3
"""Exit code of the executing process when its kernel is gone."""


@dataclass
class Story:
    """What is said, and whether it is true."""

    console: Console = field(default_factory=lambda: Console(highlight=False))
    chapter: int = 0
    broken: list[str] = field(default_factory=list)
    proofs: list[str] = field(default_factory=list)

    def begin(self, title: str) -> None:
        self.chapter += 1
        self.console.print()
        self.console.print(Text.assemble((f"{self.chapter}  ", "bold cyan"), (title, "bold")))

    def say(self, text: str, style: str = "") -> None:
        self.console.print(Padding(Text(text, style), (0, 0, 0, 3)))

    def claim(self, holds: bool, text: str) -> None:
        self.console.print(
            Padding(Text.assemble(("✓ ", "bold green") if holds else ("✗ ", "bold red"), text), (0, 0, 0, 3))
        )
        (self.proofs if holds else self.broken).append(text)


@dataclass
class Player:
    """A process that executes the notebook, and the kernel below it."""

    process: subprocess.Popen[str]
    kernel: int
    log: Path

    @classmethod
    def start(cls, number: int) -> Player:
        env = {k: v for k, v in os.environ.items() if k not in ("FLOWBOOK_DATABASE_URL", "DATABASE_URL")}
        env |= {"FLOWBOOK_HOME": str(HOME), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
        log = PLACE / f"process-{number}.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, __file__, "--execute", str(PLACE / "executed.ipynb")],
                env=env, cwd=PLACE, stdout=subprocess.PIPE, stderr=errors, text=True,
            )  # fmt: skip
        assert process.stdout is not None, "it was opened as a pipe"
        first = process.stdout.readline().split()
        if first[:1] != ["kernel"]:
            process.kill()
            raise SystemExit(f"the notebook could not be started:\n{log.read_text()[-3000:]}")
        return cls(process, int(first[1]), log)

    def end(self) -> None:
        """Nothing of it is left afterwards."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.kernel, signal.SIGKILL)
            self.process.kill()
        self.process.wait()


def main() -> int:
    """Tell the story."""
    began = time.monotonic()
    story = Story()
    story.console.print(Text("flowbook: a notebook is killed half-way, and goes on", "bold underline"))
    prepare()
    import flowbook  # here: the executing process needs none of it

    players: list[Player] = []
    try:
        story.begin("A Postgres of its own")
        with flowbook.connect(home=HOME) as app:
            story.say(f"started an embedded one, nothing was installed or configured: {app.shown}")
            run_id, before = act_one(story, app, players)
            act_two(story, app, players, run_id, before)
            prove(story, app, run_id, before, players)
            from notebooks.demo_job import job

            job(story, app, PLACE, HOME, PATIENCE)
    finally:
        for player in players:
            player.end()
        stop_server()
    return close(story, time.monotonic() - began)


def prepare() -> None:
    """A clean place: the run of an earlier demo would simply be found again by its key."""
    if HOME.exists():
        stop_server()
        note = HOME / "seat"  # root's server keeps its data where its account can go
        if note.exists():
            shutil.rmtree(note.read_text().strip(), ignore_errors=True)
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)


def stop_server() -> None:
    """The demo's own Postgres goes down, and with it the last process of the demo."""
    from flowbook.store.embedded import Cluster

    Cluster(HOME).down()


def act_one(story: Story, app: Any, players: list[Player]) -> tuple[UUID, list[Any]]:
    """The notebook runs, and its kernel is killed."""
    story.begin("The quickstart notebook runs, headless, in a process of its own")
    players.append(player := Player.start(1))
    story.say(f"{NOTEBOOK.name} in kernel {player.kernel}: 1,797 scans of digits, four models side by side")
    view = watch(story, app, player, lambda v: v.done >= ENOUGH)
    going = [s.path for s in view.steps if s.state == "running"]

    story.begin(f"kill -9 {player.kernel}")
    os.kill(player.kernel, signal.SIGKILL)
    killed = time.monotonic()
    story.say(f"{view.done} of {len(view.spec['nodes'])} steps were finished; {', '.join(going)} were at work")
    while (view := app.find(view.id).view()).status == "running" and time.monotonic() < killed + PATIENCE:
        time.sleep(0.02)
    story.say(
        f"its death was noticed {time.monotonic() - killed:.1f} s later: the run is {view.status}, nobody carries it"
    )
    if view.needs:
        story.say(f"what it needs to go on: {view.needs}")
    story.claim(not view.status.over, "when its kernel was dead, the run was neither over nor lost")
    code = player.process.wait(PATIENCE)
    story.claim(code == DIED, "the first process had no kernel any more, and gave up")
    return view.id, journal(app, view.id)


def act_two(story: Story, app: Any, players: list[Player], run_id: UUID, before: Sequence[Any]) -> None:
    """The notebook runs again, from the top, in a new process."""
    story.begin("The same notebook again, from the top, in a new process")
    players.append(player := Player.start(2))
    story.say(f"kernel {player.kernel}; the cell with --key digits finds its run")
    known = {e.path for e in before if e.kind == "finished"}
    watch(story, app, player, lambda v: v.status.over, known)
    story.claim(player.process.wait(PATIENCE) == 0, "a second process executed the notebook to its last cell")


def watch(story: Story, app: Any, player: Player, enough: Any, known: set[str] | None = None) -> Any:
    """Tell of each step that finishes until ``enough``; the last view."""
    told, said_kept = set(known or ()), known is None
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for row in app.runs(flow="quickstart", limit=1):
            view = app.find(row.id).view()
            if not said_kept and view.status == "running":
                said_kept = True
                story.say(f"kept   {', '.join(sorted(told))}", "dim")
            for step in view.steps:
                if step.state == "finished" and step.path not in told:
                    told.add(step.path)
                    tries = step.attempts[-1].number
                    again = f"   at attempt {tries}" if tries > 1 else ""
                    story.say(f"done   {step.path:<14}{step.seconds:4.1f} s{again}", "green")
            if enough(view):
                return view
        if player.process.poll() not in (None, 0):
            raise SystemExit(f"the notebook ended too early:\n{player.log.read_text()[-3000:]}")
        time.sleep(0.05)
    raise SystemExit(f"gave up after {PATIENCE:.0f} s")


def prove(story: Story, app: Any, run_id: UUID, before: Sequence[Any], players: Sequence[Player]) -> None:
    """What the database and the ledger say."""
    from flowbook.show.text import run_table
    from notebooks.demo_page import external, page

    story.begin("What the database says")
    view, after = app.find(run_id).view(), journal(app, run_id)
    story.console.print(Padding(run_table(view), (0, 0, 1, 3)))
    kept = [e.path for e in before if e.kind == "finished"]
    rest = after[len(before) :]
    story.claim(view.status == "completed", "the run is completed")
    story.claim(len(app.runs(limit=10)) == 1, "it is one run: that process started none of its own")
    story.claim(
        list(after[: len(before)]) == list(before),
        f"the {len(before)} journal rows from before the kill are unchanged: number, time, attempt, content",
    )
    story.claim(
        bool(kept) and not {e.path for e in rest} & set(kept),
        f"no later row is about a step that had finished ({', '.join(kept)})",
    )
    finished = [e.path for e in after if e.kind == "finished"]
    story.claim(
        len(finished) == len(set(finished)) == len(view.spec["nodes"]),
        f"each of the {len(finished)} steps has exactly one result",
    )
    story.begin("What the witness says: a text file that each step writes to when it begins")
    first, second = (began_in(p.kernel) for p in players)
    story.say(f"process {players[0].kernel} began  {', '.join(first)}")
    story.say(f"process {players[1].kernel} began  {', '.join(second)}")
    story.claim(set(kept) <= set(first), "every finished step had begun in the first process")
    story.claim(bool(second) and not set(kept) & set(second), "in the second one, none of them began")

    story.begin("The page")
    html = page(PLACE / "executed.ipynb", view, before, after, players[0].kernel, story.proofs)
    PAGE.write_text(html, encoding="utf-8")
    story.claim(not external(html), "it needs no kernel, no network and no script")
    story.claim(
        "data:image/svg+xml;base64," in html and "data:image/png;base64," in html,
        "the finished topology and the report's picture are in it",
    )


def journal(app: Any, run_id: UUID) -> list[Any]:
    """All rows of a run."""
    return list(app.portal.call(app.app.store.history(run_id)))


def began_in(process: int) -> list[str]:
    """Paths that began in a process, by the ledger, each once, in order."""
    lines = [line.split() for line in LEDGER.read_text().splitlines()]
    return list(dict.fromkeys(words[0] for words in lines if words and words[-1] == str(process)))


def close(story: Story, seconds: float) -> int:
    """The last words, and the exit code."""
    story.console.print()
    if story.broken:
        story.console.print(Text(f"{len(story.broken)} claims do not hold: {'; '.join(story.broken)}", "bold red"))
        return 1
    kilobytes = PAGE.stat().st_size / 1000
    story.console.print(
        Text.assemble(
            (f"All {len(story.proofs)} claims hold. ", "bold green"),
            f"Open {PAGE.relative_to(ROOT)} ({kilobytes:.0f} kB) in any browser; {seconds:.0f} s in all.",
        )
    )
    return 0


def execute(out: Path) -> int:
    """Execute the notebook and write it, its outputs included. Says the kernel's process id first."""
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]

    def started(**_: Any) -> None:
        print(f"kernel {client.km.provisioner.pid}", flush=True)

    client: Any = NotebookClient(
        notebook, timeout=PATIENCE, resources={"metadata": {"path": str(PLACE)}}, on_notebook_start=started
    )
    try:
        client.execute()
    except DeadKernelError:
        return DIED
    nbformat.write(notebook, out)  # type: ignore[no-untyped-call]
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(execute(Path(sys.argv[2])) if sys.argv[1:2] == ["--execute"] else main())
