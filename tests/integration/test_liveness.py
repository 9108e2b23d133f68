"""Who is dead and who is not, with real processes, real signals and a real server that is really killed.

Owns: the promises of `flowbook/store/liveness.py` and `neighbour.py`. Refuses: mocks, and the session's shared server:
this one is stopped and crashed.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from flowbook.ids import new_id
from flowbook.store import migrate
from flowbook.store.embedded.account import service_account
from flowbook.store.embedded.binaries import choose, placed
from flowbook.store.liveness import Liveness

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP and fork are not to be had"),
    pytest.mark.timeout(60),
]

REPO = Path(__file__).resolve().parents[2]

WORKER = r'''
import asyncio, json, os, sys, time
from uuid import UUID
from flowbook.store.driver import Statement, connect
from flowbook.store.liveness import Liveness

url, me, run, lease, mode = sys.argv[1], UUID(sys.argv[2]), UUID(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
def say(**words): os.write(1, json.dumps(words).encode() + b"\n")  # one write: the child has the same pipe

WRITE = Statement("write", """
    with locked as (
        select id from flowbook.run where id = $1 and epoch = 1 and status = 'running' for no key update
    ), written as (
        insert into flowbook.journal (run_id, seq, epoch, kind, path, payload)
        select id, $2, 1, 'note', 'a#1', '' from locked on conflict do nothing
    )
    select true from locked""", "The fence, as every append of the store has it.")

async def main():
    live = Liveness(url, me, lease=lease, on_dead=lambda runs: say(freed=[r.hex for r in runs]))
    await live.start()
    pen = await connect(url, name="pen")
    await pen.execute(Statement("own", sys.argv[6], ""), run, me)
    if mode == "fork":
        child = os.fork()
        if child == 0:
            say(child=os.getpid(), steady=live.steady)
            time.sleep(60)
            os._exit(0)
    say(up=True)
    if mode == "block":
        time.sleep(3 * lease)
        say(blocked=True)
    seq, steady, writing = 0, True, mode == "write"
    while True:
        await asyncio.sleep(0.02)
        if live.steady != steady:
            steady = live.steady
            say(steady=steady)
        if writing:
            try:
                pen = pen or await connect(url, name="pen")
                accepted = await pen.fetchval(WRITE, run, seq + 1)
            except Exception:
                pen = None
                continue
            if accepted:
                seq += 1
            else:
                say(fenced=seq)
                writing = False
asyncio.run(main())
'''


class Server:
    """A Postgres that a test may kill."""

    def __init__(self, home: Path, connections: int = 200) -> None:
        self.home, self.connections = home, connections
        self.account = service_account()
        home.chmod(0o755)
        seat = home / "seat"
        seat.mkdir()
        self.account.give(seat)
        self.data = seat / "data"
        self.binaries = placed(choose(()), self.account, seat)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-N", "--no-locale", "-E", "UTF8")
        self.process: subprocess.Popen[bytes] | None = None

    def _run(self, name: str, *arguments: str) -> None:
        command = [self.binaries.program(name), *arguments]
        subprocess.run(command, cwd="/", check=True, capture_output=True, **self.account.run_as())

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": self.connections,
        }
        command = [self.binaries.program("postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        log = (self.home / "log").open("ab")
        with log:
            self.process = subprocess.Popen(command, cwd="/", stdout=log, stderr=log, **self.account.run_as())
        wait_for(lambda: sql(self.url(), "select true"), 20)

    def stop(self) -> None:
        """What ``pg_ctl stop -m immediate`` does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(20)
            self.process = None


class Worker:
    """A process that is alive in the sense of this test, and owns one run."""

    def __init__(self, url: str, lease: float = 60.0, mode: str = "idle", worker_id: UUID | None = None) -> None:
        self.id = worker_id or new_id()
        self.run = new_id()
        arguments = [sys.executable, "-c", WORKER, url, str(self.id), str(self.run), str(lease), mode, INSERT]
        env = os.environ | {"PYTHONPATH": str(REPO)}
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=env)
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._said: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def hear(self, word: str, within: float = 30.0) -> Any:
        """The next thing that the worker says of this kind."""
        deadline = time.monotonic() + within
        while not (heard := [said for said in self._said if word in said]):
            self._said.append(self._lines.get(timeout=max(0.01, deadline - time.monotonic())))
        self._said.remove(heard[0])
        return heard[0][word]

    def signal(self, number: signal.Signals) -> float:
        at = time.time()
        self.process.send_signal(number)
        return at

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(1.0)
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()


