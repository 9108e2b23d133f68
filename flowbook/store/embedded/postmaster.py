"""Postmasters that nobody is the parent of any more.

Owns: proof that a process is the postmaster of *our* data folder, stopping it, and mending a ``postmaster.pid`` that
names somebody else. Refuses: sending a signal to a process it has no proof for; a number in a file proves nothing.

The proof is taken from the process itself, through a handle that a re-used pid cannot slip under (``pidfd``): its
argument vector names ``postgres -D <our data folder>``, it belongs to the account, and it is not a zombie.

Why ``postmaster.pid`` is mended and never deleted: its last lines name the shared memory of the dead postmaster, by
which a new one finds backends that are still writing. Without the file that check is skipped, and two servers on one
folder destroy it. Postgres ignores the pid of its own parent in that file, so ours is written there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from flowbook.errors import EmbeddedUnavailable
from flowbook.store.embedded.account import Account
from flowbook.store.embedded.layout import Cell, replace_file

# Fast shutdown, immediate shutdown, and the end; seconds to wait after each.
_STAGES = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 2.0)) if sys.platform != "win32" else ()


def stop_orphan(home: Cell, account: Account) -> bool:
    """Stop the postmaster that runs on ``home.data`` without a supervisor; says whether there was one.

    The caller holds the supervisor's lock. Raises ``EmbeddedUnavailable`` if it survives even SIGKILL (a hung disk).
    """
    pid = _written_pid(home)
    if pid is None:
        return False
    with _handle(pid) as fd:
        if not is_ours(pid, home, account):
            return False
        for number, patience in _STAGES:
            _send(pid, fd, number)
            if _gone(pid, fd, home, account, patience):
                return True
    raise EmbeddedUnavailable(f"postmaster {pid} of {str(home.data)!r} does not end; its disk may hang")


def mend_pid_file(home: Cell, account: Account) -> None:
    """Make ``postmaster.pid`` harmless when it names a process that is not our postmaster.

    To be called by the process that will be the parent of the next postmaster, after ``stop_orphan``.
    """
    path = home.data / "postmaster.pid"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return
    if not lines:
        path.unlink()  # the crash came before a line was written, so there is no shared memory to look for
        return
    lines[0] = str(os.getpid())
    replace_file(path, "\n".join(lines) + "\n", account)


def clear_sockets(folder: Path) -> None:
    """Delete what dead postmasters left in the socket's folder, which belongs to this home alone.

    Their lock files name pids as well, and Postgres would wait for a zombie or a stranger with such a pid to end. They
    guard the socket only; the data has its own lock, mended above.
    """
    for left in folder.glob(".s.PGSQL.*"):
        left.unlink(missing_ok=True)


def claims_ready(home: Cell) -> bool:
    """Whether ``postmaster.pid`` says so: a hint when to ask the server itself, which logs every refused attempt."""
    try:
        lines = (home.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def is_ours(pid: int, home: Cell, account: Account) -> bool:
    """Whether live process ``pid`` is the postmaster of ``home.data``; a zombie is not alive."""
    facts = _from_proc(pid) if Path("/proc/self/cmdline").exists() else _from_ps(pid)
    if facts is None:
        return False
    uid, arguments = facts
    data = str(home.data)
    named = any(pair == ("-D", data) for pair in itertools.pairwise(arguments))
    return uid == account.uid and named and Path(arguments[0]).name == "postgres"


def _from_proc(pid: int) -> tuple[int, list[str]] | None:
    folder = Path(f"/proc/{pid}")
    try:
        status = (folder / "stat").read_text(encoding="utf-8", errors="replace")
        if status.rpartition(")")[2].split()[0] in ("Z", "X"):
            return None
        arguments = [os.fsdecode(a) for a in (folder / "cmdline").read_bytes().split(b"\0")]
        return folder.stat().st_uid, arguments
    except (OSError, IndexError):
        return None


def _from_ps(pid: int) -> tuple[int, list[str]] | None:
    # Without /proc (macOS): arguments come in one line, so a folder with a blank in it is put together again.
    shown = subprocess.run(
        ["ps", "-ww", "-o", "uid=,stat=,command=", "-p", str(pid)], capture_output=True, text=True, cwd="/", check=False
    ).stdout.split(None, 2)
    if len(shown) < 3 or shown[1].startswith("Z"):
        return None
    program, _, rest = shown[2].strip().partition(" -D ")
    return int(shown[0]), [program, "-D", rest.partition(" -p ")[0]]


def _written_pid(home: Cell) -> int | None:
    try:
        with (home.data / "postmaster.pid").open(encoding="utf-8", errors="replace") as file:
            pid = int(file.readline())
    except (OSError, ValueError):
        return None
    return pid if pid > 1 else None  # kill() takes 0 and negative numbers for groups


@contextlib.contextmanager
def _handle(pid: int) -> Iterator[int | None]:
    fd: int | None = None
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fd = os.pidfd_open(pid)
    try:
        yield fd
    finally:
        if fd is not None:
            os.close(fd)


def _send(pid: int, fd: int | None, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if sys.platform == "linux" and fd is not None:
            signal.pidfd_send_signal(fd, number)
        else:
            os.kill(pid, number)


def _gone(pid: int, fd: int | None, home: Cell, account: Account, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if fd is not None:
            if select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return True
        elif not is_ours(pid, home, account):
            return True
        else:
            time.sleep(0.02)
    return False
