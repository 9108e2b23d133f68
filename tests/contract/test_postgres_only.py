"""What only a real database can get wrong: locks, lost answers, statements counted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from flowbook.errors import PayloadTooLarge, StoreError
from flowbook.plan.records import Status
from flowbook.plan.streamed import Chunk
from flowbook.ports import RunRow
from flowbook.store import blobs, driver
from flowbook.store.driver import Phase, set_tap
from flowbook.store.postgres import PostgresStore
from tests.contract.worlds import (
    CODE,
    PostgresWorld,
    complete,
    eventually,
    journal,
    new,
    outcome,
    own,
    park,
    scenario,
    started,
)


@pytest.fixture(autouse=True)
def _no_tap() -> Iterator[None]:
    yield
    set_tap(None)


class Count:
    """A tap that counts statements by name."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()

    def __call__(self, name: str, phase: Phase) -> None:
        if phase == "sent":
            self.names[name] += 1


@scenario
async def test_a_chain_of_steps_costs_one_statement_each(postgres: PostgresWorld) -> None:
    """Advisory rows and all: a hundred steps, a hundred statements."""
    store = await postgres.worker()
    run = await own(store)
    await store.append(run.id, run.epoch, [outcome("warm#1")])
    count = Count()
    set_tap(count)
    for n in range(1, 101):
        store.note(run.id, run.epoch, started(f"a#{n}"))
        await store.append(run.id, run.epoch, [outcome(f"a#{n}")])
    set_tap(None)
    assert count.names["append one"] == 100
    assert sum(n for name, n in count.names.items() if name.startswith(("append", "settle", "start"))) == 100


@scenario
async def test_many_runs_share_statements(postgres: PostgresWorld) -> None:
    """A hundred runs that append at once go out together."""
    store = await postgres.worker()
    runs = await asyncio.gather(*(own(store) for _ in range(100)))
    count = Count()
    set_tap(count)
    await asyncio.gather(*(store.append(run.id, 1, [outcome("a#1")]) for run in runs))
    await asyncio.gather(*(store.settle(complete(run)) for run in runs))
    # The first to come may go alone; the others have gathered meanwhile.
    assert count.names["append one"] + count.names["append"] <= 2
    assert count.names["settle"] <= 2


@scenario
async def test_a_users_open_transaction_delays_only_the_run_that_it_locks(postgres: PostgresWorld) -> None:
    """Four hundred others go on at once; the one goes on when the lock is gone; nothing spins meanwhile."""
    store = await postgres.worker()
    runs = await asyncio.gather(*(own(store) for _ in range(50)))
    locked = runs[7]
    user = await postgres.sql()
    async with user.transaction():
        await user.execute("select 1 from flowbook.run where id = $1 for update", locked.id)
        slow = asyncio.ensure_future(store.append(locked.id, 1, [outcome("a#1")]))
        others = [run for run in runs if run is not locked]
        for n in (1, 2, 3):
            before = time.perf_counter()
            await asyncio.gather(*(store.append(run.id, 1, [outcome(f"a#{n}")]) for run in others))
            assert time.perf_counter() - before < 0.5
        await asyncio.sleep(0.3)
        count = Count()
        set_tap(count)
        await asyncio.sleep(2.0)
        set_tap(None)
        assert sum(n for name, n in count.names.items() if name.startswith("append")) <= 12
        assert not slow.done()
        await store.append(others[0].id, 1, [outcome("b#1")])
    await asyncio.wait_for(slow, 3)
    assert await journal(store, locked.id) == [(1, "finished", "a#1")]
    await user.close()


@scenario
async def test_a_settlement_waits_for_a_locked_row_too(postgres: PostgresWorld) -> None:
    """And so do several, each for its own lock."""
    store = await postgres.worker()
    runs = await asyncio.gather(*(own(store) for _ in range(3)))
    user = await postgres.sql()
    async with user.transaction():
        await user.execute("select 1 from flowbook.run where id = any($1) for update", [run.id for run in runs[:2]])
        slow = [asyncio.ensure_future(store.settle(complete(run))) for run in runs[:2]]
        assert await store.settle(complete(runs[2]))
        await asyncio.sleep(0.7)
        assert not any(task.done() for task in slow)
    assert await asyncio.wait_for(asyncio.gather(*slow), 3) == [True, True]
    await user.close()


