"""Routes: a stored topology as lines of source.

Owns: `Routes`, which writes each way on as a line, in an order in which the nodes are mentioned as the flow has them,
and joins lines to chains. Refuses: what the nodes are (`export.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flowbook.graph.names import START

Branch = Callable[[Mapping[str, Any]], tuple[str, list[str]]]


@dataclass(frozen=True, slots=True)
class _Line:
    source: str
    """START, or a node."""
    tail: str
    """What stands behind its ``>>``."""
    targets: tuple[str, ...]
    """Nodes that the tail mentions, in their order."""
    only: str
    """The one node that it leads to; empty: none, or several."""


class Routes:
    """The topology of a spec; ``reference``: how a node is written, ``branch``: the router and labels behind one."""

    def __init__(self, spec: Mapping[str, Any], reference: Callable[[str], str], branch: Branch) -> None:
        self.reference = reference
        self.races = {(str(node), int(way)) for node, way in spec.get("races") or ()}
        self.order = [str(n["name"]) for n in spec["nodes"]]
        self.pending = [self._plain(START, 0, tuple(spec["entry"]))]
        for node in spec["nodes"]:
            name, ways = str(node["name"]), [tuple(map(str, way)) for way in node["ways"]]
            if "router" not in node:
                self.pending.append(self._plain(name, 0, ways[0] if ways else ()))
                continue
            router, labels = branch(node)
            cases = [
                f"{label}: {self._tail(name, i, way)}" for i, (label, way) in enumerate(zip(labels, ways, strict=True))
            ]
            targets = tuple(t for way in ways for t in way)
            self.pending.append(_Line(name, f"fb.branch({router}, {{{', '.join(cases)}}})", targets, ""))

    def lines(self) -> list[str]:
        """The expressions, to be given to ``fb.graph``."""
        found: list[str] = []
        mentioned: set[str] = set()
        end = ""
        while self.pending:
            line = self._next(mentioned)
            if line is None:  # no line mentions the next node first, so it is mentioned by itself
                name = next(n for n in self.order if n not in mentioned)
                mentioned.add(name)
                found.append(self.reference(name))
                end = ""
                continue
            self.pending.remove(line)
            mentioned |= {line.source, *line.targets}
            if end and end == line.source:
                found[-1] += f" >> {line.tail}"
            else:
                source = "fb.START" if line.source == START else self.reference(line.source)
                found.append(f"{source} >> {line.tail}")
            end = line.only
        return found

    def _next(self, mentioned: set[str]) -> _Line | None:
        wanted = [n for n in self.order if n not in mentioned]
        for line in self.pending:
            new = list(dict.fromkeys(n for n in (line.source, *line.targets) if n != START and n not in mentioned))
            if new == wanted[: len(new)]:
                return line
        return None

    def _plain(self, source: str, way: int, targets: tuple[str, ...]) -> _Line:
        return _Line(source, self._tail(source, way, targets), targets, targets[0] if len(targets) == 1 else "")

    def _tail(self, source: str, way: int, targets: tuple[str, ...]) -> str:
        names = [self.reference(t) for t in targets]
        if not names:
            return "fb.END"
        if (source, way) in self.races:
            return f"fb.race({', '.join(names)})"
        return names[0] if len(names) == 1 else f"[{', '.join(names)}]"
