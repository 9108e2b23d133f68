"""Mistakes: how an error of ours appears in a cell.

Owns: `brief`, which makes an error show itself in a few lines. Refuses: swallowing it: the cell still fails, so that
"run all" stops there and a headless run ends with an error.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import flowbook.errors
from flowbook.errors import UsageError
from flowbook.show.safe import clean

E = TypeVar("E", bound=BaseException)

_OURS = (str(Path(flowbook.errors.__file__).parent), str(Path(concurrent.futures.__file__).parent), asyncio.__path__[0])

RED, PLAIN = "\x1b[0;31m", "\x1b[0m"


def brief(error: E) -> E:
    """The same error, shown as its message: forty lines of our frames would tell the user nothing.

    IPython asks an exception for its own rendering under this name.
    """
    text = clean(error)

    def render() -> list[str]:
        return [f"{RED}{type(error).__name__}{PLAIN}: {text}"]

    error._render_traceback_ = render  # type: ignore[attr-defined]
    return error


def without_our_frames(error: E) -> E:
    """A step's exception with only the user's frames in its traceback: the cell is where the mistake is.

    All of them stay if none is the user's.
    """
    frames = []
    tb = error.__traceback__
    while tb is not None:
        if not tb.tb_frame.f_code.co_filename.startswith(_OURS):
            frames.append(tb)
        tb = tb.tb_next
    kept: TracebackType | None = None
    for tb in reversed(frames):
        kept = TracebackType(kept, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
    return error.with_traceback(kept) if kept is not None else error


def usage(text: str) -> UsageError:
    """A call that cannot be taken as it was typed."""
    return brief(UsageError(text))
