"""The child: what runs in the process of a step that has one.

Owns: reading a body from standard input, running it, and writing what it prints, displays, plots and returns as frames
(`processes.py` reads them). Refuses: knowing runs, stores or attempts.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import Any, BinaryIO

from flowbook.capture import figures, routing
from flowbook.errors import RunError
from flowbook.executors.processes import FRAME, HEADER, OUTPUT, RESULT, dumps
from flowbook.graph.binding import call
from flowbook.plan.outputs import Kind

_CALLER = call.__code__.co_filename


class Pipe:
    """To the parent; may be written to from any thread."""

    def __init__(self, to: BinaryIO) -> None:
        self._to = to
        self._guard = threading.Lock()

    def send(self, letter: bytes, content: bytes) -> None:
        with self._guard:
            self._to.write(FRAME.pack(letter, len(content)) + content)
            self._to.flush()

    def write(self, kind: Kind, text: str) -> None:
        """As a keeper: a record of logging, or an error."""
        self.send(OUTPUT, pickle.dumps((kind, text)))

    def display(self, data: Mapping[str, Any], metadata: Mapping[str, Any], name: str = "") -> None:
        """As a keeper: something rich."""
        self.send(OUTPUT, pickle.dumps(("display", dict(data), dict(metadata))))


class Piped:
    """Standard output or error of a child."""

    def __init__(self, pipe: Pipe, kind: str, behind: Any) -> None:
        self._pipe, self._kind, self._behind = pipe, kind, behind

    def write(self, text: str) -> int:
        kind = "handler" if routing.quiet.get() else self._kind
        self._pipe.send(OUTPUT, pickle.dumps((kind, str(text))))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Each piece is sent at once."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)


def child() -> None:
    """Be the child."""
    pipe = Pipe(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what is written past sys.stdout must not mix with the frames
    sys.stdout, sys.stderr = Piped(pipe, "stdout", sys.stdout), Piped(pipe, "stderr", sys.stderr)
    routing.note_logging()
    routing.current.set(pipe)
    sys.path[:] = pickle.loads(_read())  # noqa: S301  our own parent on our own pipe
    body = pickle.loads(_read())  # noqa: S301  likewise
    try:
        outcome: tuple[bool, Any, str] = (True, body(), "")
    except Exception as error:  # every exception of a step is a result here
        outcome = (False, error, _told(error))
    figures.hang()
    try:
        data = dumps(outcome)
        if not outcome[0]:
            pickle.loads(data)  # noqa: S301  an exception may pickle and yet not come back
    except Exception as error:
        ok, value, told = outcome
        what = "result" if ok else f"exception ({type(value).__qualname__}: {value})"
        data = pickle.dumps((False, RunError(f"the step's {what} cannot leave its process: {error}"), told))
    pipe.send(RESULT, data)


def _told(error: BaseException) -> str:
    """The traceback from the step's own frames on."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None and tb.tb_frame.f_code.co_filename in (__file__, _CALLER):
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(error), error, tb))


def _read() -> bytes:
    (size,) = HEADER.unpack(sys.stdin.buffer.read(HEADER.size))
    return sys.stdin.buffer.read(size)
