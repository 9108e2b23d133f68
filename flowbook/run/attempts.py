"""Attempts: one try at one step, from its parameters to its outcome.

Owns: filling parameters, running the body where it belongs, its time limit, and what its return value means.
Refuses: retrying and recording (`runner.py`). An attempt never touches the run; it ends in an `Outcome`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Self

from flowbook.errors import BindingError, StepFailed, StepTimeout
from flowbook.graph.binding import StateView, bind, call, left_open, slots
from flowbook.graph.body import Body
from flowbook.graph.flow import Graph, Node
from flowbook.graph.halt import Halt
from flowbook.graph.resource import found_for
from flowbook.graph.results import interpret
from flowbook.graph.state import merge
from flowbook.graph.step import Step
from flowbook.graph.wiring import Sources, wired
from flowbook.plan.commands import StartStep
from flowbook.plan.events import ItemFinished, StepFinished, StepHandedOut
from flowbook.plan.journal import Entry, read_back, to_entry
from flowbook.plan.records import View
from flowbook.ports import Executor, RunRow, Transaction
from flowbook.quick import quick
from flowbook.run.context import Context
from flowbook.run.loops import explained
from flowbook.run.resources import Resources
from flowbook.run.sealing import carried
from flowbook.run.sharing import Sharing
from flowbook.run.tools import Tools
from flowbook.run.values import ATOMS, Copies, Recompute, has_placeholders, opened

GRACE = 5.0
"""Seconds that a thread gets after its time limit before the attempt is given up."""


@quick
@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: with an entry to be written, or with an error."""

    command: StartStep
    entry: Entry | None = None
    event: StepFinished | ItemFinished | None = None
    """What the entry reads as, where that is known without decoding it."""
    error: BaseException | None = None
    cancelled: bool = False
    """True: it was stopped because the run is being stopped, which is no failure."""
    within: Transaction | None = None
    """The transaction that the entry is to be committed with; None: none."""
    decided: Entry | None = None
    """The row that says who has decided it. It is written with the entry, or a process that is killed between the two
    would have the next one say it again. None: nobody has said who they are."""


@quick
@dataclass(frozen=True, slots=True)
class Bench:
    """What every attempt of one run is made with."""

    graph: Graph
    threads: Executor
    processes: Executor
    key: bytes | None
    """Signs and verifies pickles; None: there are none."""
    kept: dict[tuple[str, str | None], Any]
    """(path, key) -> a live value that is not in the journal."""
    context: Callable[[StartStep, View], Context]
    recompute: Recompute
    resources: Resources
    transaction: Callable[[], Awaitable[Transaction]]
    """Begins one."""
    given: Callable[[], Mapping[str, Any]]
    """What the run was started with."""
    sharing: Sharing
    """What its steps ask of all workers together."""

    around: Callable[[StartStep], AbstractContextManager[Any]] | None = None
    """What a body runs within (a span); None: nothing."""

    @classmethod
    def of(
        cls,
        tools: Tools,
        graph: Graph,
        row: RunRow,
        kept: dict[tuple[str, str | None], Any],
        context: Callable[[StartStep, View], Context],
        recompute: Recompute,
        given: Callable[[], Mapping[str, Any]],
    ) -> Self:
        """The bench of one run, from what the process has."""
        return cls(
            graph, tools.threads, tools.processes, tools.key, kept, context, recompute, tools.resources,
            tools.store.transaction, given, Sharing(tools.store, tools.gates, graph.name, row),
            functools.partial(tools.around[0], row) if tools.around else None,
        )  # fmt: skip


