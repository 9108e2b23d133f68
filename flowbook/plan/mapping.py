"""Mapping: which items of a map are to be under way, and what one of them changes.

Owns: pure functions over `Fan`, the compact record of a map under way, and `at_map`, what a token at a map wants.
Refuses: the items' values (the runner has them) and time of its own.

Items begin in their order, and at most ``concurrency`` are open: under way, or waiting for another attempt. So of those
before the last one that has an outcome only so few can be without one, and a map's record is small however long its
list is: how many there are, up to where items have outcomes, and which of these have none. Everything here costs as
much as ``concurrency`` and never as much as the list. Where a flow is mapped, an item is a child at the item's path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from flowbook.errors import IllegalTransition
from flowbook.graph.flow import Graph
from flowbook.graph.mapping import Map
from flowbook.graph.step import Step
from flowbook.graph.subflow import Subflow
from flowbook.plan.commands import BeginMap, CollectItem, Command, EndMap, RunChild, StartStep, WaitUntil
from flowbook.plan.events import MapFinished
from flowbook.plan.mapped import Mapped
from flowbook.plan.paths import item, item_of, node_of
from flowbook.plan.racing import standing
from flowbook.plan.records import NO_TROUBLE, UNKNOWN, Fan, Run, Token, Trouble


def wanted(fan: Fan, concurrency: int) -> tuple[int, ...]:
    """The items that ought to be open, in order."""
    held = sorted(fan.open)[:concurrency]
    return (*held, *range(fan.next, min(fan.total, fan.next + concurrency - len(held))))


def finished(fan: Fan, index: int, *, failed: bool) -> Fan:
    """The record after an item's outcome. Raises `IllegalTransition` if the item has one already."""
    if not is_open(fan, index):
        raise IllegalTransition(f"item {index} of a map of {fan.total} had an outcome, and none was awaited")
    if index < fan.next:
        return Fan(fan.total, fan.next, fan.open - {index}, fan.failed + failed)
    skipped = range(fan.next, index)
    return Fan(fan.total, index + 1, fan.open.union(skipped) if skipped else fan.open, fan.failed + failed)


def is_open(fan: Fan, index: int) -> bool:
    """True for an item that has no outcome yet."""
    return fan.next <= index < fan.total or index in fan.open


def is_complete(fan: Fan) -> bool:
    """True when every item has its outcome."""
    return fan.next >= fan.total and not fan.open


def at_map(
    place: Map, token: Token, fan: Fan | None, troubles: Mapping[str, Trouble], now: datetime
) -> tuple[Command, ...]:
    """What a token at a map wants; a `WaitUntil` in it says when an item's next attempt may begin."""
    own = troubles.get(token.path)
    if own is not None and own.retry_at is not None and own.retry_at > now:
        return (WaitUntil(own.retry_at),)  # the router behind it has failed
    if fan is None:
        return (BeginMap(token.path, token.id, token.at),)
    if is_complete(fan):
        return (EndMap(token.path, token.id, token.at),)
    commands: list[Command] = []
    of_flow = isinstance(place.step, Subflow)
    for index in wanted(fan, place.concurrency):
        path = item(token.path, index)
        trouble = troubles.get(path, NO_TROUBLE)
        if trouble.final:
            commands.append(CollectItem(path, index, trouble.failure or UNKNOWN))
        elif of_flow:
            commands.append(RunChild(path, token.id, token.at))  # it has retries of its own
        elif trouble.retry_at is not None and trouble.retry_at > now:
            commands.append(WaitUntil(trouble.retry_at))
        else:
            commands.append(StartStep(path, token.id, token.at, trouble.attempts + 1))
    return tuple(commands)


def is_forgiven(graph: Graph, path: str) -> bool:
    """True if what has failed for good there is an item whose map goes on without it."""
    place = graph.nodes[node_of(path)].step if path.endswith("]") else None
    return isinstance(place, Map) and place.collect


def map_token(run: Run, path: str) -> tuple[Token, Fan, int]:
    """The token at an item's map, the map's record, and the item's place. Raises `IllegalTransition`."""
    map_path, index = item_of(path)
    fan, token = run.fans.get(map_path), run.at(map_path)
    if token is not None and fan is not None:
        return token, fan, index
    raise IllegalTransition(
        f"{path} had an outcome, but no map is under way there: the journal is damaged, or the flow's topology is not "
        f"the one that this run was started with"
    )


def under_way(graph: Graph, run: Run) -> frozenset[str]:
    """The paths of all steps, items and compensations that may be under way; items that are runs of their own are not
    this run's attempts.
    """
    items: set[str] = set()
    for path, fan in run.fans.items() if run.undoing is None else ():
        token = run.at(path)
        place = None if token is None else graph.nodes[token.at].step
        if isinstance(place, Map) and isinstance(place.step, Step):
            items.update(item(path, i) for i in wanted(fan, place.concurrency))
    return standing(run) | items


def results(run: Run, event: MapFinished) -> object:
    """What a map's results are in the state: the list itself, or a reference to it."""
    return Mapped(run.id, event.path, event.total) if event.values is None else event.values


def begun(run: Run, path: str, total: int) -> Run:
    """The run when a map has begun."""
    return replace(run, fans={**run.fans, path: Fan(total)})
