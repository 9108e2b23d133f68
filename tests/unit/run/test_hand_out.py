"""Steps that are handed out: tokens, answers, and who may give one."""

from __future__ import annotations

import asyncio
import operator
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowbook.app import App
from flowbook.errors import (
    AlreadyAnswered,
    HandOutFailed,
    PayloadRefused,
    RunNotFound,
    RunOver,
    StepTimeout,
    TokenRefused,
)
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.step import Step, step
from flowbook.handle import Run
from flowbook.observe.views import State
from flowbook.plan import snapshots
from flowbook.plan.apply import apply, begin
from flowbook.plan.events import StepHandedOut
from flowbook.plan.records import Status
from flowbook.run import runner as runner_module
from flowbook.run.answers import ANSWER
from flowbook.run.context import Context
from flowbook.run.handout import Token
from tests.unit.run.apps import Apps, scenario, step_of, until
from tests.unit.run.test_pauses import logs, parked


class Paid(TypedDict, total=False):
    """A list that steps add to, and an amount."""

    log: Annotated[list[str], operator.add]
    amount: int


class Desk:
    """A step that gives its tokens to a desk, where somebody sits."""

    def __init__(self, **options: Any) -> None:
        self.tokens: list[str] = []

        async def pay(ctx: Context) -> Any:
            self.tokens.append(ctx.hand_out())
            return "not the result"

        self.step: Step = step(name="pay", **options)(pay)

    async def token(self, number: int = 1) -> str:
        """The number-th token that was given away."""
        await until(lambda: len(self.tokens) >= number)
        return self.tokens[number - 1]


async def handed(app: App, run: Run, desk: Desk, number: int = 1) -> str:
    """The token of a run that waits for its answer, and costs nothing."""
    token = await desk.token(number)
    await parked(app, run)
    return token


# ------------------------------------------------------------------------------------------------------------- tokens


@given(
    st.uuids(),
    st.from_regex(r"\w{1,40}#[1-9]\d{0,5}", fullmatch=True),
    st.integers(1, 30_001),
    st.binary(min_size=16, max_size=16),
)
def test_a_token_says_what_it_is_for(run_id: Any, path: str, attempt: int, secret: bytes) -> None:
    """It names run, path and attempt, and survives mails, addresses and shells as it is."""
    token = Token(run_id, path, attempt, secret)
    assert Token.read(f" {token.text}\n") == token
    assert token.text.replace("_", "a").replace("-", "a").isalnum()
    assert secret.hex() not in token.proof


