"""Decisions: approve, reject and answer, each taken exactly once, in memory."""

from __future__ import annotations

import asyncio
import contextlib
import operator
from datetime import timedelta
from typing import Annotated, Any, TypedDict

import pytest
from pydantic import BaseModel

from flowbook import deciding
from flowbook.errors import (
    AlreadyAnswered,
    HandOutFailed,
    NothingToDecide,
    PayloadRefused,
    RunOver,
    UsageError,
    WaitTimedOut,
)
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.imperative import flow as imperative
from flowbook.graph.pause import sleep, wait, wait_any
from flowbook.graph.step import step
from flowbook.observe.views import State
from flowbook.plan.events import WaitBegan
from flowbook.run.context import Context
from flowbook.run.deciding import docket_of
from tests.unit.run.apps import Apps, scenario, step_of
from tests.unit.run.test_pauses import logs, parked


class Log(TypedDict, total=False):
    """A list that steps add to."""

    log: Annotated[list[str], operator.add]


class Approval(BaseModel):
    """Who said yes, to how much."""

    by: str
    amount: int = 0


class Strict(BaseModel, extra="forbid"):
    """A payload with one place alone."""

    amount: int


async def waiting(apps: Apps, flow: Any, input: dict[str, Any] | None = None) -> Any:
    """(app, run) of a run that has parked at its pause."""
    app = await apps.open()
    run = await app.start(flow, input)
    await parked(app, run)
    return app, run


@scenario
async def test_approving_sends_the_signal_and_says_who(apps: Apps) -> None:
    """The payload has who it was, the journal and every view too."""
    _, run = await waiting(apps, graph("f", wait("approved") >> logs("b")))
    answered = await run.approve(by="ana", amount=3)
    assert (answered.path, answered.signal, answered.by, answered.payload) == (
        "approved#1", "approved", "ana", {"amount": 3},
    )  # fmt: skip
    assert (await run.result())["approved"] == {"by": "ana", "amount": 3}
    step = step_of(await run.view(), "approved#1")
    assert step.wait
    assert (step.answered_by, step.wait.answer, step.wait.answered_at) == ("ana", "approved", answered.at)
    assert apps.kinds(run) == [
        "approved#1 waiting", "approved#1 decided", "approved#1 finished", "b#1 finished", "completed",
    ]  # fmt: skip


@scenario
async def test_who_is_second_is_told_who_was_first(apps: Apps) -> None:
    """Before the run has read it, after it, and when the run is over; nothing is delivered."""
    app, run = await waiting(apps, graph("f", wait("approved") >> wait("more") >> logs("b")))
    other = await (await apps.open()).run(run.id)
    await run.approve(by="ana")
    mails = len(await app.store.mailbox(run.id))
    for path in ("approved#1", "approved"):
        with pytest.raises(AlreadyAnswered, match=r"\[FB332\] approved#1 .* by ana on .* with 'approved'") as told:
            await other.approve(path, by="ben")
        assert told.value.first.by == "ana"

    async def at_more() -> bool:
        return (await app.store.run(run.id)).current == "more#1"

    async with asyncio.timeout(5):
        while not await at_more():
            await asyncio.sleep(0.002)
    with pytest.raises(AlreadyAnswered, match="by ana"):
        await other.approve("approved#1", by="ben")
    assert len(await app.store.mailbox(run.id)) == mails
    await other.approve(by="ben")
    await run.result()
    with pytest.raises(AlreadyAnswered, match=r"more#1 .* by ben"):
        await run.approve()


@scenario
async def test_of_many_at_once_one_is_taken(apps: Apps) -> None:
    """Ten people of two processes, yes and no: one letter in the mailbox, nine are told of that one."""
    flow = graph("f", wait_any({"approved": logs("yes"), "rejected": logs("no")}), state=Log)
    app, run = await waiting(apps, flow)
    other = await (await apps.open()).run(run.id)

    async def one(n: int) -> Any:
        who = (run, other)[n % 2]
        return await (who.approve(by=str(n)) if n % 3 else who.reject(by=str(n)))

    said = await asyncio.gather(*(one(n) for n in range(10)), return_exceptions=True)
    (first,) = [s for s in said if not isinstance(s, BaseException)]
    assert {type(s) for s in said if s is not first} == {AlreadyAnswered}
    assert {s.first.by for s in said if isinstance(s, AlreadyAnswered)} == {first.by}
    assert len(await app.store.mailbox(run.id)) == 1
    assert (await run.result())["log"] == ["yes" if int(first.by) % 3 else "no"]