INSERT = """
    insert into flowbook.run (id, namespace, flow, version, fingerprint, status, epoch, worker_id, claims, input,
                              input_digest)
    values ($1, 'n', 'f', 1, 'x', 'running', 1, $2, 1, '', '')
"""
LOCKS = "select pid from pg_stat_activity where application_name = 'flowbook lock' and datname = current_database()"
RUN = "select status, worker_id, epoch, lost, extract(epoch from due_at)::float8 as due from flowbook.run where id = $1"


def sql(url: str, statement: str, *args: Any) -> list[Any]:
    """Ask, on a connection of its own."""

    async def ask() -> list[Any]:
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return await connection.fetch(statement, *args)
        finally:
            await connection.close()

    return asyncio.run(ask())


def wait_for(look: Callable[[], Any], within: float = 10.0) -> Any:
    """What ``look`` answers once that is true; errors meanwhile are not yet."""
    deadline = time.monotonic() + within
    while True:
        with suppress(OSError, asyncpg.PostgresError):
            if answer := look():
                return answer
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of this module's own, with a migrated template database."""
    home = Path(tempfile.mkdtemp(prefix="fbl-"))
    made = Server(home)
    try:
        made.start()
        sql(made.url(), "create database ready")
        asyncio.run(migrate.ensure(made.url("ready")))
        yield made
    finally:
        made.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def url(server: Server) -> Iterator[str]:
    """A fresh database with the schema in it."""
    name = f"t{uuid4().hex[:12]}"
    sql(server.url(), f"create database {name} template ready")
    yield server.url(name)
    sql(server.url(), f"drop database {name} with (force)")


@pytest.fixture
def worker(url: str) -> Iterator[Callable[..., Worker]]:
    """Makes workers; ends them."""
    made: list[Worker] = []

    def make(**how: Any) -> Worker:
        made.append(Worker(url, **how))
        return made[-1]

    yield make
    for one in made:
        one.end()


async def alive(url: str, run: UUID, *, on_dead: Callable[..., None] = lambda _: None, **how: Any) -> Liveness:
    """A worker in this process that owns one run."""
    liveness = Liveness(url, new_id(), on_dead=on_dead, **how)
    await liveness.start()
    await asyncio.to_thread(sql, url, INSERT, run, liveness.worker_id)
    return liveness


def up(*workers: Worker) -> None:
    for one in workers:
        one.hear("up")
    time.sleep(0.15)  # the ring closes within 50 ms


def taken(url: str, one: Worker, within: float = 10.0) -> Any:
    """The worker's run as soon as somebody has freed it."""
    return wait_for(lambda: [r for r in sql(url, RUN, one.run) if r["status"] == "pending"], within)[0]


def untouched(url: str, *workers: Worker) -> bool:
    rows = [sql(url, RUN, one.run)[0] for one in workers]
    return all((r["status"], r["epoch"], r["lost"]) == ("running", 1, 0) for r in rows)


# ----------------------------------------------------------------------------------------------------------- deaths


@pytest.mark.slow
def test_thirty_deaths_are_noticed_within_a_second(url: str, worker: Any, record_property: Any) -> None:
    """SIGKILL to freed run, by the database's clock, with workers watching each other in a ring."""
    watcher, *victims = (worker() for _ in range(31))
    up(watcher, *victims)
    time.sleep(1.0)
    delays = []
    for n in range(10):
        # Three at a time that are not each other's neighbours: ids are in the order of time.
        killed = [(victim, victim.signal(signal.SIGKILL)) for victim in victims[n::10]]
        for victim, at in killed:
            row = taken(url, victim)
            assert (row["epoch"], row["lost"], row["worker_id"]) == (2, 1, None)
            delays.append(row["due"] - at)
    ordered = sorted(delays)
    report = f"p50 {statistics.median(ordered) * 1000:.0f} ms, p99 {ordered[-1] * 1000:.0f} ms"
    record_property("noticed", report)
    print(f"deaths noticed: {report}")
    assert ordered[-1] < 1.0
    assert untouched(url, watcher)
    assert [r["id"] for r in sql(url, "select id from flowbook.worker")] == [watcher.id]
    # A server process that waits for a lock does not see that its client is gone; it must not wait for ever.
    orphaned = (
        "select 1 from pg_stat_activity where application_name = 'flowbook neighbour' and datname = current_database()"
    )
    wait_for(lambda: not sql(url, orphaned), 12)


