"""Step cells: after ``%%step [NAME]`` what a cell gave is restored as long as nothing changed that it reads.

Owns: the first line, deciding before the body runs, keeping what it gave after it has run, and the badge. Refuses: what
counts as changed (`namespace/steps.py`).

As in flow cells an input transformer turns the first line into a call, so the body stays an ordinary cell with its own
lines and top-level ``await``. Whether it runs is decided when IPython has parsed it: a body that need not run is taken
out of the tree.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flowbook.errors import FlowbookError
from flowbook.graph.sign import load_key
from flowbook.jupyter.mistakes import brief, usage
from flowbook.jupyter.parse import Command, parse
from flowbook.namespace.steps import Begun, Call, Kept, Restored, Steps
from flowbook.namespace.vault import MemoryVault
from flowbook.show.safe import duration, escape
from flowbook.store.vault import PostgresVault

if TYPE_CHECKING:
    from flowbook.jupyter.session import Session

STEP = Command(
    "[NAME]",
    "Keep what this cell gives; run again, also after a kernel restart, it is restored while its code and inputs are "
    "the same. Files and the network are not seen: --always.",
    "%%step load --in path --out df",
    options={
        "--in A,B": "the variables that count as inputs; left out: those that the code reads",
        "--out A,B": "the variables that are kept; left out: those that the code binds or changes",
        "--always": "run it in any case, and keep what it gives",
    },
)
HOOK = "__flowbook_step__"
"""The name of the call that stands for the first line; it is among the builtins while the extension is loaded."""
_FIRST = re.compile(r"%%step(?=\s|\Z)(.*)", re.DOTALL)
_LINE = re.compile(r"%%step[ \t]+(.*)\Z")
_NAME = re.compile(r"[A-Za-z_][\w.-]*\Z")


def framed(lines: list[str]) -> list[str]:
    """The input transformer: a step cell with a call in the place of its first line, any other cell as it is."""
    first = _FIRST.match(lines[0]) if lines else None
    return lines if first is None else [f"{HOOK}({first[1].strip()!r})\n", *lines[1:]]


class StepCells:
    """The step cells of a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._steps: dict[str | None, Steps] = {}
        self._begun: Begun | None = None
        self._error: Exception | None = None

    def __call__(self, arguments: str) -> None:
        """What stands in the place of the first line when a cell cannot run: its error, or its help."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        print(STEP.help("%%step"))  # noqa: T201 - the answer to --help

    def visit(self, module: ast.Module) -> ast.Module:
        """The AST transformer: a step cell with its body, or without it if what it gives was restored."""
        match module:
            case ast.Module(
                body=[ast.Expr(ast.Call(ast.Name(id=hook), [ast.Constant(str(arguments))])) as first, *body]
            ):
                if hook != HOOK:
                    return module
            case _:
                return module
        if arguments in ("--help", "-h", "?"):
            module.body = [first]
            return module
        try:
            module.body = [] if self._arrive(arguments, body) else body
        except Exception as error:  # IPython would drop a transformer that raises
            self._error = brief(error) if isinstance(error, FlowbookError) else error
            module.body = [first]
        return module

    def ran(self, *, success: bool) -> None:
        """A cell has ended: if it was a step that ran, keep what it gave."""
        begun, self._begun = self._begun, None
        if begun is not None and success:
            kept = self._of_session().finish(begun)
            self._session.publish({"text/html": kept_html(kept), "text/plain": kept_plain(kept)})

    def close(self) -> None:
        """Hang up."""
        for steps in self._steps.values():
            if isinstance(steps.vault, PostgresVault):
                steps.vault.close()
        self._steps.clear()

    def _arrive(self, arguments: str, body: list[ast.stmt]) -> bool:
        """Was it restored?"""
        self._begun = None
        call = called(arguments, body)
        found = self._of_session().arrive(call)
        if isinstance(found, Begun):
            self._begun = found
            return False
        self._session.publish({"text/html": restored_html(found), "text/plain": restored_plain(found)})
        return True

    def _of_session(self) -> Steps:
        """The steps of this notebook, in the database that it is connected to now."""
        address = self._session.address
        if address not in self._steps:
            vault = MemoryVault() if address is None else PostgresVault(address)
            key = load_key(self._session.home)
            self._steps[address] = Steps(self._session.namespace, vault, key, notebook_of(self._session.env))
        return self._steps[address]


def called(arguments: str, body: Sequence[ast.stmt]) -> Call:
    """What the first line says. Raises a usage error."""
    it = parse(arguments, STEP)
    if it.pairs or it.call or len(it.words) > 1:
        raise usage("%%step takes a name and options, as in `%%step load --out df`; `%%step --help`")
    if it.words and not _NAME.match(it.words[0]):
        raise usage(f"{it.words[0]!r} cannot be a step's name: letters, digits, _ . and - only")
    if not body:
        raise usage("%%step needs code below its first line")
    source = ast.unparse(ast.Module(list(body), []))
    inputs, outputs = (_names(it.options.get(o), o) for o in ("in", "out"))
    name = it.words[0] if it.words else ", ".join(outputs or _bound(body)) or source[:60]
    return Call(name, source, inputs, outputs, "always" in it.options)


def _names(text: str | None, option: str) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(n.strip() for n in text.split(",") if n.strip())
    if wrong := [n for n in names if not n.isidentifier()]:
        raise usage(f"--{option} takes names of variables, and {wrong[0]!r} is none")
    return names


def _bound(body: Sequence[ast.stmt]) -> list[str]:
    names = [n.id for s in body for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return list(dict.fromkeys(names))[:3]


def notebook_of(env: Mapping[str, str]) -> str:
    """What tells this notebook from others: its path where the server says it, else the working directory."""
    return env.get("JPY_SESSION_NAME") or str(Path.cwd())


def complete(text: str, names: Sequence[str]) -> Sequence[str] | None:
    """What may stand at the end of ``text``, a line up to the cursor; None: it is no line of ours."""
    line = _LINE.match(text)
    if line is None:
        return None
    words = ["", *line[1].split(), *([""] if not line[1] or line[1][-1:].isspace() else [])]
    if words[-2] in ("--in", "--out"):
        done = words[-1].rpartition(",")[0]
        return [f"{done},{n}" if done else n for n in names]
    return [*(o.partition(" ")[0] for o in STEP.options), "--help"]


# -- the badge -------------------------------------------------------------------------------------------------------


def restored_plain(it: Restored) -> str:
    """``load: restored from 14:02, saved 3 min``."""
    return f"{it.name}: restored from {_when(it.at)}, saved {_span(it.seconds)}"


def restored_html(it: Restored) -> str:
    """The same, as a badge."""
    listed = f" · {escape(', '.join(it.outputs), 80)}" if it.outputs else ""
    said = f"restored from {_when(it.at)}, saved {_span(it.seconds)}{listed}"
    return _badge("#e8f5ee", "#2f7d55", "↺", it.name, said)


def kept_plain(it: Kept) -> str:
    """What a step that ran has to say."""
    said = f"not kept: {it.not_kept}" if it.not_kept else f"kept {_size(it.size)}"
    return f"{it.name}: ran {duration(it.seconds)}{_because(it)}; {said}"


def kept_html(it: Kept) -> str:
    """The same, as a badge."""
    if it.not_kept:
        said = f"ran {duration(it.seconds)}{escape(_because(it))} · <b>not kept</b>: {escape(it.not_kept)}"
        return _badge("#fdf3e1", "#8a5a0b", "!", it.name, said)
    listed = f": {escape(', '.join(it.outputs), 80)}" if it.outputs else ""
    said = f"ran {duration(it.seconds)}{escape(_because(it))} · kept {_size(it.size)}{listed}"
    return _badge("#eef3fb", "#35599c", "✓", it.name, said)


def _because(it: Kept) -> str:
    return f" ({it.why})" if it.why else ""


def _badge(ground: str, ink: str, sign: str, name: str, said: str) -> str:
    style = (
        f"display:inline-block;margin:4px 0;padding:2px 10px;border-radius:10px;background:{ground};color:{ink};"
        "font:12px/1.6 system-ui,sans-serif"
    )
    return f'<div style="{style}"><span aria-hidden="true">{sign}</span> <b>{escape(name, 60)}</b> {said}</div>'


def _when(at: datetime) -> str:
    here, now = at.astimezone(), datetime.now().astimezone()
    return f"{here:%H:%M}" if here.date() == now.date() else f"{here:%Y-%m-%d %H:%M}"


def _span(seconds: float) -> str:
    return duration(seconds) if seconds < 60 else f"{round(seconds / 60)} min" if seconds < 5400 else duration(seconds)


def _size(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"
