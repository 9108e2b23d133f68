"""The client's side of the embedded Postgres: attach, look, detach, stop.

Owns: the shared lock that says "I need the server", starting a supervisor where there is none, and noticing when the
supervisor has been killed. Refuses: being anybody's parent for long, sending signals, judging by process ids, reading
the environment.

A process attaches once and keeps the lock until ``detach`` or its end, however it ends. While it is attached a daemon
thread looks once a second whether a supervisor still holds its lock; if not (SIGKILL, the kernel's memory killer) it
starts one, on the same port, so that a lost supervisor neither strands the clients nor leaves a server behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from flowbook.errors import EmbeddedUnavailable
from flowbook.store.embedded import account as accounts
from flowbook.store.embedded import postmaster
from flowbook.store.embedded.handshake import answers
from flowbook.store.embedded.layout import DATABASE, HOST, ROLE, Cell, Home, Record, cell, default_home, majors
from flowbook.store.embedded.locks import FileLock, is_held

_POLL = 0.01  # seconds between two looks while waiting
_WATCH = 1.0  # seconds between two looks while attached
_WATCH_MOST = 60.0  # the same after failures
_BOOTS = 3  # a supervisor may be killed while it starts
# What a Python and its programs need to start; the notebook's secrets stay out of a process that outlives it.
_ENVIRONMENT = (
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PYTHONHOME",
)


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    """``postgresql://ROLE:PASSWORD@HOST:PORT/flowbook``, as asyncpg takes it."""
    host: str
    """Loopback."""
    port: int
    """The TCP port; the same after a restart unless another program has taken it meanwhile."""
    major: int
    """The major version of Postgres."""
    source: str
    """Where its programs are from: ``wheel`` or ``system``."""


