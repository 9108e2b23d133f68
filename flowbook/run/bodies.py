"""Bodies: the steps under way that make durable calls, as the runner sees them.

Owns: `Bodies`, the runner's side of the desk (`calls.py`): the context of a step, trying a called step, putting bodies
aside when there is nothing to do but wait, and what of a call or a body is recorded. Refuses: the loop (`runner.py`).

A body is put aside by cancelling it. Its ``finally`` blocks run then, as at any stop, and a durable call that is made
in one raises ``CancelledError`` and counts as not made: it is made when the body comes to it in earnest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowbook.capture import figures, routing
from flowbook.capture.shelf import Shelf
from flowbook.graph.binding import StateView, slots
from flowbook.graph.body import Body
from flowbook.graph.mapping import Map
from flowbook.ids import plain
from flowbook.plan.calls import Asked, outer_of
from flowbook.plan.commands import EndHandOut, RunChild, StartStep, TakeAnswer
from flowbook.plan.events import AttemptFailed, ChildStarted, Event, SignalRefused, StepFinished, StepStarted, WaitBegan
from flowbook.plan.journal import Entry, Kind, from_entry, to_entry
from flowbook.plan.quotes import LEAST, quoted
from flowbook.plan.records import Run, View
from flowbook.ports import Spender
from flowbook.run import item_runs, scopes
from flowbook.run.accounts import Account
from flowbook.run.attempts import Outcome, attempt
from flowbook.run.called import at_once, failed_for_good, minded, tried
from flowbook.run.calls import Desk, Wanted
from flowbook.run.children import Children
from flowbook.run.context import Context
from flowbook.run.pauses import Pauses, ToMind
from flowbook.run.raised import blamed
from flowbook.run.spawning import cared_for
from flowbook.run.undoing import compensate
from flowbook.run.values import Copies

if TYPE_CHECKING:
    from flowbook.run.runner import Runner

STOP_GRACE = 10.0
"""Seconds that bodies get to end when they are put aside; one that does not is left to itself, and unheard."""
QUIET_WHEN_SUSPENDING = 0.2
"""As `calls.QUIET`, where every pause is taken at once."""


class Bodies:
    """The bodies of one run."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._desk: Desk | None = None
        self.streaming = runner.tools.streams.of(runner.row, runner._attempts)
        self._aside: set[str] = set()
        """Bodies that are being put aside."""
        self._unproven: set[str] = set()
        """Bodies that were under way when a process died: until one comes on, what it calls is suspect as well."""

    @property
    def desk(self) -> Desk:
        """Where calls are asked for; made with the first context, as most runs ask for nothing."""
        if self._desk is None:
            runner = self._runner
            self._desk = desk = Desk(self._record, runner._latch.open, runner.tools.key, runner.row.created_at)
            desk.stop, desk.add, desk.read = self._stop, self._add, runner.tools.store.outcomes_now
            desk.account = self._account
            if runner.tools.always_suspend:
                desk.quiet = QUIET_WHEN_SUSPENDING
        return self._desk

    def asked(self) -> Sequence[Asked]:
        """The calls that wait for something to be done."""
        return self._desk.asked() if self._desk is not None else ()

    def _record(self) -> Run:
        return self._runner._run

    def context(self, command: StartStep, view: View) -> Context:
        """What the step of an attempt may ask about its run; a coroutine function may make durable calls with it."""
        runner, path, desk = self._runner, command.path, self.desk
        state = StateView(Copies(view.values, runner.tools.key, runner._kept, runner.tools.store.outcomes_now))
        step = self._step_of(command)
        # Of this attempt: once it is put aside it makes no calls any more. A compensation makes none.
        caller = None if command.undoes else desk.caller(path, command.token)
        if caller is not None and step.is_async:
            scopes.enter(caller.root)
        return Context(
            plain(runner.row.id), runner.graph.name, path, command.attempt, state, runner.tools.clock.now,
            caller=caller, durable_time=type(step) is Body, say=self.streaming.push, tools=runner.tools,
        )  # fmt: skip

    # -- trying --------------------------------------------------------------------------------------------------------

    def tried(self, command: StartStep, view: View) -> Awaitable[Outcome]:
        """Try a step once, a node's or a call's, in the running task; what it prints, displays and plots is kept."""
        tools = self._runner.tools
        if tools.outputs is not None:
            routing.current.set(Shelf(tools.outputs, self._runner.row, command))
            if plots(self._step_of(command)) and not command.undoes:
                return self._drawn(command, view)
        return self._tried(command, view)

    async def _drawn(self, command: StartStep, view: View) -> Outcome:
        async with self._runner.tools.studio.drawing():
            return await self._tried(command, view)

    def _step_of(self, command: StartStep) -> Any:
        wanted = self._desk.known.get(command.path) if self._desk is not None else None
        step: Any = wanted.step if wanted is not None else self._runner.graph.nodes[command.node].step
        return step.step if isinstance(step, Map) else step

    async def _tried(self, command: StartStep, view: View) -> Outcome:
        """What its calls have to say of it comes first."""
        bench, aside = self._runner._bench, self._aside
        wanted = self._desk.known.get(command.path) if self._desk is not None else None
        try:
            if wanted is not None:
                outcome = await tried(bench, wanted, command, view, self._runner.tools.clock.now)
            elif command.path.endswith("]"):
                outcome = await self._runner._maps.attempt(command, view)
            else:
                outcome = await (compensate if command.undoes else attempt)(bench, command, view)
            if outcome.entry is not None and self._desk is not None and self._desk.callers:
                await self._desk.begun(command.path)
            if command.path in self.streaming.open and command.path not in aside:
                kind = None if outcome.entry is None else outcome.entry.kind
                await self.streaming.end(command.path, well=kind is not None, settled=kind is not Kind.HANDED_OUT)
        except asyncio.CancelledError:
            self.streaming.put_aside(command.path)
            if command.path not in aside:
                self.desk.leave(command.path, returned=False)
            raise
        if command.path in aside:
            self.streaming.put_aside(command.path)
            return Outcome(command, cancelled=True)
        if self._desk is not None and self._desk.callers:
            called = self._desk.has_called(command.path)
            error = self._desk.leave(command.path, returned=outcome.entry is not None)
            return self._quoted(outcome, called) if error is None else Outcome(command, error=error)
        return outcome

    def _quoted(self, outcome: Outcome, called: bool) -> Outcome:
        """An outcome without the texts that its body has from its calls: they have rows of their own."""
        entry = outcome.entry
        if not called or entry is None or entry.kind is not Kind.FINISHED or len(entry.payload) < LEAST:
            return outcome
        event = outcome.event or from_entry(entry)
        shorter = quoted(event, self._record().calls) if type(event) is StepFinished else event
        return outcome if shorter is event else replace(outcome, entry=to_entry(shorter), event=None)

    def has_stopped(self, path: str) -> bool:
        """True if an attempt was cancelled by us: its body was put aside, or does not want the call any more."""
        return path in self._aside or (self._desk is not None and path in self._desk.withdrawn)

    async def missed(self, command: StartStep) -> bool:
        """Make a call known that is about to be tried; True: an attempt at it died with its process, and counts."""
        request = self.desk.open.get(command.path) if self._desk is not None else None
        if request is None:
            return False
        self.desk.known[command.path] = request.wanted
        number = self.desk.lost.pop(command.path, 0)
        if not number:
            return False
        await self._runner._append([self._runner._judge.lost(self._record(), command.path, number)])
        self._runner._latch.open()
        return True

    def recalls(self, run: Run, path: str, number: int) -> bool:
        """Remember a call that died with its process until its body asks for it again; False: it is no call."""
        if outer_of(run, path) is None:
            return False
        self.desk.lost[path] = number
        return True

    def have_called(self, path: str) -> bool:
        """True if the body at a path makes durable calls: they tell that it has begun."""
        return self._desk is not None and self._desk.has_called(path)

    def has_asked(self, path: str) -> bool:
        """True if a body waits for the call at a path."""
        return self._desk is not None and path in self._desk.open

    def mind(self, command: ToMind, pauses: Pauses, read: int) -> WaitBegan | SignalRefused | Outcome:
        """What a command comes to that is about a call, as `Pauses.mind` does it for nodes."""
        assert not isinstance(command, TakeAnswer | EndHandOut), "what a call's step returns is its result"
        return minded(self.desk.open[command.path].wanted, command, pauses, read, self._now())

    async def mind_children(self, commands: Sequence[RunChild], children: Children) -> bool:
        """Have children under way and hear of their ends; all together, so that what is written for them shares
        commits. False: nothing of it now.
        """
        runner, run = self._runner, self._record()
        if runner._draining or not runner.tools.store.steady:
            return False
        wanted = [c for c in commands if not children.alive(c.path, run) or run.children[c.path].again]
        # A task each would be for nothing where there is one, as for a sub-flow.
        asked = [self._child(command, children) for command in wanted]
        found = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked, return_exceptions=True)
        told: list[Event] = []
        for done in found:
            if isinstance(done, BaseException):
                raise done
            if isinstance(done, Outcome):
                runner._outcomes.append(done)
            elif done is not None:
                told.append(done)
        await runner._append(told)
        return any(done is not None for done in found)

    async def _child(self, command: RunChild, children: Children) -> ChildStarted | Outcome | None:
        """What a command about a child comes to: of a sub-flow's node, an item, or one that a body has spawned."""
        if "/" not in command.path:
            runner, run = self._runner, self._record()
            if command.path.endswith("]"):
                return await item_runs.cared_for(children, runner._maps, runner.graph, command, run)
            return await children.mind(command, run)
        request = self.desk.open.get(command.path)
        if request is None:
            return None  # its body has ended meanwhile
        return await cared_for(children, request.wanted, command, self._record(), self._now())

    def is_suspect(self, path: str) -> bool:
        """True if a call may have been under way when a process died."""
        if self._desk is None or path not in self._desk.known:
            if path in self._runner._suspects:
                self._unproven.add(path)
            return False
        return any(path.startswith(f"{body}/") for body in self._unproven)

    def called(self, path: str) -> Wanted | None:
        """The durable call at a path; None: it is a node's."""
        if self._desk is None:
            return None
        request = self.desk.open.get(path)
        return self.desk.known.get(path) or (request.wanted if request is not None else None)

    def told(self, event: AttemptFailed, error: BaseException | None) -> AttemptFailed:
        """A failure with what has to do with calls: the last one of a call, or one of a body that calls had ended."""
        wanted = self.called(event.path)
        if wanted is not None and event.final:
            event = failed_for_good(event, wanted, error, self._runner.tools.clock.now())
        if error is not None and (because := tuple(p for p in blamed(error) if p in self._record().calls)):
            event = replace(event, because=because)
        return event

    async def answer(self, entries: Sequence[Entry]) -> None:
        """Outcomes have become durable: tell the bodies that wait for them."""
        if self._unproven:
            told = [e.path for e in entries if e.kind in (Kind.FINISHED, Kind.WAITING)]
            self._unproven -= {b for b in self._unproven if any(path.startswith(f"{b}/") for path in told)}
        if self._desk is None or not (self._desk.open or self._desk.flying):
            return
        if self._runner.tools.always_suspend:
            await self._put_aside(self.desk.bodies_of(entries, self._runner._tasks))
        self.desk.answer(entries)

    # -- putting aside -------------------------------------------------------------------------------------------------

    def rest(self) -> float | None:
        """Seconds until all that is under way may be put aside; 0: now, or nothing is; None: it does something."""
        if not self._runner._tasks:
            return 0.0
        return self._desk.rest(self._runner._tasks) if self._desk is not None else None

    async def put_aside(self, *, waiting: bool = False) -> None:
        """Put aside what is under way; with ``waiting``: only bodies that wait for calls nobody is trying."""
        tasks = self._runner._tasks
        if not tasks:
            return
        paths = list(tasks)
        if waiting:
            tried = [p for p in tasks if p in self.desk.known]
            callers = self.desk.callers
            paths = [
                p for p, task in tasks.items()
                if p in callers and callers[p].is_waiting(task) and not any(t.startswith(f"{p}/") for t in tried)
            ]  # fmt: skip
        await self._put_aside(paths)

    async def _put_aside(self, paths: list[str]) -> None:
        runner = self._runner
        tasks = [runner._tasks[p] for p in paths]
        if not tasks:
            return
        self._aside.update(paths)
        self.desk.put_aside(paths)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=STOP_GRACE)
        self._aside.clear()
        for path in paths:
            runner._tasks.pop(path, None)
            runner._attempts.pop(path, None)
        runner._outcomes[:] = [o for o in runner._outcomes if o.command.path not in paths]

    def laid_down(self) -> tuple[Entry, ...]:
        """Rows for a run that is let go of in order: what has begun is no loss if a process dies later."""
        run = self._record()
        return tuple(to_entry(StepStarted(path, 0)) for path in run.started if path not in self._runner._attempts)

    def stop(self) -> None:
        """Everything is about to be cancelled for good."""
        for caller in self._desk.callers.values() if self._desk is not None else ():
            caller.close(keep=True)

    def close(self) -> None:
        """The run is let go of."""
        self.streaming.close(over=self._runner.run is not None)
        self._desk = None
        del self._runner

    # -- inside --------------------------------------------------------------------------------------------------------

    def _stop(self, path: str) -> None:
        task = self._runner._tasks.get(path)
        if task is not None:
            task.cancel()

    def _add(self, wanted: Wanted, value: Any) -> None:
        self._runner._outcomes.append(at_once(wanted, value, self._now()))
        self._runner._latch.open()

    def _now(self) -> datetime:
        return self._runner.tools.clock.now()

    def _account(self, budget: str, path: str, attempt: int) -> Account:
        row, store = self._runner.row, self._runner.tools.store
        return Account(store.budgets, Spender(row.namespace, budget, row.id, path, attempt))


def plots(step: Any) -> bool:
    """True if a step takes turns with others that plot; not a coroutine with a context: it may wait for one."""
    cached: bool | None = step.__dict__.get("_plots")
    if cached is None:
        here = step.policy.executor != "process" and not (step.is_async and slots(step).context)
        cached = step.__dict__["_plots"] = here and figures.draws(step.fn)
    return cached
