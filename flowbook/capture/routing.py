"""Routing: from where steps write to the shelf of the attempt that is writing.

Owns: the context variable, and what is put around sys.stdout, sys.stderr, logging and IPython's display while an app is
open. Refuses: changing where anything goes: all is passed on as it came, to the terminal or to the cell that ipykernel
finds by its own means, and is noted on the way.

Logging is noted at `Logger.callHandlers`, behind the levels and filters of the user: a handler of ours on the root
logger would make `logging.basicConfig` do nothing and silence the handler of last resort. What handlers then print is
not noted a second time.
"""

from __future__ import annotations

import base64
import contextlib
import contextvars
import copy
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from flowbook import secret
from flowbook.plan.outputs import Kind

WIDGET: Final = "application/vnd.jupyter.widget-view+json"


class Keeper(Protocol):
    """What takes the output of an attempt: a shelf, or in a step's own process the pipe to one."""

    def write(self, kind: Kind, text: str) -> None:
        """Keep a text."""
        ...

    def display(self, data: Mapping[str, Any], metadata: Mapping[str, Any], name: str = "") -> None:
        """Keep something rich."""
        ...


current: contextvars.ContextVar[Keeper | None] = contextvars.ContextVar("flowbook_output", default=None)
"""Whose output it is that is written here."""
quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("flowbook_quiet", default=False)
"""True: it has been noted already."""

_guard = threading.Lock()
_users: list[object] = []
"""One per open app."""
_undo: list[Callable[[], None]] = []


class Noted:
    """A stream that notes what goes through it. In all else it is the stream behind it."""

    def __init__(self, stream: Any, kind: Kind) -> None:
        self.__dict__.update(_stream=stream, _kind=kind)

    def write(self, text: str) -> Any:
        keeper = current.get()
        if keeper is not None and not quiet.get() and type(text) is str:
            keeper.write(self._kind, text)
        return self._stream.write(secret.redact(text) if secret.known and type(text) is str else text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "write":  # IPython puts its own here for each cell, over what it finds: over ours
            self.__dict__[name] = value
        else:
            setattr(self._stream, name, value)

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __repr__(self) -> str:
        return repr(self._stream)

    def __reduce__(self) -> Any:
        return getattr, (sys, self._kind)  # a function that names it finds the one of its own process


def install(user: object) -> None:
    """Begin to note for ``user``; once for all apps of a process."""
    with _guard:
        _users.append(user)
        note_streams()
        if len(_users) == 1:
            note_logging()
            _note_displays()


def uninstall(user: object) -> None:
    """``user`` is no more; the last one puts everything back as it was. Harmless when repeated."""
    with _guard:
        _users[:] = [other for other in _users if other is not user]
        if not _users:
            while _undo:
                _undo.pop()()


def note_streams() -> None:
    """Put ourselves before sys.stdout and sys.stderr."""
    kinds: tuple[Kind, ...] = ("stdout", "stderr")
    for kind in kinds:
        behind = getattr(sys, kind)
        if type(behind) is Noted or behind is None:  # None: a program without a console
            continue
        noted = Noted(behind, kind)
        setattr(sys, kind, noted)

        def back(kind: str = kind, noted: Noted = noted, behind: Any = behind) -> None:
            if getattr(sys, kind) is noted:  # else somebody has put something there since, and will take it away
                setattr(sys, kind, behind)

        _undo.append(back)


def note_logging() -> None:
    """Note each record that goes to handlers, as one line and its traceback."""
    behind = logging.Logger.callHandlers

    def call_handlers(self: logging.Logger, record: logging.LogRecord) -> None:
        keeper = current.get()
        if secret.known:
            record = _without_secrets(record)
        if keeper is None or quiet.get():
            behind(self, record)
            return
        token = quiet.set(True)
        try:
            keeper.write("log", f"{told(record)}\n")
            behind(self, record)
        finally:
            quiet.reset(token)

    logging.Logger.callHandlers = call_handlers  # type: ignore[method-assign]

    def back() -> None:
        if logging.Logger.callHandlers is call_handlers:
            logging.Logger.callHandlers = behind  # type: ignore[method-assign]

    _undo.append(back)


def _without_secrets(record: logging.LogRecord) -> logging.LogRecord:
    """The record as it will be told, without the secrets' values; the same one where it has none."""
    line = told(record)
    if secret.redact(line) == line:
        return record
    clean = copy.copy(record)
    with contextlib.suppress(Exception):  # one that cannot be formatted is the handlers' to complain about
        clean.msg, clean.args = secret.redact(record.getMessage()), ()
    if record.exc_info:
        clean.exc_text, clean.exc_info = secret.redact(_FORMAT.formatException(record.exc_info)), None
    return clean


_FORMAT = logging.Formatter("%(levelname)s %(name)s: %(message)s")


def told(record: logging.LogRecord) -> str:
    """A record as a line. A record that cannot be formatted is the handlers' to complain about."""
    try:
        return _FORMAT.format(record)
    except Exception:
        return f"{record.levelname} {record.name}: {record.msg!r} % {record.args!r}"


# ------------------------------------------------------------------------------------------------------------- IPython


def publisher() -> Any:
    """IPython's, where there is a shell; it is never imported here."""
    core = sys.modules.get("IPython.core.interactiveshell")
    shell = core.InteractiveShell._instance if core is not None else None
    return None if shell is None else shell.display_pub


def show(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Display a bundle as the running step would: noted, and shown where there is a cell."""
    there = publisher()
    if there is not None:
        there.publish(dict(data), dict(metadata))
    elif (keeper := current.get()) is not None:
        keeper.display(data, metadata)


def _note_displays() -> None:
    there = publisher()
    if there is None:
        return
    behind = there.publish

    def publish(data: Any, metadata: Any = None, *args: Any, **more: Any) -> Any:
        keeper = current.get()
        if keeper is not None and not quiet.get():
            name = str((more.get("transient") or {}).get("display_id", ""))
            if kept := portable(data):
                keeper.display(kept, metadata or {}, name)
        return behind(data, metadata, *args, **more)

    there.publish = publish

    def back() -> None:
        if there.__dict__.get("publish") is publish:
            del there.publish

    _undo.append(back)


def portable(data: Any) -> dict[str, Any]:
    """A bundle without what shows nothing once its kernel is gone; bytes in base64."""
    if not isinstance(data, Mapping) or WIDGET in data:
        return {}
    return {str(k): base64.b64encode(v).decode() if isinstance(v, bytes) else v for k, v in data.items()}
