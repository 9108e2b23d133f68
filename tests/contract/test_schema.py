"""The schema: the migrations make exactly what tables.py says, forwards, backwards, and once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import asyncpg
import pytest

from flowbook.errors import SchemaMismatch
from flowbook.store import migrate
from flowbook.store.driver import Phase, connect, set_tap
from flowbook.store.postgres import PostgresStore


def test_the_migrations_make_the_tables_that_tables_py_describes(fresh_database: str) -> None:
    """Alembic finds nothing to add, drop or alter."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy.ext.asyncio import create_async_engine

    from flowbook.store.tables import SCHEMA, metadata

    def compare(connection: Any) -> list[Any]:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_schemas": True,
                "version_table_schema": SCHEMA,
                "include_name": lambda name, kind, _parents: kind != "schema" or name == SCHEMA,
            },
        )
        return list(compare_metadata(context, metadata))

    async def whole() -> list[Any]:
        await migrate.ensure(fresh_database)
        engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(fresh_database))
        async with engine.connect() as connection:
            found: list[Any] = await connection.run_sync(compare)
        await engine.dispose()
        return found

    assert asyncio.run(whole()) == []


def test_indexes_and_checks_are_as_described(fresh_database: str) -> None:
    """What Alembic does not compare: predicates, checks, storage. Both ways of making the schema give the same."""
    from sqlalchemy.ext.asyncio import create_async_engine

    from flowbook.store.tables import metadata

    described = """
        select 'index', indexname, indexdef from pg_indexes
        where schemaname = 'flowbook' and tablename <> 'alembic_version'
        union all
        select 'constraint', conname, pg_get_constraintdef(c.oid)
        from pg_constraint c join pg_namespace n on n.oid = connamespace
        where nspname = 'flowbook' and conname not like 'alembic%'
        union all
        select 'options', relname, array_to_string(reloptions, ',')
        from pg_class r join pg_namespace n on n.oid = relnamespace
        where nspname = 'flowbook' and relkind = 'r' and relname <> 'alembic_version'
        order by 1, 2
    """

    async def whole() -> tuple[list[Any], list[Any]]:
        connection = await asyncpg.connect(fresh_database)
        await migrate.ensure(fresh_database)
        migrated = [tuple(row) for row in await connection.fetch(described)]
        await connection.execute("drop schema flowbook cascade; create schema flowbook")
        engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(fresh_database))
        async with engine.begin() as made:
            await made.run_sync(metadata.create_all)
        await engine.dispose()
        created = [tuple(row) for row in await connection.fetch(described)]
        await connection.close()
        return migrated, created

    migrated, created = asyncio.run(whole())
    assert migrated == created
    assert len(migrated) > 20


