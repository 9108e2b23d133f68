"""Commands that decide what runs wait for: ``approve``, ``reject``, ``answer``, ``inbox``.

Owns: their arguments, and saying what has happened. Refuses: deciding which signal is meant (the app does).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowbook.cli.change import pairs
from flowbook.cli.options import JsonOption, RunArgument, UrlOption
from flowbook.cli.session import find, with_app
from flowbook.errors import UsageError

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.observe.inbox import DecisionView
    from flowbook.ports import RunRow
    from flowbook.run.deciding import Answered

ByOption = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who decides. Default: this user and machine.", show_default=False),
]
EditOption = Annotated[
    str | None,
    typer.Option("--edit", metavar="JSON", help="The whole payload, if it is no set of pairs.", show_default=False),
]
PayloadHelp = "Its payload; a VALUE is JSON where it can be, else text."


def add_to(app: typer.Typer) -> None:
    """Make these commands of ``app``."""
    app.command(
        epilog="Example:  flowbook approve last\n\nExample:  flowbook approve 3f2a9c01 gate#1 amount=3 --by ana"
    )(approve)
    app.command(epilog='Example:  flowbook reject 3f2a9c01 gate#1 --why "too dear"')(reject)
    app.command(epilog="Example:  flowbook answer 3f2a9c01 gate#1 escalate to=ben")(answer)
    app.command(epilog="Example:  flowbook inbox --json | jq -r '.[] | [.short, .path, .question] | @tsv'")(inbox)


def approve(
    run: RunArgument,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH] [KEY=VALUE ...]", help=f"Which pause, if there are several. {PayloadHelp}"),
    ] = None,
    by: ByOption = None,
    edit: EditOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Say yes to what a run waits for. The first answer counts; who is second is told who was first."""
    path, values = _apart(words)
    _decide(run, "approve", path, None, "", values, by, edit, url, json)


def reject(
    run: RunArgument,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH] [KEY=VALUE ...]", help=f"Which pause, if there are several. {PayloadHelp}"),
    ] = None,
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="Why; it is part of the payload.")] = "",
    by: ByOption = None,
    edit: EditOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Say no to what a run waits for. The first answer counts; who is second is told who was first."""
    path, values = _apart(words)
    _decide(run, "reject", path, None, why, values, by, edit, url, json)


def answer(
    run: RunArgument,
    path: Annotated[str, typer.Argument(metavar="PATH", help="The pause, as `inbox` shows it.")],
    name: Annotated[str, typer.Argument(metavar="SIGNAL", help="One of the signals that it listens for.")],
    payload: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE ...]", help=PayloadHelp)] = None,
    by: ByOption = None,
    edit: EditOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Decide what a run waits for with a signal that is neither a yes nor a no."""
    _decide(run, "answer", path, name, "", pairs(payload or ()), by, edit, url, json)


def inbox(
    flow: Annotated[str | None, typer.Option(help="Only runs of this flow.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many runs, newest first.")] = 100,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """List what waits for somebody's decision, across runs."""
    from flowbook.cli import output
    from flowbook.show.inbox import decision_record, inbox_plain, inbox_table

    async def body(app: App) -> Sequence[DecisionView]:
        return await app.inbox(flow=flow, limit=limit)

    found = with_app(url, body)
    if json:
        output.as_json([decision_record(it) for it in found])
    else:
        output.tell(inbox_table(found), inbox_plain(found))


def _apart(words: Sequence[str] | None) -> tuple[str | None, dict[str, Any]]:
    """(path, payload) of what was typed: a word without ``=`` is the path."""
    places = [w for w in words or () if "=" not in w]
    if len(places) > 1:
        raise UsageError(f"{places[1]!r} is a second path; a payload is KEY=VALUE")
    return (places[0] if places else None), pairs([w for w in words or () if "=" in w])


def _decide(
    text: str, verb: str, path: str | None, signal: str | None, why: str, values: dict[str, Any], by: str | None,
    edit: str | None, url: str | None, json: bool,
) -> None:  # fmt: skip
    from flowbook.cli import output
    from flowbook.cli.change import from_json
    from flowbook.deciding import answer as take
    from flowbook.run.saying import NOTHING

    whole = NOTHING if edit is None else from_json(edit)

    async def body(app: App) -> tuple[Answered, RunRow, str | None]:
        row = await find(app, text)
        said = await take(app, row.id, verb, path, signal, edit=whole, payload=values, by=by, why=why)  # type: ignore[arg-type]
        row = await app.store.run(row.id)
        return said, row, await app.needs(row)

    said, row, needs = with_app(url, body)
    if json:
        from flowbook.observe.records import answered_record, run_record

        record = answered_record(said.path, said.signal, said.by, said.payload, said.at)
        output.as_json({**run_record(row), "needs": needs, "answered": record})
        return
    what = {"approve": "approved", "reject": "rejected"}.get(verb, f"answered with {said.signal!r}")
    output.say(f"run {row.id}: {said.path} is {what} by {said.by}")
    if needs:
        output.hint(f"it stands still: it needs {needs}")
