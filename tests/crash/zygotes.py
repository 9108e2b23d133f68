"""Zygotes: processes that import everything once and fork victims, because an interpreter's start takes a second.

Owns: both ends of the line between a test and such a process. A request is a line of JSON on standard input, the answer
a line of JSON on standard output. `Zygote` asks; `serve` answers by forking one victim per request, which tells what it
likes in lines and dies; `killing` is the tap that kills a process at a chosen point of the wire. Refuses: knowing what
a victim carries (`victims.py`, `drawn.py`); `workers.py` answers in its own way, because its children live on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowbook.store import driver

REPO = Path(__file__).resolve().parents[2]

Tell = Callable[[str], None]
"""Sends a line to the test, whatever happens to the process behind it."""


class Zygote:
    """The test's end: a process that runs ``python -m module``."""

    def __init__(self, module: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer to a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """Let it end, and wait for that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


@contextmanager
def zygotes(module: str, number: int = 1) -> Iterator[list[Zygote]]:
    """So many of them, closed at the end."""
    made = [Zygote(module) for _ in range(number)]
    try:
        yield made
    finally:
        for zygote in made:
            zygote.close()


def serve(victim: Callable[[dict[str, Any], Tell], None]) -> None:
    """Be a zygote: one victim per request, one after the other, each waited for.

    The answer: ``killed`` (by SIGKILL), ``exit`` (its exit code) and ``told``, the lines that it has told.
    """
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _be(victim, request, writer)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            told = pipe.read().splitlines()
        _, status = os.waitpid(pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(json.dumps({"killed": killed, "exit": os.waitstatus_to_exitcode(status), "told": told}), flush=True)


def _be(victim: Callable[[dict[str, Any], Tell], None], request: dict[str, Any], out: int) -> None:
    """Be the victim: never returns."""

    def tell(text: str) -> None:
        os.write(out, f"{text}\n".encode())

    try:
        victim(request, tell)
        os._exit(0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        os._exit(1)


def killing(kill: Callable[[str, int, int], bool], tell: Tell = lambda _: None) -> driver.Tap:
    """A tap that kills its process at a point of the wire, ``name:phase``, and tells of each that was passed.

    ``kill`` is asked with the point, its number among those of its name, and its number among all.
    """
    passed: Counter[str] = Counter()
    lock = threading.Lock()

    def tap(name: str, phase: driver.Phase) -> None:
        with lock:
            point = f"{name}:{phase}"
            passed[point] += 1
            tell(point)
            if kill(point, passed[point], passed.total()):
                os.kill(os.getpid(), signal.SIGKILL)

    return tap
