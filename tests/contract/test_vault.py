"""Every vault keeps pieces of checkpoints alike."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from flowbook.codec import encode
from flowbook.errors import StoreUnavailable
from flowbook.namespace.manifest import digests
from flowbook.namespace.saving import identity
from flowbook.namespace.steps import Kept, Restored
from flowbook.namespace.vault import MemoryVault, Vault, digest
from flowbook.store.migrate import upgrade
from flowbook.store.vault import PostgresVault
from tests.contract.test_gc import over
from tests.contract.worlds import PostgresWorld, outcome, own
from tests.unit.namespace.notebooks import Notebook
from tests.unit.namespace.test_steps import Session


@pytest.fixture(params=["memory", "postgres"])
def vault(request: pytest.FixtureRequest) -> Iterator[Vault]:
    """An empty vault."""
    if request.param == "memory":
        yield MemoryVault()
        return
    url = request.getfixturevalue("fresh_database")
    asyncio.run(upgrade(url))
    made = PostgresVault(url)
    yield made
    made.close()


def test_pieces_are_had_back_by_their_digests(vault: Vault) -> None:
    """Empty ones and large ones too; what is not there is left out."""
    data = [b"", b"one", b"\x00" * 5_000_000]
    pieces = {digest(d): d for d in data}
    gone = digest(b"gone")
    assert vault.has(pieces) == set()
    vault.put(pieces)
    assert vault.has([*pieces, gone]) == set(pieces)
    assert vault.get([*pieces, gone]) == pieces
    assert (vault.has([]), vault.get([])) == (set(), {})


def test_a_piece_that_is_there_may_be_put_again(vault: Vault) -> None:
    """By any number of threads at once."""
    pieces = {digest(bytes([n])): bytes([n]) for n in range(20)}
    threads = [threading.Thread(target=vault.put, args=(pieces,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert vault.get(pieces) == pieces


def test_a_vault_that_was_closed_says_so(fresh_database: str) -> None:
    """And not that the piece is gone."""
    vault = PostgresVault(fresh_database)
    vault.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        vault.has([b"x"])


def test_gc_leaves_what_a_cell_has_kept_until_its_run_goes(fresh_database: str) -> None:
    """The cell's row names the manifest, the manifest its pieces; a `%%step` has a record of its own."""
    asyncio.run(upgrade(fresh_database))
    vault = PostgresVault(fresh_database)
    try:
        manifest = Notebook(vault).run("text = 'x' * 100_000").manifest
        assert isinstance(Session(vault).step("other = 'y' * 100_000"), Kept)
        pieces = {*digests(manifest), identity(manifest)}
        assert len(pieces) > 1

        async def swept() -> None:
            world = PostgresWorld(fresh_database)
            store = await world.worker()
            try:
                row = await own(store)
                kept = {"memory": {"checkpoint": identity(manifest).hex()}}
                await store.append(row.id, row.epoch, [outcome("cell_1#1", encode(kept))])
                await store.housekeeping.gc(0.0, unused=0.0)
                assert vault.has(pieces) == pieces
                await over(store, row)
                for _ in range(2):  # a manifest, then what it named
                    await store.housekeeping.gc(0.0, unused=0.0)
            finally:
                await world.close()

        asyncio.run(swept())
        assert vault.has(pieces) == set()
        assert isinstance(Session(vault).step("other = 'y' * 100_000"), Restored)
    finally:
        vault.close()
