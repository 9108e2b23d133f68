"""The inspector: the widget that looks into one run, and into its children and forks.

Owns: its page and what is sent unasked, the news of the runs that it shows. Refuses: answering (the door gives it its
answers), watching (whoever shows it calls `Inspector.update`), and what stays when the kernel is gone (`still`).

Everything big is asked for: a page of the journal, a moment, a picture of the timeline. The only trait is what the page
needs for its first picture, so that a page that is loaded again has it too.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import traitlets

from flowbook.ids import short
from flowbook.observe.timeline import timeline_of
from flowbook.observe.views import RunView
from flowbook.plan.outputs import Output
from flowbook.show.html import run_html
from flowbook.show.inspected import Followed
from flowbook.show.looks import rules
from flowbook.show.outputs import outputs_html
from flowbook.show.preview import preview
from flowbook.show.safe import clean, escape
from flowbook.show.svg import data_uri
from flowbook.show.timeline import draw_timeline
from flowbook.show.widget import Answer, Widget, module, sheet

STILL_LANES = 60
"""Lanes of the timeline in the still form."""


class Inspector(Widget):
    """One run, looked into."""

    _esm = module(
        "dom", "picture", "decisions", "cells", "inspect_base", "inspect_time", "inspect_journal", "inspect_state",
        "inspect_step", "inspect_talk", "inspector",
    )  # fmt: skip
    _css = sheet("base", "picture", "inspector") + rules(".fb")

    home = traitlets.Dict().tag(sync=True)
    """What `Followed.whole` says of the run that it was opened with."""

    def __init__(self, view: RunView, answers: Mapping[str, Answer]) -> None:
        self._guard = threading.Lock()
        now = datetime.now(UTC)
        self._home, self._label = view.id, f"{view.flow} {short(view.id)}"
        self._followed: dict[UUID, Followed] = {view.id: Followed(view, now)}
        super().__init__(answers, home=self._followed[view.id].whole(view))

    def __repr__(self) -> str:
        """What a front end without widgets shows."""
        return f"<inspector of run {clean(self._label, 120)}>"

    def whole(self, view: RunView) -> dict[str, Any]:
        """Everything about a run that the page now shows too."""
        with self._guard:
            it = self._followed.setdefault(view.id, Followed(view, datetime.now(UTC)))
            it.news(view, datetime.now(UTC))
            return it.whole(view)

    def update(self, view: RunView, now: datetime | None = None) -> None:
        """Tell the page what is new of a run."""
        with self._guard:
            it = self._followed.get(view.id)
            if it is None:
                return
            before = it.head
            news = it.news(view, now or datetime.now(UTC)) or {"run": str(view.id), "seq": view.seq}
            self.send({"news": news})
            if view.id == self._home and (it.head.get("status"), it.head.get("over")) != (
                before.get("status"), before.get("over"),
            ):  # fmt: skip
                self.home = it.whole(view)


def still(
    view: RunView,
    state: Mapping[str, Any] | None,
    outputs: Sequence[Output] = (),
    now: datetime | None = None,
    **more: str,
) -> str:
    """The inspector without a kernel: heading, topology, timeline, steps, error, state, output. Plain HTML, no script.

    ``state``: the state as it is now, None if the code that folds it is not known here; ``outputs``: what its steps
    have printed and displayed; ``more`` goes to `run_html`.
    """
    now = now or datetime.now(UTC)
    parts = [run_html(view, now, **more)]
    if view.steps:
        it = timeline_of(view, view.ended_at or now)
        about = f"timeline of {view.flow}, run {short(view.id)}"
        image = f'<img src="{data_uri(draw_timeline(it, lanes=STILL_LANES))}" alt="{escape(about, 200)}"'
        parts.append(
            f"<details open><summary>timeline</summary>"
            f'<div style="overflow:auto">{image} style="max-width:100%;min-width:600px;height:auto"></div></details>'
        )
    if state is not None:
        keys = "".join(
            f'<tr><th scope="row" style="text-align:left;vertical-align:top;padding:3px 12px 3px 0">'
            f'{escape(key, 120)}</th><td style="text-align:left"><pre style="white-space:pre-wrap;margin:0">'
            f"{escape(preview(value), 4000)}</pre></td></tr>"
            for key, value in list(state.items())[:100]
        )
        when = "at the end" if view.status.over else "now"
        table = f"<table><tbody>{keys}</tbody></table>" if keys else "<div>it is empty</div>"
        parts.append(f"<details><summary>state {when}</summary>{table}</details>")
    if outputs:
        parts.append(f"<details><summary>output</summary>{outputs_html(outputs)}</details>")
    return f'<div class="fb-inspected">{"".join(parts)}</div>'
