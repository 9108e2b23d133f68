"""Pauses: waits, signals, timers and conditions, in memory."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest
from pydantic import BaseModel

from flowbook.app import App
from flowbook.errors import PayloadRefused, RunOver, UsageError, WaitTimedOut
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.pause import sleep, wait, wait_any
from flowbook.graph.step import Step, step, when
from flowbook.handle import Run
from flowbook.observe.views import State
from flowbook.plan.events import SignalRefused, WaitBegan, WaitFinished
from flowbook.plan.records import Status
from flowbook.run import runner as runner_module
from tests.unit.run.apps import Apps, scenario, step_of, until


class Log(TypedDict, total=False):
    """A list that steps add to."""

    log: Annotated[list[str], operator.add]


class Approval(BaseModel):
    """Who said yes."""

    by: str
    amount: int = 0


def logs(name: str) -> Step:
    """A step that logs its name."""

    async def body() -> dict[str, Any]:
        return {"log": [name]}

    return step(name=name)(body)


async def parked(app: App, run: Run) -> None:
    """Until a run costs nothing any more."""

    async def waiting() -> bool:
        row = await app.store.run(run.id)
        return row.status is Status.WAITING and not app.engine.carries(run.id)

    async with asyncio.timeout(5):
        while not await waiting():
            await asyncio.sleep(0.002)


# ----------------------------------------------------------------------------------------------------------- signals


@scenario
async def test_a_signal_lets_a_parked_run_go_on(apps: Apps) -> None:
    """The run is owned by nobody while it waits; the payload is in the state under the signal's name."""
    app = await apps.open()
    run = await app.start(graph("f", logs("a") >> wait("approved") >> logs("b")))
    await parked(app, run)
    row = await app.store.run(run.id)
    assert (row.worker_id, row.current) == (None, "approved#1")
    assert await run.signal("approved", by="ana") is Status.WAITING
    assert await run.result() == {"log": ["b"], "approved": {"by": "ana"}}
    assert apps.kinds(run) == ["a#1 finished", "approved#1 waiting", "approved#1 finished", "b#1 finished", "completed"]


@scenario
async def test_a_signal_sent_before_its_waiter_exists_is_not_lost(apps: Apps) -> None:
    """It lies in the mailbox until the wait comes, and then nothing is waited for."""
    app, gate = await apps.open(), asyncio.Event()

    @step
    async def slow() -> None:
        await gate.wait()

    run = await app.start(graph("f", slow >> wait("approved")))
    await run.signal("approved", by="ana")
    gate.set()
    assert (await run.result())["approved"] == {"by": "ana"}
    assert "approved#1 waiting" not in apps.kinds(run)


@scenario
async def test_signals_of_one_name_are_consumed_once_and_in_order(apps: Apps) -> None:
    """Three sent, three waits, each gets its own."""
    app = await apps.open()

    @step
    def keep(go: dict[str, int], seen: list[int]) -> dict[str, Any]:
        return {"seen": [*seen, go["n"]]}

    gate = wait("go")
    turns = graph("h", gate >> keep >> branch(lambda s: len(s.seen) < 3, {True: gate, False: END}))
    run = await app.start(turns, {"seen": []})
    for n in (1, 2, 3):
        await run.signal("go", n=n)
    assert (await run.result())["seen"] == [1, 2, 3]
    assert [e.mail for e in apps.events(run.id) if isinstance(e, WaitFinished)] == [1, 2, 3]


@scenario
async def test_both_of_two_signals_at_one_node_are_heard(apps: Apps) -> None:
    """Approve or reject: whichever comes first takes its own way."""
    app = await apps.open()
    publish, revise = logs("publish"), logs("revise")
    flow = graph("f", logs("draft") >> wait_any({"approved": publish, "rejected": revise}), state=Log)
    for name, last in (("approved", "publish"), ("rejected", "revise")):
        run = await app.start(flow)
        await parked(app, run)
        await run.signal(name)
        assert await run.result() == {"log": ["draft", last]}


@scenario
async def test_the_first_of_two_signals_wins_and_the_other_stays_for_the_next_wait(apps: Apps) -> None:
    """A loop of draft and revision: a reject and an approve that were sent together are heard one after the other."""
    app = await apps.open()
    draft, publish, revise = logs("draft"), logs("publish"), logs("revise")
    gate = wait_any({"approved": publish, "rejected": revise})
    flow = graph("f", draft >> gate, revise >> draft, state=Log)
    run = await app.start(flow)
    await run.signal("rejected")
    await run.signal("approved")
    assert await run.result() == {"log": ["draft", "revise", "draft", "publish"]}


