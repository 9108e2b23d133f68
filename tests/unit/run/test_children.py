"""Children: a run that starts another one goes on with what becomes of it, whatever dies in between."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict
from uuid import UUID

import pytest

from flowbook.errors import ChildFailed, DeclarationError, KeyConflict, RunCancelled, StateError
from flowbook.graph.expression import branch
from flowbook.graph.flow import Graph, graph
from flowbook.graph.pause import wait
from flowbook.graph.race import race
from flowbook.graph.step import Step, step
from flowbook.graph.subflow import subflow
from flowbook.handle import Run
from flowbook.observe.views import State
from flowbook.plan.events import ChildFinished, ChildStarted
from flowbook.plan.records import Child, Status
from flowbook.ports import RunRow
from flowbook.run import children as children_module
from flowbook.run.children import ChildEnd, Children, child_id
from flowbook.run.context import Context
from flowbook.store.memory import MemoryStore
from tests.unit.run.apps import Apps, scenario, step_of, until


@step
def load() -> dict[str, Any]:
    return {"rows": [1, 2, 3], "source": "web"}


@step
def total(rows: list[int]) -> dict[str, int]:
    return {"total": sum(rows)}


SUM = graph("sum", total)


def fails_until(ready: asyncio.Event, ran: list[str]) -> Step:
    """A step that raises until it is told not to."""

    @step
    async def shaky() -> str:
        ran.append("shaky")
        if not ready.is_set():
            raise ValueError("boom")
        return "fine"

    return shaky


@pytest.fixture(autouse=True)
def _no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parent parks at once, so that every scenario is one of parking and waking."""
    monkeypatch.setattr(children_module, "LINGER", 0.0)


async def only_child(apps: Apps, run: Run) -> RunRow:
    """The one child of a run, once it is there."""
    await until(lambda: any(k.row.parent_id == run.id for k in apps.database.runs.values()))
    (row,) = await run.children()
    return row


async def parked(apps: Apps, run: Run) -> None:
    """Wait until nobody owns a run."""
    await until(lambda: apps.database.runs[run.id].row.status is Status.WAITING)


# --------------------------------------------------------------------------------------------------- input and result


@scenario
async def test_a_sub_flow_runs_as_a_run_of_its_own_and_its_result_goes_under_its_name(apps: Apps) -> None:
    """It has a row, a journal and a parent; nobody owns the parent meanwhile; the lists have only the parent."""
    app = await apps.open()
    run = await app.start(graph("f", load >> subflow(SUM)))
    state = await run.result()
    assert state["sum"] == {"rows": [1, 2, 3], "source": "web", "total": 6}
    child = await only_child(apps, run)
    assert (child.flow, child.status, child.parent_path, child.root_id) == ("sum", Status.COMPLETED, "sum#1", run.id)
    assert (child.namespace, child.queue, child.priority) == ("default", "default", 0)
    assert apps.kinds(run) == ["load#1 finished", "sum#1 child", "sum#1 finished", "completed"]
    assert apps.kinds(Run(app, child.id)) == ["total#1 finished", "completed"]
    assert [r.id for r in await app.runs()] == [run.id]
    shown = step_of(await run.view(), "sum#1")
    assert (shown.state, shown.child) == (State.FINISHED, child.id)


class Rows(TypedDict, total=False):
    """What the child declares."""

    rows: list[int]
    total: int


@scenario
async def test_a_sub_flow_gets_what_it_declares_or_what_it_is_given(apps: Apps) -> None:
    """By its schema; by a function of the state; by a mapping of names; by names."""
    app = await apps.open()
    declared = graph("declared", total, state=Rows)
    whole = load >> [
        subflow(declared),
        subflow(SUM, input=lambda s: {"rows": s.rows[:2]}, name="two"),
        subflow(SUM, input={"rows": "rows"}).as_("named"),
        subflow(SUM, input=["rows"], name="same", into="last"),
    ]
    state = await (await app.start(graph("f", whole))).result()
    assert state["declared"] == {"rows": [1, 2, 3], "total": 6}
    assert state["two"] == {"rows": [1, 2], "total": 3}
    assert state["named"] == state["last"] == {"rows": [1, 2, 3], "total": 6}
    assert "same" not in state


