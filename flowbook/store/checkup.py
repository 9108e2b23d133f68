"""A look at a database, as a doctor has it: what flowbook needs of it, and what stands in the way.

Owns: the questions, and what the answers mean. Refuses: changing anything: it migrates nothing and enlists nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg

from flowbook.errors import StoreUnavailable
from flowbook.ports import Finding
from flowbook.store import migrate
from flowbook.store.driver import Connection, Statement, connect
from flowbook.store.url import masked

OLDEST, NEWEST = 15, 18
"""Major releases of Postgres that the tests run on."""
CLOCK: Final = 5.0
"""Seconds that this machine's clock may differ from the database's."""
TABLES: Final = ("run", "journal", "mailbox", "worker", "definition", "blob", "chunk", "snapshot", "output")

SERVER: Final = Statement(
    "checkup server",
    """
    select current_setting('server_version_num')::int / 10000 as major, current_user::text as role,
           pg_backend_pid() as pid, clock_timestamp() as now, pg_is_in_recovery() as standby,
           current_setting('default_transaction_read_only') = 'on' as read_only,
           has_database_privilege(current_database(), 'CREATE') as may_create,
           coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as ssl,
           current_setting('max_connections')::int as connections,
           (select count(*) from pg_stat_activity where backend_type = 'client backend') as used
    """,
    "All that is asked of the server itself.",
)
RIGHTS: Final = Statement(
    "checkup rights",
    """
    select has_schema_privilege('flowbook', 'USAGE') as usage,
           array(select t from unnest($1::text[]) t
                 where to_regclass('flowbook.' || t) is not null and exists (
                     select from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) verb
                     where not has_table_privilege('flowbook.' || t, verb))) as missing,
           (select nspowner = (select oid from pg_roles where rolname = current_user)
            from pg_namespace where nspname = 'flowbook') as owner
    """,
    "What the role may do with flowbook's tables.",
    fresh=True,
)
RUNS: Final = Statement(
    "checkup runs",
    """
    select (select count(*) from flowbook.worker where alive_until > now()) as workers,
           array(select r.id::text from flowbook.run r where r.status = 'running' and not exists (
               select from flowbook.worker w where w.id = r.worker_id and w.alive_until > now()) limit 11) as stuck,
           (select count(*) from flowbook.run where status = 'pending' and due_at < now() - interval '1 minute') as late
    """,
    "Who is there, and which runs are carried by nobody.",
    fresh=True,
)
UNFINISHED: Final = Statement(
    "checkup code",
    """
    select d.namespace, d.flow, d.version, d.fingerprint, d.spec, d.sources, d.signature
    from flowbook.definition d where exists (
        select from flowbook.run r where r.namespace = d.namespace and r.flow = d.flow
          and r.fingerprint = d.fingerprint and r.status in ('pending', 'running', 'waiting'))
    order by 1, 2, 3 limit 200
    """,
    "The code that unfinished runs need.",
    fresh=True,
)


async def examine(url: str) -> AsyncIterator[Finding]:
    """What there is to say about a database, one thing after the other. Raises nothing of the database's."""
    try:
        connection = await connect(url, name="doctor", patience=10.0)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, StoreUnavailable) as error:
        told = f"{masked(url)} does not answer: {error or type(error).__name__}"
        yield Finding("database", "fail", told, "start it, or mend the URL; `flowbook db status` says where it is from")
        return
    try:
        async for finding in _server(connection):
            yield finding
        try:
            revision = await migrate.current(url, connection)
        except asyncpg.InsufficientPrivilegeError:
            yield _rights({"usage": False, "missing": []})
            return
        yield _schema(revision)
        if revision is None:
            return
        rights = (await connection.fetch(RIGHTS, list(TABLES)))[0]
        yield _rights(rights)
        if revision == migrate.HEAD and rights["usage"] and not rights["missing"]:
            yield _runs((await connection.fetch(RUNS))[0])
    finally:
        await connection.close()


