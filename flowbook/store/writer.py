"""The single writer of a process: starts, appends and settlements of all its runs, grouped.

Owns: one connection, the order of flushes, what is done about each verdict, sending again after a lost answer, and
finding the run that a refused statement is to blame on. Refuses: SQL (`statements.py`), queues (`ledger.py`),
numbering (`parcels.py`), runs whose row stays locked (`patience.py`).

There is no linger: a flush begins as soon as the one before has returned and carries what has come meanwhile. So five
hundred runs share one commit, and one run alone pays one round trip per append: while the writer's task sleeps, who
comes flushes for himself, which saves waking it. If he is cancelled meanwhile, what he had under way is in doubt, as
after a lost answer, and the task goes on with it.

A flush ends in exactly one of three ways. The database answers: each run gets its verdict. The database refuses the
statement: it has written nothing, and the flush is cut in halves until the run (and of that run the append) that
carries the bad value is alone with it. The answer is lost: the same parcels with the same numbers are sent again
before anything else, and rows that are there already are known by number and epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar
from uuid import UUID

import asyncpg

from flowbook.errors import PathClash, StoreError, StoreUnavailable
from flowbook.plan.journal import Entry
from flowbook.plan.records import Status
from flowbook.ports import Ack, NewRun, RunRow, Settlement, Started
from flowbook.store import flushes
from flowbook.store import statements as sql
from flowbook.store.driver import Connection, Record, went_away
from flowbook.store.flushes import Answer, Verdict
from flowbook.store.ledger import Ledger, fail, tell
from flowbook.store.parcels import FLUSH_BYTES, FLUSH_RUNS, Parcel, Start, compose
from flowbook.store.patience import Patience
from flowbook.store.retrying import Line, pauses
from flowbook.store.rows import Line as JournalLine
from flowbook.store.rows import to_run

TURNS: Final = 6
"""Turns of the loop from an answer to the next rows of the same run, and one to spare."""
REFUSALS: Final = 3
"""A run whose row was locked in so many flushes goes on alone."""

_T = TypeVar("_T")
log = logging.getLogger(__name__)


class Writer:
    """Sends what the ledger has. One task; `Ledger` is its inbox."""

    def __init__(self, url: str, worker_id: UUID, ledger: Ledger, told: Callable[[UUID], None]) -> None:
        """``told``: is called for each run that got news of the end of another one."""
        self._worker_id = worker_id
        self._told = told
        self._ledger = ledger
        self._line = Line(url, "writer", keeping=True)
        self._patience = Patience(url, self._judge, self._refuse)
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._inserting: list[Start] = []
        self._company = 0
        """How many runs the last flush carried."""

    async def open(self, patience: float) -> Connection:
        """Connect. Raises `StoreUnavailable`."""
        return await self._line.reach(patience)

    def begin(self) -> None:
        """Begin to write; the schema is known to be there."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="flowbook writer")

    async def close(self, patience: float = 5.0) -> None:
        """Write what waits, for ``patience`` seconds at most; what is left gets `StoreUnavailable`."""
        self._closing = True
        self._ledger.close()
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await asyncio.shield(self._task)
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self._patience.close()
        await self._line.close()
        self._ledger.abandon(StoreUnavailable("the store is closed"))

    # ------------------------------------------------------------------------------------------------------ the flushes

    async def start(self, new: NewRun) -> Started:
        """Insert a run. If the caller is cancelled it is inserted all the same, and handed back."""
        alone = self._mute()
        done = self._ledger.start(new)
        try:
            if alone:
                await self._flush_alone(self._flush_starts)
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            done.add_done_callback(self._hand_back)
            raise

    def _hand_back(self, done: asyncio.Future[Started]) -> None:
        """Who started this run is gone: nobody runs it here, so anybody may."""
        if not done.cancelled() and done.exception() is None and done.result().created:
            row = done.result().row
            if row.status is Status.RUNNING:
                self._ledger.settle(Settlement(row.id, row.epoch, Status.PENDING, seen_mail=2**31 - 1), ())

    async def append(self, run_id: UUID, epoch: int, entries: Sequence[Entry], lines: Sequence[JournalLine]) -> Ack:
        """Write rows at the end of a journal. If the caller is cancelled they are written all the same."""
        alone = self._mute()
        done = self._ledger.append(run_id, epoch, entries, lines)
        if alone:
            await self._flush_alone(self._flush_ready)
        return await done

    async def settle(self, settlement: Settlement, lines: Sequence[JournalLine]) -> bool:
        """Let go of a run. If the caller is cancelled it is let go all the same."""
        alone = self._mute()
        done = self._ledger.settle(settlement, lines)
        if alone:
            await self._flush_alone(self._flush_ready)
        return await done

    def _mute(self) -> bool:
        """True if the caller is to flush for himself; the writer's task sleeps on until `_flush_alone` has returned."""
        ledger = self._ledger
        # In company he would send one row alone and let the others wait for their common flush: two commits for one.
        if self._company > 1 or ledger.muted or not ledger.quiet or self._line.live is None:
            return False
        ledger.muted = True
        return True

    async def _flush_alone(self, flush: Callable[[], Awaitable[None]]) -> None:
        ledger = self._ledger
        try:
            await self._guarded(flush)
        except asyncio.CancelledError:
            ledger.starts[:0] = [start for start in self._inserting if not start.done.done()]
            self._inserting = []
            for tail in ledger.tails.values():
                parcel = tail.parcel
                if (
                    parcel is not None
                    and tail.run_id not in ledger.ready
                    and parcel not in self._patience
                    and not parcel.turn
                ):
                    parcel.doubtful = True
                    ledger.again(parcel)
            raise
        finally:
            ledger.muted = False
            if ledger.starts or ledger.ready or self._closing:
                ledger.ring()

    async def _run(self) -> None:
        ledger = self._ledger
        while True:
            if self._company > 1:
                await self._let_them_come()
            if ledger.starts:
                await self._guarded(self._flush_starts)
            if ledger.ready:
                await self._guarded(self._flush_ready)
            elif not ledger.starts:
                if not self._closing:
                    await ledger.rung()
                elif self._patience.idle and not ledger.muted:
                    return
                else:
                    await asyncio.sleep(0.02)

    async def _let_them_come(self) -> None:
        """Turn the loop until those who were answered by the last flush have come back with their next rows.

        This is no linger: nothing is waited for but work that is ready to run here and now. Without it each flush
        carries the few who were quickest, and the others pay for a commit of their own.
        """
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def _guarded(self, flush: Callable[[], Awaitable[None]]) -> None:
        try:
            await flush()
        except StoreUnavailable as error:
            self._ledger.abandon(error)
        except Exception:
            # A bug of ours. Who waits must hear of it, and the next flush must not suffer from it.
            log.exception("the writer stumbled")
            self._ledger.abandon(StoreError("the writer stumbled over a bug of flowbook's; the log has its traceback"))

    async def _flush_ready(self) -> None:
        ready = self._ledger.ready
        appends: list[Parcel] = []
        settles: list[Parcel] = []
        families: list[Parcel] = []
        weight = 0
        while ready and weight < FLUSH_BYTES and len(appends) + len(settles) + len(families) < FLUSH_RUNS:
            run_id, tail = next(iter(ready.items()))
            if tail.seq is None:
                tail.seq = (await self._line.fetch(sql.LAST_SEQ, run_id))[0][0]
            if ready.pop(run_id, None) is not tail:
                continue  # it was fenced while we asked
            parcel = tail.parcel or compose(tail)
            if not parcel.lines and parcel.settle is None:
                tail.parcel = None  # its advisory rows were overtaken by their outcome
                continue
            if parcel.turn is not None:
                tell(parcel.turn, parcel)
                continue
            weight += parcel.size
            (appends if parcel.settle is None else families if parcel.family else settles).append(parcel)
        self._company = len(appends) + len(settles) + len(families)
        for parcels in (appends, settles, families):
            if parcels:
                await self._deliver(parcels)

    async def _deliver(self, parcels: Sequence[Parcel]) -> None:
        """Send parcels of one sort until each has its verdict."""
        write = flushes.append if parcels[0].settle is None else flushes.settle
        try:
            connection, answers = await self._ask(lambda connection: write(connection, parcels), parcels)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(parcels) == 1:
                self._refuse(parcels[0], error)
                return
            middle = len(parcels) // 2
            await self._deliver(parcels[:middle])
            await self._deliver(parcels[middle:])
            return
        for parcel, answer in zip(parcels, answers, strict=True):
            if answer.written == len(parcel.lines) and parcel.tail.parcel is parcel and parcel.settle is None:
                self._accept(parcel, answer)  # the common case: all of its rows were written, by this very statement
            elif not await self._judge(connection, parcel, answer):
                parcel.refusals += 1
                if parcel.refusals < REFUSALS:
                    self._ledger.again(parcel)
                else:
                    self._patience.take(parcel)

    async def _ask(
        self, call: Callable[[Connection], Awaitable[_T]], parcels: Sequence[Parcel] = ()
    ) -> tuple[Connection, _T]:
        """Ask, and after a lost answer ask the same again, as long as it takes."""
        for pause in pauses():
            connection = await self._line.connection()
            try:
                return connection, await call(connection)
            except Exception as error:
                if not went_away(error):
                    raise
                log.info("the writer lost its connection: %s", error)
                connection.abort()
                for parcel in parcels:
                    parcel.doubtful = True
            await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    # ----------------------------------------------------------------------------------------------------- the verdicts

    async def _judge(self, connection: Connection, parcel: Parcel, answer: Answer) -> bool:
        """Do what a verdict asks for. False: the run's row is locked, and the parcel is to be sent again."""
        tail = parcel.tail
        if tail.parcel is not parcel:
            return True  # fenced meanwhile, and everybody has been told
        match answer.verdict:
            case Verdict.BUSY:
                return False
            case Verdict.FENCED:
                if parcel.settle is not None and parcel.doubtful and await self._was_settled(connection, parcel):
                    self._accept(parcel, answer)
                else:
                    self._ledger.fence(tail)
            case Verdict.UNREAD:
                assert parcel.settle is not None  # appends have no such verdict
                settle, parcel.settle = parcel.settle, None
                parcel.unpack()
                tell(settle.done, False)
                if tail.works:
                    self._ledger.offer(tail)
            case Verdict.ACCEPTED:
                if parcel.settle is not None or answer.written == len(parcel.lines):
                    self._accept(parcel, answer)
                else:
                    await self._judge_rows(connection, parcel, answer)
        return True

    def _accept(self, parcel: Parcel, answer: Answer) -> None:
        tail = parcel.tail
        if parcel.settle is not None:
            settle, parcel.settle = parcel.settle, None
            tell(settle.done, True)
            over = settle.settlement.status.over
            self._ledger.forget(tail, None if over else parcel.first - 1 + len(parcel.lines))
            for run_id in answer.told:
                self._told(run_id)
            return
        assert answer.at is not None  # accepted appends have their time
        parcel.acknowledge(answer.mail, answer.at)
        if tail.works:
            self._ledger.offer(tail)

    async def _judge_rows(self, connection: Connection, parcel: Parcel, answer: Answer) -> None:
        """Rows were there already: by a lost answer of ours, or by a bug."""
        try:
            found = await flushes.written(connection, (parcel,))
        except Exception as error:
            if not went_away(error):
                raise
            parcel.doubtful = True
            self._ledger.again(parcel)
            return
        at = found[parcel.tail.run_id]
        if at is not None:
            self._accept(parcel, Answer(Verdict.ACCEPTED, answer.mail, at, len(parcel.lines)))
            return
        last = parcel.first - 1 + len(parcel.lines)
        parcel.tail.seq = None
        parcel.fail(
            PathClash(
                f"run {parcel.tail.run_id}: journal rows {parcel.first}..{last} are there with another content; "
                "this is a bug in flowbook, please report it"
            )
        )
        if parcel.tail.works:
            self._ledger.offer(parcel.tail)

    async def _was_settled(self, connection: Connection, parcel: Parcel) -> bool:
        try:
            return await flushes.settled(connection, parcel)
        except Exception as error:
            if not went_away(error):
                raise
            return (await self._ask(lambda again: flushes.settled(again, parcel)))[1]

    def _refuse(self, parcel: Parcel, error: Exception) -> None:
        """The database refused this run's statement, so nothing of it is written: find the work that is to blame."""
        tail = parcel.tail
        if tail.parcel is not parcel:
            return  # fenced meanwhile, and everybody has been told
        if _is_number(error) and not parcel.doubtful and parcel.settle is None:
            parcel.doubtful = True  # rows are there: find out whose
            self._ledger.again(parcel)
            return
        works = len(parcel.works) + (parcel.settle is not None)
        if works > 1 or (works and parcel.notes):
            # Advisory rows are not worth finding out about; the works are tried one by one.
            parcel.notes = []
            parcel.unpack()
            tail.suspects = works
        else:
            parcel.fail(_explain(parcel, error))
        if tail.works:
            self._ledger.offer(tail)

    # ------------------------------------------------------------------------------------------------------- the starts

    async def _flush_starts(self) -> None:
        ledger = self._ledger
        batch: list[Start] = []
        weight = 0
        for start in ledger.starts[:FLUSH_RUNS]:
            if batch and weight + len(start.new.input) > FLUSH_BYTES:
                break
            weight += len(start.new.input)
            batch.append(start)
        # They stay in ``starting`` until they are known: a claim that lost its answer must not take them for its own.
        del ledger.starts[: len(batch)]
        self._inserting = batch
        self._company = len(batch)
        await self._insert(batch)
        self._inserting = []
        ledger.starting.difference_update(start.new.id for start in batch)

    async def _insert(self, starts: Sequence[Start]) -> None:
        try:
            _, inserted = await self._ask(lambda connection: flushes.start(connection, starts, self._worker_id))
            left = [start for start in starts if start.new.id not in inserted]
            found = (await self._ask(lambda connection: flushes.started(connection, left)))[1] if left else {}
        except StoreUnavailable as error:
            for start in starts:
                fail(start.done, error)
            raise
        except Exception as error:
            if len(starts) == 1:
                fail(starts[0].done, StoreError(f"the database refuses run {starts[0].new.id}: {error}"))
                return
            middle = len(starts) // 2
            await self._insert(starts[:middle])
            await self._insert(starts[middle:])
            return
        for start in starts:
            if start.new.id in inserted:
                self._started(start, _inserted(start, inserted[start.new.id], self._worker_id), created=True)
            elif start.new.id in found:
                row = to_run(found[start.new.id])
                # Its own insertion whose answer was lost, or one from before: of a child that is not known.
                created = row.id == start.new.id and start.new.parent_id is None
                self._started(start, row, created=created, fresh=False)
            else:
                self._ledger.starts.append(start)  # who had the key was deleted in between: once more

    def _started(self, start: Start, row: RunRow, *, created: bool, fresh: bool = True) -> None:
        mine = row.id == start.new.id and row.worker_id == self._worker_id and row.epoch == 1
        if mine and row.id not in self._ledger.tails:  # it may be under way here since it was started before
            self._ledger.adopt(row.id, 1, 0 if fresh else None, parented=row.parent_id is not None)
        tell(start.done, Started(row, created))


