"""Talking: an agent's conversation in the cell that shows its run, word by word.

Owns: the second display of an agent's run, and reading what its model says while it says it. Refuses: drawing
(`show/talk.py`). At the end it goes: the still page of the run has the whole transcript.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from flowbook.jupyter.beside import NOTHING
from flowbook.observe.events import Streamed
from flowbook.observe.transcripts import is_agent
from flowbook.observe.views import RunView
from flowbook.plan.paths import node_of
from flowbook.show.talk import LiveTalk

if TYPE_CHECKING:
    from flowbook.jupyter.displays import Displays
    from flowbook.sync import SyncRun

log = logging.getLogger("flowbook")


class Talk:
    """One conversation in one cell."""

    def __init__(self, displays: Displays, run: SyncRun, view: RunView) -> None:
        self._place = displays.put(NOTHING, lambda: LiveTalk(view))
        self._run = run
        if isinstance(self._place.widget, LiveTalk):
            # A thread, because nobody knows when a model will say its next word.
            reader = threading.Thread(target=self._read, args=(self._place.widget,), name="flowbook-talk", daemon=True)
            reader.start()

    def follow(self, view: RunView) -> None:
        """The run has changed."""
        if isinstance(self._place.widget, LiveTalk):
            self._place.widget.update(view)
        if view.status.over:
            self._place.end(NOTHING)

    def _read(self, widget: LiveTalk) -> None:
        try:
            for event in self._run.stream():
                if isinstance(event, Streamed) and node_of(event.path) == "ask_model":
                    widget.say(event.path, event.text, begins=event.begins)
        except Exception:  # the app was closed, or the kernel ends: what was said is in the journal
            log.debug("flowbook: the transcript of run %s", self._run.id, exc_info=True)


def talk(displays: Displays, run: SyncRun, view: RunView) -> Talk | None:
    """The conversation of a run; None: it is no agent's, or it is over."""
    return Talk(displays, run, view) if is_agent(view) and not view.status.over else None