async def attempt(bench: Bench, command: StartStep, view: View) -> Outcome:
    """Try a step once. Raises nothing but `CancelledError`: every error of the step is in the outcome."""
    node = bench.graph.nodes[command.node]
    step = bench.graph.step_at(command.node)
    within: Transaction | None = None
    try:
        if step.guard is not None and not step.guard(await shown(bench, view.values)):
            route = None if node.router is None else await way_on(bench, node, view, {})
            skipped = StepFinished(command.path, command.attempt, None, {}, route, skipped=True)
            return Outcome(command, to_entry(skipped))
        if step.policy.transactional:
            within = await bench.transaction()
        began = time.perf_counter()
        returned = await body(bench, step, command, view, within=within)
        if type(returned) is StepHandedOut:
            return Outcome(command, to_entry(returned), within=within)
        spent = time.perf_counter() - began
        if type(returned) is Halt:
            return Outcome(command, to_entry(_halted(bench, step, command, returned, spent)), within=within)
        result, update = interpret(step, bench.graph.schema, returned)
        result, update = carried(step, command.path, result, update, bench.key, bench.kept)
        route = None if node.router is None else await way_on(bench, node, view, update)
        event = StepFinished(command.path, command.attempt, result, update, route, spent)
        return Outcome(command, to_entry(event), read_back(event), within=within)
    except asyncio.CancelledError as stopped:
        await rolled_back(within, stopped)
        raise
    except BaseException as error:
        error = await rolled_back(within, error)
        return Outcome(command, error=explained(error, step.name))


async def rolled_back(within: Transaction | None, error: BaseException) -> BaseException:
    """Undo a transaction that an attempt had; its error, or what that only means."""
    if within is None:
        return error
    await within.rollback()
    return within.explained(error)


def _halted(bench: Bench, step: Step, command: StartStep, end: Halt, spent: float) -> StepFinished:
    """The outcome of a step that ends the run. What only this process could make again is no result for others."""
    if not end.given:
        return StepFinished(command.path, command.attempt, None, {}, None, spent, halts="state")
    if step.policy.store == "recompute":
        raise BindingError(f'step {step.name!r} has store="recompute" and halts with a result, which nobody could read')
    result, _ = carried(step, command.path, end.value, {}, bench.key, bench.kept)
    return StepFinished(command.path, command.attempt, result, {}, None, spent, halts="result")


async def body(
    bench: Bench,
    step: Step,
    command: StartStep,
    view: View,
    given: Mapping[str, Any] = MappingProxyType({}),
    within: Transaction | None = None,
) -> Any:
    """Run a step's function with copies of what it asks for and of what is ``given``; returns what it returned, or that
    it was handed out. ``within``: what a transactional step has its session from.
    """
    ctx = bench.context(command, view) if slots(step).context else None
    if within is not None and ctx is not None:
        ctx = replace(ctx, database=within.session)
    if step.wiring is not None:
        sources = Sources.of(bench.graph.nodes, view.results, view.values, bench.given())
        given = {**wired(step.wiring, sources, command.node), **given}
    open_ = left_open(step, view.values, view.results, given)
    resources = await resources_for(bench, step, open_) if open_ else {}
    bound, shared = bind(step, view.values, view.results, ctx, resources, given), slots(step).uncopied
    for name, value in bound.items():
        if type(value) in ATOMS or (ctx is not None and value is ctx) or name in resources:
            continue
        if name not in shared:
            bound[name] = await opened(value, bench.key, bench.recompute)
    if type(step) is Body:
        bound |= step.accept({name: value for name, value in bound.items() if name != step.context})
    with nullcontext() if bench.around is None else bench.around(command):
        returned = await performed(bench, step, bound, resources)
    return returned if ctx is None or ctx.handing.token is None else _handed_out(ctx, step)


def _handed_out(ctx: Context, step: Step) -> StepHandedOut:
    assert ctx.handing.token is not None
    limit = step.policy.timeout
    due = None if limit is None else ctx.now() + timedelta(seconds=limit)
    return StepHandedOut(ctx.path, ctx.attempt, ctx.handing.token.proof, due)


async def performed(bench: Bench, step: Step, bound: dict[str, Any], resources: Mapping[str, Any]) -> Any:
    """Run a step's function where it belongs, within its time limit; ``resources``: those among what it gets."""
    if step.policy.shared:
        return await bench.sharing.performed(step, bound, resources, lambda: _performed(bench, step, bound, resources))
    return await _performed(bench, step, bound, resources)


