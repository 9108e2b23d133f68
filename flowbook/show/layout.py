"""Layout: where the places of a topology stand.

Owns: sizes, the question to graphviz and reading its answer, and a plain arrangement for when there is no answer.
Refuses: drawing (`svg.py`).

Graphviz is asked for coordinates only (``-Tplain``) and gets ids only, never a text of the user's: what a label says
can neither break its grammar nor come back in its output. `dot` is taken where it is installed, else graphviz-pure,
which comes with the package. A pathological graph keeps any engine busy for half a minute, so it gets a few seconds,
and then the plain arrangement is used, which never fails.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowbook.show.safe import clean, width
from flowbook.show.topology import Kind, Place, Topology

LIMIT = 5.0
"""Seconds that graphviz gets for one picture."""
WIDE = 1120.0
"""A picture wider than this (pixels) goes from top to bottom if that makes it narrower."""
MANY = 100
"""With more places than so many only one direction is asked for: it would be wide in any case."""
QUICK = "nslimit=0.3 nslimit1=0.3 mclimit=0.1"
"""For those: graphviz improves the places of 500 nodes for a second and more, and nobody sees by how much."""
STRAIGHT = 300
"""With more edges than so many they are straight lines: leading 800 curves around nodes takes longer than the rest."""
NAME_LIMIT = 36
"""Longer names are cut; the whole is in the tooltip."""
HEIGHT = 46.0
MARK = 16.0

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A place with its place: middle and size in pixels, y downwards."""

    place: Place
    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True, slots=True)
class Line:
    """An edge as a Bézier chain: a start, then three points per piece."""

    source: str
    target: str
    points: tuple[Point, ...]
    label: str
    label_at: Point | None
    way: int
    """Which of the topology's ways it is."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A topology with coordinates."""

    name: str
    w: float
    h: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    topology: Topology
    plain: bool = False
    """True: graphviz did not answer in time, or is not there."""


@functools.lru_cache(maxsize=128)
def arrange(topology: Topology, limit: float = LIMIT) -> Layout:
    """Coordinates for a topology; always comes back, at most about ``limit`` seconds later."""
    many = len(topology.places) > MANY
    answer = _ask(source(topology, down=many), limit if many else limit / 2)
    if answer is None:
        return _plain(topology)
    if many:
        return _read(topology, answer, down=True)
    across = _read(topology, answer, down=False)
    if across.w <= WIDE:
        return across
    answer = _ask(source(topology, down=True), limit / 2)
    down = None if answer is None else _read(topology, answer, down=True)
    return down if down is not None and down.w < across.w else across


def source(topology: Topology, *, down: bool = False) -> str:
    """The question in DOT: ids and sizes."""
    rank = "TB" if down else "LR"
    quick = QUICK if len(topology.places) > MANY else ""
    straight = "splines=line" if len(topology.ways) > STRAIGHT else ""
    lines = [
        f'digraph {{ graph [rankdir={rank} nodesep="{0.4 if down else 0.3}" ranksep="0.42" {quick} {straight}]',
        'node [shape=box fixedsize=true label=""] edge [arrowhead=none fontname=Helvetica fontsize=11]',
    ]
    for place in topology.places:
        w, h = size(place, down=down)
        shape = "circle" if place.kind in (Kind.START, Kind.END) else "box"
        lines.append(f"{place.id} [width={w / 72:.4f} height={h / 72:.4f} shape={shape}]")
    depth, port = _depths(topology), "e" if down else "s"
    for way in topology.ways:
        label = f' [label="{"x" * max(2, round(width(way.label, 11) / 5.0) + 2)}"]' if way.label else ""
        # A way back leaves and enters at the side: beside the way forth it would be drawn over it.
        at = f":{port}" if depth[way.target] < depth[way.source] else ""
        lines.append(f"{way.source}{at} -> {way.target}{at}{label}")
    return "\n".join([*lines, "}"])


def size(place: Place, *, down: bool = False) -> tuple[float, float]:
    """Width and height of a place in pixels."""
    if place.kind in (Kind.BAR, Kind.RACE):
        return (42.0, 5.0) if down else (5.0, 42.0)
    if place.kind is Kind.STEP:
        return max(162.0, 60.0 + 1.08 * width(clean(place.name, NAME_LIMIT))), HEIGHT
    return MARK, MARK


def engine() -> str | None:
    """The program that is asked, or None."""
    pure = Path(sysconfig.get_path("scripts")) / "graphviz-pure"
    return shutil.which("dot") or (str(pure) if pure.exists() else None) or shutil.which("graphviz-pure")


