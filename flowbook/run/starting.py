"""Starting: what is said when a key is taken.

Owns: comparing a start with the run that has its key. Refuses: the input's bytes (`inputs.py`) and starting
(`engine.py`).
"""

from __future__ import annotations

import contextlib

from flowbook.codec import decode
from flowbook.errors import KeyConflict
from flowbook.graph.changes import changes
from flowbook.ports import Definition, NewRun, RunRow, Store


def same_input(row: RunRow, new: NewRun) -> None:
    """Raise `KeyConflict` if the run that has the key was started with another input."""
    if row.input_digest != new.input_digest:
        raise KeyConflict(
            f"key {new.key!r} of flow {new.flow!r} belongs to run {row.id}, which was started with another input: "
            f"{_shown(row.input)}; this start has {_shown(new.input)}. Use another key, or the same input"
        )


def _shown(data: bytes) -> str:
    with contextlib.suppress(Exception):
        text = repr(decode(data))
        return text if len(text) <= 200 else text[:200] + "..."
    return "(unreadable)"


async def code_changed(store: Store, row: RunRow, new: NewRun) -> str:
    """Why a run under this key does not go on with the code that is here, and the ways on."""
    old = await store.definition(row.namespace, row.flow, row.fingerprint)
    now = await store.definition(new.namespace, new.flow, new.fingerprint)
    found = changes(old, now) if old and now else ()
    what = "; ".join(found) or "its code is another one"
    return (
        f"key {new.key!r} belongs to unfinished run {row.id}, which began with version {row.version} of flow "
        f"{row.flow!r}, and this is version {new.version}: {what}. To finish it with the code that it began with, "
        f"declare that again or use `flowbook resume {row.id} --from-source`; to give it up, `%flow cancel "
        f"{row.id}`; to run the new code, use another key"
    )


def cell_of(definition: Definition) -> str:
    """The cell that declared it, for people; empty: it was no cell."""
    cells = {str(s.get("file", "")) for s in definition.sources.get("callables", {}).values() if isinstance(s, dict)}
    return f", {min(cells)}" if cells and all(cells) else ""
