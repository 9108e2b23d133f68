"""Children: runs that a run starts, and how it goes on with what becomes of them.

Owns: the identity of a child, starting it (as often as one likes), attaching to a run by its key, hearing of its end,
its result, its retry, its cancel. Refuses: deciding that there is to be one (`plan/decide.py`) and recording
(`runner.py`).

A child is an ordinary run with ``parent_id``, ``root_id`` and ``parent_path``. What holds a parent and its children
together, at every point at which a process may die:

  - Its id is made from the parent's id, the path and a number (`child_id`), and inserting a run that is there changes
    nothing. So a parent that died between the insertion and its own entry (`ChildStarted`) starts no second one.
  - Its end is delivered to the parent in the transaction of its settlement (`CHILD`, `Store.settle`). Mail counts, so
    the parent cannot park over it, and wakes if it has parked. It waits for children at no cost, as for a signal.
  - The delivery is only a hint: the child's row says how it stands. Who has just loaded a run looks at the row of each
    child that it waits for, so an end that was told to a run that had failed then is found after its retry.
  - The outcome of the path (`ChildFinished`) is at most one, as every outcome is.

For other users of children (a body that calls ``ctx.spawn``: `spawning.py`, an item of a map: `item_runs.py`) than the
node `Subflow`:

  - ``event = await children.begin(path, graph, input, key=..., queue=..., number=1)`` has the run started, and answers
    with the `ChildStarted` to be appended. Any path will do; apply() asks for no token there.
  - ``end = await children.end(path, child)`` is None while it lives, and asks the store only when there may be news;
    ``end.result`` is a dict of its state or outputs, or what a step halted it with; ``end.error`` says why there is
    none.
  - ``await children.again(path, child, graph, input)`` retries what ended badly, where `Child.again` says so.
  - ``await children.cancel(run, path, by)`` stops the one at a path (of a branch that has lost a race); the end of a
    cancelled run stops all of them (`ending.cancel_children`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flowbook.errors import ChildFailed, CodeMissing, StoreError, UsageError
from flowbook.graph.flow import Graph
from flowbook.graph.results import brought
from flowbook.graph.subflow import Subflow
from flowbook.ids import version7
from flowbook.plan.commands import RunChild, as_step
from flowbook.plan.events import ChildFinished, ChildStarted
from flowbook.plan.journal import to_entry
from flowbook.plan.racing import standing
from flowbook.plan.records import Child, Run, Status, View
from flowbook.plan.sealed import Absent
from flowbook.ports import FOLLOW, Mail, NewRun, RunRow, ended_child
from flowbook.run.attempts import Bench, Outcome, shown, way_on
from flowbook.run.ending import cancel_child
from flowbook.run.inputs import stored_input
from flowbook.run.loading import load
from flowbook.run.mail import once
from flowbook.run.results import kept_result
from flowbook.run.starting import same_input
from flowbook.run.tools import Tools

LINGER = 1.0
"""Seconds after the start of a child that its parent stays in memory for it: most end soon, and parking costs more."""


def child_id(parent: UUID, path: str, number: int = 1) -> UUID:
    """The id of the child at a path: the same whoever asks, and as often. It begins with its parent's time, so that
    the b-tree and the lists have it beside its parent.
    """
    name = hashlib.blake2b(parent.bytes + f"{path}~{number}".encode(), digest_size=10).digest()
    return version7(int.from_bytes(parent.bytes[:6] + name, "big"))


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """What has become of a child."""

    row: RunRow
    result: Any = None
    """What it has come to (`results.kept_result`), where there is no ``error``."""
    error: ChildFailed | CodeMissing | None = None
    state: Mapping[str, Any] = field(default_factory=dict)
    """All of its state as the journal keeps it, where there is no ``error``."""


class Children:
    """The children of one run that this process carries."""

    def __init__(self, tools: Tools, row: RunRow, bench: Bench) -> None:
        self._tools, self._row, self._bench = tools, row, bench
        self._alive: set[UUID] = set()
        """Those that were seen alive, and of which no news has come since."""
        self._losers: set[str] = set()
        """Paths of children that were asked to stop, because another branch has won."""
        self._linger_until = 0.0

    def hear(self, mail: Mail) -> None:
        """A child has ended: its row is worth a look."""
        self._alive.discard(ended_child(mail.payload)[0])

    def alive(self, path: str, run: Run) -> bool:
        """True if there is a child at a path and nothing to do before there is news of it."""
        child = run.children.get(path)
        return child is not None and child.id in self._alive

    async def know(self, graph: Graph) -> None:
        """See to it that the code of a child is known here: its result is folded by it, and it may have to run."""
        await self._tools.define(graph)

    @property
    def linger(self) -> float:
        """Seconds that it is still worth waiting in memory for a child that has just been started."""
        return max(0.0, self._linger_until - asyncio.get_running_loop().time())

    # -- the verbs -----------------------------------------------------------------------------------------------------

    async def begin(
        self,
        path: str,
        graph: Graph,
        input: Mapping[str, Any],
        *,
        key: str | None = None,
        queue: str | None = None,
        number: int = 1,
    ) -> ChildStarted:
        """Have a child under way. Nothing changes if it is already, or has ended.

        With a ``key`` that another run of the flow has, that one is attached to. ``queue``: leave it to the workers of
        that queue. Raises `KeyConflict`, `StateError`, `Unencodable`; `StoreError` if it is not known what happened.
        """
        parent = self._row
        definition = await self._tools.define(graph)
        data, digest, searchable = await stored_input(self._tools.store, graph, input, key)
        new = NewRun(
            child_id(parent.id, path, number), parent.namespace, graph.name, definition.fingerprint, definition.version,
            data, digest, key=key, queue=queue or parent.queue, priority=parent.priority, claim=queue is None,
            parent_id=parent.id, root_id=parent.root_id or parent.id, parent_path=path,
            searchable=searchable, trigger="child",
        )  # fmt: skip
        row, fresh = await self._tools.start(new)
        if row.id != new.id:
            same_input(row, new)
            if row.id in (parent.id, parent.root_id):
                raise UsageError(f"key {key!r} at {path} is the key of run {row.id} itself: it would wait for itself")
            self._alive.add(row.id)
            if (await self._tools.store.send(row.id, FOLLOW, path, parent.id.bytes)).status.over:
                self._alive.discard(row.id)
        elif fresh:
            self._alive.add(row.id)
        self._linger_until = asyncio.get_running_loop().time() + LINGER
        # Not the row's own: a driver's ids are of a class of its own, which the codec does not know.
        return ChildStarted(path, UUID(int=row.id.int), graph.name, number)

    async def attach(self, path: str, graph: Graph, input: Mapping[str, Any], key: str) -> ChildStarted:
        """Have the run with this key under way, whoever has begun it: one that failed goes on from where it failed,
        one that was cancelled is over for good, so another one is begun under the next key. Else as `begin`.
        """
        store = self._tools.store
        while True:
            begun = await self.begin(path, graph, input, key=key)
            row = await store.run(begun.child)
            if row.status not in (Status.CANCELLED, Status.SUPERSEDED):
                break
            key += "~"
        if row.parent_id == self._row.id:
            return begun
        if row.status is Status.FAILED:
            await store.send(row.id, "retry", "its parent", b"", token=once(row.id, f"{self._row.id} {path}"))
            row = await store.send(row.id, FOLLOW, path, self._row.id.bytes)
        if not row.status.over:
            self._alive.add(row.id)
            await self._tools.adopt(row)  # its parent may be gone
        return begun

    async def again(
        self, path: str, child: Child, graph: Graph, input: Mapping[str, Any], *, queue: str | None = None
    ) -> ChildStarted:
        """Have a child that ended badly under way again: one that failed goes on from the step that failed it, one
        that was cancelled is over for good, so another one takes its place.
        """
        store = self._tools.store
        row = await store.run(child.id)
        if row.status in (Status.CANCELLED, Status.SUPERSEDED):
            return await self.begin(path, graph, input, queue=queue, number=child.number + 1)
        if row.status is Status.FAILED:
            await store.send(child.id, "retry", "its parent", b"")
        self._alive.discard(child.id)
        return ChildStarted(path, child.id, graph.name, child.number)

    async def end(self, path: str, child: Child) -> ChildEnd | None:
        """What has become of a child; None: it lives. Asks nobody while there is no news."""
        if child.id in self._alive:
            return None
        self._alive.add(child.id)  # before the look: news that comes in between are a reason for another one
        row = await self._tools.store.run(child.id)
        if row.status.over:
            self._alive.discard(child.id)
            return await self._end(path, row)
        if row.parent_id == self._row.id and row.queue == self._row.queue:
            await self._tools.adopt(row)
        return None

    async def cancel(self, run: Run, path: str, by: str) -> None:
        """Stop the child at a path, if it was started there; one that was attached to by its key goes on."""
        child = run.children.get(path)
        if child is not None and child.id == child_id(self._row.id, path, child.number):
            await cancel_child(self._tools.store, child.id, by)

    async def stop_losers(self, run: Run) -> None:
        """Stop the children of firings that no token waits at any more. Their paths stay in the record, so whoever
        carries the run on after a crash asks them again; what came of a winner is durable by now.
        """
        left = standing(run)
        for path in run.children.keys() - self._losers:
            node = path.partition("/")[0].partition("[")[0]  # the firing whose body, or whose map, has started it
            if node not in left:
                await self.cancel(run, path, "a race")
                self._losers.add(path)

    async def _end(self, path: str, row: RunRow) -> ChildEnd:
        who = f"{path}: child {row.id} of flow {row.flow!r}"
        match row.status:
            case Status.COMPLETED:
                return await self._completed(who, row)
            case Status.FAILED:
                told = f"{who} failed at {row.error or 'its start'}. A retry of this run goes on from there"
            case _:
                told = f"{who} was {row.status}. A retry of this run starts another one"
        return ChildEnd(row, error=ChildFailed(told))

    async def _completed(self, who: str, row: RunRow) -> ChildEnd:
        record, graph = self._tools.ended(row.id), self._tools.graph(row.fingerprint)
        if graph is None:
            told = f"{who} has ended, and its code (version {row.version}), which its state is folded by, is not here"
            return ChildEnd(row, error=CodeMissing(told))
        if record is None or record.status is not Status.COMPLETED:
            record = (await load(self._tools.store, graph, row)).run
        values = kept_result(graph, record)
        whole = values if isinstance(values, dict) else {}
        if lost := sorted(k for k, v in whole.items() if type(v) is Absent):
            told = f'{who} ended with {", ".join(lost)}, which store="recompute" keeps in no journal'
            return ChildEnd(row, error=ChildFailed(told))
        return ChildEnd(row, values, state=record.view.values)

    # -- the node ------------------------------------------------------------------------------------------------------

    async def mind(self, command: RunChild, run: Run) -> ChildStarted | Outcome | None:
        """What a `Subflow` node wants now; None: nothing before there is news. Writes nothing to the journal."""
        sub, view, child = self._sub(command), run.tokens[command.token].view, run.children.get(command.path)
        try:
            if child is None:
                state = await shown(self._bench, view.values)
                key = None if sub.key is None else str(sub.key(state))
                return await self.begin(command.path, sub.flow, sub.given(state), key=key, queue=sub.queue)
            if child.again:
                given = sub.given(await shown(self._bench, view.values))
                return await self.again(command.path, child, sub.flow, given, queue=sub.queue)
            end = await self.end(command.path, child)
            if end is None:
                return None
            if end.error is not None:
                raise end.error
            return await self._outcome(command, sub, view, child.id, end.result)
        except StoreError:
            raise  # not the node's fault
        except Exception as error:
            return Outcome(as_step(command), error=error)

    async def _outcome(self, command: RunChild, sub: Subflow, view: View, child: UUID, ended: Any) -> Outcome:
        schema, node = self._bench.graph.schema, self._bench.graph.nodes[command.node]
        result, key = brought(sub, schema, ended)
        event = ChildFinished(command.path, child, result, key, None, merged=sub.target is None)
        if node.router is not None:
            route = await way_on(self._bench, node, view, event.update)
            event = ChildFinished(command.path, child, result, key, route, event.merged)
        return Outcome(as_step(command), to_entry(event))

    def _sub(self, command: RunChild) -> Subflow:
        sub = self._bench.graph.nodes[command.node].step
        assert isinstance(sub, Subflow)
        return sub
