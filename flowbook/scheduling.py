"""Scheduling: the verbs about schedules, as coroutines.

Owns: `schedule`, `Schedules`, and making the run of a moment. Refuses: the moments (`plan/schedules.py`), firing them
(`run/ticking.py`) and storing them.

A schedule names a flow. Each fire takes the version that was promoted last, else the newest definition that is stored
then; a schedule that is *pinned* stays with the one that it was made with, whatever is declared or promoted later.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flowbook import defining
from flowbook.codec import decode, digest, encode
from flowbook.errors import CodeMissing, NotPortable, ScheduleNotFound, ScheduleRefused, SignatureRefused, UsageError
from flowbook.graph.durations import Duration, seconds
from flowbook.graph.flow import Graph
from flowbook.ids import new_id
from flowbook.naming import named, promoted, rebuilt
from flowbook.plan.crons import zone
from flowbook.plan.query import projection
from flowbook.plan.schedules import (
    BATCH,
    MOST_BACKFILLED,
    WINDOW,
    Fire,
    OnMissed,
    Overlap,
    Schedule,
    between,
    checked,
    first,
    times,
)
from flowbook.plan.templates import render
from flowbook.ports import Definition, NewFire, NewRun
from flowbook.run.inputs import stored_input

if TYPE_CHECKING:
    from flowbook.app import App

NOTEBOOK = "flowbook_notebook"
"""The key of a schedule's input that holds a notebook (`notebooks/scheduled.py`)."""
_PATIENCE = 20
"""Turns of a backfill that others may take before it is given up."""


async def schedule(
    app: App,
    flow: Graph | str,
    cron: str | None = None,
    *,
    every: Duration | None = None,
    at: datetime | None = None,
    tz: str = "UTC",
    name: str | None = None,
    input: Mapping[str, Any] | None = None,
    on_missed: OnMissed = "skip",
    window: Duration = WINDOW,
    overlap: Overlap = "allow",
    queue: str = "default",
    priority: int = 0,
    pin: bool = False,
) -> Schedule:
    """Have runs of a flow started by the workers, at moments of the database's clock.

    One of ``cron`` (five fields, or six with seconds in front), ``every`` (a duration) and ``at`` (one moment; without
    a zone it is in ``tz``). ``name``: default the flow's; a schedule of that name is changed. ``input``: texts in it
    may be templates, ``{{ fire_time | date }}``. ``on_missed``, with ``window``: what becomes of moments at which no
    worker was there; ``overlap``: of one whose predecessor is not over (`plan/schedules.py`). ``pin``: stay with this
    version of the code. Raises `ScheduleRefused`, `StateError` for an input that does not fit, `CodeMissing`.
    """
    graph = await named(app, flow) if isinstance(flow, str) else flow
    if isinstance(flow, Graph):
        await app.register(flow)
    given = dict(input or {})
    typed = Schedule(
        app.options.namespace, name or graph.name, graph.name, cron, None if every is None else seconds(every), at, tz,
        encode(given, at="input"), queue, priority, graph.fingerprint if pin else None, on_missed, seconds(window),
        overlap,
    )  # fmt: skip
    made = checked(typed)
    next_at = made.at or first(made, await app.store.now())
    if next_at is None:
        raise ScheduleRefused(f"schedule {made.name!r} never fires")
    await run_of(app, made, next_at)  # what no run could begin with is told now
    return await app.store.timetable.put(replace(made, next_at=next_at))


async def declare(app: App, graph: Graph) -> Schedule | None:
    """Put the schedule that a flow declares; what was changed about it since with other verbs stays if it declares the
    same times (a pause, the next moment).
    """
    if graph.schedule is None:
        return None
    return await schedule(app, graph, **graph.schedule)


async def run_of(app: App, schedule: Schedule, at: datetime) -> NewRun:
    """The run of a moment. Raises `CodeMissing`, `ScheduleRefused`, `StateError`."""
    input: Any = decode(schedule.input)
    local, metadata = at.astimezone(zone(schedule.tz)), dict[str, Any]()
    if NOTEBOOK in input:
        # Notebooks stand above this floor: only a schedule of one loads them.
        graph, given, metadata = importlib.import_module("flowbook.notebooks.scheduled").made(
            input, local, schedule.name
        )
        definition = (await app.register(graph)).definition
    else:
        definition = await _definition(app, schedule)
        given = render(input, local, schedule.name)
    graph = app.engine.graph(definition.fingerprint)
    with contextlib.suppress(NotPortable, SignatureRefused):
        graph = graph or rebuilt(app, definition)
    if graph is None:  # whoever has the code checks the input when the run begins
        data = encode(given, at="input")
        stored: tuple[bytes, bytes, Mapping[str, Any]] = data, digest(data), projection(given)
    else:
        stored = await stored_input(app.store, graph, given, None)
    data, mark, searchable = stored
    return NewRun(
        new_id(), schedule.namespace, schedule.flow, definition.fingerprint, definition.version, data, mark,
        queue=schedule.queue, priority=schedule.priority, claim=False, searchable=searchable, trigger="cron",
        metadata={**metadata, "schedule": schedule.name, "fire_time": at.astimezone(UTC).isoformat()},
    )  # fmt: skip


