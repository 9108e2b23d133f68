"""Working: what a worker does beside carrying runs.

Owns: `work`, the loops of a worker put together; learning code from stored source; finding a flow by its name.
Refuses: carrying runs (`run/engine.py`), judging whether stored source may run (`graph/rebuild.py`: signed with this
user's key, of this namespace, or not at all).

A worker claims only what it knows. What it cannot know it leaves alone, for good and without a word to the run: who
knows it may come later. It says so once, in its log.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flowbook.errors import CodeMissing, NotPortable, SignatureRefused, StoreUnavailable
from flowbook.graph.flow import Graph
from flowbook.graph.rebuild import rebuild
from flowbook.ports import Definition

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.handle import Run

log = logging.getLogger("flowbook")

LOOK = 1.0
"""Seconds between two looks for code that is wanted, jittered; ten times as long while the worker has no room."""


async def work(app: App, queues: Sequence[str], concurrency: int, *, learn: bool) -> None:
    """All that a worker does, until it is cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(app.engine.work(queues, concurrency), name="flowbook-work")
        if learn:
            group.create_task(_learn(app, queues), name="flowbook-learn")


async def named(app: App, flow: str) -> Graph:
    """The code of a flow by its name: as it is registered here, else the newest that is stored, rebuilt.

    Raises `CodeMissing`.
    """
    graph = app.engine.newest(flow)
    if graph is not None:
        return graph
    stored = await app.store.definitions(app.options.namespace, flow)
    if not stored:
        raise CodeMissing(
            f"no flow {flow!r} is stored in namespace {app.options.namespace!r}: `flowbook flows` lists those that "
            f"are; `--module my.flows` brings one that was never run"
        )
    try:
        return rebuilt(app, stored[0])
    except (NotPortable, SignatureRefused) as error:
        raise CodeMissing(
            f"flow {flow!r} (version {stored[0].version}) is not registered here, and cannot be built from its stored "
            f"source: {error.message}. Name the module that declares it: `--module my.flows`"
        ) from error


def rebuilt(app: App, definition: Definition) -> Graph:
    """The graph of a stored definition, to be looked at or started. Raises `NotPortable`, `SignatureRefused`."""
    if definition.fingerprint not in app.rebuilt:
        app.rebuilt[definition.fingerprint] = rebuild(definition, key=app.options.key)
    return app.rebuilt[definition.fingerprint]


async def start_named(app: App, flow: str, input: dict[str, Any], **options: Any) -> Run:
    """Start a run of a flow by its name, for whichever worker claims it (``carry=True``: here). See `App.start`."""
    graph = await named(app, flow)
    return await app.start(graph, input, **{"carry": False, **options})


async def _learn(app: App, queues: Sequence[str]) -> None:
    """Register what due runs want, where it can be built from its stored source."""
    left: dict[str, str] = {}
    """Fingerprint -> why it is left alone."""
    while True:
        try:
            strangers = await app.store.fleet.strangers(app.options.namespace, queues, app.engine.known | left.keys())
            for flow, fingerprint in strangers:
                why = await _learnt(app, flow, fingerprint)
                if why:
                    left[fingerprint] = why
                    log.warning("flowbook: runs of flow %r (%s) are left alone: %s", flow, fingerprint[:8], why)
            if strangers:
                await app.engine.advertise()
        except StoreUnavailable:
            return
        except Exception:
            log.exception("flowbook: looking for code that is wanted failed; it is tried again")
        await asyncio.sleep(LOOK * random.uniform(0.5, 1.0) * (1 if app.engine.room > 0 else 10))


async def _learnt(app: App, flow: str, fingerprint: str) -> str:
    """Register a flow from its stored source; why not, if it cannot be."""
    stored = await app.store.definition(app.options.namespace, flow, fingerprint)
    if stored is None:
        return "its definition is not stored"
    try:
        await app.register(rebuilt(app, stored))
    except (NotPortable, SignatureRefused) as error:
        return " ".join(error.message.split())
    except Exception as error:
        return f"its source does not load here: {type(error).__name__}: {error}"
    log.info("flowbook: flow %r (%s) was built from its stored source", flow, fingerprint[:8])
    return ""
