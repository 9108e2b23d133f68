"""The extension: what ``%load_ext flowbook`` puts into IPython, and takes out again.

Owns: registering the transformers, magics, completer, displays and events, and the first connection. Refuses: being
loaded twice: a second load changes nothing but tries again to connect if there is no database.
"""

from __future__ import annotations

import asyncio
import atexit
import builtins
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from IPython.core.magic import no_var_expand

from flowbook.errors import FlowbookError
from flowbook.jupyter import redaction
from flowbook.jupyter.agents import AgentMagics
from flowbook.jupyter.cell import Hook, framed
from flowbook.jupyter.completion import matcher
from flowbook.jupyter.formats import register
from flowbook.jupyter.magics import TABLE, Magics
from flowbook.jupyter.mistakes import usage
from flowbook.jupyter.names import HOOK, rewrite
from flowbook.jupyter.runs import show_runs
from flowbook.jupyter.session import Session
from flowbook.jupyter.steps import HOOK as STEP_HOOK
from flowbook.jupyter.steps import StepCells
from flowbook.jupyter.steps import framed as step_framed
from flowbook.show.safe import clean
from flowbook.sync import SyncRun, SyncRuns


class _Rewriter:
    """IPython wants an object with ``visit``."""

    def visit(self, module: Any) -> Any:
        return rewrite(module)


class Extension:
    """All that is registered with one IPython."""

    def __init__(self, ip: Any) -> None:
        self.ip = ip
        self.session = Session(ip, os.environ)
        self.hook = Hook(self.session)
        self.steps = StepCells(self.session)
        self._undo: list[Callable[[], Any]] = []

    def load(self) -> None:
        """Register everything; nothing of it needs the database."""
        ip = self.ip
        setattr(builtins, HOOK, self.hook)
        self._undo.append(partial(delattr, builtins, HOOK))
        transformer = partial(framed, commands=frozenset(TABLE))
        transformer.has_side_effects = False  # type: ignore[attr-defined]
        self._put(ip.input_transformers_cleanup, transformer)
        setattr(builtins, STEP_HOOK, self.steps)
        self._undo.append(partial(delattr, builtins, STEP_HOOK))
        self._put(ip.input_transformers_cleanup, step_framed)
        self._put(ip.ast_transformers, _Rewriter())
        self._put(ip.ast_transformers, self.steps)
        self._put(ip.Completer.custom_matchers, matcher(self.session))
        self._undo.append(redaction.install(ip))
        self._magic()
        self._formatters()
        ip.events.register("post_run_cell", self._cell_ran)
        self._undo.append(partial(ip.events.unregister, "post_run_cell", self._cell_ran))
        atexit.register(self.session.close)
        self._undo.append(partial(atexit.unregister, self.session.close))

    def connect(self) -> None:
        """Find a database and say which; without one, say why and go on: flows can be declared and looked at."""
        try:
            shown = self.session.connect()
        except (FlowbookError, OSError) as error:
            print(f"flowbook: no database. {clean(error)}\n%flow connect URL connects to one.")  # noqa: T201 - told once
        else:
            print(f"flowbook: {shown}")  # noqa: T201 - one line says which database it is

    def unload(self) -> None:
        """Take everything out again and disconnect."""
        while self._undo:
            self._undo.pop()()
        self.steps.close()
        self.session.close()

    def _put(self, into: list[Any], thing: Any) -> None:
        into.append(thing)
        self._undo.append(partial(into.remove, thing))

    def _magic(self) -> None:
        magics = Magics(self.session)
        agents = AgentMagics(self.session, magics.shown)

        @no_var_expand  # `{...}` in a line is a dict of the user's, not a place for a variable
        def flow(line: str, cell: str | None = None) -> Any:
            """Flows: ``%flow --help`` lists the commands, ``%%flow NAME`` declares a flow."""
            __tracebackhide__ = True
            if cell is not None:
                raise usage("%%flow must be the first line of its cell")
            return magics.flow(line)

        @no_var_expand
        def agent(line: str, cell: str | None = None) -> None:
            """Agents: ``%%agent NAME --model M``, the rest of the cell is its instructions."""
            __tracebackhide__ = True
            agents.agent(line, cell)

        @no_var_expand
        def ask(line: str, cell: str | None = None) -> Any:
            """Ask an agent: ``%%ask NAME``, the rest of the cell is the question."""
            __tracebackhide__ = True
            return agents.ask(line, cell)

        @no_var_expand
        def step(line: str, cell: str | None = None) -> None:
            """A durable cell: ``%%step [NAME]``; ``%%step --help``."""
            __tracebackhide__ = True
            if line.strip() in ("--help", "-h", "?"):
                self.steps("--help")
                return
            raise usage("%%step must be the first line of its cell; `%%step --help`")

        for name, function in (("flow", flow), ("agent", agent), ("ask", ask), ("step", step)):
            for kind in ("line", "cell"):
                self.ip.register_magic_function(function, magic_kind=kind, magic_name=name)
                self._undo.append(partial(self.ip.magics_manager.magics[kind].pop, name, None))

    def _formatters(self) -> None:
        self._undo += register(self.ip.display_formatter.formatters)
        shows = self.ip.display_formatter.ipython_display_formatter
        for kind, show in ((SyncRun, self._show_once), (SyncRuns, partial(show_runs, self.session))):
            shows.for_type(kind, show)
            self._undo.append(partial(shows.pop, kind, None))

    def _show_once(self, run: SyncRun) -> None:
        """A run at the end of a cell; not again if the cell has shown it already (``%flow run`` is also a value)."""
        if not self.session.displays.shown(run.id):
            self.session.displays.show(run)

    def _cell_ran(self, result: Any) -> None:
        self.hook.clear()
        self.steps.ran(success=bool(result.success))
        # An awaiting cell is interrupted by a cancel of its task.
        interrupted = isinstance(result.error_in_exec, KeyboardInterrupt | asyncio.CancelledError)
        self.session.displays.cell_ends(interrupted=interrupted)


_loaded: dict[int, Extension] = {}


def load_ipython_extension(ip: Any) -> None:
    """``%load_ext flowbook``."""
    extension = _loaded.get(id(ip))
    if extension is None:
        extension = _loaded[id(ip)] = Extension(ip)
        extension.load()
    if not extension.session.connected:
        extension.connect()


def unload_ipython_extension(ip: Any) -> None:
    """``%unload_ext flowbook``."""
    extension = _loaded.pop(id(ip), None)
    if extension is not None:
        extension.unload()
