"""What stands in the place of a variable that a checkpoint could not keep.

Owns: the sentinel, whose every use raises and says why. Refuses: deciding what is lost (`refused.py`, `groups.py`).
"""

from __future__ import annotations

from typing import Any, NoReturn

from flowbook.errors import VariableMissing

_DUNDERS = (
    "abs", "add", "aenter", "aiter", "and", "anext", "await", "bool", "bytes", "call", "ceil", "complex", "contains",
    "delitem", "divmod", "enter", "eq", "exit", "float", "floor", "floordiv", "format", "ge", "getitem", "gt", "index",
    "int", "invert", "iter", "le", "len", "lshift", "lt", "matmul", "mod", "mul", "ne", "neg", "next", "or", "pos",
    "pow", "radd", "rand", "rdivmod", "reversed", "rfloordiv", "rlshift", "rmatmul", "rmod", "rmul", "ror", "round",
    "rpow", "rrshift", "rshift", "rsub", "rtruediv", "rxor", "setitem", "str", "sub", "truediv", "trunc", "xor",
)  # fmt: skip


class Missing:
    """A variable that is not there: whoever uses it is told what it was, why it was not kept, and what to do.

    Looking at it (`repr`, `type`) is allowed, so that a list of variables can be shown.
    """

    __slots__ = ("_why",)

    def __init__(self, name: str, kind: str, reason: str, cell: str | None) -> None:
        object.__setattr__(self, "_why", (name, kind, reason, cell))

    def __repr__(self) -> str:
        name, kind, _, _ = object.__getattribute__(self, "_why")
        return f"<missing: {name} ({kind})>"

    __hash__ = object.__hash__

    def __getattr__(self, attribute: str) -> NoReturn:
        raise_missing(self)

    def __setattr__(self, attribute: str, value: object) -> NoReturn:
        raise_missing(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[type, tuple[str, str, str, str | None]]:
        return Missing, object.__getattribute__(self, "_why")


def why(missing: Missing) -> tuple[str, str, str, str | None]:
    """Name, type, reason and defining cell of what is missing."""
    found: tuple[str, str, str, str | None] = object.__getattribute__(missing, "_why")
    return found


def raise_missing(missing: Missing, *_: object, **__: object) -> NoReturn:
    """Say what is missing. Raises `VariableMissing`, always."""
    name, kind, reason, cell = why(missing)
    where = f", which cell {cell} defines," if cell is not None else ""
    raise VariableMissing(
        f"{name!r} ({kind}){where} is not in the checkpoint that was restored: {reason}. Make it again: run its cell; "
        "with the tag 'flow-rerun' that happens at every resume"
    )


for _name in _DUNDERS:
    setattr(Missing, f"__{_name}__", raise_missing)