class Log(TypedDict, total=False):
    """What the parent declares."""

    rows: list[int]
    source: str
    total: int
    seen: int


@scenario
async def test_into_none_merges_the_result_and_a_schema_keeps_out_what_it_does_not_declare(apps: Apps) -> None:
    """An undeclared node's result is still there for a step that asks for it by the node's name."""
    app = await apps.open()

    @step
    def see(sum: dict[str, int]) -> dict[str, int]:
        return {"seen": sum["total"]}

    merged = graph("f", load >> subflow(SUM, into=None), state=Log)
    assert (await (await app.start(merged)).result())["total"] == 6
    kept_out = graph("g", load >> subflow(SUM) >> see, state=Log)
    assert await (await app.start(kept_out)).result() == {"rows": [1, 2, 3], "source": "web", "seen": 6}


@scenario
async def test_a_router_behind_a_sub_flow_sees_its_result(apps: Apps) -> None:
    """As behind a step."""
    app = await apps.open()

    @step
    def big() -> str:
        return "big"

    @step
    def small() -> str:
        return "small"

    flow = graph("f", load >> subflow(SUM) >> branch(lambda s: s.sum["total"] > 5, {True: big, False: small}))
    assert (await (await app.start(flow)).result())["big"] == "big"


@scenario
async def test_children_have_children_and_run_in_branches(apps: Apps) -> None:
    """The root of them all is in each row."""
    app = await apps.open()
    inner = graph("inner", subflow(SUM))
    run = await app.start(graph("outer", load >> [subflow(inner), subflow(SUM)]))
    state = await run.result()
    assert state["inner"]["sum"]["total"] == state["sum"]["total"] == 6
    roots = {k.row.root_id for k in apps.database.runs.values() if k.row.parent_id is not None}
    assert roots == {run.id}
    assert len(apps.database.runs) == 4


# ------------------------------------------------------------------------------------------------------------ failures


@scenario
async def test_a_failed_child_fails_its_parent_and_the_retry_goes_on_from_its_failed_step(apps: Apps) -> None:
    """The error names child, step and message; the retry of the parent starts no second child."""
    app, ready, ran = await apps.open(), asyncio.Event(), list[str]()

    @step
    def before() -> None:
        ran.append("before")

    run = await app.start(graph("f", load >> subflow(graph("risky", before >> fails_until(ready, ran)))))
    with pytest.raises(ChildFailed, match=r"risky#1: child .* of flow 'risky' failed at shaky#1: ValueError: boom"):
        await run.result()
    child = await only_child(apps, run)
    assert str(child.id) in str((await run.view()).failure)
    ready.set()
    await run.retry()
    assert (await run.result())["risky"]["shaky"] == "fine"
    assert (await only_child(apps, run)).id == child.id
    assert ran == ["before", "shaky", "shaky"]


@scenario
async def test_a_child_that_was_retried_by_itself_is_taken_as_it_is(apps: Apps) -> None:
    """Its failed parent hears nothing of the second end, and finds it when it is retried."""
    app, ready, ran = await apps.open(), asyncio.Event(), list[str]()
    run = await app.start(graph("f", load >> subflow(graph("risky", fails_until(ready, ran)))))
    with pytest.raises(ChildFailed):
        await run.result()
    ready.set()
    child = Run(app, (await only_child(apps, run)).id)
    await child.retry()
    await child.result()
    await run.retry()
    assert (await run.result())["risky"]["shaky"] == "fine"
    assert ran == ["shaky", "shaky"]


@scenario
async def test_a_cancelled_child_fails_its_parent_and_the_retry_starts_another(apps: Apps) -> None:
    """What was cancelled is over for good."""
    app = await apps.open()
    run = await app.start(graph("f", load >> subflow(graph("gate", wait("go")))))
    child = await only_child(apps, run)
    await Run(app, child.id).cancel()
    with pytest.raises(ChildFailed, match="was cancelled"):
        await run.result()
    await run.retry()
    await until(lambda: sum(k.row.parent_id == run.id for k in apps.database.runs.values()) == 2)
    first, second = await run.children()
    assert (first.id, second.id) == (child_id(run.id, "gate#1"), child_id(run.id, "gate#1", 2))
    await Run(app, second.id).signal("go")
    assert "gate" in await run.result()


