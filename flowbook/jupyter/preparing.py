"""Preparing in a notebook: a proof that shows how far it is.

Owns: its options, the line that tells of its progress, and its words about a promotion. Refuses: proving
(`flowbook/proving.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from flowbook import exporting
from flowbook.graph.flow import Graph
from flowbook.jupyter.answers import who
from flowbook.jupyter.mistakes import usage
from flowbook.jupyter.parse import count
from flowbook.show.proved import proof_html, proof_plain
from flowbook.show.safe import escape

if TYPE_CHECKING:
    from flowbook.jupyter.session import Session


def prove(session: Session, graph: Graph, values: Mapping[str, Any], options: Mapping[str, str]) -> None:
    """Prove a flow below the cell: a line while it goes, then the proof in its place."""
    place = uuid4().hex

    def told(text: str, *, update: bool = True) -> None:
        html = f'<div style="opacity:.8">proving {escape(graph.name, 80)}: {escape(text, 200)}</div>'
        bundle = {"text/html": html, "text/plain": f"proving {graph.name}: {text}"}
        session.publish(bundle, place, update=update)

    told("storing it", update=False)
    proof = session.app.prove(
        graph, values, signals={name: {} for name in _words(options.get("signal"))}, progress=told,
        ignore=_words(options.get("ignore")), timeout=_seconds(options.get("timeout", "300")),
        kills=count(options.get("kills", "25"), "--kills"),
    )  # fmt: skip
    session.publish({"text/html": proof_html(proof), "text/plain": proof_plain(proof)}, place, update=True)


def promote(session: Session, graph: Graph, values: Mapping[str, Any], options: Mapping[str, str]) -> str:
    """Pin a flow, and hand it to the workers where a cron says when; what is said of it."""
    cron, schedule = options.get("cron"), {}
    if cron is not None:
        schedule = {"cron": cron, "tz": options.get("tz", "UTC"), "input": dict(values)}
    elif values or "tz" in options:
        raise usage("an input and --tz say how --cron starts the flow; without it nothing is started")
    kept = session.app.promote(graph, unproven="unproven" in options, by=who(session.env), **schedule)
    proven = f"proven on {kept.at:%Y-%m-%d at %H:%M} UTC" if kept.passed else "not proven"
    whose = "whoever starts it by its name starts this version, and any worker with your key can carry it"
    then = f"; workers start it at {cron} ({schedule['tz']})" if cron else ""
    return f"{kept.flow} is pinned to {kept.fingerprint[:8]} ({proven}): {whose}{then}"


def export(graph: Graph, file: str, options: Mapping[str, str]) -> str:
    """Write a flow as a module; what is said of it."""
    path = exporting.export(graph, Path(file), force="force" in options)
    same = f"{path} declares the same version of {graph.name} ({graph.fingerprint[:8]})"
    return f"{same}: a run that was begun here goes on with `flowbook resume RUN --module {path}`"


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(filter(None, (w.strip() for w in (text or "").split(","))))


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise usage(f"--timeout {text!r}: it takes a number of seconds") from None
