"""Commands that travel: ``fork``, ``diff``.

Owns: their arguments. Refuses: what a fork keeps, and carrying it, which are the app's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from flowbook.cli.change import pairs, supplied
from flowbook.cli.options import (
    AllowSourceOption,
    FromSourceOption,
    JsonOption,
    ModuleOption,
    RunArgument,
    UrlOption,
)
from flowbook.cli.session import connection, find, with_app

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.observe.diffs import Diff
    from flowbook.observe.views import RunView


def add_to(app: typer.Typer) -> None:
    """Make these commands of ``app``."""
    app.command(epilog='Example:  flowbook fork 3f2a9c01 --at judge#1 docs=\'["a", "b"]\' --from-source')(fork)
    app.command(epilog="Example:  flowbook diff 3f2a9c01 last")(diff)


def fork(
    run: RunArgument,
    at: Annotated[str, typer.Option("--at", metavar="PATH", help="The step that it begins with, e.g. judge#1.")],
    edits: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE ...]", help="Keys of the state; a VALUE is JSON where it can be, else text."
        ),
    ] = None,
    only: Annotated[
        bool, typer.Option("--pending", help="Only make it: a worker, or `resume`, carries it on.")
    ] = False,
    module: ModuleOption = None,
    from_source: FromSourceOption = False,
    allow_source: AllowSourceOption = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Begin another run at one of a run's steps, with an edited state, and carry it on in this process.

    Results that do not depend on that step are kept, also of branches that finished later.
    """
    from flowbook.cli import output
    from flowbook.cli.exits import exit_of_status

    supply, values, home = supplied(module, from_source, allow_source), pairs(edits or ()), connection(url).home

    async def body(app: App) -> tuple[RunView, list[UUID]]:
        from flowbook.cli.code import provide
        from flowbook.cli.progress import follow

        row = await find(app, run)
        if supply.modules or supply.from_source:
            await provide(app, row, supply, home)
        made = await app.fork(row.id, at=at, edits=values, carry=not only)
        view = await app.view(made.id) if only else await follow(app, await app.store.run(made.id), quiet=json)
        return view, list(await made.lineage())

    view, line = with_app(url, body)
    if json:
        from flowbook.observe.records import view_record

        output.as_json({**view_record(view), "lineage": [str(one) for one in line]})
    else:
        from flowbook.show.text import run_plain, run_table

        output.tell(run_table(view), run_plain(view))
    if not only:
        raise typer.Exit(exit_of_status(view.status))


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A run, as in `show`.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The run that is compared with it.")],
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Compare two runs: where they part, which steps differ, and the state at the end, key by key.

    What the steps were given, and the state, need the flow's code: the stored source, if your key has signed it.
    """
    from flowbook.cli import output

    async def body(app: App) -> Diff:
        one, other = await find(app, a), await find(app, b)
        return await (await app.run(one.id)).diff(await app.run(other.id))

    found = with_app(url, body)
    if json:
        from flowbook.observe.records import diff_record

        output.as_json(diff_record(found))
        return
    from flowbook.show.diff import diff_plain, diff_table

    output.tell(diff_table(found), diff_plain(found))
