"""Widgets: what all live displays have in common.

Owns: putting a widget's module and style together from the files of `page/`, and answering the page's questions.
Refuses: what is asked (each widget is given its answers) and what is drawn.

A widget's module is one text, because a page can load nothing beside it: the parts are plain scripts that are written
one after the other, the last of them exports. A question is `{ask, kind, args}`; it is told at once that it was heard,
``{heard}``, and later ``{answer, value}`` or ``{answer, trouble}``. A page that is not heard asks the Jupyter server
instead, where that can do it (`Widget.control`); each question has a mark, so what comes by both ways is done once.
Answers are made on a thread of their own: they may wait for the engine, and must neither stop the kernel's loop nor be
stopped by a cell.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from flowbook.show.safe import clean

log = logging.getLogger("flowbook")

_PAGE = Path(__file__).parent / "page"
_answering = ThreadPoolExecutor(4, thread_name_prefix="flowbook-answers")

Answer = Callable[[Mapping[str, Any]], Any]
"""From the question's arguments to something that JSON can carry."""


def module(*parts: str) -> str:
    """The ES module of a widget: `page/PART.js`, one after the other; the last has the ``export``."""
    return "\n".join((_PAGE / f"{part}.js").read_text(encoding="utf-8") for part in parts)


def sheet(*parts: str) -> str:
    """The style of a widget: `page/PART.css`, one after the other."""
    return "\n".join((_PAGE / f"{part}.css").read_text(encoding="utf-8") for part in parts)


class Widget(anywidget.AnyWidget):
    """A widget that answers questions; ``answers``: kind of question -> who answers it, on a thread of its own."""

    control = traitlets.Dict().tag(sync=True)
    """The way through the store (`flowbook.server`): ``database``, ``namespace``, ``run``, ``kinds``; empty: there is
    none, and a question waits until the kernel hears it."""

    def __init__(self, answers: Mapping[str, Answer], **traits: Any) -> None:
        super().__init__(**traits)
        self._answers = dict(answers)
        self._context = contextvars.copy_context()
        """The cell's: what an answer prints or displays must reach the cell that the widget belongs to."""
        self.on_msg(self._heard)
        _answer_where_asked(self)

    def _heard(self, _: Any, content: Mapping[str, Any], buffers: Any) -> None:
        ask, kind = content.get("ask"), content.get("kind")
        if not isinstance(ask, str) or kind not in self._answers:
            return
        self.send({"heard": ask})
        args = content.get("args")
        context = self._context.copy()
        _answering.submit(context.run, self._answer, ask, str(kind), args if isinstance(args, Mapping) else {})

    def _answer(self, ask: str, kind: str, args: Mapping[str, Any]) -> None:
        try:
            value = self._answers[kind](args)
        except Exception as error:
            log.debug("flowbook: a widget's question %r", kind, exc_info=True)
            self.send({"answer": ask, "trouble": clean(error, 500)})
        else:
            self.send({"answer": ask, "value": value})


def _answer_where_asked(widget: Any) -> None:
    """Have clicks heard where the page sends them: on a subshell, also while a cell runs.

    Only ipykernel 7.4 needs it: its comms override what JupyterLab asks for, and clicks wait for the cell to end.
    """
    comm = getattr(widget, "comm", None)
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default  # type: ignore[union-attr]
