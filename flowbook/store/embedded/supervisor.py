"""The parent of one Postgres: ``python -m flowbook.store.embedded.supervisor HOME [--grace SECONDS]``.

Owns: starting ``postgres``, starting it again when it dies, reaping it, and stopping it when it is not needed any more.
Refuses: serving clients (they talk to Postgres), waiting for a polite goodbye from any of them, and heavy imports.

How it lives: the client that starts it waits for one line on its standard output and then forgets it. The process
forks once, so that it has no parent to be a zombie of, in a session of its own, so that Ctrl-C and a closed terminal
pass by. It holds ``supervisor.lock`` for its life. Four times a second, and at once when a child dies, it looks:

    postgres dead                          start it again on the same port
    clients.lock free for ``grace`` s      stop postgres, end; the lock is kept until then, so a newcomer waits
    the mark ``stopped``, or SIGTERM       stop postgres, end
    the home deleted or replaced           stop postgres, end
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from flowbook.errors import EmbeddedUnavailable
from flowbook.store.embedded import account as accounts
from flowbook.store.embedded import binaries as programs
from flowbook.store.embedded import datadir, postmaster
from flowbook.store.embedded.account import Account
from flowbook.store.embedded.binaries import Binaries
from flowbook.store.embedded.handshake import answers
from flowbook.store.embedded.layout import (
    DATABASE,
    HOST,
    ROLE,
    Cell,
    Home,
    Record,
    cell,
    majors,
    replace_file,
    socket_folder,
)
from flowbook.store.embedded.locks import FileLock

_TICK = 0.25  # seconds between two looks
_STEADY = 10.0  # seconds after which a postgres counts as having started well
_TRIES = 5  # deaths in a row before giving up
_START = 60.0  # seconds for one start; recovery after a crash may replay a lot
_LARGE_LOG = 8 * 2**20  # bytes


@dataclass
class Ground:
    """What stays the same over all restarts of postgres."""

    home: Home
    cell: Cell
    sockets: Path
    binaries: Binaries
    account: Account


@dataclass
class Postgres:
    """One life of the postgres process."""

    process: subprocess.Popen[bytes]
    port: int
    born: float = field(default_factory=time.monotonic)

    @property
    def alive(self) -> bool:
        """Whether it runs; reaps it if not."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Fast shutdown (30 s), then immediate (10 s), then SIGKILL. Safe: a child's pid is ours until it is reaped."""
        for number, patience in ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
                return


def prepare(home: Home) -> Ground:
    """Everything up to the first start: account, programs, data, and no orphan left running.

    Raises ``EmbeddedUnavailable`` with the reason when one of these cannot be had.
    """
    seat = accounts.seat(home.path, accounts.service_account())
    existing = majors(seat)
    owner = None
    for major in existing:
        with contextlib.suppress(OSError):
            owner = cell(seat, major).data.stat().st_uid
    account = accounts.service_account(owner)
    binaries = programs.placed(programs.choose(existing), account, seat)
    place = datadir.ensure(seat, binaries, account)
    postmaster.stop_orphan(place, account)
    return Ground(home, place, socket_folder(seat, account), binaries, account)


