"""Deciding: approve, reject and answer, and the inbox of what waits for that.

Owns: what the verbs take, and who answers where nobody says. Refuses: delivering (`run/deciding.py`) and the records
that are shown (`observe/inbox.py`).
"""

from __future__ import annotations

import contextlib
import getpass
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from flowbook.errors import NothingToDecide, Undecodable, UsageError
from flowbook.graph.flow import Graph
from flowbook.graph.pause import Pause
from flowbook.observe.inbox import DecisionView, about, input_of
from flowbook.observe.records import answered_record
from flowbook.plan.paths import node_of
from flowbook.ports import Asked, InboxQuery
from flowbook.run.deciding import Answered, Open, Verb, chosen, decide, docket_of_one, read
from flowbook.run.saying import NOTHING, Said

if TYPE_CHECKING:
    from flowbook.app import App

Kind = Literal["approve", "reject", "answer", "cancel", "retry"]
KINDS: tuple[Kind, ...] = ("approve", "reject", "answer", "cancel", "retry")
"""What a page may ask of a run, by whichever way."""
LONGEST = 200
"""Characters of who answers, and of why."""


def me() -> str:
    """This operating system's user and machine, ``ana@desk``: who answers where nobody else is named."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a process without an entry among the users
        user = "user"
    return f"{user}@{socket.gethostname()}"


async def answer(
    app: App,
    run_id: UUID,
    verb: Verb,
    path: str | None = None,
    signal: str | None = None,
    *,
    edit: Any = NOTHING,
    payload: Mapping[str, Any] | None = None,
    by: str | None = None,
    why: str = "",
    mark: str = "",
) -> Answered:
    """Decide what a run waits for (`App.approve`, `App.reject`, `App.answer`)."""
    if edit is not NOTHING and payload:
        raise UsageError("edit= is the whole payload, so it goes without others")
    row = app._ours(await app.store.run(run_id))
    whole: Any = edit if edit is not NOTHING else dict(payload) if payload else NOTHING
    said = Said("", whole, (by or me())[:LONGEST], why[:LONGEST], mark=mark[:LONGEST])
    return await decide(app.store, row, verb, path, signal, said, app.engine.graph(row.fingerprint))


async def asked(app: App, run_id: UUID, kind: str, args: Mapping[str, Any], by: str) -> Any:
    """Do what a page asks of a run; JSON says what came of it.

    ``args``: ``path``, ``signal``, ``payload``, ``why``, and the question's ``mark``: what comes twice is done once.
    """
    mark = str(args.get("mark") or "")
    if kind == "cancel":
        return (await app.cancel(run_id, by=by, mark=mark)).status.value
    if kind == "retry":
        return (await (await app.retry(run_id, by=by, mark=mark)).status()).value
    path, signal, edit = args.get("path"), args.get("signal"), args.get("payload", NOTHING)
    verb: Verb = "approve" if kind == "approve" else "reject" if kind == "reject" else "answer"
    said = await answer(
        app, run_id, verb, path, signal if verb == "answer" else None, edit=edit, by=by, mark=mark,
        why=str(args.get("why") or ""),
    )  # fmt: skip
    return {"run": str(run_id), **answered_record(said.path, said.signal, said.by, said.payload, said.at)}


async def inbox(app: App, flow: str | None = None, run_id: UUID | None = None, limit: int = 100) -> list[DecisionView]:
    """What waits for somebody's decision (`App.inbox`)."""
    query = InboxQuery(app.options.namespace, flow, run_id, limit)
    return [
        _view(found, it, app.engine.graph(found.row.fingerprint))
        for found in await app.store.asked(query)
        for it in docket_of_one(found.row.id, found.entry).open.values()
    ]


def _view(asked: Asked, it: Open, graph: Graph | None) -> DecisionView:
    row = asked.row
    path, value, question = about(asked.before)
    letter = next((m for m in asked.letters if m.name == it.name), None)
    said, at = "", None
    if letter is not None:
        with contextlib.suppress(Undecodable):
            said, at = read(letter)[0].by or "somebody", letter.at
    return DecisionView(
        row.id, row.flow, row.version, row.key, row.metadata, input_of(row), it.path, it.signals, asked.entry.at,
        it.due, _plainly(it, "approve"), _plainly(it, "reject"), _schemas(it, graph), path, value, question, said, at,
    )  # fmt: skip


def _plainly(it: Open, verb: Verb) -> str | None:
    try:
        return chosen(it, verb, None) or ("complete" if verb == "approve" else "fail")
    except NothingToDecide:
        return None


def _schemas(it: Open, graph: Graph | None) -> dict[str, Mapping[str, Any]]:
    """JSON Schemas of what a pause of the topology may be told."""
    node = graph.nodes.get(node_of(it.path)) if graph is not None and "/" not in it.path else None
    if node is None or not isinstance(node.step, Pause):
        return {}
    found: dict[str, Mapping[str, Any]] = {}
    for signal in node.step.signals:
        if signal.schema is not None:
            from pydantic import TypeAdapter  # heavy, and only where a schema is declared

            adapter: Any = TypeAdapter(signal.schema)
            with contextlib.suppress(Exception):  # a type without a JSON Schema is checked all the same
                found[signal.name] = adapter.json_schema()
    return found
