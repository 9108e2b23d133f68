"""Exceptions of durable calls: what a body catches when it runs again is what it caught the first time.

Owns: an exception as data (``[module, class, arguments, attributes]``), and the exception made of it. Refuses: the text
for people (`failures.py`), and importing anything: a class is found among the modules that are loaded.

A body may catch what its step raised and go on another way, so it must be able to catch the very same after a crash.
Both times it gets the exception that was made from the journal, never the live one: what it decides on cannot then be
something that the journal does not have.
"""

from __future__ import annotations

from typing import Any

from flowbook.codec import decode, encode
from flowbook.codec.registry import find_class
from flowbook.errors import StepFailed, ValueRefused
from flowbook.plan.records import Call


def as_data(error: BaseException) -> Any:
    """``[module, class, arguments, attributes]``; what the codec refuses of it is left out. Never raises."""
    kind = type(error)
    if not isinstance(error, Exception) or isinstance(error, ExceptionGroup):
        return None
    arguments = [a if _carried(a) else repr(a) for a in error.args]
    attributes = {k: v for k, v in vars(error).items() if not k.startswith("__") and _carried(v)}
    return [kind.__module__, kind.__qualname__, arguments, attributes]


def exception_of(path: str, call: Call) -> Exception:
    """The exception of a call that failed, ready to be raised; `StepFailed` where its class is not to be had."""
    assert call.failure is not None
    error: Exception | None = None
    if call.raised is not None:
        module, name, arguments, attributes = call.raised
        kind = find_class(module, name)
        if kind is not None and issubclass(kind, Exception):
            try:
                error = kind.__new__(kind, *arguments)
                error.args = tuple(arguments)
                vars(error).update(attributes)
            except Exception:  # its class has changed since
                error = None
    if error is None:
        error = StepFailed(f"{path} failed: {call.failure.type}: {call.failure.message}")
    vars(error)["__flowbook_call__"] = path
    return error


def blamed(error: BaseException | None) -> tuple[str, ...]:
    """Paths of the failed calls that an exception comes from: itself, its causes, the members of a group."""
    found: dict[str, None] = {}
    seen: set[int] = set()
    stack = [error]
    while stack:
        one = stack.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        path = getattr(one, "__flowbook_call__", None)
        if isinstance(path, str):
            found[path] = None
        stack += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            stack += one.exceptions
    return tuple(found)


def _carried(value: Any) -> bool:
    try:
        return type(decode(encode(value))) is type(value)
    except ValueRefused:
        return False
