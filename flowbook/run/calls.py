"""Durable calls: what stands behind ``ctx.step``, ``ctx.sleep``, ``ctx.wait`` and their like.

Owns: `Desk`, the calls that the bodies of one run have asked for, and `Caller`, one body under way: the identity of its
calls, the answers it gets, and whether it can be put aside. Refuses: deciding what is to be done about a call
(`plan/calls.py`), trying steps (`called.py`) and recording (`runner.py`).

Theory of operation. A call takes its path when it is *made*, not when it is awaited. If the journal has its outcome, it
is answered with that, after what was asked for has been compared with what was asked for then; else it lies open at
the desk, the runner does what `decide` wants of it, and it is answered when its outcome is durable. A body whose every
task waits for calls is *at rest*: when the run parks, it is cancelled, and runs again from its start when there is
something new. While it does so, answers come in the order of the journal, so that whoever looks at who came first
(``asyncio.as_completed``, a race) sees the same as before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from flowbook.errors import CallsChanged, UsageError
from flowbook.graph.flow import Graph
from flowbook.plan.calls import Asked
from flowbook.plan.journal import Entry, Kind
from flowbook.plan.records import Call, Run
from flowbook.ports import RunRow
from flowbook.run.accounts import Account
from flowbook.run.items import Read
from flowbook.run.raised import exception_of
from flowbook.run.scopes import Scope, current
from flowbook.run.values import Copies, has_placeholders

QUIET = 5.0
"""Seconds after which a body some of whose tasks wait for something else than calls counts as at rest: what it waits
for may be the others (a TaskGroup)."""
TURNS = 8
"""Turns of the loop that a body gets to act on one answer before it gets the next, when it runs again: what looks at
who came first passes its news on from task to task."""
GAP = 0.05
"""Seconds that a body which runs again gets to make its next call before later ones are answered out of turn."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a call is about, besides what `decide` needs to know."""

    asked: Asked
    step: Any = None
    """The step; None: it is a pause, or something that is over at once."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None
    schema: type | None = None
    """What the payload of a signal must be."""
    named: bool = False
    """True: the outcome is (signal, payload), because it waits for one of several."""
    instant: bool = False
    """True: its outcome is on its way already, and nothing is to be done for it."""
    flow: Graph | None = None
    """What a child runs; None: it is no child."""
    input: Mapping[str, Any] | None = None
    """What a child begins with."""
    key: str | None = None
    """Idempotency key of a child; None: it has none."""
    kept: Callable[[RunRow, Any, Mapping[str, Any]], Any] | None = None
    """(row, result, state) of a child that ended well -> what the call results in; None: its result."""


@dataclass(frozen=True, slots=True)
class Request:
    """A call that waits for its answer."""

    wanted: Wanted
    caller: Caller
    future: asyncio.Future[Call]


class Desk:
    """The durable calls of one run."""

    def __init__(self, run: Callable[[], Run], wake: Callable[[], None], key: bytes | None, born: datetime) -> None:
        self.run, self.wake, self.key, self.born = run, wake, key, born
        self.quiet = QUIET
        self.open: dict[str, Request] = {}
        self.callers: dict[str, Caller] = {}
        """Path of a step -> its body, while it is under way."""
        self.withdrawn: set[str] = set()
        """Calls whose body does not want them any more while they are tried."""
        self.lost: dict[str, int] = {}
        """Path -> attempt that died with its process, until its body asks for it again and it is known whose it was."""
        self.known: dict[str, Wanted] = {}
        """What is being tried; also if its body has been put aside meanwhile."""
        self.flying: set[str] = set()
        """Calls that were over at once, whose outcomes are not durable yet."""
        self.stop: Callable[[str], None] = lambda path: None
        """Stops the attempt at a path."""
        self.add: Callable[[Wanted, Any], None] = lambda wanted, value: None
        """Puts the outcome of a call that is over at once on its way."""
        self.read: Read | None = None
        """Reads the results of maps, of children that are graphs, when they are looked at."""
        self.account: Callable[[str, str, int], Account] | None = None
        """(shared budget, path, attempt) -> it; None: nobody has asked for a context."""
        self._moved: list[asyncio.Future[None]] = []
        """Who waits for any news."""

    def asked(self) -> Sequence[Asked]:
        """The calls that wait for something to be done, in the order in which they were made."""
        return [r.wanted.asked for r in self.open.values() if not r.wanted.instant] if self.open else ()

    def caller(self, path: str, token: str) -> Caller:
        """The body at a path."""
        found = self.callers.get(path)
        if found is None or found.closed:
            found = self.callers[path] = Caller(self, path, token)
        return found

    def answer(self, entries: Sequence[Entry]) -> None:
        """Give durable outcomes to who waits for them."""
        calls, moved = self.run().calls, self._moved
        self._moved = []
        for waiting in moved:
            if not waiting.done():
                waiting.set_result(None)
        for entry in entries:
            if entry.kind in (Kind.FINISHED, Kind.ATTEMPT_FAILED) and (call := calls.get(entry.path)) is not None:
                self.flying.discard(entry.path)
                self.known.pop(entry.path, None)
                request = self.open.pop(entry.path, None)
                if request is not None:
                    request.caller.answered(entry.path, call, request.future)

    def bodies_of(self, entries: Sequence[Entry], tasks: dict[str, asyncio.Task[None]]) -> list[str]:
        """The bodies that wait for nothing but calls, some of which have their outcome here."""
        calls, found = self.run().calls, dict[str, None]()
        for entry in entries:
            request = self.open.get(entry.path)
            if request is None or entry.path not in calls or request.caller.path not in tasks:
                continue
            if request.caller.is_waiting(tasks[request.caller.path]):
                found[request.caller.path] = None
        return list(found)

    def rest(self, tasks: dict[str, asyncio.Task[None]]) -> float | None:
        """Seconds until everything under way may be put aside: 0: now; None: something is being done."""
        longest = 0.0
        for path, task in tasks.items():
            caller = self.callers.get(path)
            left = None if caller is None else caller.rest(task)
            if left is None:
                return None
            longest = max(longest, left)
        return longest

    def has_called(self, path: str) -> bool:
        """True if the body at a path has made durable calls."""
        caller = self.callers.get(path)
        return caller is not None and bool(caller.made)

    def put_aside(self, paths: Collection[str]) -> None:
        """Let bodies go that are about to be cancelled: what they are told from now on is to stop."""
        for path in paths:
            caller = self.callers.pop(path, None)
            if caller is not None:
                caller.close(keep=True)

    async def begun(self, path: str) -> None:
        """Wait until all that a body has spawned is under way: it may return without joining it."""
        caller = self.callers.get(path)
        while caller is not None and not caller.closed and self._has_unbegun(caller):
            news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._moved.append(news)
            await caller.held(news, lambda: None)

    def _has_unbegun(self, caller: Caller) -> bool:
        children = self.run().children
        return any(
            r.caller is caller and r.wanted.flow is not None and (p not in children or children[p].again)
            for p, r in self.open.items()
        )

    def leave(self, path: str, *, returned: bool) -> BaseException | None:
        """A body has ended: withdraw what it has not waited for. The error that its calls come to, if any."""
        caller = self.callers.get(path)
        if caller is None:
            return None
        del self.callers[path]
        error = caller.broken or (caller.missing() if returned else None)
        caller.close(keep=False)
        return error

    def withdraw(self, path: str) -> None:
        """Nobody waits for a call any more: what is tried for it is stopped."""
        request = self.open.pop(path, None)
        if request is not None and request.wanted.step is not None:
            self.withdrawn.add(path)
            self.stop(path)


class Caller:
    """One body under way."""

    __slots__ = (
        "_early", "_expected", "_looked", "_next", "_passed", "_passing", "_pumping", "_timer", "_unheard", "broken",
        "clock", "closed", "desk", "made", "path", "root", "stirred", "tasks", "token", "waiting",
    )  # fmt: skip

    def __init__(self, desk: Desk, path: str, token: str) -> None:
        self.desk, self.path, self.token = desk, path, token
        self.root = Scope(path, self)
        self.tasks: set[asyncio.Task[Any]] = set()
        """What the body has made by ``create_task`` and its like."""
        self.waiting: dict[asyncio.Task[Any] | None, asyncio.Future[Any]] = {}
        """Task -> the answer that it waits for."""
        self.made: set[str] = set()
        self.broken: BaseException | None = None
        """Why the body's calls make no sense any more; whatever it does with it, this ends the run."""
        self.closed = False
        self.clock = desk.born
        self.stirred = 0.0
        self._expected: list[str] | None = None
        self._next = 0
        self._early: dict[str, asyncio.Future[Call]] = {}
        self._passed: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        self._passing = 0
        """Answers of which nobody can have heard yet."""
        self._looked = False
        """The runner wanted to know meanwhile whether the body is at rest."""
        self._unheard: set[asyncio.Future[Call]] = set()
        """Answers of the journal that nobody has taken yet."""

    # -- asking --------------------------------------------------------------------------------------------------------

    def place(self, name: str) -> str:
        """The path of the next call of this name in the running task's scope."""
        return current(self, self.root).place(name)

    def check(self) -> asyncio.AbstractEventLoop:
        """The loop that calls are made on. Raises where none can be made."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise UsageError(
                f"{self.path} makes a durable call from a plain function: make the step `async def`, and await the call"
            ) from None
        if self.broken is not None:
            raise self.broken
        if self.closed:
            raise asyncio.CancelledError
        return loop

    def ask(self, wanted: Wanted, value: Any = None) -> asyncio.Future[Call]:
        """Make a call: the future of its outcome. Raises `CallsChanged` if another one was made here before."""
        loop, path = self.check(), wanted.asked.path
        self.made.add(path)
        self.stirred = loop.time()
        future: asyncio.Future[Call] = loop.create_future()
        known = self.desk.run().calls.get(path)
        if known is None:
            self.desk.open[path] = Request(wanted, self, future)
            self.desk.withdrawn.discard(path)
            if wanted.instant and path not in self.desk.flying:
                self.desk.flying.add(path)
                self.desk.add(wanted, value)
            self.desk.wake()
            return future
        if known.digest != wanted.asked.digest:
            self.broken = CallsChanged(
                f"{path} was {known.shown} when it was made first, and is {wanted.asked.shown} now that its body runs "
                f"again: between its calls a body must do the same each time. Take the time from ctx.now(), chance "
                f"from ctx.uuid(), and put whatever comes from outside into a step"
            )
            raise self.broken
        self._replay(path, known, future, loop)
        return future

    async def outcome(self, path: str, future: asyncio.Future[Call]) -> Any:
        """Wait for an answer: the result, or the exception that ended the call."""
        if not future.done():
            await self.held(future, lambda: self.desk.withdraw(path))
        self.take(future)
        return self.result(path, future.result())

    async def held(self, future: asyncio.Future[Any], withdraw: Callable[[], None]) -> None:
        """Wait for something that comes by calls alone."""
        task = asyncio.current_task()
        self.waiting[task] = future
        self.desk.wake()  # it may be at rest now
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            if not self.closed:
                withdraw()
            raise
        finally:
            del self.waiting[task]

    def take(self, future: asyncio.Future[Call]) -> None:
        """Somebody has an answer: the next one may come."""
        self._unheard.discard(future)

    def result(self, path: str, call: Call) -> Any:
        """What a body gets of a call that is over; raises the exception that ended it."""
        if call.failure is not None:
            raise exception_of(path, call)
        result, desk = call.result, self.desk
        if type(result) is dict and has_placeholders(result):  # the state of a child
            return dict(Copies(result, desk.key, None, desk.read))
        return Copies({"": result}, desk.key, None, desk.read)[""]

    def uuid(self) -> UUID:
        """The same at the same place of the same run."""
        if self.closed:
            raise asyncio.CancelledError
        return uuid5(self.desk.run().id, self.place("uuid"))

    # -- being answered ------------------------------------------------------------------------------------------------

    def answered(self, path: str, call: Call, future: asyncio.Future[Call]) -> None:
        """A call has ended just now; while the body is still being told what had ended before, it waits its turn."""
        expected = self._expected
        if expected is None or not (self._early or self._unheard or self._next < len(expected)):
            self._tell(call, future)
            return
        expected.append(path)
        self._early[path] = future
        self._begin_to_pump()

    def _tell(self, call: Call, future: asyncio.Future[Call]) -> None:
        loop = asyncio.get_running_loop()
        self.clock = max(self.clock, call.at)
        self.stirred = loop.time()
        if not future.done():
            future.set_result(call)
            self._passing += 1
            loop.call_soon(self._passed_on)  # behind the callbacks of the future, which were scheduled just now

    def _passed_on(self) -> None:
        self._passing -= 1
        if self._looked and not self._passing:
            self._looked = False
            self.desk.wake()

    def _replay(self, path: str, call: Call, future: asyncio.Future[Call], loop: asyncio.AbstractEventLoop) -> None:
        if path in self._passed:
            self._tell(call, future)
            return
        expected = self._order()
        self._early[path] = future
        if self._next < len(expected) and expected[self._next] == path and not self._unheard:
            self._one(path)  # the common case: one after the other
        else:
            self._begin_to_pump()

    def _begin_to_pump(self) -> None:
        if not self._pumping:
            self._pumping = True
            self._pump(TURNS)

    def _pump(self, turns: int) -> None:
        """Answer in turn, and let the body act on each answer before the next one."""
        loop, expected = asyncio.get_running_loop(), self._order()
        if self.closed or not self._early:
            self._pumping = False
        elif turns:
            loop.call_soon(self._pump, turns - 1)
        elif self._next < len(expected) and expected[self._next] in self._early:
            self._one(expected[self._next])
            loop.call_soon(self._pump, TURNS)
        else:
            self._pumping = False
            if self._timer is None:
                self._timer = loop.call_later(GAP, self._late)

    def _one(self, path: str) -> None:
        self._next += 1
        self._passed.add(path)
        future = self._early.pop(path, None)
        if future is not None:
            self._unheard.add(future)
            self._tell(self.desk.run().calls[path], future)

    def _pass(self, upto: int) -> None:
        expected = self._expected or ()
        while self._next < upto:
            self._one(expected[self._next])

    def _late(self) -> None:
        """The next call in turn was not made: answer the first one that was."""
        self._timer = None
        if not self._early or self.closed:
            return
        expected = self._order()
        at = next(i for i in range(self._next, len(expected)) if expected[i] in self._early)
        self._pass(at + 1)
        if self._early:
            self._begin_to_pump()

    def _order(self) -> list[str]:
        """The calls that the body had made, in the order in which they ended; those of bodies below it are not its."""
        if self._expected is None:
            calls, prefix = self.desk.run().calls, f"{self.path}/"
            own = [p for p in calls if p.startswith(prefix) and not self._is_below(p, calls)]
            self._expected = sorted(own, key=lambda p: calls[p].seq)
        return self._expected

    def _is_below(self, path: str, known: Collection[str]) -> bool:
        """Was this call made by a step that the body had called?"""
        above = path.rpartition("/")[0]
        while len(above) > len(self.path):
            if above in known or above in self.made:
                return True
            above = above.rpartition("/")[0]
        return False

    # -- the end -------------------------------------------------------------------------------------------------------

    def missing(self) -> CallsChanged | None:
        """The error of a body that has returned without making all the calls that it had made."""
        left = [p for p in self._order() if p not in self.made and not self._is_below(p, ())]
        if not left:
            return None
        shown = ", ".join(f"{p} ({self.desk.run().calls[p].shown})" for p in left[:5])
        return CallsChanged(
            f"{self.path} has come to its end without {shown}{' and others' if len(left) > 5 else ''}, which it had "
            f"called when it ran before: between its calls a body must do the same each time"
        )

    @property
    def replays(self) -> bool:
        """True if the body has run before and come to the end of a call."""
        prefix = f"{self.path}/"
        return any(path.startswith(prefix) for path in self.desk.run().calls)

    def is_waiting(self, main: asyncio.Task[None]) -> bool:
        """True if every task of the body waits for calls."""
        return all(t in self.waiting for t in (main, *self.tasks) if not t.done())

    def rest(self, main: asyncio.Task[None]) -> float | None:
        """Seconds until the body counts as at rest; None: it does something."""
        if self._passing:
            self._looked = True
            return None  # who waits for any of several calls hears of this one in the next turn of the loop
        if self._early or not any(not f.done() for f in self.waiting.values()):
            return None
        if any(f.done() for f in self.waiting.values()):
            return None
        if self.is_waiting(main):
            return 0.0
        return max(0.0, self.stirred + self.desk.quiet - asyncio.get_running_loop().time())

    def close(self, *, keep: bool) -> None:
        """No call is made or answered any more. ``keep``: what is tried goes on, the body will ask for it again."""
        self.closed = True
        self.root.caller = None  # the two would be a circle, which is left to the garbage collector
        if self._timer is not None:
            self._timer.cancel()
        for path in [p for p, r in self.desk.open.items() if r.caller is self]:
            if keep:
                del self.desk.open[path]
            else:
                self.desk.withdraw(path)
