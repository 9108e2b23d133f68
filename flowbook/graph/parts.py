"""Parts: what the result of each node depends on, and which of it an edit has changed.

Owns: `stale`, which compares two definitions node by node, with all that a node's code reaches: helpers, constants,
imports, flows; and `unseen`, what it reads that no definition holds. Refuses: the topology as a whole (`changes.py`
tells of it) and judging what may be kept of a run (`plan/reuse.py`).

How often a step is tried, how long it may take and what undoes it change no result, so they do not count here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowbook.graph.changes import Defined, identity_of, shown_constant

Part = tuple[str, str]
"""(what it is, its name)."""

_ROLES = (("step", "its code changed"), ("when", "its condition changed"), ("router", "the branch behind it changed"))
_OF_FLOW = ("fingerprint", "input", "into", "key")
_OF_MAP = ("step", "over", "into", "collect", "item")
_OF_WAIT = ("signals", "seconds", "into")


def stale(old: Defined, new: Defined) -> Mapping[str, tuple[str, ...]]:
    """Node of ``new`` that ``old`` has too -> why what it returned before is not what it would return now; nodes whose
    results still hold are left out.
    """
    before = {n["name"]: n for n in old.spec.get("nodes") or ()}
    found = {}
    for node in new.spec.get("nodes") or ():
        was = before.get(node["name"])
        if was is not None and (why := tuple(dict.fromkeys(_why(old, was, new, node)))):
            found[node["name"]] = why
    return found


def unseen(d: Defined) -> Mapping[str, tuple[str, ...]]:
    """Node -> names of data that its code reads and that no definition holds: nobody can tell whether it changed."""
    found = {}
    for node in d.spec.get("nodes") or ():
        names = {name for role, _ in _ROLES for what, name in _reached(d, node.get(role, "")) if what == "data"}
        if names:
            found[node["name"]] = tuple(sorted(names))
    return found


def _why(old: Defined, was: Mapping[str, Any], new: Defined, now: Mapping[str, Any]) -> Iterator[str]:
    for role, word in _ROLES:
        if (role in was) is not (role in now):
            yield word
        elif role in now:
            yield from _of_code(old, was[role], new, now[role], word)
    if was.get("labels") != now.get("labels") or was.get("values") != now.get("values"):
        yield "the branch behind it changed"
    if _picked(was.get("wait"), _OF_WAIT) != _picked(now.get("wait"), _OF_WAIT):
        yield "what it waits for changed"
    if _picked(was.get("map"), _OF_MAP) != _picked(now.get("map"), _OF_MAP):
        yield "what it maps changed"
    yield from _of_flow(old, was.get("flow"), new, now.get("flow"))
    if was.get("body") != now.get("body"):
        yield "its code changed"


def _of_flow(old: Defined, was: Any, new: Defined, now: Any) -> Iterator[str]:
    if was is None or now is None:
        if was is not now:
            yield "its code changed"
        return
    if was["fingerprint"] != now["fingerprint"]:
        yield f"its flow {now['name']} changed"
    for what in _OF_FLOW[1:]:
        a, b = was.get(what), now.get(what)
        if isinstance(a, str) and isinstance(b, str) and what in ("input", "key"):
            yield from _of_code(old, a, new, b, f"its {what}= changed")
        elif a != b:
            yield f"its {what}= changed"


def _of_code(old: Defined, a: str, new: Defined, b: str, word: str) -> Iterator[str]:
    one, other = _reached(old, a), _reached(new, b)
    if one.get(("code", a)) != other.get(("code", b)):
        yield word
        return  # what else it reads now is part of that
    for part in [*other, *(p for p in one if p not in other)]:
        what, name = part
        if what in ("data", "code") and name in (a, b):
            continue
        if what != "data" and one.get(part) != other.get(part):
            yield _said(what, name, old, one.get(part), new, other.get(part))


def _said(what: str, name: str, old: Defined, a: Any, new: Defined, b: Any) -> str:
    match what:
        case "constant" if a is not None and b is not None:
            return f"`{name}` is {shown_constant(new, b.key)} instead of {shown_constant(old, a.key)}"
        case "import":
            return f"`{name}` is imported otherwise"
        case "flow":
            return f"flow `{name}`, which it uses, changed"
        case _:
            return f"`{name}`, which it uses, changed"


def _reached(d: Defined, key: str) -> Mapping[Part, Any]:
    """Everything that a callable reaches, each part with what makes it itself."""
    found: dict[Part, Any] = {}
    callables: Mapping[str, Any] = d.sources.get("callables") or {}
    waiting = [key]
    while waiting:
        at = waiting.pop(0)
        if ("code", at) in found or at not in callables:
            continue
        entry = callables[at]
        found["code", at] = [identity_of(entry), entry.get("patches"), entry.get("code")]
        for name, meaning in _names(d, entry):
            waiting += _enter(d, found, name, meaning)
    return found


def _names(d: Defined, entry: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    scopes = d.sources.get("scopes") or []
    for name in entry.get("names") or ():
        yield name, scopes[entry["scope"]]["names"][name]
    yield from (entry.get("private") or {}).items()


def _enter(d: Defined, found: dict[Part, Any], name: str, meaning: list[Any]) -> list[str]:
    """Note what a name means; the keys of the callables behind it."""
    match meaning:
        case ["callable", str() as key]:
            return [key]
        case ["step", str() as key, step, options, *asked]:
            found["step", name] = [step, options]
            return [key, *asked]
        case ["constant", key]:
            found["constant", name] = _Constant(d.sources["constants"].get(key), key)
        case ["steps", list() as named]:
            found["steps", name] = [n for n, _ in named]
            return [key for n, each in named for key in _enter(d, found, f"{name}[{n!r}]", each)]
        case ["data", *_]:
            found["data", name] = None
        case [kind, *rest]:
            found[kind, name] = rest
        case _:
            found["?", name] = meaning
    return []


@dataclass(frozen=True, slots=True)
class _Constant:
    """A constant; equal to another one whose bytes are the same."""

    stored: Any
    key: str = field(compare=False)


def _picked(thing: Any, keys: tuple[str, ...]) -> Any:
    return None if thing is None else [thing.get(k) for k in keys]
