"""Maps on their way: the list that is mapped over, one try at one item, and how a map ends.

Owns: `Maps`. Refuses: deciding which items run (`plan/mapping.py`), items that are runs of their own (`item_runs.py`)
and recording (`runner.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, assert_never
from uuid import UUID

from flowbook.errors import BindingError, StepFailed
from flowbook.graph.halt import Halt
from flowbook.graph.mapping import Map
from flowbook.graph.results import item_result
from flowbook.plan.commands import BeginMap, CollectItem, EndMap, StartStep, as_step
from flowbook.plan.events import ItemFinished, MapBegan, MapFinished, StepHandedOut
from flowbook.plan.journal import to_entry
from flowbook.plan.mapped import ItemError, Mapped
from flowbook.plan.mapping import results
from flowbook.plan.paths import item_of
from flowbook.plan.records import Run, View
from flowbook.plan.sealed import Absent, Sealed
from flowbook.ports import Store, Transaction
from flowbook.run.attempts import Bench, Outcome, body, rolled_back, way_on
from flowbook.run.items import Items, has_placeholder, paths_of, values_of
from flowbook.run.loops import explained
from flowbook.run.sealing import carried
from flowbook.run.values import opened

FEW, SMALL = 1000, 1024 * 1024
"""So many results of together so many bytes are a plain list in the state."""


class Maps:
    """The maps of one run."""

    def __init__(self, bench: Bench, store: Store, run_id: UUID) -> None:
        self._bench, self._store, self._run_id = bench, store, run_id
        self._lists: dict[str, Sequence[Any]] = {}
        """Path of a map under way -> its list, which does not change meanwhile."""

    async def mind(self, command: BeginMap | CollectItem | EndMap, run: Run) -> MapBegan | ItemFinished | Outcome:
        """What a command comes to. Writes nothing."""
        match command:
            case CollectItem(path, index, failure):
                return ItemFinished(path, 0, ItemError(index, failure.type, failure.message))
            case BeginMap(path, token):
                try:
                    total = len(await self._list(path, command.node, run.tokens[token].view))
                except Exception as error:
                    return Outcome(as_step(command), error=error)
                return MapBegan(path, total) if total else await self._ended(command, run, 0, 0)
            case EndMap(path):
                fan = run.fans[path]
                self._lists.pop(path, None)
                return await self._ended(command, run, fan.total, fan.failed)
            case _:
                assert_never(command)

    async def attempt(self, command: StartStep, view: View) -> Outcome:
        """Try an item once. Raises nothing but `CancelledError`: every error of the step is in the outcome."""
        bench = self._bench
        within: Transaction | None = None
        try:
            place = _map(bench, command.node)
            step = bench.graph.step_at(command.node)
            value = await self.item(command.path, command.node, view)
            within = await bench.transaction() if step.policy.transactional else None
            began = time.perf_counter()
            returned = await body(bench, step, command, view, {place.item: value}, within)
            spent = time.perf_counter() - began
            if isinstance(returned, StepHandedOut | Halt):
                what = "halts the run" if isinstance(returned, Halt) else "is handed out"
                raise StepFailed(f"{command.path} {what}, which an item of a map cannot: let a node do it")
            result, _ = carried(step, command.path, item_result(returned), {}, bench.key, bench.kept)
            event = ItemFinished(command.path, command.attempt, result, spent)
            # What it returned is not folded, so the record needs no copy of it that has been encoded and decoded.
            return Outcome(command, to_entry(event), event, within=within)
        except asyncio.CancelledError as stopped:
            await rolled_back(within, stopped)
            raise
        except BaseException as error:
            error = await rolled_back(within, error)
            return Outcome(command, error=explained(error, command.node))

    async def item(self, path: str, node: str, view: View) -> Any:
        """The item at a path. Raises `BindingError` if there is no list."""
        map_path, index = item_of(path)
        mapped = await self._list(map_path, node, view)
        if isinstance(mapped, Items):
            # Items begin in their order, so the page that is held is nearly always the one.
            return await asyncio.to_thread(mapped.__getitem__, index)
        return mapped[index]

    async def _list(self, path: str, node: str, view: View) -> Sequence[Any]:
        """The list that a map goes over. Raises `BindingError` if there is none."""
        if path not in self._lists:
            place = _map(self._bench, node)
            if place.over not in view.values and place.over not in view.results:
                known = ", ".join(map(repr, view.values)) or "nothing"
                raise BindingError(f"map {node!r} goes over {place.over!r}, and there is none: the state has {known}")
            value = view.values[place.over] if place.over in view.values else view.results[place.over]
            if type(value) in (Sealed, Absent, Mapped):
                value = await opened(value, self._bench.key, self._bench.recompute)
            if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray | memoryview):
                raise BindingError(
                    f"map {node!r} goes over {place.over!r}, which is no list but a {type(value).__name__}: make it a "
                    f"list, in the order in which you want the results"
                )
            self._lists[path] = value
        return self._lists[path]

    async def _ended(self, command: BeginMap | EndMap, run: Run, total: int, failed: int) -> Outcome:
        """How a map ends, its way on chosen."""
        bench, node = self._bench, self._bench.graph.nodes[command.node]
        place, view = _map(bench, command.node), run.tokens[command.token].view
        try:
            values = await self._values(place, command.path, total)
            event = MapFinished(command.path, total, failed, place.key, None, values)
            if node.router is not None:
                route = await way_on(bench, node, view, {place.key: results(run, event)})
                event = MapFinished(command.path, total, failed, place.key, route, values)
            return Outcome(as_step(command), to_entry(event))
        except Exception as error:
            return Outcome(as_step(command), error=error)

    async def _values(self, place: Map, path: str, total: int) -> list[Any] | None:
        """The results where they belong into the state, or None if they stay where they are."""
        schema = self._bench.graph.schema
        reduced = schema is not None and place.key in schema.reducers
        if not reduced and (total > FEW or place.policy.store != "codec"):
            return None
        values: list[Any] = []
        size = 0
        while len(values) < total:
            start = len(values)
            entries = await self._store.outcomes(self._run_id, paths_of(path, start, total))
            size += sum(len(e.payload) for e in entries)
            if size > SMALL and not reduced:
                return None
            values += values_of(entries, path, start)
            if any(map(has_placeholder, values[start:])):
                if reduced:
                    raise StepFailed(
                        f"{path}: {place.key!r} has a reducer, which cannot merge what items keep as pickles, or as "
                        f"many results of a map of their own"
                    )
                return None  # opened when they are looked at
        return values


def _map(bench: Bench, node: str) -> Map:
    place = bench.graph.nodes[node].step
    assert isinstance(place, Map)
    return place
