"""How a worker shows that it is alive: a session lock, a lease, and a thread that keeps both.

Owns: the worker's row, its lock connection, its heartbeat, the thread they live in, and letting go of them in a
forked child. Refuses: judging others (`neighbour.py`), claiming or ending runs.

The thread has an event loop of its own, so an engine that is busy, or a cell that blocks for an hour, keeps its runs.
(C code that holds the GIL for longer than the lease does not.) It ends when the engine's thread has ended or its loop
is closed: what nobody drives any more must not look alive.

The heartbeat goes over the session that holds the lock, so one connection proves both. Losing it makes the worker
unsteady at once: others may have given it up for dead, so it starts nothing until it has its lock and its row again.
If it was buried meanwhile it is listed anew; what it still writes for its old runs is fenced by their epoch.

Behind a proxy that pools by transaction there are no session locks: with ``locks=False`` only the lease counts, and
deaths are noticed at the others' heartbeats.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from flowbook.clock import DICE
from flowbook.errors import StoreUnavailable
from flowbook.store import statements as sql
from flowbook.store import vital_statements as vital
from flowbook.store.driver import Connection, connect, went_away
from flowbook.store.neighbour import Coroner, Watch

LEASE: Final = 60.0
"""Seconds without a heartbeat after which a worker with a lock is dead."""
LEASE_WITHOUT_LOCK: Final = 15.0
"""The same where the lease is all there is."""
LONGEST_BEAT: Final = 10.0
"""Seconds between heartbeats at most."""
LONGEST_BACK_OFF: Final = 0.5
"""Seconds between attempts to be back: shorter than what others wait before they accuse (`FIRST_SECOND`)."""

T = TypeVar("T")

log = logging.getLogger(__name__)

# Strong on purpose: nothing of a started worker may be collected in a forked child, where closing a transport would
# unregister it from the parent's epoll.
_started: set[Liveness] = set()


class Liveness:
    """This process as an owner of runs. Made, started and stopped on the engine's loop."""

    def __init__(
        self,
        url: str,
        worker_id: UUID,
        *,
        lease: float | None = None,
        on_dead: Callable[[tuple[UUID, ...]], None],
        on_steady: Callable[[], None] | None = None,
        locks: bool = True,
    ) -> None:
        """Nothing happens until `start`.

        Args:
            url: ``postgresql://...``.
            worker_id: This process' identity.
            lease: Seconds without a heartbeat after which others may take the runs; None: 60, or 15 without locks.
            on_dead: Called on the engine's loop with the runs that a burial has freed (perhaps none).
            on_steady: Called on the engine's loop when the worker is steady again after it was not.
            locks: False behind PgBouncer in transaction mode: lease and heartbeat only.
        """
        self.worker_id = worker_id
        self.lease = lease or (LEASE if locks else LEASE_WITHOUT_LOCK)
        self._url = url
        self._locks = locks
        self._on_dead = on_dead
        self._on_steady = on_steady
        self._beat = min(self.lease / 4, LONGEST_BEAT)
        self._held = False
        self._beaten = 0.0
        self._serves: tuple[str, ...] = ()
        self._lock_key = int.from_bytes(hashlib.blake2b(worker_id.bytes, digest_size=8).digest(), "big") >> 1
        self._backend_pid = 0
        self._thread: threading.Thread | None = None
        self._watch = Watch(url, self._neighbour_ended)
        self._coroner: Coroner | None = None
        self._burial: asyncio.Future[None] | None = None
        self._trouble: BaseException | None = None
        self._leaving = False
        self._listed = False

    # ------------------------------------------------------------------------------------------ on the engine's loop

    async def start(self, *, engine: threading.Thread | None = None, patience: float = 10.0) -> None:
        """Take the lock, list the worker and begin the heartbeat; return once this worker is steady.

        ``engine`` is the thread whose death ends the heartbeat; None: the calling one.
        Raises `StoreUnavailable` after ``patience`` seconds, or whatever the database has against us.
        """
        self._engine = engine or threading.current_thread()
        self._engine_loop = asyncio.get_running_loop()
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._nudge = asyncio.Event()
        self._ready, self._ended = asyncio.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="flowbook-liveness", daemon=True)
        _started.add(self)
        self._thread.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._ready.wait()
        if self.steady:
            return
        await self.stop()
        if self._trouble is not None:
            raise self._trouble
        raise StoreUnavailable(f"no database session for the worker's lock within {patience:g} s")

    async def stop(self) -> None:
        """Delist the worker, hand back what it still holds (not counted as a loss), end the thread."""
        thread = self._thread
        if thread is None or self not in _started:
            return
        self._leaving = True
        with contextlib.suppress(RuntimeError):  # its loop has ended by itself
            self._loop.call_soon_threadsafe(self._nudge.set)
        await self._ended.wait()
        thread.join()
        _started.discard(self)

    @property
    def steady(self) -> bool:
        """True while nobody may have given this worker up: its lock is held and its lease is not past."""
        return self._held and _awake() - self._beaten < self.lease

    async def serve(self, fingerprints: frozenset[str]) -> None:
        """Tell the others which code this worker claims runs of; kept if it has to be listed anew."""
        self._serves = tuple(sorted(fingerprints))
        await self._ask(self._serve(), None)

    async def probe_dead(self, worker_id: UUID) -> bool:
        """True if a worker is dead or not listed. Takes 0.3 s (1 s just after the start) when its lock is free.

        An answer of False proves nothing: while this worker is unsteady it accuses nobody.
        """
        return worker_id != self.worker_id and await self._ask(self._probe_dead(worker_id), False)

    async def bury(self, worker_id: UUID) -> bool:
        """If a worker is dead, free its runs; `on_dead` is told. True if it is not listed any more, whoever did it."""
        return worker_id != self.worker_id and await self._ask(self._bury(worker_id), False)

    def reconsider(self) -> None:
        """Look at once who the neighbour is and who is late; from any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._nudge.set)

    async def _ask(self, work: Coroutine[Any, Any, T], otherwise: T) -> T:
        """Run ``work`` in the thread; ``otherwise`` if the thread or the database is gone."""
        if self._thread is None or not self._thread.is_alive():
            work.close()
            return otherwise
        try:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return otherwise  # the thread has ended under it
        except Exception as error:
            if not went_away(error):
                raise
            return otherwise

    # ----------------------------------------------------------------------------------------- in the thread's loop

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live())
        finally:
            self._held = False
            self._call(self._ready.set)
            self._call(self._ended.set)

    async def _live(self) -> None:
        watching = asyncio.ensure_future(self._watch.run())
        try:
            await self._hold()
        finally:
            watching.cancel()
            await asyncio.wait((watching,))

    async def _hold(self) -> None:
        """Be listed, and be listed again after every loss, until it is over."""
        pause = 0.0
        while not self._over():
            connection: Connection | None = None
            try:
                connection = await connect(self._url, name="lock", on_lost=self._nudge.set, patience=5.0)
                await self._enlist(connection)
                pause = 0.0
                await self._tend(connection)
                if self._leaving and not connection.is_closed:
                    await self._leave(connection)
            except Exception as error:  # whatever it is, the thread must not end: nobody would hear of it
                if not went_away(error):
                    if not self._listed:
                        self._trouble = error
                        return
                    log.warning("worker %s cannot hold its lock: %s", self.worker_id, error)
                    pause = 5.0
            finally:
                self._held = False
                self._coroner = None
                if connection is not None:
                    connection.abort()
            if not self._over():
                await asyncio.sleep(pause * DICE.uniform(0.5, 1.0))
                pause = max(pause, min(2 * pause + 0.02, LONGEST_BACK_OFF))

    async def _enlist(self, connection: Connection) -> None:
        if self._locks:
            await self._take_lock(connection)
        self._backend_pid = connection.backend_pid
        at = _awake()
        row = await connection.fetchval(
            vital.ENLIST,
            self.worker_id,
            socket.gethostname(),
            os.getpid(),
            self._lock_key,
            self.lease,
            self._locks,
            list(self._serves),
        )
        self._beaten = at
        since = await connection.fetchval(vital.SERVER_NOW)
        self._coroner = Coroner(self.worker_id, connection, since, self._tell)
        if self._locks:
            await connection.listen("flowbook_ring", lambda _payload: self._nudge.set())
        if row:
            await connection.fetchval(vital.ANNOUNCE_WORKER)
            if self._listed:
                log.warning("worker %s was given up for dead; what it had is with others", self.worker_id)

    async def _take_lock(self, connection: Connection) -> None:
        while not self._over():
            try:
                async with asyncio.timeout(0.5):
                    await connection.fetchval(vital.TAKE_LOCK, self._lock_key)
                return
            except TimeoutError:
                if connection.is_closed:
                    raise
                await connection.fetch(vital.STALE_HOLDER, self._lock_key, self._backend_pid)

    async def _tend(self, connection: Connection) -> None:
        """Beat until the connection is lost, the worker was buried, or it is over."""
        self._held = True
        if self._listed and self._on_steady is not None:
            self._call(self._on_steady)
        self._listed = True
        self._call(self._ready.set)
        due = 0.0
        look = True
        while not self._over() and not connection.is_closed:
            if _awake() >= due:
                at = _awake()
                # A heartbeat without an answer is a lost connection that nobody has told us of.
                async with asyncio.timeout(max(self._beat, 1.0)):
                    if await connection.fetchval(vital.HEARTBEAT, self.worker_id, self._locks) is None:
                        return
                self._beaten, due, look = at, at + self._beat, True
            if look:
                await self._look_round(connection)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, min(1.0, due - _awake()))):  # 1 s: is the engine still there?
                    await self._nudge.wait()
            look = self._nudge.is_set()
            if look and not self._leaving:
                self._nudge.clear()
                await asyncio.sleep(DICE.uniform(0.0, 0.05))  # many come at once: look round once for all of them

    async def _look_round(self, connection: Connection) -> None:
        """See who the neighbour is, who is late, and, as the first in the ring, which runs have lost their owner."""
        ring = await connection.fetchrow(vital.RING, self.worker_id)
        assert ring is not None  # a left join has always a row
        self._watch.aim(ring["lock_key"] if self._locks else None)
        if (ring["late"] or ring["first"]) and (self._burial is None or self._burial.done()):
            self._burial = asyncio.ensure_future(self._bury_late(ring["late"], ring["first"]))

    async def _bury_late(self, late: bool, first: bool) -> None:
        # Beside the heartbeat: it sleeps between its probes.
        coroner = self._coroner
        try:
            if coroner is not None and late:
                await coroner.bury()
            if coroner is not None and first:
                await coroner.free_orphans()
        except Exception as error:
            if not went_away(error):
                log.warning("cannot look for dead workers: %s", error)

    async def _neighbour_ended(self) -> None:
        coroner = self._coroner
        if coroner is not None:
            await coroner.bury()
            await self._look_round(coroner.connection)

    async def _leave(self, connection: Connection) -> None:
        self._held = False
        async with asyncio.timeout(2.0):
            runs = await connection.fetchval(vital.LEAVE, self.worker_id)
        if runs:
            self._tell(tuple(runs))
        await connection.close()

    async def _serve(self) -> None:
        if self._coroner is not None:
            await self._coroner.connection.execute(sql.SERVE, self.worker_id, list(self._serves))

    async def _probe_dead(self, worker_id: UUID) -> bool:
        return self._coroner is not None and await self._coroner.is_dead(worker_id)

    async def _bury(self, worker_id: UUID) -> bool:
        coroner = self._coroner
        if coroner is None:
            return False
        return worker_id in await coroner.bury([worker_id]) or await coroner.is_gone(worker_id)

    def _over(self) -> bool:
        return self._leaving or not self._engine.is_alive() or self._engine_loop.is_closed()

    def _tell(self, runs: tuple[UUID, ...]) -> None:
        self._call(lambda: self._on_dead(runs))

    def _call(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the engine's loop is closed: nobody is left to be told
            self._engine_loop.call_soon_threadsafe(callback)

    # ------------------------------------------------------------------------------------------------ in a forked child

    def let_go(self, nowhere: int) -> None:
        """Point this child's copies of the thread's sockets at ``nowhere``, a descriptor of the null device.

        The parent does not notice: nothing is said to the server, and nothing is unregistered from an epoll that the
        two share. The numbers stay taken, so that whoever closes the objects later closes nobody else's descriptor.
        """
        self._held = False
        self._thread = None
        registered = self._selector.get_map()
        descriptors = [key.fd for key in registered.values()] if registered else []
        if hasattr(self._selector, "fileno"):
            descriptors.append(self._selector.fileno())
        for descriptor in descriptors:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(nowhere, descriptor, inheritable=False)


_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", None)
_awake: Final[Callable[[], float]] = time.monotonic if _BOOT is None else partial(time.clock_gettime, _BOOT)
"""Seconds that also pass while the machine sleeps, where the system has such a clock."""


def _let_go_in_child() -> None:
    # Tried: a forked child (a process pool, `os.fork` in a cell) kept the lock of its dead parent for five seconds.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for liveness in _started:
        liveness.let_go(nowhere)
    os.close(nowhere)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