def test_many_deaths_at_once_are_one_round(url: str, worker: Any) -> None:
    """A machine dies: all its workers are buried together, not one after the other around the ring."""
    watcher, *victims = (worker() for _ in range(6))
    up(watcher, *victims)
    at = time.time()
    for victim in victims:
        victim.signal(signal.SIGKILL)
    assert max(taken(url, v)["due"] for v in victims) - at < 2.0
    assert untouched(url, watcher)


def test_a_newcomer_is_watched_from_its_first_moment(url: str, worker: Any) -> None:
    """The neighbour does not wait for its next heartbeat to learn of a new worker."""
    first = worker()
    up(first)
    second = worker()
    up(second)
    at = second.signal(signal.SIGKILL)
    assert taken(url, second)["due"] - at < 1.5


def test_a_dead_worker_is_found_by_who_comes_after_it(url: str, worker: Any) -> None:
    """A kernel was killed and nobody watched: the next one takes its runs, without waiting for the lease."""
    gone = worker()
    up(gone)
    gone.signal(signal.SIGKILL)
    gone.process.wait()
    at = time.time()
    up(worker())
    assert taken(url, gone)["due"] - at < 3.0


def test_a_stopped_process_is_buried_after_its_lease_and_comes_back_fenced(url: str, worker: Any) -> None:
    """SIGSTOP keeps the lock but not the lease; after SIGCONT the worker goes on, and its old run refuses its rows."""
    watcher, sleeper = worker(lease=1.0), worker(lease=1.0, mode="write")
    up(watcher, sleeper)
    at = sleeper.signal(signal.SIGSTOP)
    row = taken(url, sleeper)
    assert row["due"] - at < 3.0
    assert row["epoch"] == 2
    written = sql(url, "select count(*) from flowbook.journal where run_id = $1", sleeper.run)[0][0]
    sleeper.signal(signal.SIGCONT)
    assert sleeper.hear("fenced") == written
    rows = sql(url, "select seq from flowbook.journal where run_id = $1 order by seq", sleeper.run)
    assert [r["seq"] for r in rows] == list(range(1, written + 1))
    wait_for(lambda: sql(url, "select 1 from flowbook.worker where id = $1", sleeper.id))
    time.sleep(1.5)
    assert untouched(url, watcher)
    assert sql(url, "select count(*) from flowbook.worker")[0][0] == 2


def test_a_blocked_engine_keeps_its_runs(url: str, worker: Any) -> None:
    """A cell that blocks the engine's loop for three leases is alive."""
    blocker, watcher = worker(lease=1.0, mode="block"), worker(lease=1.0)
    up(watcher, blocker)
    blocker.hear("blocked")
    assert untouched(url, blocker, watcher)


def test_the_heartbeat_stops_when_the_engine_has_ended(url: str) -> None:
    """A worker whose engine is gone while its process lives is dead: nobody drives its runs."""
    run = new_id()

    async def short_engine() -> None:
        await alive(url, run, lease=60.0)

    async def watch() -> float:
        freed: asyncio.Queue[tuple[UUID, ...]] = asyncio.Queue()
        watcher = Liveness(url, new_id(), on_dead=freed.put_nowait)
        await watcher.start()
        engine = threading.Thread(target=lambda: asyncio.run(short_engine()))
        engine.start()
        engine.join()
        began = time.monotonic()
        async with asyncio.timeout(10):
            assert await freed.get() == (run,)
        await watcher.stop()
        return time.monotonic() - began

    assert asyncio.run(watch()) < 3.0


