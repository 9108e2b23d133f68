"""The engine: all the runs that this process carries.

Owns: the registered code, a runner per owned run, the claim loop of workers. Refuses: the run itself (`runner.py`)
and knowing whose runs are whose, which the store keeps.

A process claims only runs whose fingerprint it has registered. A kernel claims only what it started or was told to
resume; a worker (`work`) claims whatever is due.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from flowbook.capture import routing
from flowbook.capture.collector import Collector
from flowbook.clock import DICE
from flowbook.errors import CodeMissing, StoreUnavailable
from flowbook.graph.flow import Graph
from flowbook.plan.records import Run, Status
from flowbook.ports import NewRun, RunRow, Started
from flowbook.run.ending import Ending
from flowbook.run.parked import Parked
from flowbook.run.runner import Runner
from flowbook.run.tools import Tools

log = logging.getLogger("flowbook")

POLL = 1.0
"""Seconds between looks at the store when nothing wakes the engine; jittered."""
THOROUGH = 60.0
"""Seconds between two looks of a kernel at each of its runs by name."""
MOST_AT_ONCE = 64
"""Runs that one claim takes."""
MOST_CHILDREN = 1000
"""Runs under way in a kernel from which on it leaves further children to be claimed later."""
REMEMBERED = 512
"""Ended runs whose last record is kept, so that their result costs no query."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What this process still knows of a run that it has ended."""

    graph: Graph
    run: Run | None
    """The last record; None if the run could not be loaded."""
    exception: BaseException | None
    """The exception of the step that failed it."""
    epoch: int
    """Under which it was ended; a run that failed may have been retried since, here or elsewhere."""