@scenario
async def test_a_decision_is_for_its_own_pause_alone(apps: Apps) -> None:
    """A loop that waits for the same signal again does not find the letter of the first time."""
    gate = wait("approved")

    @step
    def count(approved: Any, n: int = 0) -> dict[str, int]:
        return {"n": n + 1}

    app, run = await waiting(
        apps, graph("f", gate >> count >> branch(lambda s: s.n < 2, {True: gate, False: END})), {"n": 0}
    )
    await run.approve("approved#1", by="ana")

    async def again() -> bool:
        return (await app.store.run(run.id)).current == "approved#2"

    async with asyncio.timeout(5):
        while not await again():
            await asyncio.sleep(0.002)
    assert (await run.view()).nodes["approved"].state is State.WAITING
    await run.approve(by="ben")
    await run.result()
    view = await run.view()
    assert [step_of(view, f"approved#{n}").answered_by for n in (1, 2)] == ["ana", "ben"]


@scenario
async def test_plain_signals_mean_what_they_did_beside_decisions(apps: Apps) -> None:
    """The first in the mailbox wins; a signal that no pause has taken is still there for the next one."""
    app, run = await waiting(apps, graph("f", wait("go", name="a") >> wait("go", name="b") >> logs("c")))
    await run.approve("a", by="ana")
    await run.signal("go", n=2)
    assert (await run.result())["go"] == {"n": 2}
    assert step_of(await run.view(), "a#1").answered_by == "ana"
    assert step_of(await run.view(), "b#1").answered_by == ""
    assert len(await app.store.mailbox(run.id)) == 2


@scenario
async def test_an_unread_signal_is_before_a_decision(apps: Apps) -> None:
    """Nobody carries the run, and the signal lies in its mailbox: who comes now is second."""
    app, run = await waiting(apps, graph("f", wait("go")))
    await apps.crash(app)
    other = await apps.open()
    await other.signal(run.id, "go", {"n": 1})
    with pytest.raises(AlreadyAnswered, match="with 'go'"):
        await other.approve(run.id)


@scenario
async def test_a_decision_survives_that_nobody_was_there(apps: Apps) -> None:
    """It is taken by whoever carries the run next."""
    flow = graph("f", wait("approved") >> logs("b"))
    app, run = await waiting(apps, flow)
    await apps.crash(app)
    other = await apps.open()
    await other.approve(run.id, by="ana")
    await other.register(flow)
    assert (await (await other.resume(run.id)).result())["approved"] == {"by": "ana"}


@scenario
async def test_which_signal_a_yes_is(apps: Apps) -> None:
    """One signal is a yes unless its name is a no; of several, the names say; else nothing is sent."""
    app = await apps.open()

    async def parked_at(pause: Any) -> Any:
        run = await app.start(graph("f", pause))
        await parked(app, run)
        return run

    only_no = await parked_at(wait("rejected"))
    with pytest.raises(NothingToDecide, match="'rejected'"):
        await only_no.approve()
    assert (await only_no.reject("rejected", "late", by="ana")).signal == "rejected"
    assert (await only_no.result())["rejected"] == {"by": "ana", "why": "late"}
    plain = await parked_at(wait("payload"))
    with pytest.raises(NothingToDecide, match=r"run\.answer\('payload#1', 'payload'"):
        await plain.reject()
    assert (await plain.approve()).signal == "payload"
    many = await parked_at(wait_any({"ship": logs("a"), "hold": logs("b")}))
    for verb in (many.approve, many.reject):
        with pytest.raises(NothingToDecide, match=r"\[FB334\] .*'ship', 'hold'"):
            await verb()
    with pytest.raises(NothingToDecide, match="not for 'shop'"):
        await many.answer(None, "shop")
    assert (await many.answer("ship_or_hold", "hold", n=1)).payload == {"n": 1}
    await many.result()