@scenario
async def test_an_input_that_the_child_refuses_fails_the_node(apps: Apps) -> None:
    """And a function of the user's that raises does as well; nothing was started."""
    app = await apps.open()
    for sub, error in (
        (subflow(SUM, input={"rows": "nothing"}), KeyError),
        (subflow(SUM, input=lambda s: s.rows), DeclarationError),
        (subflow(SUM, key=lambda s: str(1 / 0)), ZeroDivisionError),
        (subflow(graph("sum", total, state=Rows), input=["source"]), StateError),
    ):
        run = await app.start(graph("f", load >> sub))
        with pytest.raises(error):
            await run.result()
        assert (await run.view()).failed_path == "sum#1"
        assert await run.children() == []


# ---------------------------------------------------------------------------------------------------------------- keys


@scenario
async def test_a_key_from_the_state_attaches_to_the_run_that_has_it(apps: Apps) -> None:
    """One that goes on is waited for, one that is over gives its result: the body runs once for all three."""
    app, ran, go = await apps.open(), list[int](), asyncio.Event()

    @step
    async def charge(order: int) -> str:
        ran.append(order)
        await go.wait()
        return f"receipt {order}"

    order = graph("order", charge)
    flow = graph("f", subflow(order, input=["order"], key=lambda s: f"order-{s.order}"))
    first, second = await app.start(flow, order=7), await app.start(flow, order=7)
    await parked(apps, first)
    await parked(apps, second)
    go.set()
    third = await app.start(flow, order=7)
    for run in (first, second, third):
        assert (await run.result())["order"] == {"order": 7, "charge": "receipt 7"}
    assert ran == [7]
    owners = {run.id: len(await run.children()) for run in (first, second, third)}
    assert sorted(owners.values()) == [0, 0, 1]
    (row,) = [k.row for k in apps.database.runs.values() if k.row.key is not None]
    assert row.key == "order-7"


@scenario
async def test_a_key_that_belongs_to_another_input_fails_the_node(apps: Apps) -> None:
    """As it does for `start`: never another run's result in its place."""
    app = await apps.open()
    flow = graph("f", subflow(SUM, input=["rows"], key=lambda s: "k"))
    assert (await (await app.start(flow, rows=[1])).result())["sum"]["total"] == 1
    run = await app.start(flow, rows=[2])
    with pytest.raises(KeyConflict, match="started with another input"):
        await run.result()


@scenario
async def test_a_key_of_a_run_that_somebody_started_himself_is_followed(apps: Apps) -> None:
    """It has no parent, and tells of its end all the same; cancelling who follows it does not cancel it."""
    app, other = await apps.open(), await apps.open()
    gate = graph("gate", wait("go"))
    flow = graph("f", subflow(gate, key=lambda s: "k"))
    own = await other.start(gate, key="k")
    run, given_up = await app.start(flow), await app.start(flow)
    await parked(apps, run)
    await parked(apps, given_up)
    await given_up.cancel()
    with pytest.raises(RunCancelled):
        await given_up.result()
    await own.signal("go", n=1)
    assert (await run.result())["gate"] == {"go": {"n": 1}}
    assert await run.children() == []


# ------------------------------------------------------------------------------------------------------------- crashes