def _ask(question: str, limit: float) -> str | None:
    program = engine()
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "-Tplain"], input=question, capture_output=True, text=True, timeout=limit, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.stdout.rstrip().endswith("stop") else None


def _read(topology: Topology, answer: str, *, down: bool) -> Layout:
    """https://graphviz.org/docs/outputs/plain/: inches, y upwards."""
    places = {p.id: p for p in topology.places}
    ways: dict[tuple[str, str], list[int]] = {}
    for i, way in enumerate(topology.ways):
        ways.setdefault((way.source, way.target), []).append(i)
    w = h = 0.0
    boxes, lines = [], []
    for raw in answer.splitlines():
        word = raw.split()
        if word[0] == "graph":
            w, h = float(word[2]) * 72, float(word[3]) * 72
        elif word[0] == "node":
            place = places[word[1]]
            boxes.append(Box(place, float(word[2]) * 72, h - float(word[3]) * 72, *size(place, down=down)))
        elif word[0] == "edge":
            n = int(word[3])
            numbers = [float(x) * 72 for x in word[4 : 4 + 2 * n]]
            points = tuple((numbers[i], h - numbers[i + 1]) for i in range(0, 2 * n, 2))
            # Parallel edges come in the order in which they were asked for.
            i = ways[word[1], word[2]].pop(0)
            label = topology.ways[i].label
            lines.append(Line(word[1], word[2], points, label, _middle(points) if label else None, i))
    return Layout(topology.name, w, h, tuple(boxes), tuple(lines), topology)


def _middle(points: tuple[Point, ...]) -> Point:
    """The middle of a chain. Graphviz keeps room for the label beside the line; on the line it is clear whose it is."""
    pieces = (len(points) - 1) // 3
    if pieces % 2 == 0:
        return points[pieces // 2 * 3]
    a, b, c, d = points[pieces // 2 * 3 : pieces // 2 * 3 + 4]
    return (a[0] + 3 * b[0] + 3 * c[0] + d[0]) / 8, (a[1] + 3 * b[1] + 3 * c[1] + d[1]) / 8


def _plain(topology: Topology) -> Layout:
    """Places in columns by their distance from the beginning; edges as single curves."""
    columns = _columns(topology)
    boxes: dict[str, Box] = {}
    x, height = 0.0, max((len(c) for c in columns), default=0) * 74.0
    for column in columns:
        widest = max(size(p)[0] for p in column)
        for row, place in enumerate(column):
            y = (row + 0.5) * height / len(column)
            boxes[place.id] = Box(place, x + widest / 2, y, *size(place))
        x += widest + 64.0
    lines = [_curve(boxes[way.source], boxes[way.target], way.label, i) for i, way in enumerate(topology.ways)]
    found = tuple(boxes.values())
    return Layout(topology.name, max(x - 64.0, MARK), height, found, tuple(lines), topology, plain=True)


def _curve(a: Box, b: Box, label: str, way: int) -> Line:
    if a.x < b.x:
        (x1, y1), (x2, y2) = (a.x + a.w / 2, a.y), (b.x - b.w / 2, b.y)
        half = (x2 - x1) / 2
        points = ((x1, y1), (x1 + half, y1), (x2 - half, y2), (x2, y2))
    else:  # back, or to itself: below both
        y1, y2 = a.y + a.h / 2, b.y + b.h / 2
        low = max(y1, y2) + 30.0
        points = ((a.x, y1), (a.x, low), (b.x, low), (b.x + (12.0 if a is b else 0.0), y2))
    at = ((points[0][0] + points[3][0]) / 2, (points[1][1] + points[2][1]) / 2) if label else None
    return Line(a.place.id, b.place.id, points, label, at, way)


def _columns(topology: Topology) -> Sequence[Sequence[Place]]:
    depth = _depths(topology)
    columns: list[list[Place]] = []
    for place in topology.places:
        level = max(depth.values()) + 1 if place.kind is Kind.END else depth[place.id]
        columns += [[] for _ in range(level + 1 - len(columns))]
        columns[level].append(place)
    return [c for c in columns if c]


def _depths(topology: Topology) -> Mapping[str, int]:
    """Place -> its distance from the beginning."""
    after: dict[str, list[str]] = {}
    for way in topology.ways:
        after.setdefault(way.source, []).append(way.target)
    depth: dict[str, int] = {}
    for root in topology.places:  # START is the first; whatever it does not reach begins on its own
        if root.id not in depth:
            _walk(root.id, after, depth)
    return depth


def _walk(root: str, after: Mapping[str, list[str]], depth: dict[str, int]) -> None:
    depth[root] = 0
    line = [root]
    for node in line:
        for target in after.get(node, ()):
            if target not in depth:
                depth[target] = depth[node] + 1
                line.append(target)
