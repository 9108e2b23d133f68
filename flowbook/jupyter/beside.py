"""Beside: a widget and its still form, two outputs of one cell of which one is seen.

Owns: publishing both, keeping the still form up to date, and the style rules that say which one is seen. Refuses:
drawing either, and deciding when something changed.

An output that holds a widget shows "model not found" on a page without its kernel, or "Loading widget..." for ever, and
never falls back to another form of itself. So the still form is an output of its own, and brings the rules along:

- as long as a living widget is there, the still form is hidden (also while the page is loaded again);
- the place of a widget that could not be made is hidden, and so is a widget that its page calls disconnected (not so
  JupyterLab 4.6 when a kernel is restarted: the widget stays as it was until the page is loaded again);
- an untrusted page strips the rules, and does not make widgets either: it falls back to what else the widget's output
  holds, which is nothing.

What each front end makes of it was tried and is told in docs/frontends.md. To use it::

    shown = session.displays.put(bundle, lambda: Inspector(...))   # headless: the still form alone, no widget is made
    shown.still(newer)            # whenever what can be seen has changed, once a second at most; from any thread
    shown.end(last)               # if the widget has nothing left to do: it goes, the still form stays

``bundle`` is mime type -> text, with plain HTML without script (`show/html.py`) under ``text/html``. A widget that can
be used for as long as there is a kernel (an inspector, a table) never ends: it is only kept up to date.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Mapping
from uuid import uuid4

from IPython.display import publish_display_data, update_display

from flowbook.show.widget import Widget

VIEW = "application/vnd.jupyter.widget-view+json"
NOTHING = {"text/html": "", "text/plain": ""}
"""What a front end shows that makes no widgets."""

_RULES = """<style>
:is(.jp-OutputArea, .output_container, .cell_container):has(.{id}-live:not(.jupyter-widgets-disconnected))
.{id}-still {{
  display: none;
}}
.{id}-live.jupyter-widgets-disconnected {{ display: none !important; }}
.jp-OutputArea-child:has(.{id}-still) ~ .jp-OutputArea-child > .lm-Panel.jp-OutputArea-output:not(:has(*)) {{
  display: none;
}}
</style>"""
"""JupyterLab and Notebook 7: the place of a widget is a panel, and one that has no widget has text alone in it."""


class Beside:
    """One thing in one cell: its still form, and its widget if there is one. All calls may come from any thread."""

    def __init__(self, bundle: Mapping[str, str], widget: Widget | None) -> None:
        self.widget = widget
        """It is kept when the display has ended: a page that was loaded again hears of no update, and would miss it."""
        self.ended = widget is None
        self._id = f"flowbook-{uuid4().hex}"
        self._context = contextvars.copy_context()
        """The cell's: what is shown from another thread must reach the cell that it belongs to."""
        self._guard = threading.Lock()
        self._shown = dict(bundle)
        publish_display_data(self._dressed(), transient={"display_id": f"{self._id}-still"})
        if widget is not None:
            widget.add_class(f"{self._id}-live")
            view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
            publish_display_data({VIEW: view, **NOTHING}, transient={"display_id": f"{self._id}-live"})

    def still(self, bundle: Mapping[str, str]) -> None:
        """Have ``bundle`` as the still form from now on; nothing is sent if it is what is there."""
        with self._guard:
            self._still(bundle)

    def end(self, bundle: Mapping[str, str] | None = None) -> None:
        """Take the widget off the page and leave the still form; harmless when repeated."""
        with self._guard:
            first, self.ended = not self.ended, True
            if first:
                self._update(NOTHING, "live")
            self._still(self._shown if bundle is None else bundle, afresh=first)

    def _still(self, bundle: Mapping[str, str], *, afresh: bool = False) -> None:
        if dict(bundle) != self._shown or afresh:
            self._shown = dict(bundle)
            self._update(self._dressed(), "still")

    def _dressed(self) -> dict[str, str]:
        rules = "" if self.ended else _RULES.format(id=self._id)
        html = f'<div class="fb-still {self._id}-still">{self._shown["text/html"]}</div>'
        return {**self._shown, "text/html": rules + html}

    def _update(self, bundle: Mapping[str, str], part: str) -> None:
        self._context.copy().run(update_display, dict(bundle), raw=True, display_id=f"{self._id}-{part}")


Make = Callable[[], Widget]
"""Makes the widget of a display, where there is a page for it."""
