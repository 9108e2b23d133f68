"""Commands for whoever looks after a fleet: ``dead``, ``queues``.

Owns: their arguments and what they print. Refuses: retrying and counting (`flowbook/batches.py`, the store).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flowbook.cli.options import JsonOption, UrlOption
from flowbook.cli.session import with_app
from flowbook.errors import UsageError

if TYPE_CHECKING:
    from flowbook.app import App
    from flowbook.batches import DeadLetters, Retried
    from flowbook.rows import Queue


def add_to(app: typer.Typer) -> None:
    """Make these commands of ``app``."""
    app.command(
        epilog="Example:  flowbook dead --since 24h\n\nExample:  flowbook dead --flow shop --match Timeout --retry"
    )(dead)
    app.command(epilog="Example:  flowbook queues\n\nExample:  flowbook queues gpu --limit 4")(queues)


def dead(
    flow: Annotated[str | None, typer.Option(help="Only runs of this flow.", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs made since then: 24h, 7d, 2026-11-21.", show_default=False)
    ] = None,
    match: Annotated[
        str | None, typer.Option(help="Only with this text in error, place, key or id.", show_default=False)
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Retry all of them, for the workers to carry.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Look at so many, the newest.")] = 1000,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """List failed runs by what failed them, and retry them together."""
    from flowbook.cli import output

    async def body(app: App) -> tuple[list[DeadLetters], Retried | None]:
        found = await app.dead(flow=flow, since=since, match=match, limit=limit)
        if not retry or not found:
            return found, None
        return found, await app.retry_all(flow=flow, since=since, match=match, limit=limit)

    found, done = with_app(url, body)
    if json:
        refused = {} if done is None else {str(run): why for run, why in done.refused.items()}
        letters = [
            {
                "flow": one.flow, "at": one.at, "error": one.error, "count": len(one.runs),
                "oldest": one.oldest.isoformat(), "newest": one.newest.isoformat(), "runs": [str(r) for r in one.runs],
            }
            for one in found
        ]  # fmt: skip
        output.as_json({"letters": letters, "retried": len(done.retried) if done else 0, "refused": refused})
        return
    from flowbook.show.text import table_of

    rows = [(str(len(one.runs)), one.flow, one.at, one.error, f"{one.newest:%Y-%m-%d %H:%M}") for one in found]
    output.tell(*table_of(("runs", "flow", "at", "error", "newest"), rows, "no failed runs"))
    if done is not None:
        output.say(f"{len(done.retried)} of {len(done.retried) + len(done.refused)} are retried")
        for run, why in list(done.refused.items())[:10]:
            output.hint(f"{run}: {why}")


def queues(
    queue: Annotated[str | None, typer.Argument(metavar="[QUEUE]", help="The one that gets a limit.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="How many of its runs workers carry at once, all together.")
    ] = None,
    no_limit: Annotated[bool, typer.Option("--no-limit", help="As many as they like.")] = False,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """List queues: what waits, what runs, their limits; and limit one."""
    from flowbook.cli import output

    changes = limit is not None or no_limit
    if changes is not (queue is not None) or (limit is not None and no_limit):
        raise UsageError("to limit a queue, name it: flowbook queues gpu --limit 4, or --no-limit")

    async def body(app: App) -> Sequence[Queue]:
        if queue is not None:
            await app.store.fleet.limit(app.options.namespace, queue, limit)
        return await app.store.fleet.queues(app.options.namespace)

    found = with_app(url, body)
    if json:
        output.as_json([
            {"queue": q.name, "waiting": q.waiting, "running": q.running, "limit": q.limit,
             "oldest": q.oldest.isoformat() if q.oldest else None}
            for q in found
        ])  # fmt: skip
        return
    from flowbook.show.text import table_of

    rows = [
        (q.name, str(q.waiting), str(q.running), "" if q.limit is None else str(q.limit),
         f"{q.oldest:%Y-%m-%d %H:%M:%S}" if q.oldest else "")
        for q in found
    ]  # fmt: skip
    output.tell(*table_of(("queue", "waiting", "running", "limit", "waiting since"), rows, "nothing is going on"))