@scenario
async def test_of_two_places_one_must_be_named(apps: Apps) -> None:
    """The error lists them; the name of a node is enough."""
    _, run = await waiting(apps, graph("f", logs("s") >> [wait("a"), wait("b")] >> logs("end"), state=None))
    with pytest.raises(NothingToDecide, match="'a#1', 'b#1'"):
        await run.approve()
    with pytest.raises(NothingToDecide, match="'c#1'"):
        await run.approve("c#1")
    await run.approve("b", by="ana")
    await run.approve("a#1", by="ana")
    await run.result()


@scenario
async def test_a_payload_is_checked_where_it_is_sent_and_where_it_is_taken(apps: Apps) -> None:
    """Where the code is not known it is the run that refuses it, and then somebody else may answer."""
    flow = graph("f", wait("approved", schema=Strict))
    app, run = await waiting(apps, flow)
    with pytest.raises(PayloadRefused, match="amount"):
        await run.approve(amount="much")
    assert not await app.store.mailbox(run.id)
    stranger = await apps.open()
    await stranger.approve(run.id, payload={"amount": "much"}, by="ben")

    async def refused() -> bool:
        pause = step_of(await run.view(), "approved#1").wait
        return pause is not None and bool(pause.refused)

    async with asyncio.timeout(5):
        while not await refused():
            await asyncio.sleep(0.002)
    await run.approve(amount=3, by="ana")
    assert (await run.result())["approved"].amount == 3
    assert step_of(await run.view(), "approved#1").answered_by == "ana"


@scenario
async def test_who_is_in_the_payload_where_it_has_a_place(apps: Apps) -> None:
    """`by` fills a field of that name that nobody else has filled."""
    _, run = await waiting(apps, graph("f", wait("approved", schema=Approval)))
    await run.approve(by="ana", amount=2)
    assert (await run.result())["approved"] == Approval(by="ana", amount=2)
    _, edited = await waiting(apps, graph("g", wait("approved", schema=Approval)))
    await edited.approve(edit={"by": "the board"}, by="ana")
    assert (await edited.result())["approved"].by == "the board"


@scenario
async def test_a_handed_out_step_is_completed_or_failed(apps: Apps) -> None:
    """Without its token: who may write to the database may decide. The token finds it taken."""

    @step
    def review(ctx: Context) -> None:
        tokens.append(ctx.hand_out())

    tokens: list[str] = []
    app, run = await waiting(apps, graph("f", review >> logs("b")))
    assert (await run.approve("review", edit={"ok": 1}, by="ana")).payload == {"ok": 1}
    with pytest.raises(AlreadyAnswered):
        await app.complete(tokens[0], {"ok": 2})
    assert (await run.result())["ok"] == 1
    assert step_of(await run.view(), "review#1").answered_by == "ana"
    _, failed = await waiting(apps, graph("g", review))
    await failed.reject("review#1", "too dear", by="ana")
    with pytest.raises(HandOutFailed, match="too dear"):
        await failed.result()
    with pytest.raises(AlreadyAnswered, match="by ana"):
        await failed.approve("review#1")


@scenario
async def test_a_body_that_waits_is_decided_too(apps: Apps) -> None:
    """`ctx.wait` has a path of its own below its step."""

    @imperative
    async def order(ctx: Context) -> Any:
        return await ctx.wait("approved")

    _, run = await waiting(apps, order)
    with pytest.raises(NothingToDecide, match="order#1/approved#1 listens for"):
        await run.answer("order#1/approved#1", "go")
    await run.approve(by="ana", n=1)
    assert await run.result() == {"by": "ana", "n": 1}
    assert step_of(await run.view(), "order#1/approved#1").answered_by == "ana"
    with pytest.raises(AlreadyAnswered, match="by ana"):
        await run.approve("order#1/approved#1")