# --------------------------------------------------------------------------------------------- nobody alive is buried


@pytest.mark.parametrize("outage", [0.0, 2.5], ids=["short", "longer than the lease"])
def test_a_restart_of_the_server_steals_nothing(server: Server, url: str, worker: Any, outage: float) -> None:
    """``pg_ctl stop -m immediate`` frees all locks and, if it lasts, lets all leases pass. Nobody died."""
    workers = [worker(lease=2.0, mode="write") for _ in range(3)] + [worker()]
    up(*workers)
    workers[3].signal(signal.SIGSTOP)  # slow to come back, and within its lease of a minute
    server.stop()
    time.sleep(outage)
    server.start()
    time.sleep(2.2)  # longer than the others' lease
    assert untouched(url, *workers)
    workers[3].signal(signal.SIGCONT)
    wait_for(lambda: len(sql(url, LOCKS)) == 4)
    assert untouched(url, *workers)
    assert sql(url, "select count(*) from flowbook.worker where alive_until > now()")[0][0] == 4
    # And the locks are back: a death is noticed as quickly as before.
    at = workers[0].signal(signal.SIGKILL)
    assert taken(url, workers[0])["due"] - at < 1.5


def test_a_crash_of_one_backend_steals_nothing(url: str, worker: Any) -> None:
    """The server ends every session when one is killed, and its start time does not change."""
    workers = [worker(mode="write") for _ in range(4)]
    up(*workers)
    backend = sql(url, "select pid from pg_stat_activity where application_name = 'flowbook pen' limit 1")[0][0]
    workers[3].signal(signal.SIGSTOP)  # slow to come back
    os.kill(backend, signal.SIGKILL)
    time.sleep(2.5)
    assert wait_for(lambda: untouched(url, *workers))
    workers[3].signal(signal.SIGCONT)
    wait_for(lambda: len(sql(url, LOCKS)) == 4)
    assert untouched(url, *workers)


def test_who_died_while_the_server_was_down_is_buried_after_its_lease(server: Server, url: str, worker: Any) -> None:
    """After a restart a free lock proves nothing, so the lease decides."""
    watcher, victim = worker(lease=1.5), worker(lease=1.5)
    up(watcher, victim)
    server.stop()
    victim.signal(signal.SIGKILL)
    server.start()
    at = time.time()
    assert 0.5 < taken(url, victim)["due"] - at < 6.0
    assert untouched(url, watcher)


