"""Bringing the schema up to date.

Owns: knowing which schema this library works with, the quick look at each start, and running Alembic when the look
says so. Refuses: Alembic on the hot path (0.4 s of imports): it is loaded only when there is something to migrate.

Several processes that meet an empty database migrate it once: Alembic runs under an advisory lock, and who comes
second finds nothing to do. The migrations lie in ``flowbook/migrations`` of an installed wheel and in ``migrations/``
of a source tree.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from flowbook.errors import SchemaMismatch
from flowbook.store.driver import Connection
from flowbook.store.retrying import Line
from flowbook.store.statements import SCHEMA_VERSION

if TYPE_CHECKING:
    from alembic.config import Config

KNOWN: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011")
"""Revisions that this library knows, oldest first. A test holds it to the files."""
HEAD: Final = KNOWN[-1]


async def ensure(url: str, connection: Connection | None = None) -> None:
    """Make the schema what this library needs: one statement when it already is.

    Args:
        url: The database.
        connection: One that is open already, to save opening another for the look.

    Raises:
        SchemaMismatch: The schema is newer than this library.
        StoreUnavailable: The database cannot be reached.
    """
    version = await current(url, connection)
    if version == HEAD:
        return
    if version is not None and version not in KNOWN:
        raise SchemaMismatch(
            f"the database's flowbook schema is at revision {version!r}, this library knows up to {HEAD!r}: "
            "a newer flowbook has been here. Upgrade flowbook in this environment and restart the kernel"
        )
    await upgrade(url)


async def current(url: str, connection: Connection | None = None) -> str | None:
    """The revision that the database is at; None: there is no flowbook schema yet."""
    if connection is None:
        line = Line(url, "migrate")
        try:
            return await current(url, await line.reach(patience=10.0))
        finally:
            await line.close()
    try:
        version: str | None = await connection.fetchval(SCHEMA_VERSION)
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return None
    return version


async def upgrade(url: str, revision: str = "head") -> None:
    """Run the migrations up to ``revision``, under the lock."""
    from alembic import command

    await _with_alembic(url, lambda config: command.upgrade(config, revision))


async def downgrade(url: str, revision: str) -> None:
    """Run the migrations back to ``revision`` (``base``: nothing left). Loses what the older schema cannot hold."""
    from alembic import command

    await _with_alembic(url, lambda config: command.downgrade(config, revision))


def location() -> Path:
    """The folder of the migrations, in a wheel or in a source tree."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise SchemaMismatch("this installation of flowbook has no migrations: install it again")


def configuration() -> Config:
    """Alembic's configuration, without a file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(location()).replace("%", "%%"))
    return config


_ALEMBIC: Final = threading.Lock()
"""Alembic's context is one global per process, so two threads take turns."""


async def _with_alembic(url: str, task: Callable[[Config], object]) -> None:
    """Run one of Alembic's commands in a thread of its own: its door opens a loop, and its imports take a while."""

    def run() -> None:
        with _ALEMBIC:
            config = configuration()
            config.attributes["url"] = url
            task(config)

    await asyncio.to_thread(run)
