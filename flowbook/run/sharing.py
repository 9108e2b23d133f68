"""Sharing: what a step asks of all workers together before its body runs, and what it leaves to other runs.

Owns: results that other runs use (``cache=``), rates and places (``rate_limit=``, ``concurrency=``), by the values of
``key=``. Refuses: counting (`ports.FleetStore` does, for everybody) and the body (`attempts.py`).

Who waits for a place holds his run in memory. In one process no more attempts ask for places than there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from hashlib import blake2b
from typing import Any, Final

from flowbook.clock import DICE
from flowbook.codec import decode, encode
from flowbook.errors import Undecodable, Unencodable
from flowbook.graph.flow import graph
from flowbook.graph.halt import Halt
from flowbook.graph.step import Policy, Step, Value
from flowbook.ports import RunRow, Store
from flowbook.run.context import Context
from flowbook.run.gates import Gates

FIRST_LOOK: Final = 0.05
LAST_LOOK: Final = 1.0
"""Seconds between two looks for a place: the first, and the longest."""
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a result that is kept for others, at most."""

Perform = Callable[[], Awaitable[Any]]


class Sharing:
    """What the steps of one run share with others."""

    __slots__ = ("_epoch", "_flow", "_gates", "_namespace", "_run", "_store")

    def __init__(self, store: Store, gates: Gates, flow: str, row: RunRow) -> None:
        self._store, self._gates, self._flow = store, gates, flow
        self._namespace, self._run, self._epoch = row.namespace, row.id, row.epoch

    async def performed(
        self, step: Step, bound: Mapping[str, Any], resources: Mapping[str, Any], perform: Perform
    ) -> Any:
        """What a step returns: from another run, or from its body once it is let through."""
        policy = step.policy
        values = {n: v for n, v in bound.items() if n not in resources and not isinstance(v, Context)}
        key = _key(step, values) if policy.cache is not None else None
        if key is not None and (kept := await self._store.fleet.cached(self._namespace, key)) is not None:
            try:
                return _opened(kept)
            except Undecodable:
                pass  # a class is another one, or gone: it is computed again
        name = self._name(step, values)
        if policy.concurrency is None:
            returned = await self._at_its_time(policy, name, perform)
        else:
            async with self._gates.of(name, policy.concurrency):
                place = await self._placed(name, policy.concurrency)
                try:
                    returned = await self._at_its_time(policy, name, perform)
                finally:
                    await asyncio.shield(self._store.fleet.free(self._namespace, name, place, self._run, self._epoch))
        if key is not None and policy.cache is not None and (payload := _kept(returned)) is not None:
            await self._store.fleet.cache(self._namespace, key, payload, self._run, policy.cache)
        return returned

    async def _placed(self, name: str, limit: int) -> int:
        pause = FIRST_LOOK
        while True:
            place = await self._store.fleet.acquire(self._namespace, name, limit, self._run, self._epoch)
            if place is not None:
                return place
            await asyncio.sleep(pause * DICE.uniform(0.5, 1.0))
            pause = min(2 * pause, LAST_LOOK)

    async def _at_its_time(self, policy: Policy, name: str, perform: Perform) -> Any:
        if policy.rate_limit is not None:
            wait = await self._store.fleet.reserve(self._namespace, name, *policy.rate_limit)
            if wait > 0:
                await asyncio.sleep(wait)
        return await perform()

    def _name(self, step: Step, values: Mapping[str, Any]) -> str:
        """What a limit is counted under: the step of this flow, and its key."""
        name = f"{self._flow}/{step.name}"
        if not step.policy.key:
            return name
        return f"{name}/{_digest(_chosen(step, values)).hex()}"


def _key(step: Step, values: Mapping[str, Any]) -> bytes | None:
    """What a result is kept under: the code of the step and its arguments. None: they cannot be compared."""
    code = step.__dict__.get("_code")
    if code is None:
        bare = step.like(policy=Policy(), guard=None, retry_if=None, compensation=None)
        code = step.__dict__["_code"] = graph("cached", bare).fingerprint
    try:
        return _digest([code, _chosen(step, values)])
    except (Unencodable, RecursionError):
        return None


def _chosen(step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
    names = step.policy.key or sorted(values)
    return {name: values.get(name) for name in names}


def _digest(value: Any) -> bytes:
    return blake2b(encode(value), digest_size=24).digest()


def _kept(returned: Any) -> bytes | None:
    """A result as bytes; None: it is nothing that others could use."""
    if isinstance(returned, Halt):
        return None
    plain = not isinstance(returned, Value)
    try:
        payload = encode([plain, returned if plain else returned.value])
    except (Unencodable, RecursionError):
        return None  # it is refused where it is recorded, with the place in it
    return payload if len(payload) <= LARGEST else None


def _opened(payload: bytes) -> Any:
    found: Any = decode(payload)
    plain, value = found
    return value if plain else Value(value)
