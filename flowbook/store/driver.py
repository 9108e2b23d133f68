"""One connection to Postgres: what the engine asks of asyncpg, and nothing more.

Owns: opening a connection with the session settings that the engine's promises rest on (also those that SQLAlchemy
holds), preparing each named statement once per connection, taking turns on a connection, the wire tap for crash tests,
and the list of errors that mean "the database went away". Refuses: SQL (the ``statements`` files), trying again
(`retrying.py`), pools: asyncpg's reset at each release costs 2.3 times the statement itself, so connections are held.

The wire tap: `set_tap` installs one callable for the process. It hears the name of every statement three times:
``before`` it is written to the socket, after it was ``sent`` (and before anything of the answer is read), and when
it was ``replied`` to. A test kills the process, the server or the connection at exactly one of these moments.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal

import asyncpg

from flowbook import secret

Phase = Literal["before", "sent", "replied"]
Tap = Callable[[str, Phase], None]
Record = Any
"""An asyncpg record: fields by name and by place."""

SESSION: Final[dict[str, str]] = {
    "application_name": "flowbook",
    # Off lost 125 of 36,082 acknowledged writes in eight crashes; a role or a database may have it off by default.
    "synchronous_commit": "on",
    # SKIP LOCKED and the re-check of a changed row mean what statements.py says only under this level.
    "default_transaction_isolation": "read committed",
    # Limits that an administrator meant for people's queries must not cut an append short.
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # Statements are short and repeated: compiling them costs more than they do.
    "jit": "off",
}
KEEPING: Final[dict[str, str]] = {
    # For a connection that sends the same few statements for ever. Making a plan costs more than a small flush does;
    "plan_cache_mode": "force_generic_plan",
    # and a plan that is kept must not be one for a table that was small when it was made.
    "enable_seqscan": "off",
}

GONE_STATES: Final = frozenset(
    {
        "57P01",  # admin_shutdown: also what pg_terminate_backend says
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now: starting up, shutting down, in recovery
        "57P05",  # idle_session_timeout
        "25006",  # read_only_sql_transaction: this server became a standby at a fail-over
        "25P03",  # idle_in_transaction_session_timeout
        "57014",  # query_canceled: an administrator's pg_cancel_backend; nothing was written
        "40001",  # serialization_failure and
        "40P01",  # deadlock_detected: the server undid the statement and asks for it again
        "58030",  # io_error
    }
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with a name to be counted by and the reason that it looks as it does."""

    name: str
    sql: str
    why: str
    fresh: bool = False
    """True: planned at each execution. For rare statements that join arrays: a plan that is kept takes every array for
    ten elements long."""


_tap: Tap | None = None


def set_tap(tap: Tap | None) -> None:
    """Let ``tap`` hear of every statement of this process from now on; None: nobody."""
    global _tap  # noqa: PLW0603  the tap belongs to the process: connections are made deep inside the stores
    _tap = tap


def went_away(error: BaseException) -> bool:
    """True when an error says nothing about the statement, only about the database or the way to it.

    Besides lost connections these are the classes 08 (connection) and 53 (no slots, memory or disk left): what has
    been computed is worth waiting for an administrator.
    """
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state in GONE_STATES or state.startswith(("08", "53"))
    if isinstance(error, asyncpg.InterfaceError):
        text = str(error)
        return "closed" in text or "closing" in text
    # Refused, reset, unreachable, no such socket yet, an answer that never came: all of them are OSError.
    return isinstance(error, OSError | asyncio.TimeoutError | asyncio.IncompleteReadError | asyncpg.InternalClientError)


async def connect(
    url: str, *, name: str, on_lost: Callable[[], None] | None = None, patience: float = 10.0, keeping: bool = False
) -> Connection:
    """Open a connection.

    Args:
        url: ``postgresql://...`` as libpq understands it.
        name: What the connection is for; shown in ``pg_stat_activity`` as ``flowbook <name>``.
        on_lost: Called once, on this loop, when the connection ends without `Connection.close`.
        patience: Seconds until the attempt is given up.
        keeping: Each statement is planned once (`KEEPING`).

    Raises:
        OSError, asyncio.TimeoutError, asyncpg.PostgresError: as they come; `went_away` tells which may pass by.
    """
    settings = {**SESSION, **(KEEPING if keeping else {}), "application_name": f"flowbook {name}"}
    raw = await asyncpg.connect(url, timeout=patience, server_settings=settings)
    return Connection(raw, name, on_lost)


async def open_raw(url: str, *, name: str, patience: float = 10.0) -> Any:
    """A connection for SQLAlchemy to hold, with the same session settings; a tap hears of its statements as well.

    They are called ``session <first word>``. Raises as `connect` does.
    """
    settings = {**SESSION, "application_name": f"flowbook {name}"}
    kind = asyncpg.Connection if _tap is None else _TappedConnection
    return await asyncpg.connect(url, timeout=patience, server_settings=settings, connection_class=kind)


