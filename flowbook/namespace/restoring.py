"""Restoring: a verified checkpoint, put into a namespace.

Owns: the order (working directory, environment, imports, classes and functions when something names them, the other
variables, random states), what is brought later, and the report. Refuses: bytes whose digest is not the one that the
signed manifest names.

Large plain data comes later: a thread fetches it, and it is bound between two cells, or before one that may use it.
Only the fetching is done beside the notebook; whatever could run code is done where cells run.
"""

from __future__ import annotations

import importlib
import pickle
import threading
import time
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from flowbook.namespace import ambient
from flowbook.namespace.manifest import Group, Lost, Manifest, listed
from flowbook.namespace.missing import Missing
from flowbook.namespace.pickling import Here, load
from flowbook.namespace.pieces import joined
from flowbook.namespace.saving import check
from flowbook.namespace.sources import put_back
from flowbook.namespace.vault import Vault

LATER: Final = 8 * 1024 * 1024
"""Bytes from which a group of plain data is brought later."""


@dataclass(frozen=True, slots=True)
class Report:
    """What came back, and what did not."""

    restored: tuple[str, ...]
    lost: tuple[Lost, ...]
    """Each is named in the notebook too: its variable raises when it is used."""
    remade: tuple[str, ...] = ()
    """Variables that the checkpoint does not have, and that cells which ran again have made."""
    later: tuple[str, ...] = ()
    """Of those restored, the ones that are still on their way."""
    notes: tuple[str, ...] = ()
    """What around the variables could not be put back."""
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"{len(self.restored)} variables restored in {self.seconds:.2f} s"]
        lines += [f"lost: {x}" for x in self.lost]
        return "\n".join([*lines, *self.notes])

    def to_json(self) -> dict[str, Any]:
        """For an engine that is in another process."""
        return {
            "restored": list(self.restored), "remade": list(self.remade), "later": list(self.later),
            "notes": list(self.notes), "seconds": self.seconds,
            "lost": [{"name": x.name, "type": x.type, "reason": x.reason, "cell": x.cell} for x in self.lost],
        }  # fmt: skip


