"""Groups: pickling a set of variables, each once, those together that share.

Owns: the two passes (each variable by itself, to see what it shares; then each group together), and naming what cannot
be kept. Refuses: choosing the variables (`keeper.py`), cutting and writing.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowbook.namespace.missing import Missing, why
from flowbook.namespace.pickling import Dumped, dump
from flowbook.namespace.refused import reason_of, type_of
from flowbook.namespace.sharing import Sharing

PLAIN: Final = (int, float, complex, bool, type(None), str, bytes)
"""Types whose values are kept all together: nobody can change them, and they are small."""
SMALL: Final = 64 * 1024
"""Characters of a text up to which it is kept with them."""


@dataclass(slots=True)
class Pickled:
    """Variables that were pickled together."""

    names: tuple[str, ...]
    it: Dumped


def plain(value: Any) -> bool:
    """Is this one of the values that are kept all together?"""
    return type(value) in PLAIN and not (isinstance(value, str | bytes) and len(value) > SMALL)


def definitions(namespace: Mapping[str, Any]) -> dict[int, str]:
    """The id of each class and function of the notebook -> the variable that it is."""
    found: dict[int, str] = {}
    for name, value in namespace.items():
        own = (isinstance(value, type) and value.__module__ == "__main__") or (
            isinstance(value, types.FunctionType) and value.__globals__ is namespace
        )
        if own and (id(value) not in found or value.__name__ == name):
            found[id(value)] = name
    return found


def pickled(names: Collection[str], namespace: dict[str, Any]) -> tuple[list[Pickled], dict[str, tuple[str, str]]]:
    """These variables in their groups, and what is lost: name -> (type, reason)."""
    known = definitions(namespace)
    lost: dict[str, tuple[str, str]] = {}
    done: list[Pickled] = []
    dumped: dict[str, Dumped] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a value's own pickling says is not the notebook's output
        atoms = {name: namespace[name] for name in names if plain(namespace[name])}
        if atoms:
            done.append(Pickled(tuple(atoms), dump(atoms, namespace, {})))
        for name in names:
            if name not in atoms:
                found = _alone(name, namespace, known)
                if isinstance(found, Dumped):
                    dumped[name] = found
                else:
                    lost[name] = found
        done += _together(dumped, namespace, known, lost)
    _needing(done, lost, namespace)
    return done, lost


def _alone(name: str, namespace: dict[str, Any], known: Mapping[int, str]) -> Dumped | tuple[str, str]:
    value = namespace[name]
    if isinstance(value, Missing):
        _, kind, reason, _ = why(value)
        return kind, reason
    others = known
    if known.get(id(value)) == name:  # its own definition is carried here
        others = {key: other for key, other in known.items() if key != id(value)}
    try:
        return dump({name: value}, namespace, others)
    except Exception as error:
        return type_of(value), reason_of(error)


def _together(
    dumped: dict[str, Dumped], namespace: dict[str, Any], known: Mapping[int, str], lost: dict[str, tuple[str, str]]
) -> list[Pickled]:
    sharing = Sharing(dumped, known)
    groups = sharing.groups()
    for name, reason in sharing.unstorable.items():
        lost[name] = (type_of(namespace[name]), reason)
    done = []
    for group in groups:
        names = [name for name in group if name not in lost]
        held = [key for name in names for key in dumped[name].memo if key in sharing.views]
        if len(names) == 1 and not held:
            done.append(Pickled((names[0],), dumped[names[0]]))
            continue
        if not names:
            continue
        mine = {id(namespace[name]) for name in names}
        others = {key: name for key, name in known.items() if key not in mine}
        views = {key: sharing.views[key] for key in held}
        try:
            it = dump({name: namespace[name] for name in names}, namespace, others, views)
        except Exception as error:
            for name in names:
                lost[name] = (type_of(namespace[name]), reason_of(error))
        else:
            done.append(Pickled(tuple(names), it))
    return done


def _needing(done: list[Pickled], lost: dict[str, tuple[str, str]], namespace: Mapping[str, Any]) -> None:
    """What needs a class or function that is lost is lost as well."""
    while True:
        wrong = [p for p in done if p.it.needs & lost.keys()]
        if not wrong:
            return
        for it in wrong:
            done.remove(it)
            needed = ", ".join(sorted(it.it.needs & lost.keys()))
            for name in it.names:
                lost[name] = (type_of(namespace[name]), f"it needs {needed}, which cannot be kept")
