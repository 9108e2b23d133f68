"""Hooks: functions that are told what happens to the runs of this process, and plugins that bring some.

Owns: `Hooks`, its queues, and loading plugins. Refuses: events of other processes (`streaming.py` reads any run), and
letting a hook be felt by a run: each has a queue and a thread, or task, of its own. One that raises, hangs or is too
slow is told of once, in the log; what it misses is counted there, and no run waits for it.

Who has no hook pays for none: an append asks whether there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload
from uuid import UUID

from flowbook.errors import SignatureRefused, UsageError
from flowbook.observe.events import RunEvent, of_entry
from flowbook.plan.journal import Entry
from flowbook.ports import Ack
from flowbook.run.values import shown
from flowbook.streaming import position

if TYPE_CHECKING:
    from flowbook.app import App

log = logging.getLogger("flowbook")

E = TypeVar("E", bound=RunEvent)
Hook = Callable[[Any], Any]

MOST_WAITING: Final = 10_000
"""Events that a hook may be behind; what comes then is dropped for it."""
LONGEST: Final = 60.0
"""Seconds that a coroutine function may take for one event."""
GRACE: Final = 1.0
"""Seconds that hooks get to deal with what they were told of when the app closes."""
PLUGINS: Final = "flowbook.plugins"
"""The group of entry points; each is a function of the app."""

_Told = tuple[UUID, Entry, Ack]


class Hooks:
    """The hooks of one app. Lives on its loop."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._hooks: list[_Threaded | _Awaited] = []

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def add(self, kind: type[RunEvent], fn: Hook) -> Callable[[], None]:
        """Call ``fn`` with each event of a kind from now on; the answer stops it. Raises `UsageError`."""
        given: Any = kind  # whatever was typed
        if not (isinstance(given, type) and issubclass(given, RunEvent)):
            raise UsageError(
                f"on({kind!r}, ...): the first argument is an event of fb.events, as fb.events.StepFinished"
            )
        if not callable(fn):
            raise UsageError(f"on({kind.__name__}, {fn!r}): that is no function of an event")
        awaited = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004
        hook = (_Awaited if awaited else _Threaded)(kind, fn, self._event)
        self._hooks.append(hook)

        def stop() -> None:
            if hook in self._hooks:
                self._hooks.remove(hook)
                hook.end()

        return stop

    def heard(self, run_id: UUID, entries: Sequence[Entry], ack: Ack) -> None:
        """These rows have become durable, written by this process."""
        first = ack.seq - len(entries) + 1
        for number, e in enumerate(entries):
            told = (run_id, Entry(e.kind, e.path, e.attempt, e.payload, first + number, ack.at), ack)
            for hook in self._hooks:
                hook.offer(told)

    async def close(self) -> None:
        """Let the hooks finish what they were told of, for a moment, and end."""
        hooks, self._hooks = self._hooks, []
        for hook in hooks:
            hook.end()
        for hook in hooks:
            await hook.ended()

    def _event(self, told: _Told) -> RunEvent | None:
        run_id, entry, _ = told
        store, key = self._app.store, self._app.options.key

        def seen(value: Any) -> Any:
            try:
                return shown(value, store.outcomes_now, key)
            except SignatureRefused:
                return value

        return of_entry(entry, run_id, position(entry.seq, 0), seen)


class _Reporting:
    """What goes wrong with a hook, told once for each way."""

    def __init__(self, kind: type[RunEvent], fn: Hook, event: Callable[[_Told], RunEvent | None]) -> None:
        self.kind, self.fn, self.event = kind, fn, event
        self.name = f"{getattr(fn, '__module__', '?')}.{getattr(fn, '__qualname__', fn)}"
        self.missed = 0
        self._said: set[str] = set()

    def wanted(self, told: _Told) -> RunEvent | None:
        """The event, if it is of the hook's kind."""
        event = self.event(told)
        return event if isinstance(event, self.kind) else None

    def failed(self, error: BaseException) -> None:
        """It raised, or took too long."""
        self._say("failed", f"raised {type(error).__name__}: {error}", error)

    def full(self) -> None:
        """It is too far behind."""
        self.missed += 1
        self._say("full", f"is {MOST_WAITING:,} events behind, so it misses some", None)

    def _say(self, way: str, what: str, error: BaseException | None) -> None:
        if way not in self._said:
            self._said.add(way)
            log.warning(
                "flowbook: hook %s for %s %s. Runs go on; this is said once",
                self.name, self.kind.__name__, what, exc_info=error,
            )  # fmt: skip

    def over(self) -> None:
        """The last word on it."""
        if self.missed:
            log.warning("flowbook: hook %s has missed %s events", self.name, f"{self.missed:,}")


