"""Processes: one child process per attempt, for steps that must be stoppable or that would hold the GIL.

Owns: starting the child, sending the body, reading its result, killing it when the attempt is cancelled.
Refuses: being fast; a child costs an interpreter's start. Bodies travel by cloudpickle where it is installed (functions
of a notebook), else by pickle.
"""

from __future__ import annotations

import asyncio
import pickle
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any

from flowbook.errors import FlowbookError, RunError, Unencodable
from flowbook.graph.binding import call

_HEADER = struct.Struct("!Q")
_CALLER = call.__code__.co_filename
_CHILD = "from flowbook.executors.processes import child; child()"


class ProcessExecutor:
    """Runs bodies in child processes, which die with the attempt."""

    async def run(self, body: Callable[[], Any]) -> Any:
        """The body's result; its exception is raised here. Cancelling kills the child.

        Raises `Unencodable` if the body cannot travel, `RunError` if the child dies.
        """
        data = _dumps(body)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CHILD, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env=None, start_new_session=True,
        )  # fmt: skip
        try:
            setup = pickle.dumps(sys.path)
            message = _HEADER.pack(len(setup)) + setup + _HEADER.pack(len(data)) + data
            answer, _ = await process.communicate(message)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise RunError(f"the step's process died with exit status {process.returncode} and left no result")
        ok, value, told = pickle.loads(answer)  # noqa: S301  our own child on our own pipe
        if ok:
            return value
        value.__flowbook_traceback__ = told  # its own one has stayed in the child
        raise value

    def shutdown(self) -> None:
        """Nothing to do: each child belongs to its attempt."""


def child() -> None:
    """Be the child: read a body from standard input, run it, write what came of it."""
    import os

    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the step prints must not mix with the answer
    sys.path[:] = pickle.loads(_read())  # noqa: S301  our own parent on our own pipe
    body = pickle.loads(_read())  # noqa: S301  likewise
    try:
        outcome: tuple[bool, Any, str] = (True, body(), "")
    except Exception as error:  # every exception of a step is a result here
        outcome = (False, error, _told(error))
    try:
        data = _dumps(outcome)
        if not outcome[0]:
            pickle.loads(data)  # noqa: S301  an exception may pickle and yet not come back
    except Exception as error:
        ok, value, told = outcome
        what = "result" if ok else f"exception ({type(value).__qualname__}: {value})"
        data = pickle.dumps((False, RunError(f"the step's {what} cannot leave its process: {error}"), told))
    answer.write(data)
    answer.flush()


def _told(error: BaseException) -> str:
    """The traceback from the step's own frames on."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None and tb.tb_frame.f_code.co_filename in (__file__, _CALLER):
        tb = tb.tb_next
    return "".join(traceback.format_exception(type(error), error, tb))


def _read() -> bytes:
    (size,) = _HEADER.unpack(sys.stdin.buffer.read(_HEADER.size))
    return sys.stdin.buffer.read(size)


def _dumps(thing: Any) -> bytes:
    try:
        import cloudpickle as pickler  # heavy, optional: only a process step needs it
    except ImportError:
        pickler = pickle
    try:
        data: bytes = pickler.dumps(thing)
    except FlowbookError:
        raise
    except Exception as error:
        raise Unencodable("", f'cannot be sent to another process (executor="process"): {error}') from error
    return data
