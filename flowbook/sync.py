"""The sync face: the same verbs for notebooks and scripts without an event loop.

Owns: `SyncApp` and `SyncRun`, each verb one call through the portal. Refuses: any verb of its own, and knowing what a
display is: a door puts functions into `SyncApp.display` and `.inspect`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload
from uuid import UUID

from flowbook import evaluating
from flowbook.app import App
from flowbook.batches import DeadLetters, Retried
from flowbook.defining import Audited
from flowbook.errors import UsageError
from flowbook.graph import launch
from flowbook.graph.flow import Graph
from flowbook.graph.step import Step
from flowbook.graph.templates import Templates
from flowbook.handle import Run
from flowbook.observe.diffs import Diff
from flowbook.observe.evaluations import Evaluation
from flowbook.observe.events import RunEvent
from flowbook.observe.inbox import Decisions
from flowbook.observe.transcripts import Transcript, messages
from flowbook.observe.views import RunView, StepView
from flowbook.plan.outputs import Output
from flowbook.plan.query import MOST_COUNTED, Count, RunQuery, RunSummary
from flowbook.plan.records import Failure, Status
from flowbook.plan.schedules import Schedule
from flowbook.ports import Defined, KeptProof, RunRow
from flowbook.query import Filters, Page, Runs, said
from flowbook.rows import Registered
from flowbook.run.deciding import Answered
from flowbook.run.portal import TICK, Portal
from flowbook.run.saying import NOTHING
from flowbook.sync_schedules import SyncSchedules

if TYPE_CHECKING:
    import pandas as pd

    from flowbook.changing import OnChange
    from flowbook.observe.planned import Plan
    from flowbook.observe.proofs import Proof
    from flowbook.travel import Moment


class SyncApp:
    """An app on a loop of its own in a background thread. Made by `flowbook.connect`."""

    def __init__(self, app: App, portal: Portal, shown: str) -> None:
        self.app = app
        self.portal = portal
        self.shown = shown
        """Which database, for people (no password)."""
        self.display: Callable[[SyncRun], None] | None = None
        """Shows a run that `Graph.run` has started; None: nothing is shown."""
        self.inspect: Callable[[SyncRun], None] | None = None
        """Shows a run whose `SyncRun.show` was called; None: nothing can."""
        self.started: Callable[[SyncRun], None] | None = None
        """Told of every run that is started here."""

    @overload
    def register(self, graph: Graph) -> Registered: ...
    @overload
    def register(self, graph: Step | type | Callable[..., Any]) -> None: ...
    def register(self, graph: Any) -> Registered | None:
        """See `App.register`."""
        found: Registered | None = self.portal.call(self.app.register(graph))
        return found

    def on(self, kind: type[RunEvent], fn: Callable[[Any], Any] | None = None) -> Any:
        """See `App.on`: a plain function has a thread of its own, a coroutine function runs on the engine's loop."""

        async def add(given: Callable[[Any], Any]) -> Callable[[], None]:
            return self.app.hooks.add(kind, given)

        def hook(given: Callable[[Any], Any]) -> Callable[[Any], Any]:
            self.portal.call(add(given))
            return given

        if fn is None:
            return hook
        stop = self.portal.call(add(fn))

        def stop_from_anywhere() -> None:
            self.portal.loop.call_soon_threadsafe(stop)

        return stop_from_anywhere

    @property
    def steps(self) -> Templates:
        """What specs may name here."""
        return self.app.steps

    def define(
        self, name: str, spec: Mapping[str, Any] | str | Path, *, namespace: str | None = None, by: str = ""
    ) -> Defined:
        """See `App.define`."""
        return self.portal.call(self.app.define(name, spec, namespace=namespace, by=by))

    def undefine(self, name: str, *, namespace: str | None = None) -> Defined:
        """See `App.undefine`."""
        return self.portal.call(self.app.undefine(name, namespace=namespace))

    def defined(self, *, namespace: str | None = None) -> Sequence[Defined]:
        """See `App.defined`."""
        return self.portal.call(self.app.defined(namespace=namespace))

    def audit(self, *, namespace: str | None = None) -> Sequence[Audited]:
        """See `App.audit`."""
        return self.portal.call(self.app.audit(namespace=namespace))

    def start(
        self,
        graph: Graph | str,
        input: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        namespace: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: int = 0,
        session: Any = None,
        on_change: OnChange = "refuse",
    ) -> SyncRun:
        """See `App.start`; ``session``: a plain ``Session`` of SQLAlchemy's, which is used while this call waits."""
        starting = self.app.start(
            graph, input, key=key, namespace=namespace, metadata=metadata, priority=priority, session=session,
            on_change=on_change,
        )  # fmt: skip
        run = SyncRun(self, self.portal.call(starting))
        if self.started is not None:
            self.started(run)
        return run

    def run(self, graph: Graph, input: Mapping[str, Any] | None = None, *, key: str | None = None) -> Any:
        """Start a run, show it, and return its result."""
        run = self.start(graph, input, key=key)
        if self.display is not None:
            self.display(run)
        return run.result()

    def evaluate(self, flow: Graph, dataset: Any, scorers: Any = (), **options: Any) -> Evaluation:
        """See `flowbook.evaluate`; the run is shown while it goes."""
        it = self.portal.call(evaluating.begun(self.app, flow, dataset, scorers, **options))
        run = SyncRun(self, it.run)
        if self.started is not None:
            self.started(run)
        if self.display is not None:
            self.display(run)
        return self.portal.call(it.result())

    def plan(
        self, graph: Graph, input: Mapping[str, Any] | None = None, *, against: SyncRun | str | UUID | None = None
    ) -> Plan:
        """See `App.plan`; shown in a notebook."""
        return self.portal.call(self.app.plan(graph, input, against=_id(against)))

    def reuse(
        self, graph: Graph, input: Mapping[str, Any] | None = None, *, against: SyncRun | str | UUID | None = None
    ) -> SyncRun:
        """See `App.reuse`."""
        run = SyncRun(self, self.portal.call(self.app.reuse(graph, input, against=_id(against))))
        if self.started is not None:
            self.started(run)
        return run

    def prove(self, graph: Graph, input: Mapping[str, Any] | None = None, **options: Any) -> Proof:
        """See `proving.prove`; a table in a notebook."""
        return self.portal.call(self.app.prove(graph, input, **options))

    def promote(self, graph: Graph, **options: Any) -> KeptProof:
        """See `preparing.promote`."""
        return self.portal.call(self.app.promote(graph, **options))

    def find(self, text: str | UUID) -> SyncRun:
        """A run by id, unique prefix or short id."""
        return SyncRun(self, self.portal.call(self.app.run(text)))

    def runs(self, *, flow: str | None = None, status: str | None = None, limit: int = 50) -> SyncRuns:
        """Runs of this namespace, newest first, to be narrowed down; a table in a notebook. See `App.runs`."""
        return SyncRuns(self, self.app.runs(flow=flow, status=status, limit=limit).query)

    def schedule(self, flow: Graph | str, cron: str | None = None, **options: Any) -> Schedule:
        """See `App.schedule`."""
        return self.portal.call(self.app.schedule(flow, cron, **options))

    def start_many(self, flow: Graph | str, inputs: Iterable[Mapping[str, Any]], **options: Any) -> list[SyncRun]:
        """See `App.start_many`."""
        return [SyncRun(self, run) for run in self.portal.call(self.app.start_many(flow, inputs, **options))]

    def dead(self, **conditions: Any) -> list[DeadLetters]:
        """See `App.dead`."""
        return self.portal.call(self.app.dead(**conditions))

    def retry_all(self, **conditions: Any) -> Retried:
        """See `App.retry_all`."""
        return self.portal.call(self.app.retry_all(**conditions))

    def schedules(self) -> SyncSchedules:
        """The schedules of this namespace, by name. See `App.schedules`."""
        return SyncSchedules(self.app, self.portal)

    def inbox(self, *, flow: str | None = None, run: SyncRun | None = None, limit: int = 100) -> Decisions:
        """See `App.inbox`."""
        found = self.app.inbox(flow=flow, run_id=None if run is None else run.id, limit=limit)
        return Decisions(self.portal.call(found))

    def complete(self, token: str, value: Any = None) -> RunRow:
        """See `App.complete`."""
        return self.portal.call(self.app.complete(token, value))

    def fail(self, token: str, why: str) -> RunRow:
        """See `App.fail`."""
        return self.portal.call(self.app.fail(token, why))

    def watch(self, run_id: UUID, callback: Callable[[RunView], None]) -> Callable[[], None]:
        """See `App.watch`; the callback is called on the engine's thread."""

        async def begin() -> Callable[[], None]:
            return self.app.watch(run_id, callback)

        stop = self.portal.call(begin())

        def stop_from_anywhere() -> None:
            self.portal.loop.call_soon_threadsafe(stop)

        return stop_from_anywhere

    def close(self) -> None:
        """Hand unfinished runs back and disconnect."""
        launch.pop(self)
        try:
            self.portal.call(self.app.__aexit__(None, None, None))
        finally:
            self.portal.stop()

    def __repr__(self) -> str:
        return f"<flowbook on {self.shown}>"


