"""Answers: what the buttons of a page do to runs.

Owns: the kinds of questions that pages ask about runs (approve, reject, answer, cancel, retry, resume, inbox), and who
it is that presses a button. Refuses: drawing (`show/`) and every decision about a run, which are the app's.

Each is called on a thread of its own (`show/widget.py`) and may wait for the engine. An error becomes text on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flowbook.deciding import me
from flowbook.observe.inbox import DecisionView
from flowbook.observe.records import answered_record
from flowbook.run.saying import NOTHING
from flowbook.show.inbox import decision_record

if TYPE_CHECKING:
    from flowbook.jupyter.session import Session
    from flowbook.sync import SyncRun

USER = "JUPYTERHUB_USER"
"""Who a hub has let in."""

Answer = Callable[[Mapping[str, Any]], Any]


def who(env: Mapping[str, str]) -> str:
    """Who presses the buttons of this kernel's pages."""
    return env.get(USER) or me()


def of_run(session: Session, run: SyncRun) -> dict[str, Answer]:
    """The questions about one run. Arguments: ``path``, ``signal``, ``payload`` (JSON; left out: none), ``why``."""
    by = who(session.env)

    def decide(verb: str) -> Answer:
        return lambda args: _decide(run, verb, args, by)

    return {
        "approve": decide("approve"),
        "reject": decide("reject"),
        "answer": decide("answer"),
        "cancel": lambda args: str(run.cancel(by=by)),
        "retry": lambda args: str(run.retry().status),
        "resume": lambda args: str(run.resume().status),
        "decisions": lambda args: [decision_record(it) for it in session.app.inbox(run=run)],
    }


def of_inbox(
    session: Session, flow: str | None, limit: int, changed: Callable[[Sequence[DecisionView]], None]
) -> dict[str, Answer]:
    """The questions of an inbox: as those of a run, with the argument ``run``; ``changed`` hears of what was found."""

    def on(kind: str) -> Answer:
        return lambda args: of_run(session, session.app.find(str(args["run"])))[kind](args)

    def listed(args: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        found = session.app.inbox(flow=flow, limit=limit)
        changed(found)
        return [decision_record(it) for it in found]

    return {"inbox": listed, **{kind: on(kind) for kind in ("approve", "reject", "answer", "cancel")}}


def _decide(run: SyncRun, verb: str, args: Mapping[str, Any], by: str) -> dict[str, Any]:
    path = args.get("path")
    edit = args.get("payload", NOTHING)
    path = path if isinstance(path, str) and path else None
    if verb == "approve":
        said = run.approve(path, edit=edit, by=by)
    elif verb == "reject":
        said = run.reject(path, str(args.get("why") or ""), edit=edit, by=by)
    else:
        said = run.answer(path, args.get("signal"), edit=edit, by=by)
    record = answered_record(said.path, said.signal, said.by, said.payload, said.at)
    return {"run": str(said.run_id), **record}
