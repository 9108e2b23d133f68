"""The runner: the only loop that carries a run forward.

Owns: one claimed run, from its loading to its settlement: decide, start attempts, record outcomes, read mail, settle.
Refuses: deciding what ought to happen (`plan/decide.py`), knowing how anything is stored (`ports.Store`), and owning
more than one run (`engine.py`).

Theory of operation. The record in memory is a fold of *acknowledged* entries only. An outcome becomes an entry, the
entry is applied to a candidate, the candidate becomes the record when the store has accepted the entry; only then is
`decide` asked again. So nothing ever starts on the strength of something that a crash could undo. Outcomes that come
in while an append is under way go together with the next one. Losing the fence ends the runner at once, without a
further write.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

from flowbook.errors import Fenced, PayloadTooLarge, StateError, StoreUnavailable, ValueRefused
from flowbook.graph.flow import Graph
from flowbook.plan.apply import apply
from flowbook.plan.commands import (
    BeginMap,
    BeginWait,
    CancelRun,
    CollectItem,
    CompleteRun,
    EndHandOut,
    EndMap,
    EndWait,
    FailRun,
    RunChild,
    StartStep,
    TakeAnswer,
    TakeSignal,
    WaitForSignal,
    WaitUntil,
)
from flowbook.plan.decide import decide, has_ended
from flowbook.plan.events import Event, RunCompleted, StepStarted
from flowbook.plan.journal import Entry, from_entry, to_entry
from flowbook.plan.mapped import Mapped
from flowbook.plan.records import Run, Status, View
from flowbook.plan.sealed import Absent
from flowbook.plan.transitions import after
from flowbook.ports import CHILD, Ack, RunRow, Settlement, Transaction
from flowbook.run.attempts import Bench, Outcome
from flowbook.run.bodies import Bodies
from flowbook.run.children import Children
from flowbook.run.closing import close, give_up, park, release
from flowbook.run.ending import Ending
from flowbook.run.judging import Judge
from flowbook.run.latch import Latch
from flowbook.run.loading import Loaded, fresh_run, load
from flowbook.run.losers import standing_at, stop_losers, with_losers
from flowbook.run.mail import requested, unread
from flowbook.run.maps import Maps
from flowbook.run.pauses import Pauses, ToMind
from flowbook.run.recompute import recomputed
from flowbook.run.shots import Shots
from flowbook.run.together import batch, roll_back, shared
from flowbook.run.tools import Tools
from flowbook.run.undoing import Undoings

LINGER = 5.0
"""Seconds that a back-off or a pause is waited for in memory; a longer one parks the run."""
STOP_GRACE = 10.0
"""Seconds that bodies get to end after a cancel before the run is ended without them."""

_NO_TIME = datetime.min.replace(tzinfo=UTC)


class Runner:
    """One run on its way."""

    def __init__(
        self, tools: Tools, graph: Graph, row: RunRow, *, new: bool = False, known: Loaded | None = None
    ) -> None:
        """``new``: it was started a moment ago. ``known``: what its journal comes to; None: it is to be read."""
        self.tools, self.graph, self.row = tools, graph, row
        self.exception: BaseException | None = None
        """The exception of the step that failed the run, for callers in this process."""
        self.left: Loaded | None = None
        """What was known of it when it was parked; None: it was not, or others know more."""
        self._new, self._known = new, known
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._attempts: dict[str, int] = {}
        """Path -> attempt that is under way, or whose outcome is not durable yet."""
        self._outcomes: list[Outcome] = []
        self._unnoted: dict[str, StartStep] = {}
        """Path -> what is under way and has no row that says so."""
        self._latch = Latch()
        self._draining = False
        self._stopping = False
        self._seen_mail = row.mail
        self._unread = row.mail > 0
        self._read = 0
        self._shots = Shots()
        self._suspects: frozenset[str] = frozenset()
        self._barred = False
        """A suspect waits for its turn in the ward."""
        self._warded: set[str] = set()  # suspects that are under way
        self._confined = ""
        """The path that has its turn."""
        self._errors: dict[str, BaseException] = {}
        self._kept: dict[tuple[str, str | None], Any] = {}
        self._bodies = Bodies(self)
        self._bench = Bench.of(
            tools, graph, row, self._kept, self._bodies.context, self._recompute, lambda: self._given
        )
        self._pauses = Pauses(self._bench)
        self._given: Mapping[str, Any] = {}
        self._run: Run
        self.run: Run | None = None
        """The record at the end, for callers in this process."""

    # Made when first asked for: most runs have none of these, and a short one would live mostly for making them.

    @functools.cached_property
    def _judge(self) -> Judge:
        return Judge(self.graph, self.tools, self._bodies.called, self._bodies.told)

    @functools.cached_property
    def _children(self) -> Children:
        return Children(self.tools, self.row, self._bench)

    @functools.cached_property
    def _maps(self) -> Maps:
        return Maps(self._bench, self.tools.store, self.row.id)

    @functools.cached_property
    def _undoings(self) -> Undoings:
        return Undoings(self.tools.store, self.graph, self.row)

    @property
    def attempts(self) -> dict[str, int]:
        """Path -> attempt of what is under way."""
        return dict(self._attempts)

    @property
    def seen_mail(self) -> int:
        """Deliveries that have been read."""
        return self._seen_mail

    def nudge(self) -> None:
        """There may be mail."""
        self._unread = True
        self._latch.open()

    def drain(self) -> None:
        """Start nothing more and hand the run back as soon as nothing is under way."""
        self._draining = True
        self._latch.open()

    async def drive(self) -> Ending:
        """Carry the run on until it is over, parked, handed back or lost. Raises nothing about the run itself."""
        try:
            await self._begin()
            while True:
                if self._unread:
                    await self._read_mail()
                ending = await self._act()
                if ending is not None:
                    return ending
                ending = await self._record()
                if ending is not None:
                    return ending
        except (Fenced, StoreUnavailable):
            return Ending.FENCED
        except Exception as error:
            # One damaged journal, one value no row can hold, one bug of ours: this run ends loudly, the others go on.
            await give_up(self, error)
            return Ending.OVER
        finally:
            await self._stop_attempts()
            await roll_back(self._outcomes)
            self.tools.ward.release(self)
            self.tools.ticker.discard(self)
            # They hold methods of this runner: a circle, which would be left to the garbage collector.
            self._bodies.close()
            for part in ("_bench", "_pauses", "_children", "_maps", "_judge", "_bodies"):
                self.__dict__.pop(part, None)

    async def _begin(self) -> None:
        store, graph = self.tools.store, self.graph
        loaded = self._known or await (fresh_run if self._new else load)(store, graph, self.row)
        self._known = None
        self._given = loaded.given
        self._run, self._shots, self._suspects = loaded.run, loaded.shots, loaded.suspects
        # Signals may lie unread before the last cancel: reading begins where everything is settled.
        self._read = loaded.run.floor if graph.listens else loaded.run.mail
        died = [(p, n) for p, n in loaded.lost if not self._bodies.recalls(self._run, p, n)]
        await self._append([self._judge.lost(self._run, path, number) for path, number in died])

    # -- acting on what decide wants ---------------------------------------------------------------------------------

    async def _act(self) -> Ending | None:
        """Carry out what is wanted now; returns how the run was let go of, or None if it goes on."""
        # Only retries and pauses have to do with time; asking the clock at each step would cost more than deciding.
        timed = self._run.troubles or self._run.waits or self._run.handed or self.graph.run_timeout is not None
        now = self.tools.clock.now() if timed else _NO_TIME
        if self._run.children and (self.graph.races or self._run.halted):
            await self._children.stop_losers(self._run)
        asked = self._bodies.asked()
        commands = decide(self.graph, self._run, now, self._pauses.letters, asked)
        until: datetime | None = None
        listening = moved = starting = False
        kin: list[RunChild] = []
        self._barred = False
        for command in commands:
            match command:
                case StartStep():
                    await self._start(command)
                    starting = starting or command.path not in self._attempts
                case WaitUntil(at):
                    until = at
                case WaitForSignal():
                    listening = True
                case BeginWait() | TakeSignal() | EndWait() | TakeAnswer() | EndHandOut():
                    moved = await self._mind(command) or moved
                case BeginMap() | CollectItem() | EndMap():
                    moved = await self._mind(command) or moved
                case RunChild():
                    kin.append(command)
                case CompleteRun() | FailRun() | CancelRun():
                    return await close(self, command)
                case _:
                    assert_never(command)
        if kin:
            moved = await self._bodies.mind_children(kin, self._children) or moved
            alive = [self._children.alive(child.path, self._run) for child in kin]
            listening, starting = listening or any(alive), starting or not all(alive)
        if self._draining and self._bodies.rest() == 0:
            await self._bodies.put_aside()
            return await release(self, Status.PENDING, 0.0, Ending.HANDED_BACK)
        if moved:
            return None
        # What ought to run and could not be begun just now is no reason to park, nor what bodies have asked for since.
        still = not starting and self._bodies.asked() == asked
        if still and (listening if until is None else self._is_far(until)) and self._is_idle():
            if self.tools.always_suspend or not (linger := self._children.linger):
                await self._bodies.put_aside()
                return await park(self, until)
            until = self.tools.clock.now() + timedelta(seconds=linger)
        await self._wait(until)
        return None

    async def _mind(self, command: ToMind | BeginMap | CollectItem | EndMap) -> bool:
        """Begin or end a pause or a map, or end what was handed out; False: not now."""
        if self._draining or not self.tools.store.steady:
            return False
        if isinstance(command, BeginMap | CollectItem | EndMap):
            done: Event | Outcome = await self._maps.mind(command, self._run)
            self._errors.pop(command.path, None)  # an item's failure is in the journal, and there may be many
        elif self._bodies.has_asked(command.path):
            done = self._bodies.mind(command, self._pauses, self._read)
        else:
            done = await self._pauses.mind(command, self._run, self._read, self.tools.clock.now())
        if isinstance(done, Outcome):
            if isinstance(command, TakeSignal | TakeAnswer) and (decided := self._pauses.decision(command)):
                done = replace(done, decided=to_entry(decided))
            self._outcomes.append(done)
        else:
            await self._append([done])
        return True

    async def _start(self, command: StartStep) -> None:
        if command.path in self._attempts or self._draining or not self.tools.store.steady:
            return
        if await self._bodies.missed(command):
            return
        noted = False
        if self._bodies.is_suspect(command.path) or command.path in self._suspects:
            beside = self._confined and command.path.startswith(f"{self._confined}/")  # its own call: no other's
            alone = not beside and self._judge.lost(self._run, command.path, 0).final  # another death would be the end
            if not beside and not self.tools.ward.admit(self, command.path, self._latch, alone=alone):
                self._barred = True
                return
            self._confined = command.path if alone else self._confined
            self._warded.add(command.path)
            # It may kill its process: its beginning must outlive it, or nobody could count.
            self._suspects -= {command.path}
            noted = True
            await self._append([StepStarted(command.path, command.attempt)])
        undoes = command.undoes
        view = await self._undoings.view(undoes) if undoes else self._run.tokens[command.token].view
        self._attempts[command.path] = command.attempt
        task = self.tools.stages.begin(self._try(command, view), command.path)
        if task is None:
            return  # its outcome is there
        self._tasks[command.path] = task
        if not noted:
            self._unnoted[command.path] = command
            self.tools.ticker.add(self)
        self._tell([], None)

    def tick(self) -> None:
        """Note the beginning of what has been under way for a while; what was quick is told by its outcome alone."""
        for command in self._unnoted.values():
            if not self._bodies.have_called(command.path):
                entry = to_entry(StepStarted(command.path, command.attempt))
                self.tools.store.note(self.row.id, self.row.epoch, entry)
        self._unnoted.clear()

    async def _try(self, command: StartStep, view: View) -> None:
        try:
            outcome = await self._bodies.tried(command, view)
        except asyncio.CancelledError as error:
            # Not every cancel is ours: a step that awaits something cancelled raises it too, and has failed.
            ours = self._stopping or self._bodies.has_stopped(command.path)
            outcome = Outcome(command, cancelled=True) if ours else Outcome(command, error=error)
        if command.path in self._attempts:  # not given up meanwhile
            self._outcomes.append(outcome)
            self._latch.open()

    def _is_idle(self) -> bool:
        """True if nothing is under way: there is nothing to wait for but a time or a signal."""
        return not (self._outcomes or self._unread or self._barred) and self._bodies.rest() == 0

    def _is_far(self, until: datetime) -> bool:
        """True if a time is not worth waiting for in memory."""
        return self.tools.always_suspend or (until - self.tools.clock.now()).total_seconds() > LINGER

    async def _wait(self, until: datetime | None) -> None:
        """Until an outcome, mail, or the time of a retry or a pause."""
        if self._outcomes or self._unread:
            return
        timeout: float | None = None
        if until is not None:
            timeout = max(0.0, (until - self.tools.clock.now()).total_seconds())
        if self._tasks and (rest := self._bodies.rest()):
            timeout = rest if timeout is None else min(timeout, rest)
        if not self.tools.store.steady:
            timeout = min(timeout or 0.2, 0.2)  # steadiness comes back without an event
        await self._latch.wait(timeout)

    # -- recording -----------------------------------------------------------------------------------------------------

    async def _record(self) -> Ending | None:
        """Turn the outcomes that have come in into entries, and these into the record; the end with the last ones."""
        outcomes, self._outcomes = batch(self._outcomes)
        candidate, entries = self._run, []
        for outcome in outcomes:
            path = outcome.command.path
            if self._tasks:
                self._tasks.pop(path, None)
            self._attempts.pop(path, None)
            self._unnoted.pop(path, None)
            if outcome.cancelled or not standing_at(candidate, path):
                continue  # its branch may have lost a race
            after_it, entry = self._entered(candidate, outcome)
            candidate, more = with_losers(self.graph, candidate, after_it, entry)
            entries += more if outcome.decided is None else [outcome.decided, *more]
        within = outcomes[0].within if outcomes else None
        if within is not None:
            within = await shared(within, entries)
        lone = entries and within is None and not self._tasks and not self.tools.always_suspend
        try:
            if lone and not candidate.children and has_ended(candidate):
                # Nothing but the end is left to do, and the end may stand on what is not durable yet if both become so
                # in one commit.
                ending = await self._settle(Status.COMPLETED, RunCompleted(), None, candidate, entries)
                if ending is not None:
                    return ending
            await self._commit(candidate, entries, within)
        except (Fenced, StoreUnavailable):
            raise
        except Exception as error:
            if within is None and not isinstance(error, PayloadTooLarge):
                raise
            # Nothing was written. The largest is its step's failure; the others, and the run's other steps, are kept.
            worst = max(outcomes, key=lambda o: len(o.entry.payload) if o.entry else 0)
            self._outcomes[:0] = [Outcome(o.command, error=error) if o is worst else o for o in outcomes]
            return await self._record()
        for path in stop_losers(self._run, self._tasks) if self.graph.races else ():
            self._attempts.pop(path, None)
        for path in self._warded.difference(self._tasks) if self._warded else ():
            # Not before it is durable: the next one may take down what is still on its way.
            self._warded.discard(path)
            self._confined = "" if path == self._confined else self._confined
            self.tools.ward.release(self, path)
        return None

    def _entered(self, run: Run, outcome: Outcome) -> tuple[Run, Entry]:
        """The candidate after an outcome, and the outcome's entry; a result that cannot be applied is a failure."""
        entry, error = outcome.entry, outcome.error
        if entry is not None:
            try:
                # What is applied is what was encoded and decoded: the record in memory is what a resume would fold.
                return apply(self.graph, run, outcome.event or from_entry(entry)), entry
            except (StateError, ValueRefused) as refused:
                error = refused
        assert error is not None
        self._errors[outcome.command.path] = error
        event = self._judge.failed(self._run, outcome.command, error)
        return apply(self.graph, run, event), to_entry(event)

    async def _append(self, events: Sequence[Event]) -> None:
        candidate = self._run
        for event in events:
            candidate = apply(self.graph, candidate, event)
        await self._commit(candidate, [to_entry(e) for e in events])

    async def _commit(self, candidate: Run, entries: list[Entry], within: Transaction | None = None) -> None:
        """Make a candidate the record, once its entries are durable."""
        if not entries:
            return
        ack = await self.tools.store.append(self.row.id, self.row.epoch, entries, within)
        self._shots.weigh(entries)
        self._run = candidate if candidate.seq == ack.seq else replace(candidate, seq=ack.seq)
        self._pauses.forget(candidate)
        await self._bodies.answer(entries)
        if ack.mail > self._seen_mail:
            self._unread = True
        self._tell(entries, ack)
        if self.tools.always_suspend:
            await self._forget()
        elif self._shots.due(ack.seq):
            run = replace(self._run, started={**self._run.started, **self._attempts})
            await self._shots.take(self.tools.store, self.graph, self.row, run, self._given)

    async def _forget(self) -> None:
        """Drop the record and fold it anew from the store."""
        loaded = await load(self.tools.store, self.graph, self.row)
        self._given = loaded.given
        under_way = frozenset(self._attempts)
        self._run = replace(loaded.run, started={p: n for p, n in loaded.run.started.items() if p in under_way})

    # -- mail ----------------------------------------------------------------------------------------------------------

    async def _read_mail(self) -> None:
        self._unread = False
        events: list[Event] = []
        status = self._run.status
        for mail in await unread(self.tools.store, self.row, self._read):
            self._read = mail.id
            self._pauses.add(mail)
            if mail.kind == CHILD:
                self._children.hear(mail)
            # What one delivery changes is how the next one is understood: a cancel may stand behind a retry.
            if mail.id > self._run.mail and (event := requested(mail, status, self.tools.clock.now())) is not None:
                events.append(event)
                status = after(status, event)
        self._seen_mail = max(self._seen_mail, self._read)
        await self._append(events)

    # -- letting go ----------------------------------------------------------------------------------------------------

    async def _settle(
        self,
        status: Status,
        event: Event,
        error: str | None,
        candidate: Run | None = None,
        outcomes: Sequence[Entry] = (),
    ) -> Ending | None:
        """End the run, with outcomes that lead to ``candidate`` in the same commit; None: there is mail to be read."""
        entry = to_entry(event)
        run = apply(self.graph, candidate or self._run, event)
        settlement = Settlement(
            self.row.id, self.row.epoch, status, self._seen_mail, entry, tuple(outcomes), None, run.current, error
        )
        if not await self.tools.store.settle(settlement):
            self._unread = True
            return None
        self.run = self._run = run
        self._tell(settlement.entries, Ack(run.seq, self._seen_mail, self.tools.clock.now()))
        return Ending.OVER

    async def _stop_attempts(self) -> bool:
        """Cancel what is under way and wait for it a while; threads go on by themselves, their outcome is ignored.

        True if something had finished all the same, and waits to be recorded.
        """
        self._stopping = True
        self._bodies.stop()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_GRACE)
        self._tasks.clear()
        self._attempts.clear()
        self._unnoted.clear()
        self._outcomes = [outcome for outcome in self._outcomes if outcome.entry is not None]
        self._stopping = False
        return bool(self._outcomes)

    # -- small things --------------------------------------------------------------------------------------------------

    async def _recompute(self, absent: Absent | Mapped) -> Any:
        return await recomputed(self.tools.store, self._bench, self.row, absent)

    def _tell(self, entries: Sequence[Entry], ack: Ack | None) -> None:
        if self.tools.sink is not None:
            self.tools.sink(self.row.id, entries, ack)
