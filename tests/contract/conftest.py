"""One contract, every store: how a test gets workers on a common database.

Owns: the fixture `world`, parametrised over the stores, and the decorator that runs an async scenario.
Refuses: scenarios (they are in the `test_*` modules).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.worlds import MemoryWorld, PostgresWorld, World


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """An empty database that workers can be made on."""
    if request.param == "memory":
        yield MemoryWorld()
    else:
        yield PostgresWorld(request.getfixturevalue("fresh_database"))


@pytest.fixture
def postgres(fresh_database: str) -> PostgresWorld:
    """The same, for what only Postgres can show."""
    return PostgresWorld(fresh_database)