@scenario
async def test_batches_in_opposite_order_do_not_deadlock(postgres: PostgresWorld) -> None:
    """Two sessions lock the same rows from both ends while the store appends to all of them."""
    store = await postgres.worker()
    runs = await asyncio.gather(*(own(store) for _ in range(40)))
    user = await postgres.sql()
    over = False

    async def meddle() -> None:
        while not over:
            async with user.transaction():
                for run in reversed(runs[::4]):
                    await user.execute("select 1 from flowbook.run where id = $1 for no key update", run.id)

    meddler = asyncio.ensure_future(meddle())
    for n in range(1, 21):
        await asyncio.gather(*(store.append(run.id, 1, [outcome(f"a#{n}")]) for run in runs))
    over = True
    await meddler
    for run in runs[:8]:
        assert [seq for seq, _, _ in await journal(store, run.id)] == list(range(1, 21))
    await user.close()


@scenario
async def test_starts_with_the_same_keys_in_opposite_order_do_not_deadlock(postgres: PostgresWorld) -> None:
    """Two processes insert the same fifty keys; each key makes one run."""
    one, two = await postgres.worker(), await postgres.worker()
    for turn in range(5):
        keys = [f"k{turn}-{n}" for n in range(50)]
        answers = await asyncio.gather(
            *(one.start(new(key=key)) for key in keys), *(two.start(new(key=key)) for key in reversed(keys))
        )
        assert sum(answer.created for answer in answers) == 50


@scenario
async def test_a_poison_row_hurts_only_its_run(postgres: PostgresWorld) -> None:
    """A path that Postgres cannot store fails its append; everything that went out with it is written."""
    store = await postgres.worker()
    runs = await asyncio.gather(*(own(store) for _ in range(30)))
    results = await asyncio.gather(
        *(store.append(run.id, 1, [outcome("bad\x00#1" if n == 13 else "a#1")]) for n, run in enumerate(runs)),
        return_exceptions=True,
    )
    assert [n for n, result in enumerate(results) if isinstance(result, BaseException)] == [13]
    assert isinstance(results[13], StoreError)
    assert (await store.append(runs[13].id, 1, [outcome("a#1")])).seq == 1


@scenario
async def test_a_poison_advisory_row_hurts_nobody(postgres: PostgresWorld) -> None:
    """It is dropped; the result that it rode with is written."""
    store = await postgres.worker()
    run = await own(store)
    store.note(run.id, 1, started("bad\x00#1"))
    assert (await store.append(run.id, 1, [outcome("a#1")])).seq == 1
    assert await journal(store, run.id) == [(1, "finished", "a#1")]


@scenario
async def test_a_poison_start_hurts_only_itself(postgres: PostgresWorld) -> None:
    """Others that are inserted with it are there."""
    store = await postgres.worker()
    results = await asyncio.gather(
        *(store.start(new(key="bad\x00" if n == 5 else f"k{n}")) for n in range(12)), return_exceptions=True
    )
    assert [n for n, result in enumerate(results) if isinstance(result, BaseException)] == [5]


@scenario
async def test_connections_that_drop_lose_nothing_and_write_nothing_twice(postgres: PostgresWorld) -> None:
    """Every session of the database is terminated again and again while twenty runs go their way."""
    store, other = await postgres.worker(), await postgres.worker()
    user = await postgres.sql()
    over = False
    kills = 0

    async def terminate() -> None:
        nonlocal kills
        pause = 0.03
        while not over:
            await asyncio.sleep(pause)
            asked = time.monotonic()
            kills += await user.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name in "
                "('flowbook writer', 'flowbook reader', 'flowbook patience') and datname = current_database()"
            )
            # Where a connection took longer to make than to lose, nothing could be learned.
            pause = max(0.03, 10 * (time.monotonic() - asked))

    async def live(n: int) -> RunRow:
        answer = await store.start(new(key=f"k{n}"))
        assert answer.created
        run = answer.row
        for step in range(1, 31):
            store.note(run.id, 1, started(f"a#{step}"))
            ack = await store.append(run.id, 1, [outcome(f"a#{step}")])
            assert ack.seq == step
            if step % 10 == 0:
                await other.send(run.id, "signal", str(step), b"")
        assert not await store.settle(complete(run, seen=2))
        assert await store.settle(complete(run, seen=3))
        return run

    terminator = asyncio.ensure_future(terminate())
    runs = await asyncio.gather(*(live(n) for n in range(20)))
    over = True
    await terminator
    assert kills > 10
    for run in runs:
        rows = await journal(store, run.id)
        assert rows == [*((n, "finished", f"a#{n}") for n in range(1, 31)), (31, "completed", "")]
        assert [mail.id for mail in await store.mailbox(run.id)] == [1, 2, 3]
        assert (await store.run(run.id)).status is Status.COMPLETED
    await user.close()


