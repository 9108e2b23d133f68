"""``flowbook schedule``: runs that workers start by themselves.

Owns: the arguments of these commands and what they print. Refuses: what a schedule means (`flowbook/scheduling.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowbook.cli.options import JsonOption, ModuleOption, UrlOption
from flowbook.cli.session import with_app
from flowbook.errors import UsageError

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.plan.schedules import Fire, Schedule

app = typer.Typer(
    name="schedule",
    help="Have runs started at their times, by the workers.",
    epilog='Example:  flowbook schedule add research --cron "0 6 * * *" --tz Europe/Berlin',
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")]


@app.command(
    epilog='Example:  flowbook schedule add research --cron "0 6 * * *" --tz Europe/Berlin '
    '-p date "{{ fire_time | date }}" --on-missed latest\n\n'
    'Example:  flowbook schedule add in.ipynb "out/{{ fire_time | date }}.ipynb" --name daily --cron "0 6 * * *"\n\n'
    "Example:  flowbook schedule add report --name once --at 2026-12-24T18:00 --tz Europe/Berlin"
)
def add(
    target: Annotated[
        str,
        typer.Argument(metavar="FLOW", help="A flow that is stored, or declared in --module; or a notebook, in.ipynb."),
    ],
    executed: Annotated[
        str | None,
        typer.Argument(metavar="[OUTPUT]", help="Of a notebook: where it goes when it was run; may be a template."),
    ] = None,
    cron: Annotated[
        str | None, typer.Option(help="Five fields, or six with seconds in front; @daily and the like.")
    ] = None,
    every: Annotated[str | None, typer.Option(help="Instead: 30s, 10m, 1h30m, 1d.", show_default=False)] = None,
    at: Annotated[str | None, typer.Option(help="Instead: one moment, 2026-12-24T18:00.", show_default=False)] = None,
    tz: Annotated[str, typer.Option("--tz", help="Time zone, as the tz database names it.")] = "UTC",
    name: Annotated[str | None, typer.Option(help="Default: as the flow.", show_default=False)] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--parameter",
            metavar="NAME VALUE",
            help="Its input, JSON where it can be, else text; texts may be templates: {{ fire_time | date }}.",
            show_default=False,
        ),
    ] = None,
    on_missed: Annotated[str, typer.Option(help="Moments at which no worker was there: skip, latest, all.")] = "skip",
    window: Annotated[str, typer.Option(help="How late a missed moment may be and still be run.")] = "7d",
    overlap: Annotated[
        str, typer.Option(help="Where the run before is not over: allow, skip, cancel-running, queue.")
    ] = "allow",
    queue: Annotated[str, typer.Option(help="Queue of its runs.")] = "default",
    priority: Annotated[int, typer.Option(help="Of its runs; higher goes first.")] = 0,
    pin: Annotated[bool, typer.Option("--pin", help="Stay with this version, whatever is declared later.")] = False,
    module: ModuleOption = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Make a schedule, or change the one of that name."""
    input = _parameters(parameter or ())
    moment = None if at is None else _moment(at, "--at")
    options: dict[str, Any] = {"on_missed": on_missed, "overlap": overlap}  # what is wrong is said by the verb

    async def body(app: App) -> tuple[Schedule, list[datetime]]:
        from flowbook.cli.code import discovered

        for one in module or ():
            for graph in discovered(one):
                await app.register(graph)
        flow: Any = target
        given = input
        if target.endswith(".ipynb"):
            from flowbook.notebooks.documents import prepare
            from flowbook.notebooks.scheduled import scheduled

            prepared = prepare(target, cwd=Path.cwd())
            flow, given = prepared.flow, scheduled(prepared, input, executed)
        elif executed is not None:
            raise UsageError(
                f"{executed!r}: only a notebook has an output; its parameters are typed with -p NAME VALUE"
            )
        made = await app.schedule(
            flow, cron, every=every, at=moment, tz=tz, name=name, input=given, window=window, queue=queue,
            priority=priority, pin=pin, **options,
        )  # fmt: skip
        return made, await app.schedules().next(made.name, 3)

    made, comes = with_app(url, body)
    if json:
        _as_json({**_record(made), "next": [at.isoformat() for at in comes]})
    else:
        from flowbook.cli import output

        output.say(f"schedule {made.name}: {', '.join(_moment_text(at) for at in comes) or 'nothing to come'}, ...")


