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
from uuid import UUID

from flowbook import defining
from flowbook.errors import CodeMissing, NotDefined, NotPortable, SignatureRefused, StoreUnavailable
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
        if learn or app.steps:
            group.create_task(_learn(app, queues, learn=learn), name="flowbook-learn")


async def named(app: App, flow: str) -> Graph:
    """The code of a flow by its name: as this namespace defines it (`defining.py`), else as it is registered here, else
    the newest that is stored, rebuilt.

    Raises `CodeMissing`, `NotDefined` for a name that was taken back, `SpecRefused` for a definition that names what is
    not registered here.
    """
    graph = await defining.graph_named(app, flow) or app.engine.newest(flow)
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
    return await app.start(flow, input, **{"carry": False, **options})


async def _learn(app: App, queues: Sequence[str], *, learn: bool) -> None:
    """Register what due runs want, where it can be built from what is defined, or from its stored source."""
    left: dict[str, str] = {}
    """Fingerprint -> why it is left alone."""
    while True:
        try:
            strangers = await app.store.fleet.strangers(app.options.namespace, queues, app.engine.known | left.keys())
            for flow, fingerprint in strangers:
                why = await _learnt(app, flow, fingerprint, learn=learn)
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


async def check_named(app: App, flow: str, run_id: UUID) -> None:
    """A run that was started by name is cancelled if the name was taken back meanwhile. Raises `NotDefined`."""
    try:
        await defining.still(app, flow)
    except NotDefined:
        await app.cancel(run_id, by="undefine")
        raise


async def _learnt(app: App, flow: str, fingerprint: str, *, learn: bool) -> str:
    """Register a flow from its spec and the templates that are here, or from its stored source; why not, if it cannot
    be.
    """
    graph = await defining.graph_for(app, flow, fingerprint)
    if graph is not None:
        await app.register(graph)
        log.info("flowbook: flow %r (%s) was made as its namespace defines it", flow, fingerprint[:8])
        return ""
    if not learn:
        return "no module here declares it, and no definition of this namespace with the templates that are here is it"
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
