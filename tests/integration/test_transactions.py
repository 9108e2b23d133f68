"""Exactly-once effects: a step's rows and its checkpoint in one transaction, and starts inside of a user's own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

import flowbook as fb
from flowbook.app import App, Options
from flowbook.errors import DeclarationError, KeyConflict, RunNotFound, TransactionMisused, UsageError
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.expression import branch
from flowbook.graph.flow import graph
from flowbook.graph.pause import wait
from flowbook.graph.step import step
from flowbook.plan.events import StepStarted
from flowbook.plan.journal import to_entry
from flowbook.plan.records import Status
from flowbook.store import transactions as transactions_module
from flowbook.store.postgres import PostgresStore
from flowbook.testing import memory_app

pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(sys.platform == "win32", reason="connections are cut here")]


class Base(fb.db.Base):
    """A base of the tests' own, so that no other test's tables are made."""

    __abstract__ = True


class Order(fb.db.Audit, Base):
    """What the user's service keeps."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(unique=True)


class Shop:
    """A database with the user's table in it."""

    def __init__(self, url: str, *, always_suspend: bool) -> None:
        self.url, self.always_suspend = url, always_suspend

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[App]:
        """An app."""
        async with App(PostgresStore(self.url, poll=0.2), Options("default", b"k", self.always_suspend)) as app:
            yield app

    async def ask(self, sql: str) -> list[Any]:
        """What the database says, to somebody else."""
        connection = await asyncpg.connect(self.url)
        try:
            return [tuple(r) for r in await connection.fetch(sql)]
        finally:
            await connection.close()

    async def items(self) -> list[str]:
        """The orders that are committed."""
        return [item for (item,) in await self.ask("select item from orders order by id")]

    async def busy(self) -> int:
        """Connections that are inside of a transaction."""
        return len(await self.ask("select 1 from pg_stat_activity where datname = current_database() "
                                  "and state like 'idle in transaction%'"))  # fmt: skip


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[str]:
    """A migrated database with a table of the user's, for all tests of this file."""
    from flowbook.store.migrate import upgrade

    name = f"t{uuid4().hex[:16]}"
    url = make_url(database_url).set(database=name).render_as_string(hide_password=False)

    async def prepare() -> None:
        await Shop(database_url, always_suspend=False).ask(f"create database {name} template template0")
        await upgrade(url)
        async with Shop(url, always_suspend=False).opened() as app, fb.db.session(app) as session:
            await (await session.connection()).run_sync(Base.metadata.create_all)
            await session.commit()

    asyncio.run(prepare())
    yield url
    asyncio.run(Shop(database_url, always_suspend=False).ask(f"drop database {name} with (force)"))


@pytest.fixture
def shop(database: str, always_suspend: bool) -> Shop:
    """The database, with nothing in it."""
    shop = Shop(database, always_suspend=always_suspend)
    asyncio.run(shop.ask("truncate orders, flowbook.run, flowbook.journal, flowbook.mailbox restart identity cascade"))
    return shop


