"""Commands of a fleet: ``worker``, ``start``, ``flows``.

Owns: their arguments, the signals that end a worker, and what is said about it. Refuses: what a worker does
(`flowbook/working.py`) and schedules (`schedules.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowbook.cli.change import pairs
from flowbook.cli.options import JsonOption, ModuleOption, UrlOption
from flowbook.cli.session import connection, with_app
from flowbook.errors import UsageError

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.observe.views import RunView
    from flowbook.ports import Definition, RunRow

QUICK = 0.3
"""Seconds that bodies get to end by themselves when a worker is told to end; then they are stopped."""


def add_to(app: typer.Typer) -> None:
    """Make these commands of ``app``."""
    app.command(
        epilog="Example:  flowbook worker --module my.flows --queues default,gpu --concurrency 8\n\n"
        "Start as many as you like, on as many machines. SIGTERM and Ctrl-C end one in order: it claims nothing more, "
        "and what it carried goes to the others at once."
    )(worker)
    app.command(
        epilog="Example:  flowbook start research query=\"'what changed'\" --key daily-2026-11-21 --wait\n\n"
        "Example:  flowbook start shop flag=blue -m my.flows"
    )(start)
    app.command(epilog="Example:  flowbook flows --module my.flows")(flows)


def worker(
    module: ModuleOption = None,
    queues: Annotated[str, typer.Option(metavar="A,B", help="Queues to take runs from.")] = "default",
    concurrency: Annotated[int, typer.Option(min=1, max=10_000, help="Runs carried at once.")] = 16,
    from_source: Annotated[
        bool,
        typer.Option(
            "--from-source/--no-from-source",
            help="Also carry flows that no module declares, from the source stored with them, if your key signed it.",
        ),
    ] = True,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Carry whatever is due, until it is told to end: flows, notebooks and schedules."""
    import asyncio
    import logging
    import os
    import sys

    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("flowbook").setLevel(logging.INFO)
    wanted = names(queues)
    asyncio.run(_worker(tuple(module or ()), wanted, concurrency, from_source, url, json))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of steps that were given up would be waited for: a thread cannot be stopped, and its run is elsewhere.
    os._exit(0)


async def _worker(
    modules: tuple[str, ...], queues: tuple[str, ...], concurrency: int, learn: bool, url: str | None, json: bool
) -> None:
    import asyncio
    import contextlib
    import os
    import signal

    from flowbook.cli import output
    from flowbook.cli.code import discovered

    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):  # a second one ends it at once
            loop.remove_signal_handler(number)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    found = [graph for name in modules for graph in discovered(name)]
    async with connection(url) as app:
        app.grace = QUICK
        for graph in found:
            await app.register(graph)
        known = sorted({graph.name for graph in found})
        about = {
            "worker": str(app.store.worker_id), "pid": os.getpid(), "queues": list(queues), "concurrency": concurrency,
            "flows": known, "from_source": learn,
        }  # fmt: skip
        work = asyncio.create_task(app.work(queues, concurrency=concurrency, learn=learn))
        names = ", ".join(known) or "none of its own"
        output.hint(f"worker {about['worker']} takes {', '.join(queues)}, {concurrency} at once; flows: {names}")
        waiting = asyncio.create_task(told.wait())
        await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not told.is_set():
            work.result()  # raises what ended it
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        output.hint("told to end: nothing more is claimed, and what it carried is handed over")
    if json:
        output.as_json(about)