class Engine:
    """Runs runs. Lives on one event loop; none of its methods may be called from another thread."""

    def __init__(self, tools: Tools) -> None:
        self.outputs = Collector(tools.store.keep_outputs, tools.clock.now)
        self.tools = replace(
            tools, start=self.start_child, adopt=self.adopt, ended=self._record_of, graph=self.graph,
            outputs=self.outputs,
        )  # fmt: skip
        self._graphs: dict[str, Graph] = {}
        self._runners: dict[UUID, Runner] = {}
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._mine: set[UUID] = set()
        self._records = Parked()
        self._parked: set[UUID] = set()
        """Those of them that this process has parked: the store knows them by itself."""
        self._beginning = 0
        """Children that are being started, and will be carried here."""
        self._strays: set[UUID] = set()
        """Those that it neither carries nor has parked: somebody else had them last."""
        self._promised: set[UUID] = set()
        """Runs that were started in users' transactions: ours once those are committed, and if they ever are."""
        self._ended: dict[UUID, Ended] = {}
        self._changed: dict[UUID, asyncio.Event] = {}
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._queues: Sequence[str] | None = None
        self._concurrency = 0
        self._closing = False
        self._look = True
        """True when mail may have come that nobody was told of."""
        self._thorough = 0.0
        """When all of its runs are asked for by name again, by the loop's clock."""
        self._woken: set[UUID] = set()
        """Parked runs that somebody was told of: between two looks, no other is asked for."""

    async def open(self) -> None:
        """Begin to listen and to look after parked runs."""
        self.tools.store.on_wake(self._on_wake)
        routing.install(self)
        self._loop = asyncio.create_task(self._claim_loop(), name="flowbook-claims")

    async def close(self, grace: float = 2.0) -> None:
        """Start nothing more, hand unfinished runs back, and stop; bodies get ``grace`` seconds to end."""
        self._closing = True
        if self._loop is not None:
            self._loop.cancel()
        for runner in self._runners.values():
            runner.drain()
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            if late:  # a body that will not stop is left behind: its run is handed back as the store closes
                await asyncio.wait(late, timeout=5 * grace)
        await self.tools.streams.close()
        await self.tools.stages.close()
        await self.tools.resources.close()
        self.tools.threads.shutdown()
        self.tools.processes.shutdown()
        await self.outputs.close()
        routing.uninstall(self)

    # -- code ----------------------------------------------------------------------------------------------------------

    def register(self, graph: Graph) -> None:
        """Know the code of a flow, so that its runs can be carried here."""
        self._graphs[graph.fingerprint] = graph

    def knows(self, fingerprint: str) -> bool:
        """True if the code behind a fingerprint is registered."""
        return fingerprint in self._graphs

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The code that is registered, in the order in which it was."""
        return tuple(self._graphs.values())

    @property
    def known(self) -> frozenset[str]:
        """Fingerprints of the code that is registered."""
        return frozenset(self._graphs)

    @property
    def room(self) -> int:
        """How many more runs a worker would carry just now."""
        return self._concurrency - len(self._tasks)

    def graph(self, fingerprint: str) -> Graph | None:
        """The registered code behind a fingerprint."""
        return self._graphs.get(fingerprint)

    def newest(self, flow: str) -> Graph | None:
        """The code that was registered last under a flow's name."""
        return next((g for g in reversed(self._graphs.values()) if g.name == flow), None)

    # -- runs ----------------------------------------------------------------------------------------------------------

    async def start(self, new: NewRun) -> Started:
        """Start a run and carry it on here (if the store says that it is new)."""
        started = await self.tools.store.start(new)
        if started.created and new.claim:
            self._adopt(new.id)
            self._own(started.row, new=True)
        return started

    async def start_child(self, new: NewRun) -> tuple[RunRow, bool]:
        """Start a child unless it is there; its row, and whether it began just now.

        It is carried here at once, if there is room and it is not meant for others (``new.claim``), else by whoever
        claims it: a kernel counts the children of its runs among its own.
        """
        room = MOST_CHILDREN if self._queues is None else self._concurrency
        claim = new.claim and len(self._tasks) + self._beginning < room
        self._beginning += claim
        try:
            started = await self.tools.store.start(replace(new, claim=claim))
        finally:
            self._beginning -= claim
        row = started.row
        if row.id != new.id:
            return row, False
        if new.claim:
            self._adopt(row.id)
        ours = row.worker_id == self.tools.store.worker_id and row.epoch == 1 and row.status is Status.RUNNING
        if ours and row.id not in self._tasks:
            self._own(row, new=started.created)
        return row, started.created

    async def adopt(self, row: RunRow) -> None:
        """See to it that a child is carried: by whoever has it, or else here, if its code is known."""
        self._adopt(row.id)
        if row.id not in self._tasks and self.knows(row.fingerprint):
            await self.resume(row.id)

    async def start_within(self, new: NewRun, session: Any) -> Started:
        """Start a run in the transaction of a user's session; it is carried on here once that is committed, unless
        another worker is first.
        """
        started = await self.tools.store.start_within(new, session)
        if started.created:
            self._promised.add(new.id)
        return started

    async def resume(self, run_id: UUID) -> RunRow:
        """Carry a run on here, wherever it was before. Raises `CodeMissing` if its code is not registered.

        A run that a live worker has is left with it; the answer's ``worker_id`` says who that is.
        """
        row = await self.tools.store.run(run_id)
        if row.status.over or run_id in self._tasks:
            return row
        if not self.knows(row.fingerprint):
            raise CodeMissing(
                f"run {run_id} needs the code of flow {row.flow!r} as it was (version {row.version}, "
                f"{row.fingerprint[:8]}), and it is not registered here: run the cell or module that declares it, or "
                f"use `flowbook resume {run_id} --from-source`"
            )
        self._adopt(run_id)
        for claimed in await self.tools.store.claim(
            frozenset({row.fingerprint}), namespace=self.tools.namespace, only=run_id
        ):
            self._own(claimed)
            return claimed
        return await self.tools.store.run(run_id)

    def _record_of(self, run_id: UUID) -> Run | None:
        ended = self._ended.get(run_id)
        return ended.run if ended else None

    def attempts(self, run_id: UUID) -> dict[str, int]:
        """Path -> attempt of what is under way here."""
        runner = self._runners.get(run_id)
        return runner.attempts if runner else {}

    def row(self, run_id: UUID) -> RunRow | None:
        """The row of a run as it was when it was claimed here, of one that is carried or was parked here lately."""
        runner = self._runners.get(run_id)
        return self._records.row(run_id) if runner is None else runner.row

    def carries(self, run_id: UUID) -> bool:
        """True while a run is carried by this process."""
        return run_id in self._tasks

    async def over(self, run_id: UUID) -> Ended | None:
        """Wait for the end of a run, here or elsewhere; what is remembered of one that ended here lately."""
        told = False
        try:
            while True:
                ended = None
                if run_id not in self._tasks:
                    ended = self._ended.get(run_id)
                    if ended is not None and ended.run is not None and ended.run.status is not Status.FAILED:
                        return ended
                # Asked for anew each time: a run that parks takes its event with it.
                event = self._changed.setdefault(run_id, asyncio.Event())
                event.clear()
                if run_id not in self._tasks:
                    row = await self.tools.store.run(run_id)
                    if row.status.over:
                        return ended if ended is not None and ended.epoch == row.epoch else None
                if run_id in self._tasks:
                    await event.wait()  # a run that is carried here ends with its task
                    told = False
                    continue
                with contextlib.suppress(TimeoutError):  # one that is elsewhere is looked at again and again
                    async with asyncio.timeout(self._pause(run_id, told)):
                        await event.wait()
                        told = True  # somebody wants something of it, and perhaps its end
        finally:
            if run_id not in self._tasks and (kept := self._changed.pop(run_id, None)):
                kept.set()  # who else waits for it looks again, and makes one of his own

    def _pause(self, run_id: UUID, told: bool) -> float:
        """Seconds until a run that is not carried here is looked at again.

        Those that are parked here end here, or somebody says that he wants something of them: all together they are
        looked at twice a second, however many are waited for.
        """
        waiting = 1.0 if told or run_id not in self._parked else max(1.0, len(self._changed) / 2)
        return POLL * waiting * DICE.uniform(0.5, 1.0)

    async def work(self, queues: Sequence[str] = ("default",), concurrency: int = 16) -> None:
        """Claim what is due in these queues, for as long as this coroutine is not cancelled."""
        self._queues, self._concurrency = tuple(queues), concurrency
        await self.advertise()
        try:
            await asyncio.Event().wait()
        finally:
            self._queues = None

    async def advertise(self) -> None:
        """Tell the others which code is carried here, and look for runs of it."""
        await self.tools.store.serve(self.known)
        self._wake.set()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _adopt(self, run_id: UUID) -> None:
        """Look after a run from now on, wherever it was before."""
        self._mine.add(run_id)
        if run_id not in self._tasks:
            self._parked.discard(run_id)
            self._strays.add(run_id)

    def _own(self, row: RunRow, *, new: bool = False) -> None:
        runner = Runner(self.tools, self._graphs[row.fingerprint], row, new=new, known=self._records.take(row))
        before = self._tasks.get(row.id)
        self._parked.discard(row.id)
        self._strays.discard(row.id)
        self._runners[row.id] = runner
        self._tasks[row.id] = asyncio.create_task(self._carry(runner, before), name=f"flowbook-run-{row.id}")

    async def _carry(self, runner: Runner, before: asyncio.Task[None] | None) -> None:
        run_id = runner.row.id
        ending = Ending.FENCED
        try:
            if before is not None:
                # The claim is proof that the run is not that one's any more, though it may not know yet: it has
                # parked and waits for the answer, or has been given up for dead while it lives.
                before.cancel()
                await asyncio.wait([before])
            ending = await runner.drive()
        except Exception:
            log.exception("flowbook: run %s stopped because of an error in the engine", run_id)
        finally:
            if self._runners.get(run_id) is runner:
                del self._runners[run_id], self._tasks[run_id]
                if run_id in self._mine:
                    (self._parked if ending is Ending.PARKED else self._strays).add(run_id)
            if runner.left is not None:
                self._records.keep(runner.row, runner.left)
            if ending is Ending.OVER:
                self._mine.discard(run_id)
                self._strays.discard(run_id)
                self._remember(run_id, Ended(runner.graph, runner.run, runner.exception, runner.row.epoch))
            if event := self._changed.pop(run_id, None):
                event.set()
            if ending is not Ending.OVER or self._queues is not None:
                self._woken.add(run_id)  # what woke it while it was let go of was told to a runner that is gone
                self._wake.set()

    def _remember(self, run_id: UUID, ended: Ended) -> None:
        self._ended[run_id] = ended
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _on_wake(self, run_id: UUID | None) -> None:
        if run_id is None:
            self._look = True
        elif run_id in self._runners:
            self._runners[run_id].nudge()
        if run_id is not None and run_id in self._promised:
            self._promised.remove(run_id)
            self._adopt(run_id)
        if run_id is not None and run_id in self._mine:
            self._woken.add(run_id)
        if run_id is not None and (event := self._changed.get(run_id)):
            event.set()
        self._wake.set()

    async def _claim_loop(self) -> None:
        while True:
            self._wake.clear()
            try:
                claimed = await self._claim()
            except StoreUnavailable:
                return
            except Exception:
                log.exception("flowbook: looking for runs to carry failed; it is tried again")
                claimed = 0
            if claimed and self._queues is not None:
                continue  # there may be more
            try:
                async with asyncio.timeout(POLL * DICE.uniform(0.5, 1.0)):
                    await self._wake.wait()
            except TimeoutError:
                pass  # the store's own poll says when to look at everything

    async def _claim(self) -> int:
        """Claim what is due: for workers anything in their queues, for kernels their own parked runs.

        One statement either way, and one more for the mail of all runs that are carried when everything is to be
        looked at: a look must not cost a query per run.
        """
        look, self._look = self._look, False
        woken, self._woken = self._woken, set()
        if look and self._runners:
            for run_id, delivered in (await self.tools.store.mail()).items():
                runner = self._runners.get(run_id)
                if runner is not None and delivered > runner.seen_mail:
                    runner.nudge()
        among, home = None, False
        if self._queues is None:
            among, home = self._wanted(look, woken), look and bool(self._parked)
        room = self._concurrency - len(self._tasks) if among is None else MOST_AT_ONCE if among or home else 0
        if room <= 0 or not self._graphs:
            return 0
        claimed = await self.tools.store.claim(
            frozenset(self._graphs),
            namespace=self.tools.namespace,
            queues=self._queues or ("default",),
            limit=min(room, MOST_AT_ONCE),
            among=among,
            home=home,
        )
        for row in claimed:
            self._own(row)
        if among is not None and len(claimed) == MOST_AT_ONCE:
            self._woken |= among  # there may be more
            self._look = self._look or look
            self._wake.set()
        return len(claimed)

    def _wanted(self, look: bool, woken: set[UUID]) -> frozenset[UUID]:
        """The runs that a kernel asks for by name: between two looks those that it was woken for, else its strays.

        Now and then all of them: what it has parked may have been claimed, parked and left by somebody else since.
        """
        wanted = self._mine.intersection(woken)
        if look:
            now = asyncio.get_running_loop().time()
            thorough = now >= self._thorough
            if thorough:
                self._thorough = now + THOROUGH
            wanted |= self._mine if thorough else self._strays
        return frozenset(wanted.difference(self._tasks))
