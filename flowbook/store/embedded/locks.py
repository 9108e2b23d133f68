"""File locks that the kernel drops when their holder dies.

Owns: one advisory lock per file, shared or exclusive, and the promise that a forked child never holds one.
Refuses: process ids, time stamps and lock files that mean something by merely existing. A lock is held by an open
file description, so SIGKILL, a crash and a power cut all release it; nothing is ever "stale".

Three files of a home are locked:

    clients.lock     shared by every attached process; the supervisor stops when it can have it exclusively
    supervisor.lock  exclusive by the one supervisor for its life; "is it held?" is the test for a supervisor
    boot.lock        exclusive by whoever starts or stops a supervisor, so that eight cold starts make one server
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from pathlib import Path

from flowbook.errors import EmbeddedUnavailable

if sys.platform != "win32":
    import fcntl

_POLL = 0.01  # seconds between two tries; flock has no wait with a deadline


class FileLock:
    """One lock on one file; not re-entrant, not for sharing between threads without a lock of their own."""

    def __init__(self, path: Path) -> None:
        """``path``: the file to lock. It is created (mode 0600) on first use; its folder must exist."""
        self.path = path
        self._fd = -1
        _live.add(self)

    @property
    def held(self) -> bool:
        """Whether this object holds the lock now."""
        return self._fd >= 0

    def take(self, *, shared: bool, timeout: float = 0.0) -> bool:
        """Try for ``timeout`` seconds (0: once) and say whether the lock is held afterwards.

        Raises ``EmbeddedUnavailable`` where there is no ``flock``, ``OSError`` where the file cannot be opened.
        """
        if self.held:
            return True
        if sys.platform == "win32":
            raise EmbeddedUnavailable(
                "the embedded Postgres needs file locks that Windows does not have; set FLOWBOOK_DATABASE_URL"
            )
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = time.monotonic() + timeout
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, mode | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
            except BaseException:
                os.close(fd)
                raise
            else:
                self._fd = fd
                if self.in_place():
                    return True
                self.release()  # the folder was removed and made again meanwhile: this lock guards nothing
                continue
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)

    def in_place(self) -> bool:
        """Whether the held file is still the one under its path (false after someone deleted the home)."""
        if not self.held:
            return False
        try:
            there, mine = self.path.stat(), os.fstat(self._fd)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def release(self) -> None:
        """Let go; harmless when nothing is held. In a forked child this leaves the parent's hold untouched."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def is_held(path: Path) -> bool:
    """Whether any process holds the lock at ``path`` exclusively; false when the file does not exist.

    Asks with a *shared* lock, so that two askers never see each other; the one that takes the lock for good
    retries for a moment, because an asker may be in its way for some microseconds.
    """
    if sys.platform == "win32" or not path.exists():
        return False
    probe = FileLock(path)
    try:
        return not probe.take(shared=True)
    finally:
        probe.release()


_live: weakref.WeakSet[FileLock] = weakref.WeakSet()


def _forget_after_fork() -> None:
    # A child shares the parent's open file description: if it kept the descriptor, the lock would outlive the parent.
    for lock in list(_live):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)
