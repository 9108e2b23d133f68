"""Inputs: what a run is started with, on its way to the store and back.

Owns: an input's bytes and digest, and its long lists, which are stored in pieces. Refuses: starting (`engine.py`) and
what is said when a key is taken (`starting.py`).

A list of 100 MB in the row of a run would be in memory four times on its way to the database (text, bytes, and twice in
the driver), three times on its way back, and once more for whoever lists the run. So a long list is cut, each piece is
stored by itself under the digest of its bytes, and the row has the digests. The same list is stored once, however many
runs begin with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from flowbook.codec import decode, digest, encode
from flowbook.errors import Undecodable, Unencodable
from flowbook.graph.flow import Graph
from flowbook.graph.imperative import Imperative
from flowbook.plan.pieces import InPieces
from flowbook.plan.query import projection
from flowbook.ports import RunRow, Store

LONG = 1000
"""Items from which on a list may be cut; those of shorter ones that are large had better be files."""
LARGE = 1024 * 1024
"""Bytes from which on it is."""
PIECE = 1024 * 1024
"""Bytes that a piece is to have, about."""
_GLANCE, _MOST = 64, 10_000
"""Items of the first piece, which tells how large the others may be, and of any. Where a list is cut is part of the
digest under which a key knows its input, so with other figures a long input would be another one."""

Cut = tuple[tuple[int, int], ...]
"""Where the pieces of a list begin and end."""


async def stored_input(
    store: Store, graph: Graph, given: Mapping[str, Any], key: str | None
) -> tuple[bytes, bytes, Mapping[str, Any]]:
    """(input, digest, projection) of a start, what is too long for its row stored. Raises `StateError` for an input
    that does not fit, `Unencodable`.

    An input that cannot be stored is refused before anything is written. A schema's defaults are made once and stored
    with it, or each fold would make them anew (a date, an id). The digest is of what was given, because such defaults
    differ each time; to an imperative flow a model and the dict that it is made of are the same.
    """
    plain = dict(given)
    accepted = graph.accept(plain)
    cuts = {name: cut for name, value in accepted.items() if type(value) is list and (cut := _cut(name, value))}
    data = encode({n: v for n, v in accepted.items() if n not in cuts} if cuts else accepted, at="input")
    if cuts:
        aside = {name: await _stored(store, accepted[name], cut) for name, cut in cuts.items()}
        data = encode({name: aside.get(name, value) for name, value in accepted.items()}, at="input")
    if key is None:
        return data, digest(data), projection(accepted)
    if isinstance(graph, Imperative):
        plain = {name: accepted[name] for name in plain}
    return data, digest(_unordered(plain, cuts)), projection(accepted)


def input_of(row: RunRow) -> Mapping[str, Any]:
    """A run's input, to be looked at: an `InPieces` stands for a long list. Raises `Undecodable`."""
    value = decode(row.input)
    if not isinstance(value, dict):
        raise Undecodable(f"the input of run {row.id} is {type(value).__name__}, not a dict")
    return value


async def whole_input(store: Store, row: RunRow) -> Mapping[str, Any]:
    """A run's input, to be folded. Raises `Undecodable`."""
    given = input_of(row)
    for name, value in given.items():
        if type(value) is InPieces:
            given = {**given, name: await _together(store, value)}
    return given


async def _stored(store: Store, value: list[Any], cut: Cut) -> InPieces:
    digests, size = [], 0
    for start, stop in cut:
        piece = encode(value[start:stop])
        size += len(piece)
        digests.append(await store.keep(piece))
    return InPieces(len(value), size, tuple(digests))


async def _together(store: Store, pieces: InPieces) -> list[Any]:
    found: list[Any] = []
    for name in pieces.pieces:
        piece = decode(await store.kept(name))
        if not isinstance(piece, list):
            raise Undecodable(f"a piece of a list is {type(piece).__name__}")
        found += piece
    if len(found) != pieces.total:
        raise Undecodable(f"a list of {pieces.total:,} items has {len(found):,} in its pieces")
    return found


def _cut(name: str, value: list[Any]) -> Cut | None:
    """Where a list is to be cut; None: it is not. The same for lists that are equal. Raises `Unencodable`."""
    if len(value) < LONG:
        return None
    bounds: list[tuple[int, int]] = []
    start = whole = 0
    step = _GLANCE
    while start < len(value):
        stop = min(start + step, len(value))
        try:
            size = len(encode(value[start:stop]))
        except Unencodable:
            encode({name: value}, at="input")  # raises with the place in the whole list
            raise
        step = max(1, min(_MOST, PIECE * (stop - start) // size))
        if size > 4 * PIECE and stop - start > 1:
            continue  # items are larger here: less of them
        bounds.append((start, stop))
        whole += size
        start = stop
    return tuple(bounds) if whole > LARGE else None


def _unordered(given: dict[str, Any], cuts: Mapping[str, Cut]) -> bytes:
    """What was given with the keys of its dicts in order: in which order they were typed makes no other input."""
    short = {n: v for n, v in given.items() if n not in cuts or type(v) is not list}
    long = {n: v for n, v in given.items() if n not in short}
    try:
        return encode(_sorted(short | {n: _condensed(v, cuts[n]) for n, v in long.items()}))
    except RecursionError:
        return encode(given)


def _condensed(value: list[Any], cut: Cut) -> list[Any]:
    """What stands for a long list in a digest."""
    found = blake2b(digest_size=32)
    for start, stop in cut:
        found.update(encode(_sorted(value[start:stop])))
    return ["in pieces", len(value), found.digest()]


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
