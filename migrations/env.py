"""Alembic's door: opens a connection and runs the migrations on it.

Owns: the transaction, the lock that makes racing processes migrate once, and where the version table lives.
Refuses: deciding whether to migrate (`flowbook/store/migrate.py`).

By hand, for development: ``alembic -c migrations/alembic.ini -x url=postgresql://... upgrade head``.
"""

from __future__ import annotations

import asyncio

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from flowbook.store.tables import SCHEMA, metadata

LOCK = 0x666C6F77  # "flow": the advisory lock of everybody who migrates


def migrate(connection: Connection) -> None:
    """Everything in one transaction: a migration that fails leaves nothing behind."""
    connection.execute(text(f"select pg_advisory_xact_lock({LOCK})"))
    connection.execute(text(f"create schema if not exists {SCHEMA}"))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()


async def alone(url: str) -> None:
    """Open a connection and migrate on it."""
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url))
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


asyncio.run(alone(context.config.attributes.get("url") or context.get_x_argument(as_dictionary=True)["url"]))