@pytest.mark.parametrize("phase", ["before", "sent", "replied"])
@pytest.mark.parametrize("name", ["start", "append one", "append", "settle", "send", "claim"])
def test_an_answer_lost_at_any_moment_changes_nothing(fresh_database: str, name: str, phase: Phase) -> None:
    """Cut the connection at exactly one moment of each statement that writes."""
    _cut(postgres=PostgresWorld(fresh_database), name=name, phase=phase)


@scenario
async def _cut(postgres: PostgresWorld, name: str, phase: Phase) -> None:
    store, other = await postgres.worker(), await postgres.worker()
    cuts = 0

    def cut(statement: str, moment: Phase) -> None:
        nonlocal cuts
        if cuts == 0 and statement == name and moment == phase:
            cuts += 1
            for line in (store._writer._line, store._line, other._line):
                if name in {"start", "append one", "append", "settle"} and line is not store._writer._line:
                    continue
                connection = line.live
                if connection is not None:
                    connection._raw.terminate()

    set_tap(cut)
    answers = await asyncio.gather(store.start(new(key="k")), store.start(new(key="other")))
    run, second = (answer.row for answer in answers)
    assert all(answer.created for answer in answers)
    assert (await store.append(run.id, 1, [outcome("a#1")])).seq == 1
    acks = await asyncio.gather(
        store.append(run.id, 1, [outcome("b#1"), outcome("c#1")]), store.append(second.id, 1, [outcome("a#1")])
    )
    assert [ack.seq for ack in acks] == [3, 1]
    assert (await store.send(run.id, "signal", "go", b"")).mail == 1
    assert await store.settle(park(run, seen=1, due_in=0.0))
    (mine,) = await store.claim(CODE)
    assert (mine.id, mine.epoch) == (run.id, 2)
    assert (await store.append(run.id, 2, [outcome("d#1")])).seq == 4
    assert await store.settle(complete(mine, seen=1))
    set_tap(None)
    assert cuts == 1
    rows = await journal(other, run.id)
    assert [path for _, _, path in rows] == ["a#1", "b#1", "c#1", "d#1", ""]
    assert [seq for seq, _, _ in rows] == [1, 2, 3, 4, 5]
    assert len(await other.mailbox(run.id)) == 1
    assert (await other.run(run.id)).claims == 2


@scenario
async def test_a_claim_whose_caller_is_cancelled_is_not_lost(postgres: PostgresWorld) -> None:
    """The next claim of this worker gets the run; it would be owned and never run otherwise."""
    store = await postgres.worker()
    run = (await store.start(new(claim=False))).row
    caught = asyncio.Event()

    def tap(name: str, phase: Phase) -> None:
        if name == "claim" and phase == "sent":
            caught.set()

    set_tap(tap)
    claiming = asyncio.ensure_future(store.claim(CODE))
    await caught.wait()
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming

    async def claimed() -> bool:
        return [row.id for row in await store.claim(CODE)] == [run.id]

    await eventually(claimed)


@scenario
async def test_a_start_whose_caller_is_cancelled_is_handed_back(postgres: PostgresWorld) -> None:
    """Nobody runs it here, so anybody may."""
    store, other = await postgres.worker(), await postgres.worker()
    asked = new()
    starting = asyncio.ensure_future(store.start(asked))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    async def claimed() -> bool:
        return [row.id for row in await other.claim(CODE)] == [asked.id]

    await eventually(claimed)


@scenario
async def test_an_altered_table_does_not_stop_the_writer(postgres: PostgresWorld) -> None:
    """A migration under a running worker makes its prepared plans stale; it prepares them anew."""
    store = await postgres.worker()
    run = await own(store)
    await store.append(run.id, 1, [outcome("a#1")])
    user = await postgres.sql()
    await user.execute("alter table flowbook.journal add column later text; alter table flowbook.run add column l int")
    await store.append(run.id, 1, [outcome("b#1")])
    assert (await store.run(run.id)).id == run.id
    assert await store.settle(complete(run))
    await user.close()