@scenario
async def test_a_payload_that_does_not_fit_is_reported_and_the_wait_goes_on(apps: Apps) -> None:
    """Also one that came past the sender's check; what fits becomes the model."""
    app = await apps.open()
    run = await app.start(graph("f", wait("approved", schema=Approval, timeout="1h")))
    await parked(app, run)
    with pytest.raises(PayloadRefused, match="was not sent"):
        await run.signal("approved", amount="much")
    from flowbook.codec import encode

    await app.store.send(run.id, "signal", "approved", encode({"amount": "much"}))
    await until(lambda: any(isinstance(e, SignalRefused) for e in apps.events(run.id)))
    await parked(app, run)
    shown = step_of(await run.view(), "approved#1")
    assert shown.state is State.WAITING
    assert shown.wait is not None
    assert "by" in shown.wait.refused[0].message
    await run.signal("approved", by="ana", amount="3")
    assert (await run.result())["approved"] == Approval(by="ana", amount=3)


@scenario
async def test_a_signal_to_a_run_that_is_over_is_told_so(apps: Apps) -> None:
    """And one that the flow never waits for is a mistake of the sender's."""
    app = await apps.open()
    run = await app.start(graph("f", wait("approved")))
    with pytest.raises(UsageError, match="did you mean 'approved'"):
        await run.signal("aproved")
    await run.signal("approved")
    await run.result()
    with pytest.raises(RunOver, match="completed already"):
        await run.signal("approved")


@scenario
async def test_a_state_that_does_not_declare_the_signal_keeps_its_payload_out(apps: Apps) -> None:
    """A step may still ask for it by the node's name."""
    app = await apps.open()

    @step
    def note(gate: dict[str, str]) -> dict[str, Any]:
        return {"log": [gate["by"]]}

    run = await app.start(graph("f", wait("approved", name="gate") >> note, state=Log))
    await run.signal("approved", by="ana")
    assert await run.result() == {"log": ["ana"]}


@scenario
async def test_a_waiting_run_can_be_cancelled(apps: Apps) -> None:
    """Nobody owns it, so who cancels ends it."""
    app = await apps.open()
    run = await app.start(graph("f", wait("approved")))
    await parked(app, run)
    await run.cancel()
    await until(lambda: apps.kinds(run)[-1] == "cancelled")
    assert step_of(await run.view(), "approved#1").state is State.CANCELLED


@scenario
async def test_waits_in_branches_of_a_fork_hear_for_themselves(apps: Apps) -> None:
    """Their payloads are merged at the join, in declaration order."""
    app = await apps.open()
    run = await app.start(graph("f", logs("a") >> [wait("left"), wait("right"), logs("b")] >> logs("c")))
    await run.signal("right", n=2)
    await parked(app, run)
    assert (await app.store.run(run.id)).current.endswith("left#1")
    await run.signal("left", n=1)
    state = await run.result()
    assert (state["left"], state["right"]) == ({"n": 1}, {"n": 2})


@scenario
async def test_a_router_behind_a_wait_sees_the_payload(apps: Apps) -> None:
    """The state after the merge, as behind a step."""
    app = await apps.open()
    flow = graph("f", wait("answer") >> branch(lambda s: s.answer["yes"], {True: logs("go"), False: END}))
    run = await app.start(flow)
    await run.signal("answer", yes=True)
    assert (await run.result())["log"] == ["go"]


# ------------------------------------------------------------------------------------------------------------ timers


@scenario
async def test_a_wait_without_a_way_on_fails_when_its_time_is_up_and_waits_anew_when_retried(apps: Apps) -> None:
    """The error says what nobody sent; the retry's time begins at the retry."""
    app = await apps.open()
    run = await app.start(graph("f", wait("approved", timeout=0.02)))
    with pytest.raises(WaitTimedOut, match=r"approved waited 20ms for 'approved'"):
        await run.result()
    await run.retry()
    await until(lambda: sum(isinstance(e, WaitBegan) for e in apps.events(run.id)) == 2)
    await until(lambda: apps.kinds(run)[-1] == "failed")
    await run.retry()
    await run.signal("approved", by="ana")
    assert (await run.result())["approved"] == {"by": "ana"}


@scenario
async def test_a_time_out_is_a_way_on(apps: Apps) -> None:
    """Of one signal or of several; what is left open goes on to what follows."""
    app = await apps.open()
    late, yes, no, last = logs("late"), logs("yes"), logs("no"), logs("last")
    one = graph("one", wait("approved", timeout=0.02, on_timeout=late) >> last, state=Log)
    assert await (await app.start(one)).result() == {"log": ["late", "last"]}
    several = graph("several", wait_any({"yes": yes, "no": no}, timeout=0.02, on_timeout=late) >> last, state=Log)
    assert await (await app.start(several)).result() == {"log": ["late", "last"]}
    run = await app.start(several)
    await run.signal("no")
    assert await run.result() == {"log": ["no", "last"]}


