"""Testing: what the tests of your own flows need, without a database.

Owns: `run_to_completion` (a flow from input to result, in one call), `memory_app` (an app whose store is in memory),
and the names that go with them: `MemoryDatabase` (share one between two apps, to test taking over), `MemoryStore`,
`FixedClock` (time that moves when it is told to) and `ScriptedModel` (an OpenAI-compatible server with a script).
Refuses: durability; everything is gone with the process.

    def test_the_report_counts_its_rows():
        assert run_to_completion(research, query="durable execution")["rows"] == 3
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from flowbook.app import App, Options
from flowbook.clock import FixedClock
from flowbook.graph.flow import Graph
from flowbook.run.portal import Portal
from flowbook.store.memory import MemoryStore
from flowbook.store.memory_database import MemoryDatabase
from flowbook.testing.model import ScriptedModel

__all__ = ["FixedClock", "MemoryDatabase", "MemoryStore", "ScriptedModel", "memory_app", "run_to_completion"]


@contextlib.asynccontextmanager
async def memory_app(
    database: MemoryDatabase | None = None,
    *,
    namespace: str = "default",
    key: bytes | None = b"testing",
    always_suspend: bool = False,
) -> AsyncIterator[App]:
    """An `App` on a store in memory, for as long as the block lasts.

    ``database``: what several apps share, None: one of its own. ``key`` signs what ``store="pickle"`` keeps.
    ``always_suspend`` folds every run anew from its journal after each step, which must change nothing: a step that
    keeps something outside its result is found out so.
    """
    options = Options(namespace, key, always_suspend)
    async with App(MemoryStore(database), options) as app:
        yield app


def run_to_completion(graph: Graph, /, **input: Any) -> Any:
    """Run a flow in memory and return the state at its end; with or without a running event loop.

    Raises the step's own exception if the run fails.
    """

    async def whole() -> Any:
        async with memory_app() as app:
            return await (await app.start(graph, input)).result()

    portal = Portal("flowbook-testing")
    portal.start()
    try:
        return portal.call(whole())
    finally:
        portal.stop()
