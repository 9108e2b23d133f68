"""Keeping: checkpoints of this kernel's variables, for whoever drives it from outside.

Owns: the keeper of the IPython in this process, and four calls that take and give plain JSON, so that an engine in
another process can make them by ``execute`` with ``user_expressions``. Refuses: deciding when.

    begin(url)                          once per kernel, where ``url`` is the database
    before(source, cell)                a cell is about to run
    after() -> manifest                 signed; give it to `restore` in another kernel, now or in a year
    restore(manifest) -> report
    durable(identity) -> bool           is that checkpoint in the vault, whole?

The key is in ``FLOWBOOK_HOME`` (mode 0600) unless it is given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from IPython.core.getipython import get_ipython

from flowbook.errors import UsageError
from flowbook.graph.sign import load_key
from flowbook.namespace.keeper import Keeper
from flowbook.namespace.saving import find, identity
from flowbook.namespace.vault import MemoryVault, Vault
from flowbook.store.embedded import default_home
from flowbook.store.vault import PostgresVault

_keepers: dict[int, Keeper] = {}


def begin(
    url: str | None = None, *, home: str | None = None, vault: Vault | None = None, ip: Any = None,
    key: bytes | None = None,
) -> Keeper:  # fmt: skip
    """The keeper of this kernel, made when there is none; its vault is the database at ``url``, or ``vault``.

    ``key``: what signs; None: the one in ``home``.

    Raises `SignatureRefused` for a key that is none, OSError if it cannot be read or made.
    """
    ip = ip if ip is not None else get_ipython()
    if ip is None:
        raise UsageError("there is no IPython in this process whose variables could be kept")
    if id(ip) not in _keepers:
        place = Path(home) if home else home_of(os.environ)
        chosen = vault if vault is not None else PostgresVault(url) if url else MemoryVault()
        _keepers[id(ip)] = Keeper(
            ip.user_ns, chosen, key or load_key(place), transform=ip.transform_cell, hidden=ip.user_ns_hidden
        )
    return _keepers[id(ip)]


def home_of(env: Mapping[str, str]) -> Path:
    """Where this user's key is."""
    return Path(env["FLOWBOOK_HOME"]) if env.get("FLOWBOOK_HOME") else default_home()


def before(source: str, cell: str | None = None) -> None:
    """A cell is about to run. ``cell``: what people call it."""
    begin().before(source, cell)


def after(*, wait: bool = False) -> str:
    """The checkpoint: ``{"manifest": ..., "identity": ..., "lost": [...]}``; with ``wait`` it is durable already.

    Without, the cell that comes next may run meanwhile: the checkpoint is durable once the vault has ``identity``.
    """
    keeper = begin()
    manifest = keeper.after()
    if wait:
        keeper.wait()
    return json.dumps({"manifest": manifest, "identity": identity(manifest).hex(), "lost": manifest["lost"]})


def restore(manifest: str) -> str:
    """Put a checkpoint back, given as JSON or as the hex identity under which the vault has it; the report, as JSON."""
    keeper = begin()
    given = find(keeper.vault, bytes.fromhex(manifest)) if manifest[:1] != "{" else json.loads(manifest)
    return json.dumps(keeper.restore(given).to_json())


def durable(ident: str) -> bool:
    """Is the checkpoint of this identity in the vault, whole?"""
    return bool(begin().vault.has([bytes.fromhex(ident)]))
