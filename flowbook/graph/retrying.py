"""Retrying: which exceptions are worth another attempt.

Owns: the names by which a policy keeps exception classes, and asking whether an exception is one of them. Refuses:
counting attempts (`plan/decide.py` judges) and importing anything.

A class is kept as the text ``module.qualname``. So a policy is plain data, which is stored, compared and rebuilt
without the class; and a cell that is run again, which makes a new class of the same name, changes nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flowbook.errors import DeclarationError, StepTimeout

Predicate = Callable[[BaseException], Any]
Kind = type[BaseException] | str
"""An exception class, or its name."""
RetryOn = Kind | Predicate | Iterable[Kind | Predicate]

_NAME = re.compile(r"[A-Za-z_]\w*(\.([A-Za-z_]\w*|<locals>))*\Z")


def sorted_out(option: str, given: RetryOn) -> tuple[tuple[str, ...], Predicate | None]:
    """(names of classes, the one predicate) of what was typed. Raises `DeclarationError`."""
    single = isinstance(given, str | type) or not isinstance(given, Iterable)
    things: list[Any] = [given] if single else list(given)  # type: ignore[arg-type]
    names: dict[str, None] = {}
    predicates: list[Predicate] = []
    for thing in things:
        if isinstance(thing, type) and issubclass(thing, BaseException):
            names[name_of(thing)] = None
        elif isinstance(thing, str) and _NAME.match(thing):
            names[thing] = None
        elif callable(thing) and not isinstance(thing, type):
            predicates.append(thing)
        else:
            raise DeclarationError(
                f"{option}={thing!r}: name exception classes, as classes or as texts such as 'httpx.ReadTimeout', or "
                f"give a function of the exception"
            )
    if not things:
        raise DeclarationError(f"{option}=(): it names no exception; leave it out, or say retries=0")
    if len(predicates) > 1:
        raise DeclarationError(f"{option} has {len(predicates)} functions: put them into one")
    return tuple(names), predicates[0] if predicates else None


def name_of(kind: type[BaseException]) -> str:
    """``module.qualname`` of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def is_one_of(error: BaseException, names: Sequence[str]) -> bool:
    """True if the exception is of a class with one of these names, or of one derived from it.

    A name without a module means whatever class is called so; one with a module, the class itself or what the module
    calls so (``requests.ConnectionError`` is defined in ``requests.exceptions``). A step's time limit counts as a
    ``TimeoutError``.
    """
    kinds: list[type] = [*type(error).__mro__, *(TimeoutError.__mro__ if isinstance(error, StepTimeout) else ())]
    if not names:
        return False
    from flowbook.graph.locate import ORIGINS  # reads sources, which nobody needs who only declares

    called = {name_of(k) for k in kinds} | {k.__qualname__ for k in kinds}
    called |= {f"{ORIGINS[k].module}.{k.__qualname__}" for k in kinds if k in ORIGINS}  # of a flow that was rebuilt
    return any(name in called or _alias(name) in kinds for name in names)


def _alias(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(module), attribute, None) if module else None