def start(ground: Ground) -> Postgres:
    """Start postgres; it is not ready yet. The port of last time is used unless somebody else has it."""
    postmaster.mend_pid_file(ground.cell, ground.account)
    postmaster.clear_sockets(ground.sockets)
    port = _port(ground.cell)
    with contextlib.suppress(OSError):
        if ground.cell.log.stat().st_size > _LARGE_LOG:
            ground.cell.log.rename(ground.cell.log.with_suffix(".log.1"))
    settings = {
        "listen_addresses": HOST,
        "unix_socket_directories": str(ground.sockets),
        "unix_socket_permissions": "0700",
        "max_connections": "120",
        "fsync": "on",
    }
    command = [ground.binaries.program("postgres"), "-D", str(ground.cell.data), "-p", str(port)]
    command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with os.fdopen(os.open(ground.cell.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=datadir.server_env(),
            start_new_session=True,
            **ground.account.run_as(),
        )
    return Postgres(process, port)


def announce(ground: Ground, server: Postgres) -> None:
    """Write ``server.json``: from now on clients find the server."""
    programs_of = ground.binaries
    record = Record(server.port, str(ground.sockets), str(ground.cell.path), programs_of.major, programs_of.source)
    record.write(ground.home.record)


def supervise(ground: Ground, mine: FileLock, grace: float, report: Report) -> None:
    """Keep postgres up until nobody needs it; returns after it has stopped.

    ``grace``: seconds without any client. Raises ``EmbeddedUnavailable`` when postgres dies again and again.
    """
    clients = ground.home.lock("clients")
    wake = _Wake()
    server = start(ground)
    deaths, known, idle_since = 0, False, float("inf")
    try:
        while not wake.told_to_stop and not ground.home.stopped.exists() and mine.in_place():
            now = time.monotonic()
            if not server.alive:
                deaths = 1 if now - server.born > _STEADY else deaths + 1
                ground.home.record.unlink(missing_ok=True)
                _say(f"postgres {server.process.pid} ended with {server.process.returncode}, death {deaths} in a row")
                if deaths > _TRIES:
                    raise EmbeddedUnavailable(f"postgres keeps ending; its log says: {tail(ground.cell.log)}")
                time.sleep(min(2.0, 0.025 * 2**deaths))  # its backends need a moment to notice and go
                server, known = start(ground), False
            elif not known and _ready(ground, server):
                announce(ground, server)
                report.ready()
                known = True
            elif not known and now - server.born > _START and not report.sent:
                raise EmbeddedUnavailable(f"postgres does not answer; its log says: {tail(ground.cell.log)}")
            if clients.take(shared=False):
                idle_since = min(idle_since, now)
                if now - idle_since >= grace:
                    return  # with the lock: whoever attaches now waits until all is down, then starts anew
                clients.release()
            else:
                idle_since = float("inf")
            wake.wait(_TICK if known else 0.02)
    finally:
        if mine.in_place():  # else the record is that of the home made anew, with a server of its own
            ground.home.record.unlink(missing_ok=True)
        server.stop()


def _ready(ground: Ground, server: Postgres) -> bool:
    return postmaster.claims_ready(ground.cell) and answers(ground.sockets, server.port, user=ROLE, database=DATABASE)


class Report:
    """The one line that the starting client waits for."""

    def __init__(self) -> None:
        self.sent = False

    def ready(self) -> None:
        """The server answers."""
        self._send({"ready": True})

    def superfluous(self) -> None:
        """Another supervisor is at it: the client should look for the server again."""
        self._send({"superfluous": True})

    def failed(self, reason: str) -> None:
        """It never will; ``reason`` is for the user."""
        self._send({"error": reason})

    def _send(self, message: dict[str, object]) -> None:
        if self.sent:
            return
        self.sent = True
        with contextlib.suppress(OSError):  # the client may be gone already
            os.write(1, json.dumps(message).encode() + b"\n")
        os.dup2(2, 1)  # closes the pipe


class _Wake:
    """Sleep that a signal ends at once."""

    def __init__(self) -> None:
        self.told_to_stop = False
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.told_to_stop = True

    def wait(self, seconds: float) -> None:
        if select.select([self._read], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read, 4096)


def _port(place: Cell) -> int:
    for wanted in (_last_port(place), 0):
        with socket.socket() as s, contextlib.suppress(OSError):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as postgres does
            s.bind((HOST, wanted))
            port = int(s.getsockname()[1])
            if port != wanted:
                replace_file(place.port, str(port))
            return port
    raise EmbeddedUnavailable(f"no TCP port on {HOST} can be had; set FLOWBOOK_DATABASE_URL to a server of your own")


def _last_port(place: Cell) -> int:
    try:
        return int(place.port.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def tail(log: Path) -> str:
    """The end of a log, for an error's text."""
    try:
        return log.read_text(encoding="utf-8", errors="replace")[-1500:].strip()
    except OSError as error:
        return f"(no log: {error})"


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{os.getpid()}] {text}\n")
    sys.stderr.flush()


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="flowbook.store.embedded.supervisor")
    parser.add_argument("home", type=Path)
    parser.add_argument("--grace", type=float, default=5.0)
    given = parser.parse_args()
    if os.fork():
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    home, report = Home(given.home), Report()
    mine = home.lock("supervisor")
    # Somebody who asks whether the lock is held has it for some microseconds; a real rival has it for good.
    if not mine.take(shared=False, timeout=2.0):
        report.superfluous()
        return 0
    try:
        home.record.unlink(missing_ok=True)
        supervise(prepare(home), mine, given.grace, report)
    except Exception as error:
        _say(traceback.format_exc())
        report.failed(error.message if isinstance(error, EmbeddedUnavailable) else f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