def _id(run: SyncRun | str | UUID | None) -> str | UUID | None:
    return run.id if isinstance(run, SyncRun) else run


class SyncStream:
    """The events of a run, one after the other, for who has no event loop or another one."""

    def __init__(self, portal: Portal, events: AsyncIterator[RunEvent]) -> None:
        self._portal, self._events = portal, events

    def __iter__(self) -> Iterator[RunEvent]:
        return self

    def __next__(self) -> RunEvent:
        """The next event; waits for it. Ctrl-C ends the reading, and not the run."""
        event = self._portal.call(self._next())
        if event is None:
            raise StopIteration
        return event

    def __aiter__(self) -> AsyncIterator[RunEvent]:
        return self

    async def __anext__(self) -> RunEvent:
        event = await asyncio.wrap_future(self._portal.submit(self._next()))
        if event is None:
            raise StopAsyncIteration
        return event

    async def _next(self) -> RunEvent | None:
        return await anext(self._events, None)


class SyncRuns(Filters):
    """Runs of an app, without ``await``: a query, and the rows of its first page as a sequence."""

    def __init__(self, app: SyncApp, query: RunQuery) -> None:
        super().__init__(query)
        self.app = app
        self._asking = Runs(app.app, query)

    def _like(self, query: RunQuery) -> Self:
        return type(self)(self.app, query)

    def page(self, cursor: str | None = None) -> Page:
        """See `Runs.page`."""
        return self.app.portal.call(self._asking.page(cursor))

    def count(self) -> Count:
        """See `Runs.count`."""
        return self.app.portal.call(self._asking.count())

    def first(self) -> SyncRun | None:
        """See `Runs.first`."""
        found = self.app.portal.call(self._asking.first())
        return None if found is None else SyncRun(self.app, found)

    def ids(self) -> list[UUID]:
        """See `Runs.ids`."""
        return [row.id for row in self.page()]

    def summary(self) -> RunSummary:
        """See `Runs.summary`."""
        return self.app.portal.call(self._asking.summary())

    def df(self, rows: int = MOST_COUNTED) -> pd.DataFrame:
        """See `Runs.df`."""
        return self.app.portal.call(self._asking.df(rows))

    def __iter__(self) -> Iterator[RunRow]:
        return iter(self.page())

    def __len__(self) -> int:
        return len(self.page())

    def __getitem__(self, place: int) -> RunRow:
        return self.page().rows[place]

    def __repr__(self) -> str:
        return f"<runs {said(self.query)}>"