class Pending:
    """Stands for a variable that is still on its way; the cell that names it never sees it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<{self._name}: on its way from the checkpoint>"


@dataclass(slots=True)
class _Later:
    group: Group
    fetched: Future[tuple[Any, list[Any]]] = field(default_factory=Future)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def fetch(self, vault: Vault) -> tuple[Any, list[Any]]:
        """Its parts, fetched by whoever is first. Raises `CheckpointDamaged`."""
        with self.guard:
            if not self.fetched.done():
                try:
                    self.fetched.set_result(_parts(self.group, vault))
                except Exception as error:
                    self.fetched.set_exception(error)
        return self.fetched.result()


class Restoring:
    """One checkpoint on its way into one namespace."""

    def __init__(self, manifest: Manifest, vault: Vault, namespace: dict[str, Any]) -> None:
        self._manifest, self._vault, self._namespace = manifest, vault, namespace
        self._here = Here(namespace, self._named)
        self._of = {name: group for group in manifest.groups for name in group.names}
        self._done: set[int] = set()
        self._later: dict[int, _Later] = {}
        self._wrong: list[Lost] = []

    @property
    def pending(self) -> frozenset[str]:
        """Variables that are still on their way."""
        return frozenset(name for it in self._later.values() for name in it.group.names)

    def begin(self, *, lazily: bool) -> Report:
        """Everything that cannot come later. Raises `CheckpointDamaged` before anything is bound."""
        start = time.perf_counter()
        it = self._manifest
        check(self._vault, it.digests)
        put_back({file: bytes(joined(cut, self._vault)).decode() for file, cut in it.sources.items()})
        state = load(joined(it.ambient, self._vault), (), self._here) if it.ambient is not None else {}
        notes = ambient.prepare(state)
        self._import()
        for group in it.groups:
            if lazily and group.settled and group.size >= LATER:
                self._later[id(group)] = _Later(group)
                self._namespace.update({name: Pending(name) for name in group.names})
        for group in it.groups:
            if id(group) not in self._later:
                self._load(group)
        remade = self._missing()
        notes += ambient.settle(state)
        later = self.pending
        if self._later:
            work = list(self._later.values())
            threading.Thread(target=_fetch_all, args=(work, self._vault), name="flowbook-restore", daemon=True).start()
        gone = {x.name for x in self._wrong}
        restored = [
            *(n for g in it.groups for n in g.names if n not in gone),
            *(n for n in it.modules if n not in gone),
        ]
        lost = (*(x for x in it.lost if x.name not in remade), *self._wrong)
        return Report(
            tuple(restored), lost, tuple(remade), tuple(sorted(later)), tuple(notes), time.perf_counter() - start
        )

    def bring(self, wanted: AbstractSet[str] | None) -> list[str]:
        """Bind what a cell may use (None: all), and what has come meanwhile; the answer is the names.

        Raises `CheckpointDamaged` if something that is wanted cannot be had.
        """
        bound: list[str] = []
        for key, it in list(self._later.items()):
            mine = wanted is None or not wanted.isdisjoint(it.group.names)
            if not mine and not it.fetched.done():
                continue
            names = [n for n in it.group.names if isinstance(self._namespace.get(n), Pending)]
            if not mine and it.fetched.exception() is not None:
                continue  # told when a cell wants it
            stream, buffers = it.fetch(self._vault)
            values = load(stream, buffers, self._here)
            self._namespace.update({n: values[n] for n in names})
            del self._later[key]
            bound += names
        return bound

    # -- loading ------------------------------------------------------------------------------------------------------

    def _import(self) -> None:
        for name in self._manifest.imports:
            with suppress(Exception):  # told where a variable needs it
                importlib.import_module(name)
        for variable, module in self._manifest.modules.items():
            try:
                self._namespace[variable] = importlib.import_module(module)
            except Exception as error:
                self._lose(variable, "module", f"it cannot be imported here ({type(error).__name__}: {error})")

    def _named(self, name: str) -> Any:
        """A class or function of the notebook, loaded by now."""
        group = self._of.get(name)
        if group is None and name in self._namespace:  # a step names what an earlier cell has made
            return self._namespace[name]
        if group is None:
            raise pickle.UnpicklingError(f"the checkpoint has no {name!r}")
        if id(group) in self._later:
            self.bring(set(group.names))
        elif id(group) not in self._done:
            self._load(group)
        return self._namespace[name]

    def _load(self, group: Group) -> None:
        if id(group) in self._done:
            return
        self._done.add(id(group))
        stream, buffers = _parts(group, self._vault)
        try:
            self._namespace.update(load(stream, buffers, self._here))
        except Exception as error:
            for name in group.names:
                self._lose(name, "a value", f"it cannot be loaded here ({type(error).__name__}: {error})")

    def _lose(self, name: str, kind: str, reason: str) -> None:
        lost = Lost(name, kind, reason, self._manifest.defined.get(name))
        self._wrong.append(lost)
        self._namespace[name] = Missing(name, kind, reason, lost.cell)

    def _missing(self) -> list[str]:
        """Put a sentinel wherever something was lost and no cell has made it again; the answer is what was."""
        remade = []
        for lost in self._manifest.lost:
            if not lost.name.isidentifier():
                continue
            if lost.name in self._namespace and not isinstance(self._namespace[lost.name], Missing):
                remade.append(lost.name)
            else:
                self._namespace[lost.name] = Missing(lost.name, lost.type, lost.reason, lost.cell)
        return remade


def _parts(group: Group, vault: Vault) -> tuple[Any, list[Any]]:
    return joined(group.stream, vault), [joined(cut, vault) for cut in group.buffers]


def _fetch_all(work: list[_Later], vault: Vault) -> None:
    for it in work:
        with suppress(Exception):  # told when a cell wants it
            it.fetch(vault)


__all__ = ["LATER", "Pending", "Report", "Restoring", "listed"]
