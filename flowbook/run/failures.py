"""Failures: an exception as the journal keeps it.

Owns: cutting the engine's frames off a traceback, formatting the rest, naming the step where the codec knows only the
keys. Refuses: judging (`plan/decide.py`).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from flowbook import errors
from flowbook.errors import FlowbookError, IllegalTransition, RunTimedOut, StoreError, Unencodable
from flowbook.plan.records import Failure
from flowbook.secret import redact

_HOUSE = str(Path(errors.__file__).resolve().parent) + os.sep
_CARRIERS = (_HOUSE, str(Path(asyncio.__file__).parent), str(Path(concurrent.futures.__file__).parent))
"""Whose frames stand between the engine and a step's body."""
_LIMIT = 20_000
"""Characters of a traceback that are kept: its end says what happened, so the middle goes."""


def failure_of(error: BaseException) -> Failure:
    """The failure record of an exception. Never raises: an exception whose ``str`` raises is named by its class."""
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        message = error.message if isinstance(error, FlowbookError) else str(error)
    except Exception as broken:
        message = f"(its text cannot be had: {type(broken).__name__})"
    code = error.code if isinstance(error, FlowbookError) else ""
    return Failure(name, _clean(message), _clean(formatted(error)), code)


def users_traceback(error: BaseException) -> TracebackType | None:
    """The traceback from the first frame of the step itself; the whole one where all of it is."""
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_CARRIERS):
        tb = tb.tb_next
    return tb or error.__traceback__


def formatted(error: BaseException) -> str:
    """The traceback as text, from the step's own frames on, in its causes too."""
    if text := getattr(error, "__flowbook_traceback__", ""):
        return str(text)  # it was raised in a child process
    try:
        told = traceback.TracebackException(type(error), error, users_traceback(error))
        _strip(told.__cause__)
        _strip(told.__context__)
        ours = isinstance(error, FlowbookError) and not isinstance(error, IllegalTransition | StoreError)
        if ours and all(frame.filename.startswith(_HOUSE) for frame in told.stack):
            told.stack.clear()  # it tells of the step, not of the engine that noticed
        text = "".join(told.format())
    except Exception as broken:
        return f"{type(error).__qualname__} (its traceback cannot be formatted: {type(broken).__name__})"
    if len(text) > _LIMIT:
        text = text[: _LIMIT // 4] + "\n  [...]\n" + text[-_LIMIT * 3 // 4 :]
    return text


def _strip(told: traceback.TracebackException | None) -> None:
    """Take the engine's frames off a cause, and off its causes; TracebackException has no cycles."""
    while told is not None:
        while told.stack and told.stack[0].filename.startswith(_HOUSE):
            del told.stack[0]
        told = told.__cause__ or told.__context__


def _clean(text: str) -> str:
    """Failures are shown in terminals and stored in columns that take no NUL and no lone surrogates."""
    return redact(text).encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def named(error: Unencodable, node: str) -> Unencodable:
    """The codec's error with the step's words: the payload's own keys mean nothing to people."""
    where = error.key_path.removeprefix("[1]").removeprefix(".")
    return Unencodable(f"result of {node!r}" + (f", {where}" if where else ""), error.reason).with_traceback(
        error.__traceback__
    )


def lost(path: str, number: int) -> Failure:
    """What is said of an attempt whose process has ended under it."""
    told = f"the process that ran attempt {number} of {path} died before it ended"
    return Failure("flowbook.errors.AttemptLost", told, "", "FB309")


def raised(failure: Failure) -> BaseException | None:
    """The exception of a failure that no step raised; None: of a step's."""
    return RunTimedOut(failure.message) if failure.code == RunTimedOut.code else None


LINE = 500
"""Characters of the line that tables show for an error."""


def one_line(path: str, failure: Failure) -> str:
    """A failure for tables."""
    where = f"{path}: " if path else ""
    return cut(f"{where}{failure.type}: {failure.message}", *failure.notes)


def cut(*texts: str) -> str:
    """The first lines of these on one, not too long."""
    return "; ".join(text.partition("\n")[0] for text in texts)[:LINE]


def with_notes(error: BaseException | None, notes: Sequence[str]) -> BaseException | None:
    """The exception with what went wrong after it."""
    if error is not None:
        for note in notes:
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
    return error