def test_a_lost_lock_connection_is_retaken_in_time(url: str, worker: Any) -> None:
    """``pg_terminate_backend`` on lock connections: unsteady, steady again, and no run changes hands."""
    workers = [worker() for _ in range(3)]
    up(*workers)
    for _ in range(5):
        sql(url, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'flowbook lock'")
        time.sleep(0.4)
    assert untouched(url, *workers)
    assert workers[0].hear("steady") is False
    assert workers[0].hear("steady") is True


def test_a_lost_watch_is_taken_up_again(url: str, worker: Any) -> None:
    """``pg_terminate_backend`` on the connections that wait for neighbours."""
    first, second = worker(), worker()
    up(first, second)
    sql(url, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'flowbook neighbour'")
    time.sleep(0.5)
    assert untouched(url, first, second)
    at = second.signal(signal.SIGKILL)
    assert taken(url, second)["due"] - at < 1.0


# ------------------------------------------------------------------------------------------------------------- forks


def test_a_forked_child_does_not_hold_the_lock_of_its_dead_parent(url: str, worker: Any) -> None:
    """The child closes its copies without a word; the parent lives on as if nothing had been."""
    watcher, parent = worker(lease=2.0), worker(lease=2.0, mode="fork")
    child = parent.hear("child")
    try:
        up(watcher, parent)
        time.sleep(2.5)  # longer than the lease: the parent's heartbeat goes on after the fork
        assert untouched(url, watcher, parent)
        at = parent.signal(signal.SIGKILL)
        assert taken(url, parent)["due"] - at < 1.0
        os.kill(child, 0)  # it is still there, and holds nothing
    finally:
        os.kill(child, signal.SIGKILL)


# ---------------------------------------------------------------------------------------------------------- burials


def test_of_several_buriers_one_buries(url: str, worker: Any) -> None:
    """Five find the same worker dead; its run is lost once."""
    victim = worker()
    up(victim)

    async def bury() -> int:
        told: list[tuple[UUID, ...]] = []
        buriers = [Liveness(url, new_id(), on_dead=told.append) for _ in range(5)]
        for burier in buriers:
            await burier.start()
        assert not await buriers[0].probe_dead(victim.id)
        assert not await buriers[0].bury(victim.id)
        victim.end()
        while len(await asyncio.to_thread(sql, url, LOCKS)) > len(buriers):
            pass
        answers = await asyncio.gather(*(b.bury(victim.id) for b in buriers))
        for burier in buriers:
            await burier.stop()
        assert all(answers)
        return sum((victim.run,) == runs for runs in told)

    assert asyncio.run(bury()) == 1
    row = sql(url, RUN, victim.run)[0]
    assert (row["epoch"], row["lost"]) == (2, 1)


def test_a_locked_run_does_not_hold_up_a_burial(url: str, worker: Any) -> None:
    """An open transaction on one run delays that run alone; it is freed once it can be."""
    watcher, victim = worker(lease=1.0), worker(lease=1.0)
    up(watcher, victim)
    other = new_id()
    sql(url, INSERT, other, victim.id)

    async def hold() -> None:
        connection = await asyncpg.connect(url)
        async with connection.transaction():
            await connection.execute("select 1 from flowbook.run where id = $1 for update", other)
            victim.signal(signal.SIGKILL)
            await asyncio.to_thread(taken, url, victim)
            await asyncio.sleep(0.5)
            assert (await connection.fetchrow(RUN, other))["status"] == "running"
        await connection.close()

    asyncio.run(hold())
    assert wait_for(lambda: [r for r in sql(url, RUN, other) if r["status"] == "pending"])[0]["lost"] == 1


def test_an_orderly_end_hands_back_and_is_no_loss(url: str) -> None:
    """Who stops is delisted at once, and what it held is for others without a mark against it."""
    run = new_id()
    told: list[tuple[UUID, ...]] = []

    async def visit() -> float:
        liveness = await alive(url, run, on_dead=told.append)
        await liveness.serve(frozenset({"x"}))
        assert (await asyncio.to_thread(sql, url, "select serves from flowbook.worker"))[0][0] == ["x"]
        began = time.monotonic()
        await liveness.stop()
        assert not liveness.steady
        return time.monotonic() - began

    assert asyncio.run(visit()) < 0.5
    row = sql(url, RUN, run)[0]
    assert (row["status"], row["lost"], row["epoch"]) == ("pending", 0, 2)
    assert told == [(run,)]
    assert not sql(url, "select 1 from flowbook.worker")


def test_without_session_locks_the_lease_alone_decides(url: str) -> None:
    """The seam for PgBouncer in transaction mode."""

    run = new_id()

    async def engine() -> None:
        await alive(url, run, lease=1.0, locks=False)

    async def visit() -> None:
        freed: asyncio.Queue[tuple[UUID, ...]] = asyncio.Queue()
        first = Liveness(url, new_id(), lease=1.0, locks=False, on_dead=freed.put_nowait)
        await first.start()
        await asyncio.to_thread(asyncio.run, engine())
        async with asyncio.timeout(10):
            assert await freed.get() == (run,)
        await first.stop()

    asyncio.run(visit())


def test_watching_does_not_hold_back_vacuum(url: str, worker: Any) -> None:
    """Who waits for a lock in a select keeps its snapshot for hours; the neighbour's watch lets it go every second."""
    up(worker(), worker())
    oldest = (
        "select max(age(backend_xmin)) from pg_stat_activity "
        "where application_name = 'flowbook neighbour' and datname = current_database()"
    )
    for _ in range(50):
        sql(url, "update flowbook.worker set pid = pid")  # each takes a transaction id
    time.sleep(1.2)
    assert (sql(url, oldest)[0][0] or 0) < 10
