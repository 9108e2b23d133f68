"""Proving: a flow is built from its stored source in a clean process and killed at its step boundaries.

Owns: `prove`, its two runs, their comparison, and keeping what came of it. Refuses: killing (`victim.py`).

Two runs are made with the input: one that nobody disturbs, and one whose process gets SIGKILL as soon as the outcome
of a step is durable, again and again, each time in another process that has nothing but what is stored. So each step
has its effects twice, and once more where a kill met it half-way; there are two processes more than kills.

They are made in a *scratch namespace*, ``~prove-...``, which no user's query, worker or schedule ever sees, and which
is deleted with all that is in it when the proof is done, also where it broke off. (One whose own process was killed
leaves its namespace behind; a proof that is made a day later clears it.)
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.codec import encode
from flowbook.errors import UsageError
from flowbook.graph.flow import Graph
from flowbook.graph.portable import obstacles
from flowbook.graph.sign import sign
from flowbook.graph.source import describe
from flowbook.ids import new_id
from flowbook.observe.diffs import Diff, Side, alike, compare
from flowbook.observe.proofs import Proof, ProvenStep, proof_record
from flowbook.plan.apply import begin
from flowbook.plan.events import RunFailed
from flowbook.plan.journal import OUTCOMES, Entry, Kind, from_entry
from flowbook.plan.paths import node_of
from flowbook.plan.records import Status
from flowbook.plan.sealed import Sealed
from flowbook.plan.traces import trace
from flowbook.ports import Definition, NewRun, RunRow
from flowbook.run.inputs import stored_input, whole_input
from flowbook.victim import Nursery

if TYPE_CHECKING:
    from flowbook.app import App

Progress = Callable[[str], None]


@dataclass
class _Killed:
    """What is known of the run that is killed, so far."""

    boundaries: dict[str, float | None] = field(default_factory=dict)
    """Path -> seconds until another process had the run; None: not yet."""
    lost: Counter[str] = field(default_factory=Counter)
    """Path -> how many of its bodies were under way when their process was killed."""
    kills: int = 0


class _Broken(Exception):
    """The proof cannot go on; its text says why."""


async def prove(
    app: App, graph: Graph, input: Mapping[str, Any] | None = None, *, signals: Mapping[str, Any] | None = None,
    ignore: tuple[str, ...] = (), timeout: float = 300.0, kills: int = 25, progress: Progress | None = None,
) -> Proof:  # fmt: skip
    """Prove that a flow survives: rebuild it in clean processes, kill those at every step boundary, compare.

    Its steps really run, twice at least: give it an input that may be used up. ``signals``: name -> payload of what it
    waits for, sent before. ``ignore``: steps and state keys that may differ (a time, an answer of a model).
    ``timeout``: seconds for all of it. ``kills``: processes that are killed at most; of more boundaries every second,
    third, ... is taken. What came of it is kept, for `promote`. Raises `UsageError` for an app without a database.
    """
    url = getattr(app.store, "url", None)
    if url is None:
        raise UsageError("a proof kills processes, and this app keeps its runs in this process: connect to a database")
    told, since = progress or (lambda _: None), time.monotonic()
    definition = await app._define(graph)
    proving = _Proving(app, graph, definition, url, signals or {}, since + timeout, told)
    found = await proving.all(input or {}, ignore, kills)
    proof = replace(found, seconds=time.monotonic() - since)
    await app.store.proofs.keep(
        app.options.namespace, graph.name, definition.fingerprint, proof.passed, proof_record(proof)
    )
    return proof


class _Proving:
    """One proof."""

    def __init__(
        self, app: App, graph: Graph, definition: Definition, url: str, signals: Mapping[str, Any], deadline: float,
        told: Progress,
    ) -> None:  # fmt: skip
        self.app, self.graph, self.definition, self.url = app, graph, definition, url
        self.signals, self.deadline, self.told = signals, deadline, told
        self.scratch = f"~prove-{new_id().hex[-12:]}"
        self.killed = _Killed()

    async def all(self, input: Mapping[str, Any], ignore: tuple[str, ...], kills: int) -> Proof:
        """The whole of it."""
        if found := obstacles(describe(self.graph)):
            return self._proof((), ("it cannot be built without this process", *found))
        self.told("a clean process runs it undisturbed")
        try:
            async with Nursery() as nursery:
                calm, number = await self._calm(nursery, input)
                hurt, spared = await self._hurt(nursery, input, number, kills)
                return await self._compared(calm, hurt, ignore, spared)
        except _Broken as broken:
            return self._proof(await self._steps(None, None), tuple(broken.args))
        finally:
            await self.app.store.proofs.clear(self.scratch)

    async def _calm(self, nursery: Nursery, input: Mapping[str, Any]) -> tuple[RunRow, int]:
        """The run that nobody disturbs, and how many boundaries it has."""
        run = await self._started(input)
        await self._carry(nursery, run, 0)
        row = await self.app.store.run(run)
        entries = await self.app.store.history(run)
        if row.status is not Status.COMPLETED:
            raise _Broken(f"in a clean process the run {_ended(row, entries)}")
        return row, sum(e.kind in OUTCOMES for e in entries)

    async def _hurt(self, nursery: Nursery, input: Mapping[str, Any], number: int, kills: int) -> tuple[RunRow, int]:
        """The run that is killed; how many boundaries were spared."""
        run = await self._started(input)
        every = max(1, math.ceil(number / max(1, kills)))
        while True:
            after = every if self.killed.kills < kills else 0
            if not await self._carry(nursery, run, after):
                break
            shown = next(reversed(self.killed.boundaries))
            self.told(f"killed after {shown} ({self.killed.kills} of about {math.ceil(number / every)})")
        row = await self.app.store.run(run)
        if row.status is not Status.COMPLETED:
            raise _Broken(f"killed and resumed, the run {_ended(row, await self.app.store.history(run))}")
        return row, max(0, number - self.killed.kills)

    async def _carry(self, nursery: Nursery, run: UUID, after: int) -> bool:
        """Let one process carry the run; True if it was killed. Raises `_Broken`."""
        left = self.deadline - time.monotonic()
        key = self.app.options.key
        request = {
            "url": self.url, "namespace": self.scratch, "key": None if key is None else key.hex(), "run": str(run),
            "after": after, "seconds": left,
        }  # fmt: skip
        begun, status = time.monotonic(), ""
        waiting = [p for p, seconds in self.killed.boundaries.items() if seconds is None]
        try:
            async with asyncio.timeout(max(0.0, left)):
                async for answer in nursery.carry(request):
                    if "refused" in answer:
                        raise _Broken(f"a clean process cannot build it from its source: {answer['refused']}")
                    if "parked" in answer:
                        raise _Broken(_stands(answer["parked"], self.graph, self.signals))
                    if waiting and answer.keys() & {"resumed", "status", "boundary"}:
                        self.killed.boundaries |= dict.fromkeys(waiting, time.monotonic() - begun)
                        waiting = []
                    status = answer.get("status", status)
                    if "boundary" in answer:
                        self.killed.boundaries |= dict.fromkeys(answer["boundary"])
                        self.killed.lost.update(answer["under_way"])
                    if "ended" in answer and answer["ended"] == 9:
                        self.killed.kills += 1
                        return True
                    if answer.get("ended", 0):
                        raise _Broken(f"its process ended by signal {answer['ended']}: {nursery.printed().strip()}")
        except TimeoutError:
            status = ""
        if not status or not Status(status).over:
            raise _Broken("it was not done in time: give the proof more (`--timeout SECONDS`), or a smaller input")
        return False

    async def _started(self, input: Mapping[str, Any]) -> UUID:
        store, graph = self.app.store, self.graph
        for flow in (*graph.flows, graph):
            await self._define(flow)
        data, digest, _ = await stored_input(store, graph, input, None)
        new = NewRun(
            new_id(), self.scratch, graph.name, self.definition.fingerprint, self.definition.version, data, digest,
            claim=False,
        )  # fmt: skip
        await store.start(new)
        for name, payload in self.signals.items():
            await store.send(new.id, "signal", name, encode(payload, at=f"signal {name!r}"))
        return new.id

    async def _define(self, graph: Graph) -> None:
        """Store the definition in the scratch namespace, under this user's signature for it."""
        for flow in graph.flows:
            await self._define(flow)
        d, key = describe(graph), self.app.options.key
        signature = "" if key is None else sign(key, self.scratch, graph.name, d.fingerprint, d.spec, d.sources)
        await self.app.store.define(Definition(self.scratch, graph.name, d.fingerprint, d.spec, d.sources, signature))

    async def _compared(self, calm: RunRow, hurt: RunRow, ignore: tuple[str, ...], spared: int) -> Proof:
        diff = compare(await self._side(calm), await self._side(hurt))
        keys, differ, pickled = _told_apart(diff)
        why = [
            f"the state key `{key}` is not what it is in a run that nobody disturbs"
            for key in keys if key not in ignore
        ] or [
            f"{path} differs from a run that nobody disturbs: {', '.join(what)}"
            for path, what in differ.items() if node_of(path) not in ignore
        ]  # fmt: skip
        steps = await self._steps(hurt, frozenset(differ))
        remarks = []
        if pickled:
            remarks.append(
                f"{', '.join(pickled)}: pickled, so not compared: the same object has other bytes once it was loaded"
            )
        if why:
            why.append(
                "a step that asks for the time, for chance or a model differs by itself: say --ignore NAME, or use "
                "ctx.now() and ctx.uuid(), which are in the journal"
            )
        if repeated := [s.path for s in steps if s.begun > 1]:
            remarks.append(
                f"{', '.join(repeated)} began more than once, because the process died while it was under way: make "
                f"its effects harmless when repeated (ctx.idempotency_key), or let them commit with the journal "
                f"(@step(transactional=True))"
            )
        if spared:
            remarks.append(f"at {spared} of its step boundaries the process was not killed (`--kills N`)")
        return self._proof(steps, tuple(why), spared, tuple(remarks))

    async def _side(self, row: RunRow) -> Side:
        entries = await self.app.store.history(row.id)
        beginning = begin(self.graph, row.id, await whole_input(self.app.store, row))
        return Side(row.id, row.flow, row.version, row.status, trace(self.graph, beginning, entries))

    async def _steps(self, hurt: RunRow | None, differ: frozenset[str] | None) -> tuple[ProvenStep, ...]:
        if hurt is None:
            paths = list(self.killed.boundaries)
        else:
            paths = [e.path for e in await self.app.store.history(hurt.id) if e.kind in OUTCOMES]
        return tuple(
            ProvenStep(
                p, p in self.killed.boundaries, self.killed.boundaries.get(p),
                None if differ is None else p not in differ, 1 + self.killed.lost[p],
            )
            for p in paths
        )  # fmt: skip

    def _proof(
        self, steps: tuple[ProvenStep, ...], why: tuple[str, ...], spared: int = 0, remarks: tuple[str, ...] = ()
    ) -> Proof:
        d = self.definition
        return Proof(
            d.flow, d.fingerprint, d.version, d.spec, not why, why, steps, self.killed.kills, spared, 0.0, remarks
        )


