"""The inbox: what waits for somebody, across runs, on every store."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from flowbook.app import App, Options
from flowbook.graph.expression import END_NODE as END
from flowbook.graph.flow import graph
from flowbook.graph.imperative import flow as imperative
from flowbook.graph.pause import sleep, wait, wait_any
from flowbook.graph.step import step
from flowbook.plan.records import Status
from flowbook.run.context import Context
from tests.contract.worlds import PostgresWorld, World, eventually, scenario


class Approval(BaseModel):
    """What a yes says."""

    amount: int


@step
def draft() -> dict[str, Any]:
    """Asks."""
    return {"question": "Publish it?", "text": "hello"}


async def waits(app: App, *runs: Any) -> None:
    """Until these are parked."""

    async def parked() -> bool:
        return all([(await run.status()) is Status.WAITING for run in runs])

    await eventually(parked)


@scenario
async def test_the_inbox_has_what_waits_for_somebody_and_nothing_else(world: World) -> None:
    """Pauses, calls of bodies and handed-out steps; nothing that sleeps, was decided, or is another namespace's."""

    @step
    def review(ctx: Context) -> None:
        ctx.hand_out()

    @imperative
    async def order(ctx: Context) -> Any:
        return await ctx.wait("paid", timeout="2h")

    gate = graph("gate", draft >> wait_any({"approved": END, "rejected": END}, schema=Approval))
    async with App(await world.worker(), Options()) as app, App(await world.worker(), Options("b")) as other:
        runs = {
            "gate": await app.start(gate, key="k", metadata={"org": "a"}),
            "order": await app.start(order),
            "review": await app.start(graph("review", review)),
            "both": await app.start(graph("both", [wait("a"), sleep("1h", name="nap")])),
        }
        asleep = await app.start(graph("asleep", sleep("1h")))
        elsewhere = await other.start(graph("elsewhere", wait("a")))
        await waits(app, *runs.values(), asleep)
        await waits(other, elsewhere)
        found = {it.flow: it for it in await app.inbox()}
        assert [it.flow for it in await app.inbox()] == ["both", "review", "order", "gate"]
        it = found["gate"]
        assert (it.run_id, it.path, it.signals) == (runs["gate"].id, "approved_or_rejected#1", ("approved", "rejected"))
        assert (it.yes, it.no, it.key, it.metadata) == ("approved", "rejected", "k", {"org": "a"})
        assert (it.about, it.question, it.value["text"]) == ("draft#1", "Publish it?", "hello")
        assert it.since
        assert it.schemas["approved"]["required"] == ["amount"]
        assert (found["order"].path, found["order"].yes, found["order"].no) == ("order#1/paid#1", "paid", None)
        assert found["order"].due_at
        assert (found["review"].handed_out, found["review"].yes, found["review"].no) == (True, "complete", "fail")
        assert found["both"].path == "a#1"
        assert [it.flow for it in await other.inbox()] == ["elsewhere"]
        assert [it.flow for it in await app.inbox(flow="order")] == ["order"]
        assert [it.flow for it in await app.inbox(limit=2)] == ["both", "review"]
        await runs["gate"].approve(amount=3)
        await runs["review"].reject("review", "no")
        await runs["order"].cancel()
        await runs["gate"].result()

        async def decided() -> bool:
            return [it.flow for it in await app.inbox()] == ["both"]

        await eventually(decided)


@scenario
async def test_the_inbox_outlives_who_carried_the_runs(world: World) -> None:
    """A process that closes, or dies, leaves its runs to nobody; what they ask is still there, and who has answered."""
    gate = graph("gate", draft >> wait("approved"))
    store = await world.worker()
    app = App(store, Options())
    await app.__aenter__()
    run = await app.start(gate)
    await waits(app, run)
    busy = await app.start(graph("busy", wait("now") >> wait("later")))
    await waits(app, busy)
    await app.store.claim(frozenset({(await store.run(busy.id)).fingerprint}), only=busy.id)  # somebody has it
    async with App(await world.worker(), Options()) as other:
        assert {it.flow for it in await other.inbox()} == {"gate", "busy"}
        await world.kill(store)
        await other.store.claim(frozenset({"none"}), only=busy.id)

        assert {it.flow for it in await other.inbox()} == {"gate", "busy"}
        await other.approve(run.id, by="ana")
        it = next(it for it in await other.inbox() if it.flow == "gate")
        assert (it.answered_by, it.schemas) == ("ana", {})
        assert it.answered_at
    app.engine._loop and app.engine._loop.cancel()


@scenario
async def test_sleeping_runs_cost_the_inbox_nothing(postgres: PostgresWorld) -> None:
    """10,000 of them, and as many that are over: the question reads a handful of pages and not their journals."""
    async with App(await postgres.worker(), Options()) as app:
        run = await app.start(graph("gate", draft >> wait("approved")))
        nap = await app.start(graph("nap", sleep("1h")))
        await waits(app, run, nap)
        connection = await postgres.sql()
        try:
            for status in ("waiting", "completed"):
                await connection.execute(
                    """
                    insert into flowbook.run (id, namespace, flow, version, fingerprint, status, input, input_digest,
                                              due_at, claims)
                    select gen_random_uuid(), 'default', 'nap', 1, 'x', $1, '', '', 'infinity', 1
                    from generate_series(1, 10000)
                    """,
                    status,
                )
            await connection.execute(
                """
                insert into flowbook.journal (run_id, seq, epoch, kind, path, attempt, payload)
                select id, 1, 1, 'waiting', 'nap#1', 1, '' from flowbook.run where fingerprint = 'x'
                """
            )
            await connection.execute("analyze flowbook.run; analyze flowbook.journal")
            from flowbook.store.inbox_statements import ASKED

            plan = await connection.fetchval(
                f"explain (analyze, buffers, format json) {ASKED.sql}", "default", None, None, 100
            )
        finally:
            await connection.close()
        import json

        top = json.loads(plan)[0]["Plan"]
        assert top["Actual Rows"] == 1
        assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] < 60, plan
        assert [it.path for it in await app.inbox()] == ["approved#1"]
