"""Transactions that a step's own effects and its checkpoint share.

Owns: the pool of the sessions that steps and users get, the order of a transactional step's end, and what is done when
the answer to its COMMIT is lost. Refuses: starts inside of a user's transaction (`starting.py`) and other appends
(`writer.py`); while one of these is under way, nothing else of its run is sent, and its rows get the next numbers as
any append's do (`parcels.py`, a work with a ``turn``).

    1  the body of the step runs in the session's transaction; nothing of the run is locked meanwhile
    2  what the session has not sent yet is sent; then the run waits for its turn in the journal
    3  fence and rows: the run's row is locked if the epoch is still ours, the journal's rows are inserted
    4  COMMIT, on the same connection: the effect and the checkpoint are there together, or neither is

An answer to 3 that is lost means that nothing was written: no COMMIT has been sent. After a COMMIT whose answer is lost
the run's row is locked once more, on another connection: whoever gets that lock knows that the transaction has ended,
and only then looks whether its rows are there. (A look without the lock would miss a COMMIT that is still on its way.)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from flowbook.errors import PathClash, StoreError, StoreUnavailable, TransactionLost, TransactionMisused
from flowbook.plan.journal import Entry
from flowbook.ports import Ack
from flowbook.store import flushes
from flowbook.store.driver import open_raw, went_away
from flowbook.store.flushes import Verdict
from flowbook.store.ledger import Ledger
from flowbook.store.parcels import Parcel
from flowbook.store.retrying import Line, pauses
from flowbook.store.rows import Line as JournalLine
from flowbook.store.transaction_statements import LOCKED

SESSIONS: Final = 10
"""Transactional steps of this process that run at once; the others wait for a connection."""

_OURS: Final = "flowbook"
"""Key in the ``info`` of a session and of a connection: whose they are."""


class _Guarded(Session):
    """A session whose transaction ends with its step and not before."""

    def _refuse(self, what: str) -> None:
        if not self.info.get(_OURS):
            raise TransactionMisused(
                f"{what} was called on ctx.session: its transaction is committed by flowbook, together with the step's "
                f"checkpoint, when the step returns, and undone when it raises. For a part that may fail by itself use "
                f"`async with ctx.session.begin_nested():`"
            )

    def commit(self) -> None:
        self._refuse("commit()")
        super().commit()

    def rollback(self) -> None:
        self._refuse("rollback()")
        super().rollback()

    def close(self) -> None:
        self._refuse("close()")
        super().close()

    def begin(self, nested: bool = False) -> Any:
        if not nested:
            self._refuse("begin()")
        return super().begin(nested)


class StepSession(AsyncSession):
    """What a transactional step has as ``ctx.session``."""

    sync_session_class = _Guarded


class StepTransaction:
    """One attempt's transaction. Ends exactly once, by `Transactions.commit` or `rollback`."""

    def __init__(self, session: StepSession, release: Callable[[], None]) -> None:
        self.session = session
        self._release: Callable[[], None] | None = release

    def explained(self, error: BaseException) -> BaseException:
        """The error of a body, or `TransactionLost` if it only means that the database went away under it."""
        if not is_loss(error):
            return error
        told = TransactionLost(
            "the connection of the step's transaction was lost, so everything that it had done there is undone"
        )
        told.__cause__ = error
        return told

    async def rollback(self) -> None:
        """Undo everything. Harmless when it has ended."""
        await asyncio.shield(self._end())

    async def _end(self) -> None:
        release, self._release = self._release, None
        if release is None:
            return
        try:
            self.session.info[_OURS] = True
            with contextlib.suppress(Exception):  # what cannot be rolled back any more is rolled back by the server
                await self.session.close()
        finally:
            release()