def _inserted(start: Start, record: Record, worker_id: UUID) -> RunRow:
    """A new run's row, from what was sent and what the database added."""
    new = start.new
    return RunRow(
        id=record["id"],  # the driver's, whose hash costs a tenth: tables of runs are asked some ten times per step
        namespace=new.namespace,
        flow=new.flow,
        version=new.version,
        fingerprint=new.fingerprint,
        queue=new.queue,
        priority=new.priority,
        status=Status.RUNNING if new.claim else Status.PENDING,
        due_at=record["due_at"],
        epoch=int(new.claim),
        worker_id=worker_id if new.claim else None,
        claims=int(new.claim),
        lost=0,
        mail=0,
        current="",
        key=new.key,
        input=new.input,
        input_digest=new.input_digest,
        metadata=new.metadata,
        error=None,
        forked_from=None,
        created_at=record["created_at"],
        started_at=record["created_at"] if new.claim else None,
        ended_at=None,
        parent_id=new.parent_id,
        root_id=new.root_id,
        parent_path=new.parent_path,
        trigger=new.trigger,
    )


def _is_number(error: Exception) -> bool:
    return isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == "journal_pk"


def _explain(parcel: Parcel, error: Exception) -> Exception:
    """What the database's refusal of one run's rows means."""
    run_id = parcel.tail.run_id
    if isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == "journal_outcome_uq":
        return PathClash(
            f"run {run_id}: a path has its outcome already ({error.detail}); "
            "this is a bug in flowbook, please report it"
        )
    paths = ", ".join(sorted({line.path or line.kind for line in parcel.lines})) or "its settlement"
    refusal = StoreError(f"the database refuses what run {run_id} has to write ({paths}): {error}")
    refusal.__cause__ = error
    return refusal
