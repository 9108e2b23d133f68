"""Pictures on a page: what `page/picture.js` is told, so that a picture drawn once follows a run.

Owns: the messages about nodes and edges (`node`, `nodes`, `edges`), and the traits that every widget with a picture
begins with (`traits`). Refuses: when they are sent (each widget's own matter) and the picture itself (`svg.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flowbook.observe.views import RunView, State
from flowbook.show.layout import Layout
from flowbook.show.looks import LOOKS
from flowbook.show.painted import marks
from flowbook.show.safe import clean
from flowbook.show.svg import LEAST, Mark, draw
from flowbook.show.taken import taken
from flowbook.show.topology import Kind

Node = dict[str, Any]


def traits(layout: Layout) -> dict[str, Any]:
    """What a picture needs once: ``{svg, least, icons, names}``."""
    return {
        "svg": draw(layout, {}),
        "least": LEAST,
        "icons": {str(state): look.icon for state, look in LOOKS.items()},
        "names": {i: clean(name, 200) for name, i in ids(layout).items()},
    }


def ids(layout: Layout) -> Mapping[str, str]:
    """Step name -> id of its node in the picture."""
    return {b.place.name: b.place.id for b in layout.boxes if b.place.kind is Kind.STEP}


def nodes(view: RunView, layout: Layout, now: datetime) -> dict[str, Node]:
    """Id -> what the page is told of it. A node that has not been reached is left out: all begin as pending."""
    known = ids(layout)
    return {known[name]: node(mark) for name, mark in marks(view, now).items() if name in known}


def edges(view: RunView, layout: Layout) -> list[int]:
    """The edges that were taken, as the page is told of them."""
    return sorted(taken(view, layout.topology))


def node(mark: Mark) -> Node:
    """What the page is told of a node. A clock's text goes as a pattern, so that a second that passes is no news.

    ``s``: state; ``t``: text, or ``c``: text with ``{}`` for a clock and ``at``: its moment (ms since 1970); ``b``:
    what the tooltip adds; ``p``: ``[total, done, failed, running]``.
    """
    told: Node = {"s": mark.state.value, "b": mark.title}
    start = mark.since if mark.state is State.RUNNING else mark.until
    if mark.clocked and start:
        told |= {"c": mark.clocked, "at": round(start.timestamp() * 1000)}
    else:
        told["t"] = clean(mark.text, 200)
    if mark.progress is not None:
        it = mark.progress
        told["p"] = [it.total, it.done, it.failed, it.running]
    return told
