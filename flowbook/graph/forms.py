"""Forms: other ways to write a flow down, as state machines, lists and classes.

Owns: what ``entry=`` and ``terminal=`` add to a topology, the list form, and reading a class. Refuses: checking the
whole, which `flow.py` does for every form in the same way.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowbook.errors import DeclarationError
from flowbook.graph.expression import END_NODE, START_NODE, Composable, Fragment, Unknown, fragment, join
from flowbook.graph.step import step

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
OPTIONS = (
    "state", "version", "freeze", "pickled", "resources", "retries", "backoff", "timeout", "retry_on", "no_retry_on",
    "run_timeout", "outputs", "recursion_limit", "entry", "terminal",
)  # fmt: skip
"""Attributes of a class that are options of its flow."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a class says about its flow."""

    name: str
    topology: tuple[Any, ...]
    options: Mapping[str, Any]
    doc: str


def snake_case(name: str) -> str:
    """``DailyReport`` as ``daily_report``."""
    return _WORDS.sub("_", name).lower()


def listed(steps: Any) -> Fragment:
    """A list of steps, each behind the one before. A plain function becomes a step, a list within is a fork."""
    items: Any = steps
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        raise DeclarationError(f"a pipeline is a list of steps, one at least, and not {steps!r}")
    parts = [fragment(_as_node(item)) for item in items]
    whole = parts[0]
    for part in parts[1:]:
        whole = join(whole, part)
    return whole


def _as_node(thing: Any) -> Any:
    if isinstance(thing, list | tuple):
        return [_as_node(t) for t in thing]
    return step(thing) if inspect.isfunction(thing) and thing.__name__ != "<lambda>" else thing


def machine(topology: Sequence[Fragment], entry: Any, terminal: Any) -> tuple[Fragment, ...]:
    """The edges that ``entry=`` and ``terminal=`` add: START before the one, END behind the others."""
    known = {getattr(n, "name", ""): n for f in topology for n in nodes_of(f)}
    added = [join(fragment(START_NODE), fragment(_named(e, known))) for e in _several(entry)]
    added += [join(fragment(_named(t, known)), fragment(END_NODE)) for t in _several(terminal)]
    if terminal is None:
        return tuple(added)
    ends = {getattr(_named(t, known), "name", "") for t in _several(terminal)}
    sources = [e.source for f in topology for e in f.edges] + [r.source for f in topology for r in f.routings]
    left = {getattr(s, "name", "") for s in sources}
    lost = [name for name in known if name not in left | ends]
    told = tuple(f"{name} leads nowhere and is not terminal: name it there, or say where it leads" for name in lost)
    return (*added, Fragment((), (), loose=told))


def of_class(cls: type, name: str | None, given: Mapping[str, Any]) -> Declared:
    """What a class declares: ``steps``, or ``topology`` with ``nodes``, ``entry`` and ``terminal``, and its options.

    ``given``: what the decorator said, which counts before the class. Raises `DeclarationError` where there is nothing.
    """
    said = {k: v for base in reversed(cls.__mro__[:-1]) for k, v in vars(base).items()}
    if ("steps" in said) == ("topology" in said):
        raise DeclarationError(
            f"class {cls.__name__} is to be a flow: it has either steps = [...] or topology = ..., and not both"
        )
    options = {k: said[k] for k in OPTIONS if k in said} | dict(given)
    if "steps" in said:
        topology: tuple[Any, ...] = (listed(said["steps"]),)
    else:
        topology = tuple(said["topology"]) if isinstance(said["topology"], list | tuple) else (said["topology"],)
    if "nodes" in said:
        topology = (*topology, _declared_nodes(said["nodes"], [fragment(t) for t in topology]))
    called = name or said.get("name") or snake_case(cls.__name__)
    return Declared(called, topology, options, inspect.cleandoc(cls.__doc__ or ""))


def _declared_nodes(nodes: Any, topology: Iterable[Fragment]) -> Fragment:
    """The mistakes of a list of nodes: what the topology leaves out, and what it has besides."""
    given = list(nodes.values()) if isinstance(nodes, Mapping) else list(nodes)
    names = [getattr(n, "name", getattr(n, "__name__", repr(n))) for n in given]
    used = dict.fromkeys(str(getattr(n, "name", "")) for f in topology for n in nodes_of(f))
    told = [f"nodes names {n}, and no way leads to it or from it" for n in names if n not in used]
    told += [f"the topology names {n}, which nodes does not" for n in used if n not in names]
    return Fragment((), (), loose=tuple(told))


def nodes_of(f: Fragment) -> Iterator[Any]:
    """The nodes of a fragment, START and END left out."""
    mentioned = [*f.heads, *(n for n, _ in f.tails), *(x for e in f.edges for x in (e.source, e.target))]
    mentioned += [x for r in f.routings for x in (r.source, *(t for c in r.cases for t in c.targets))]
    return (n for n in mentioned if n not in (START_NODE, END_NODE) and isinstance(n, Composable))


def _named(thing: Any, known: Mapping[str, Any]) -> Any:
    """A node, by itself or by its name."""
    if isinstance(thing, str):
        return known.get(thing) or Unknown(f"entry or terminal names {thing!r}, which the topology does not")
    return thing


def _several(things: Any) -> list[Any]:
    return [] if things is None else list(things) if isinstance(things, list | tuple | set) else [things]
