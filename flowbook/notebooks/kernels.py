"""Kernels: starting one, stopping a cell in one, and why one has died.

Owns: the transport, the watch over a kernel's memory, and the words for its death. Refuses: messages (`client.py`).

Kernels on this machine are reached through sockets in a folder of their own (``ipc``). Ports are chosen before they
are taken, so that of twenty notebooks that start together two may be given the same one ("Address already in use").
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

PATIENCE: Final = 5.0
"""Seconds that a cell gets to hear an interrupt before its kernel is killed."""
_MB: Final = 1024 * 1024


def manager_for(kernel_name: str) -> Any:
    """A kernel manager of jupyter_client's, not started; through sockets in a folder where that is known to work."""
    from jupyter_client.manager import AsyncKernelManager

    plain = AsyncKernelManager(kernel_name=kernel_name)
    if sys.platform == "win32" or str(getattr(plain.kernel_spec, "language", "")).lower() != "python":
        return plain
    folder = tempfile.mkdtemp(prefix="fbk-")  # short: the path of a socket has 107 bytes at most
    return AsyncKernelManager(
        kernel_name=kernel_name, transport="ipc", ip=str(Path(folder, "k")), connection_file=str(Path(folder, "c.json"))
    )


def forget(manager: Any) -> None:
    """Remove what `manager_for` has made, once the kernel is gone."""
    folder = Path(str(getattr(manager, "connection_file", ""))).parent
    if folder.name.startswith("fbk-"):
        shutil.rmtree(folder, ignore_errors=True)


class Vitals:
    """What is known of a kernel's process: how it is stopped, how large it was, and how it ended."""

    def __init__(self, manager: Any) -> None:
        provisioner = getattr(manager, "provisioner", None)
        self._process = getattr(provisioner, "process", None)
        """Held, because the manager forgets it when the kernel is gone."""
        self.pid: int | None = getattr(provisioner, "pid", None)
        self._counters = {path: _kills(path) for path in _counters(self.pid)}
        self.resident = 0
        """Bytes of memory when it was last looked at."""

    def look(self) -> None:
        """Note how large it is now; cheap."""
        if self.pid is None:
            return
        for path in _counters(self.pid):  # again and again: a process may be put into another group
            self._counters.setdefault(path, _kills(path))
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
            self.resident = max(self.resident, pages * os.sysconf("SC_PAGE_SIZE"))

    def interrupt(self) -> None:
        """Stop the cell under way, and if it does not hear, the kernel."""
        if self.pid is None or sys.platform == "win32":
            return
        self._send(signal.SIGINT)
        late = threading.Timer(PATIENCE, self._insist)
        late.daemon = True
        late.start()
        self._late = late

    def heard(self) -> None:
        """The interrupt has been heard: the kernel stays."""
        if (late := getattr(self, "_late", None)) is not None:
            late.cancel()

    def _insist(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        with contextlib.suppress(OSError):
            if self.pid is not None and self.exit is None:  # else the number may be somebody else's
                os.kill(self.pid, number)

    @property
    def exit(self) -> int | None:
        """What it ended with, negative: by that signal; None: it lives, or nobody knows."""
        code: int | None = None if self._process is None else self._process.poll()
        return code

    def death(self) -> str:
        """How it ended, and what that means, in a sentence or two."""
        size = f"; it had {self.resident / _MB:,.0f} MB when it was last seen" if self.resident else ""
        code = self.exit
        if any(_kills(path) > before for path, before in self._counters.items()):
            return (
                f"the kernel was killed for memory: the system's out-of-memory killer took it (SIGKILL){size}. "
                f"{self._limit()}Let the cell take less at once, or give it more memory"
            )
        if code is None:
            return f"the kernel is gone{size}"
        if code >= 0:
            return f"the kernel ended by itself with exit code {code}{size}"
        if code == -getattr(signal, "SIGKILL", 9):
            return (
                f"the kernel was killed (SIGKILL){size}. {self._limit()}That is what the system does to a process that "
                f"takes too much memory; otherwise somebody has killed it"
            )
        name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        crash = ". That is a crash in compiled code" if name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE") else ""
        return f"the kernel was ended by {name}{size}{crash}"

    def _limit(self) -> str:
        with contextlib.suppress(OSError, ValueError, StopIteration):
            lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
            total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal")) * 1024
            for counter in self._counters:
                for name in ("memory.max", "memory.limit_in_bytes"):
                    with contextlib.suppress(OSError, ValueError):
                        total = min(total, int((counter.parent / name).read_text(encoding="ascii")))
            return f"It may take {total / _MB:,.0f} MB here. "
        return ""


def _counters(pid: int | None) -> list[Path]:
    """The files that count how often the out-of-memory killer has struck in the groups of a process."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            group = group.lstrip("/")
            if "memory" in controllers.split(","):
                found += [Path("/sys/fs/cgroup/memory", group, "memory.oom_control")]
            elif not controllers:
                found += [Path("/sys/fs/cgroup", group, "memory.events")]
    return [path for path in found if path.is_file()]


def _kills(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
