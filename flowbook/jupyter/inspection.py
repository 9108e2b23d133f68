"""Inspections: what the inspector's page asks, and who answers.

Owns: following the runs that an inspector shows, and the answers to its page's questions. Refuses: drawing (`show/`),
what a verb does (the app's business), and the place in the cell (`inspector.py`).

Answers are made on threads of their own (`show/widget.py`): the engine's loop is asked for what the store has, and
folding, searching and drawing are done here, so that no step waits for somebody who looks.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook import editing, fixing, inspecting
from flowbook.errors import FlowbookError, PointUnknown, UsageError
from flowbook.ids import short
from flowbook.inspecting import Scrub, Wanted
from flowbook.jupyter.answers import control, of_run
from flowbook.jupyter.fixing import text_of
from flowbook.observe.diffs import alike
from flowbook.observe.timeline import timeline_of
from flowbook.observe.transcripts import transcript
from flowbook.observe.views import RunView, StepView
from flowbook.plan.paths import node_of
from flowbook.run.values import shown
from flowbook.show import inspected
from flowbook.show.inspector import Inspector
from flowbook.show.preview import preview
from flowbook.show.safe import clean
from flowbook.show.timeline import Window, draw_timeline, legend
from flowbook.show.transcript import transcript_html
from flowbook.show.widget import Answer

if TYPE_CHECKING:
    from flowbook.jupyter.session import Session

SCRUBS = 3
"""Runs whose folds are kept: the one that is looked at, its parent, its child."""
FOLLOWED = 16
"""Runs that are watched at once."""
COPIED = 1000
"""Rows of a journal that are copied at once."""


class Inspection:
    """One inspector: what it has looked at, and what it answers. Its methods may be called from any thread."""

    def __init__(self, session: Session, view: RunView) -> None:
        self._session = session
        session.displays.inspections.add(self)
        self._home = view.id
        self._views: dict[UUID, RunView] = {view.id: view}
        self._stops: OrderedDict[UUID, Callable[[], None]] = OrderedDict()
        self._scrubs: OrderedDict[UUID, Scrub] = OrderedDict()
        self._folding = threading.Lock()
        self.on_home: Callable[[RunView], object] = lambda view: None
        """Told of every new view of the run that it was opened with."""
        self.widget: Inspector | None = None

    def make(self) -> Inspector:
        """The widget, following its run."""
        self.widget = Inspector(self._views[self._home], self.answers())
        self.widget.control = control(self._session)
        return self.widget

    def answers(self) -> Mapping[str, Answer]:
        """Kind of question -> its answer."""
        told: dict[str, Callable[[UUID, Mapping[str, Any]], Any]] = {
            "look": self._look, "steps": self._steps, "step": self._step, "timeline": self._timeline,
            "journal": self._journal, "rows": self._rows, "moment": self._moment, "output": self._output,
            "code": self._code, "form": self._form, "check": self._check, "fork": self._fork, "enter": self._enter,
            "pulse": self._pulse, "transcript": self._transcript,
            **{kind: self._act(kind) for kind in ("retry", "resume", "cancel", "approve", "reject", "answer")},
        }  # fmt: skip

        def answer(which: Callable[[UUID, Mapping[str, Any]], Any]) -> Answer:
            return lambda args: which(UUID(str(args["run"])), args)

        return {kind: answer(which) for kind, which in told.items()}

    def _transcript(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        said = transcript(self._view(run_id))
        return {"html": "" if said is None else transcript_html(said)}

    # -- following -----------------------------------------------------------------------------------------------------

    def follow(self, run_id: UUID) -> None:
        """Have the page told of what happens to a run, until its end."""
        if run_id in self._stops:
            self._stops.move_to_end(run_id)
            return

        def news(view: RunView) -> None:
            self._views[run_id] = view
            if self.widget is not None:
                self.widget.update(view)
            if run_id == self._home:
                self.on_home(view)
            if view.status.over:
                self._stops.pop(run_id, None)

        self._stops[run_id] = self._session.app.watch(run_id, news)
        while len(self._stops) > FOLLOWED:
            self._stops.popitem(last=False)[1]()

    def close(self) -> None:
        """Follow nothing any more."""
        while self._stops:
            self._stops.popitem()[1]()

    def ask(self, asking: Coroutine[Any, Any, Any]) -> Any:
        return self._session.app.portal.call(asking)

    def _view(self, run_id: UUID) -> RunView:
        """The newest view there is of a run; one that is followed is not folded again."""
        known = self._views.get(run_id)
        if known is None or (run_id not in self._stops and not known.status.over):
            known = self._views[run_id] = self.ask(self._session.app.app.view(run_id))
        assert known is not None
        return known

    def _step_of(self, run_id: UUID, path: str) -> StepView:
        found = next((s for s in self._view(run_id).steps if s.path == path), None)
        if found is None:
            raise PointUnknown(f"run {short(run_id)} has not come to {path!r}")
        return found

    # -- looking -------------------------------------------------------------------------------------------------------

    def _look(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        self._session.app.find(run_id)  # of this namespace, or there is none
        if run_id not in self._stops:
            self._views.pop(run_id, None)  # it may have been retried by somebody else
        view = self._view(run_id)
        if not view.status.over:
            self.follow(run_id)
        assert self.widget is not None
        return self.widget.whole(view)

    def _steps(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        return inspected.steps_told(self._view(run_id), str(args.get("text", "")), _number(args, "offset"))

    def _step(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        if "node" in args:  # its latest firing
            step = self._view(run_id).nodes.get(str(args["node"]))
            if step is None:
                raise PointUnknown(f"run {short(run_id)} has not come to {args['node']!r} yet")
            return inspected.step_told(step)
        return inspected.step_told(self._step_of(run_id, str(args["path"])))

    def _timeline(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        view = self._view(run_id)
        it = timeline_of(view, datetime.now(UTC))
        whole = (it.end - it.start).total_seconds()
        window = None
        if "from" in args:
            start, end = float(args["from"]), float(args["to"])
            least = max(whole * 1e-6, 1e-3)
            start = min(max(0.0, start), max(0.0, whole - least))
            window = Window(start, min(whole, max(end, start + least)))
        return {
            "svg": draw_timeline(it, window), "whole": whole, "kept": it.kept, "seq": view.seq,
            "from": window.start if window else 0.0, "to": window.end if window else whole,
            "legend": [{"part": part.value, "ink": ink, "words": words} for part, ink, words in legend()],
        }  # fmt: skip

    def _journal(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        offset = _number(args, "offset")
        page = self._page(run_id, args, offset, inspected.ROWS)
        return inspected.journal_told(page.rows, page.found, offset)

    def _rows(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        """Rows as JSON for the clipboard: one by its number, or those of a filter."""
        if "seq" in args:
            seq = int(args["seq"])
            (row,) = self.ask(inspecting.journal_page(self._app, run_id, Wanted(), seq - 1, 1)).rows
            return {"text": inspected.row_text(row), "rows": 1, "found": 1}
        page = self._page(run_id, args, _number(args, "offset"), min(_number(args, "limit", COPIED), COPIED))
        return {"text": inspected.journal_text(page.rows), "rows": len(page.rows), "found": page.found}

    def _page(self, run_id: UUID, args: Mapping[str, Any], offset: int, limit: int) -> inspecting.JournalPage:
        wanted = Wanted(
            frozenset(map(str, args.get("kinds") or ())), str(args.get("path", "")), str(args.get("text", ""))
        )
        known = self._view(run_id).seq
        found: inspecting.JournalPage = self.ask(
            inspecting.journal_page(self._app, run_id, wanted, offset, limit, known)
        )
        return found

    def _moment(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        """The state on both sides of a point, by its number or by the path of a step."""
        with self._folding:
            it = self._scrub(run_id)
            if "path" in args:
                path = str(args["path"])
                index = it.index(path)
                seen = it.standing(path) if index is None else it.at(index)
            else:
                index = min(max(0, _number(args, "index")), len(it.points) - 1)
                seen = it.at(index)
            count = len(it.points)
        return {
            "index": count - 1 if index is None else index, "count": count, "path": seen.point.path,
            "seq": seen.point.seq, "at": inspected.ms(seen.point.at), "finished": seen.finished,
            "keys": inspected.state_told(seen.before, seen.after, alike, self._open),
        }  # fmt: skip

    def _output(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        path = str(args["path"])
        told = inspected.outcome_told(self._step_of(run_id, path), self._open)
        outputs = self.ask(self._app.outputs(run_id, path))
        return told | {"outputs": [inspected.output_told(output) for output in outputs]}

    def _code(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        it = self.ask(inspecting.code(self._app, run_id, node_of(str(args["path"]))))
        parts = []
        for role, then in it.then.items():
            now = it.now.get(role) if it.now is not None else None
            same = now is not None and now.text == then.text
            rows = inspected.code_told(then.text, None if now is None or same else now.text)
            versions = {"then": then.version, "now": now.version if now else None, "same": same}
            parts.append({"role": role, "where": clean(then.where, 200), **versions, "rows": rows})
        return {"parts": parts, "known": it.now is not None, "changes": [clean(c, 300) for c in it.changes]}

    # -- doing ---------------------------------------------------------------------------------------------------------

    def _form(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        path = str(args["path"])
        with self._folding:
            it = self._scrub(run_id)
            index = it.index(path)
            before = (it.standing(path) if index is None else it.at(index)).before
        form = self.ask(editing.form(self._app, run_id, path, before))
        return {
            "at": form.at, "closed": form.closed,
            "fields": [
                {
                    "key": clean(f.key, 200), "text": f.text, "type": clean(f.type, 120), "refusal": f.refusal,
                    "preview": preview(f.value)[:2000] if f.refusal else "",
                }
                for f in form.fields
            ],
        }  # fmt: skip

    def _check(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        _, wrong = self.ask(editing.read(self._app, run_id, _texts(args)))
        return {"wrong": {key: clean(text, 500) for key, text in wrong.items()}}

    def _fork(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        """Begin another run with the state as it was edited; nothing is begun if a key is wrong."""
        edits, wrong = self.ask(editing.read(self._app, run_id, _texts(args)))
        if wrong:
            return {"wrong": {key: clean(text, 500) for key, text in wrong.items()}}
        fork = self.ask(self._app.fork(run_id, at=str(args["path"]), edits=edits))
        self._session.last = self._session.app.find(fork.id)
        return {"run": str(fork.id)}

    def _act(self, kind: str) -> Callable[[UUID, Mapping[str, Any]], Any]:
        """A verb that every display of a run has (`answers.py`)."""

        def act(run_id: UUID, args: Mapping[str, Any]) -> Any:
            said = of_run(self._session, self._session.app.find(run_id))[kind](args)
            self.again(run_id)
            return said

        return act

    def _pulse(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        """Has a run that was over been taken up again by somebody else?"""
        row = self.ask(self._app.store.run(run_id))
        if row.status is not self._view(run_id).status:
            self.again(run_id)

    def again(self, run_id: UUID) -> None:
        """A run that is shown here may have been over and be so no more: look at it anew."""
        if run_id not in self._views:
            return
        stop = self._stops.pop(run_id, None)
        if stop is not None:
            stop()
        self._scrubs.pop(run_id, None)  # it may go on with other code
        self.follow(run_id)

    def _enter(self, run_id: UUID, args: Mapping[str, Any]) -> Any:
        """The text of a cell with what a step was given and its source."""
        run = self._session.app.find(run_id)
        return {"text": text_of(run, self.ask(fixing.enter(self._app, run_id, str(args["path"]))))}

    # -- parts ---------------------------------------------------------------------------------------------------------

    @property
    def _app(self) -> Any:
        return self._session.app.app

    def _open(self, value: Any) -> Any:
        """A value as callers get it; what cannot be opened stays closed."""
        try:
            return shown(value, self._app.store.outcomes_now, self._app.options.key)
        except FlowbookError as error:
            return f"<{error.message}>"

    def _scrub(self, run_id: UUID) -> Scrub:
        """The folds of a run, up to now."""
        it = self._scrubs.get(run_id)
        if it is None:
            it, entries = self.ask(inspecting.scrub(self._app, run_id))
            it.extend(entries)
        elif not (view := self._view(run_id)).status.over or view.seq > (it.last or 0):
            it.extend(self.ask(inspecting.later(self._app, run_id, it.last or 0)))
        self._scrubs[run_id] = it
        self._scrubs.move_to_end(run_id)
        while len(self._scrubs) > SCRUBS:
            self._scrubs.popitem(last=False)
        return it


def _number(args: Mapping[str, Any], name: str, default: int = 0) -> int:
    return max(0, int(args.get(name, default)))


def _texts(args: Mapping[str, Any]) -> dict[str, str]:
    texts = args.get("texts")
    if not isinstance(texts, Mapping):
        raise UsageError("edits are a mapping of keys to JSON")
    return {str(key): str(text) for key, text in texts.items()}
