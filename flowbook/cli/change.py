"""Commands that change a run: ``resume``, ``retry``, ``cancel``, ``signal``, ``complete``.

Owns: their arguments, and saying what has happened. Refuses: carrying runs (the app does, in this process) and finding
code (`code.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowbook.cli.options import (
    AllowSourceOption,
    FromSourceOption,
    JsonOption,
    ModuleOption,
    RunArgument,
    UrlOption,
)
from flowbook.cli.session import connection, find, with_app
from flowbook.errors import RunOver, UsageError

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.cli.code import Supply
    from flowbook.observe.views import RunView
    from flowbook.ports import RunRow


def add_to(app: typer.Typer) -> None:
    """Make these commands of ``app``."""
    app.command(
        epilog="Example:  flowbook resume last --from-source\n\nExample:  flowbook resume 3f2a9c01 -m my.flows"
    )(resume)
    app.command(epilog="Example:  flowbook retry 3f2a9c01 --module flows.py")(retry)
    app.command(epilog="Example:  flowbook cancel 3f2a9c01")(cancel)
    app.command(epilog="Example:  flowbook complete fb_AZ... '{\"paid\": true}'")(complete)
    app.command(epilog="Example:  flowbook signal last approved by=ana amount=120")(signal)


def resume(
    run: RunArgument,
    module: ModuleOption = None,
    from_source: FromSourceOption = False,
    allow_source: AllowSourceOption = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Carry a run on in this process, from its first unfinished step to its end."""
    _carry_on(run, supplied(module, from_source, allow_source), url, json, only_failed=False)


def retry(
    run: RunArgument,
    module: ModuleOption = None,
    from_source: FromSourceOption = False,
    allow_source: AllowSourceOption = False,
    recursion_limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How often a node may be reached from now on."),
    ] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Carry a failed run on from the step that failed it, in this process."""
    supply = supplied(module, from_source, allow_source)
    _carry_on(run, supply, url, json, only_failed=True, limit=recursion_limit)


def cancel(
    run: RunArgument,
    timeout: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the end; 0: only ask.")
    ] = 10.0,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a run to stop. It stops at its next await or step; what it has finished is kept."""
    from flowbook.cli import output

    async def body(app: App) -> RunView:
        from flowbook.cli.ending import cancelled

        row = await find(app, run)
        await cancelled(app, row, timeout)
        return await app.view(row.id)

    view = with_app(url, body)
    if view.status.over and view.status.value != "cancelled":
        raise RunOver(f"run {view.id} is {view.status} already: there is nothing left to cancel")
    if json:
        from flowbook.observe.records import view_record

        output.as_json(view_record(view))
    elif view.status.over:
        output.say(f"run {view.id} is cancelled")
    else:
        output.say(f"run {view.id} has been asked to stop; it is {view.status} and stops when its step lets it")
        if view.needs:
            way = f"`flowbook resume {view.id} --from-source`"
            output.hint(f"what it has done is undone first, and that needs {view.needs}: {way}")


def signal(
    run: RunArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal that a wait of the run listens for.")],
    payload: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE ...]", help="Its payload; a VALUE is JSON where it can be, else text."),
    ] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Send a run a signal, now or before it waits for one. It is kept until a wait of the run takes it."""
    from flowbook.cli import output

    values = pairs(payload or ())

    async def body(app: App) -> tuple[RunRow, str | None]:
        found = await app.signal((await find(app, run)).id, name, values)
        return found, await app.needs(found)

    row, needs = with_app(url, body)
    if json:
        from flowbook.observe.records import run_record

        output.as_json({**run_record(row), "needs": needs})
    else:
        output.say(f"run {row.id} has got {name!r}")
        if needs:
            output.hint(f"it stands still: it needs {needs}")


def complete(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="What the step has handed out.")],
    value: Annotated[
        str | None, typer.Argument(metavar="[JSON]", help="What the step is to return; left out: nothing.")
    ] = None,
    fail: Annotated[str | None, typer.Option(metavar="WHY", help="Let the attempt fail instead.")] = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Complete a step that was handed out. The first answer counts; who comes second is told what it was."""
    from flowbook.cli import output

    if fail is not None and value is not None:
        raise UsageError("a step is completed with a value, or failed with --fail WHY, not both")
    given = None if value is None else from_json(value)

    async def body(app: App) -> tuple[RunRow, str | None]:
        row = await (app.complete(token, given) if fail is None else app.fail(token, fail))
        return row, await app.needs(row)

    row, needs = with_app(url, body)
    if json:
        from flowbook.observe.records import run_record

        output.as_json({**run_record(row), "needs": needs})
    else:
        output.say(f"run {row.id} has got its answer")
        if needs:
            output.hint(f"it stands still: it needs {needs}")


def from_json(text: str) -> Any:
    """A value that was typed as JSON. Raises `UsageError`."""
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not JSON ({error}): a text needs its quotes, '\"like this\"'") from None


def pairs(words: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words as a payload. Raises `UsageError`."""
    import json

    found: dict[str, Any] = {}
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not key.isidentifier() or key in found:
            raise UsageError(f"{word!r} is not KEY=VALUE, or its key is given twice")
        try:
            found[key] = json.loads(text)
        except ValueError:
            found[key] = text
    return found


def supplied(module: list[str] | None, from_source: bool, allow_source: bool) -> Supply:
    """What was typed about code. Raises `UsageError`."""
    from flowbook.cli.code import Supply

    if allow_source and not from_source:
        raise UsageError("--allow-source says which stored source may run, so it goes with --from-source")
    return Supply(tuple(module or ()), from_source, allow_source)


def _carry_on(
    text: str, supply: Supply, url: str | None, json: bool, *, only_failed: bool, limit: int | None = None
) -> None:
    from flowbook.cli import output
    from flowbook.cli.exits import exit_of_status

    home = connection(url).home

    async def body(app: App) -> tuple[RunRow, RunView]:
        from flowbook.cli.code import provide
        from flowbook.cli.progress import follow

        row = await find(app, text)
        if not row.status.over or row.status.value == "failed":
            await provide(app, row, supply, home)
        await (app.retry(row.id, recursion_limit=limit) if only_failed else app.resume(row.id))
        return row, await follow(app, row, quiet=json)

    before, view = with_app(url, body)
    if json:
        from flowbook.observe.records import view_record

        output.as_json(view_record(view))
    else:
        from flowbook.show.text import run_plain, run_table

        if before.status.over and before.status.value != "failed":
            output.hint(f"the run is {before.status}: there is nothing to carry on")
        output.tell(run_table(view), run_plain(view))
    raise typer.Exit(exit_of_status(view.status))
