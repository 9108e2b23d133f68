"""The closed registry: who takes a type apart, who puts it together, and where a class is looked up.

Owns: the tables, `Parts`, looking classes up by name, `register`. Refuses: knowing any type itself, and importing
anything but the codec's own module for a technology (``flowbook.codec.on_*``).

A type is taken apart into `Parts`: a tag, a small JSON ``meta``, ``children`` that are values again, and raw
``segments``. Walking and building work on parts alone, so no type's code ever recurses.

A class of the user's is found, never imported: its module must be in ``sys.modules`` already and hold a class of
the expected kind with the same field names. Anything else decodes to `Inert`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, TypeVar

from flowbook.codec.wire import Buffer


@dataclass(frozen=True, slots=True)
class Parts:
    """A value taken apart."""

    tag: str
    """Which maker puts it together; ``np.``, ``pd.`` and the like name the technology that must be loaded."""

    meta: Any = None
    """Plain JSON, small, without text of the user's (a lone surrogate in it could not be carried)."""

    children: Sequence[object] = ()
    """Values, encoded in turn."""

    segments: Sequence[Buffer] = ()
    """Raw bytes, carried as they are."""

    name: Callable[[int], str] = "[{}]".format
    """The key path's next piece for the child of an index, as ``.author`` or ``[3]``."""


class Refused(Exception):
    """A taker will not carry a value; ``at`` is what follows the value's own key path."""

    def __init__(self, reason: str, at: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


class Missing(Exception):
    """A maker lacks what it needs (a class, a library), so an `Inert` stands for the value."""


Take = Callable[[Any], Parts]
Make = Callable[[Any, list[Any], list[memoryview]], object]
Copy = Callable[[Any], object]
Kind = Callable[[type], bool]

TAKERS: Final[dict[type, Take]] = {}
"""By exact type: a subclass may mean more than its base, so it is never taken for it."""

KINDS: Final[list[tuple[Kind, Take]]] = []
"""For classes of the user's, asked in order when the exact type is unknown."""

MAKERS: Final[dict[str, Make]] = {}
"""By tag."""

COPIES: Final[dict[type, Copy]] = {}
"""By exact type: how `fresh` copies it, where that is cheaper than a round trip."""

KIND_COPIES: Final[list[tuple[Kind, Copy]]] = []
"""The same for classes of the user's, asked in order."""

_TECHNOLOGIES: Final = {
    "np": ("numpy", "flowbook.codec.on_numpy"),
    "pd": ("pandas", "flowbook.codec.on_pandas"),
    "pl": ("polars", "flowbook.codec.on_polars"),
    "pa": ("pyarrow", "flowbook.codec.on_arrow"),
    "pydantic": ("pydantic", "flowbook.codec.on_pydantic"),
}
_BY_PACKAGE: Final = dict(_TECHNOLOGIES.values())
_registered: Final[dict[tuple[str, str], type]] = {}

C = TypeVar("C", bound=type)
T = TypeVar("T", bound=Take)
M = TypeVar("M", bound=Make)


def takes(*types: type) -> Callable[[T], T]:
    """Declare the function that takes these exact types apart."""

    def declare(take: T) -> T:
        TAKERS.update(dict.fromkeys(types, take))
        return take

    return declare


def makes(tag: str) -> Callable[[M], M]:
    """Declare the function that puts a tag's value together."""

    def declare(make: M) -> M:
        MAKERS[tag] = make
        return make

    return declare


def register(cls: C) -> C:
    """Let a class be found by its name although its module does not hold it, e.g. one made in a function.

    Takes a dataclass, pydantic model, Enum or namedtuple class and returns it, so it serves as a decorator.
    The latest registration of a name wins. Raises TypeError for what is not a class.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register takes a class, not {cls!r}")
    _registered[cls.__module__, cls.__qualname__] = cls
    return cls


def taker(kind: type) -> Take | None:
    """Who takes values of this exact type apart, or None."""
    found = TAKERS.get(kind)
    if found is None:
        load_for(kind)
        found = TAKERS.get(kind)
    if found is None:
        found = next((take for fits, take in KINDS if fits(kind)), None)
    return found


def maker(tag: str) -> Make | None:
    """Who puts a tag's value together, or None. Raises `Missing` when its library is not installed here."""
    found = MAKERS.get(tag)
    if found is None:
        package, ours = _TECHNOLOGIES.get(tag.partition(".")[0], ("", ""))
        if ours:
            try:
                importlib.import_module(ours)
            except ImportError as error:
                raise Missing(f"{package} cannot be loaded here ({error})") from None
            found = MAKERS.get(tag)
    return found


def load_for(kind: type) -> None:
    """Load the codec's module for the package that a type comes from; its value exists, so the package is loaded."""
    for base in kind.__mro__:
        package = str(base.__module__).partition(".")[0]
        ours = _BY_PACKAGE.get(package)
        if ours and package in sys.modules:
            # Even when it is in sys.modules: another thread may be in the midst of it, and this waits for its end.
            importlib.import_module(ours)


def find_class(module: object, qualname: object) -> type | None:
    """The class of this name, if it is registered or stands in a loaded module; runs no code of that module's."""
    if not isinstance(module, str) or not isinstance(qualname, str):
        return None
    known = _registered.get((module, qualname))
    if known is not None:
        return known
    holder: object = sys.modules.get(module)
    if not isinstance(holder, ModuleType):
        return None
    # Past __getattr__ and __getattribute__: a lazy module or a metaclass would run code at a plain getattr.
    space = object.__getattribute__(holder, "__dict__")
    whole = space.get(qualname)  # pydantic puts `Box[a.Item]` into the module under that very name
    if isinstance(whole, type):
        return whole
    found: object = None
    for name in qualname.split("."):
        found = space.get(name)
        if not isinstance(found, type):
            return None
        space = type.__dict__["__dict__"].__get__(found)
    return found if isinstance(found, type) else None


def class_meta(cls: type, fields: Sequence[str]) -> dict[str, Any]:
    """How a class is referred to in a node; raises `Refused` when it could not be found again by its name."""
    found = find_class(cls.__module__, cls.__qualname__)
    if found is not cls:
        reference = f"{cls.__module__}:{cls.__qualname__}"
        why = "that name now means another class" if found else "there is no class of that name"
        raise Refused(
            f"its class cannot be found again as {reference!r}: {why}. Define it at the top level of a module or"
            " a cell (and make the value anew if the cell was re-run), or pass the class to flowbook.codec.register"
        )
    return {"class": [cls.__module__, cls.__qualname__], "fields": list(fields)}


def class_of(meta: Any, kind: Kind, what: str) -> type:
    """The class that a node refers to; raises `Missing` when none of that name and kind is loaded."""
    module, qualname = meta["class"]
    cls = find_class(module, qualname)
    if cls is None:
        raise Missing(f"no class {qualname!r} is loaded from {module!r}; import it (or run its cell) and read again")
    if not kind(cls):
        raise Missing(f"{module}:{qualname} is not {what} any more")
    return cls