def test_every_migration_goes_back_and_forth(fresh_database: str) -> None:
    """Up one, down one, up again, for each; and what this library knows is what the files are."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(migrate.configuration())
    revisions = [revision.revision for revision in reversed(list(script.walk_revisions()))]
    assert tuple(revisions) == migrate.KNOWN
    assert script.get_current_head() == migrate.HEAD

    async def whole() -> None:
        for before, revision in zip(["base", *revisions], revisions, strict=False):
            await migrate.upgrade(fresh_database, revision)
            assert await migrate.current(fresh_database) == revision
            await migrate.downgrade(fresh_database, before)
            await migrate.upgrade(fresh_database, revision)
        assert await migrate.current(fresh_database) == migrate.HEAD

    asyncio.run(whole())


def test_processes_that_race_on_an_empty_database_migrate_it_once(fresh_database: str) -> None:
    """Four at once: all of them open, none of them fails."""
    program = (
        "import asyncio, sys; from flowbook.store import migrate; asyncio.run(migrate.ensure(sys.argv[1])); "
        "print(asyncio.run(migrate.current(sys.argv[1])))"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", program, fresh_database], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    assert answers == [migrate.HEAD] * 4


def test_tasks_that_race_on_an_empty_database_migrate_it_once(fresh_database: str) -> None:
    """The same within one process, where Alembic has one global context."""

    async def whole() -> None:
        await asyncio.gather(*(migrate.ensure(fresh_database) for _ in range(4)))
        assert await migrate.current(fresh_database) == migrate.HEAD

    asyncio.run(whole())


def test_an_up_to_date_schema_costs_one_statement_and_no_import(fresh_database: str) -> None:
    """Opening a store on a migrated database loads neither Alembic nor SQLAlchemy."""
    program = (
        "import asyncio, sys; from flowbook.store.postgres import PostgresStore\n"
        "async def main():\n"
        "    store = PostgresStore(sys.argv[1]); await store.open(); await store.close()\n"
        "asyncio.run(main()); print(sorted({'alembic', 'sqlalchemy'} & set(sys.modules)))"
    )
    asyncio.run(migrate.ensure(fresh_database))
    names: list[str] = []

    def tap(name: str, phase: Phase) -> None:
        if phase == "sent":
            names.append(name)

    async def look() -> None:
        connection = await connect(fresh_database, name="test")
        set_tap(tap)
        try:
            await migrate.ensure(fresh_database, connection)
        finally:
            set_tap(None)
            await connection.close()

    asyncio.run(look())
    assert names == ["schema version"]
    answer = subprocess.run(
        [sys.executable, "-c", program, fresh_database], capture_output=True, text=True, timeout=60, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_a_newer_schema_is_refused_with_advice(fresh_database: str) -> None:
    """An older flowbook does not touch what a newer one has made."""

    async def whole() -> None:
        await migrate.ensure(fresh_database)
        connection = await asyncpg.connect(fresh_database)
        await connection.execute("update flowbook.alembic_version set version_num = '9999'")
        await connection.close()
        with pytest.raises(SchemaMismatch, match="Upgrade flowbook"):
            await migrate.ensure(fresh_database)
        store = PostgresStore(fresh_database)
        with pytest.raises(SchemaMismatch):
            await store.open()

    asyncio.run(whole())


COLUMNS = """
    select table_name::text, column_name::text, data_type::text, is_nullable = 'NO' as needed,
           column_default is not null as filled
    from information_schema.columns where table_schema = 'flowbook' and table_name <> 'alembic_version'
"""
RULES = """
    select conrelid::regclass::text, conname::text, pg_get_constraintdef(c.oid)
    from pg_constraint c join pg_namespace n on n.oid = connamespace
    where nspname = 'flowbook' and contype in ('c', 'f') and conname not like 'alembic%'
"""


def test_workers_of_the_release_before_go_on_while_the_schema_is_upgraded(fresh_database: str) -> None:
    """A migration takes nothing away that older statements name, asks for nothing that they do not give, and adds no
    rule that they may break: so whoever deploys upgrades first, and restarts workers afterwards.
    """
    released = "0005"

    async def whole() -> list[str]:
        broken: list[str] = []
        await migrate.upgrade(fresh_database, released)
        connection = await asyncpg.connect(fresh_database)
        for revision in migrate.KNOWN[migrate.KNOWN.index(released) + 1 :]:
            before = {(r[0], r[1]): r for r in await connection.fetch(COLUMNS)}
            rules = {tuple(r) for r in await connection.fetch(RULES)}
            await migrate.upgrade(fresh_database, revision)
            after = {(r[0], r[1]): r for r in await connection.fetch(COLUMNS)}
            tables = {table for table, _ in before}
            broken += [f"{revision}: {place} is gone" for place in before if place not in after]
            for place, column in after.items():
                was = before.get(place)
                if was is None and place[0] in tables and column["needed"] and not column["filled"]:
                    broken.append(f"{revision}: {place} is new and has to be given")
                if was is not None and (column["data_type"] != was["data_type"] or column["needed"] > was["needed"]):
                    broken.append(f"{revision}: {place} is another column now")
            fresh = {tuple(r) for r in await connection.fetch(RULES)} - rules
            broken += [f"{revision}: {rule}" for rule in fresh if rule[0].removeprefix("flowbook.") in tables]
        await connection.close()
        return broken

    # The tables of schedules were there, and nobody wrote into them before 0007.
    unused = ("'schedule'", "'fire'", "flowbook.schedule", "flowbook.fire", "'queue_slot'", "'cache_entry'")
    assert [b for b in asyncio.run(whole()) if not any(table in b for table in unused)] == []
