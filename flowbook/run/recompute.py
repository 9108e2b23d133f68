"""Computing again: the value behind a placeholder of ``store="recompute"``.

Owns: running a finished step once more with what it saw then. Refuses: recording anything; the journal has its outcome.
"""

from __future__ import annotations

from typing import Any

from flowbook.errors import StepFailed
from flowbook.graph.results import interpret
from flowbook.plan.commands import StartStep
from flowbook.plan.events import StepHandedOut
from flowbook.plan.mapped import Mapped
from flowbook.plan.sealed import Absent
from flowbook.ports import RunRow, Store
from flowbook.run.attempts import Bench, body
from flowbook.run.items import Items
from flowbook.run.loading import view_before


async def recomputed(store: Store, bench: Bench, row: RunRow, absent: Absent | Mapped) -> Any:
    """The value: from memory (``bench.kept``), or by running its step once more; of a map the sequence that reads."""
    if isinstance(absent, Mapped):
        return Items(absent, store.outcomes_now, bench.key)
    if (absent.path, absent.key) not in bench.kept:
        view = await view_before(store, bench.graph, row, absent.path)
        node = absent.path.partition("#")[0]
        command = StartStep(absent.path, "", node, 1)
        step = bench.graph.step_at(node)
        returned = await body(bench, step, command, view)
        if isinstance(returned, StepHandedOut):
            raise StepFailed(f"the value of {absent.path} came from outside, so it cannot be computed again")
        result, update = interpret(step, bench.graph.schema, returned)
        values = update.items() if update is result else [(None, result)]
        bench.kept.update(((absent.path, key), value) for key, value in values)
    return bench.kept[absent.path, absent.key]