@scenario
async def test_a_parent_killed_after_its_child_finished_goes_on(apps: Apps) -> None:
    """The end is in its mailbox; the next owner takes it, and runs the child's steps no second time."""
    app, other, ran = await apps.open(), await apps.open(), list[str]()

    @step
    def work() -> str:
        ran.append("work")
        return "done"

    sub = graph("sub", wait("go") >> work)
    flow = graph("f", load >> subflow(sub) >> total)
    run = await app.start(flow)
    child = await only_child(apps, run)
    await parked(apps, run)
    await apps.crash(app)
    worker = await apps.open()
    await worker.register(sub)
    await worker.signal(child.id, "go")
    await worker.resume(child.id)
    await worker.result(child.id)
    assert apps.database.runs[run.id].row.status is not Status.COMPLETED
    await other.register(flow)
    assert (await (await other.resume(run.id)).result())["total"] == 6
    assert ran == ["work"]
    assert sum(isinstance(e, ChildFinished) for e in apps.events(run.id)) == 1


@scenario
async def test_a_parent_killed_between_its_child_and_its_own_entry_starts_no_second_child(apps: Apps) -> None:
    """The id of a child is made from its place, so starting it again finds it, alive or over."""

    class Deadly(MemoryStore):
        """Dies when the parent says in its journal that the child is there."""

        async def append(self, run_id: UUID, epoch: int, entries: Any, within: Any = None) -> Any:
            if any(e.kind == "child" for e in entries) and not died:
                died.append(run_id)
                await asyncio.sleep(60)
            return await super().append(run_id, epoch, entries, within)

    died: list[UUID] = []
    app, other = await apps.open(store=Deadly), await apps.open()
    flow = graph("f", load >> subflow(SUM))
    run = await app.start(flow)
    await until(lambda: bool(died))
    await apps.crash(app)
    await other.register(flow)
    assert (await (await other.resume(run.id)).result())["sum"]["total"] == 6
    assert len(await other.children(run.id)) == 1
    assert sum(isinstance(e, ChildStarted) for e in apps.events(run.id)) == 1


@scenario
async def test_a_resumed_parent_carries_its_orphaned_children_on(apps: Apps) -> None:
    """They died with the kernel that had started both; resuming the parent is enough, two floors down as well."""
    app, other, go = await apps.open(), await apps.open(), asyncio.Event()

    @step
    async def slow() -> str:
        await go.wait()
        return "done"

    flow = graph("outer", subflow(graph("middle", subflow(graph("inner", slow)))))
    run = await app.start(flow)
    await until(lambda: any("slow#1" in app.engine.attempts(i) for i in list(apps.database.runs)))
    await apps.crash(app)
    go.set()
    await other.register(flow)
    state = await (await other.resume(run.id)).result()
    assert state["middle"]["inner"] == {"slow": "done"}
    assert len(apps.database.runs) == 3


@scenario
async def test_a_child_is_left_to_the_workers_of_its_queue(apps: Apps) -> None:
    """The kernel of the parent does not take it; a worker in another process does, and the parent goes on here."""
    app, worker = await apps.open(), await apps.open()
    flow = graph("f", load >> subflow(SUM, queue="gpu"))
    run = await app.start(flow)
    child = await only_child(apps, run)
    await asyncio.sleep(0.1)
    assert (child.queue, apps.database.runs[child.id].row.status) == ("gpu", Status.PENDING)
    await worker.register(SUM)
    working = asyncio.create_task(worker.work(["gpu"]))
    assert (await run.result())["sum"]["total"] == 6
    working.cancel()


# ------------------------------------------------------------------------------------------------------------- cancels


@scenario
async def test_cancelling_a_run_cancels_its_living_children(apps: Apps) -> None:
    """All floors down, parked or under way; those that are over stay as they are."""
    app, never = await apps.open(), asyncio.Event()

    @step
    async def forever() -> None:
        await never.wait()

    inner = graph("inner", load >> [subflow(graph("gate", wait("go"))), subflow(graph("busy", forever))])
    run = await app.start(graph("f", load >> [subflow(SUM), subflow(inner)]))
    await until(lambda: len(apps.database.runs) == 5 and apps.database.runs[run.id].row.status is Status.WAITING)
    await until(lambda: any("forever#1" in app.engine.attempts(i) for i in list(apps.database.runs)))
    await run.cancel()
    with pytest.raises(RunCancelled):
        await run.result()
    await until(lambda: all(k.row.status.over for k in apps.database.runs.values()))
    found = {k.row.flow: k.row.status for k in apps.database.runs.values()}
    assert found == dict.fromkeys(("f", "inner", "gate", "busy"), Status.CANCELLED) | {"sum": Status.COMPLETED}


