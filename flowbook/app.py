"""The app: the composition root, and the verbs.

Owns: putting store, engine and watchers together, and every verb that the doors offer, as coroutines. Refuses: drawing
(`show/`), typing (`jupyter/`, `cli/`), blocking (`sync.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self, overload
from uuid import UUID

from flowbook import (
    batches,
    changing,
    conversing,
    deciding,
    defining,
    ended_badly,
    evaluating,
    hooks,
    naming,
    preparing,
    printed,
    scheduling,
    working,
)
from flowbook.clock import WallClock
from flowbook.codec import encode
from flowbook.errors import (
    CodeMissing,
    RunNotFound,
    RunOver,
    RunUnfinished,
    UsageError,
)
from flowbook.executors.processes import ProcessExecutor
from flowbook.executors.threads import ThreadExecutor
from flowbook.graph.flow import Graph
from flowbook.graph.portable import obstacles
from flowbook.graph.sign import sign
from flowbook.graph.source import describe
from flowbook.graph.step import Step
from flowbook.graph.templates import Templates
from flowbook.graph.templates import steps as templates
from flowbook.handle import Run
from flowbook.ids import new_id
from flowbook.observe.folding import view_of
from flowbook.observe.inbox import DecisionView as Decision
from flowbook.observe.views import RunView
from flowbook.observe.watch import Callback, Reading, Watch
from flowbook.plan.journal import Entry
from flowbook.plan.query import RunQuery
from flowbook.plan.records import Run as Record
from flowbook.plan.records import Status
from flowbook.ports import Ack, Definition, NewRun, RunRow, Store
from flowbook.query import Runs
from flowbook.rows import Options, Registered
from flowbook.run.answers import deliver
from flowbook.run.deciding import Answered
from flowbook.run.ending import end_uncarried
from flowbook.run.engine import Ended, Engine
from flowbook.run.handout import Token
from flowbook.run.inputs import input_of, stored_input
from flowbook.run.loading import load
from flowbook.run.mail import once
from flowbook.run.pauses import check_name, check_payload
from flowbook.run.results import result_of, state_of
from flowbook.run.starting import cell_of
from flowbook.run.tools import Tools
from flowbook.streaming import Readers

__all__ = ["App", "Options"]


class App:
    """Flows on a store. ``async with App(store) as app``; lives on the loop that entered it."""

    def __init__(self, store: Store, options: Options | None = None) -> None:
        self.store = store
        self.options = options or Options()
        self._registered: dict[str, Definition] = {}
        self._specs: dict[tuple[str, str, str], Mapping[str, Any]] = {}
        self.steps = Templates(beside=templates)
        """What specs may name here."""
        self.rebuilt: dict[str, Graph] = {}
        """Code that was rebuilt to look at runs by, by its fingerprint; it carries none."""
        self._watches: dict[UUID, Watch] = {}
        self.readers = Readers()
        self.hooks = hooks.Hooks(self)
        self.marked: Callable[[str, Mapping[str, Any]], Mapping[str, Any]] = lambda _, metadata: metadata
        """What a run of a flow gets as its metadata (`flowbook.telemetry` adds the trace that it belongs to)."""
        self._workers: set[asyncio.Task[None]] = set()
        self.grace = 2.0
        """Seconds that bodies get to end by themselves when the app closes; then they are stopped, and the runs that
        they belong to are handed back."""

    async def __aenter__(self) -> Self:
        await self.store.open()
        try:
            clock = WallClock(await self.store.now() - datetime.now(UTC))
            self.engine = Engine(
                Tools(
                    self.store,
                    clock,
                    ThreadExecutor(),
                    ProcessExecutor(),
                    sink=self._heard,
                    key=self.options.key,
                    namespace=self.options.namespace,
                    always_suspend=self.options.always_suspend,
                    define=self._define,
                )
            )
            self.store.on_news(self.readers.tell)
            await self.engine.open()
        except BaseException:
            await self.store.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._workers:
            task.cancel()
        for watch in self._watches.values():
            watch.close()
        await self.engine.close(self.grace)
        await self.hooks.close()
        await self.store.close()

    # -- code ----------------------------------------------------------------------------------------------------------

    @overload
    async def register(self, graph: Graph) -> Registered: ...
    @overload
    async def register(self, graph: Step | type | Callable[..., Any]) -> None: ...
    async def register(self, graph: Any) -> Registered | None:
        """Know a flow's code here and store its definition. Harmless when repeated.

        A step, a function of the state or a state class is known from now on to the specs that are read here.
        """
        if not isinstance(graph, Graph):
            self.steps.add(graph)
            return None
        described = describe(graph)
        before = await self.store.runs(RunQuery(self.options.namespace, graph.name, limit=200))
        stored = await self.store.definitions(self.options.namespace, graph.name)
        previous = next((d for d in stored if d.fingerprint != graph.fingerprint), None)
        definition = await self._define(graph)
        orphans = [
            r for r in before
            if r.fingerprint == graph.fingerprint and not r.status.over and not self.engine.carries(r.id)
        ]  # fmt: skip
        return Registered(definition, previous, orphans, obstacles(described))

    async def _define(self, graph: Graph) -> Definition:
        known = self._registered.get(graph.fingerprint)
        if known is not None:
            self.engine.register(graph)
            return known
        for flow in graph.flows:
            await self._define(flow)
        described = describe(graph)
        namespace, spec, sources = self.options.namespace, described.spec, described.sources
        fingerprint = described.fingerprint
        key = self.options.key
        signature = "" if key is None else sign(key, namespace, graph.name, fingerprint, spec, sources)
        stored = await self.store.define(Definition(namespace, graph.name, fingerprint, spec, sources, signature))
        self.engine.register(graph)
        self._registered[graph.fingerprint] = stored
        return stored

    async def definition(self, row: RunRow) -> Definition:
        """The definition that a run is pinned to. Raises `CodeMissing`."""
        found = await self.store.definition(row.namespace, row.flow, row.fingerprint)
        if found is None:
            raise CodeMissing(f"the definition of flow {row.flow!r} that run {row.id} is pinned to is not stored")
        return found

    # -- starting ------------------------------------------------------------------------------------------------------

    async def start(
        self,
        graph: Graph | str,
        input: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        namespace: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: int = 0,
        queue: str | None = None,
        carry: bool = True,
        session: Any = None,
        on_change: changing.OnChange = "refuse",
        **more: Any,
    ) -> Run:
        """Start a run and carry it here; back as soon as it is durable. ``graph``: a flow, or the name of one.

        With a ``key`` that is taken: a run still going is attached to (and carried on here if nobody has it), one that
        is over is what the handle gives the result or the error of. Raises `KeyConflict` for another input under that
        key, `StateError` for an input that does not fit, `Unencodable` for one that cannot be stored.

        If that run began with other code that nobody has, it is refused with what changed; ``on_change="own"`` lets it
        go on under its own version, built from its stored source, ``"new"`` a failed one under this (`changing.py`).

        ``carry=False`` leaves it to whichever worker claims it, and so does a ``queue``, to the workers of that queue.
        ``priority``: higher goes first.

        With a ``session`` of SQLAlchemy's (on this app's database, asynchronous or not) the run is started inside of
        its transaction: it is there once that is committed, and never if it is rolled back. Whoever knows the code may
        carry it then; this app does if nobody else was first.
        """
        if namespace is not None and namespace != self.options.namespace:
            raise UsageError(f"this app is connected for namespace {self.options.namespace!r}, not {namespace!r}")
        name = graph if isinstance(graph, str) else None
        if isinstance(graph, str):
            graph = await naming.named(self, graph)
        definition = self._registered.get(graph.fingerprint) or await self._define(graph)
        data, digest, searchable = await stored_input(self.store, graph, {**(input or {}), **more}, key)
        new = NewRun(
            new_id(), definition.namespace, graph.name, definition.fingerprint, definition.version, data, digest,
            key=key, queue=queue or "default", metadata=self.marked(graph.name, metadata or {}), priority=priority,
            claim=session is None and carry and queue is None, searchable=searchable,
        )  # fmt: skip
        started = await (self.engine.start(new) if session is None else self.engine.start_within(new, session))
        if not started.created:
            await changing.attach(self, started.row, new, on_change, carry=carry and queue is None)
        elif name is not None:
            await working.check_named(self, name, started.row.id)
        return Run(self, started.row.id)

    # -- runs ----------------------------------------------------------------------------------------------------------

    async def run(self, run: str | UUID) -> Run:
        """A handle on a run, by id, unique prefix or short id. Raises `RunNotFound`."""
        row = await (self.store.run(run) if isinstance(run, UUID) else self.store.find(run))
        self._ours(row)
        return Run(self, row.id)

    def _ours(self, row: RunRow) -> RunRow:
        """The row, if it is of this app's namespace; another one's run is as good as none. Raises `RunNotFound`."""
        if row.namespace != self.options.namespace:
            raise RunNotFound(f"there is no run {row.id} in namespace {self.options.namespace!r}")
        return row

    def runs(self, *, flow: str | None = None, status: str | None = None, limit: int = 50) -> Runs:
        """Runs of this namespace, newest first, to be narrowed down (`Runs`); ``await`` it for the rows of a page."""
        found = Runs(self, RunQuery(self.options.namespace, flow)).limit(limit)
        return found if status is None else found.status(status)

    outputs = printed.outputs
    evaluate = evaluating.evaluated
    retry, spent, ask, replay = conversing.retry, conversing.spent, conversing.ask, conversing.replay
    define, undefine, defined, audit = defining.define, defining.undefine, defining.defined, defining.audit

    async def children(self, run_id: UUID) -> Sequence[RunRow]:
        """Rows of the runs that a run has started, in the order of their start."""
        self._ours(await self.store.run(run_id))
        return await self.store.children(run_id)

    resume = changing.resume

    async def cancel(self, run_id: UUID, *, by: str = "user", mark: str = "") -> RunRow:
        """Ask a run to stop; one that nobody carries, or whose process is dead, is ended here and now.

        One that has something to undo first is ended where its code is: here, if it is known, else once it is resumed.
        The answer's status tells: a run that was over already stays as it was.
        """
        self._ours(await self.store.run(run_id))
        row = await self.store.send(run_id, "cancel", by, b"", token=once(run_id, mark))
        if not row.status.over and not self.engine.carries(run_id):
            if not await end_uncarried(self.store, row, by) and self.engine.knows(row.fingerprint):
                await self.engine.resume(run_id)  # what it has done is undone first
            row = await self.store.run(run_id)
        return row

    async def fork(
        self, run_id: UUID, *, at: str, edits: Mapping[str, Any] | None = None, graph: Graph | None = None,
        carry: bool = True,
    ) -> Run:  # fmt: skip
        """Begin another run inside this one: at the step ``at``, which is about to run, again, with an edited state.

        Every result that does not depend on that step is kept, also of branches that finished later; nothing is
        copied. ``edits``: state key -> value. ``graph``: the code that it runs, default see `travel.py`. ``carry``:
        False leaves it to whoever claims it. Raises `PointUnknown` for a step that the run never came to, `StateError`
        for edits that do not fit, `CodeMissing`.
        """
        from flowbook import travel  # 15 ms: only who travels pays for it

        return Run(self, (await travel.fork(self, run_id, at, edits or {}, graph, carry=carry)).id)

    plan, reuse, prove = preparing.plan, preparing.reuse, preparing.prove
    promote, pinned = preparing.promote, preparing.pinned

    async def signal(self, run_id: UUID, name: str, payload: Any = None) -> RunRow:
        """Send a signal to a run, durably; whether it waits already makes no difference. The row after it.

        ``payload``: a dict by convention (None: an empty one). Raises `RunOver` for a run that has ended, `UsageError`
        for a signal that its flow never waits for, `PayloadRefused` for a payload that no wait would take,
        `Unencodable` for one that cannot be stored.
        """
        payload = {} if payload is None else payload
        data = encode(payload, at=f"signal {name!r}")
        row = self._ours(self.engine.row(run_id) or await self.store.run(run_id))
        if not row.status.over:
            check_name(name, row.flow, await self._spec(row))
            if (graph := self.engine.graph(row.fingerprint)) is not None:
                check_payload(name, payload, graph)
            row = await self.store.send(run_id, "signal", name, data)
        if row.status.over:
            advice = ": retry it, then send it again" if row.status is Status.FAILED else ""
            raise RunOver(f"run {run_id} is {row.status} already, so nobody hears {name!r}{advice}")
        return row

    async def approve(self, run_id: UUID, path: str | None = None, **answer: Any) -> Answered:
        """Say yes to what a run waits for, once: a pause that listens for signals, or a step that was handed out.

        ``path``: which one, or its node; None: the only one. ``payload=``: a dict that goes with it, or ``edit=``: all
        of it, of any kind. ``by=``: who, default this system's user. ``why=``. Which signal a yes is:
        `run/deciding.py`. Raises `AlreadyAnswered` (who was first), `NothingToDecide`, `RunOver`, `PayloadRefused`.
        """
        return await deciding.answer(self, run_id, "approve", path, **answer)

    async def reject(self, run_id: UUID, path: str | None = None, why: str = "", **answer: Any) -> Answered:
        """Say no to it; else as `approve`."""
        return await deciding.answer(self, run_id, "reject", path, why=why, **answer)

    async def answer(self, run_id: UUID, path: str | None, signal: str | None = None, **answer: Any) -> Answered:
        """Decide it with a signal that is neither a yes nor a no; else as `approve`."""
        return await deciding.answer(self, run_id, "answer", path, signal, **answer)

    async def inbox(self, *, flow: str | None = None, run_id: UUID | None = None, limit: int = 100) -> list[Decision]:
        """What waits for somebody's decision, across the runs of this namespace, newest run first."""
        return await deciding.inbox(self, flow, run_id, limit)

    async def complete(self, token: str, value: Any = None) -> RunRow:
        """Complete a step that was handed out (`Context.hand_out`), durably, from anywhere; the run's row after it.

        ``value``: what the step is to return, a dict for an update of the state. Raises `TokenRefused` for a text that
        is no token, or one that a later attempt has replaced; `AlreadyAnswered`, which tells what the first answer was;
        `RunOver`; `PayloadRefused` for what the step may not return; `Unencodable`.
        """
        return await self._deliver(token, value, succeeded=True)

    async def fail(self, token: str, why: str) -> RunRow:
        """Let the attempt that was handed out fail; the step's retries apply. Raises as `complete` does."""
        return await self._deliver(token, why, succeeded=False)

    async def _deliver(self, text: str, value: Any, *, succeeded: bool) -> RunRow:
        token = Token.read(text)
        row = self._ours(await self.store.run(token.run_id))
        graph = self.engine.graph(row.fingerprint)
        return await deliver(self.store, row, token, value, graph, succeeded=succeeded)

    async def result(self, run_id: UUID, timeout: float | None = None) -> Any:
        """Wait for the end and return the result: what a step halted with, else the declared outputs, else the state.

        Raises the step's own exception if the run failed in this process, else `StepFailed`; `RunCancelled`;
        `RunUnfinished` after ``timeout`` seconds.
        """
        try:
            waiting = self.engine.over(run_id)
            ended = await (waiting if timeout is None else asyncio.wait_for(waiting, timeout))
        except TimeoutError:
            raise RunUnfinished(f"run {run_id} is not over after {timeout:g} s; it goes on") from None
        row = None if ended and ended.run else await self.store.run(run_id)
        status = ended.run.status if ended and ended.run else row.status if row else Status.FAILED
        match status:
            case Status.COMPLETED:
                return result_of(*await self._record(run_id, ended), self.options.key, self.store.outcomes_now)
            case Status.CANCELLED:
                raise await ended_badly.cancelled(self, run_id, ended)
            case _:
                raise await ended_badly.failure(self, run_id, ended)

    async def state(self, run_id: UUID) -> Any:
        """The state of a run as it is now, in the shape that its schema declares."""
        return state_of(*await self._record(run_id, None), self.options.key, self.store.outcomes_now)

    async def _record(self, run_id: UUID, ended: Ended | None) -> tuple[Graph, Record]:
        if ended and ended.run:
            return ended.graph, ended.run
        row = self._ours(await self.store.run(run_id))
        graph = self._code(row)
        return graph, (await load(self.store, graph, row)).run

    def _code(self, row: RunRow) -> Graph:
        graph = self.engine.graph(row.fingerprint)
        if graph is None:
            raise CodeMissing(
                f"the state of run {row.id} is folded by the code of flow {row.flow!r}, version {row.version}, which "
                f"is not registered here: run the cell or module that declares it"
            )
        return graph

    # -- looking -------------------------------------------------------------------------------------------------------

    async def view(self, run_id: UUID) -> RunView:
        """How a run looks now; its code need not be known."""
        row, entries, spec, input, needs = await self._read(run_id)
        return view_of(row, entries, spec=spec, input=input, running=self.engine.attempts(run_id), needs=needs)

    async def needs(self, row: RunRow) -> str | None:
        """What a run that stands still lacks, e.g. ``code: research@3f2a1b9c``; None: nothing."""
        if row.status not in (Status.PENDING, Status.WAITING) or self.engine.knows(row.fingerprint):
            return None
        if row.fingerprint in await self.store.served():
            return None
        definition = await self.store.definition(row.namespace, row.flow, row.fingerprint)
        where = cell_of(definition) if definition else ""
        return f"code: {row.flow}@{row.fingerprint[:8]}{where}"

    def watch(self, run_id: UUID, callback: Callback) -> Callable[[], None]:
        """Call back with views of a run, on this loop, until its end; the answer stops it."""
        watch = self._watches.get(run_id)
        if watch is None:
            watch = Watch(run_id, self._read, self.engine.attempts, self.engine.carries)
        elif watch.ended:
            watch = watch.again()
        self._watches[run_id] = watch
        watch.add(callback)

        def stop() -> None:
            now = self._watches.get(run_id)
            if now is not None and now.remove(callback):
                self._watches.pop(run_id, None)

        return stop

    async def _read(self, run_id: UUID, after: int = 0) -> Reading:
        row = self._ours(await self.store.run(run_id))
        entries = [entry async for page in self.store.pages(run_id, after) for entry in page]
        return row, entries, await self._spec(row), input_of(row), await self.needs(row)

    async def _spec(self, row: RunRow) -> Mapping[str, Any]:
        identity = (row.namespace, row.flow, row.fingerprint)
        if identity not in self._specs:
            found = self._registered.get(row.fingerprint) or await self.store.definition(*identity)
            self._specs[identity] = found.spec if found else {}
        return self._specs[identity]

    def _heard(self, run_id: UUID, entries: Sequence[Entry], ack: Ack | None) -> None:
        if self.readers and entries:
            self.readers.tell(run_id)
        if self._watches and (watch := self._watches.get(run_id)):
            if watch.ended and watch.wanted and entries:  # somebody has retried it, by whichever way
                watch = self._watches[run_id] = watch.again()
            watch.heard(entries, ack)
        if self.hooks and entries and ack is not None:
            self.hooks.heard(run_id, entries, ack)

    on = hooks.on

    # -- working -------------------------------------------------------------------------------------------------------

    schedule = scheduling.schedule
    start_many, dead, retry_all = batches.start_many, batches.dead, batches.retry_all

    def schedules(self) -> scheduling.Schedules:
        """The schedules of this namespace: ``await`` it for all of them; its methods pause, resume, backfill, ..."""
        return scheduling.Schedules(self)

    async def work(self, queues: Sequence[str] = ("default",), *, concurrency: int = 16, learn: bool = False) -> None:
        """Claim and carry what is due in these queues and whose code is registered, and fire schedules, till cancelled.

        ``learn``: also flows that are not registered here, from their stored source, where this user's key has signed
        it and it is portable. What it does not know a worker leaves alone.
        """
        task = asyncio.current_task()
        if task is not None:
            self._workers.add(task)
        try:
            await working.work(self, queues, concurrency, learn=learn)
        finally:
            if task is not None:
                self._workers.discard(task)