async def _definition(app: App, schedule: Schedule) -> Definition:
    if schedule.fingerprint is not None:
        pinned = await app.store.definition(schedule.namespace, schedule.flow, schedule.fingerprint)
        if pinned is not None:
            return pinned
    elif (graph := await defining.graph_named(app, schedule.flow)) is not None:
        return (await app.register(graph)).definition
    elif (kept := await promoted(app, schedule.flow)) is not None:
        return kept
    elif stored := await app.store.definitions(schedule.namespace, schedule.flow):
        return stored[0]
    raise CodeMissing(f"schedule {schedule.name!r}: flow {schedule.flow!r} is not stored here (any more)")


class Schedules:
    """The schedules of an app's namespace; ``await`` it for all of them, by name."""

    def __init__(self, app: App) -> None:
        self._app, self._namespace = app, app.options.namespace

    def __await__(self) -> Generator[Any, None, Sequence[Schedule]]:
        return self._app.store.timetable.schedules(self._namespace).__await__()

    async def get(self, name: str) -> Schedule:
        """One of them. Raises `ScheduleNotFound`."""
        found = await self._app.store.timetable.schedules(self._namespace, name)
        if not found:
            raise ScheduleNotFound(
                f"there is no schedule {name!r} in namespace {self._namespace!r}: `flowbook schedule list` lists them"
            )
        return found[0]

    async def pause(self, name: str) -> Schedule:
        """Let it rest. What would have fired meanwhile is not missed. Raises `ScheduleNotFound`."""
        await self.get(name)
        await self._app.store.timetable.pause(self._namespace, name, True, None)
        return await self.get(name)

    async def resume(self, name: str) -> Schedule:
        """Go on with the next moment from now. Raises `ScheduleNotFound`."""
        found = await self.get(name)
        next_at = first(found, await self._app.store.now())
        await self._app.store.timetable.pause(self._namespace, name, False, next_at)
        return await self.get(name)

    async def remove(self, name: str) -> Schedule:
        """Forget it, and the history of its moments; its runs stay. Raises `ScheduleNotFound`."""
        found = await self.get(name)
        await self._app.store.timetable.drop(self._namespace, name)
        return found

    async def next(self, name: str, number: int = 5) -> list[datetime]:
        """The moments that come, in its time zone. Raises `ScheduleNotFound`."""
        found = await self.get(name)
        comes = times(found, await self._app.store.now())
        return [at.astimezone(zone(found.tz)) for at in itertools.islice(comes, number)]

    async def history(self, name: str, limit: int = 50, before: datetime | None = None) -> Sequence[Fire]:
        """What became of its moments, newest first. Raises `ScheduleNotFound`."""
        await self.get(name)
        return await self._app.store.timetable.fires(self._namespace, name, limit, before)

    async def backfill(self, name: str, since: datetime, until: datetime) -> list[Fire]:
        """Run its moments from ``since`` to ``until``, both included, oldest first; those that have fired are left out.

        Where runs may not overlap they line up. A time without a zone is in the schedule's. Raises `ScheduleNotFound`,
        `UsageError` for more than 10,000 of them.
        """
        table, found = self._app.store.timetable, await self.get(name)
        where = zone(found.tz)
        since, until = (at if at.tzinfo else at.replace(tzinfo=where) for at in (since, until))
        wanted = between(found, since.astimezone(UTC), until.astimezone(UTC), MOST_BACKFILLED + 1)
        if len(wanted) > MOST_BACKFILLED:
            raise UsageError(f"schedule {name!r} has more than {MOST_BACKFILLED:,} moments there: take a shorter time")
        done: list[Fire] = []
        for begin in range(0, len(wanted), BATCH):
            fires = [await self._made(found, at) for at in wanted[begin : begin + BATCH]]
            for _ in range(_PATIENCE):
                fired = await table.fire(found, found.next_at, fires, backfill=True)
                found = await self.get(name)
                if fired is not None:
                    done += fired
                    break
            else:
                raise UsageError(f"schedule {name!r} was changed by others all the time: try again")
        return done

    async def _made(self, schedule: Schedule, at: datetime) -> NewFire:
        return NewFire(at, "started", await run_of(self._app, schedule, at))
