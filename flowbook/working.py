"""Working: what a worker does beside carrying runs.

Owns: `work`, the loops of a worker put together; learning code from stored source. Refuses: carrying runs
(`run/engine.py`), firing schedules (`run/ticking.py`), judging whether stored source may run (`graph/rebuild.py`:
signed with this user's key, of this namespace, or not at all).

A worker claims only what it knows. What it cannot know it leaves alone, for good and without a word to the run: who
knows it may come later. It says so once, in its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from flowbook import defining
from flowbook.clock import DICE
from flowbook.errors import NotDefined, NotPortable, RunNotFound, SignatureRefused, StoreUnavailable
from flowbook.naming import rebuilt
from flowbook.run.ticking import Ticker
from flowbook.scheduling import declare, run_of

if TYPE_CHECKING:
    from flowbook.app import App

log = logging.getLogger("flowbook")

LOOK = 1.0
"""Seconds between two looks for code that is wanted, jittered; ten times as long while the worker has no room."""


async def work(app: App, queues: Sequence[str], concurrency: int, *, learn: bool) -> None:
    """All that a worker does, until it is cancelled."""
    async with asyncio.TaskGroup() as group:
        for graph in app.engine.graphs:
            await declare(app, graph)
        group.create_task(app.engine.work(queues, concurrency), name="flowbook-work")
        make, cancel = functools.partial(run_of, app), functools.partial(_cancel, app)
        ticker = Ticker(app.store, app.options.namespace, make, cancel)
        group.create_task(ticker.run(), name="flowbook-schedules")
        if learn or app.steps:
            group.create_task(_learn(app, queues, learn=learn), name="flowbook-learn")


async def _cancel(app: App, run_id: UUID, by: str) -> None:
    with contextlib.suppress(RunNotFound):
        await app.cancel(run_id, by=by, mark=by)


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
        await asyncio.sleep(LOOK * DICE.uniform(0.5, 1.0) * (1 if app.engine.room > 0 else 10))


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
