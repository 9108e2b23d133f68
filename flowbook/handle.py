"""Handles: a run as an object with verbs.

Owns: `Run`, which remembers an app and a run's id. Refuses: doing anything itself; each verb is one call into the app.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook import streaming
from flowbook.ids import plain
from flowbook.observe.transcripts import Transcript, messages
from flowbook.plan.records import Status
from flowbook.run.saying import NOTHING

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.changing import OnChange
    from flowbook.observe.diffs import Diff
    from flowbook.observe.events import RunEvent
    from flowbook.observe.views import RunView
    from flowbook.plan.outputs import Output
    from flowbook.ports import RunRow
    from flowbook.run.deciding import Answered
    from flowbook.travel import Moment


class Run:
    """A run of an `App`; ``await run`` is its result."""

    def __init__(self, app: App, run_id: UUID) -> None:
        self.app = app
        self.id = plain(run_id)

    def __await__(self) -> Generator[Any, None, Any]:
        return self.result().__await__()

    async def result(self, timeout: float | None = None) -> Any:
        """The state at the end (`App.result`)."""
        return await self.app.result(self.id, timeout)

    async def status(self) -> Status:
        """What the run is doing now."""
        return (await self.app.store.run(self.id)).status

    async def state(self) -> Any:
        """The state as it is now."""
        return await self.app.state(self.id)

    async def view(self) -> RunView:
        """Everything that can be looked at."""
        return await self.app.view(self.id)

    async def metadata(self) -> Mapping[str, Any]:
        """What the start was given as ``metadata=``."""
        return (await self.app.store.run(self.id)).metadata

    async def signal(self, name: str, /, **payload: Any) -> Status:
        """Send it a signal, now or before it waits for one (`App.signal`); the answer is its status then."""
        return (await self.app.signal(self.id, name, payload)).status

    async def approve(
        self, path: str | None = None, /, *, edit: Any = NOTHING, by: str | None = None, **payload: Any
    ) -> Answered:
        """Say yes to what it waits for (`App.approve`): ``await run.approve("gate#1", amount=3)``."""
        return await self.app.approve(self.id, path, edit=edit, by=by, payload=payload)

    async def reject(
        self, path: str | None = None, why: str = "", /, *, edit: Any = NOTHING, by: str | None = None, **payload: Any
    ) -> Answered:
        """Say no to it, and why (`App.reject`): ``await run.reject("gate#1", "too dear")``."""
        return await self.app.reject(self.id, path, why, edit=edit, by=by, payload=payload)

    async def answer(
        self, path: str | None, signal: str | None = None, /, *, edit: Any = NOTHING, by: str | None = None,
        **payload: Any,
    ) -> Answered:  # fmt: skip
        """Decide it with another of its signals (`App.answer`): ``await run.answer("gate#1", "escalate")``."""
        return await self.app.answer(self.id, path, signal, edit=edit, by=by, payload=payload)

    async def cancel(self, *, by: str = "user") -> Status:
        """Ask it to stop; the answer is its status then: over already, or about to end."""
        return (await self.app.cancel(self.id, by=by)).status

    async def outputs(self, path: str | None = None) -> Sequence[Output]:
        """What its steps printed, logged and displayed, or one of them (`App.outputs`)."""
        return await self.app.outputs(self.id, path)

    async def messages(self) -> Transcript:
        """What was said in the run of an agent; ``.df()`` is a table. Raises `UsageError` for any other run."""
        return messages(await self.view())

    async def children(self) -> Sequence[RunRow]:
        """The runs that it has started, in the order of their start."""
        return await self.app.children(self.id)

    async def resume(self, *, on_change: OnChange = "own") -> Run:
        """Carry it on here if nobody carries it; ``on_change``: `App.resume`."""
        return await self.app.resume(self.id, on_change=on_change)

    async def retry(self, *, by: str = "user", recursion_limit: int | None = None, **edits: Any) -> Run:
        """Carry it on from the step that failed it (`App.retry`), with an edited state where keys are given:
        ``await run.retry(budget={"usd": 1.0})``.
        """
        return await self.app.retry(self.id, by=by, recursion_limit=recursion_limit, edits=edits)

    async def fork(self, /, at: str, **edits: Any) -> Run:
        """Begin another run at one of its steps, with an edited state: ``await run.fork(at="judge#1", docs=[])``."""
        return await self.app.fork(self.id, at=at, edits=edits)

    async def ask(self, question: Any, /, **edits: Any) -> Run:
        """Ask an agent further: a run that goes on with the conversation of this one (`App.ask`)."""
        return await self.app.ask(self.id, question, **edits)

    async def replay(
        self, *, at: str | None = None, model: Any = None, instructions: str | None = None, live: bool = False
    ) -> Run:
        """Run an agent's conversation again with something else (`App.replay`). Raises `ReplayMissed`."""
        return await self.app.replay(self.id, at=at, model=model, instructions=instructions, live=live)

    async def at(self, where: str | int) -> Moment:
        """A run as it was at a step, after its outcome, or at a row of its journal. Raises `PointUnknown`."""
        from flowbook import travel  # 15 ms: only who travels pays for it

        return await travel.look(self.app, self.id, where)

    def stream(self, after: str | None = None) -> AsyncIterator[RunEvent]:
        """What has happened, and what happens until its end, as it becomes known: ``async for event in run.stream():``.

        Events are the records of ``fb.events``: what the journal says, and the text that steps stream. From the
        beginning, also after the fact and of a run that another process carries. ``after``: a position
        (``event.position``), to go on behind it. A failed run may be retried: read on behind its last event.
        """
        return streaming.stream(self.app, self.id, after)

    async def lineage(self) -> tuple[UUID, ...]:
        """Its id and those of the runs that it was forked from, up to the root."""
        from flowbook import travel

        return await travel.lineage(self.app, self.id)

    async def diff(self, other: Run) -> Diff:
        """How another run differs from it: first divergence, steps, state at the end."""
        from flowbook import travel

        return await travel.diff(self.app, self.id, other.id)

    def __repr__(self) -> str:
        return f"<run {self.id}>"


def diff(a: Any, b: Any) -> Any:
    """How run ``b`` differs from run ``a``: a `Diff`, or a coroutine of one where the runs are those of an `App`."""
    return a.diff(b)
