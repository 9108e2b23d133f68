"""Spawned: what a body holds of a child that it has started.

Owns: `Spawned`, making the call (`spawned`) and waiting for its outcome (`joined`). Refuses: what is done for it
(`spawning.py`), and what holds a run and its children together (`children.py`).

The call is made by ``spawn`` and its outcome is the child's end, so a join is no call: it waits for the one that is
open. Until then the body may do what it likes. Nobody has to join: a body that returns waits until its children have
begun, and no longer. Who stops waiting for a child (a time limit around a join) has not stopped the child.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from typing import Any

from flowbook.errors import UsageError
from flowbook.graph.flow import Graph
from flowbook.plan.records import Call
from flowbook.ports import RunRow
from flowbook.run.asking import Answer, child
from flowbook.run.calls import Caller


class Spawned:
    """A child of a body. Made by ``ctx.spawn``; ``await`` it, or ``ctx.join`` it, for its result, as often as you like.

    In the body that has spawned it only: it is no value that a step could be given.
    """

    __slots__ = ("_caller", "_future", "path")

    def __init__(self, path: str, caller: Caller, future: asyncio.Future[Call]) -> None:
        self.path = path
        """``order#1/invoice#1``: the first child that runs ``invoice``."""
        self._caller, self._future = caller, future

    def __await__(self) -> Generator[Any, Any, Any]:
        return joined(self._caller, self).__await__()

    def __repr__(self) -> str:
        return f"<child {self.path}>"


def spawned(caller: Caller, flow: Any, given: Mapping[str, Any]) -> Spawned:
    """``ctx.spawn(invoice, order=order)``. Raises `StateError` for an input that does not fit, `Unencodable`."""
    caller.check()
    if not isinstance(flow, Graph):
        raise UsageError(
            f"ctx.spawn({flow!r}): give it a flow, then its input by name: ctx.spawn(invoice, order=order)"
        )
    wanted = child(caller, flow, given)
    return Spawned(wanted.asked.path, caller, caller.ask(wanted))


def attached(
    caller: Caller,
    flow: Graph,
    given: Mapping[str, Any],
    key: str,
    kept: Callable[[RunRow, Any, Mapping[str, Any]], Any],
) -> Spawned:
    """``ctx.attach(flow, input, key=...)``. Raises as `spawned` does."""
    caller.check()
    wanted = child(caller, flow, given, None, key, kept)
    return Spawned(wanted.asked.path, caller, caller.ask(wanted))


def joined(caller: Caller, given: Any) -> Answer:
    """``await ctx.join(child)``. Raises `ChildFailed` if it did not end well."""
    caller.check()
    if not isinstance(given, Spawned):
        raise UsageError(f"ctx.join({given!r}): give it what ctx.spawn has returned")
    if given._caller is not caller:
        raise UsageError(f"{given!r} is joined by {caller.path}: a child is joined in the body that has spawned it")
    return _joined(caller, given.path, given._future)


async def _joined(caller: Caller, path: str, future: asyncio.Future[Call]) -> Any:
    if not future.done():
        await caller.held(future, lambda: None)
    caller.take(future)
    return caller.result(path, future.result())
