"""The live transcript: a conversation with an agent while it goes on.

Owns: what of it is sent to the page and when. Refuses: following the run (whoever shows it calls `LiveTalk.update` and
`LiveTalk.say`), and what stays when it is over, which is the page of the run (`html.py`).

What was said is a trait, written when there is one more message; the answer that is on its way comes as messages, piece
by piece, and is gone when it has become one that was said. A page that is loaded again reads the traits, so the trait
``tail`` has the answer as far as it was `LAG` seconds ago. All calls may come from any thread.
"""

from __future__ import annotations

import threading
import time

import traitlets

from flowbook.observe.transcripts import transcript
from flowbook.observe.views import RunView, State
from flowbook.show.safe import clean
from flowbook.show.transcript import transcript_html
from flowbook.show.widget import Widget, module, sheet

LAG = 1.0
"""Seconds that the trait ``tail`` may be behind."""


class LiveTalk(Widget):
    """A conversation on a page."""

    _esm = module("dom", "talk")
    _css = sheet("base", "talk")

    said = traitlets.Unicode().tag(sync=True)
    """What `transcript_html` says."""
    tail = traitlets.Dict().tag(sync=True)
    """``{path, text}`` of the answer that is on its way; empty: none is."""

    def __init__(self, view: RunView) -> None:
        self._guard = threading.Lock()
        self._seen: tuple[int, bool] | None = None
        self._path, self._text, self._written = "", "", 0.0
        super().__init__({})
        self.update(view)

    def __repr__(self) -> str:
        """What a front end without widgets shows."""
        return "<live transcript>"

    def update(self, view: RunView) -> None:
        """Show what was said until now."""
        it = transcript(view)
        with self._guard:
            if it is not None and (len(it.said), it.asking) != self._seen:
                self._seen = len(it.said), it.asking
                self.said = transcript_html(it)
            if self._path and any(s.path == self._path and s.state is not State.RUNNING for s in view.steps):
                self.send({"done": self._path})
                self._path, self._text, self.tail = "", "", {}

    def say(self, path: str, text: str, *, begins: bool) -> None:
        """Show a piece of an answer; with ``begins``, what came from this path before is void."""
        with self._guard:
            if begins or path != self._path:
                self._path, self._text = path, ""
            self._text += (piece := clean(text))
            self.send({"say": piece, "path": path, "begins": begins})
            if time.monotonic() > self._written + LAG:
                self._written = time.monotonic()
                self.tail = {"path": path, "text": self._text}
