"""Eager: a coroutine runs at once, and gets a task only if it has to wait.

Owns: `Stages`, which begins attempts. Refuses: knowing what they are.

Most of what a short step costs beside its own work is its task: making it, a turn of the loop to begin it, another one
to hear of its end (measured: 8 of 100 us per step). A coroutine that never waits needs none of this. Python 3.12 has
eager tasks; this does the same on 3.11, by what asyncio documents for tasks of other makes (``_enter_task``).

A *stage* is a task that does nothing. A coroutine is begun under its name, so that ``asyncio.current_task()`` (and with
it ``asyncio.timeout``) is from the first line on what it will be to the last, and in a copy of the caller's context.
If it ends without waiting, the stage is free for the next one. If it waits, the stage goes on with it, and is used up.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any


class Stages:
    """The idle stages of one loop."""

    def __init__(self) -> None:
        self._idle: list[_Stage] = []

    def begin(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None] | None:
        """Run a coroutine up to where it waits: the task that goes on with it, or None if it has come to its end.

        Raises what it raises until then.
        """
        stage = self._idle.pop() if self._idle else _Stage()
        try:
            waits = stage.play(coroutine)
        except BaseException:
            self._idle.append(stage)
            raise
        if not waits:
            self._idle.append(stage)
            return None
        task, stage.task = stage.task, None  # or the two would be a circle, which is left to the garbage collector
        assert task is not None  # an idle stage has one
        task.set_name(name)
        return task

    async def close(self) -> None:
        """End the idle ones."""
        idle, self._idle = [stage.task for stage in self._idle if stage.task is not None], []
        for task in idle:
            task.cancel()
        if idle:
            await asyncio.wait(idle)


class _Stage(Coroutine[Any, Any, None]):
    """What such a task runs: nothing, then what is left of another coroutine."""

    __slots__ = ("_context", "_cue", "_first", "_loop", "_played", "task")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._played: Coroutine[Any, Any, None] | None = None
        self._context: contextvars.Context
        self._first: Any = None
        """What the coroutine waits for that was begun here, until the task waits for it."""
        self._cue: asyncio.Future[None] | None = None
        self.task: asyncio.Task[None] | None = asyncio.Task(self, loop=self._loop, name="flowbook-stage")

    def play(self, coroutine: Coroutine[Any, Any, None]) -> bool:
        """Begin a coroutine; True: it waits for something, and the task goes on with it."""
        caller = asyncio.current_task()
        context = contextvars.copy_context()
        _swap(self._loop, caller, self.task)
        try:
            first = context.run(coroutine.send, None)
        except StopIteration:
            return False
        finally:
            _swap(self._loop, self.task, caller)
        # Others may wait for the same future before the task has its turn.
        self._played, self._context, self._first = coroutine, context, _marked(first, awaited=False)
        if self._cue is not None and not self._cue.done():
            self._cue.set_result(None)
        return True

    def send(self, value: Any) -> Any:
        """The task's next step."""
        if self._played is None:
            self._cue = self._loop.create_future()
            return next(self._cue.__await__())
        first, self._first = self._first, None
        return self._context.run(self._played.send, value) if first is None else _marked(first, awaited=True)

    def throw(self, *error: Any) -> Any:
        """The task was cancelled, by whoever closes idle stages or by somebody who wants the coroutine to stop."""
        if self._played is None:
            raise error[0]
        first, self._first = self._first, None
        if asyncio.isfuture(first) and first.cancel():
            return _marked(first, awaited=True)  # as of any task: it hears of it by what it waits for
        return self._context.run(self._played.throw, *error)

    def close(self) -> None:
        """The loop is gone."""
        if self._played is not None:
            self._played.close()

    def __await__(self) -> Any:
        raise TypeError("a stage is run by its task")


def _marked(yielded: Any, *, awaited: bool) -> Any:
    """What a coroutine has yielded; a future with or without the mark by which its task knows that it was awaited."""
    if asyncio.isfuture(yielded):
        yielded._asyncio_future_blocking = awaited
    return yielded


def _swap(loop: asyncio.AbstractEventLoop, before: Any, after: Any) -> None:
    if before is not None:
        asyncio._leave_task(loop, before)  # documented for tasks of other makes
    if after is not None:
        asyncio._enter_task(loop, after)