@scenario
async def test_a_cancel_that_died_half_way_is_carried_to_its_end(apps: Apps) -> None:
    """The children come first, and asking one twice is harmless: nobody is left alive under a cancelled run."""

    class Deadly(MemoryStore):
        """Dies when the second child is asked to stop."""

        async def send(
            self, run_id: UUID, kind: str, name: str, payload: bytes, *, token: UUID | None = None
        ) -> RunRow:
            if kind == "cancel" and run_id != run.id:
                asked.append(run_id)
                if len(asked) == 2:
                    await asyncio.sleep(60)
            return await super().send(run_id, kind, name, payload, token=token)

    asked: list[UUID] = []
    app, other = await apps.open(store=Deadly), await apps.open()
    gate = graph("gate", wait("go"))
    flow = graph("f", load >> [subflow(gate), subflow(gate, name="second"), subflow(gate, name="third")])
    run = await app.start(flow)
    await until(lambda: len(apps.database.runs) == 4)
    cancelling = asyncio.create_task(run.cancel())
    await until(lambda: len(asked) == 2)
    cancelling.cancel()
    await apps.crash(app)
    assert not apps.database.runs[run.id].row.status.over
    await other.cancel(run.id)
    await until(lambda: all(k.row.status is Status.CANCELLED for k in apps.database.runs.values()))


@scenario
async def test_a_run_that_nobody_carries_is_cancelled_with_its_children(apps: Apps) -> None:
    """By somebody who does not even know their code."""
    app, other = await apps.open(), await apps.open()
    run = await app.start(graph("f", load >> subflow(graph("gate", wait("go")))))
    await only_child(apps, run)
    await parked(apps, run)
    await apps.crash(app)
    assert (await other.cancel(run.id)).status is Status.CANCELLED
    assert {k.row.status for k in apps.database.runs.values()} == {Status.CANCELLED}


@scenario
async def test_the_child_of_a_branch_that_lost_a_race_is_cancelled(apps: Apps) -> None:
    """Once the winner is durable; and the winner may be a child as well."""
    app = await apps.open()
    slow, quick = graph("slow", wait("never")), graph("quick", wait("go"))
    for flow in (graph("f", load >> race(subflow(slow), subflow(quick))),
                 graph("g", load >> race(subflow(slow), subflow(quick)) >> total)):  # fmt: skip
        run = await app.start(flow)
        await until(lambda: sum(k.row.parent_id == run.id for k in apps.database.runs.values()) == 2)  # noqa: B023
        await parked(apps, run)
        rows = {row.flow: row for row in await run.children()}
        await Run(app, rows["quick"].id).signal("go")
        state = await run.result()
        assert "quick" in state
        assert "slow" not in state
        await until(lambda: apps.database.runs[rows["slow"].id].row.status is Status.CANCELLED)  # noqa: B023


@scenario
async def test_the_child_of_a_run_that_failed_goes_on_and_is_found_by_its_retry(apps: Apps) -> None:
    """Its parent is over when it ends, which is no error; nothing that it has done is done again."""
    app, ready, ran = await apps.open(), asyncio.Event(), list[str]()

    @step
    def work() -> str:
        ran.append("work")
        return "done"

    sub = graph("sub", wait("go") >> work)
    run = await app.start(graph("f", load >> [subflow(sub), fails_until(ready, [])]))
    await until(lambda: apps.kinds(run)[-1:] == ["failed"])
    child = Run(app, (await only_child(apps, run)).id)
    await child.signal("go")
    await child.result()
    ready.set()
    await run.retry()
    assert (await run.result())["sub"]["work"] == "done"
    assert ran == ["work"]


# ------------------------------------------------------------------------------------------------------- bodies, forks


async def end_of(children: Children, path: str, child: UUID) -> ChildEnd:
    """What has become of a child, once there is news of it."""
    while (end := await children.end(path, Child(child))) is None:
        await asyncio.sleep(0.002)
    return end


