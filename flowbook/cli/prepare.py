"""Commands that prepare: ``plan``, ``prove``, ``promote``, ``export``.

Owns: their arguments, and finding the flow that was typed. Refuses: working anything out, which is the app's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowbook.cli.change import pairs
from flowbook.cli.options import AllowSourceOption, JsonOption, ModuleOption, UrlOption
from flowbook.cli.session import connection, find, with_app
from flowbook.errors import UsageError

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.graph.flow import Graph
    from flowbook.observe.planned import Plan
    from flowbook.observe.proofs import Proof
    from flowbook.ports import KeptProof

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
    app.command(
        epilog='Example:  flowbook prove flows.py:research query="jupyter"\n\n'
        "Its steps really run, twice at least: give it an input that may be used up."
    )(prove)
    app.command(epilog='Example:  flowbook promote flows.py:research --cron "0 6 * * *" query=jupyter')(promote)
    app.command(epilog="Example:  flowbook export research research.py")(export)


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


def prove(
    flow: FlowArgument,
    input: InputArgument = None,
    signal: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=JSON]", help="Send it this signal before; may be repeated.", show_default=False),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A step or state key that may differ; may be repeated.", show_default=False),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="For all of it.")] = 300.0,
    kills: Annotated[int, typer.Option(min=1, help="Processes that are killed at most.")] = 25,
    module: ModuleOption = None,
    allow_source: AllowSourceOption = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Prove that a flow survives: build it from its stored source in clean processes, and kill those with SIGKILL at
    every step boundary. Exits with 1 if it does not hold.
    """
    from flowbook.cli import output
    from flowbook.cli.exits import Exit

    values, home = pairs(input or ()), connection(url).home
    letters = dict(_signal(text) for text in signal or ())

    async def body(app: App) -> Proof:
        graph = await flow_of(app, flow, module or [], home, allow_source=allow_source)
        return await app.prove(
            graph, values, signals=letters, ignore=tuple(ignore or ()), timeout=timeout, kills=kills,
            progress=None if json else output.hint,
        )  # fmt: skip

    proof = with_app(url, body)
    if json:
        from flowbook.observe.proofs import proof_record

        output.as_json(proof_record(proof))
    else:
        from flowbook.show.proved import proof_plain, proof_table

        output.tell(proof_table(proof), proof_plain(proof))
    raise typer.Exit(Exit.OK if proof.passed else Exit.RUN)


def promote(
    flow: FlowArgument,
    input: InputArgument = None,
    unproven: Annotated[
        bool, typer.Option("--unproven", help="Promote it although no proof of it has passed.")
    ] = False,
    cron: Annotated[
        str | None,
        typer.Option(metavar="CRON", help="Have workers start it then, at this version.", show_default=False),
    ] = None,
    tz: Annotated[str, typer.Option(help="Time zone of --cron.")] = "UTC",
    module: ModuleOption = None,
    allow_source: AllowSourceOption = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Pin this version of a flow: it is what is started by the flow's name from now on. With --cron the workers start
    it at those times, with the input that is given here.
    """
    from getpass import getuser

    from flowbook.cli import output

    home, given = connection(url).home, pairs(input or ())
    if given and cron is None:
        raise UsageError("an input is what --cron starts the flow with; without it nothing is started")
    schedule: dict[str, Any] = {} if cron is None else {"cron": cron, "tz": tz, "input": given}

    async def body(app: App) -> KeptProof:
        graph = await flow_of(app, flow, module or [], home, allow_source=allow_source)
        return await app.promote(graph, unproven=unproven, by=getuser(), **schedule)

    kept = with_app(url, body)
    if json:
        output.as_json({
            "flow": kept.flow, "fingerprint": kept.fingerprint, "proven": kept.passed, "promoted_by": kept.promoted_by,
            "promoted_at": None if kept.promoted_at is None else kept.promoted_at.isoformat(),
        })  # fmt: skip
        return
    proven = f"proven at {kept.at:%Y-%m-%d %H:%M} UTC" if kept.passed else "not proven"
    then = f"; the workers start it at {cron} ({tz})" if cron else ""
    output.say(f"{kept.flow} is pinned to {kept.fingerprint[:8]} ({proven}){then}")


def _signal(text: str) -> tuple[str, Any]:
    from flowbook.cli.change import from_json

    name, sign, payload = text.partition("=")
    return name, from_json(payload) if sign else {}


def export(
    flow: FlowArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The module to be written, e.g. research.py.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    module: ModuleOption = None,
    allow_source: AllowSourceOption = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Write a flow as a plain module that declares the very same version, so that its runs go on with it."""
    from flowbook.cli import output

    home = connection(url).home

    async def body(app: App) -> str:
        from flowbook.exporting import export as write

        graph = await flow_of(app, flow, module or [], home, allow_source=allow_source)
        write(graph, file, force=force)
        return graph.fingerprint

    fingerprint = with_app(url, body)
    if json:
        output.as_json({"file": str(file), "fingerprint": fingerprint})
    else:
        output.say(f"{file} declares the same version ({fingerprint[:8]})")


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
