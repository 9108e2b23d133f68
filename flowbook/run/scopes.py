"""Scopes: where a durable call gets its number from.

Owns: `Scope`, the numbers of calls by name; the context variable that says which scope a task is in; the numbering of
tasks that a body makes. Refuses: calls themselves (`calls.py`).

A call is known by its path, so the same call must get the same path each time its body runs. In one task the order of
calls is the order of the program. Tasks run in an order that nobody can foresee, so each task that a body makes, by
``create_task``, a TaskGroup or ``gather``, has a scope of its own, ``order#1/pay#1``, named for its coroutine and
numbered when it is *made*. Asyncio tells of that moment only through the loop's task factory, so one is put there, in
front of whatever was there, when the first body of the loop begins; tasks of others pass it unchanged.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import weakref
from collections.abc import Callable
from typing import Any

from flowbook.graph.names import NAME


class Scope:
    """Hands out paths, numbered by name."""

    __slots__ = ("_numbers", "caller", "path")

    def __init__(self, path: str, caller: Any) -> None:
        self.path = path
        self.caller = caller
        """The `calls.Caller` whose body this is; None once it has ended."""
        self._numbers: dict[str, int] = {}

    def place(self, name: str) -> str:
        """The path of the next call of this name."""
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        return f"{self.path}/{name}#{number}"

    def inner(self, name: str) -> Scope:
        """The scope of a task that is made here."""
        return Scope(self.place(name if NAME.match(name) else "task"), self.caller)


_current: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("flowbook_scope", default=None)
_numbered: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def current(caller: Any, root: Scope) -> Scope:
    """The scope of the running task; ``root``, if it is in none of this caller's."""
    scope = _current.get()
    return scope if scope is not None and scope.caller is caller else root


def enter(scope: Scope) -> None:
    """Let the running task, and those it makes from here on, be in a scope."""
    loop = asyncio.get_running_loop()
    if loop not in _numbered:
        _numbered.add(loop)
        loop.set_task_factory(_factory(loop.get_task_factory()))
    _current.set(scope)


def _factory(before: Any) -> Callable[..., Any]:
    def plain(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> Any:
        return asyncio.Task(coroutine, loop=loop, **more)

    make: Callable[..., Any] = before or plain

    def made(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> Any:
        scope = _current.get()
        if scope is None or scope.caller is None or more.get("context") is not None:
            return make(loop, coroutine, **more)
        context = contextvars.copy_context()
        context.run(_current.set, scope.inner(getattr(coroutine, "__name__", "task")))
        task = context.run(functools.partial(make, loop, coroutine, **more))
        tasks = scope.caller.tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    return made
