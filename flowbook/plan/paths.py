"""Paths: the identity of everything that happens in a run.

Owns: the grammar ``segment ("/" segment)*``, ``segment = name "#" n ("[" i "]")?``, and what a name may be.
Refuses: meaning. Identity is the path, never the order in which things finish: a node's firings are numbered
along one branch, so two executions of the same journal number them alike.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SEGMENT = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)#(?P<n>[1-9][0-9]*)(?:\[(?P<i>0|[1-9][0-9]*)\])?\Z")


@dataclass(frozen=True, slots=True)
class Segment:
    """One step of a path: the ``n``-th firing (from 1) of ``name``; ``index`` counts items of a map from 0."""

    name: str
    n: int
    index: int | None = None

    def __str__(self) -> str:
        tail = "" if self.index is None else f"[{self.index}]"
        return f"{self.name}#{self.n}{tail}"


def firing(name: str, n: int) -> str:
    """The path of the ``n``-th firing of a node of the run's own graph."""
    return f"{name}#{n}"


def item(path: str, index: int) -> str:
    """The path of item ``index`` of a map's firing. No other outcome has a path that ends with an index."""
    return f"{path}[{index}]"


def item_of(path: str) -> tuple[str, int]:
    """(path of the map, index) of an item's path. Raises ValueError for any other path."""
    head, bracket, index = path.removesuffix("]").rpartition("[")
    if not bracket or not path.endswith("]"):
        raise ValueError(f"{path!r} is no item of a map")
    return head, int(index)


def home(path: str) -> str:
    """Where the token stands to which an outcome at a path belongs: at the map for an item, else at the path itself."""
    return item_of(path)[0] if path.endswith("]") else path


def branch(fork: str, index: int) -> str:
    """The id of the token on branch ``index`` of a fork."""
    return f"{fork}[{index}]"


def parse(path: str) -> tuple[Segment, ...]:
    """The segments of a path. Raises ValueError, naming the part that is not one."""
    segments = []
    for part in path.split("/"):
        match = _SEGMENT.match(part)
        if match is None:
            raise ValueError(f"{path!r} is not a path: {part!r} should look like name#1 or name#1[0]")
        index = match["i"]
        segments.append(Segment(match["name"], int(match["n"]), None if index is None else int(index)))
    return tuple(segments)


def node_of(path: str) -> str:
    """The name of the node that a path's last segment fires."""
    return path.rsplit("/", 1)[-1].partition("#")[0]
