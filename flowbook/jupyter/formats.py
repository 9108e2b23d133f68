"""Formats: how flowbook's objects show themselves at the end of a cell.

Owns: the table of types and their forms, and registering it with IPython. Refuses: drawing (`show/`): the objects know
nothing of display, and without ``%load_ext`` they have their ``repr`` alone.

Each has plain HTML with pictures as images, which an untrusted notebook shows as well, and plain text. A topology has
SVG besides, for pages and converters that show no HTML.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from flowbook.graph.expression import Branch, Fragment
from flowbook.graph.flow import Graph
from flowbook.graph.mapping import Map
from flowbook.graph.pause import Pause
from flowbook.graph.step import Step
from flowbook.graph.subflow import Subflow
from flowbook.observe.diffs import Diff
from flowbook.observe.evaluations import Comparison, Evaluation
from flowbook.observe.inbox import Decisions
from flowbook.observe.planned import Plan
from flowbook.observe.proofs import Proof
from flowbook.observe.transcripts import Transcript
from flowbook.observe.views import RunView
from flowbook.query import Page
from flowbook.show.compared import diff_html
from flowbook.show.diff import diff_plain
from flowbook.show.evaluated import comparison_html, comparison_plain, evaluation_html, evaluation_plain
from flowbook.show.html import flow_html, flow_svg, run_html, runs_html
from flowbook.show.inbox import inbox_html, inbox_plain
from flowbook.show.planned import plan_html, plan_plain
from flowbook.show.proved import proof_html, proof_plain
from flowbook.show.schedules import schedules_html, schedules_plain
from flowbook.show.text import flow_plain, run_plain, runs_plain
from flowbook.show.transcript import transcript_html, transcript_plain
from flowbook.sync_schedules import SyncSchedules

Form = Callable[[Any], str]

TOPOLOGIES: Final = (Graph, Fragment, Branch)
"""What has no better text than the list of its ways."""
NODES: Final = (Step, Pause, Map, Subflow)
"""What has a text of its own."""
RECORDS: Final[tuple[tuple[type, Form, Form], ...]] = (
    (Diff, diff_html, diff_plain),
    (RunView, run_html, run_plain),
    (Plan, plan_html, plan_plain),
    (Proof, proof_html, proof_plain),
    (Page, lambda page: runs_html(page.rows), lambda page: runs_plain(page.rows)),
    (SyncSchedules, schedules_html, schedules_plain),
    (Decisions, inbox_html, inbox_plain),
    (Transcript, transcript_html, transcript_plain),
    (Evaluation, evaluation_html, evaluation_plain),
    (Comparison, comparison_html, comparison_plain),
)
"""Type, its HTML, its text."""


def register(formatters: Any) -> list[Callable[[], object]]:
    """Register all forms with IPython's formatters, by mime type; what takes each of them out again."""
    undo: list[Callable[[], object]] = []

    def put(mime: str, kind: type, form: Callable[..., Any]) -> None:
        formatters[mime].for_type(kind, form)
        undo.append(partial(formatters[mime].pop, kind, None))

    for kind in (*TOPOLOGIES, *NODES):
        put("text/html", kind, flow_html)
        put("image/svg+xml", kind, flow_svg)
    for kind in TOPOLOGIES:
        put("text/plain", kind, _printed(lambda it: flow_plain(it) or repr(it)))
    for record, html, plain in RECORDS:
        put("text/html", record, html)
        put("text/plain", record, _printed(plain))
    return undo


def _printed(form: Form) -> Callable[[Any, Any, bool], None]:
    """A form as IPython's pretty printer wants it."""
    return lambda it, p, cycle: p.text(form(it))