class Transactions:
    """The transactions of one process. Nothing is connected before the first one."""

    def __init__(self, url: str, ledger: Ledger) -> None:
        self._url = url
        self._ledger = ledger
        self._line = Line(url, "transactions")
        self._room = asyncio.Semaphore(SESSIONS)
        self._engine: AsyncEngine | None = None
        self._commits: set[asyncio.Task[Ack]] = set()
        self._closed = False

    @property
    def engine(self) -> AsyncEngine:
        """The pool; its connections have the session settings that the engine's promises rest on."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        if self._engine is None:
            self._engine = _pool(self._url)
        return self._engine

    def session(self) -> AsyncSession:
        """A session for whoever wants one; its transaction is theirs."""
        return AsyncSession(self.engine, expire_on_commit=False)

    async def begin(self) -> StepTransaction:
        """A transaction that has begun; waits for a free connection, and for a database that is away."""
        await self._room.acquire()
        try:
            for pause in pauses():
                session = StepSession(self.engine, expire_on_commit=False, autoflush=True)
                try:
                    connection = await session.connection()
                    (await connection.get_raw_connection()).info[_OURS] = session.info
                    return StepTransaction(session, self._room.release)
                except BaseException as error:
                    session.info[_OURS] = True
                    await session.close()
                    if not is_loss(error):
                        raise
                await asyncio.sleep(pause)
        except BaseException:
            self._room.release()
            raise
        raise AssertionError("pauses never end")

    async def commit(
        self,
        transaction: StepTransaction,
        run_id: UUID,
        epoch: int,
        entries: Sequence[Entry],
        lines: Sequence[JournalLine],
    ) -> Ack:
        """Write rows at the end of a journal, and end the transaction with them. Goes on if the caller is cancelled.

        Raises `Fenced`, `TransactionLost` if nothing of it is there and it may be tried again, and whatever the
        database says against what the step did; then nothing of it is there either.
        """
        committing = asyncio.create_task(self._commit(transaction, run_id, epoch, entries, lines))
        self._commits.add(committing)
        committing.add_done_callback(self._commits.discard)
        return await asyncio.shield(committing)

    async def close(self) -> None:
        """Let what is being committed come to its end, then disconnect."""
        if self._commits:
            await asyncio.wait(self._commits, timeout=5.0)
        for task in list(self._commits):
            task.cancel()
        self._closed = True
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()
        await self._line.close()

    # --------------------------------------------------------------------------------------------------- the end of one

    async def _commit(
        self,
        transaction: StepTransaction,
        run_id: UUID,
        epoch: int,
        entries: Sequence[Entry],
        lines: Sequence[JournalLine],
    ) -> Ack:
        try:
            await transaction.session.flush()
            turn, done = self._ledger.aside(run_id, epoch, entries, lines)
            parcel = await _turn(turn, done)
            if parcel is not None:
                try:
                    await self._finish(transaction, parcel)
                except BaseException as error:
                    self._fail(parcel, error)
            return await done
        except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise transaction.explained(error) from None
        finally:
            await transaction.rollback()

    async def _finish(self, transaction: StepTransaction, parcel: Parcel) -> None:
        session = transaction.session
        raw = (await (await session.connection()).get_raw_connection()).driver_connection
        if raw is None or raw.is_closed():
            raise asyncpg.InterfaceError("connection is closed")
        if not raw.is_in_transaction():
            raise TransactionMisused(
                "the transaction of the step was ended by a statement of its own (COMMIT or ROLLBACK): flowbook ends "
                "it, together with the step's checkpoint"
            )
        try:
            answer = await flushes.within(raw, parcel)
        except asyncpg.InFailedSQLTransactionError:
            raise TransactionMisused(
                "a statement of the step had failed, and it went on: Postgres takes nothing more in such a "
                "transaction. Let the error out, or put the statement into `async with ctx.session.begin_nested():`"
            ) from None
        except asyncpg.UniqueViolationError as error:
            raise PathClash(f"run {parcel.tail.run_id}: a path has its outcome already ({error.detail})") from error
        if answer.verdict is not Verdict.ACCEPTED:
            self._ledger.fence(parcel.tail)
            return
        assert answer.at is not None  # accepted rows have their time
        mail, at = answer.mail, answer.at
        try:
            session.info[_OURS] = True
            await session.commit()
        except BaseException:
            # A deferred constraint, a lost answer, or a listener of the user's that raised before or after it.
            if not raw.is_closed() and raw.is_in_transaction():
                raw.terminate()  # else we would wait for our own lock
            await transaction.rollback()
            found = await self._look(parcel)
            if found is None:
                raise
            mail, at = found
        if parcel.tail.parcel is parcel:  # else it was fenced meanwhile, and everybody has been told
            parcel.acknowledge(mail, at)
            if parcel.tail.works:
                self._ledger.offer(parcel.tail)

    async def _look(self, parcel: Parcel) -> tuple[int, Any] | None:
        """After a COMMIT without an answer: (mail, when) if it was carried out."""
        for pause in pauses():
            connection = await self._line.connection()
            try:
                records = await connection.fetch(LOCKED, parcel.tail.run_id)
                at = (await flushes.written(connection, (parcel,)))[parcel.tail.run_id]
            except Exception as error:
                if not went_away(error):
                    raise
                connection.abort()
            else:
                return None if at is None or not records else (records[0]["mail"], at)
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    def _fail(self, parcel: Parcel, error: BaseException) -> None:
        """Nothing of it is written: the numbers are free again."""
        if parcel.tail.parcel is not parcel:
            return
        if isinstance(error, asyncio.CancelledError):
            error = StoreUnavailable("the store is closed")
        parcel.fail(error if isinstance(error, Exception) else StoreError(f"the commit was stopped: {error!r}"))
        if parcel.tail.works:
            self._ledger.offer(parcel.tail)


async def _turn(turn: asyncio.Future[Parcel], done: asyncio.Future[Ack]) -> Parcel | None:
    """Wait until nothing else of the run is on its way; None: it is over for us, and ``done`` says why."""
    await asyncio.wait((turn, done), return_when=asyncio.FIRST_COMPLETED)
    return turn.result() if turn.done() and not done.done() else None


def is_loss(error: BaseException) -> bool:
    """True when an error of SQLAlchemy's or asyncpg's says only that the database, or the way to it, is gone."""
    if isinstance(error, DisconnectionError):
        return True
    if isinstance(error, DBAPIError):
        cause = error.orig.__cause__ if error.orig is not None else None
        return error.connection_invalidated or (cause is not None and went_away(cause))
    return isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | OSError) and went_away(error)


def _pool(url: str) -> AsyncEngine:
    async def connect() -> Any:
        return await open_raw(url, name="session")

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=connect, pool_size=SESSIONS, max_overflow=SESSIONS, pool_timeout=3600
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def _checkout(connection: Any, record: Any, _proxy: Any) -> None:
        """A connection that ended while it lay in the pool is replaced; asking each time would be a round trip."""
        record.info.pop(_OURS, None)
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    @event.listens_for(engine.sync_engine, "commit")
    def _commit(connection: Any) -> None:
        """The last door: ``(await ctx.session.connection()).commit()``."""
        info = connection.info.get(_OURS)
        if info is not None and not info.get(_OURS):
            raise TransactionMisused("commit() was called on the connection of ctx.session: flowbook commits it")

    return engine
