"""The keeper: checkpoints of one kernel's namespace, one after each cell.

Owns: which variables a cell may have touched and are therefore looked at, the order of things (analyse, pickle, cut,
hand over), and what is known of the variables between cells. Refuses: IPython (`jupyter/keeping.py` is the door) and
the database (`store/vault.py`).

    keeper.before(source)      what the cell may touch; variables that are still on their way are brought
    manifest = keeper.after()  what changed is copied before this returns, and written while the next cell runs
    keeper.durable(manifest)   is it in the vault, with all that it needs?
    keeper.restore(manifest)   in another kernel
"""

from __future__ import annotations

import asyncio
import gc
import re
import sys
import threading
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from flowbook.namespace.ambient import Ambient
from flowbook.namespace.groups import pickled
from flowbook.namespace.manifest import Group, Lost, Manifest, sign, verify
from flowbook.namespace.missing import Missing, why
from flowbook.namespace.pickling import dump
from flowbook.namespace.pieces import Cut, Cutter
from flowbook.namespace.reach import ALL, Reach, reach
from flowbook.namespace.restoring import Pending, Report, Restoring
from flowbook.namespace.saving import Saver, identity
from flowbook.namespace.settled import Holders
from flowbook.namespace.sources import sources_of
from flowbook.namespace.vault import Vault

_NOT_THE_USERS: Final = re.compile(r"_i?\d+\Z|_i+\Z|__?_?\Z|_[diso]h\Z|__.*__\Z|(In|Out|exit|quit|get_ipython)\Z")


def users_names(namespace: Mapping[str, Any], hidden: Mapping[str, Any] = types.MappingProxyType({})) -> list[str]:
    """The variables that are the user's: not IPython's own, and not what is ``hidden``."""
    return [
        n for n, v in list(namespace.items()) if not _NOT_THE_USERS.match(n) and not (n in hidden and hidden[n] is v)
    ]