@scenario
async def test_what_is_not_open_says_so(apps: Apps) -> None:
    """A sleeping run, and one whose end has come without a decision."""
    _, run = await waiting(apps, graph("f", sleep("1h")))
    with pytest.raises(NothingToDecide, match="nobody's decision"):
        await run.approve()
    await run.cancel()
    with pytest.raises(RunOver):
        await run.approve()


@scenario
async def test_after_its_time_a_pause_takes_no_decision(apps: Apps) -> None:
    """Who comes too late is told so, and nothing is delivered, although the run has not noticed yet."""
    app, run = await waiting(apps, graph("f", wait("approved", timeout=60), state=None))
    now = apps.database.now()

    class Later:
        def now(self) -> Any:
            return now + timedelta(seconds=120)

    await apps.crash(app)
    apps.database._clock = Later()
    other = await apps.open()
    with pytest.raises(NothingToDecide, match="its time is up"):
        await other.approve(run.id)
    assert not apps.database.runs[run.id].mail


@scenario
async def test_a_pause_that_begins_anew_takes_a_decision_of_its_own(apps: Apps) -> None:
    """Its time was up and the run was retried: who decides now is not told of anybody."""
    flow = graph("f", wait("approved", timeout=0.05) >> logs("b"))
    app = await apps.open()
    run = await app.start(flow)
    with pytest.raises(WaitTimedOut):
        await run.result()
    with pytest.raises(RunOver):
        await run.approve(by="ana")
    await run.retry()

    async def anew() -> bool:
        return step_of(await run.view(), "approved#1").state is State.WAITING

    async with asyncio.timeout(5):
        while not await anew():
            await asyncio.sleep(0.001)
    names = {it.name for it in (await docket_of(app.store.pages(run.id), run.id)).open.values()}
    marks = [e.mark for e in apps.events(run.id) if isinstance(e, WaitBegan)]
    assert len(set(marks)) == 2
    assert names <= {f"approved#1 {marks[1]}"}


@scenario
async def test_what_comes_by_two_ways_is_done_once(apps: Apps) -> None:
    """The kernel and the Jupyter server deliver the same click: both are told the same, before and after the end."""
    app, run = await waiting(apps, graph("f", wait("approved") >> wait("more")))
    other = await apps.open()
    first = await deciding.asked(other, run.id, "approve", {"path": "approved#1", "mark": "page-1"}, "ana")

    async def at_more() -> bool:
        return (await app.store.run(run.id)).current == "more#1"

    async with asyncio.timeout(5):
        while not await at_more():
            await asyncio.sleep(0.002)
    second = await deciding.asked(app, run.id, "approve", {"path": "approved#1", "mark": "page-1"}, "ana")
    assert (second["by"], second["at"], second["signal"]) == (first["by"], first["at"], first["signal"])
    with pytest.raises(AlreadyAnswered):
        await deciding.asked(app, run.id, "approve", {"path": "approved#1", "mark": "page-2"}, "ana")
    for way in (other, app):
        assert await deciding.asked(way, run.id, "cancel", {"mark": "page-3"}, "ana") == "cancelled"
    assert [m.kind for m in await app.store.mailbox(run.id)] == ["decision", "cancel"]


@scenario
async def test_a_retry_that_comes_by_two_ways_is_done_once(apps: Apps) -> None:
    """Also where the run has failed again meanwhile: the late one is no second wish."""
    tries: list[int] = []

    @step
    def bad() -> None:
        tries.append(1)
        raise ValueError("no")

    app = await apps.open()
    run = await app.start(graph("f", bad))
    for mark in ("page-1", "page-1", "page-2"):
        with pytest.raises(ValueError, match="no"):
            await run.result()
        with contextlib.suppress(UsageError):  # it is failed still, and was retried by this question before
            await deciding.asked(app, run.id, "retry", {"mark": mark}, "ana")
    with pytest.raises(ValueError, match="no"):
        await run.result()
    assert len(tries) == 3
