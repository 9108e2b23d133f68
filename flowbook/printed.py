"""What steps printed and displayed, for whoever asks after the fact.

Owns: the outputs of a run, of a fork those of the steps that it took over as well. Refuses: keeping them (`capture/`,
the store) and drawing them (`show/outputs.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from flowbook.plan.outputs import Output

if TYPE_CHECKING:
    from flowbook.app import App


async def outputs(app: App, run_id: UUID, path: str | None = None) -> Sequence[Output]:
    """What a run's steps printed, logged and displayed, or one step, in the order of time; a verb of `App`.

    What this process has not stored yet is stored first. Raises `RunNotFound`.
    """
    await app.engine.outputs.flush()
    row = app._ours(await app.store.run(run_id))
    own = await app.store.outputs(run_id, path)
    if row.forked_from is None:
        return own
    mine = {output.path for output in own}
    taken = {step.path for step in (await app.view(run_id)).steps} - mine
    before = await outputs(app, row.forked_from, path)
    return [*(output for output in before if output.path in taken), *own]