@scenario
async def test_a_sleep_does_not_start_again_from_zero_after_a_crash(apps: Apps) -> None:
    """Its end was written down when it began."""
    app, other = await apps.open(), await apps.open()
    flow = graph("f", logs("a") >> sleep(0.4) >> logs("b"), state=Log)
    run = await app.start(flow)
    await until(lambda: "sleep_400ms#1 waiting" in apps.kinds(run))
    (began,) = [e for e in apps.events(run.id) if isinstance(e, WaitBegan)]
    await asyncio.sleep(0.2)
    await apps.crash(app)
    await other.register(flow)
    assert await (await other.resume(run.id)).result() == {"log": ["a", "b"]}
    assert [e for e in apps.events(run.id) if isinstance(e, WaitBegan)] == [began]
    ended = next(e for e in apps.database.runs[run.id].journal if e.path == "sleep_400ms#1" and e.kind == "finished")
    assert began.due is not None
    assert ended.at is not None
    assert 0 <= (ended.at - began.due).total_seconds() < 0.19


@scenario
async def test_a_time_out_that_passed_while_nobody_lived_fires_once(apps: Apps) -> None:
    """A signal sent after the limit is too late, one sent before it is not, whoever reads them when."""
    app, other = await apps.open(), await apps.open()
    flow = graph("f", wait("yes", timeout=0.1, on_timeout=logs("late")) >> logs("last"), state=Log)
    late, early = await app.start(flow), await app.start(flow)
    await until(lambda: all("yes#1 waiting" in apps.kinds(r) for r in (late, early)))
    await apps.crash(app)
    await other.signal(early.id, "yes")
    await asyncio.sleep(0.15)
    await other.signal(late.id, "yes")
    await other.register(flow)
    assert await (await other.resume(late.id)).result() == {"log": ["late", "last"]}
    assert await (await other.resume(early.id)).result() == {"log": ["last"]}
    assert [e.signal for e in apps.events(late.id) if isinstance(e, WaitFinished)] == [None]


@scenario
async def test_a_long_pause_is_parked_until_its_time(apps: Apps, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody owns the run, its row says when it is due, and its kernel takes it up again then."""
    monkeypatch.setattr(runner_module, "LINGER", 0.0)
    app = await apps.open()
    run = await app.start(graph("f", sleep(0.2) >> logs("a"), state=Log))
    await parked(app, run)
    assert await run.result() == {"log": ["a"]}


@scenario
async def test_parked_runs_are_looked_for_with_one_question(apps: Apps) -> None:
    """However many they are: a run that waits costs nothing."""
    app = await apps.open()
    flow = graph("f", wait("go"))
    runs = [await app.start(flow) for _ in range(30)]
    for run in runs:
        await parked(app, run)
    asked: list[str] = []
    for verb in ("run", "mail", "claim", "mailbox", "history"):
        original = getattr(app.store, verb)

        def counted(*args: Any, verb: str = verb, original: Any = original, **more: Any) -> Any:
            asked.append(verb)
            return original(*args, **more)

        setattr(app.store, verb, counted)
    await asyncio.sleep(0.2)
    assert set(asked) <= {"claim"}
    assert len(asked) <= 20
    await runs[7].signal("go")
    await runs[7].result()


@scenario
async def test_a_worker_takes_up_a_run_that_got_its_signal(apps: Apps) -> None:
    """Its kernel is gone; a worker that knows the code goes on."""
    app, other = await apps.open(), await apps.open()
    flow = graph("f", wait("go") >> logs("a"), state=Log)
    run = await app.start(flow)
    await parked(app, run)
    await apps.crash(app)
    await other.register(flow)
    working = asyncio.create_task(other.work())
    await asyncio.sleep(0.05)
    assert apps.kinds(run) == ["go#1 waiting"]
    await other.signal(run.id, "go")
    assert await other.result(run.id, timeout=5) == {"log": ["a"]}
    working.cancel()


# -------------------------------------------------------------------------------------------------------- conditions


@scenario
async def test_a_false_condition_skips_its_step_and_the_run_goes_on(apps: Apps) -> None:
    """Not to END, not for ever: the step changes nothing, and is shown as skipped."""
    app = await apps.open()
    flow = graph("f", logs("a") >> when(lambda s: len(s.log) > 1, logs("b")) >> logs("c"), state=Log)
    run = await app.start(flow)
    assert await run.result() == {"log": ["a", "c"]}
    assert step_of(await run.view(), "b#1").state is State.SKIPPED
    again = await app.start(flow, {"log": ["x"]})
    assert await again.result() == {"log": ["x", "a", "b", "c"]}


@scenario
async def test_a_condition_sees_the_state_after_the_merge(apps: Apps) -> None:
    """And in a loop the state of its turn."""
    app = await apps.open()

    @step
    def count(n: int) -> dict[str, int]:
        return {"n": n + 1}

    odd = when(lambda s: s.n % 2, logs("odd"))
    flow = graph("f", count >> odd >> branch(lambda s: s.n < 4, {True: count, False: END}))
    assert await (await app.start(flow, {"n": 0})).result() == {"n": 4, "log": ["odd"]}


@scenario
async def test_a_condition_that_raises_fails_its_step(apps: Apps) -> None:
    """As the step itself would."""
    app = await apps.open()
    run = await app.start(graph("f", when(lambda s: s.missing, logs("a"))))
    with pytest.raises(AttributeError, match="missing"):
        await run.result()