class _Threaded(_Reporting):
    """A plain function, called in a thread of its own; a daemon, so that one that hangs holds up no exit."""

    def __init__(self, kind: type[RunEvent], fn: Hook, event: Callable[[_Told], RunEvent | None]) -> None:
        super().__init__(kind, fn, event)
        self._queue: queue.Queue[_Told | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._work, name=f"flowbook-hook-{self.name}", daemon=True)
        self._thread.start()

    def offer(self, told: _Told) -> None:
        try:
            self._queue.put_nowait(told)
        except queue.Full:
            self.full()

    def _work(self) -> None:
        while (told := self._queue.get()) is not None:
            try:
                event = self.wanted(told)
                if event is not None:
                    self.fn(event)
            except BaseException as error:  # a hook's sys.exit() ends nothing
                self.failed(error)

    def end(self) -> None:
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    async def ended(self) -> None:
        await asyncio.to_thread(self._thread.join, GRACE)
        self.over()


class _Awaited(_Reporting):
    """A coroutine function, awaited on the app's loop, one event after the other."""

    def __init__(self, kind: type[RunEvent], fn: Hook, event: Callable[[_Told], RunEvent | None]) -> None:
        super().__init__(kind, fn, event)
        self._queue: asyncio.Queue[_Told | None] = asyncio.Queue(MOST_WAITING)
        self._task = asyncio.create_task(self._work(), name=f"flowbook-hook-{self.name}")

    def offer(self, told: _Told) -> None:
        try:
            self._queue.put_nowait(told)
        except asyncio.QueueFull:
            self.full()

    async def _work(self) -> None:
        while (told := await self._queue.get()) is not None:
            try:
                event = self.wanted(told)
                if event is not None:
                    async with asyncio.timeout(LONGEST):
                        await self.fn(event)
            except Exception as error:
                self.failed(error)

    def end(self) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._queue.put_nowait(None)

    async def ended(self) -> None:
        _, late = await asyncio.wait([self._task], timeout=GRACE)
        for task in late:
            task.cancel()
        self.over()


@overload
def on(app: App, kind: type[E]) -> Callable[[Callable[[E], Any]], Callable[[E], Any]]: ...
@overload
def on(app: App, kind: type[E], fn: Callable[[E], Any]) -> Callable[[], None]: ...
def on(app: App, kind: type[E], fn: Callable[[E], Any] | None = None) -> Any:
    """Call a function with each event of a kind, of the runs that this process carries: ``app.on(StepFinished, fn)``.

    ``kind``: of `flowbook.events`; ``RunEvent`` for all. A plain function is called in a thread of its own, a coroutine
    function is awaited on the app's loop; either gets one event after the other. What it raises is told once in the log
    and hurts no run; a hook that is 10,000 events behind misses some. The answer stops it; without ``fn`` it is a
    decorator.
    """
    if fn is not None:
        return app.hooks.add(kind, fn)

    def hook(given: Callable[[E], Any]) -> Callable[[E], Any]:
        app.hooks.add(kind, given)
        return given

    return hook


def load_plugins(app: App) -> list[str]:
    """Call each plugin that is installed with the app; the names of those that are at work.

    A plugin is an entry point of the group ``flowbook.plugins``: a function of the app, which registers hooks. One that
    cannot be loaded, or raises, is told of in the log.
    """
    return [plugin.name for plugin in entry_points(group=PLUGINS) if _begun(plugin, app)]


def _begun(plugin: EntryPoint, app: App) -> bool:
    try:
        plugin.load()(app)
    except Exception:
        log.warning("flowbook: plugin %r is left out", plugin.name, exc_info=True)
        return False
    return True
