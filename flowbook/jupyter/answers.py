"""Answers: what the buttons of a page do to runs.

Owns: the kinds of questions that pages ask about runs (approve, reject, answer, cancel, retry, resume, inbox), and who
it is that presses a button. Refuses: drawing (`show/`) and every decision about a run, which are the app's.

Each is called on a thread of its own (`show/widget.py`) and may wait for the engine. An error becomes text on the page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from flowbook.deciding import KINDS, asked, me
from flowbook.observe.inbox import DecisionView
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


def control(session: Session, run: SyncRun | None = None) -> dict[str, Any]:
    """The way through the store, for a page whose kernel does not hear it (`flowbook.server`)."""
    app = session.app
    return {
        "database": session.database,
        "namespace": app.app.options.namespace,
        "run": "" if run is None else str(run.id),
        "kinds": list(KINDS),
    }


def of_run(session: Session, run: SyncRun) -> dict[str, Answer]:
    """The questions about one run. Arguments: ``path``, ``signal``, ``payload`` (JSON; left out: none), ``why``."""
    return {
        **{kind: _done(session, run.id, kind) for kind in KINDS},
        "resume": lambda args: run.resume().status.value,
        "decisions": lambda args: [decision_record(it) for it in session.app.inbox(run=run)],
    }


def of_inbox(
    session: Session, flow: str | None, limit: int, changed: Callable[[Sequence[DecisionView]], None]
) -> dict[str, Answer]:
    """The questions of an inbox: as those of a run, with the argument ``run``; ``changed`` hears of what was found."""

    def on(kind: str) -> Answer:
        return lambda args: _done(session, session.app.find(str(args["run"])).id, kind)(args)

    def listed(args: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        found = session.app.inbox(flow=flow, limit=limit)
        changed(found)
        return [decision_record(it) for it in found]

    return {"inbox": listed, **{kind: on(kind) for kind in KINDS}}


def _done(session: Session, run_id: UUID, kind: str) -> Answer:
    def done(args: Mapping[str, Any]) -> Any:
        app = session.app
        return app.portal.call(asked(app.app, run_id, kind, args, who(session.env)))

    return done