async def _performed(bench: Bench, step: Step, bound: dict[str, Any], resources: Mapping[str, Any]) -> Any:
    limit = step.policy.timeout
    if step.policy.executor == "process":
        work: Awaitable[Any] = bench.processes.run(functools.partial(call, step, _sendable(step, bound, resources)))
        return await _limited(work, step, limit)
    if step.is_async:
        return await (call(step, bound) if limit is None else _limited(call(step, bound), step, limit))
    return await _threaded(bench.threads.run(functools.partial(_called, step, bound)), step, limit)


@dataclass(frozen=True, slots=True)
class _Raised:
    """What a body raised in its thread: a future takes no StopIteration, and is ended for good by a CancelledError."""

    error: BaseException


def _called(step: Step, bound: dict[str, Any]) -> Any:
    try:
        return call(step, bound)
    except BaseException as error:  # a step's sys.exit() is its failure, not the end of this process
        return _Raised(error)


async def _limited(work: Awaitable[Any], step: Step, limit: float | None) -> Any:
    """Wait for something that stops when it is cancelled."""
    if limit is None:
        return await work
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            return await work
    except TimeoutError as error:
        if not scope.expired():
            raise  # the step's own TimeoutError is its failure, not our limit
        raise StepTimeout(f"step {step.name!r} ran past its time limit of {limit:g} s") from error


async def _threaded(work: Awaitable[Any], step: Step, limit: float | None) -> Any:
    """Wait for a thread, which cannot be stopped: a second attempt must not run beside the first."""
    result = await (work if limit is None else _patiently(asyncio.ensure_future(work), step, limit))
    if type(result) is _Raised:
        raise result.error
    if inspect.isawaitable(result):  # a plain function that returns a coroutine, e.g. functools.partial of one
        return await _limited(result, step, limit)
    return result


async def _patiently(thread: asyncio.Future[Any], step: Step, limit: float) -> Any:
    done, _ = await asyncio.wait([thread], timeout=limit)
    if done:
        return thread.result()
    late = StepTimeout(f"step {step.name!r} ran past its time limit of {limit:g} s")
    done, _ = await asyncio.wait([thread], timeout=GRACE)
    if done:
        thread.exception()  # looked at: it came too late to matter
        raise late
    thread.add_done_callback(lambda t: t.cancelled() or t.exception())
    raise StepFailed(
        f"step {step.name!r} ran past its time limit of {limit:g} s and its thread could not be stopped within "
        f'{GRACE:g} s, so it is not tried again beside itself: make it async, or use @step(executor="process"), '
        f"which can be stopped"
    ) from late


async def shown(bench: Bench, values: Mapping[str, Any]) -> StateView:
    """A state as routers and conditions may look at it."""
    if has_placeholders(values):
        return StateView({k: await opened(v, bench.key, bench.recompute) for k, v in values.items()})
    return StateView(Copies(values))


async def way_on(bench: Bench, node: Node, view: View, update: Mapping[str, Any]) -> int:
    """Which case the branch behind a node takes: its router sees the state after the step's update."""
    assert node.router is not None
    values = merge(bench.graph.schema, view.values, update)
    if has_placeholders(values):
        seen = await shown(bench, values)
    else:
        seen = StateView(values if getattr(node.router, "uncopied", False) else Copies(values))
    label = node.router(seen)
    route = node.route(label)
    if route is None:
        raise BindingError(
            f"the branch behind {node.step.name!r} was told to take {label!r}, which is none of its cases: "
            f"{', '.join(map(repr, node.labels))}"
        )
    return route


async def resources_for(bench: Bench, step: Step, names: Sequence[str]) -> dict[str, Any]:
    """The resources among what a step asks for; making one counts against the step's time limit."""
    found = {n: r for n in names if (r := bench.graph.resources.get(n) or found_for(step.fn, n)) is not None}
    return {
        name: await _limited(
            bench.resources.get(wanted, bench.graph.resources, bench.threads), step, step.policy.timeout
        )
        for name, wanted in found.items()
    }


def _sendable(step: Step, bound: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    for name in given:
        raise BindingError(
            f'step {step.name!r} has executor="process" and asks for the resource {name!r}, which stays in this process'
        )
    if slots(step).context:
        raise BindingError(f'step {step.name!r} has executor="process" and asks for ctx, which stays in this process')
    return bound