@scenario
async def test_a_body_starts_a_child_and_waits_for_it_in_memory(apps: Apps) -> None:
    """What others build on: begin as often as one likes, ask for its end, which costs nothing without news."""
    app = await apps.open()
    gate = graph("gate", wait("go"))
    seen: list[Any] = []

    @step
    async def parent(ctx: Context) -> None:
        children, path = app.engine._runners[ctx.run_id]._children, f"{ctx.path}/gate#1"
        first = await children.begin(path, gate, {"n": 1})
        again = await children.begin(path, gate, {"n": 1})
        seen.append(first == again)
        end = await end_of(children, path, first.child)
        seen.append(end.result)

    run = await app.start(graph("f", parent))
    child = Run(app, (await only_child(apps, run)).id)
    await parked(apps, child)
    await child.signal("go", by="ana")
    await run.result()
    assert seen == [True, {"n": 1, "go": {"by": "ana"}}]


@scenario
async def test_news_that_come_during_a_look_are_looked_at_again(apps: Apps) -> None:
    """The row was read before the end, the news came before the look was over: who waits is not left waiting."""

    class Slow(MemoryStore):
        """Answers late when it is asked for the row of a child."""

        async def run(self, run_id: UUID) -> RunRow:
            row = await super().run(run_id)
            if row.parent_id is not None and not row.status.over:
                looked.set()
                await asyncio.sleep(0.1)
            return row

    app, looked = await apps.open(store=Slow), asyncio.Event()

    @step
    async def slow() -> None:
        await looked.wait()

    @step
    async def parent(ctx: Context) -> None:
        children = app.engine._runners[ctx.run_id]._children
        started = await children.begin(f"{ctx.path}/sub#1", graph("sub", slow), {})
        children._alive.clear()
        end = await end_of(children, f"{ctx.path}/sub#1", started.child)
        assert end.row.status is Status.COMPLETED

    await (await app.start(graph("f", parent))).result(timeout=5)


@scenario
async def test_a_fork_behind_a_child_keeps_its_result_and_one_at_it_starts_another(apps: Apps) -> None:
    """A child is its parent's; what it came to is a result as any other."""
    app = await apps.open()
    run = await app.start(graph("f", load >> subflow(SUM, input=["rows"]) >> total))
    await run.result()
    behind, at = await run.fork(at="total#1", rows=[4]), await run.fork(at="sum#1", rows=[5])
    assert (await behind.result())["sum"] == {"rows": [1, 2, 3], "total": 6}
    assert (await at.result())["sum"] == {"rows": [5], "total": 5}
    assert [len(await r.children()) for r in (run, behind, at)] == [1, 0, 1]


# ------------------------------------------------------------------------------------------------------------- tenants


def says(text: str) -> Graph:
    """A flow called report whose code says who wrote it."""

    @step(name="tell")
    def tell() -> str:
        return text

    return graph("report", tell)


@scenario
async def test_a_tenants_run_never_runs_the_platforms_code_of_the_same_name(apps: Apps) -> None:
    """Nor as a child: a child is of its parent's namespace and of the very code that its parent was declared with."""
    platform, tenant = await apps.open(), await apps.open(namespace="org-a")
    ours, theirs = says("platform"), says("tenant")
    await platform.register(ours)
    working = [asyncio.create_task(app.work(["default", "q"])) for app in (platform, tenant)]
    runs = {
        "platform": await platform.start(graph("f", subflow(ours, key=lambda s: "k", queue="q"))),
        "tenant": await tenant.start(graph("f", subflow(theirs, key=lambda s: "k", queue="q"))),
    }
    for who, run in runs.items():
        assert (await run.result())["report"] == {"tell": who}
    rows = [k.row for k in apps.database.runs.values() if k.row.flow == "report"]
    assert {(r.namespace, r.fingerprint) for r in rows} == {
        ("default", ours.fingerprint), ("org-a", theirs.fingerprint),
    }  # fmt: skip
    for task in working:
        task.cancel()
