"""Commands that look: ``runs``, ``show``, ``journal``.

Owns: their arguments. Refuses: changing anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flowbook.cli.options import JsonOption, RunArgument, UrlOption
from flowbook.cli.session import find, with_app

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.observe.views import RunView
    from flowbook.plan.journal import Entry
    from flowbook.plan.outputs import Output
    from flowbook.ports import RunRow


def add_to(app: typer.Typer) -> None:
    """Make these commands of ``app``."""
    app.command(epilog="Example:  flowbook runs --status failed --flow quickstart --limit 5")(runs)
    app.command(
        epilog="Example:  flowbook show last --outputs\n\nExample:  flowbook show 3f2a9c01 --exit-status && deploy"
    )(show)
    app.command(epilog="Example:  flowbook journal last --json | jq '.[] | select(.kind == \"finished\") | .path'")(
        journal
    )


def runs(
    status: Annotated[
        str | None,
        typer.Option(
            help="Only these: pending, running, waiting, completed, failed, cancelled; several with commas.",
            show_default=False,
        ),
    ] = None,
    flow: Annotated[str | None, typer.Option(help="Only runs of this flow.", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs made since then: 24h, 7d, 2026-11-21.", show_default=False)
    ] = None,
    match: Annotated[
        str | None, typer.Option(help="Only with this text in flow, key, error, place or id.", show_default=False)
    ] = None,
    sort: Annotated[
        str, typer.Option(help="created_at, started_at, ended_at, duration, flow or status; with - the largest first.")
    ] = "-created_at",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    from flowbook.cli import output

    async def body(app: App) -> Sequence[RunRow]:
        found = app.runs(flow=flow, limit=limit).sort(sort)
        found = found.status(*filter(None, status.split(","))) if status else found
        found = found.since(since) if since else found
        return await (found.matching(match) if match else found)

    rows = with_app(url, body)
    if json:
        from flowbook.observe.records import run_record

        output.as_json([run_record(r) for r in rows])
        return
    from flowbook.show.text import runs_plain, runs_table

    output.tell(runs_table(rows), runs_plain(rows))


def show(
    run: RunArgument,
    exit_status: Annotated[
        bool, typer.Option("--exit-status", help="Exit with 1 if the run failed or was cancelled.")
    ] = False,
    outputs: Annotated[
        bool, typer.Option("--outputs", help="Also what its steps printed, logged and displayed.")
    ] = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Show a run: its steps, attempts, times and error."""
    from flowbook.cli import output
    from flowbook.cli.exits import exit_of_status

    async def body(app: App) -> tuple[RunView, list[str], Sequence[Output]]:
        row = await find(app, run)
        line = [str(row.id)]
        if row.forked_from is not None:
            from flowbook.travel import lineage

            line += [str(one) for one in await lineage(app, row.forked_from)]
        return await app.view(row.id), line, await app.outputs(row.id) if outputs else ()

    view, line, said = with_app(url, body)
    if json:
        from flowbook.observe.records import output_record, view_record

        more = {"outputs": [output_record(o) for o in said]} if outputs else {}
        output.as_json({**view_record(view), "lineage": line, **more})
    else:
        from flowbook.show.text import run_plain, run_table

        output.tell(run_table(view), run_plain(view))
        if len(line) > 1:
            output.say(f"lineage: {' <- '.join(line)}")
        if outputs:
            from flowbook.show.outputs import outputs_plain, outputs_table

            output.tell(outputs_table(said), outputs_plain(said))
    if exit_status:
        raise typer.Exit(exit_of_status(view.status))


def journal(run: RunArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Print a run's journal: every fact about it, in the order in which it became durable."""
    from flowbook.cli import output

    async def body(app: App) -> Sequence[Entry]:
        return await app.store.history((await find(app, run)).id)

    entries = with_app(url, body)
    if json:
        from flowbook.observe.records import entry_record

        output.as_json([entry_record(e) for e in entries])
        return
    from flowbook.show.journal import journal_plain, journal_table

    output.tell(journal_table(entries), journal_plain(entries))
