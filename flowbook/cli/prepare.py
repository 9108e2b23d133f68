"""Commands that prepare: ``plan``.

Owns: their arguments, and finding the flow that was typed. Refuses: working anything out, which is the app's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowbook.cli.change import pairs
from flowbook.cli.options import AllowSourceOption, JsonOption, ModuleOption, UrlOption
from flowbook.cli.session import connection, find, with_app
from flowbook.errors import UsageError

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.graph.flow import Graph
    from flowbook.observe.planned import Plan

FlowArgument = Annotated[
    str,
    typer.Argument(
        metavar="[MODULE:]FLOW",
        help="A flow: of a module or file (`my.flows:research`, `flows.py:research`), else as it was stored last.",
    ),
]
InputArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE ...]", help="Its input; a VALUE is JSON where it can be, else text."),
]


def add_to(app: typer.Typer) -> None:
    """Make these commands of ``app``."""
    app.command(epilog='Example:  flowbook plan flows.py:research query="jupyter"')(plan)


def plan(
    flow: FlowArgument,
    input: InputArgument = None,
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="Compare with this run, not with the last one of that input.")
    ] = None,
    module: ModuleOption = None,
    allow_source: AllowSourceOption = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """What a run would do: which results of the last run it would reuse, and why the rest is made again.

    Nothing is executed. Times and costs are medians over the last finished runs.
    """
    from flowbook.cli import output

    values, home = pairs(input or ()), connection(url).home

    async def body(app: App) -> Plan:
        graph = await flow_of(app, flow, module or [], home, allow_source=allow_source)
        other = None if against is None else (await find(app, against)).id
        return await app.plan(graph, values or None, against=other)

    found = with_app(url, body)
    if json:
        from flowbook.observe.records import plan_record

        output.as_json(plan_record(found))
        return
    from flowbook.show.planned import plan_plain, plan_table

    output.tell(plan_table(found), plan_plain(found))


async def flow_of(app: App, text: str, modules: list[str], home: Path, *, allow_source: bool) -> Graph:
    """The flow that was typed: of a module, or rebuilt from the source that was stored last.

    Raises `UsageError` for a module without it, `CodeMissing`, `NotPortable`, `SignatureRefused`.
    """
    from flowbook.cli.code import graphs_of, load_module

    place, _, name = text.rpartition(":")
    places = [place, *modules] if place else modules
    for one in places:
        found = {g.name: g for g in graphs_of(load_module(one))}
        if name in found:
            return found[name]
        if one == places[-1]:
            have = f"it has {', '.join(sorted(found))}" if found else "it declares no flow at its top level"
            raise UsageError(f"{one} has no flow {name!r}: {have}")
    from flowbook.graph.rebuild import rebuild
    from flowbook.graph.sign import load_key

    stored = await app.store.definitions(app.options.namespace, name)
    if not stored:
        raise UsageError(
            f"no flow {name!r} is stored in this database: say where it is declared, as in my.flows:{name}"
        )
    return rebuild(stored[0], key=load_key(home), allow_unsigned=allow_source)