def _told_apart(diff: Diff) -> tuple[list[str], dict[str, tuple[str, ...]], list[str]]:
    """(state keys, path -> what of it) that differ between two runs, and where only the bytes of pickles do."""
    keys: list[str] = []
    pickled: list[str] = []
    differ: dict[str, tuple[str, ...]] = {}
    for key in diff.state or ():
        real = key.in_a is not key.in_b or not alike(_bare(key.a), _bare(key.b))
        (keys if real else pickled).append(key.key)
    for step in diff.steps:
        if step.a is None or step.b is None:
            differ[step.path] = step.what
            continue
        same = {
            "result": alike(_bare(step.a.result), _bare(step.b.result)),
            "input": alike(_bare(dict(step.a.inputs or {})), _bare(dict(step.b.inputs or {}))),
        }
        what = tuple(word for word in step.what if not same.get(word, False))
        if what and what != ("input",):  # what was given differs with what gave it
            differ[step.path] = what
        elif "result" in step.what and not what:
            pickled.append(step.path)
    return keys, differ, list(dict.fromkeys(pickled))


def _bare(value: Any) -> Any:
    """A value with the names of classes in the place of pickles."""
    if isinstance(value, Sealed):
        return f"a pickled {value.type}"
    if type(value) is dict:
        return {key: _bare(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_bare, value))
    return value


def _ended(row: RunRow, entries: list[Entry] | Any) -> str:
    """How a run has ended, with its error."""
    for entry in reversed(entries):
        if entry.kind is Kind.FAILED:
            event = from_entry(entry)
            assert isinstance(event, RunFailed)
            return f"failed at {event.path}: {event.failure.type}: {event.failure.message}"
    return f"is {row.status}{f' at {row.current}' if row.current else ''}"


def _stands(current: str, graph: Graph, signals: Mapping[str, Any]) -> str:
    wanted = sorted(set(graph.signals) - set(signals))
    names = f": send it what it waits for, as in `--signal {wanted[0]}`" if wanted else ""
    return f"it waits at {current}, and nobody comes{names}"
