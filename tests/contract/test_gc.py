"""Housekeeping: what goes, what stays, and that it may be interrupted and raced."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from flowbook.codec import digest, encode
from flowbook.errors import RunNotFound, Undecodable
from flowbook.plan.journal import Entry
from flowbook.plan.outputs import Output
from flowbook.plan.pieces import InPieces
from flowbook.ports import RunRow, Snapshot, Store
from tests.contract.test_children import child_of
from tests.contract.test_forks import fork
from tests.contract.worlds import PostgresWorld, World, complete, new, outcome, own, scenario

HOUR = 3600.0


async def over(store: Store, row: RunRow, *rows: Entry) -> RunRow:
    """A run with these rows, ended."""
    if rows:
        await store.append(row.id, row.epoch, rows)
    await store.settle(complete(row, (await store.run(row.id)).mail))
    return row


async def there(store: Store, *rows: RunRow) -> list[bool]:
    """Which of these runs are there."""
    found = []
    for row in rows:
        try:
            await store.run(row.id)
            found.append(True)
        except RunNotFound:
            found.append(False)
    return found


@scenario
async def test_a_run_goes_with_all_it_has_and_others_stay(world: World) -> None:
    """Over for long enough: gone. Under way, waiting, or over since a moment: untouched. A dry run only counts."""
    store = await world.worker()
    gone, live = await own(store, key="k"), await own(store)
    await store.send(gone.id, "signal", "x", b"mail")
    await store.snapshot(gone.id, gone.epoch, Snapshot(0, "t", b"snapshot"))
    await store.keep_outputs([Output(gone.id, "a#1", 1, 1, "stdout", b"printed", datetime.now(UTC))])
    await over(store, gone, outcome("a#1"), outcome("b#1"))
    assert (await store.housekeeping.gc(HOUR)).runs == 0
    counted = await store.housekeeping.gc(0, dry_run=True)
    assert await there(store, gone, live) == [True, True]
    swept = await store.housekeeping.gc(0)
    assert (swept.runs, swept.entries, swept.outputs) == (counted.runs, counted.entries, counted.outputs) == (1, 3, 1)
    assert swept.bytes == counted.bytes > 0
    assert (counted.dry_run, swept.dry_run) == (True, False)
    assert await there(store, gone, live) == [False, True]
    assert await store.outputs(gone.id) == []
    assert (await store.housekeeping.gc(0)).runs == 0
    assert (await store.start(new(key="k"))).created, "its key is free again"


@scenario
async def test_children_go_with_their_root_and_not_before_all_are_over(world: World) -> None:
    """A family is one: while one of it is under way, none of it goes."""
    store = await world.worker()
    root = await own(store)
    child = await child_of(store, root)
    grandchild = await child_of(store, child)
    await over(store, root)
    await over(store, child)
    assert (await store.housekeeping.gc(0)).runs == 0
    await over(store, grandchild)
    assert (await store.housekeeping.gc(0)).runs == 3
    assert await there(store, root, child, grandchild) == [False] * 3


@scenario
async def test_a_fork_keeps_what_it_reads_and_goes_first(world: World) -> None:
    """A parent stays while a fork of it, or of a child of it, is there; a line of forks goes as a whole."""
    store = await world.worker()
    root = await over(store, await own(store), outcome("a#1"))
    other = await own(store)
    child = await child_of(store, other)
    await over(store, child, outcome("a#1"))
    await over(store, other)
    first = await fork(store, root.id, 1)
    second = await fork(store, child.id, 1)
    assert (await store.housekeeping.gc(0)).runs == 0
    for row in (first, second):
        (own_,) = await store.claim(frozenset({row.fingerprint}), only=row.id)
        await over(store, own_)
    third = await fork(store, first.id, 0)
    assert (await store.housekeeping.gc(0, dry_run=True)).runs == 3
    assert (await store.housekeeping.gc(0)).runs == 3
    assert await there(store, root, first, third, other, child, second) == [True, True, True, False, False, False]
    (own_,) = await store.claim(frozenset({third.fingerprint}), only=third.id)
    await over(store, own_)
    assert (await store.housekeeping.gc(0, dry_run=True)).runs == 3
    assert (await store.housekeeping.gc(0)).runs == 3


@scenario
async def test_pieces_of_an_input_stay_as_long_as_a_run_has_them(world: World) -> None:
    """Two runs with the same long list share its pieces; they go with the second one."""
    store = await world.worker()
    piece = encode([1, 2, 3])
    name = await store.keep(piece)
    given = encode({"items": InPieces(3, len(piece), (name,))})
    rows = [await own(store, input=given, input_digest=digest(given)) for _ in range(2)]
    await over(store, rows[0])
    await over(store, rows[1])
    await store.housekeeping.gc(0)
    assert await there(store, *rows) == [False, False]
    assert await store.kept(name) == piece, "it was used a moment ago"
    row = await own(store, input=given, input_digest=digest(given))
    assert (await store.housekeeping.gc(0, unused=-1)).blobs == 0
    await over(store, row)
    swept = await store.housekeeping.gc(0, unused=-1)
    assert (swept.blobs, swept.blob_bytes) == (1, len(piece))
    with pytest.raises(Undecodable):
        await store.kept(name)


@scenario
async def test_large_values_go_when_nothing_refers_to_them(postgres: PostgresWorld) -> None:
    """Rows of a journal and outputs keep a blob; a shared one stays for the other run; one in use is stored again."""
    store = await postgres.worker()
    large = b"x" * 3_000_000
    one, two = await own(store), await own(store)
    await over(store, one, outcome("a#1", large))
    await store.append(two.id, two.epoch, [outcome("a#1", large), outcome("b#1", b"y" * 2_000_000)])
    assert (await store.housekeeping.gc(0, unused=-1)).blobs == 0
    assert await there(store, one) == [False]
    assert (await store.history(two.id))[0].payload == large
    await store.settle(complete(two))
    swept = await store.housekeeping.gc(0, unused=-1)
    assert (swept.blobs, swept.blob_bytes) == (2, 5_000_000)
    again = await own(store)
    await over(store, again, outcome("a#1", large))
    assert (await store.history(again.id))[0].payload == large


@scenario
async def test_nothing_is_left_behind_also_of_a_family_that_was_half_gone(postgres: PostgresWorld) -> None:
    """After a plug was pulled between two batches the next call finds the children; lost output goes as well."""
    store = await postgres.worker()
    root = await own(store)
    for number in range(230):
        child = await child_of(store, root, f"map#1[{number}]")
        await over(store, child, outcome("a#1"))
    await over(store, root)
    connection = await postgres.sql()
    for table in ("run where id", "journal where run_id", "mailbox where run_id"):  # the first batch, and no other
        await connection.execute(f"delete from flowbook.{table} = $1", root.id)
    await connection.execute(
        "insert into flowbook.output (run_id, path, attempt, n, at, kind, payload) "
        "values (gen_random_uuid(), 'a#1', 1, 1, now(), 'text', 'lost')"
    )
    swept = await store.housekeeping.gc(HOUR)
    assert (swept.runs, swept.entries) == (230, 460)
    for table in ("run", "journal", "mailbox", "output"):
        assert await connection.fetchval(f"select count(*) from flowbook.{table}") == 0
    await connection.close()


@scenario
async def test_two_sweepers_and_workers_race_without_harm(postgres: PostgresWorld) -> None:
    """What ends while it is swept is whole or gone; nobody waits for a lock of another, and no sweep counts twice."""
    store, other = await postgres.worker(), await postgres.worker()
    rows = [await own(store) for _ in range(300)]

    async def work() -> None:
        for row in rows:
            await over(store, row, outcome("a#1"), outcome("b#1"))

    async def sweep(by: Store) -> int:
        gone = 0
        while gone + sum(counts) < len(rows):
            counts.append((await by.housekeeping.gc(0)).runs)
            await asyncio.sleep(0.01)
        return gone

    counts: list[int] = []
    await asyncio.gather(work(), sweep(store), sweep(other))
    assert sum(counts) == len(rows)
    left = await store.housekeeping.gc(0)
    assert (left.runs, left.entries) == (0, 0)
    connection = await postgres.sql()
    assert await connection.fetchval("select count(*) from flowbook.journal") == 0
    await connection.close()


@scenario
async def test_a_run_that_is_locked_or_came_to_life_is_left_alone(postgres: PostgresWorld) -> None:
    """A retry that comes first wins; an open transaction on a row holds nobody up."""
    store = await postgres.worker()
    held, free = await own(store), await own(store)
    await over(store, held)
    await over(store, free)
    connection = await postgres.sql()
    async with connection.transaction():
        await connection.execute("select from flowbook.run where id = $1 for update", held.id)
        async with asyncio.timeout(10):
            assert (await store.housekeeping.gc(0)).runs == 1
    assert await there(store, held, free) == [True, False]
    await connection.close()


def test_every_table_with_rows_of_runs_is_swept() -> None:
    """Whoever adds a table with a `run_id` decides whether its rows go with their run."""
    from flowbook.store.gc_statements import BELONGS, LEFT
    from flowbook.store.tables import metadata

    known = {"schedule", "fire", "permit", "cache_entry"}  # they only mention a run
    found = {t.name for t in metadata.tables.values() if "run_id" in t.columns and t.name not in known}
    assert found == {*BELONGS, *LEFT}