class SyncRun:
    """A run, without ``await``; ``await run`` works as well, on any loop."""

    def __init__(self, app: SyncApp, run: Run) -> None:
        self._app = app
        self._run = run
        self.id = run.id

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end; the state then. Ctrl-C stops the waiting, not the run."""
        return self._app.portal.call(self._run.result(timeout))

    def __await__(self) -> Generator[Any, None, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        # Wrapped once: each wrapper would complain that nobody looked at the exception.
        future = asyncio.wrap_future(self._app.portal.submit(self._run.result()))
        try:
            while not future.done():
                # An interrupt acts only when the caller's loop wakes, so it wakes often.
                await asyncio.wait([future], timeout=TICK)
        except asyncio.CancelledError:
            future.cancel()  # the waiting, not the run
            raise
        return future.result()

    def view(self) -> RunView:
        """Everything that can be looked at."""
        return self._app.portal.call(self._run.view())

    @property
    def status(self) -> Status:
        """What the run is doing now."""
        return self._app.portal.call(self._run.status())

    @property
    def state(self) -> Any:
        """The state as it is now."""
        return self._app.portal.call(self._run.state())

    @property
    def steps(self) -> tuple[StepView, ...]:
        """Every firing so far."""
        return tuple(self.view().steps)

    @property
    def current(self) -> tuple[str, ...]:
        """Paths that are under way, or wait for a signal, a time or another attempt."""
        return tuple(s.path for s in self.steps if s.state in ("running", "retrying", "waiting"))

    def outputs(self, path: str | None = None) -> Sequence[Output]:
        """What its steps printed, logged and displayed, or one of them, in the order of time (`App.outputs`)."""
        return self._app.portal.call(self._run.outputs(path))

    @property
    def messages(self) -> Transcript:
        """What was said in the run of an agent; ``.df()`` is a table. Raises `UsageError` for any other run."""
        return messages(self.view())

    @property
    def children(self) -> Sequence[RunRow]:
        """The runs that it has started, in the order of their start."""
        return self._app.portal.call(self._run.children())

    @property
    def error(self) -> Failure | None:
        """Why it failed."""
        return self.view().failure

    def signal(self, name: str, /, **payload: Any) -> Status:
        """Send it a signal, now or before it waits for one: ``run.signal("approved", by="ana")``."""
        return self._app.portal.call(self._run.signal(name, **payload))

    def approve(
        self, path: str | None = None, /, *, edit: Any = NOTHING, by: str | None = None, **payload: Any
    ) -> Answered:
        """Say yes to what it waits for (`App.approve`): ``run.approve()``, ``run.approve("gate#1", amount=3)``.

        The first answer counts: raises `AlreadyAnswered`, which says who was first.
        """
        return self._app.portal.call(self._run.approve(path, edit=edit, by=by, **payload))

    def reject(
        self, path: str | None = None, why: str = "", /, *, edit: Any = NOTHING, by: str | None = None, **payload: Any
    ) -> Answered:
        """Say no to it, and why (`App.reject`): ``run.reject("gate#1", "too dear")``."""
        return self._app.portal.call(self._run.reject(path, why, edit=edit, by=by, **payload))

    def answer(
        self, path: str | None, signal: str | None = None, /, *, edit: Any = NOTHING, by: str | None = None,
        **payload: Any,
    ) -> Answered:  # fmt: skip
        """Decide it with another of its signals (`App.answer`): ``run.answer("gate#1", "escalate")``."""
        return self._app.portal.call(self._run.answer(path, signal, edit=edit, by=by, **payload))

    def cancel(self, *, by: str = "user") -> Status:
        """Ask it to stop."""
        return self._app.portal.call(self._run.cancel(by=by))

    def resume(self, *, on_change: OnChange = "own") -> SyncRun:
        """Carry it on here if nobody carries it (`App.resume`)."""
        self._app.portal.call(self._run.resume(on_change=on_change))
        return self

    def retry(self, *, recursion_limit: int | None = None, **edits: Any) -> SyncRun:
        """Carry it on from the step that failed it (`App.retry`), with an edited state where keys are given:
        ``run.retry(budget={"usd": 1.0})``.
        """
        self._app.portal.call(self._run.retry(recursion_limit=recursion_limit, **edits))
        return self

    def fork(self, /, at: str, **edits: Any) -> SyncRun:
        """Begin another run at one of its steps, with an edited state: ``run.fork(at="judge#1", docs=[])``.

        Results that do not depend on that step are kept. See `App.fork`.
        """
        return self._begun(self._app.app.fork(self.id, at=at, edits=edits))

    def ask(self, question: Any, /, **edits: Any) -> SyncRun:
        """Ask an agent further: ``run.ask("And before?")`` goes on with this run's conversation (`App.ask`)."""
        return self._begun(self._app.app.ask(self.id, question, **edits))

    def replay(self, **changes: Any) -> SyncRun:
        """Run an agent's conversation again: ``run.replay(model="gpt-5", live=True)`` (`App.replay`)."""
        return self._begun(self._app.app.replay(self.id, **changes))

    def _begun(self, made: Coroutine[Any, Any, Run]) -> SyncRun:
        run = SyncRun(self._app, self._app.portal.call(made))
        if self._app.started is not None:
            self._app.started(run)
        return run

    def at(self, where: str | int) -> Moment:
        """What it was like at a step, or at a row of its journal: ``run.at("judge#1").state``."""
        return self._app.portal.call(self._run.at(where))

    def stream(self, after: str | None = None) -> SyncStream:
        """What has happened, and what happens until its end: ``for event in run.stream():``; see `Run.stream`.

        ``async for`` works as well, on any loop.
        """
        return SyncStream(self._app.portal, self._run.stream(after))

    @property
    def lineage(self) -> tuple[UUID, ...]:
        """Its id and those of the runs that it was forked from, up to the root."""
        return self._app.portal.call(self._run.lineage())

    def diff(self, other: SyncRun) -> Diff:
        """How another run differs from it: first divergence, steps, state at the end; a table in a notebook."""
        return self._app.portal.call(self._run.diff(other._run))

    def show(self) -> None:
        """Look into it: the inspector in a notebook, plain text elsewhere."""
        if self._app.inspect is None:
            raise UsageError("there is no display here: `%load_ext flowbook` in a notebook brings one")
        self._app.inspect(self)

    def __repr__(self) -> str:
        return f"<run {self.id}>"