class Connection:
    """A held connection. Its statements go one after the other; several tasks may ask at once."""

    def __init__(self, raw: Any, name: str, on_lost: Callable[[], None] | None) -> None:
        self.name = name
        self._raw = raw
        self._on_lost = on_lost
        self._turn = asyncio.Lock()
        self._prepared: dict[str, Any] = {}
        raw.add_termination_listener(self._terminated)

    @property
    def is_closed(self) -> bool:
        """True when the connection is gone, by whatever cause."""
        return bool(self._raw.is_closed())

    @property
    def backend_pid(self) -> int:
        """The process id of the server's side."""
        return int(self._raw.get_server_pid())

    @property
    def server_version(self) -> tuple[int, int]:
        """Major and minor version of the server."""
        version = self._raw.get_server_version()
        return int(version.major), int(version.minor)

    async def fetch(self, statement: Statement, *args: Any) -> list[Record]:
        """All rows of a statement."""
        if secret.known:
            args = secret.redacted(args)  # the last door: whatever was not seen before
        async with self._turn:
            prepared = self._prepared.get(statement.name) or await self._prepare(statement)
            try:
                if _tap is None:
                    return await prepared.fetch(*args)  # type: ignore[no-any-return]
                return await _tapped(statement.name, prepared.fetch(*args))  # type: ignore[no-any-return]
            except AttributeError as error:
                # asyncpg's own: the connection was hung up on this side between our look and its.
                if self.is_closed:
                    raise asyncpg.InterfaceError("connection is closed") from error
                raise
            except (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError):
                # Somebody altered a table since: the server refused to run the plan, so nothing has happened yet.
                prepared = await self._prepare(statement)
                return await prepared.fetch(*args)  # type: ignore[no-any-return]

    async def fetchrow(self, statement: Statement, *args: Any) -> Record | None:
        """The first row, or None."""
        rows = await self.fetch(statement, *args)
        return rows[0] if rows else None

    async def fetchval(self, statement: Statement, *args: Any) -> Any:
        """The first column of the first row, or None."""
        rows = await self.fetch(statement, *args)
        return rows[0][0] if rows else None

    async def execute(self, statement: Statement, *args: Any) -> None:
        """Run a statement for its effect. Without arguments it is not prepared, so it may be any command."""
        if args:
            await self.fetch(statement, *args)
            return
        async with self._turn:
            if _tap is None:
                await self._raw.execute(statement.sql)
            else:
                await _tapped(statement.name, self._raw.execute(statement.sql))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction: its statements go through what is given, and nobody else's come between."""
        async with self._turn:
            within = Connection(self._raw, self.name, None)
            within._prepared = self._prepared
            try:
                async with self._raw.transaction():
                    yield within
            finally:
                within._let_go()

    def _let_go(self) -> None:
        self._raw.remove_termination_listener(self._terminated)

    async def listen(self, channel: str, callback: Callable[[str], None]) -> None:
        """Call back with the payload of each notification on ``channel``."""

        def heard(_raw: Any, _pid: int, _channel: str, payload: str) -> None:
            callback(payload)

        async with self._turn:
            if _tap is None:
                await self._raw.add_listener(channel, heard)
            else:
                await _tapped("listen", self._raw.add_listener(channel, heard))

    async def close(self, patience: float = 2.0) -> None:
        """Say goodbye; after ``patience`` seconds hang up. Never raises."""
        self._on_lost = None
        try:
            await self._raw.close(timeout=patience)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._raw.terminate()

    def abort(self) -> None:
        """Hang up at once, without a word to the server."""
        self._on_lost = None
        self._raw.terminate()

    async def _prepare(self, statement: Statement) -> Any:
        if not statement.fresh:
            prepared = await self._raw.prepare(statement.sql)
        else:
            # Unnamed, and marked so that asyncpg sends its text with each execution, as it does behind PgBouncer.
            prepared = await self._raw.prepare(statement.sql, name="")
            prepared._state.mark_unprepared()
        self._prepared[statement.name] = prepared
        return prepared

    def _terminated(self, _raw: Any) -> None:
        self._prepared.clear()
        if self._on_lost is not None:
            self._on_lost()


class _TappedConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """As SQLAlchemy uses one: commands, prepared statements, and our own through `fetch`."""

    __slots__ = ()

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        return await _tapped(_named(query), super().execute(query, *args, timeout=timeout))

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        return await _tapped(_named(query), super().fetch(query, *args, **options))

    async def executemany(self, command: str, args: Any, **options: Any) -> Any:
        return await _tapped(_named(command), super().executemany(command, args, **options))

    async def prepare(self, query: str, **options: Any) -> Any:
        return _TappedStatement(await super().prepare(query, **options), _named(query))


class _TappedStatement:
    """A prepared statement whose executions are heard of."""

    def __init__(self, inner: Any, name: str) -> None:
        self._inner, self._name = inner, name

    async def fetch(self, *args: Any, **options: Any) -> Any:
        return await _tapped(self._name, self._inner.fetch(*args, **options))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _named(query: str) -> str:
    return "session " + query.split(maxsplit=1)[0].rstrip(";").lower()


async def _tapped(name: str, call: Coroutine[Any, Any, Any]) -> Any:
    """Run one statement and tell the tap.

    asyncpg writes the whole message in the first step of its coroutine, so a task that has run once has sent it;
    the answer cannot have been read before the loop has turned.
    """
    tap = _tap
    assert tap is not None  # the callers have looked
    try:
        tap(name, "before")
    except BaseException:
        call.close()
        raise
    task = asyncio.ensure_future(call)
    try:
        await asyncio.sleep(0)
        tap(name, "sent")
    finally:
        answer = await task
    tap(name, "replied")
    return answer
