"""Inspecting: pages of a journal, the state through time, the code that ran beside today's.

Owns: `journal_page`, `Scrub`, `code`. Refuses: drawing (`show/`), and one state at one place (`travel.look`): this
is for who goes back and forth through a run, and looks at one page of what may be very long.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.errors import PointUnknown
from flowbook.graph.changes import changes
from flowbook.graph.flow import Graph
from flowbook.graph.source import describe
from flowbook.observe.records import entry_record
from flowbook.plan.apply import apply
from flowbook.plan.journal import OUTCOMES, Entry, from_entry
from flowbook.plan.moments import moment
from flowbook.plan.records import Run as Record
from flowbook.ports import Definition
from flowbook.travel import code_of, history

if TYPE_CHECKING:
    from flowbook.app import App

KEPT = 256
"""Folds that a `Scrub` keeps: to go anywhere costs a 256th part of the run."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows of a journal somebody wants to see."""

    kinds: frozenset[str] = frozenset()
    """None: all kinds."""
    path: str = ""
    """What the path contains."""
    text: str = ""
    """What the row's JSON contains; capital or small makes no difference."""

    @property
    def everything(self) -> bool:
        """True if no row is left out."""
        return not (self.kinds or self.path or self.text)

    def fits(self, entry: Entry) -> bool:
        """Is this row wanted?"""
        if self.kinds and entry.kind.value not in self.kinds:
            return False
        if self.path not in entry.path:
            return False
        return not self.text or self.text.lower() in json.dumps(entry_record(entry), ensure_ascii=False).lower()


@dataclass(frozen=True, slots=True)
class JournalPage:
    """Some rows of a journal."""

    rows: tuple[Entry, ...]
    found: int
    """How many rows are wanted, on all pages."""


async def journal_page(
    app: App, run_id: UUID, wanted: Wanted, offset: int = 0, limit: int = 100, known: int = 0
) -> JournalPage:
    """Rows ``offset`` to ``offset + limit`` of those of the run's own that are wanted; ``known``: how many rows it has,
    as far as the caller knows. Nothing is kept: a journal may be larger than memory. The rows of a map's items come
    without their values.
    """
    row = app._ours(await app.store.run(run_id))
    rows: list[Entry] = []
    if wanted.everything:
        async for page in app.store.pages(row.id, offset):
            rows += [e for e in page if e.seq > 0][: limit - len(rows)]
            if len(rows) >= limit:
                break
        return JournalPage(tuple(rows), max(known, rows[-1].seq if rows else 0))
    found = 0
    async for page in app.store.pages(row.id):
        fitting = await asyncio.to_thread(_fitting, wanted, page)  # nobody's step waits for it
        rows += fitting[max(0, offset - found) : max(0, offset + limit - found)]
        found += len(fitting)
    return JournalPage(tuple(rows), found)


def _fitting(wanted: Wanted, page: Sequence[Entry]) -> list[Entry]:
    return [e for e in page if e.seq > 0 and wanted.fits(e)]


@dataclass(frozen=True, slots=True)
class Point:
    """A moment at which the state was another one."""

    path: str
    """The step whose outcome made it so; of the first one, empty: it is the run's input."""
    seq: int
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Seen:
    """The state on both sides of a point. Values are as the journal keeps them."""

    point: Point
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    finished: bool
    """False: the step has no outcome, and ``after`` is what it saw."""


