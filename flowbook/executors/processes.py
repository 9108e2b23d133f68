"""Processes: one child process per attempt, for steps that must be stoppable or that would hold the GIL.

Owns: starting the child, sending the body, reading its result, killing it when the attempt is cancelled.
Refuses: being fast; a child costs an interpreter's start. Bodies travel by cloudpickle where it is installed (functions
of a notebook), else by pickle.

The child answers in frames, a letter, a length and the content: pieces of output as they come (`child.py`), and in the
end the result. What it prints is printed here, by the attempt, as if the step had run here.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any

from flowbook.capture import routing
from flowbook.errors import FlowbookError, RunError, Unencodable

HEADER = struct.Struct("!Q")
FRAME = struct.Struct("!cQ")
OUTPUT, RESULT = b"o", b"r"
_CHILD = "from flowbook.executors.child import child; child()"


class ProcessExecutor:
    """Runs bodies in child processes, which die with the attempt."""

    async def run(self, body: Callable[[], Any]) -> Any:
        """The body's result; its exception is raised here. Cancelling kills the child.

        Raises `Unencodable` if the body cannot travel, `RunError` if the child dies.
        """
        data = dumps(body)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CHILD, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env=None, start_new_session=True,
        )  # fmt: skip
        try:
            setup = pickle.dumps(sys.path)
            message = HEADER.pack(len(setup)) + setup + HEADER.pack(len(data)) + data
            answer = await _answer(process, message)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if answer is None:
            raise RunError(f"the step's process died with exit status {process.returncode} and left no result")
        ok, value, told = pickle.loads(answer)  # noqa: S301  our own child on our own pipe
        if ok:
            return value
        value.__flowbook_traceback__ = told  # its own one has stayed in the child
        raise value

    def shutdown(self) -> None:
        """Nothing to do: each child belongs to its attempt."""


async def _answer(process: asyncio.subprocess.Process, message: bytes) -> bytes | None:
    """The result; what is printed meanwhile is printed here. None: the child died."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: its end says so below
        process.stdin.write(message)
        await process.stdin.drain()
        process.stdin.close()
    answer = None
    with contextlib.suppress(asyncio.IncompleteReadError):
        while answer is None:
            letter, size = FRAME.unpack(await process.stdout.readexactly(FRAME.size))
            content = await process.stdout.readexactly(size)
            if letter == RESULT:
                answer = content
            else:
                _put_out(*pickle.loads(content))  # noqa: S301  our own child on our own pipe
    await process.wait()
    return answer if process.returncode == 0 else None


def _put_out(kind: str, *what: Any) -> None:
    keeper = routing.current.get()
    if kind in ("stdout", "stderr"):
        getattr(sys, kind).write(*what)
    elif kind == "handler":  # what a handler of logging wrote: the record itself is noted as one
        token = routing.quiet.set(True)
        try:
            sys.stderr.write(*what)
        finally:
            routing.quiet.reset(token)
    elif kind == "display":
        routing.show(*what)
    elif keeper is not None:
        keeper.write("log" if kind == "log" else "error", *what)


def dumps(thing: Any) -> bytes:
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
