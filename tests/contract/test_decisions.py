"""Decisions: a mailbox takes one of each, whoever sends it and from wherever."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from uuid import uuid4

import pytest

from flowbook.app import App, Options
from flowbook.errors import AlreadyAnswered
from flowbook.graph.flow import graph
from flowbook.graph.pause import wait_any
from flowbook.graph.step import step
from flowbook.plan.records import Status
from tests.contract.worlds import PostgresWorld, World, complete, eventually, own, park, scenario

ANSWER = """
import asyncio, json, sys
from flowbook.connecting import connect
from flowbook.errors import AlreadyAnswered

async def main(url, run_id, by, verb):
    async with connect(url, env={}) as app:
        run = await app.run(run_id)
        print("ready", flush=True)
        sys.stdin.readline()
        try:
            said = await (run.approve(by=by) if verb == "approve" else run.reject(None, "no", by=by))
        except AlreadyAnswered as second:
            said = second.first
            print(json.dumps([False, said.by, said.signal, said.at is not None]))
        else:
            print(json.dumps([True, said.by, said.signal, said.at is not None]))

asyncio.run(main(*sys.argv[1:]))
"""


@scenario
async def test_a_token_is_taken_once(world: World) -> None:
    """The second delivery under it leaves no letter, no count and no gap."""
    store, other = await world.worker(), await world.worker()
    run, token = await own(store), uuid4()
    assert (await store.send(run.id, "decision", "gate#1 0", b"a", token=token)).mail == 1
    assert (await other.send(run.id, "decision", "gate#1 0", b"b", token=token)).mail == 1
    assert (await other.send(run.id, "signal", "go", b"c")).mail == 2
    assert [(m.id, m.payload) for m in await store.mailbox(run.id)] == [(1, b"a"), (2, b"c")]
    parked = await own(store)
    await store.settle(park(parked))
    await asyncio.gather(*(one.send(parked.id, "decision", "g#1 0", b"", token=token) for one in (store, other) * 10))
    assert [m.id for m in await other.mailbox(parked.id)] == [1]
    over = await own(store)
    await store.settle(complete(over))
    assert (await store.send(over.id, "decision", "g#1 0", b"", token=uuid4())).status is Status.COMPLETED
    assert list(await store.mailbox(over.id)) == []


def test_of_many_processes_that_answer_at_once_one_is_taken(postgres: PostgresWorld) -> None:
    """Six real processes let go at one moment: one decides, five are told by whom, and the run took that one."""

    @step
    def yes() -> dict[str, str]:
        return {"went": "approved"}

    @step
    def no() -> dict[str, str]:
        return {"went": "rejected"}

    async def whole() -> None:
        app = App(await postgres.worker(), Options())
        async with app:
            run = await app.start(graph("gate", wait_any({"approved": yes, "rejected": no})))

            async def waits() -> bool:
                return (await run.status()) is Status.WAITING

            await eventually(waits)
            people = [
                subprocess.Popen(
                    [sys.executable, "-c", ANSWER, postgres.url, str(run.id), f"p{n}", ("approve", "reject")[n % 2]],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
                for n in range(6)
            ]  # fmt: skip
            try:
                for one in people:
                    assert one.stdout
                    assert await asyncio.to_thread(one.stdout.readline) == "ready\n"
                for one in people:
                    assert one.stdin
                    one.stdin.write("go\n")
                    one.stdin.flush()
                said = [json.loads((await asyncio.to_thread(one.communicate, None, 30))[0]) for one in people]
            finally:
                for one in people:
                    one.kill()
                    one.wait()
            (first,) = [s for s in said if s[0]]
            assert {tuple(s[1:]) for s in said} == {(first[1], first[2], True)}
            assert (await run.result(20))["went"] == first[2]
            (letter,) = await app.store.mailbox(run.id)
            view = await run.view()
            assert [s.answered_by for s in view.steps if s.wait] == [first[1]]
            assert letter.kind == "decision"

    asyncio.run(whole())


@scenario
async def test_a_decision_outlives_the_process_that_read_it(world: World) -> None:
    """Whoever carries the run next takes it, and takes it once."""

    @step
    def yes() -> dict[str, str]:
        return {"went": "approved"}

    flow = graph("gate", wait_any({"approved": yes, "rejected": yes}))
    store = await world.worker()
    async with App(store, Options()) as app:
        run = await app.start(flow)

        async def waits() -> bool:
            return (await run.status()) is Status.WAITING

        await eventually(waits)
        run_id = run.id
    async with App(await world.worker(), Options()) as other:
        await other.approve(run_id, by="ana")  # its code is not known here
        with pytest.raises(AlreadyAnswered, match="by ana"):
            await other.reject(run_id, by="ben")
        await other.register(flow)
        await other.resume(run_id)
        result = await other.result(run_id, 20)
        assert result["went"] == "approved"
        assert (await other.view(run_id)).nodes["approved_or_rejected"].answered_by == "ana"