class Scrub:
    """The states of a run, one after the other; for one thread at a time.

    The run is folded once, and every so often the fold is kept: records share what did not change. What comes later is
    folded on.
    """

    def __init__(self, graph: Graph, beginning: Record) -> None:
        self.graph = graph
        self.points: list[Point] = [Point("", 0, None)]
        """In order; the first is the run's input."""
        self.last: int | None = None
        """The last row that was folded; None: none yet, not even those of the runs before a fork."""
        self._beginning = self._run = beginning
        self._entries: list[Entry] = []
        self._rows: list[int] = [-1]
        """Of each point, its place among the entries."""
        self._kept: dict[int, Record] = {0: beginning}
        """Number of entries -> the fold of so many."""
        self._every = 32

    def extend(self, entries: Sequence[Entry]) -> None:
        """Fold on. Rows that were folded already are left out."""
        for entry in entries:
            if self.last is not None and entry.seq <= self.last:
                continue
            event = from_entry(entry)
            if entry.kind in OUTCOMES and "/" not in entry.path and not entry.path.endswith("]"):
                self.points.append(Point(entry.path, entry.seq, entry.at))
                self._rows.append(len(self._entries))
            self._run = apply(self.graph, self._run, event, entry.seq)
            self._entries.append(entry)
            self.last = entry.seq
            if len(self._entries) % self._every == 0:
                self._kept[len(self._entries)] = self._run
                self._thin()
        if self.last is None:
            self.last = 0

    def index(self, path: str) -> int | None:
        """The point at which a path had its outcome; None: it has none."""
        return next((i for i in range(len(self.points) - 1, 0, -1) if self.points[i].path == path), None)

    def at(self, index: int) -> Seen:
        """The state on both sides of a point. Raises `PointUnknown`."""
        if not 0 <= index < len(self.points):
            raise PointUnknown(f"this run has {len(self.points)} points, from 0; there is no {index}")
        if index == 0:
            return Seen(self.points[0], {}, self._beginning.view.values, finished=True)
        place = self._rows[index]
        near = max(n for n in self._kept if n <= place)
        it = moment(self.graph, self._kept[near], self._entries[near : place + 1], self._entries[place].seq)
        return Seen(self.points[index], it.before.values, it.values, it.finished)

    def standing(self, path: str) -> Seen:
        """What a step sees that has no outcome (yet). Raises `PointUnknown`."""
        it = moment(self.graph, self._run, (), path)
        return Seen(Point(path, self._run.seq, None), it.before.values, it.values, finished=False)

    def _thin(self) -> None:
        if len(self._kept) > 2 * KEPT:
            self._every *= 2
            self._kept = {n: run for n, run in self._kept.items() if n % self._every == 0}


async def scrub(app: App, run_id: UUID) -> tuple[Scrub, Sequence[Entry]]:
    """A `Scrub` and the rows that it is to be extended with, which may take a while. Raises `CodeMissing`."""
    row = app._ours(await app.store.run(run_id))
    graph = await code_of(app, row)
    beginning, entries = await history(app, row, graph)
    return Scrub(graph, beginning), entries


async def later(app: App, run_id: UUID, after: int) -> Sequence[Entry]:
    """The rows after one of them."""
    row = app._ours(await app.store.run(run_id))
    return [entry async for page in app.store.pages(row.id, after) for entry in page if entry.seq > after]


@dataclass(frozen=True, slots=True)
class Source:
    """The text of something that a flow calls."""

    text: str
    where: str
    """File and line, or cell and line."""
    version: int
    """Of the flow."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a node ran, beside what it would run now."""

    node: str
    then: Mapping[str, Source]
    """Role (``step``, ``when``, ``router``) -> its source."""
    now: Mapping[str, Source] | None
    """None: no code of this flow is registered here."""
    changes: tuple[str, ...]
    """What is different in the flow as a whole; empty: nothing."""


async def code(app: App, run_id: UUID, node: str) -> Compared:
    """The code that a run is pinned to, beside the one that was registered last under the flow's name."""
    row = app._ours(await app.store.run(run_id))
    old = await app.definition(row)
    graph = app.engine.newest(row.flow)
    if graph is None:
        return Compared(node, _sources(old, node, old.version), None, ())
    new = await app._define(graph)
    different = changes(old, describe(graph)) if new.fingerprint != old.fingerprint else ()
    return Compared(node, _sources(old, node, old.version), _sources(new, node, new.version), different)


def _sources(definition: Definition, node: str, version: int) -> dict[str, Source]:
    callables: Mapping[str, Any] = definition.sources.get("callables") or {}
    spec: Mapping[str, Any] = next((n for n in definition.spec.get("nodes") or () if n.get("name") == node), {})
    roles = {role: str(spec[role]) for role in ("step", "when", "router") if spec.get(role)}
    if not roles and node in callables:  # a durable call of a body
        roles = {"step": node}
    found = {role: callables[name] for role, name in roles.items() if name in callables}
    return {
        role: Source(str(it.get("text") or ""), f"{it.get('file') or 'somewhere'}, line {it.get('lineno', 1)}", version)
        for role, it in found.items()
    }