def scenario(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop of its own; no transaction may be left open by it."""

    def run(shop: Shop) -> None:
        async def whole() -> None:
            async with asyncio.timeout(60):
                await test(shop)
                assert await shop.busy() == 0

        asyncio.run(whole())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@step(transactional=True)
async def order(item: str, ctx: fb.Context) -> int:
    """One row, and its number."""
    made = Order(item=item, created_by="flow")
    ctx.session.add(made)
    await ctx.session.flush()
    return made.id


# ---------------------------------------------------------------------------------------------------------- together


@scenario
async def test_the_effect_and_the_checkpoint_of_a_step_are_one_commit(shop: Shop) -> None:
    """The same transaction has written both rows: Postgres itself says so."""
    async with shop.opened() as app:
        run = await app.start(graph("f", order), {"item": "tea"})
        assert (await run.result())["order"] == 1
        assert await shop.items() == ["tea"]
        same = (
            "select o.xmin = j.xmin from orders o, flowbook.journal j where j.path = 'order#1' and j.kind = 'finished'"
        )
        assert await shop.ask(same) == [(True,)]


@scenario
async def test_a_step_that_raises_leaves_nothing_and_is_tried_again(shop: Shop) -> None:
    """Its rows go with its transaction, also when a router behind it or its result is what fails."""
    tries: list[int] = []

    @step(transactional=True, retries=2, backoff=[0])
    async def shaky(ctx: fb.Context) -> Any:
        tries.append(ctx.attempt)
        ctx.session.add(Order(item=f"try {ctx.attempt}"))
        await ctx.session.flush()
        if ctx.attempt == 1:
            raise ValueError("no")
        return object() if ctx.attempt == 9 else {"n": ctx.attempt}

    def route(state: Any) -> bool:
        if state.n == 2:
            raise LookupError("not yet")
        return True

    async with shop.opened() as app:
        run = await app.start(graph("f", shaky >> branch(route, {True: END})))
        assert await run.result() == {"n": 3}
        assert tries == [1, 2, 3]
        assert await shop.items() == ["try 3"]


@scenario
async def test_what_the_database_says_at_the_commit_is_the_steps_failure(shop: Shop) -> None:
    """A deferred constraint speaks at COMMIT; then neither the row nor the checkpoint is there."""
    await shop.ask(
        "create table if not exists parts (item text references orders (item) deferrable initially deferred)"
    )

    @step(transactional=True)
    async def part(ctx: fb.Context) -> None:
        await ctx.session.execute(text("insert into parts values ('nothing')"))

    async with shop.opened() as app:
        run = await app.start(graph("f", part))
        with pytest.raises(IntegrityError, match="parts_item_fkey"):
            await run.result()
        assert await shop.ask("select * from parts") == []
        kinds = [k for (k,) in await shop.ask("select kind from flowbook.journal where kind <> 'started' order by seq")]
        assert kinds == ["attempt", "failed"]
        assert await (await app.start(graph("g", order), {"item": "next"})).result() == {"item": "next", "order": 1}


@scenario
async def test_siblings_and_transactions_share_one_journal_without_gaps(shop: Shop) -> None:
    """Ten transactional branches, quick ones beside them, and advisory rows of slow ones: numbered 1, 2, 3, ..."""

    @step(transactional=True)
    async def slow(ctx: fb.Context) -> str:
        ctx.session.add(Order(item=ctx.path))
        await ctx.session.flush()
        await asyncio.sleep(0.15)
        return ctx.path

    @step
    async def quick() -> int:
        await asyncio.sleep(0.12)
        return 1

    places = [s.as_(f"{s.name}_{i}") for i in range(6) for s in (slow, quick)]
    async with shop.opened() as app:
        flow = graph("f", step(name="begin")(lambda: None) >> places >> step(name="end")(lambda: None))
        runs = [await app.start(flow) for _ in range(1)]
        for run in runs:
            await run.result()
            numbers = await shop.ask(
                f"select array_agg(seq order by seq) from flowbook.journal where run_id = '{run.id}'"
            )
            assert numbers[0][0] == list(range(1, len(numbers[0][0]) + 1))
        assert len(await shop.items()) == 6


@scenario
async def test_items_of_a_map_may_be_transactional(shop: Shop) -> None:
    """Each is committed by itself; one that fails leaves nothing, and the others are kept."""

    @step(transactional=True)
    async def buy(item: str, ctx: fb.Context) -> str:
        ctx.session.add(Order(item=item))
        await ctx.session.flush()
        if item == "b":
            raise ValueError(item)
        return item

    async with shop.opened() as app:
        flow = graph("f", fb.map_(buy, over="items", into="bought", on_error="collect", concurrency=2))
        await (await app.start(flow, {"items": ["a", "b", "c"]})).result()
        assert sorted(await shop.items()) == ["a", "c"]


@scenario
async def test_more_transactions_than_connections_wait_for_one_another(shop: Shop) -> None:
    """They are a queue and no error."""
    async with shop.opened() as app:
        flow = graph("f", order)
        runs = [await app.start(flow, {"item": f"{i}"}) for i in range(3 * transactions_module.SESSIONS)]
        await asyncio.gather(*[r.result() for r in runs])
        assert len(await shop.items()) == len(runs)


@scenario
async def test_a_step_that_is_handed_out_may_write_its_request_in_the_same_transaction(shop: Shop) -> None:
    """An outbox: the request and the fact that it was handed out are there together."""
    tokens: list[str] = []

    @step(transactional=True)
    async def ask(ctx: fb.Context) -> None:
        tokens.append(ctx.hand_out())
        ctx.session.add(Order(item="request"))

    async with shop.opened() as app:
        run = await app.start(graph("f", ask))
        while await run.status() is not Status.WAITING:
            await asyncio.sleep(0.01)
        assert await shop.items() == ["request"]
        await app.complete(tokens[0], "done")
        assert await run.result() == {"ask": "done"}


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("ending", ["commit", "rollback", "close", "begin", "connection", "text"])
def test_the_transaction_of_a_step_is_not_its_own_to_end(shop: Shop, ending: str) -> None:
    """Each way is an error that says so, nothing of the step is left, and it is not tried again."""

    @step(transactional=True, retries=3)
    async def greedy(ctx: fb.Context) -> None:
        ctx.session.add(Order(item="mine"))
        match ending:
            case "connection":
                await (await ctx.session.connection()).commit()
            case "text":
                await ctx.session.execute(text("rollback"))
            case "begin":
                async with ctx.session.begin():
                    pass
            case _:
                await getattr(ctx.session, ending)()

    async def whole() -> None:
        async with shop.opened() as app:
            run = await app.start(graph("f", greedy))
            with pytest.raises(TransactionMisused, match="flowbook"):
                await run.result()
            assert len((await run.view()).steps[0].attempts) == 1
            assert await shop.items() == []
            assert await shop.busy() == 0

    asyncio.run(whole())


@scenario
async def test_a_savepoint_may_fail_by_itself(shop: Shop) -> None:
    """`begin_nested` is fine; an error that was swallowed without one is explained."""

    @step(transactional=True)
    async def careful(ctx: fb.Context) -> None:
        ctx.session.add(Order(item="one"))
        await ctx.session.flush()
        with pytest.raises(IntegrityError):
            async with ctx.session.begin_nested():
                ctx.session.add(Order(item="one"))
        async with ctx.session.begin_nested():
            ctx.session.add(Order(item="two"))

    @step(transactional=True)
    async def careless(ctx: fb.Context) -> None:
        with pytest.raises(Exception, match="nowhere"):
            await ctx.session.execute(text("select * from nowhere"))

    async with shop.opened() as app:
        await (await app.start(graph("f", careful))).result()
        assert await shop.items() == ["one", "two"]
        with pytest.raises(TransactionMisused, match="Postgres takes nothing more"):
            await (await app.start(graph("g", careless))).result()


@scenario
async def test_a_transaction_is_asked_for(shop: Shop) -> None:
    """`ctx.session` in any other step is an error that says what to write."""

    @step
    async def plain(ctx: fb.Context) -> None:
        await ctx.session.execute(text("select 1"))

    async with shop.opened() as app:
        with pytest.raises(DeclarationError, match=r"@step\(transactional=True\)"):
            await (await app.start(graph("f", plain))).result()


def test_transactional_steps_are_coroutines_that_run_once() -> None:
    """What cannot work is said where it is declared."""
    with pytest.raises(DeclarationError, match="make it `async def`"):
        step(transactional=True)(lambda: None)
    with pytest.raises(DeclarationError, match="is to be done once"):
        step(transactional=True, store="recompute")


def test_an_app_in_memory_has_no_transactions() -> None:
    """It says what to do, for the step, the start and the session alike."""

    async def whole() -> None:
        async with memory_app() as app:
            with pytest.raises(DeclarationError, match="connect to a database"):
                await (await app.start(graph("f", order), {"item": "x"})).result()
            with pytest.raises(DeclarationError, match="connect to a database"):
                await app.start(graph("f", order), {"item": "x"}, session=object())
            with pytest.raises(UsageError, match="no database"):
                async with fb.db.session(app):
                    pass

    asyncio.run(whole())


# ----------------------------------------------------------------------------------------------------- lost connections


@scenario
async def test_a_connection_that_is_cut_in_the_body_undoes_the_step_and_it_is_tried_again(shop: Shop) -> None:
    """Nobody's fault: it needs no retries of the step's own."""
    tries: list[int] = []

    @step(transactional=True)
    async def cut(ctx: fb.Context) -> int:
        tries.append(1)
        ctx.session.add(Order(item=f"try {len(tries)}"))
        await ctx.session.flush()
        if len(tries) == 1:
            pid = (await ctx.session.execute(text("select pg_backend_pid()"))).scalar_one()
            await shop.ask(f"select pg_terminate_backend({pid})")
            await ctx.session.execute(text("select 1"))
        return len(tries)

    async with shop.opened() as app:
        assert await (await app.start(graph("f", cut))).result() == {"cut": 2}
        assert await shop.items() == ["try 2"]


@pytest.mark.parametrize("committed", [True, False], ids=["it was carried out", "it was not"])
def test_a_commit_without_an_answer_is_looked_up(shop: Shop, committed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Carried out: the step is done and is not done again. Not carried out: it is done again, once."""
    cuts: list[int] = []
    commit = transactions_module.StepSession.commit

    async def cut(self: Any) -> None:
        if not cuts:
            cuts.append(1)
            raw = (await (await self.connection()).get_raw_connection()).driver_connection
            if committed:
                await raw.execute("COMMIT")
            raw.terminate()
        await commit(self)

    monkeypatch.setattr(transactions_module.StepSession, "commit", cut)
    tries: list[int] = []

    @step(transactional=True)
    async def once(ctx: fb.Context) -> int:
        tries.append(1)
        ctx.session.add(Order(item=f"try {len(tries)}"))
        return len(tries)

    async def whole() -> None:
        async with shop.opened() as app:
            n = 1 if committed else 2
            run = await app.start(graph("f", once >> step(name="end")(lambda: None)))
            assert (await run.result())["once"] == n
            assert await shop.items() == [f"try {n}"]
            assert len(tries) == n
            assert await shop.busy() == 0

    asyncio.run(whole())


@scenario
async def test_a_listener_that_raises_after_the_commit_undoes_nothing(shop: Shop) -> None:
    """The user's own hook on the session has spoken too late: what is committed is done, and is not done again."""

    @step(transactional=True, retries=3, backoff=[0])
    async def heard(ctx: fb.Context) -> int:
        def too_late(_: Any) -> None:
            raise ValueError("too late")

        event.listen(ctx.session.sync_session, "after_commit", too_late)
        ctx.session.add(Order(item=f"attempt {ctx.attempt}"))
        return ctx.attempt

    async with shop.opened() as app:
        assert await (await app.start(graph("f", heard))).result() == {"heard": 1}
        assert await shop.items() == ["attempt 1"]


@scenario
async def test_an_owner_that_was_replaced_commits_nothing(shop: Shop) -> None:
    """The fence stands before the COMMIT: what a buried process still does in its transaction is undone."""
    begun, go = asyncio.Event(), asyncio.Event()

    @step(transactional=True)
    async def slow(ctx: fb.Context) -> str:
        ctx.session.add(Order(item=f"attempt {ctx.attempt}"))
        await ctx.session.flush()
        if not begun.is_set():
            begun.set()
            await go.wait()
        return "done"

    async with shop.opened() as app:
        flow = graph("f", slow)
        run = await app.start(flow)
        await begun.wait()
        await shop.ask(
            "update flowbook.run set epoch = epoch + 1, status = 'pending', worker_id = null, "
            "due_at = now() + interval '1 hour'"  # or its next owner is this very process, a moment later
        )
        go.set()
        while app.engine.carries(run.id):
            await asyncio.sleep(0.01)
        assert await shop.items() == []
        again = await app.resume(run.id)
        assert await again.result() == {"slow": "done"}
        assert await shop.items() == ["attempt 1"]


@scenario
async def test_a_caller_that_is_cancelled_at_the_commit_leaves_it_to_come_to_its_end(shop: Shop) -> None:
    """Effect and checkpoint are there together: the session is not taken from under a commit that goes on."""
    waiting, go = asyncio.Event(), asyncio.Event()

    async with shop.opened() as app:
        store = app.store
        assert isinstance(store, PostgresStore)
        gate = wait("go")
        run = await app.start(graph("f", gate))
        row = await store.run(run.id)
        while app.engine.carries(run.id):
            await asyncio.sleep(0.01)
        (row,) = await store.claim(frozenset({row.fingerprint}), only=run.id)
        await store.history(run.id)
        transaction = await store.transaction()
        transaction.session.add(Order(item="kept"))
        flush = transaction.session.flush

        async def held(*args: Any) -> None:
            waiting.set()
            await go.wait()
            await flush(*args)

        transaction.session.flush = held
        entry = to_entry(StepStarted("x#1", 1))
        call = asyncio.create_task(store.append(run.id, row.epoch, [entry], transaction))
        await waiting.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go.set()
        # Not by the absence of transactions: its own has yet to begin.
        while "x#1" not in [e.path for e in await store.history(run.id)]:
            await asyncio.sleep(0.01)
        assert await shop.items() == ["kept"]


@scenario
async def test_a_cancel_undoes_what_is_under_way(shop: Shop) -> None:
    """The connection goes back, without a row."""
    begun = asyncio.Event()

    @step(transactional=True)
    async def slow(ctx: fb.Context) -> None:
        ctx.session.add(Order(item="never"))
        await ctx.session.flush()
        begun.set()
        await asyncio.sleep(60)

    async with shop.opened() as app:
        run = await app.start(graph("f", slow))
        await begun.wait()
        await run.cancel()
        with pytest.raises(Exception, match="cancelled"):
            await run.result()
        assert await shop.items() == []
        assert await shop.busy() == 0


# ------------------------------------------------------------------------------------- starts inside of a user's own


@scenario
async def test_a_start_inside_of_a_transaction_is_there_when_that_is_committed(shop: Shop) -> None:
    """Not before, and it is carried on here then."""
    async with shop.opened() as app:
        flow = graph("f", order)
        async with fb.db.session(app) as session, session.begin():
            session.add(Order(item="of the user"))
            run = await app.start(flow, {"item": "of the flow"}, session=session)
            await asyncio.sleep(0.3)
            with pytest.raises(RunNotFound):
                await run.status()
        assert (await run.result(timeout=20))["item"] == "of the flow"
        assert await shop.items() == ["of the user", "of the flow"]


@scenario
async def test_a_start_inside_of_a_transaction_that_is_rolled_back_never_was(shop: Shop) -> None:
    """Nor does a savepoint around it make it one; the key is free again."""
    async with shop.opened() as app:
        flow = graph("f", order)
        async with fb.db.session(app) as session:
            async with session.begin_nested():
                run = await app.start(flow, {"item": "x"}, key="k", session=session)
            await session.rollback()
        await asyncio.sleep(0.3)
        with pytest.raises(RunNotFound):
            await run.status()
        assert await shop.ask("select * from flowbook.run") == []
        assert (await (await app.start(flow, {"item": "y"}, key="k")).result())["item"] == "y"


@scenario
async def test_a_key_that_is_taken_is_taken_in_a_transaction_too(shop: Shop) -> None:
    """The run that has it is what the start gives; another input under it is refused."""
    async with shop.opened() as app:
        flow = graph("f", order)
        first = await app.start(flow, {"item": "x"}, key="k")
        await first.result()
        async with fb.db.session(app) as session:
            assert (await app.start(flow, {"item": "x"}, key="k", session=session)).id == first.id
            with pytest.raises(KeyConflict):
                await app.start(flow, {"item": "z"}, key="k", session=session)


@scenario
async def test_a_transactional_step_starts_a_run_exactly_once(shop: Shop) -> None:
    """Its own session is a session as any: the started run is there if and only if the step is done."""
    started: list[Any] = []

    async with shop.opened() as app:
        other = graph("other", order)

        @step(transactional=True, retries=1, backoff=[0])
        async def spawn(ctx: fb.Context) -> str:
            run = await app.start(other, {"item": f"attempt {ctx.attempt}"}, session=ctx.session)
            started.append(run)
            if ctx.attempt == 1:
                raise ValueError("once")
            return str(run.id)

        await (await app.start(graph("f", spawn))).result()
        assert (await started[1].result(timeout=20))["item"] == "attempt 2"
        assert await shop.items() == ["attempt 2"]
        assert await shop.ask("select count(*) from flowbook.run where flow = 'other'") == [(1,)]


# ------------------------------------------------------------------------------------------------------------- models


@scenario
async def test_mixins_keep_when_and_by_whom_by_the_databases_clock(shop: Shop) -> None:
    """created_at stays, updated_at moves with each change, and both are the database's."""
    async with shop.opened() as app, fb.db.session(app) as session:
        made = Order(item="tea", created_by="ana")
        session.add(made)
        await session.commit()
        await session.refresh(made)
        now = (await session.execute(select(func.now()))).scalar_one()
        assert made.created_at == made.updated_at < now
        await session.commit()
        made.updated_by = "bob"
        await session.commit()
        await session.refresh(made)
        assert made.created_at < made.updated_at
        assert (made.created_by, made.updated_by) == ("ana", "bob")


def test_models_and_sessions_are_loaded_by_nobody_else() -> None:
    """`import flowbook` stays light (tests/unit/test_import.py); `fb.db` is the module itself."""
    import flowbook.db

    assert fb.db is flowbook.db
    assert set(fb.db.__all__) == {"Audit", "Base", "Created", "Updated", "session"}