class Cluster:
    """The embedded Postgres of one home, as one process sees it. Safe to use from several threads."""

    def __init__(self, home: Path | None = None, *, grace: float = 5.0) -> None:
        """``home``: its folder (``None``: ``default_home()``); nothing is created yet.

        ``grace``: seconds that a server started from here stays up after its last client.
        """
        self._home = Home(Path(home if home is not None else default_home()).absolute())
        self._grace = grace
        self._clients = self._home.lock("clients")
        self._mutex = threading.RLock()
        self._leave: threading.Event | None = None
        _clusters.add(self)

    @property
    def home(self) -> Path:
        """The folder, absolute."""
        return self._home.path

    @property
    def attached(self) -> bool:
        """Whether this process holds the server up."""
        return self._clients.held

    def attach(self, timeout: float = 60.0) -> Server:
        """The running server, started if need be and held up from now on. Called again, it revives a dead one.

        ``timeout``: seconds. Raises ``EmbeddedUnavailable`` when it cannot be started or does not answer in time.
        """
        deadline = time.monotonic() + timeout
        with self._mutex:
            if self.attached and not self._clients.in_place():
                self.detach()  # the home was deleted and perhaps made anew
            before = self.attached
            try:
                self._make_home()
                if not self._clients.take(shared=True, timeout=timeout):
                    raise EmbeddedUnavailable(
                        f"the server in {str(self.home)!r} is stopping and did not end in {timeout:.0f} s"
                    )
                server = self._revive(deadline, after_down=True)
            except BaseException as error:
                if not before:
                    self._clients.release()
                if isinstance(error, OSError):
                    reason = f"{str(self.home)!r} cannot be used: {error}; set FLOWBOOK_HOME to another folder"
                    raise EmbeddedUnavailable(reason) from error
                raise
            if self._leave is None:
                self._leave = threading.Event()
                threading.Thread(target=self._watch, args=(self._leave,), name="flowbook-embedded", daemon=True).start()
            return server

    def detach(self) -> None:
        """Let go: the server stops ``grace`` seconds after the last one did. Harmless when not attached."""
        with self._mutex:
            if self._leave is not None:
                self._leave.set()
                self._leave = None
            self._clients.release()

    def status(self) -> Server | None:
        """The server if it answers now. Starts, creates and holds nothing."""
        record = Record.read(self._home.record)
        if record is None or not answers(Path(record.sockets), record.port, user=ROLE, database=DATABASE):
            return None
        try:
            password = Cell(Path(record.cell)).password.read_text(encoding="utf-8")
        except OSError:
            return None
        url = f"postgresql://{ROLE}:{password}@{HOST}:{record.port}/{DATABASE}"
        return Server(url, HOST, record.port, record.major, record.source)

    def down(self, timeout: float = 60.0) -> None:
        """Stop the server now, whoever is attached; it stays down until somebody attaches anew.

        Returns when it has stopped, at once when none runs.
        ``timeout``: seconds. Raises ``EmbeddedUnavailable`` after them.
        """
        deadline = time.monotonic() + timeout
        if not self.home.is_dir():
            return
        with contextlib.ExitStack() as held:
            if not self._take(held, "boot", timeout):
                raise EmbeddedUnavailable(f"somebody is still starting the server in {str(self.home)!r}; try again")
            self._home.stopped.touch(mode=0o600)
            # The supervisor sees the mark and ends; its lock is free when all is down.
            if not self._take(held, "supervisor", max(0.0, deadline - time.monotonic())):
                raise EmbeddedUnavailable(f"the server in {str(self.home)!r} did not stop within {timeout:.0f} s")
            self._stop_orphan()

    def _stop_orphan(self) -> None:
        # Left by a SIGKILLed supervisor. The data's owner is the account it runs under.
        note = self.home / "seat"
        place = Path(note.read_text(encoding="utf-8").strip()) if note.exists() else self.home
        for major in majors(place):
            orphan = cell(place, major)
            with contextlib.suppress(FileNotFoundError):
                postmaster.stop_orphan(orphan, accounts.service_account(orphan.data.stat().st_uid))
        self._home.record.unlink(missing_ok=True)

    def _make_home(self) -> None:
        # Root's data belongs to another account, which must be able to pass through the folders made here.
        mode = 0o711 if sys.platform != "win32" and os.geteuid() == 0 else 0o700
        missing = [p for p in (self.home, *self.home.parents) if not p.exists()]
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=mode)
                folder.chmod(mode)  # whatever the umask

    def _revive(self, deadline: float, *, after_down: bool) -> Server:
        """Wait for the server, starting a supervisor whenever there is none.

        ``after_down``: even if it was stopped on purpose.
        """
        with contextlib.ExitStack() as held:
            booting, boots = False, 0
            while True:
                supervised = is_held(self._home.lock("supervisor").path)
                if supervised and not self._home.stopped.exists() and (server := self.status()) is not None:
                    return server
                if not booting:
                    booting = self._take(held, "boot", 0.0)
                elif not supervised:
                    if not after_down and self._home.stopped.exists():
                        raise EmbeddedUnavailable("the server was stopped on purpose")
                    self._home.stopped.unlink(missing_ok=True)
                    boots += 1
                    if not self._boot(deadline) and boots == _BOOTS:
                        raise EmbeddedUnavailable(f"the supervisor ended without a word; see {str(self._home.log)!r}")
                if time.monotonic() > deadline:
                    raise EmbeddedUnavailable(
                        f"the server in {str(self.home)!r} did not answer in time; "
                        f"{str(self._home.log)!r} may say why; "
                        "a home on a network disk may be in use on another machine"
                    )
                time.sleep(_POLL)

    def _boot(self, deadline: float) -> bool:
        """Start a supervisor and hear its one line; false if it ended without one. The caller holds ``boot.lock``."""
        if not sys.executable:
            raise EmbeddedUnavailable("this Python does not know its own executable; set FLOWBOOK_DATABASE_URL")
        here = str(Path(__file__).resolve().parents[3])
        # This process' path in its own order, so that nothing shadows the standard library; a checkout comes last.
        path = [*(str(Path(entry).absolute()) for entry in sys.path if entry), here]
        environment = {k: v for k, v in os.environ.items() if k in _ENVIRONMENT}
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path))
        command = [
            sys.executable,
            "-P",
            "-m",
            "flowbook.store.embedded.supervisor",
            str(self.home),
            "--grace",
            str(self._grace),
        ]
        read, write = os.pipe()
        try:
            with os.fdopen(os.open(self._home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as log:
                # It forks and returns at once; "/" and a session of its own, see supervisor.py.
                subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=write,
                    stderr=log,
                    cwd="/",
                    env=environment,
                    start_new_session=True,
                    check=False,
                    timeout=max(1.0, deadline - time.monotonic()),
                )
            os.close(write)
            write = -1
            line = _line(read, deadline)
        except subprocess.SubprocessError as error:
            raise EmbeddedUnavailable(f"the supervisor could not be started: {error}") from error
        finally:
            for fd in (read, write):
                if fd >= 0:
                    os.close(fd)
        if not line:
            return False
        answer = json.loads(line)
        if "error" in answer:
            raise EmbeddedUnavailable(str(answer["error"]))
        return True

    def _take(self, held: contextlib.ExitStack, name: str, timeout: float) -> bool:
        lock: FileLock = self._home.lock(name)
        held.callback(lock.release)
        return lock.take(shared=False, timeout=timeout)

    def _watch(self, leave: threading.Event) -> None:
        pause = _WATCH
        while not leave.wait(pause):
            if not self._clients.in_place():
                return
            if is_held(self._home.lock("supervisor").path) or self._home.stopped.exists():
                pause = _WATCH
                continue
            try:
                # Without the mutex: detach() must not wait for it.
                self._revive(time.monotonic() + 60.0, after_down=False)
                pause = _WATCH
            except Exception:
                # Nobody to tell from a thread; whoever uses the database gets the error of attach().
                pause = min(_WATCH_MOST, pause * 2)

    def _after_fork(self) -> None:
        # A child is not attached (locks.py let go), has no watcher, and must not wait for a thread it does not have.
        self._clients = self._home.lock("clients")
        self._mutex = threading.RLock()
        self._leave = None


def _line(fd: int, deadline: float) -> str:
    text = b""
    while not text.endswith(b"\n"):
        if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return ""
        part = os.read(fd, 4096)
        if not part:
            return ""
        text += part
    return text.decode(errors="replace")


_clusters: weakref.WeakSet[Cluster] = weakref.WeakSet()


def _forget_after_fork() -> None:
    for cluster in list(_clusters):
        cluster._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