@app.command("list", epilog="Example:  flowbook schedule list --json | jq -r '.[].name'")
def list_(url: UrlOption = None, json: JsonOption = False) -> None:
    """List schedules, with their next moment."""

    async def body(app: App) -> Sequence[Schedule]:
        return await app.schedules()

    found = with_app(url, body)
    if json:
        _as_json([_record(s) for s in found])
        return
    from flowbook.cli import output
    from flowbook.show.schedules import schedules_rows
    from flowbook.show.text import table_of

    output.tell(*table_of(*schedules_rows(found), "no schedules"))


@app.command(epilog="Example:  flowbook schedule pause research")
def pause(name: NameArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Let a schedule rest; what would have fired meanwhile is not missed."""
    _changed(url, json, "is paused", lambda app: app.schedules().pause(name))


@app.command(epilog="Example:  flowbook schedule resume research")
def resume(name: NameArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Go on with the next moment from now."""
    _changed(url, json, "goes on", lambda app: app.schedules().resume(name))


@app.command(epilog="Example:  flowbook schedule remove research")
def remove(name: NameArgument, url: UrlOption = None, json: JsonOption = False) -> None:
    """Forget a schedule and its history; its runs stay."""
    _changed(url, json, "is removed", lambda app: app.schedules().remove(name))


@app.command(epilog="Example:  flowbook schedule next research -n 10")
def next(
    name: NameArgument,
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=1000, help="How many.")] = 5,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Print the moments that come, in the schedule's time zone."""

    async def body(app: App) -> list[datetime]:
        return await app.schedules().next(name, number)

    comes = with_app(url, body)
    if json:
        _as_json([at.isoformat() for at in comes])
        return
    from flowbook.cli import output

    for at in comes:
        output.say(_moment_text(at))


@app.command(epilog="Example:  flowbook schedule history research --limit 10")
def history(
    name: NameArgument,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """What became of a schedule's moments, newest first."""
    _fires(url, json, "nothing has fired yet", lambda app: app.schedules().history(name, limit))


@app.command(epilog="Example:  flowbook schedule backfill research --since 2026-11-01 --until 2026-11-07T23:59")
def backfill(
    name: NameArgument,
    since: Annotated[str, typer.Option(help="The first moment, 2026-11-01 or 2026-11-01T06:00; in its time zone.")],
    until: Annotated[str, typer.Option(help="The last one, included.")],
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Run a schedule's moments of some time, those left out that have fired."""
    begin, end = _moment(since, "--since"), _moment(until, "--until")
    _fires(url, json, "nothing to run there", lambda app: app.schedules().backfill(name, begin, end))


def _changed(url: str | None, json: bool, words: str, change: Callable[[App], Awaitable[Schedule]]) -> None:
    from flowbook.cli import output

    async def body(app: App) -> Schedule:
        return await change(app)

    found = with_app(url, body)
    if json:
        _as_json(_record(found))
    else:
        output.say(f"schedule {found.name} {words}")


def _fires(url: str | None, json: bool, empty: str, ask: Callable[[App], Awaitable[Sequence[Fire]]]) -> None:
    from flowbook.cli import output

    async def body(app: App) -> Sequence[Fire]:
        return await ask(app)

    found = with_app(url, body)
    if json:
        from flowbook.observe.records import fire_record

        _as_json([fire_record(f) for f in found])
        return
    from flowbook.show.schedules import fires_rows
    from flowbook.show.text import table_of

    output.tell(*table_of(*fires_rows(found), empty))


def _as_json(thing: Any) -> None:
    from flowbook.cli import output

    output.as_json(thing)


def _record(schedule: Schedule) -> dict[str, Any]:
    from flowbook.observe.records import schedule_record

    return schedule_record(schedule)


def _moment_text(at: datetime) -> str:
    return f"{at:%a %Y-%m-%d %H:%M:%S} {at.tzname()}"


def _moment(text: str, option: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is no time: write 2026-11-21, or 2026-11-21T06:00") from None


def paired(words: Sequence[str]) -> list[str]:
    """The words of ``schedule add`` with papermill's ``-p NAME VALUE`` as ``-p NAME=VALUE``, which typer can take."""
    if list(words[:2]) != ["schedule", "add"]:
        return list(words)
    found, left = [], list(words)
    while left:
        word = left.pop(0)
        found.append(word)
        if word in ("-p", "--parameter") and left:
            name = left.pop(0)
            found.append(f"{name}={left.pop(0)}" if "=" not in name and left else name)
    return found


def _parameters(words: Sequence[str]) -> dict[str, Any]:
    import json

    found: dict[str, Any] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign or not name:
            raise UsageError(f"-p {word!r}: a parameter has a name and a value, -p NAME VALUE or -p NAME=VALUE")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found