async def unfinished(url: str) -> list[dict[str, Any]]:
    """The definitions that unfinished runs are pinned to; none where they cannot be read."""
    try:
        connection = await connect(url, name="doctor", patience=10.0)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return []
    try:
        return [dict(record) for record in await connection.fetch(UNFINISHED)]
    except asyncpg.PostgresError:
        return []
    finally:
        await connection.close()


async def _server(connection: Connection) -> AsyncIterator[Finding]:
    before = datetime.now(UTC)
    found = (await connection.fetch(SERVER))[0]
    off = abs((found["now"] - before).total_seconds())
    yield Finding("database", "ok", f"it answers role {found['role']!r}{', encrypted' if found['ssl'] else ''}", "")
    if OLDEST <= found["major"] <= NEWEST:
        yield Finding("version", "ok", f"Postgres {found['major']}", "")
    else:
        told = f"Postgres {found['major']}; flowbook is tested on {OLDEST} to {NEWEST}"
        old = found["major"] < OLDEST
        yield Finding("version", "fail" if old else "warn", told, f"use Postgres {OLDEST} to {NEWEST}")
    if found["standby"] or found["read_only"]:
        yield Finding(
            "writing", "fail", "it is read-only: a standby, or default_transaction_read_only", "name the primary"
        )
    else:
        yield Finding("writing", "ok", "it takes writes", "")
    if connection.backend_pid != found["pid"]:
        yield Finding(
            "connection", "warn", "a pooler stands between: session locks and LISTEN may not work through it",
            "use a direct connection, or a pooler in session mode; with transaction mode deaths are noticed by lease",
        )  # fmt: skip
    else:
        yield Finding("connection", "ok", "direct, or pooled by session", "")
    if found["used"] > 0.9 * found["connections"]:
        told = f"{found['used']} of {found['connections']} connections are taken"
        yield Finding("connections", "warn", told, "raise max_connections: a process of flowbook's has up to ten")
    else:
        yield Finding("connections", "ok", f"{found['used']} of {found['connections']} are taken", "")
    if off > CLOCK:
        told = f"this machine's clock is {off:,.0f} s off the database's"
        yield Finding("clock", "warn", told, "set it by NTP: durable times are the database's, logs are not")
    else:
        yield Finding("clock", "ok", "this machine's and the database's agree", "")


def _schema(revision: str | None) -> Finding:
    if revision is None:
        return Finding("schema", "warn", "there is none yet", "the first connection makes it, or `flowbook db upgrade`")
    if revision == migrate.HEAD:
        return Finding("schema", "ok", f"at {revision}", "")
    if revision in migrate.KNOWN:
        return Finding("schema", "warn", f"at {revision}, this flowbook has {migrate.HEAD}", "flowbook db upgrade")
    return Finding("schema", "fail", f"at {revision}, which this flowbook does not know", "upgrade flowbook here")


def _rights(found: Any) -> Finding:
    if not found["usage"] or found["missing"]:
        told = f"this role may not use {', '.join(found['missing']) or 'the schema'}"
        grant = "grant usage on schema flowbook to ROLE; grant select, insert, update, delete on all tables in schema"
        return Finding("rights", "fail", told, f"as the owner: {grant} flowbook to ROLE")
    if not found["owner"]:
        return Finding("rights", "ok", "it may work; another role owns the schema, and upgrades it", "")
    return Finding("rights", "ok", "it owns the schema", "")


def _runs(found: Any) -> Finding:
    if found["stuck"]:
        count = f"{len(found['stuck'])}" if len(found["stuck"]) < 11 else "more than 10"
        told = f"{count} running without a live process: {', '.join(found['stuck'][:3])}"
        return Finding(
            "runs", "warn", told, "flowbook resume RUN, or start a worker: one that looks finds them in a minute"
        )
    told = f"{found['workers']} live processes; {found['late']} runs have been due for a minute"
    if found["late"]:
        return Finding("runs", "warn", told, "start workers of their queues: `flowbook worker --queues ...`")
    return Finding("runs", "ok", told, "")