class Keeper:
    """Keeps one namespace in one vault. Not for several threads: it is called between cells."""

    def __init__(
        self, namespace: dict[str, Any], vault: Vault, key: bytes, *, transform: Callable[[str], str] | None = None,
        hidden: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """``transform``: a cell's text to Python, IPython's; ``hidden``: what in the namespace is not the user's."""
        self.namespace = namespace
        self.vault = vault
        self._key = key
        self._transform = transform or (lambda source: source)
        self._hidden = hidden if hidden is not None else {}
        self._ambient = Ambient()
        self._cutter = Cutter()
        self._saver = Saver(vault)
        self._groups: list[Group] = []
        self._ids: dict[str, int] = {}
        self._imports: list[str] = []
        self._captured: set[str] = set()
        self._defined: dict[str, str] = {}
        self._patched: dict[str, Lost] = {}
        self._restoring: Restoring | None = None
        self._reach: Reach | None = None
        self._cell: str | None = None
        self._count = 0
        self._threads = set(threading.enumerate())
        self._busy = False

    # -- a cell -------------------------------------------------------------------------------------------------------

    def before(self, source: str, cell: str | None = None) -> None:
        """A cell is about to run. ``cell`` is what people call it; left out: its number among all that ran here.

        Raises `CheckpointDamaged` if a variable that it may use cannot be brought back any more.
        """
        self._count += 1
        self._cell = cell if cell is not None else str(self._count)
        self._busy = self._others_run()
        try:
            self._reach = reach(self._transform(source))
        except Exception:  # a transformer of somebody's
            self._reach = ALL
        self._bring(self._reach)

    def after(self) -> dict[str, Any]:
        """The checkpoint of the namespace as it is now: a signed manifest, plain JSON.

        When this returns, all that changed has been copied; it is durable once `durable` says so.

        Raises:
            Exception: What the vault has raised at an earlier checkpoint; this one would be no better.
        """
        if self._saver.error is not None:
            raise self._saver.error
        collecting = gc.isenabled()
        gc.disable()  # thousands of references are held for a moment, which the collector would look through
        try:
            manifest = self._manifest()
        finally:
            if collecting:
                gc.enable()
        signed = sign(manifest, self._key)
        self._saver.save(self._cutter.take(), signed)
        self._reach = self._cell = None
        return signed

    def durable(self, manifest: Mapping[str, Any]) -> bool:
        """Is this checkpoint in the vault, whole?"""
        return bool(self.vault.has([identity(manifest)]))

    def wait(self, timeout: float | None = None) -> bool:
        """Until all checkpoints are durable; False after ``timeout`` seconds. Raises what the vault has raised."""
        return self._saver.wait(timeout)

    def settle(self, soon: float, small: int) -> bool:
        """Until all checkpoints are durable if no more than ``small`` bytes are on their way, else ``soon`` seconds.

        So of a cell that made little it is certain that it need not be run again. Raises what the vault has raised.
        """
        return self._saver.wait(None if self._saver.pending <= small else soon)

    @property
    def written(self) -> int:
        """Bytes that were written because the vault did not have them."""
        return self._saver.written

    def restore(self, manifest: Mapping[str, Any], *, lazily: bool = True) -> Report:
        """Put a checkpoint back. Variables that are there and that it has lost are left (cells that ran again).

        Large plain data is brought in the background, or when a cell is about to use it.

        Raises:
            CheckpointRefused: Not signed with this key; nothing was loaded.
            CheckpointDamaged: The vault does not have all of it; nothing was loaded.
        """
        it = verify(manifest, self._key)
        self._restoring = Restoring(it, self.vault, self.namespace)
        report = self._restoring.begin(lazily=lazily)
        self._cutter.known |= it.digests
        self._groups = [g for g in it.groups if not set(g.names) & {x.name for x in report.lost}]
        self._ids = {n: id(self.namespace[n]) for g in self._groups for n in g.names}
        self._imports, self._captured, self._defined = list(it.imports), set(it.captured), dict(it.defined)
        self._patched = {x.name: x for x in it.lost if "." in x.name}
        return report

    # -- bringing -----------------------------------------------------------------------------------------------------

    def _bring(self, it: Reach) -> None:
        """Bring what a cell may use, and whatever has come meanwhile."""
        if self._restoring is None:
            return
        wanted = None if it.anything else it.names | self._captured
        for name in self._restoring.bring(wanted):
            self._ids[name] = id(self.namespace[name])
        if not self._restoring.pending:
            self._restoring = None

    # -- a checkpoint -------------------------------------------------------------------------------------------------

    def _manifest(self) -> Manifest:
        it, cell = self._reach or ALL, self._cell or "?"
        ambient = self._ambient.capture()  # before anybody's __getstate__ draws a number
        names = self._names()
        modules = {n: self.namespace[n].__name__ for n in names if isinstance(self.namespace[n], types.ModuleType)}
        self._imports += [m for m in it.imports if m not in self._imports and m in sys.modules]
        self._captured |= it.captured
        self._note(it, names, modules, cell)
        kept = self._untouched(it, set(names))
        looked = [n for n in names if n not in modules and n not in {x for g in kept for x in g.names}]
        found, lost = pickled(looked, self.namespace)
        fresh = [
            Group(
                p.names, self._cutter.cut(p.it.stream, inline=True), tuple(self._cutter.cut(b) for b in p.it.buffers),
                tuple(sorted(p.it.needs)),
            )
            for p in found
        ]  # fmt: skip
        sources = self._sources(names)
        del found  # from here on nobody but the namespace holds anything
        self._groups = [*kept, *self._settled(fresh)]
        self._ids = {n: id(self.namespace[n]) for g in self._groups for n in g.names}
        return Manifest(
            tuple(self._groups), modules, tuple(self._imports), self._cut(ambient), sources,
            (*(self._lost(n, *why) for n, why in lost.items()), *self._patched.values(), *self._running()),
            tuple(sorted(self._captured)), {n: self._defined[n] for n in names if n in self._defined},
        )  # fmt: skip

    def _names(self) -> list[str]:
        return users_names(self.namespace, self._hidden)

    def _note(self, it: Reach, names: Collection[str], modules: Mapping[str, str], cell: str) -> None:
        """Which cell has bound what, and which attributes of modules it has changed."""
        for name in names:
            if name in it.stored or name not in self._defined:
                self._defined[name] = cell
        for place in it.patched:
            base, _, attribute = place.partition(".")
            if base in modules and not _of_ours(modules[base], attribute):
                self._patched[place] = Lost(
                    f"{modules[base]}.{attribute}", "an attribute of a module", "what a cell assigns in a module stays "
                    "in that module", cell,
                )  # fmt: skip

    def _untouched(self, it: Reach, names: set[str]) -> list[Group]:
        """The groups that the cell could not touch."""
        waiting = self._restoring.pending if self._restoring is not None else frozenset()
        reached = it.names | self._captured
        blind = it.anything or self._busy or self._others_run()
        return [
            g
            for g in self._groups
            if names.issuperset(g.names)
            and all(self._ids.get(n) == id(self.namespace[n]) for n in g.names)
            and (
                waiting.issuperset(g.names)
                or (g.settled and not blind and reached.isdisjoint(g.names))
            )
        ]  # fmt: skip

    def _settled(self, fresh: list[Group]) -> list[Group]:
        """The groups, those marked that only code which names them can change."""
        if not any(g.buffers or g.size > 100_000 for g in fresh):
            return fresh  # small: hashing it costs less than proving that one need not
        holders = Holders(self.namespace)
        return [Group(g.names, g.stream, g.buffers, g.needs, all(map(holders.settled, g.names))) for g in fresh]

    def _cut(self, ambient: dict[str, Any]) -> Cut:
        try:
            made = dump(ambient, self.namespace, {})
        except Exception:  # a filter of warnings, say, with a class of the notebook's
            made = dump({k: v for k, v in ambient.items() if k != "warnings"}, self.namespace, {})
        return self._cutter.cut(made.stream, inline=True)

    def _sources(self, names: Collection[str]) -> dict[str, Cut]:
        found = sources_of([self.namespace[n] for n in names], self.namespace)
        return {file: self._cutter.cut(memoryview(text.encode()), inline=True) for file, text in found.items()}

    def _lost(self, name: str, kind: str, reason: str) -> Lost:
        value = self.namespace[name]
        cell = why(value)[3] if isinstance(value, Missing) else self._defined.get(name)
        return Lost(name, kind, reason, cell)

    # -- what runs beside the cells -----------------------------------------------------------------------------------

    def _foreign(self) -> list[threading.Thread]:
        """Threads that cells have started, or a library of theirs."""
        ours = ("flowbook", "IPython", "IOPub")
        return [t for t in threading.enumerate() if t not in self._threads and not t.name.startswith(ours)]

    def _tasks(self) -> list[Any]:
        """Tasks of the notebook's that are still going."""
        try:
            tasks = asyncio.all_tasks()  # cells run inside of the kernel's loop
        except RuntimeError:
            return []
        return [t for t in tasks if _globals_of(t) is self.namespace and not _is_cell(t)]

    def _others_run(self) -> bool:
        return bool(self._foreign() or self._tasks())

    def _running(self) -> list[Lost]:
        threads = [f"thread {t.name!r}" for t in self._foreign() if not t.daemon]
        tasks = [f"task {t.get_name()!r}" for t in self._tasks()]
        return [
            *(Lost(name, "threading.Thread", "a thread ends with its kernel", self._cell) for name in threads),
            *(Lost(name, "asyncio.Task", "a task ends with its kernel", self._cell) for name in tasks),
        ]


def _of_ours(module: str, attribute: str) -> bool:
    """Is this setting among those that are kept (`ambient.py`)?"""
    return (module, attribute) in {("os", "environ"), ("sys", "path")}


def _globals_of(task: Any) -> Any:
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame.f_globals if frame is not None else None


def _is_cell(task: Any) -> bool:
    """IPython runs a cell with a top-level await as a coroutine called ``<module>``."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_name == "<module>"


__all__ = ["Keeper", "Pending", "Report"]