def start(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="A flow that is stored, or declared in --module.")],
    input: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE ...]", help="Its input; a VALUE is JSON where it can be, else text."),
    ] = None,
    module: ModuleOption = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: a second start under it is the first run.", show_default=False)
    ] = None,
    queue: Annotated[str | None, typer.Option(help="Queue, for workers of it.", show_default=False)] = None,
    priority: Annotated[int, typer.Option(help="Higher goes first.")] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end, and exit as `resume` does.")] = False,
    here: Annotated[bool, typer.Option("--here", help="Carry it in this process, to its end.")] = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Start a run of a flow by its name, for the workers to carry."""
    from flowbook.cli import output

    given = pairs(input or ())
    if here and queue is not None:
        raise UsageError("--queue leaves the run to the workers of that queue, and --here carries it in this process")

    async def body(app: App) -> tuple[RunRow, str | None, RunView | None]:
        from flowbook.cli.code import discovered
        from flowbook.cli.progress import follow
        from flowbook.naming import start_named

        found = [graph for name in module or () for graph in discovered(name)]
        for graph in found:
            await app.register(graph)
        options: dict[str, Any] = {"key": key, "queue": queue, "priority": priority, "carry": here}
        declared = next((graph for graph in found if graph.name == flow), None)
        if declared is not None:  # who names a module means it, whatever version is pinned
            run = await app.start(declared, given, **options)
        else:
            run = await start_named(app, flow, given, **options)
        row = await app.store.run(run.id)
        needs = await unserved(app, row)
        if needs and not here:
            output.hint(needs)
        view = await follow(app, row, quiet=json) if wait or here else None
        return row, needs, view

    row, needs, view = with_app(url, body)
    if view is None:
        if json:
            from flowbook.observe.records import run_record

            output.as_json({**run_record(row), "needs": needs})
        else:
            output.say(str(row.id))
        return
    from flowbook.cli.exits import exit_of_status

    if json:
        from flowbook.observe.records import view_record

        output.as_json(view_record(view))
    else:
        from flowbook.show.text import run_plain, run_table

        output.tell(run_table(view), run_plain(view))
    raise typer.Exit(exit_of_status(view.status))


async def unserved(app: App, row: RunRow) -> str | None:
    """What a run waits for, if no live worker carries its code: a worker that builds flows from source may come."""
    if row.status.over or row.worker_id is not None or row.fingerprint in await app.store.served():
        return None
    return (
        f"no worker has the code of flow {row.flow!r} (version {row.version}) yet; one that was started with "
        f"`flowbook worker --queues {row.queue}` builds it if it is portable, one with `--module` may bring it"
    )


def flows(module: ModuleOption = None, url: UrlOption = None, json: JsonOption = False) -> None:
    """List the flows that are stored in the database or declared in --module."""
    from flowbook.cli import output

    async def body(app: App) -> list[dict[str, Any]]:
        from flowbook.cli.code import discovered

        stored = {d.flow: d for d in await app.store.fleet.flows(app.options.namespace)}
        served = await app.store.served()
        found = [_record(d, d.fingerprint in served, None) for d in stored.values()]
        for name in module or ():
            for graph in discovered(name):
                known = await app.store.definition(app.options.namespace, graph.name, graph.fingerprint)
                found = [f for f in found if f["fingerprint"] != graph.fingerprint]
                found.append(_of_module(graph, known, graph.fingerprint in served, name))
        return sorted(found, key=lambda f: (f["flow"], f["version"] or 0))

    found = with_app(url, body)
    if json:
        output.as_json(found)
        return
    from flowbook.show.text import table_of

    heads = ("flow", "version", "code", "source", "worker", "module", "about")
    rows = [
        (f["flow"], str(f["version"] or "new"), f["fingerprint"][:8], "portable" if f["portable"] else "code only",
         "yes" if f["served"] else "no", f["module"] or "", f["doc"])
        for f in found
    ]  # fmt: skip
    output.tell(*table_of(heads, rows, "no flows: run a flow once, or name a module with --module"))


def _record(definition: Definition, served: bool, module: str | None) -> dict[str, Any]:
    from flowbook.graph.portable import obstacles

    return {
        "flow": definition.flow, "version": definition.version, "fingerprint": definition.fingerprint,
        "portable": bool(definition.signature) and not obstacles(definition), "served": served, "module": module,
        "doc": str(definition.spec.get("doc", "")).partition("\n")[0],
    }  # fmt: skip


def _of_module(graph: Any, known: Definition | None, served: bool, module: str) -> dict[str, Any]:
    if known is not None:
        return _record(known, served, module)
    doc = str(graph.doc or "").partition("\n")[0]
    return {
        "flow": graph.name, "version": None, "fingerprint": graph.fingerprint, "portable": False, "served": served,
        "module": module, "doc": doc,
    }  # fmt: skip


def names(text: str) -> tuple[str, ...]:
    """``a,b`` as names. Raises `UsageError`."""
    found: Sequence[str] = [name.strip() for name in text.split(",")]
    if not all(found):
        raise UsageError(f"{text!r} is not a list of queues: write them with commas between, `default,gpu`")
    return tuple(dict.fromkeys(found))
