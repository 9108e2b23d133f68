"""Resources on their way: made when first asked for, closed with the app.

Owns: one living thing per resource and app, who waits for it while it is made, and closing all in the opposite order.
Refuses: finding resources (`graph/resource.py`) and deciding which parameter gets one (`graph/binding.py`).

Each lives in a task of its own, which enters it and leaves it: an async generator with a task group or a cancel scope
inside must be left by the task that entered it.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowbook.errors import BindingError, DeclarationError
from flowbook.graph.resource import Resource, found_for
from flowbook.ports import Executor

CLOSING = 5.0
"""Seconds that a resource gets to close before it is cancelled."""

_OVER = object()
log = logging.getLogger("flowbook")


@dataclass(eq=False, slots=True)
class _Held:
    """One resource that is being made, or lives."""

    ready: asyncio.Future[Any]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Resources:
    """What the steps of one app have been given. Lives on one event loop."""

    def __init__(self) -> None:
        self._held: dict[Resource, _Held] = {}
        self._closed = False

    async def get(
        self, wanted: Resource, known: Mapping[str, Resource], threads: Executor, within: tuple[Resource, ...] = ()
    ) -> Any:
        """What a resource has made; makes it first if nobody has asked before.

        ``known``: name -> resource of the flow. If it raises, that is raised at everybody who waits for it, and it is
        made anew for the next who asks.
        """
        if wanted in within:
            raise DeclarationError(f"resource {wanted.name!r} needs itself, by way of {within[-1].name!r}")
        held = self._held.get(wanted)
        if held is None:
            if self._closed:
                raise DeclarationError(f"resource {wanted.name!r} was asked for when the app was closed already")
            held = self._held[wanted] = _Held(asyncio.get_running_loop().create_future())
            held.task = asyncio.create_task(
                self._keep(wanted, held, known, threads, (*within, wanted)), name=f"flowbook-resource-{wanted.name}"
            )
        return await asyncio.shield(held.ready)  # who stops waiting must not stop those who go on

    async def close(self) -> None:
        """Close all of them, the last made first."""
        self._closed = True
        for held in reversed(list(self._held.values())):
            held.over.set()
            if held.task is None:
                continue
            if not held.ready.done():
                held.task.cancel()
            done, late = await asyncio.wait([held.task], timeout=CLOSING)
            if late:
                held.task.cancel()
                await asyncio.wait(late, timeout=CLOSING)
            del done
        self._held.clear()

    async def _keep(
        self,
        wanted: Resource,
        held: _Held,
        known: Mapping[str, Resource],
        threads: Executor,
        within: tuple[Resource, ...],
    ) -> None:
        try:
            given = await self._given(wanted, known, threads, within)
            # What it needs was made before it, so it is closed after it, whoever asked first.
            self._held[wanted] = self._held.pop(wanted)
            await _live(wanted, held, functools.partial(wanted.fn, **given), threads)
        except BaseException as error:
            if held.ready.done():
                if not isinstance(error, asyncio.CancelledError):
                    log.exception("flowbook: resource %s could not be closed", wanted.name)
                return
            self._held.pop(wanted, None)
            if isinstance(error, asyncio.CancelledError):
                held.ready.cancel()
                raise
            held.ready.set_exception(error)
            held.ready.exception()  # looked at: nobody may be waiting any more

    async def _given(
        self, wanted: Resource, known: Mapping[str, Resource], threads: Executor, within: tuple[Resource, ...]
    ) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name, has_default in wanted.parameters:
            inner = known.get(name) or found_for(wanted.fn, name)
            if inner is not None:
                given[name] = await self.get(inner, known, threads, within)
            elif not has_default:
                raise BindingError(
                    f"resource {wanted.name!r} wants {name!r}, which is no resource: only resources fill it"
                )
        return given


async def _live(wanted: Resource, held: _Held, make: functools.partial[Any], threads: Executor) -> None:
    """Make it, hand it out, wait for the end, close it."""
    match wanted.kind:
        case "coroutine":
            held.ready.set_result(await make())
        case "function":
            held.ready.set_result(await threads.run(make))
        case "async generator":
            entered = make()
            held.ready.set_result(_yielded(wanted, await anext(entered, _OVER)))
            await held.over.wait()
            _ended(wanted, await anext(entered, _OVER))
        case "generator":
            begun = make()
            held.ready.set_result(_yielded(wanted, await threads.run(functools.partial(next, begun, _OVER))))
            await held.over.wait()
            _ended(wanted, await threads.run(functools.partial(next, begun, _OVER)))


def _yielded(wanted: Resource, value: Any) -> Any:
    if value is _OVER:
        raise DeclarationError(f"resource {wanted.name!r} ended without a yield: it has nothing to give")
    return value


def _ended(wanted: Resource, value: Any) -> None:
    if value is not _OVER:
        raise DeclarationError(f"resource {wanted.name!r} yields more than once: what it yields first is the resource")
