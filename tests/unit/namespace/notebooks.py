"""A notebook without a kernel: cells in a dictionary, with a keeper around each.

Owns: running cells as a kernel does, source text included, and being another kernel with the same vault.
"""

from __future__ import annotations

import json
import linecache
from typing import Any, Self
from uuid import uuid4

from flowbook.namespace.keeper import Keeper, Report
from flowbook.namespace.vault import MemoryVault

KEY = b"k" * 32


class Notebook:
    """One namespace and its keeper."""

    def __init__(self, vault: Any = None, key: bytes = KEY) -> None:
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.vault = vault if vault is not None else MemoryVault()
        self.keeper = Keeper(self.namespace, self.vault, key)
        self.manifest: dict[str, Any] = {}

    def run(self, source: str, cell: str | None = None) -> Self:
        """A cell, and its checkpoint, durable."""
        self.keeper.before(source, cell)
        file = f"<cell {uuid4().hex}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        exec(compile(source, file, "exec"), self.namespace)
        self.manifest = json.loads(json.dumps(self.keeper.after()))  # it must be plain JSON
        assert self.keeper.wait(30)
        return self

    def written_by(self, source: str) -> int:
        """Bytes that a cell's checkpoint writes."""
        before = self.keeper.written
        self.run(source)
        return self.keeper.written - before

    @property
    def lost(self) -> dict[str, dict[str, str]]:
        """Variable -> what its checkpoint says of it."""
        return {x["name"]: x for x in self.manifest["lost"]}

    def resumed(self, *, lazily: bool = False) -> Resumed:
        """Another kernel with this one's last checkpoint in it."""
        other = Resumed(self.vault)
        other.report = other.keeper.restore(self.manifest, lazily=lazily)
        other.manifest = self.manifest
        return other

    def __getitem__(self, name: str) -> Any:
        return self.namespace[name]


class Resumed(Notebook):
    """A notebook in another kernel."""

    report: Report