@scenario
async def test_a_payload_beyond_the_limit_is_refused_by_name(
    postgres: PostgresWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written; the message says which step and what to do."""
    store = await postgres.worker()
    run = await own(store)
    monkeypatch.setattr(blobs, "TOO_LARGE", 2_000_000)
    with pytest.raises(PayloadTooLarge, match=r"big#1"):
        await store.append(run.id, 1, [outcome("a#1"), outcome("big#1", b"x" * 2_000_001)])
    assert await journal(store, run.id) == []


@scenario
async def test_equal_large_payloads_are_stored_once(postgres: PostgresWorld) -> None:
    """By the digest of their bytes, across runs."""
    store = await postgres.worker()
    payload = b"x" * 1_500_000
    for _ in range(3):
        run = await own(store)
        await store.append(run.id, 1, [outcome("a#1", payload)])
    user = await postgres.sql()
    assert await user.fetchval("select count(*) from flowbook.blob") == 1
    assert await user.fetchval("select max(length(payload)) from flowbook.journal") == 32
    await user.close()


@scenario
async def test_the_session_is_durable_whatever_the_role_says(postgres: PostgresWorld) -> None:
    """An acknowledged step is on the disk even where somebody has turned synchronous_commit off."""
    user = await postgres.sql()
    await user.execute(
        "do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$"
    )
    store = await postgres.worker()
    show = driver.Statement("show", "show synchronous_commit", "")
    connection = store._writer._line.live
    assert connection is not None
    assert await connection.fetchval(show) == "on"
    await user.close()


@scenario
async def test_a_store_closes_at_once_with_a_locked_run(postgres: PostgresWorld) -> None:
    """It gives up after its few seconds, and says so to whoever waits."""
    store = PostgresStore(postgres.url)
    await store.open()
    run = await own(store)
    user = await postgres.sql()
    async with user.transaction():
        await user.execute("select 1 from flowbook.run where id = $1 for update", run.id)
        slow = asyncio.ensure_future(store.append(run.id, 1, [outcome("a#1")]))
        await asyncio.sleep(0.2)
        before = time.perf_counter()
        await store.close()
        assert time.perf_counter() - before < 10
        with pytest.raises(StoreError):
            await slow
    await user.close()


@scenario
async def test_an_append_whose_caller_is_cancelled_is_written_once(postgres: PostgresWorld) -> None:
    """At whatever moment: the run's next append goes on after it, and nothing is there twice."""
    store = await postgres.worker()
    run = await own(store)
    await store.append(run.id, 1, [outcome("warm#1")])
    for n in range(30):
        appending = asyncio.ensure_future(store.append(run.id, 1, [outcome(f"a#{n}")]))
        await asyncio.sleep(n * 0.0001)
        appending.cancel()
        await asyncio.wait((appending,))
        await store.append(run.id, 1, [outcome(f"b#{n}")])
    rows = await journal(store, run.id)
    assert [seq for seq, _, _ in rows] == list(range(1, 62))
    assert [path for _, _, path in rows[1:]] == [f"{letter}#{n}" for n in range(30) for letter in "ab"]


@scenario
async def test_a_row_that_somebody_else_put_into_a_journal_is_told_loudly(postgres: PostgresWorld) -> None:
    """The single writer was not single: the append fails by name, other runs do not notice, and the run can go on."""
    store = await postgres.worker()
    run, other = await own(store), await own(store)
    await store.append(run.id, 1, [outcome("a#1")])
    user = await postgres.sql()
    await user.execute(
        "insert into flowbook.journal (run_id, seq, epoch, kind, path, payload) values ($1, 2, 0, 'cancel', '', '')",
        run.id,
    )
    results = await asyncio.gather(
        store.append(other.id, 1, [outcome("a#1")]),
        store.append(run.id, 1, [outcome("b#1")]),
        return_exceptions=True,
    )
    assert [type(result).__name__ for result in results] == ["Ack", "PathClash"]
    assert (await store.append(run.id, 1, [outcome("b#1")])).seq == 3
    await user.close()


@scenario
async def test_text_that_a_process_has_left_is_swept_up_by_the_next_one_that_streams(postgres: PostgresWorld) -> None:
    """That of paths with an outcome and of runs that are over, a minute later; what is under way stays."""
    store, other = await postgres.worker(), await postgres.worker()
    over, going = await own(store), await own(store)

    def said(run: RunRow, n: int, path: str) -> Chunk:
        first = run.epoch << 32
        return Chunk(run.id, first + n, first + n, path, 1, "text", b"x")

    await store.write_chunks([said(over, 0, "a#1"), said(going, 0, "a#1"), said(going, 1, "b#1")])
    await store.append(going.id, going.epoch, [outcome("a#1")])
    await store.settle(complete(over))
    sql = await postgres.sql()
    await sql.execute("update flowbook.chunk set at = at - interval '2 minutes'")
    await other.write_chunks([said(going, 2, "nobody's")])
    left = await sql.fetch("select run_id, path from flowbook.chunk order by n")
    await sql.close()
    assert [(r["run_id"], r["path"]) for r in left] == [(going.id, "b#1"), (going.id, "nobody's")]
