"""Starting: what a run is started with, as bytes.

Owns: the input and its digest, and what is said when a key is taken. Refuses: starting (`engine.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from flowbook.codec import decode, digest, encode
from flowbook.errors import KeyConflict
from flowbook.graph.changes import changes
from flowbook.graph.flow import Graph
from flowbook.graph.imperative import Imperative
from flowbook.plan.query import projection
from flowbook.ports import Definition, NewRun, RunRow, Store


def input_bytes(graph: Graph, given: Mapping[str, Any], key: str | None) -> tuple[bytes, bytes, Mapping[str, Any]]:
    """(input, digest, projection) of a start. Raises `StateError` for an input that does not fit, `Unencodable`.

    An input that does not fit is refused before anything is written. A schema's defaults are made once and stored
    with it, or each fold would make them anew (a date, an id). The digest is of what was given, because such defaults
    differ each time; to an imperative flow a model and the dict that it is made of are the same.
    """
    plain = dict(given)
    accepted = graph.accept(plain)
    data = encode(accepted, at="input")
    if key is None:
        return data, digest(data), projection(accepted)
    if isinstance(graph, Imperative):
        plain = {name: accepted[name] for name in plain}
    return data, digest(_unordered(plain)), projection(accepted)


def same_input(row: RunRow, new: NewRun) -> None:
    """Raise `KeyConflict` if the run that has the key was started with another input."""
    if row.input_digest != new.input_digest:
        raise KeyConflict(
            f"key {new.key!r} of flow {new.flow!r} belongs to run {row.id}, which was started with another input: "
            f"{_shown(row.input)}; this start has {_shown(new.input)}. Use another key, or the same input"
        )


def _unordered(given: dict[str, Any]) -> bytes:
    """What was given with the keys of its dicts in order: in which order they were typed makes no other input."""
    try:
        return encode(_sorted(given))
    except RecursionError:
        return encode(given)


def _sorted(value: Any) -> Any:
    if type(value) is dict:
        plain = all(type(key) is str for key in value)
        return {k: _sorted(value[k]) for k in (sorted(value) if plain else value)}
    if type(value) in (list, tuple):
        return type(value)(map(_sorted, value))
    chosen = getattr(type(value), "model_fields", None) and getattr(value, "model_fields_set", None)
    if chosen is not None and not isinstance(value, type):
        return [type(value).__qualname__, {name: _sorted(getattr(value, name)) for name in sorted(chosen)}]
    return value


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
