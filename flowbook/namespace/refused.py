"""What a checkpoint does not keep, and why.

Owns: the kinds of values that pickle would change without a word (an open file becomes a StringIO, a memoryview
becomes bytes), with the reason that a person reads. Refuses: the ones that pickle itself refuses: those come with
pickle's own words.
"""

from __future__ import annotations

import functools
import io
import logging
import sys
import tempfile
import types
import weakref
from typing import Any, Final


class Unstorable(Exception):
    """This value cannot be kept; the text is the reason."""


_KINDS: Final[dict[type, str]] = {
    memoryview: "a memoryview would come back as bytes of its own",
    io.TextIOWrapper: "an open file cannot be carried over",
    io.BufferedReader: "an open file cannot be carried over",
    io.BufferedWriter: "an open file cannot be carried over",
    io.BufferedRandom: "an open file cannot be carried over",
    io.FileIO: "an open file cannot be carried over",
    weakref.finalize: "what is to happen when an object goes cannot be carried over",
    types.GeneratorType: "a generator that has begun cannot be carried over",
    types.FrameType: "a frame of running code cannot be carried over",
    types.TracebackType: "a traceback cannot be carried over",
}  # fmt: skip
_OPTIONAL: Final = (
    ("numpy", "memmap", "a memory-mapped array writes into its file; it would come back as a copy in memory"),
    ("ipywidgets", "Widget", "a widget lives in the page and in this kernel"),
    ("mmap", "mmap", "a memory map cannot be carried over"),
    ("subprocess", "Popen", "a running program cannot be carried over"),
    ("tqdm.std", "tqdm", "a progress bar draws into the output of its cell"),
)


def refuse(value: Any) -> None:
    """Raise `Unstorable` for a value that pickle would change without a word."""
    kind: Any = type(value)
    reason = _reason(kind, len(sys.modules))
    if reason is not None:
        raise Unstorable(reason)
    if isinstance(value, logging.Logger) and value.handlers:
        raise Unstorable("a logger with handlers of its own: they write to open files")


@functools.lru_cache(4096)
def _reason(kind: Any, modules: int) -> str | None:
    """Why no value of this type can be kept; None: nothing is known against it. ``modules``: how many are loaded."""
    if issubclass(kind, tempfile._TemporaryFileWrapper | tempfile.TemporaryDirectory):
        return "a temporary file goes with its kernel"
    for module, name, text in _OPTIONAL:
        kept = getattr(sys.modules.get(module), name, None)
        if isinstance(kept, type) and issubclass(kind, kept):
            return text
    return _KINDS.get(kind)


def reason_of(error: BaseException) -> str:
    """The reason in an error of pickle's, in one line."""
    if isinstance(error, Unstorable):
        return str(error)
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def type_of(value: Any) -> str:
    """``module.qualname`` of a value's type, without ``builtins``."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