@pytest.mark.parametrize(
    "text", ["", "fb_", "fb_abc", "fb_%%%", "hello", Token(UUID(int=7), "a#1", 1, b"x" * 16).text[3:]]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    """Before anything is asked of the database."""
    with pytest.raises(TokenRefused, match="is no token of flowbook's"):
        Token.read(text)


# ----------------------------------------------------------------------------------------------------------- answering


@scenario
async def test_a_step_that_is_handed_out_waits_for_its_answer_and_costs_nothing(apps: Apps) -> None:
    """What the body returned does not count; the run is owned by nobody until the answer comes."""
    desk, app = Desk(), await apps.open()
    run = await app.start(graph("f", desk.step >> logs("after")))
    token = await handed(app, run, desk)
    row = await app.store.run(run.id)
    assert (row.status, row.worker_id, row.current) == (Status.WAITING, None, "pay#1")
    waiting = step_of(await run.view(), "pay#1")
    assert waiting.state is State.WAITING
    assert waiting.wait is not None
    assert waiting.wait.handed_out
    assert (await app.complete(token, {"amount": 3})).id == run.id
    assert await run.result() == {"amount": 3, "log": ["after"]}
    assert apps.kinds(run) == ["pay#1 handed", "pay#1 finished", "after#1 finished", "completed"]
    assert step_of(await run.view(), "pay#1").result == {"amount": 3}


@scenario
async def test_the_token_may_be_what_the_step_returns(apps: Apps) -> None:
    """`return ctx.hand_out()`, also in a plain function; asked twice, it is the same one."""
    tokens: list[str] = []

    @step
    def pay(ctx: Context) -> str:
        assert ctx.hand_out() == ctx.hand_out()
        tokens.append(ctx.hand_out())
        return ctx.hand_out()

    app = await apps.open()
    run = await app.start(graph("f", pay))
    await until(lambda: bool(tokens))
    await app.complete(tokens[0], 7)
    assert await run.result() == {"pay": 7}


@scenario
async def test_an_answer_may_come_before_the_body_has_ended(apps: Apps) -> None:
    """It lies in the mailbox, and is taken as soon as the journal says that the step was handed out."""
    gate, tokens = asyncio.Event(), list[str]()

    @step
    async def pay(ctx: Context) -> None:
        tokens.append(ctx.hand_out())
        await gate.wait()

    app = await apps.open()
    run = await app.start(graph("f", pay))
    await until(lambda: bool(tokens))
    await app.complete(tokens[0], 1)
    await asyncio.sleep(0.05)
    assert await run.status() is Status.RUNNING
    gate.set()
    assert await run.result() == {"pay": 1}


@scenario
async def test_the_first_answer_counts_and_the_second_is_told_what_it_was(apps: Apps) -> None:
    """While the run waits, and when it is over; also when the first one said that the step failed."""
    desk, other, app = Desk(), Desk(), await apps.open()
    run = await app.start(graph("f", desk.step))
    token = await handed(app, run, desk)
    answers = await asyncio.gather(*[app.complete(token, {"n": n}) for n in range(5)], return_exceptions=True)
    (won,) = [n for n, answer in enumerate(answers) if not isinstance(answer, BaseException)]
    for answer in answers:
        assert not isinstance(answer, BaseException) or (
            isinstance(answer, AlreadyAnswered) and repr({"n": won}) in str(answer)
        )
    assert await run.result() == {"n": won}
    with pytest.raises(AlreadyAnswered, match=rf"pay#1 of run .* completed already .*'n': {won}"):
        await app.complete(token, {"n": 9})
    run = await app.start(graph("g", other.step))
    token = await handed(app, run, other)
    await app.fail(token, "no money")
    with pytest.raises(AlreadyAnswered, match="no money"):
        await app.complete(token, 1)
    with pytest.raises(HandOutFailed, match="no money"):
        await run.result()


@scenario
async def test_an_answer_goes_through_the_state_and_the_branch_as_a_returned_value(apps: Apps) -> None:
    """Reducers, schema and router see it."""
    desk, app = Desk(), await apps.open()
    flow = graph(
        "f", logs("a") >> desk.step >> branch(lambda s: s.amount > 10, {True: logs("much"), False: END}), state=Paid
    )
    run = await app.start(flow, {"log": []})
    await app.complete(await handed(app, run, desk), {"amount": 11, "log": ["paid"]})
    assert await run.result() == {"log": ["a", "paid", "much"], "amount": 11}


@scenario
async def test_what_the_step_may_not_return_is_refused_and_the_wait_goes_on(apps: Apps) -> None:
    """Told to who sent it where the code is known; else at the run, which waits for a better one."""
    desk, app = Desk(), await apps.open()
    run = await app.start(graph("f", desk.step, state=Paid))
    token = await handed(app, run, desk)
    with pytest.raises(PayloadRefused, match="amuont"):
        await app.complete(token, {"amuont": 1})
    stranger = await apps.open()
    await stranger.complete(token, {"amuont": 2})
    await until(lambda: any("refused" in kind for kind in apps.kinds(run)))
    await stranger.complete(token, {"amount": 3})
    assert await run.result() == {"amount": 3}


@scenario
async def test_a_failed_answer_is_a_failed_attempt(apps: Apps) -> None:
    """The step's retries apply, and the next attempt hands out another token: the first one is good for nothing."""
    desk, app = Desk(retries=1, backoff=[0]), await apps.open()
    run = await app.start(graph("f", desk.step))
    old = await handed(app, run, desk)
    await app.fail(old, "busy")
    new = await handed(app, run, desk, 2)
    assert new != old
    with pytest.raises(AlreadyAnswered, match="busy"):
        await app.complete(old, 1)
    await app.complete(new, 2)
    assert await run.result() == {"pay": 2}


@scenario
async def test_a_token_of_an_attempt_that_died_is_refused(apps: Apps) -> None:
    """Its process was killed before anybody could know that it was handed out; the next attempt made another token."""
    tokens, gate = list[str](), asyncio.Event()

    @step
    async def pay(ctx: Context) -> None:
        tokens.append(ctx.hand_out())
        if len(tokens) == 1:
            await gate.wait()

    app, flow = await apps.open(), graph("f", pay)
    run = await app.start(flow)
    await until(lambda: bool(tokens))
    await apps.crash(app)
    app = await apps.open()
    await app.register(flow)
    again = await app.resume(run.id)
    await until(lambda: len(tokens) == 2)
    await parked(app, again)
    with pytest.raises(TokenRefused, match="A later attempt may have handed out another one"):
        await app.complete(tokens[0], 1)
    await app.complete(tokens[1], 2)
    assert await again.result() == {"pay": 2}


@scenario
async def test_nobody_completes_by_guessing(apps: Apps) -> None:
    """Run, path and attempt are no secret; what does not match the digest is never taken, early or late."""
    desk, app, gate = Desk(), await apps.open(), asyncio.Event()

    async def slow() -> None:
        await gate.wait()

    run = await app.start(graph("f", step(slow) >> desk.step))
    early = Token(run.id, "pay#1", 1, b"\0" * 16).text
    await app.complete(early, "stolen")  # nobody can say yet that it is none: it is kept, and fits nothing
    gate.set()
    token = await handed(app, run, desk)
    for forged in (early, Token(run.id, "pay#1", 1, b"\1" * 16).text, Token(run.id, "pay#1", 9, b"\1" * 16).text):
        with pytest.raises(TokenRefused, match="is no token of an attempt that waits"):
            await app.complete(forged, "stolen")
    await app.complete(token, "mine")
    assert await run.result() == {"slow": None, "pay": "mine"}
    with pytest.raises(TokenRefused):
        await app.complete(early, "stolen")


@scenario
async def test_the_secret_of_a_token_is_nowhere_in_the_journal(apps: Apps) -> None:
    """Who can read a run, or a notebook that shows one, cannot complete its steps."""
    desk, app = Desk(), await apps.open()
    run = await app.start(graph("f", desk.step))
    token = Token.read(await handed(app, run, desk))
    stored = b"".join(e.payload for e in apps.database.runs[run.id].journal)
    assert token.proof.encode() in stored
    assert token.secret not in stored
    assert token.secret.hex().encode() not in stored


@scenario
async def test_the_time_limit_of_a_step_is_how_long_its_answer_is_waited_for(apps: Apps) -> None:
    """Then the attempt fails as any that runs out of time does, and its retries apply."""
    desk, app = Desk(timeout=0.3, retries=1, backoff=[0]), await apps.open()
    run = await app.start(graph("f", desk.step))
    first = await desk.token()
    second = await desk.token(2)
    with pytest.raises(AlreadyAnswered, match="nobody completed it within 300ms"):
        await app.complete(first, 1)
    with pytest.raises(StepTimeout, match="was handed out, and nobody completed it"):
        await run.result()
    with pytest.raises(AlreadyAnswered):
        await app.complete(second, 1)


@scenario
async def test_an_answer_that_came_in_time_counts_whenever_it_is_read(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody was alive to hear it before the limit was past."""
    monkeypatch.setattr(runner_module, "LINGER", 0.0)
    desk, app = Desk(timeout=0.6), await apps.open()
    flow = graph("f", desk.step)
    run = await app.start(flow)
    token = await handed(app, run, desk)
    await apps.crash(app)
    client = await apps.open()  # knows no code
    await client.complete(token, "in time")
    await asyncio.sleep(0.7)
    app = await apps.open()
    await app.register(flow)
    assert await (await app.resume(run.id)).result() == {"pay": "in time"}


@scenario
async def test_a_run_that_is_over_takes_no_answer(apps: Apps) -> None:
    """It was cancelled while somebody had the token. A token of another tenant's run is none here."""
    desk, app = Desk(), await apps.open()
    run = await app.start(graph("f", desk.step))
    token = await handed(app, run, desk)
    with pytest.raises(RunNotFound):
        await (await apps.open(namespace="other")).complete(token, 1)
    await run.cancel()
    with pytest.raises(RunOver, match="nobody waits for pay#1"):
        await app.complete(token, 1)


@scenario
async def test_an_answer_is_not_lost_behind_a_cancel_that_came_too_late_or_a_retry(apps: Apps) -> None:
    """Reading begins where everything is settled: an answer from before a retry is still read after it."""
    desk, app = Desk(), await apps.open()
    fails = [True]

    async def sibling() -> None:
        if fails:
            raise ValueError("once")

    run = await app.start(graph("f", step(name="begin")(lambda: None) >> [desk.step, step(sibling)]))
    token = await desk.token()
    await until(lambda: apps.database.runs[run.id].row.status is Status.FAILED)
    fails.clear()
    again = await run.retry()
    await app.complete(token, "paid")
    state = await again.result()
    assert state["pay"] == "paid"


def test_a_snapshot_keeps_what_is_handed_out() -> None:
    """The fold of the rest of the journal goes on from it."""
    flow = graph("f", Desk().step)
    run = begin(flow, uuid4(), {})
    out = apply(flow, run, StepHandedOut("pay#1", 2, "ab", datetime(2026, 11, 21, tzinfo=UTC)))
    assert out.handed
    assert snapshots.load(run, snapshots.dump(out)) == out


@scenario
async def test_handed_out_steps_of_a_fork_are_answered_in_any_order(apps: Apps) -> None:
    """Each waits for its own; mail of one is not taken for the other's."""
    one, two, app = Desk(), Desk(), await apps.open()
    flow = graph("f", logs("begin") >> [one.step.as_("one"), two.step.as_("two")] >> logs("end"))
    run = await app.start(flow)
    first, second = await one.token(), await two.token()
    await app.complete(second, 2)
    await until(lambda: "two#1 finished" in apps.kinds(run))
    await app.complete(first, 1)
    assert await run.result() == {"one": 1, "two": 2, "log": ["end"]}
    assert [m.kind for m in apps.database.runs[run.id].mail] == [ANSWER, ANSWER]
